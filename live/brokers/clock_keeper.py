"""How far our clock is off the exchange's, measured again and again: the risk state hears of it, entries rest on it."""

import asyncio

from data.clock import Clock
from data.venues.aster_signed import ClockReading, NoAnswer
from live.brokers.requests import Requests
from live.brokers.risk_keeper import RiskKeeper
from live.risk import ClockSeen
from live.waiting import set_or_until

EVERY_MS = 60_000


class ClockKeeper:
    """Keeps the latest reading of the exchange's clock.

    Attributes
    ----------
    reading : None before the first, and while the exchange does not answer.
    is_wanted : set when the exchange refused our time.
    """

    def __init__(self, requests: Requests, risk: RiskKeeper, clock: Clock):
        self.reading: ClockReading | None = None
        self.is_wanted = asyncio.Event()
        self._requests, self._risk, self._clock = requests, risk, clock

    async def run(self) -> None:
        """Measure every minute, and at once where the exchange refused our time; until cancelled."""
        while True:
            await set_or_until(self.is_wanted, self._clock, self._clock.now_ms() + EVERY_MS)
            await self.measure()

    async def measure(self) -> None:
        """One reading."""
        reading = await self._requests.measure_clock()
        self.is_wanted.clear()
        self.reading = None if isinstance(reading, NoAnswer) else reading
        if self.reading is not None:
            self._risk.react(ClockSeen(time_ms=self._clock.now_ms(), offset_ms=self.reading.offset_ms))
