"""What takes the messages of streams, and hears how their connections fare."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from data.wal import HEADER_BYTES


class Arrived(Sequence[tuple[int, bytes]]):
    """Plain messages of one read, as ``Sink.burst`` takes them, with the records of the raw log already made of them.

    A message is cut out of the records when somebody looks at it: to make some hundred at once costs less than a few
    at every read.

    Attributes
    ----------
    records : as ``data.wal.Log.write_all`` would make them.

    Parameters
    ----------
    first_ns : when the first came; each of the others came a nanosecond after the one before.
    ends : of each record, bytes from the beginning of the first.
    """

    __slots__ = ("_ends", "_first_ns", "records")

    def __init__(self, records: bytes, first_ns: int, ends: Sequence[int]):
        self.records = records
        self._first_ns, self._ends = first_ns, ends

    @property
    def last_ns(self) -> int:
        """When the last came."""
        return self._first_ns + len(self._ends) - 1

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> tuple[int, bytes]:
        index = range(len(self._ends))[index]
        begin = self._ends[index - 1] if index else 0
        return self._first_ns + index, self.records[begin + HEADER_BYTES : self._ends[index]]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        records, begin, payloads = self.records, HEADER_BYTES, []
        for end in self._ends:
            payloads.append(records[begin:end])
            begin = end + HEADER_BYTES
        return enumerate(payloads, self._first_ns)


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
