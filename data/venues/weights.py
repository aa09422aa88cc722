"""What a question costs at the exchange, and a budget of it per minute.

The exchange counts the weight of requests per address and minute (Aster: 2400) and answers 429, then bans, whoever goes
beyond it. Recorder, repair and backfill of one machine share that address, so each keeps to a budget well below.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from data.clock import Clock

LIMIT_PER_MINUTE = 2_400
PER_MINUTE = 1_200  # half of it: the other half is for whoever else asks from this address
CROWDED = 2_000  # counted by the exchange: others ask too, and what is left is theirs
_MINUTE_NS = 60 * 10**9
_KLINE_PATHS = ("klines", "markPriceKlines", "indexPriceKlines")
_KLINE_WEIGHTS = ((99, 1), (499, 2), (1_000, 5))  # up to that limit, that weight; 10 beyond
_DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10))  # 20 beyond
_BY_SYMBOL_OR_ALL = {"ticker/24hr": (1, 40), "ticker/price": (1, 2), "ticker/bookTicker": (1, 2)}
_WEIGHTS = {"aggTrades": 20, "historicalTrades": 20}


def weight_of(path: str, params: Mapping[str, Any]) -> int:
    """Request weight of one GET; 1 for a path that the documentation does not list.

    Parameters
    ----------
    path : such as ``/fapi/v3/klines``; the version does not matter.
    params : as asked; those that are None count as absent.

    Source
    ------
    Aster futures documentation, "Market Data Endpoints", the weight of each.
    """
    name = path.split("/", 3)[-1]  # /fapi/v3/ticker/24hr
    limit = params.get("limit")
    if name in _KLINE_PATHS:
        return _by_limit(500 if limit is None else int(limit), _KLINE_WEIGHTS, 10)
    if name == "depth":
        return _by_limit(500 if limit is None else int(limit), _DEPTH_WEIGHTS, 20)
    if name in _BY_SYMBOL_OR_ALL:
        of_symbol, of_all = _BY_SYMBOL_OR_ALL[name]
        return of_all if params.get("symbol") is None else of_symbol
    return _WEIGHTS.get(name, 1)


class Budget:
    """At most ``per_minute`` of request weight in any 60 seconds of the clock, shared by all who take from it.

    Raises
    ------
    ValueError
        When ``per_minute`` is not a weight that the exchange would grant.
    """

    def __init__(self, clock: Clock, per_minute: int = PER_MINUTE) -> None:
        if not 1 <= per_minute <= LIMIT_PER_MINUTE:
            raise ValueError(
                f"request weight per minute: expected 1 to {LIMIT_PER_MINUTE}, which is what the exchange grants an "
                f"address, got {per_minute}"
            )
        self.per_minute = per_minute
        self._clock = clock
        self._taken: deque[tuple[int, int]] = deque()  # (when, weight) of the last minute, oldest first
        self._used = 0
        self._closed_until_ns = 0

    @property
    def used(self) -> int:
        """Weight taken in the last 60 seconds."""
        now_ns = self._clock.now_ns()
        if self._taken and self._taken[-1][0] > now_ns:  # the clock was set back: at worst that was spent just now
            self._taken = deque((min(when_ns, now_ns), weight) for when_ns, weight in self._taken)
        last_ns = now_ns - _MINUTE_NS
        while self._taken and self._taken[0][0] <= last_ns:
            self._used -= self._taken.popleft()[1]
        return self._used

    async def take(self, weight: int) -> None:
        """Return as soon as ``weight`` may be spent; it counts as spent from then on.

        What costs more than a whole minute's budget waits until nothing else is counted.
        """
        while (due_ns := self._due_ns(weight)) > self._clock.now_ns():
            await self._clock.sleep((due_ns - self._clock.now_ns()) / 1e9)
        self._taken.append((self._clock.now_ns(), weight))
        self._used += weight

    def told(self, used_weight: int | None) -> None:
        """What the exchange counts for this address in the current minute, other programs included; None: unknown.

        Beyond ``CROWDED`` nothing more is granted until its minute is over.
        """
        if used_weight is not None and used_weight > CROWDED:
            now_ns = self._clock.now_ns()
            self._closed_until_ns = now_ns - now_ns % _MINUTE_NS + _MINUTE_NS

    def _due_ns(self, weight: int) -> int:
        """When it is worth asking again whether ``weight`` may be spent; now or earlier: it may."""
        # the clock may have been set back
        self._closed_until_ns = min(self._closed_until_ns, self._clock.now_ns() + _MINUTE_NS)
        if self.used and self._used + weight > self.per_minute:
            return self._taken[0][0] + _MINUTE_NS
        return self._closed_until_ns


def _by_limit(limit: int, steps: tuple[tuple[int, int], ...], beyond: int) -> int:
    return next((weight for most, weight in steps if limit <= most), beyond)
