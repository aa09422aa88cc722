"""What each connection will be sent of a chunk, as bytes ready for its socket."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np

from data.loopback.chunk import Chunk
from data.loopback.streams import stream_of

STAMP_BYTES = 10  # of the ping before a follower's message
_WHOLE_TEXT, _WHOLE_PING = b"\x81", b"\x89"  # first byte of a WebSocket frame
_LENGTH_BYTES = {126: 2, 127: 8}  # that follow, by what stands in the second byte


@dataclass(frozen=True, kw_only=True)
class Listener:
    """What makes connections alike: the same bytes go to all of them."""

    names: tuple[str, ...]  # sorted, so that messages of one moment always come in the same order
    is_combined: bool
    is_follower: bool


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Messages in the order of delivery.

    ``times_ns`` int64; ``wire`` one WebSocket frame per message, a follower's each after the stamp of its time;
    ``streams`` which of ``names`` each belongs to.
    """

    times_ns: np.ndarray
    wire: list[bytes]
    streams: np.ndarray
    names: tuple[str, ...]

    def between(self, first: int, last: int) -> tuple[list[bytes], dict[int, int]]:
        """The messages of [first, last), and how many there are of each stream."""
        counts = np.bincount(self.streams[first:last])
        return self.wire[first:last], {int(stream): int(counts[stream]) for stream in np.flatnonzero(counts)}


class Deliveries:
    """A chunk and the queues made from it."""

    def __init__(self, chunk: Chunk, symbols: Sequence[str]):
        self.chunk = chunk
        self._symbols = symbols
        self._queues: dict[Listener, Queue] = {}
        self._framed: dict[tuple[str, bool], tuple[np.ndarray, list[bytes]]] = {}

    def is_ready(self, listener: Listener) -> bool:
        return listener in self._queues

    def queue(self, listener: Listener) -> Queue:
        """What such a listener is sent; made at the first call."""
        if listener not in self._queues:
            self._queues[listener] = self._made(listener)
        return self._queues[listener]

    def _made(self, listener: Listener) -> Queue:
        parts = [self._frames(name, listener.is_combined) for name in listener.names]
        places = np.concatenate([np.empty(0, np.int64), *(place for place, _ in parts)])
        streams = np.repeat(np.arange(len(parts)), [place.size for place, _ in parts])
        order = np.argsort(places, kind="stable")
        times_ns = self.chunk.times_ns[places[order]]
        frames = list(chain.from_iterable(frames for _, frames in parts))
        wire = [frames[place] for place in order.tolist()]
        if listener.is_follower:
            wire = [stamp + frame for stamp, frame in zip(stamps(times_ns), wire, strict=True)]
        return Queue(times_ns=times_ns, wire=wire, streams=streams[order], names=listener.names)

    def _frames(self, name: str, is_combined: bool) -> tuple[np.ndarray, list[bytes]]:
        """Places and WebSocket frames of one stream."""
        stream = stream_of(name, self._symbols)
        if stream is None:
            return np.empty(0, np.int64), []
        if (name, is_combined) not in self._framed:
            places, payloads = self.chunk.messages(stream)
            head, tail = (f'{{"stream":"{name}","data":'.encode(), b"}") if is_combined else (b"", b"")
            size = len(head) + len(tail)
            frames = [_header(size + len(payload)) + head + payload + tail for payload in payloads]
            self._framed[name, is_combined] = places, frames
        return self._framed[name, is_combined]


@cache
def _header(size: int) -> bytes:
    """What precedes a text of that many bytes on the wire."""
    if size < 126:
        return _WHOLE_TEXT + size.to_bytes(1, "big")
    if size < 65_536:
        return _WHOLE_TEXT + b"\x7e" + size.to_bytes(2, "big")
    return _WHOLE_TEXT + b"\x7f" + size.to_bytes(8, "big")


def text_frame(payload: bytes) -> bytes:
    """A text as it is on the wire."""
    return _header(len(payload)) + payload


def payload_of(wire: bytes) -> bytes:
    """The text of the first frame of some that ``text_frame`` made."""
    begin = 2 + _LENGTH_BYTES.get(wire[1], 0)
    size = wire[1] if begin == 2 else int.from_bytes(wire[2:begin], "big")
    return wire[begin : begin + size]


def stamps(times_ns: np.ndarray) -> list[bytes]:
    """Pings as they are on the wire, each telling one time."""
    pings = np.empty((times_ns.size, STAMP_BYTES), np.uint8)
    pings[:, 0], pings[:, 1] = _WHOLE_PING[0], 8
    pings[:, 2:] = times_ns.astype(">u8").view(np.uint8).reshape(-1, 8)
    wire = pings.tobytes()
    return [wire[first : first + STAMP_BYTES] for first in range(0, len(wire), STAMP_BYTES)]
