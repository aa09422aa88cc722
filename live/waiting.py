"""Waiting by a clock that may stand still, as a loopback exchange's does while nobody listens."""

import asyncio

from data.clock import Clock
from data.venues.aster import Venue, market_is_over

_LOOK_S = 1.0  # of the machine's time


async def sleep_until(clock: Clock, moment_ms: int) -> None:
    """Return at that moment of the clock, however often one that stands still lets a sleep end early."""
    while (left_ns := moment_ms * 1_000_000 - clock.now_ns()) > 0:
        await clock.sleep(left_ns / 1e9)


async def set_or_until(event: asyncio.Event, clock: Clock, moment_ms: int | None) -> None:
    """Return when an event is set, or at a moment of the clock; None: only when it is set."""
    waits = [asyncio.create_task(event.wait())]
    if moment_ms is not None:
        waits.append(asyncio.create_task(sleep_until(clock, moment_ms)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def why_not_reached(clock: Clock, moment_ms: int, venue: Venue) -> str | None:
    """Wait for a moment of the clock: None. Or a sentence: the exchange says that its market is over.

    Only a loopback exchange says so. A real one that has fallen silent is waited for.
    """
    waits = [asyncio.create_task(sleep_until(clock, moment_ms))]
    if venue.is_loopback:
        waits.append(asyncio.create_task(_standing_still_for_good(clock, venue)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    left_s = (moment_ms - clock.now_ms()) / 1_000
    if left_s <= 0.0:
        return None
    return f"the exchange's market ended at {clock.now():%Y-%m-%d %H:%M:%S} UTC, {left_s:.0f} s before the run did"


async def _standing_still_for_good(clock: Clock, loopback: Venue) -> None:
    seen_ns = None
    while clock.now_ns() != seen_ns or not await market_is_over(loopback):
        seen_ns = clock.now_ns()
        await asyncio.sleep(_LOOK_S)
