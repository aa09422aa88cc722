"""How far our clock is from the exchange's, asked every minute: nothing is ever corrected, but everybody can look."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from data.clock import Clock, FollowedClock, RealClock
from data.recorder_logs import LOG
from data.venues.aster import AsterRest, Unavailable

TIME_PATH = "/fapi/v3/time"
EVERY_S = 60.0
STEP_MS = 500.0  # a larger one is an event of its own
_LOOK_S = 1.0  # the machine's seconds between looks for a step
_FOLLOWED_EVERY_S = 3_600.0  # a followed clock is the exchange's own


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One comparison of the clocks.

    Parameters
    ----------
    at_ns : our clock in the middle of the request.
    offset_ms : the exchange's clock minus ours; None when it did not answer.
    round_trip_ms : of the request: the offset is no surer than half of it.
    step_ms : how far our clock moved against the machine's steady one since the last reading; None for a clock that is
        not the machine's.
    """

    at_ns: int
    offset_ms: float | None
    round_trip_ms: float | None
    step_ms: float | None


class ClockWatch:
    """Compares the clocks for as long as it runs.

    Parameters
    ----------
    tell : called with every reading.
    """

    def __init__(self, rest: AsterRest, clock: Clock, tell: Callable[[Reading], None]) -> None:
        self._rest = rest
        self._clock = clock
        self._tell = tell
        self._lead_ns = self._ahead_ns()  # of our clock over the steady one, at the last reading
        self._every_s = _FOLLOWED_EVERY_S if isinstance(clock, FollowedClock) else EVERY_S

    async def run(self) -> None:
        """Read once a minute, and at once when our clock steps."""
        while True:
            await self._read()
            await self._pause()

    async def _pause(self) -> None:
        """Return when the next reading is due."""
        if not isinstance(self._clock, RealClock):
            due_ns = self._clock.now_ns() + round(self._every_s * 1e9)
            while (left_ns := due_ns - self._clock.now_ns()) > 0:
                await self._clock.sleep(left_ns / 1e9)
            return
        due_s = time.monotonic() + self._every_s
        while time.monotonic() < due_s and abs(self._step_ms()) <= STEP_MS:
            await asyncio.sleep(min(_LOOK_S, max(due_s - time.monotonic(), 0.0)))

    async def _read(self) -> None:
        step_ms = self._step_ms() if isinstance(self._clock, RealClock) else None
        self._lead_ns = self._ahead_ns()
        if step_ms is not None and abs(step_ms) > STEP_MS:
            LOG.warning("our clock stepped", extra={"told": {"step_ms": round(step_ms, 3)}})
        began_ns, began_steady_ns = self._clock.now_ns(), time.monotonic_ns()
        try:
            exchange_ms = int(json.loads(await self._rest.get(TIME_PATH))["serverTime"])
        except (Unavailable, ValueError, LookupError, TypeError, OverflowError) as error:
            LOG.warning("the exchange's clock could not be read", extra={"told": {"reason": str(error)}})
            self._tell(Reading(at_ns=began_ns, offset_ms=None, round_trip_ms=None, step_ms=step_ms))
            return
        is_real = isinstance(self._clock, RealClock)
        took_ns = time.monotonic_ns() - began_steady_ns if is_real else self._clock.now_ns() - began_ns
        middle_ns = began_ns + took_ns // 2
        self._tell(
            Reading(
                at_ns=middle_ns,
                offset_ms=exchange_ms - middle_ns / 1e6,
                round_trip_ms=took_ns / 1e6,
                step_ms=step_ms,
            )
        )

    def _ahead_ns(self) -> int:
        return self._clock.now_ns() - time.monotonic_ns()

    def _step_ms(self) -> float:
        return (self._ahead_ns() - self._lead_ns) / 1e6
