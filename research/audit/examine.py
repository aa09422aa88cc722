"""``audit``: a file's code with and without the future, and what that proves.

Everything a file offers runs on bars, then on bars that end earlier, on bars that go on otherwise and on no more bars
than it says it needs. Nothing before the cut may change. What changes is a finding, with the first row and column in
which it shows and the line where it came in.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from research.audit.convention import LOOKBACK
from research.audit.market import audit_bars
from research.audit.offers import open_source
from research.audit.origin import Line
from research.audit.pointing import Pointer
from research.audit.runs import FAILS, Trial, label
from research.audit.subjects import Subject
from research.bars import Bars


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line by which the future, or more history than declared, comes in.

    Attributes
    ----------
    subject : function, strategy or notebook.
    columns : of it, in which it shows; the first is the one that ``sentence`` is about.
    row, time : the first that is wrong, of the audit's bars; its open time, UTC.
    sentence : what was seen there.
    line, text : where it came in: file, or notebook and cell, and line; what stands there.
    through : lines from there to the output.
    """

    subject: str
    columns: tuple[str, ...]
    row: int
    time: datetime
    sentence: str
    line: Line
    text: str
    through: tuple[Line, ...]

    def __str__(self) -> str:
        more = f" and {len(self.columns) - 1} more" if len(self.columns) > 1 else ""
        return (
            f"{self.columns[0]}{more}, row {self.row} ({self.time:%Y-%m-%d %H:%M} UTC) {self.sentence}; "
            f"{self.line.file}, line {self.line.line}: {self.text}"
        )


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was looked at, what was found and what could not be tried.

    Attributes
    ----------
    subjects : a row per subject: subject, outputs, runs, lookback_bars (None: not declared).
    """

    path: Path
    subjects: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def audit(path: Path, bars: Bars | None = None) -> list[Finding]:
    """Findings on a user's strategy, features, backtest or notebook; empty when it keeps to what it could know.

    Runs the file's code, many times. ``convention.WHAT_IS_AUDITED`` says what a file has to offer.

    Parameters
    ----------
    bars : to run it on; a made-up market of a day when not given.

    Raises
    ------
    ValueError
        When the file offers nothing to audit, or fails on whole bars.
    """
    return list(examine(path, bars).findings)


def examine(path: Path, bars: Bars | None = None) -> Audit:
    """``audit`` with what was looked at. What the code prints goes to standard error."""
    bars = audit_bars() if bars is None else bars
    findings, subjects, notes = [], [], []
    with contextlib.redirect_stdout(sys.stderr), np.errstate(all="ignore"), open_source(path) as source:
        for subject in source.subjects:
            pointer = Pointer(source, subject)
            try:
                trial = Trial(subject, bars)
            except IndexError as error:
                findings.append(_beyond_the_end(subject, bars, pointer, error))
                subjects.append({"subject": subject.name, "outputs": 0, "runs": 1, "lookback_bars": None})
                continue
            except FAILS as error:
                raise ValueError(_failed(subject, bars, pointer, error)) from error
            findings.extend(_findings(trial, pointer))
            subjects.append(
                {
                    "subject": subject.name,
                    "outputs": len(trial.whole.columns) + len(trial.whole.trades),
                    "runs": trial.n_runs,
                    "lookback_bars": subject.lookback_bars,
                }
            )
            notes.extend(trial.notes())
    if undeclared := [subject.name for subject in source.subjects if subject.lookback_bars is None]:
        notes.append(f"no {LOOKBACK}, so the short buffer was not tried: {', '.join(undeclared)}")
    return Audit(path=path, subjects=tuple(subjects), findings=tuple(findings), notes=tuple(notes))


def _findings(trial: Trial, pointer: Pointer) -> Iterator[Finding]:
    """Suspects with their lines; columns that one line spoils are one finding."""
    by_line: dict[Line, list] = {}
    for suspect in trial.suspects():
        path = pointer.path_of(suspect)
        by_line.setdefault(path[0], []).append((suspect.row, label(suspect.name), suspect.sentence, path))
    for suspect in trial.fill_suspects():
        path = pointer.path_of_fill(suspect, trial.bars)
        by_line.setdefault(path[0], []).append(
            (suspect.offence.row, label(suspect.name), suspect.offence.sentence, path)
        )
    for members in by_line.values():
        row, first, sentence, path = min(members, key=lambda member: member[0])
        columns = (first, *(name for _, name, _, _ in members if name != first))
        yield _finding(trial.subject, trial.bars, pointer, columns, row, sentence, path)


def _beyond_the_end(subject: Subject, bars: Bars, pointer: Pointer, error: IndexError) -> Finding:
    sentence = f"is beyond the end ({error}); compiled code would read what lies in memory there"
    path = [pointer.line_of_failure(error)]
    return _finding(subject, bars, pointer, (subject.name,), bars.frame.height - 1, sentence, path)


def _failed(subject: Subject, bars: Bars, pointer: Pointer, error: Exception) -> str:
    line = pointer.shown(pointer.line_of_failure(error))
    return (
        f"{line.file}, line {line.line}: {subject.name} fails on the audit's {bars.frame.height} bars of "
        f"{bars.interval}: {type(error).__name__}: {error}; make it run on any bars, or name bars of the lake with "
        "--symbol"
    )


def _finding(
    subject: Subject, bars: Bars, pointer: Pointer, columns: tuple[str, ...], row: int, sentence: str, path: list[Line]
) -> Finding:
    return Finding(
        subject=subject.name,
        columns=columns,
        row=row,
        time=bars.frame["open_time"][row],
        sentence=sentence,
        line=pointer.shown(path[0]),
        text=pointer.text(path[0]),
        through=tuple(map(pointer.shown, path)),
    )
