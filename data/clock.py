"""One clock for everything that waits or times out: real, scaled so that a day of faults passes in minutes, or told.

Told: the loopback exchange says in band what time it is, and a client that follows it (``FollowedClock``) stamps what
it receives with exactly that time, at any speed, on any machine, run after run.
"""

import asyncio
import heapq
import itertools
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STANDSTILL_S = 0.02  # how long a wait lasts, by the machine, while nobody tells a followed clock the time
_CALM_PASSES = 5  # passes of the event loop in which everything that became due has had its turn


class Clock(Protocol):
    """Tells the time and lets it pass. Times are UTC."""

    def now(self) -> datetime:
        """The time, UTC, to the microsecond."""

    def now_ms(self) -> int:
        """The time as milliseconds since 1970."""

    def now_ns(self) -> int:
        """The time as nanoseconds since 1970."""

    def stamp_ns(self) -> int:
        """The time as nanoseconds since 1970, but later than every stamp before: one stamp names one event."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock."""


class _Reading:
    """What every clock derives from its ``now_ns``."""

    _stamped_ns = -1

    def now_ns(self) -> int:
        raise NotImplementedError

    def now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.now_ns() // 1_000)

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def stamp_ns(self) -> int:
        now_ns = self.now_ns()
        if now_ns <= self._stamped_ns:
            now_ns = self._stamped_ns + 1
        self._stamped_ns = now_ns
        return now_ns


class RealClock(_Reading):
    """The machine's clock. It may step back; its stamps never do."""

    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ScaledClock(_Reading):
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
        self._start_ns = (start - _EPOCH) // timedelta(microseconds=1) * 1_000
        self._speed = speed
        self._origin_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        return self._start_ns + int((time.monotonic_ns() - self._origin_ns) * self._speed)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)


class FollowedClock(_Reading):
    """A clock that stands still until it is told the time; it never steps back.

    Whoever brings the time (a connection to the loopback exchange) attaches itself and tells. While nobody is attached
    time cannot pass, so a ``sleep`` begun then returns early, after 20 ms of the machine's time at most: who must not
    act before a moment compares ``now_ns`` with it and sleeps again. A sleep begun while attached ends only when told.

    Parameters
    ----------
    start_ns : what it reads before it is told anything, nanoseconds since 1970.
    """

    def __init__(self, start_ns: int = 0):
        self._now_ns = start_ns
        self._attached = 0
        self._holds = 0
        self._released = asyncio.Event()
        self._released.set()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []  # heap of (due ns, order of arrival, waiter)
        self._order = itertools.count()

    @property
    def is_attached(self) -> bool:
        """Whether somebody brings the time."""
        return self._attached > 0

    def now_ns(self) -> int:
        return self._now_ns

    def tell(self, now_ns: int) -> None:
        """It is ``now_ns``: wakes the sleepers that are due, in the order in which they are due."""
        if now_ns <= self._now_ns:
            return
        self._now_ns = now_ns
        while self._sleepers and self._sleepers[0][0] <= now_ns:
            waiter = heapq.heappop(self._sleepers)[2]
            if not waiter.done():
                waiter.set_result(None)

    def attach(self) -> None:
        """A connection that tells the time begins."""
        self._attached += 1

    def detach(self) -> None:
        """A connection that told the time has ended."""
        assert self._attached > 0, "detach without attach"
        self._attached -= 1

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0 or not self._attached:
            await asyncio.sleep(min(max(seconds, 0.0), _STANDSTILL_S))
            return
        waiter = asyncio.get_running_loop().create_future()
        sleeper = (self._now_ns + round(seconds * 1e9), next(self._order), waiter)
        heapq.heappush(self._sleepers, sleeper)
        try:
            await waiter
        finally:
            if sleeper in self._sleepers:  # cancelled before it was due
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Inside, the exchange is not told that we are ready for the next moment: an answer that we need is under way.

        Never sleep by this clock inside: the time that would end the sleep is what is held.
        """
        self._holds += 1
        self._released.clear()
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._released.set()

    async def quiet(self) -> None:
        """Return once nothing is held and the tasks that became due have had their turn.

        A task that was woken may wake another, which may hold: calm means several passes of the event loop in a row
        without a hold.
        """
        calm_passes = 0
        while calm_passes < _CALM_PASSES:
            if self._holds:
                await self._released.wait()
                calm_passes = 0
            await asyncio.sleep(0)
            calm_passes += 1


class Asked:
    """When a loopback exchange asked its followers whether they are ready.

    It asks all of them, and goes on when those that it still hears have answered. So when one connection is asked for
    the second time, every other that is alive has been told everything up to the first time.

    Attributes
    ----------
    client : by which the exchange knows whose connections these are.
    """

    def __init__(self) -> None:
        self.client = secrets.token_hex(8)
        self.reached_ns = 0  # everybody who is alive has been told everything up to then
        self._last_ns = 0

    def at(self, now_ns: int) -> None:
        """A connection was asked at that time."""
        if now_ns > self._last_ns:
            self.reached_ns, self._last_ns = self._last_ns, now_ns
