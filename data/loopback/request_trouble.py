"""Request faults at work: which one befalls a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from data.loopback.faults import RequestFault

_SECOND_NS = 1_000_000_000


@dataclass
class _Active:
    """A fault with its times, nanoseconds since 1970, its luck, and how many requests it may still befall."""

    fault: RequestFault
    from_ns: int
    to_ns: int | None
    luck: Random
    left: int | None

    def befalls(self, method: str, name: str, now_ns: int) -> bool:
        is_now = self.from_ns <= now_ns and (self.to_ns is None or now_ns < self.to_ns)
        is_meant = self.fault.method in ("*", method) and fnmatchcase(name, self.fault.path)
        if not is_now or self.left == 0 or not is_meant:
            return False
        if self.luck.random() >= self.fault.rate:
            return False
        self.left = None if self.left is None else self.left - 1
        return True


class RequestTrouble:
    """Every request fault in force. Chance goes by the order of requests."""

    def __init__(self, seed: int):
        self._seed = seed
        self._active: list[_Active] = []
        self._refused: dict[str, tuple[int, RequestFault]] = {}  # by endpoint: until when

    def add(self, faults: Sequence[RequestFault], origin_ns: int) -> None:
        """Put faults into force; their times count from ``origin_ns``."""
        for fault in faults:
            from_ns = origin_ns + round(fault.from_s * _SECOND_NS)
            to_ns = None if fault.for_s is None else from_ns + round(fault.for_s * _SECOND_NS)
            luck = Random(f"{self._seed}/{len(self._active)}")
            self._active.append(_Active(fault, from_ns, to_ns, luck, fault.count))

    def refuse(self, path: str, until_ns: int, status: int, retry_after_s: float | None) -> None:
        """Refuse an endpoint until a time; the empty one stands for all. A later call about it replaces an earlier."""
        self._refused[path] = until_ns, RequestFault(kind="status", status=status, retry_after_s=retry_after_s)

    def befalls(self, method: str, name: str, now_ns: int) -> RequestFault | None:
        """The fault that befalls a request for that endpoint now; None when all is well."""
        for path in (name, ""):
            until_ns, fault = self._refused.get(path, (0, None))
            if now_ns < until_ns:
                return fault
        return next((each.fault for each in self._active if each.befalls(method, name, now_ns)), None)
