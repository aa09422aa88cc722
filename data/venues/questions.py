"""Where an exchange is, and what is asked of it: plain facts, nothing is sent from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Where an exchange is, and what it speaks.

    Parameters
    ----------
    name : as users call it.
    rest_url, stream_url : without a slash at the end.
    is_loopback : our own loopback exchange, which tells its clients the time.
    speaks : one of ``data.wal.VENUES``: how its messages read, and the name under which their rows are stored.
    entries : (kind of stream, path behind ``stream_url``) where different kinds come on different paths; the first
        whose kind the stream begins with counts.
    """

    name: str
    rest_url: str
    stream_url: str
    is_loopback: bool = False
    speaks: str = "aster"
    entries: tuple[tuple[str, str], ...] = ()

    def stream_url_of(self, stream: str) -> str:
        """Where a stream such as btcusdt@depth5@100ms or !forceOrder@arr comes: what stands before /stream or /ws."""
        kind = stream.removeprefix("!") if stream.startswith("!") else stream.partition("@")[2]
        path = next((path for begin, path in self.entries if kind.startswith(begin)), "")
        return self.stream_url + path

    def speaking(self, venue: str) -> "Venue":
        """The same place, spoken to as another venue: a loopback exchange answers for several."""
        return replace(self, speaks=venue)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request for public data.

    Parameters
    ----------
    path : such as /fapi/v3/klines.
    params : in the venue's own names; the query of a GET, the JSON object of a POST.
    venue : one of ``data.wal.VENUES``: under whose name the answer's rows are stored.
    gap_id : the gap of the ledger that the answer shall fill; None for what is asked anyway.
    is_post : sent as a POST, as Hyperliquid wants it.
    """

    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    venue: str = "aster"
    gap_id: str | None = None
    is_post: bool = False
