"""How far the market may have got when it keeps pace with the machine's clock."""

import asyncio
import time

_TICK_S = 0.01
_NS_PER_S = 1_000_000_000


class Pace:
    """``speed`` market seconds pass per second of the machine; None for no pace to keep."""

    def __init__(self, speed: float | None):
        self._speed = speed
        self._since: tuple[int, float] | None = None  # a market time, and the machine's then

    def stop(self) -> None:
        """Time stands still, or jumps: it goes on from where it is then."""
        self._since = None

    async def reached(self, now_ns: int) -> int | None:
        """The market's time by now, some way after ``now_ns``; None without a pace."""
        if self._speed is None:
            return None
        if self._since is None:
            self._since = now_ns, time.monotonic()
        is_behind = self._due_ns() - now_ns > _TICK_S * self._speed * _NS_PER_S
        await asyncio.sleep(0 if is_behind else _TICK_S)
        return max(self._due_ns(), now_ns + 1)

    def _due_ns(self) -> int:
        since_ns, since_s = self._since
        return since_ns + round((time.monotonic() - since_s) * self._speed * _NS_PER_S)
