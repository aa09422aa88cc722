"""A REST request as understood: its parameters, what is wrong with them, its weight and what answers it.

Source: Aster futures API, "Error codes and actions".
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from data.loopback.bars import INTERVALS
from data.loopback.market import Market


class Refused(Exception):
    """A request that is not answered: the exchange's code and text, the HTTP status, and the wait that it tells."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: float | None = None):
        super().__init__(message)
        self.code, self.message, self.status, self.retry_after_s = code, message, status, retry_after_s


class Query:
    """The parameters of one request; remembers which were read, as the exchange refuses the others."""

    def __init__(self, sent: Mapping[str, str], symbols: tuple[str, ...]):
        self._sent = sent
        self._symbols = symbols
        self._read: set[str] = set()

    def text(self, name: str) -> str | None:
        self._read.add(name)
        if self._sent.get(name) == "":
            raise Refused(-1105, f"Parameter '{name}' was empty.")
        return self._sent.get(name)

    def required(self, name: str) -> str:
        if not self._sent.get(name):
            self._read.add(name)
            raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return self.text(name)

    def symbol(self, name: str = "symbol") -> str:
        symbol = self.required(name)
        if symbol not in self._symbols:
            raise Refused(-1121, "Invalid symbol.")
        return symbol

    def optional_symbol(self) -> str | None:
        return None if self.text("symbol") is None else self.symbol()

    def whole(self, name: str) -> int | None:
        text = self.text(name)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) <= 18):
            legal = "^[0-9]{1,20}$"
            raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        return None if text is None else int(text)

    def limit(self, default: int, most: int) -> int:
        limit = self.whole("limit")
        if limit is not None and not 1 <= limit <= most:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit or default

    def interval(self) -> str:
        interval = self.required("interval")
        if interval not in INTERVALS:
            raise Refused(-1120, "Invalid interval.")
        return interval

    def span(self) -> tuple[int | None, int | None]:
        start_ms, end_ms = self.whole("startTime"), self.whole("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise Refused(-1023, "Start time is greater than end time.")
        return start_ms, end_ms

    def check_all_read(self) -> None:
        if set(self._sent) - self._read:
            read, sent = len(self._read & set(self._sent)), len(self._sent)
            message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            raise Refused(-1104, message)


@dataclass(frozen=True)
class Call:
    """A request understood: its weight, what answers it (None where there is no data), headers to tell then."""

    weight: int
    answer: Callable[[], str | None]
    headers: Callable[[], Mapping[str, str]] = dict


async def _nothing() -> None:
    """No preparation."""


def _forget(seconds: float) -> None:
    """What only asks need not be done later."""


@dataclass(frozen=True)
class Work:
    """What a request asks to be done.

    Parameters
    ----------
    understood : the request's parameters, checked.
    do : has the answer made, where that may be.
    prepare : comes before.
    defer : has all of it done so many market seconds later, unheard.
    """

    understood: Callable[[], Call]
    do: Callable[[Callable[[], str | None]], Awaitable[str | None]]
    prepare: Callable[[], Awaitable[None]] = _nothing
    defer: Callable[[float], None] = _forget


Understand = Callable[[Market, int, Query], Call]  # a request, at a market time in milliseconds
