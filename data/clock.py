"""One clock for everything that waits or times out: real, or scaled so that a day of faults passes in minutes."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time and lets it pass. Times are UTC."""

    def now(self) -> datetime:
        """The time, UTC."""

    def now_ms(self) -> int:
        """The time as milliseconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""


class RealClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ScaledClock:
    """A clock that reads ``start`` now and runs ``speed`` times as fast as the machine's; it never steps back.

    Raises
    ------
    ValueError
        When ``start`` has no zone or ``speed`` is not positive.
    """

    def __init__(self, start: datetime, speed: float):
        if start.tzinfo is None:
            raise ValueError(f"start of a clock: expected a UTC time, got {start.isoformat()} without a zone")
        if not speed > 0:
            raise ValueError(
                f"speed of a clock: expected a positive factor, got {speed}; 60 passes an hour in a minute"
            )
        self._start = start.astimezone(UTC)
        self._speed = speed
        self._origin = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=(time.monotonic() - self._origin) * self._speed)

    def now_ms(self) -> int:
        return (self.now() - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)
