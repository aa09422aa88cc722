"""Segments of the raw log become rows of the lake: ``python -m data.sealer FOLDER LAKE [--keep] [--follow]``.

Sealing a segment twice adds nothing, so one that was interrupted is simply sealed again. A segment goes when all its
rows are stored; one that was cut is kept aside with ``.cut`` behind its name, and its cut is told in the quarantine.
"""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from data import wal
from data.lake import Lake, Landed
from data.landing import Lander, Landing
from data.manifest import CorruptFile
from data.schema import QUARANTINE

SLICE_RECORDS = 200_000  # turned into rows at once: bounds the memory
_CUT_SHOWN_BYTES = 4_096  # of a cut, in the quarantine; all of it is in the file kept aside


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """What became of one segment.

    Parameters
    ----------
    segment : its name.
    records : how many could be read.
    tables : what became of the rows, per table; the quarantine is not among them.
    skipped : messages and answers that were understood and have no table, per kind.
    quarantined : rows for the quarantine, new or known there.
    cut_bytes : bytes behind the last readable record.
    """

    segment: str
    records: int
    tables: dict[str, Landed]
    skipped: dict[str, int]
    quarantined: int
    cut_bytes: int

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
        names = ("segment", "records", "landed", "present", "conflicts", "skipped", "quarantined", "cut_bytes")
        return {name: getattr(self, name) for name in names}


def seal(segment: Path, lake: Lake, *, venue: str = "aster", keep: bool = True) -> Sealed:
    """Store the rows of a finished segment.

    Parameters
    ----------
    segment : one that no process writes to any more.
    venue : whose messages it holds.
    keep : leave the segment where it is. Otherwise it is removed once its rows are stored, or kept aside when cut.

    Raises
    ------
    ValueError
        When a process still writes to the segment.
    OSError, CorruptFile
        When the lake cannot take the rows. The segment stays; sealing it again finishes the work.
    """
    with _only_sealer(segment.parent):
        return _seal(segment, lake, venue, keep)


def seal_folder(folder: Path, lake: Lake, *, venue: str = "aster", keep: bool = False) -> list[Sealed]:
    """Seal every finished segment of a log, oldest first; see ``seal``."""
    with _only_sealer(folder):
        finished = [path for path in wal.segments(folder) if not wal.is_growing(path)]
        return [_seal(path, lake, venue, keep) for path in finished]


def _only_sealer(folder: Path) -> FileLock:
    """Waits until no other process seals this log."""
    return FileLock(folder / "sealer.lock")


def _seal(segment: Path, lake: Lake, venue: str, keep: bool) -> Sealed:
    if wal.is_growing(segment):
        raise ValueError(f"{segment}: a process still writes to it; seal it when the log has gone on to the next")
    lander = Lander(venue=venue, segment=segment.name)
    reading = _Reading(segment)
    found = _Found(lake, f"wal {segment.name}")
    records = 0
    while taken := lander.add(islice(reading, SLICE_RECORDS)):
        records += taken
        found.store(lander.take())
    cut_bytes = segment.stat().st_size - reading.bytes
    if cut_bytes:
        lander.add_cut(reading.cut(cut_bytes), f"cut: {cut_bytes} bytes behind record {records} cannot be read")
        found.store(lander.take())
    if not keep and cut_bytes:
        segment.rename(segment.with_name(f"{segment.name}.cut"))
    elif not keep:
        segment.unlink()
    return Sealed(
        segment=segment.name,
        records=records,
        tables={table: Landed(**counts) for table, counts in found.tables.items()},
        skipped=dict(found.skipped),
        quarantined=found.quarantined,
        cut_bytes=cut_bytes,
    )


class _Reading:
    """The records of a segment; remembers how far they reach."""

    def __init__(self, segment: Path) -> None:
        self._segment = segment
        self._records = wal.read(segment)
        self.bytes = 0
        self._recv_ns = segment.stat().st_mtime_ns  # of a segment without any record

    def __iter__(self) -> "_Reading":
        return self

    def __next__(self) -> wal.Record:
        record = next(self._records)
        self.bytes += wal.size(record)
        self._recv_ns = record.recv_ns
        return record

    def cut(self, cut_bytes: int) -> wal.Record:
        """The beginning of what lies behind the last record, dated as that one."""
        with self._segment.open("rb") as segment:
            segment.seek(self.bytes)
            tail = segment.read(min(cut_bytes, _CUT_SHOWN_BYTES))
        return wal.Record(self._recv_ns, wal.Kind.NOTE, 0, tail)


class _Found:
    """Stores what is found in a segment and adds up what became of it."""

    def __init__(self, lake: Lake, origin: str) -> None:
        self._lake = lake
        self._origin = origin
        self.tables: dict[str, Counter[str]] = {}
        self.skipped: Counter[str] = Counter()
        self.quarantined = 0

    def store(self, landing: Landing) -> None:
        for table, rows in landing.tables.items():
            landed = self._lake.append(table, rows, origin=self._origin)
            self.tables.setdefault(table, Counter()).update(vars(landed))
        if not landing.quarantine.is_empty():
            self._lake.append(QUARANTINE.name, landing.quarantine, origin=self._origin)
        self.skipped.update(landing.skipped)
        self.quarantined += landing.quarantine.height


def _seal_each(waiting: Sequence[Path], lake: Lake, venue: str, keep: bool) -> list[Path]:
    """Seal segment by segment and tell of each; returns those that the lake did not take."""
    left = []
    for path in waiting:
        if not path.exists():
            _tell({"segment": path.name, "error": "there is no such segment: it was sealed before, or never written"})
            continue
        try:
            _tell(seal(path, lake, venue=venue, keep=keep).summary())
        except (OSError, CorruptFile) as error:
            left.append(path)
            _tell({"segment": path.name, "error": str(error)})
    return left


def _follow(folder: Path, names: Iterable[str], lake: Lake, venue: str, keep: bool) -> list[Path]:
    """Seal segments as they are named; what the lake did not take is tried again with the next name."""
    waiting: list[Path] = []
    for name in names:
        waiting = _seal_each([*waiting, folder / name.strip()], lake, venue, keep)
    return _seal_each(waiting, lake, venue, keep)


def _tell(line: dict[str, Any]) -> None:
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:  # nobody listens any more; the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """One line of JSON per segment; 1 when something could not be sealed."""
    parser = argparse.ArgumentParser(prog="python -m data.sealer", description="Turn a raw log into rows of a lake.")
    parser.add_argument("folder", type=Path, help="the log")
    parser.add_argument("lake", type=Path, help="made where missing")
    parser.add_argument("--venue", default="aster", help="whose messages they are (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the segments where they are")
    parser.add_argument("--follow", action="store_true", help="read names of finished segments from standard input")
    chosen = parser.parse_args(arguments)
    if not chosen.folder.is_dir():
        parser.error(f"{chosen.folder}: there is no such folder")
    lake = Lake(chosen.lake, create=True)
    if chosen.follow:
        for number in (signal.SIGINT, signal.SIGTERM):  # meant for the recorder, which then closes our input
            signal.signal(number, signal.SIG_IGN)
        left = _follow(chosen.folder, sys.stdin, lake, chosen.venue, chosen.keep)
    else:
        finished = [path for path in wal.segments(chosen.folder) if not wal.is_growing(path)]
        left = _seal_each(finished, lake, chosen.venue, chosen.keep)
    return 1 if any(path.exists() for path in left) else 0  # another sealer may have been there meanwhile


if __name__ == "__main__":
    sys.exit(main())
