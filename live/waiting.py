"""Waiting by a clock that may stand still, as a loopback exchange's does while nobody listens."""

import asyncio

from data.clock import Clock


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
