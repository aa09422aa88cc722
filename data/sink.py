"""What takes the messages of streams, and hears how their connections fare."""

from collections.abc import Sequence
from typing import Protocol


class Sink(Protocol):
    """Who takes what the streams bring. Called from the event loop, so it must not wait; what it raises ends the run.

    ``connection`` is the number of a socket's place, see ``data.wal.connection_of``: the same after a reconnect.
    ``life`` counts the attempts of that place from 1. ``recv_ns`` is the clock's stamp and grows strictly: over
    everything with a clock of one's own, over each connection with a followed clock, where each is told the time by
    itself.

    A connection that is replaced as planned overlaps with its successor: life 2 opens, then life 1 closes. Between the
    two, every message comes twice under the same number.
    """

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str], life: int) -> None:
        """A connection is up and subscribed."""

    def burst(self, connection: int, frames: Sequence[tuple[int, bytes]]) -> None:
        """What one read of a socket brought, or a part of it: when each message came, and what exactly."""

    def closed(self, recv_ns: int, connection: int, reason: str, life: int, heard_ns: int) -> None:
        """A connection ended, or could not be had: then it was never ``opened`` and ``heard_ns`` is 0.

        ``heard_ns``: when anything arrived on it last. A line that died unnoticed lost what came after that.
        """
