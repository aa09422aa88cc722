"""Segments of the raw log become rows of the lake: ``python -m data.sealer LOGS LAKE [--keep] [--follow]``.

A segment goes into the lake slice by slice, each in one transaction: rows, the gaps found in them, the records as they
came, and how far the segment is done. So sealing goes on where it was interrupted, and sealing twice adds nothing. A
segment goes when it is done; one that was cut is kept aside with ``.cut`` behind its name, and its cut is told in the
quarantine.
"""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from data import beginnings, instruments, ledger, raw, wal
from data.lake import Lake, Landed
from data.landing import Lander, Landing
from data.listening import Listening
from data.manifest import CorruptFile, SegmentDone
from data.schema import GAPS, INSTRUMENTS, QUARANTINE, RAW

SLICE_RECORDS = 200_000  # turned into rows at once: bounds the memory
_SLICE_BYTES = 64 << 20  # REST answers are large
_PART_RECORDS = 256  # after so many it is looked how large they are
_CUT_SHOWN_BYTES = 4_096  # of a cut, in the quarantine; all of it is in the file kept aside
_GAPS_TOLD = 500  # more than a recorder can ask for before the next segment


@dataclass(kw_only=True)
class Sealed:
    """What became of one segment.

    Parameters
    ----------
    segment : its name in the lake, see ``raw.segment_name``.
    records : how many could be read, those sealed before among them.
    tables : what became of the rows, per table; the raw log itself and the quarantine are not among them.
    skipped : messages and answers that were understood and have no table, per kind.
    quarantined : rows for the quarantine, new or known there.
    copies : messages that the other socket of the pair had brought before.
    lossy : rows with a number that is not exactly what the exchange wrote; see the quarantine.
    cut_bytes : bytes behind the last readable record.
    """

    segment: str
    records: int = 0
    tables: dict[str, Landed] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    copies: int = 0
    lossy: int = 0
    cut_bytes: int = 0

    @property
    def landed(self) -> dict[str, int]:
        """New rows per table."""
        return {table: landed.landed for table, landed in self.tables.items()}

    @property
    def present(self) -> int:
        """Rows that were stored before."""
        return sum(landed.already_present for landed in self.tables.values())

    @property
    def conflicts(self) -> int:
        """Rows that contradict a stored one; see the table ``conflicts``."""
        return sum(landed.conflicts for landed in self.tables.values())

    def summary(self) -> dict[str, Any]:
        """The counts, for a line of JSON."""
        names = ("records", "landed", "present", "conflicts", "skipped", "quarantined", "copies", "lossy", "cut_bytes")
        return {name: getattr(self, name) for name in names}


def seal(
    segment: Path, lake: Lake, *, venue: str | None = None, keep: bool = True, told: Listening | None = None
) -> Sealed:
    """Store the rows of a finished segment.

    Parameters
    ----------
    segment : one that no process writes to any more.
    venue : whose messages it holds; None to go by the connection that each came from.
    keep : leave the segment where it is. Otherwise it is removed once its rows are stored, or kept aside when cut.
    told : what the earlier segments of this log say about who listened; None to go by what the lake says. Worth
        nothing any more when this raises.

    Raises
    ------
    ValueError
        When a process still writes to the segment.
    OSError, CorruptFile
        When the lake cannot take the rows. The segment stays; sealing it again finishes the work.
    """
    with FileLock(segment.parent / "sealer.lock"):  # until no other process seals this log
        if wal.is_growing(segment):
            raise ValueError(f"{segment}: a process still writes to it; seal it when the log has gone on to the next")
        sealed = _Sealing(segment, lake, venue, Listening(lake.listened()) if told is None else told).run()
        if not keep and sealed.cut_bytes:
            segment.rename(segment.with_name(f"{segment.name}.cut"))
        elif not keep:
            segment.unlink()
    return sealed


def seal_folder(logs: Path, lake: Lake, *, venue: str | None = None, keep: bool = False) -> list[Sealed]:
    """Seal every finished segment of the logs in a folder, and of its own log, oldest first; see ``seal``."""
    finished = [path for path in wal.all_segments(logs) if not wal.is_growing(path)]
    return [seal(path, lake, venue=venue, keep=keep) for path in finished]


class _Reading:
    """The records of a segment, slice by slice; remembers how far they reach."""

    def __init__(self, segment: Path) -> None:
        self._segment = segment
        self._records = wal.read(segment)
        self._next = list(islice(self._records, 1))
        self._recv_ns = segment.stat().st_mtime_ns  # of a segment without any record
        self._bytes = 0
        self.lines = 0

    @property
    def is_over(self) -> bool:
        """Whether there is no further record."""
        return not self._next

    def take(self, count: int) -> list[wal.Record]:
        """The next records, so many at most; fewer where they are large."""
        taken: list[wal.Record] = []
        begun = self._bytes
        while self._next and len(taken) < count and self._bytes - begun < _SLICE_BYTES:
            part = list(islice(chain(self._next, self._records), min(_PART_RECORDS, count - len(taken))))
            self._next = list(islice(self._records, 1))
            self._bytes += wal.HEADER_BYTES * len(part) + sum(len(record.payload) for record in part)
            self._recv_ns = part[-1].recv_ns
            taken += part
        self.lines += len(taken)
        return taken

    def cut(self) -> tuple[int, wal.Record]:
        """How many bytes behind the last record cannot be read, and their beginning, dated as that record."""
        with self._segment.open("rb") as segment:
            segment.seek(self._bytes)
            tail = segment.read(_CUT_SHOWN_BYTES)
        cut_bytes = wal.cut_bytes(self._segment, self._bytes)
        return cut_bytes, wal.Record(self._recv_ns, wal.Kind.NOTE, 0, tail[:cut_bytes])


class _Sealing:
    """One segment on its way into the lake."""

    def __init__(self, segment: Path, lake: Lake, venue: str | None, told: Listening) -> None:
        self._name = raw.segment_name(segment)
        self._lake = lake
        self._told = told
        self._reading = _Reading(segment)
        self._lander = Lander(venue=venue, segment=self._name)
        self._sealed = Sealed(segment=self._name)

    def run(self) -> Sealed:
        self._pass_over(self._lake.sealed_records(self._name))
        is_whole = False
        while not is_whole:
            first_line = self._reading.lines + 1
            records = self._reading.take(SLICE_RECORDS)
            self._lander.add(self._told.follow(records))
            is_whole = self._reading.is_over
            if is_whole:
                self._look_behind()
            self._store(records, first_line, is_whole)
        self._sealed.records = self._reading.lines
        return self._sealed

    def _pass_over(self, done: int) -> None:
        """Learn from the records that are in the lake already."""
        while self._reading.lines < done and not self._reading.is_over:
            records = self._reading.take(min(SLICE_RECORDS, done - self._reading.lines))
            self._lander.pass_over(self._told.follow(records))

    def _look_behind(self) -> None:
        """Tell of what follows the last record that can be read."""
        cut_bytes, tail = self._reading.cut()
        self._sealed.cut_bytes = cut_bytes
        if cut_bytes:
            reason = f"cut: {cut_bytes} bytes behind record {self._reading.lines} cannot be read"
            self._lander.add_cut(tail, reason)
            self._told.cut()

    def _store(self, records: Sequence[wal.Record], first_line: int, is_whole: bool) -> None:
        """One slice, in one transaction."""
        landing = self._lander.take()
        if INSTRUMENTS.name in landing.tables:
            self._keep_changes(landing.tables)
        found = ledger.found(self._lake, landing.tables, self._told)
        settled = ledger.settle(self._lake, landing.tables, landing.answers, self._told)
        gaps = [*(landing.tables[name] for name in (GAPS.name,) if name in landing.tables), found, settled]
        tables = landing.tables | {GAPS.name: pl.concat(gaps)}
        kept = {QUARANTINE.name: landing.quarantine}
        if records:
            kept[RAW.name] = raw.as_rows(records, segment=self._name, first_line=first_line)
        landed = self._lake.append_all(
            tables | kept,
            origin=f"wal {self._name}",
            segment=SegmentDone(name=self._name, records=self._reading.lines, is_whole=is_whole),
            listened=self._told.listened(),
        )
        self._count(landing, {name: landed[name] for name, rows in tables.items() if not rows.is_empty()})

    def _keep_changes(self, tables: dict[str, pl.DataFrame]) -> None:
        """Of the contracts' rules, keep what says something new."""
        rows = instruments.changed(self._lake.scan(INSTRUMENTS.name, venue=None), tables.pop(INSTRUMENTS.name))
        if not rows.is_empty():
            tables[INSTRUMENTS.name] = rows

    def _count(self, landing: Landing, landed: dict[str, Landed]) -> None:
        sealed = self._sealed
        for table, counts in landed.items():
            before = sealed.tables.get(table, Landed(landed=0, already_present=0, conflicts=0))
            sums = {name: getattr(before, name) + count for name, count in vars(counts).items()}
            sealed.tables[table] = Landed(**sums)
        sealed.skipped.update(landing.skipped)
        sealed.quarantined += landing.quarantine.height
        sealed.copies += landing.copies
        sealed.lossy += sum(landing.lossy.values())


class _Following:
    """Seals segments of the logs in a folder one after the other and tells of each."""

    def __init__(self, logs: Path, lake: Lake, venue: str | None, keep: bool) -> None:
        self._logs = logs
        self._lake = lake
        self._settings = {"venue": venue, "keep": keep}
        self._told: dict[Path, tuple[Path, Listening]] = {}  # per log, its last segment here and what all so far say
        self.left: list[str] = []  # names that the lake did not take

    def greet(self) -> None:
        """Tell what is open from earlier."""
        _tell({"segment": None, **self._lacking()})

    def seal(self, names: Iterable[str]) -> None:
        """Seal these and what is left, oldest first."""
        left, self.left = self.left, []
        for name in chain(left, names):
            path = self._logs / name
            if not path.exists():
                reason = "there is no such segment: it was sealed before, or never written"
                _tell({"segment": name, "error": reason})
                continue
            try:
                last, told = self._told.pop(path.parent, (None, None))
                if last is None or not wal.follows(path, last):  # another log, or another sealer, may know more
                    told = Listening(self._lake.listened())
                sealed = seal(path, self._lake, told=told, **self._settings)
                self._told[path.parent] = path, told
                _tell({"segment": name, **sealed.summary(), **self._lacking()})
            except (OSError, CorruptFile) as error:
                self.left.append(name)
                _tell({"segment": name, "error": str(error)})

    def _lacking(self) -> dict[str, list[Any]]:
        """What the exchange is to be asked: for open gaps, and for what came before first rows."""
        return {"open": ledger.open_gaps(self._lake)[:_GAPS_TOLD], "begun": beginnings.due(self._lake)[:_GAPS_TOLD]}


def _tell(line: dict[str, Any]) -> None:
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:  # nobody listens any more; the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """One line of JSON per segment; 1 when something could not be sealed."""
    parser = argparse.ArgumentParser(prog="python -m data.sealer", description="Turn raw logs into rows of a lake.")
    parser.add_argument("logs", type=Path, help="a folder with a log, or with a folder per log")
    parser.add_argument("lake", type=Path, help="made where missing")
    parser.add_argument("--venue", help="whose messages they are (default: that of the connection)")
    parser.add_argument("--keep", action="store_true", help="leave the segments where they are")
    parser.add_argument("--follow", action="store_true", help="read names of finished segments from standard input")
    chosen = parser.parse_args(arguments)
    if not chosen.logs.is_dir():
        parser.error(f"{chosen.logs}: there is no such folder")
    following = _Following(chosen.logs, Lake(chosen.lake, create=True), chosen.venue, chosen.keep)
    if chosen.follow:
        for number in (signal.SIGINT, signal.SIGTERM):  # meant for the recorder, which then closes our input
            signal.signal(number, signal.SIG_IGN)
        following.greet()
        for line in sys.stdin:
            following.seal([line.strip()])
        following.seal([])
    else:
        finished = [path for path in wal.all_segments(chosen.logs) if not wal.is_growing(path)]
        following.seal(path.relative_to(chosen.logs).as_posix() for path in finished)
    # another sealer may have been there meanwhile
    return 1 if any((chosen.logs / name).exists() for name in following.left) else 0


if __name__ == "__main__":
    sys.exit(main())
