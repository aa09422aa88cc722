"""What the loopback exchange really sent, and what it did to messages: for tests to compare a recorder with."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import polars as pl

LOSSES = ("drop", "silence", "malformed", "missing_field")  # after these nobody can tell what the message said
LOST = pl.Schema({"stream": pl.String, "time_ns": pl.Int64, "payload": pl.Binary})
_SCHEMA = pl.Schema(
    {
        "time_ns": pl.Int64,  # when the message is due, or the event happened
        "connection": pl.Int64,  # in the order in which they were accepted, from 0; null where all are meant
        "socket": pl.Int64,
        "stream": pl.String,  # null of events that befall a connection
        "what": pl.String,  # a fault's kind; outage, skip
        "payload": pl.Binary,  # the message as it would have been
    }
)


class _Effect(NamedTuple):
    time_ns: int
    connection: int | None
    socket: int | None
    stream: str | None
    what: str
    payload: bytes | None


class Truth:
    """A log that grows while the exchange is at work. Times are the market's, nanoseconds since 1970."""

    def __init__(self) -> None:
        self._effects: list[_Effect] = []
        self._spans: dict[int, list[tuple[tuple[str, ...], list[int]]]] = defaultdict(list)

    def note(
        self,
        time_ns: int,
        what: str,
        *,
        connection: int | None = None,
        socket: int | None = None,
        stream: str | None = None,
        payload: bytes | None = None,
    ) -> None:
        """Something was done to a message, a connection or all of them."""
        self._effects.append(_Effect(time_ns, connection, socket, stream, what, payload))

    def sent(self, connection: int, names: tuple[str, ...], after_ns: int, to_ns: int) -> None:
        """A connection was sent all that its streams carried in (after_ns, to_ns], except what is noted."""
        spans = self._spans[connection]
        if spans and spans[-1][0] == names and spans[-1][1][1] == after_ns:
            spans[-1][1][1] = to_ns
        else:
            spans.append((names, [after_ns, to_ns]))

    def frame(self) -> pl.DataFrame:
        """What was done, in the order in which it was done."""
        return pl.DataFrame(self._effects, _SCHEMA, orient="row")

    def reached(self, stream: str, times_ns: np.ndarray) -> np.ndarray:
        """Whether the stream's messages of those times were sent whole to at least one connection; bool."""
        spoilt: dict[int | None, set[int]] = defaultdict(set)
        for effect in self._effects:
            if effect.what in LOSSES and effect.stream == stream:
                spoilt[effect.connection].add(effect.time_ns)
        found = np.zeros(times_ns.size, bool)
        for connection, spans in self._spans.items():
            whole = ~np.isin(times_ns, np.array(sorted(spoilt[connection]), np.int64))
            for names, (after_ns, to_ns) in spans:
                if stream in names:
                    found |= whole & (times_ns > after_ns) & (times_ns <= to_ns)
        return found
