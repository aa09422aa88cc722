"""What may be asked of the exchange now: requests by urgency, with a share that only ways out may use. Pure.

``data.venues.weights.Budget`` makes readers wait; here an order is never queued behind a question. What does not fit is
told when it may come, and what is least urgent is left out first. Time is passed in.

Source: Aster futures API, "Rate limits and HTTP status semantics".
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from data.venues.weights import LIMIT_PER_MINUTE

MINUTE_MS = 60_000
ORDERS_PER_MINUTE = 1_200
EXIT_EVERY_MS = 1_000  # between ways out while the exchange answers 429; nothing asks a ban sooner whether it is over


class Urgency(IntEnum):
    """What a request is for, most urgent first."""

    EXIT = 0  # stop, close, flatten
    CERTAINTY = 1  # cancel, and ask what became of an order
    ENTRY = 2
    AUDIT = 3
    REST = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of the exchange's limits is used.

    Attributes
    ----------
    weight_per_minute, orders_per_minute : of exchangeInfo; of the address, and of the account.
    buffer : fraction of them that is never used, by anything: others may ask from this address.
    reserve : fraction of the rest that only exits, cancels and questions about unknown orders may use.

    Raises
    ------
    ValueError
        When a fraction leaves nothing.
    """

    weight_per_minute: int = LIMIT_PER_MINUTE
    orders_per_minute: int = ORDERS_PER_MINUTE
    buffer: float = 0.1
    reserve: float = 0.3

    def __post_init__(self) -> None:
        for name in ("buffer", "reserve"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: expected a fraction from 0 to under 1, got {getattr(self, name):g}")

    def share(self, limit: int, urgency: Urgency) -> int:
        """How much of a limit a request of that urgency may fill."""
        usable = limit * (1.0 - self.buffer)
        return int(usable if urgency <= Urgency.CERTAINTY else usable * (1.0 - self.reserve))


class RequestBudget:
    """What was sent in the last minute, and what the exchange says of it. Times in ms of one clock that only grows."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._sent: deque[tuple[int, int, int]] = deque()  # when, weight, orders; oldest first
        self._told: tuple[int, int] = (-1, 0)  # minute and weight that the exchange counted in it
        self._throttled_until_ms = 0
        self._banned_until_ms = 0
        self._last_exit_ms = -EXIT_EVERY_MS

    def wait_ms(self, urgency: Urgency, weight: int, orders: int, now_ms: int) -> int:
        """How long a request has to wait; 0: it may go out, and then has to be ``spend``-ed."""
        if ban_ms := self.ban_ms(now_ms):
            return ban_ms
        if now_ms < self._throttled_until_ms:
            if urgency is not Urgency.EXIT:
                return self._throttled_until_ms - now_ms
            return max(0, self._last_exit_ms + EXIT_EVERY_MS - now_ms)
        used_weight, used_orders = self.used(now_ms)
        most_weight = self.limits.share(self.limits.weight_per_minute, urgency)
        most_orders = self.limits.share(self.limits.orders_per_minute, urgency)
        if used_weight + weight <= most_weight and (not orders or used_orders + orders <= most_orders):
            return 0
        return self._next_ms(now_ms) - now_ms

    def ban_ms(self, now_ms: int) -> int:
        """How long nothing at all may be asked; 0: no ban holds."""
        return max(0, self._banned_until_ms - now_ms)

    def spend(self, urgency: Urgency, weight: int, orders: int, now_ms: int) -> None:
        """A request leaves."""
        self._sent.append((now_ms, weight, orders))
        if urgency is Urgency.EXIT:
            self._last_exit_ms = now_ms

    def used(self, now_ms: int) -> tuple[int, int]:
        """Weight and orders of the last 60 s; the exchange's count of this minute where that is more."""
        while self._sent and self._sent[0][0] <= now_ms - MINUTE_MS:
            self._sent.popleft()
        weight = sum(each for _, each, _ in self._sent)
        minute, told = self._told
        return max(weight, told if minute == now_ms // MINUTE_MS else 0), sum(each for _, _, each in self._sent)

    def told(self, used_weight: int, now_ms: int) -> None:
        """The header X-MBX-USED-WEIGHT-1M of an answer; an answer that was overtaken tells less and changes nothing."""
        self._told = max(self._told, (now_ms // MINUTE_MS, used_weight))

    def throttled(self, now_ms: int, wait_ms: int) -> None:
        """The exchange answered 429 or 403: so long nothing but exits, slowly."""
        self._throttled_until_ms = max(self._throttled_until_ms, now_ms + wait_ms)

    def banned(self, now_ms: int, wait_ms: int) -> None:
        """The exchange answered 418: nothing at all until the ban is over. Positions rest on the stops it holds.

        What was about to get its stop waits too: as long as the exchange says, so that no position is naked longer.
        """
        self._banned_until_ms = max(self._banned_until_ms, now_ms + max(wait_ms, EXIT_EVERY_MS))

    def _next_ms(self, now_ms: int) -> int:
        """When something is forgotten: the oldest request, or the minute that the exchange counts."""
        next_minute_ms = (now_ms // MINUTE_MS + 1) * MINUTE_MS
        return min(self._sent[0][0] + MINUTE_MS, next_minute_ms) if self._sent else next_minute_ms
