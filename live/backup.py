"""A copy of the journal for every day, beside it: whole, or not there."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from data.clock import Clock
from live.disk import Disk
from live.waiting import sleep_until
from research.daily_loss import DAY_MS

KEPT = 7  # the newest


async def back_up_daily(journal: Path, clock: Clock, disk: Disk) -> None:
    """Copy a journal as every UTC day begins, until cancelled; a thread does it, so nothing waits."""
    while True:
        day_ms = (clock.now_ms() // DAY_MS + 1) * DAY_MS
        await sleep_until(clock, day_ms)
        with disk.tried():
            await asyncio.to_thread(back_up, journal, datetime.fromtimestamp(day_ms / 1_000, UTC))


def back_up(journal: Path, at: datetime) -> Path:
    """Copy a journal that may be written meanwhile. Returns the copy, which is there whole or not at all.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    copy = journal.with_name(f"{journal.name}.backup-{at:%Y%m%d}")
    unfinished = copy.with_name(f"{copy.name}.new")
    unfinished.unlink(missing_ok=True)  # of a process that was killed
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(unfinished),))
    except sqlite3.OperationalError as error:
        raise OSError(f"{unfinished} cannot be written: {error}") from error
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.replace(copy)
    for old in sorted(journal.parent.glob(f"{journal.name}.backup-????????"))[:-KEPT]:
        old.unlink()
    return copy
