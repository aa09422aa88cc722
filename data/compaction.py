"""Few large files instead of many small ones: ``python -m data.compaction LAKE [--hourly] [--daily] [--all]``.

Every seal adds a file per table. Once an hour they become one file an hour, and two hours after midnight UTC a day
becomes one file, is looked through for rows that exist twice, and for holes that the ledger does not know. A merge is
one transaction of the manifest: killed at any moment, the next one begins where the last one ended, and the file that
comes out is the same to the last bit. Replaced files stay a day for those who still read them.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from data import ledger
from data.lake import Lake
from data.manifest import CorruptFile, FileEntry
from data.merge import merge
from data.schema import GAPS, RAW, TABLES
from data.table import Table

SEALED, HOUR, DAY = 0, 1, 2  # levels of a file
_HOUR_GRACE = timedelta(minutes=5)
_DAY_GRACE = timedelta(hours=2)
_KEEP_REPLACED = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One merge of a table's files of one date.

    Parameters
    ----------
    level : 1 for an hour, 2 for the day.
    duplicates : rows whose key another row of the day has; more than none is a fault of this program.
    gaps : new rows of the ledger.
    """

    table: str
    day: date
    level: int
    files_before: int
    files_after: int
    rows: int
    bytes_before: int
    bytes_after: int
    duplicates: int
    gaps: int
    seconds: float


@dataclass(kw_only=True)
class Report:
    """What a compaction did. ``troubles``: one sentence per date that could not be merged; its files are as before."""

    merged: list[Merged] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def compact(
    lake: Lake,
    *,
    level: int,
    now: datetime,
    tables: Sequence[str] | None = None,
    tell: Callable[[Merged], None] | None = None,
) -> Report:
    """Merge what is complete by now; does nothing where it was done before.

    Parameters
    ----------
    level : 1 merges sealed files of hours that are over, of days that are not closed yet; 2 closes days.
    now : UTC.
    tables : only these; None for all.
    tell : called after each merge.

    Raises
    ------
    OSError
        When the disk is full or not writable. What was merged before stays merged.
    """
    assert level in (HOUR, DAY), level
    report = Report()
    due = _hours if level == HOUR else _days
    for name in TABLES if tables is None else tables:
        table = TABLES[name]
        for day, entries in due(lake.files(name), now):
            try:
                merged = _merge(lake, table, day, entries, level, now)
            except CorruptFile as error:
                report.troubles.append(f"{name} of {day} is not merged: {error}")
                continue
            if merged is not None:
                report.merged.append(merged)
                if tell is not None:
                    tell(merged)
    return report


def retire(lake: Lake, raw_days: float, now: datetime) -> tuple[int, list[str]]:
    """Take raw rows older than so many days out of the lake, and remove the files that merges replaced a day ago.

    A date of raw rows goes as a whole; with inf days none does.

    Returns
    -------
    How many files of ``raw`` went, and the paths that were removed from the disk. A file that goes today is removed
    tomorrow, as somebody may be reading it.
    """
    # so many days may be more than a date can be put back by
    old = [entry for entry in lake.files(RAW.name) if (now - _end_of(entry.dt)) / timedelta(days=1) >= raw_days]
    with lake.merging():
        if old and not lake.replace(old, []):
            old = []  # somebody set one of them aside meanwhile: tomorrow then
        dropped = lake.drop_replaced(now - _KEEP_REPLACED)
    return len(old), dropped


def _hours(entries: Sequence[FileEntry], now: datetime) -> Iterator[tuple[date, list[FileEntry]]]:
    """Sealed files of each hour that is over."""
    hours: defaultdict[datetime, list[FileEntry]] = defaultdict(list)
    for entry in entries:
        if entry.level == SEALED and not _is_closing(entry.dt, now):
            hours[entry.max_time.replace(minute=0, second=0, microsecond=0)].append(entry)
    for hour, found in sorted(hours.items()):
        if len(found) > 1 and hour + timedelta(hours=1) + _HOUR_GRACE <= now:
            yield found[0].dt, found


def _days(entries: Sequence[FileEntry], now: datetime) -> Iterator[tuple[date, list[FileEntry]]]:
    """All files of each day that is over and has one that its close did not make."""
    days: defaultdict[date, list[FileEntry]] = defaultdict(list)
    for entry in entries:
        days[entry.dt].append(entry)
    for day, found in sorted(days.items()):
        if _is_closing(day, now) and any(entry.level != DAY for entry in found):
            yield day, found


def _is_closing(day: date, now: datetime) -> bool:
    return _end_of(day) + _DAY_GRACE <= now


def _end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _merge(
    lake: Lake, table: Table, day: date, entries: Sequence[FileEntry], level: int, now: datetime
) -> Merged | None:
    """Merge these files; None when one of them left the lake meanwhile."""
    begun = time.monotonic()
    new_gaps = 0
    with lake.merging():
        made = merge(lake, table, day, entries, level=level)
        if level == DAY:  # before the files are replaced: a day that counts as closed was looked through
            gaps = ledger.scan_day(lake, table.name, day, now)
            new_gaps = lake.append(GAPS.name, gaps, origin=f"close of {table.name} {day}").landed
        if not lake.replace(entries, made.files):
            return None
    return Merged(
        table=table.name,
        day=day,
        level=level,
        files_before=len(entries),
        files_after=len(made.files),
        rows=sum(entry.rows for entry in entries),
        bytes_before=sum(entry.bytes for entry in entries),
        bytes_after=sum(file.entry.bytes for file in made.files),
        duplicates=made.duplicates,
        gaps=new_gaps,
        seconds=time.monotonic() - begun,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """One line of JSON per merge; 1 when a date could not be merged. Leaves at once where another one is at it."""
    parser = argparse.ArgumentParser(prog="python -m data.compaction", description="Merge the files of a lake.")
    parser.add_argument("lake", type=Path)
    parser.add_argument("--hourly", action="store_true", help="merge the hours that are over")
    parser.add_argument("--daily", action="store_true", help="close the days that are over, retire what is old")
    parser.add_argument("--all", action="store_true", help="both (default)")
    parser.add_argument("--raw-days", type=float, default=30, help="how long the raw log is kept (default: 30; inf)")
    parser.add_argument(
        "--now", type=_utc, help="the time by which days and hours are over, UTC (default: the clock's)"
    )
    chosen = parser.parse_args(arguments)
    lake = Lake(chosen.lake)
    everything = chosen.all or not (chosen.hourly or chosen.daily)
    now = chosen.now or datetime.now(UTC)
    troubles: list[str] = []
    try:
        with FileLock(lake.root / "compaction.lock", timeout=0):
            for level, is_wanted in ((DAY, chosen.daily), (HOUR, chosen.hourly)):
                if is_wanted or everything:
                    troubles += compact(lake, level=level, now=now, tell=_tell).troubles
            if chosen.daily or everything:
                retire(lake, chosen.raw_days, now)
    except Timeout:
        return 0
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return 1 if troubles else 0


def _utc(text: str) -> datetime:
    told = datetime.fromisoformat(text)
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)


def _tell(merged: Merged) -> None:
    print(json.dumps({**vars(merged), "day": str(merged.day), "seconds": round(merged.seconds, 3)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
