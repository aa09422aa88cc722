"""A damaged file's rows once more, from the raw log; what is not there any more goes into the gap ledger."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from data import ledger, raw
from data.lake import Lake
from data.lake_reader import SET_ASIDE
from data.landing import Lander, Landing
from data.manifest import storage_errors
from data.schema import GAPS, QUARANTINE, RAW, TABLES, interval_ms
from data.table import Table
from data.verify import LOST, unfinished
from data.wal import Kind

_BEFORE = timedelta(minutes=10)  # whole segments, and our clock may have been slow
_AFTER = timedelta(minutes=10)  # the exchange may send so late


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What became of a damaged file.

    Parameters
    ----------
    aside : where it lies now.
    lost : rows that it held.
    recovered : rows that are in the lake again.
    gaps : new rows of the ledger, cause corrupt, for what is not.
    """

    path: str
    table: str
    aside: Path
    lost: int
    recovered: int
    gaps: int


def is_logged(lake: Lake, path: str) -> bool:
    """Whether the raw log still reaches back to before the first row of a file of the lake."""
    began = [entry.min_time for entry in lake.files() if entry.path == path and entry.table != RAW.name]
    return bool(began) and any(entry.min_time <= began[0] for entry in lake.files(RAW.name))


def rebuild(lake: Lake, path: str, now: datetime | None = None) -> Rebuilt:
    """Set a damaged file aside and store its rows again from the raw log, as far as that is retained and readable.

    Killed at any moment, ``verify`` names the path again until another run has finished.

    Parameters
    ----------
    path : of a file of the lake, relative to it, or of one whose rebuild was interrupted.
    now : for the ledger; None for the machine's clock.

    Raises
    ------
    LookupError
        When the lake has no such file.
    OSError
        When the disk is full or not writable. What was stored again by then stays; run it again.
    """
    entry = next((entry for entry in lake.files() if entry.path == path), None)
    if entry is None:
        lost = unfinished(lake).get(path)
    else:
        lost = lake.facts([entry.table]).filter(pl.col("path") == path)
    if lost is None:
        raise LookupError(f"{path}: the lake has no such file; give a path that `aster verify` names")
    note = _noted(lake, path, lost)
    table, rows = TABLES[lost["table"][0]], lost["rows"].sum()
    aside = lake.set_aside(path)
    origin = f"rebuild {path}"
    if table is not RAW:
        _restore(lake, table, lost, origin)
    recovered = sum(entry.rows for entry in lake.files(table.name) if entry.origin == origin)
    gaps = 0
    if recovered < rows:
        found = ledger.corrupt(lake, lost, datetime.now(UTC) if now is None else now)
        gaps = lake.append(GAPS.name, found, origin=origin).landed
    note.unlink()
    return Rebuilt(path=path, table=table.name, aside=aside, lost=rows, recovered=min(recovered, rows), gaps=gaps)


def _noted(lake: Lake, path: str, lost: pl.DataFrame) -> Path:
    """Write down what the file held, before it leaves the lake."""
    note = lake.root / SET_ASIDE / f"{path.replace('/', '_')}{LOST}"
    with storage_errors(lake.root):
        note.parent.mkdir(exist_ok=True)
        unnamed = note.with_suffix(".tmp")
        with unnamed.open("wb") as file:
            lost.write_ipc(file)
            file.flush()
            os.fsync(file.fileno())
        unnamed.replace(note)
    return note


def _restore(lake: Lake, table: Table, lost: pl.DataFrame, origin: str) -> None:
    """Store the rows of a file's date again."""
    came_after = max(map(_length, lost["interval"]))  # a bar is dated by its opening, and comes when it has closed
    for landing in _landings(lake, lost["first_time"].min(), lost["last_time"].max() + came_after):
        found = landing.quarantine if table is QUARANTINE else landing.tables.get(table.name)
        if found is not None:
            of_the_day = found.filter(pl.col(table.time).dt.date() == lost["dt"][0])
            lake.append(table.name, of_the_day, origin=origin)


def _length(interval: str | None) -> timedelta:
    """Of a bar; nothing for what is none."""
    if interval is None:
        return timedelta(0)
    if interval.endswith("M"):
        return timedelta(days=31) * int(interval[:-1])
    return timedelta(milliseconds=interval_ms(interval))


def _landings(lake: Lake, first: datetime, last: datetime) -> Iterator[Landing]:
    """What the raw log holds of the time from ``first`` to ``last``: what arrived meanwhile, every later answer.

    Segment by segment, as when they were sealed: the same records give the same rows.
    """
    start, end = first - _BEFORE, last + _AFTER
    landers: dict[str, Lander] = {}
    for rows in raw.read(lake, start=start, end=end, skip_damaged=True):
        parts = rows.sort("segment", "line").partition_by("segment", maintain_order=True)
        landers = {name: landers.get(name) or Lander(segment=name) for name in (part["segment"][0] for part in parts)}
        for lander, part in zip(landers.values(), parts, strict=True):
            lander.add(raw.as_records(part))
            yield lander.take()
    answers = Lander(segment="answers")
    for rows in raw.read(lake, start=end, kinds=[Kind.ANSWER], skip_damaged=True):
        answers.add(raw.as_records(rows))
        yield answers.take()
