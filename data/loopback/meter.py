"""Request weights per address and minute, orders per account and minute, and what follows for who takes too much.

Source: Aster futures API, "Rate limits and HTTP status semantics".
"""

import time
from collections import Counter

from data.loopback.query import Refused
from data.loopback.tape import MINUTE_MS

_NS_PER_MINUTE = 60_000_000_000


class Meter:
    """Counts weights.

    Parameters
    ----------
    limit : weight that an address may use in a minute; more is refused with 429.
    ban_after, ban_s : so many refusals in a minute, and the address is banned for so many market seconds (418).
    """

    def __init__(self, limit: int, ban_after: int, ban_s: float):
        self._limit, self._ban_after, self._ban_ms = limit, ban_after, round(ban_s * 1_000)
        self._minutes = _Minutes()
        self._used: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._banned_until_ms: dict[str, int] = {}

    def used(self, who: str) -> int:
        """Weight used in this minute."""
        return self._used[who]

    def charge(self, who: str, weight: int, now_ms: int) -> None:
        """Count a request; refuse it over the limit."""
        if self._minutes.is_another(now_ms):
            self._used.clear()
            self._refusals.clear()
        until_ms = self._banned_until_ms.get(who, 0)
        if now_ms < until_ms:
            raise banned(until_ms, now_ms)
        self._used[who] += weight
        if self._used[who] <= self._limit:
            return
        self._refusals[who] += 1
        if self._refusals[who] > self._ban_after:
            self._banned_until_ms[who] = now_ms + self._ban_ms
            raise banned(now_ms + self._ban_ms, now_ms)
        message = f"Too many requests; current limit of IP is {self._limit} requests per minute."
        raise Refused(-1003, message, 429, retry_after_s=60 - now_ms // 1_000 % 60)


class OrderMeter:
    """Counts orders; more than ``limit`` of an account in a minute are refused with 429."""

    def __init__(self, limit: int):
        self._limit = limit
        self._minutes = _Minutes()
        self._used: Counter[int] = Counter()

    def used(self, account: int) -> int:
        """Orders in this minute."""
        return self._used[account]

    def count(self, account: int, orders: int, now_ms: int) -> None:
        """Count orders; refuse them over the limit."""
        if self._minutes.is_another(now_ms):
            self._used.clear()
        self._used[account] += orders
        if self._used[account] > self._limit:
            message = f"Too many new orders; current limit is {self._limit} orders per minute."
            raise Refused(-1015, message, 429)


class _Minutes:
    """A minute is over when the market's or the machine's is: at a standstill a limit would otherwise never end."""

    def __init__(self) -> None:
        self._minute = (0, 0)

    def is_another(self, now_ms: int) -> bool:
        """Whether a minute has begun since the last call."""
        minute = now_ms // MINUTE_MS, time.monotonic_ns() // _NS_PER_MINUTE
        is_another = any(new != old for new, old in zip(minute, self._minute, strict=True))
        self._minute = minute
        return is_another


def banned(until_ms: int, now_ms: int) -> Refused:
    """The refusal of who is banned."""
    message = f"Way too many requests; IP banned until {until_ms}."
    return Refused(-1003, message, 418, retry_after_s=-(-(until_ms - now_ms) // 1_000))
