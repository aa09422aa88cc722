"""Upkeep of a lake as commands and nights do it: holes filled by REST, small files merged."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from data.clock import Clock, RealClock, ScaledClock
from data.compaction import Merged, compact, retire
from data.lacking import unlisted
from data.lake import Lake
from data.ledger import open_gaps
from data.repair import is_repairable, repair
from data.schema import GAPS
from data.stored_days import COUNTED
from data.unrecorded import asked, unheard_ends, unrecorded
from data.venues.aster import AsterRest, Unavailable, venue_of
from data.venues.weights import Budget

if TYPE_CHECKING:
    from data.repair import Report


@dataclass(frozen=True, kw_only=True)
class Merges:
    """What ``merge_files`` did.

    Parameters
    ----------
    troubles : sentences on files that could not be merged.
    retired : raw files whose rows are too old. removed : replaced files that left the disk.
    """

    merged: tuple[Merged, ...]
    troubles: tuple[str, ...]
    retired: int
    removed: int


def fill_gaps(
    lake: Lake,
    venue: str,
    weight: int,
    say: Callable[[str], None],
    *,
    tables: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> "Report | None":
    """Write unknown holes into the ledger, then ask the exchange for all that are open; None where there are none.

    Parameters
    ----------
    end : up to which streams should have been recorded, too; None for the end of the day in which each was heard last.

    Raises
    ------
    ConnectionError
        When the exchange cannot be reached.
    """
    chosen = [name for name in COUNTED if is_repairable(name) and (not tables or name in tables)]
    found = unlisted(lake, tables=chosen, symbols=symbols, start=start, end=end, now=datetime.now(UTC))
    lake.append(GAPS.name, found, origin="repair")
    living = {
        stream: lives
        for stream, lives in asked(lake).items()
        if not symbols or stream.partition("@")[0].upper() in symbols
    }

    def open_ones() -> list[dict[str, Any]]:
        return [gap for gap in open_gaps(lake, tables=chosen, symbols=symbols) if _touches(gap, start, end)]

    async def ask() -> "Report | None":
        async with exchange(venue) as (rest, clock):
            budget = Budget(clock, weight)
            lost = await unrecorded(lake, rest, budget, clock, living, end=end, tables=tables or None)
            lake.append(GAPS.name, lost, origin="repair")
            gaps = open_ones()
            return await repair(lake, rest, budget, clock, gaps=gaps, tell=say) if gaps else None

    if open_ones() or unheard_ends(lake, living, end=end, now=datetime.now(UTC)):
        return asyncio.run(ask())
    return None


def merge_files(
    lake: Lake,
    raw_days: int,
    tell: Callable[[str, int, int], None],
    *,
    tables: Sequence[str] | None = None,
) -> Merges:
    """Merge days, then hours that are over; retire raw rows older than ``raw_days``.

    Raises
    ------
    ValueError
        When another process merges files of this lake.
    """
    now = datetime.now(UTC)
    merged, troubles = [], []
    try:
        with FileLock(lake.root / "compaction.lock", timeout=0):
            for level, what in ((2, "days"), (1, "hours")):

                def count(each, what: str = what) -> None:
                    merged.append(each)
                    tell(f"merged {what}", len(merged), len(merged))

                report = compact(lake, level=level, now=now, tables=tables, tell=count)
                troubles += report.troubles
            retired, removed = retire(lake, raw_days, now)
    except Timeout:
        raise ValueError(f"{lake.root}: another process merges its files; wait for it to end") from None
    return Merges(merged=tuple(merged), troubles=tuple(troubles), retired=retired, removed=len(removed))


@asynccontextmanager
async def exchange(place: str) -> AsyncIterator[tuple[AsterRest, Clock]]:
    """The exchange that the user named, and a clock that tells its time."""
    try:
        venue = await venue_of(place)
        clock: Clock = RealClock()
        if venue.is_loopback:
            async with AsterRest(venue, clock) as rest:
                told_ms = (await rest.get_json("/loopback"))["now_ms"]
            clock = ScaledClock(datetime.fromtimestamp(told_ms / 1_000, UTC), speed=1.0)
        async with AsterRest(venue, clock) as rest:
            yield rest, clock
    except Unavailable as error:
        raise ConnectionError(f"venue {place}: {error.reason}; the same command goes on later where it was") from error


def _touches(gap: dict, start: datetime | None, end: datetime | None) -> bool:
    """Whether a gap of ``ledger.open_gaps`` reaches into [start, end)."""
    begins = start is None or gap["to_time"] >= start.timestamp() * 1_000
    return begins and (end is None or gap["from_time"] < end.timestamp() * 1_000)
