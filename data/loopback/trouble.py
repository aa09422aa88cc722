"""Stream faults at work: what they make of the messages that a connection would be sent, and when moments are due."""

import heapq
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

import numpy as np

from data.loopback.delivery import STAMP_BYTES, Queue, payload_of, stamps, text_frame
from data.loopback.faults import MESSAGE_KINDS, MOMENT_KINDS, StreamFault
from data.loopback.truth import Truth

_SECOND_NS = 1_000_000_000
_NEVER_NS = 1 << 62
_ORDER = {kind: place for place, kind in enumerate(MESSAGE_KINDS)}
_ANY_SENT_TIME = re.compile(rb'"E":[^,]+,')
_PREVIOUS_ID = re.compile(rb'"pu":(\d+)')
_EVENT, _STRANGER = re.compile(rb'"e":"\w+"'), b'"e":"stranger"'


class Sufferer(Protocol):
    """A connection, as far as faults are concerned.

    ``dead_streams`` maps the streams that fell silent on it to the time at which they speak again; ``held`` is its heap
    of late messages.
    """

    number: int
    socket: int
    is_follower: bool
    dead_streams: dict[str, int]
    held: "list[Held]"


@dataclass(frozen=True, order=True)
class Held:
    """A message on its way: late."""

    due_ns: int
    number: int
    stream: str
    time_ns: int
    wire: bytes


class _Active:
    """A fault with its times, nanoseconds since 1970; it ends before ``to_ns``."""

    def __init__(self, fault: StreamFault, seed: int, number: int, origin_ns: int):
        self.fault = fault
        self.from_ns = origin_ns + round(fault.from_s * _SECOND_NS)
        self.to_ns = _NEVER_NS if fault.for_s is None else self.from_ns + round(fault.for_s * _SECOND_NS)
        self.moment_ns = self.from_ns if fault.kind in MOMENT_KINDS else _NEVER_NS
        self._seed, self._number = seed, number
        self._matching = lru_cache(maxsize=64)(self._matched)

    def matching(self, names: tuple[str, ...]) -> np.ndarray:
        """Which of the streams it befalls, bool."""
        return self._matching(names)

    def befalls(self, socket: int, names: tuple[str, ...], time_ns: int) -> bool:
        """Whether chance and its settings let it befall a connection at that time."""
        is_meant = self.fault.socket in (None, socket) and (self.matching(names).any() or not names)
        return is_meant and bool(self.hits(socket, np.array([time_ns]))[0])

    def hits(self, socket: int, times_ns: np.ndarray) -> np.ndarray:
        """Which of the messages of those times have bad luck, bool."""
        if self.fault.rate >= 1:
            return np.ones(times_ns.size, bool)
        place = "all" if self.fault.together else socket
        key = blake2b(f"{self._seed}/{self._number}/{place}".encode(), digest_size=8).digest()
        return _chances(times_ns, int.from_bytes(key, "big")) < self.fault.rate

    def _matched(self, names: tuple[str, ...]) -> np.ndarray:
        return np.array([fnmatchcase(name, self.fault.streams) for name in names], bool)


class Trouble:
    """Every stream fault in force."""

    def __init__(self, seed: int, truth: Truth):
        self._seed, self._truth = seed, truth
        self._active: list[_Active] = []
        self._numbers = itertools.count()

    def add(self, faults: Sequence[StreamFault], origin_ns: int) -> None:
        """Put faults into force; their times count from ``origin_ns``."""
        for fault in faults:
            self._active.append(_Active(fault, self._seed, len(self._active), origin_ns))
        self._active.sort(key=lambda each: _ORDER.get(each.fault.kind, -1))

    def next_moment_ns(self) -> int:
        """When the next moment is due."""
        return min((each.moment_ns for each in self._active), default=_NEVER_NS)

    def moments(
        self, now_ns: int, connections: Sequence[tuple[Sufferer, tuple[str, ...]]]
    ) -> Iterator[tuple[str, Sufferer]]:
        """What befalls connections (each with its streams) now: kinds of faults. Silence is dealt with here."""
        for each in self._active:
            while each.moment_ns <= now_ns:
                due_ns, every_s = each.moment_ns, each.fault.every_s
                each.moment_ns = _NEVER_NS if every_s is None else due_ns + round(every_s * _SECOND_NS)
                for connection, names in connections:
                    if not each.befalls(connection.socket, names, due_ns):
                        continue
                    if each.fault.kind == "silence":
                        until_ns = each.to_ns - each.from_ns + due_ns if each.fault.for_s is not None else _NEVER_NS
                        dead = itertools.compress(names, each.matching(names).tolist())
                        connection.dead_streams.update(dict.fromkeys(dead, until_ns))
                    else:
                        yield each.fault.kind, connection

    def refusal(self, socket: int, names: tuple[str, ...], now_ns: int) -> StreamFault | None:
        """The fault with which an opening handshake is refused now; None when it may come in."""
        for each in self._active:
            is_now = each.fault.kind == "refuse" and each.from_ns <= now_ns < each.to_ns
            if is_now and each.befalls(socket, names, now_ns):
                return each.fault
        return None

    def concerns(self, connection: Sufferer, after_ns: int, to_ns: int) -> bool:
        """Whether anything may be wrong with what this connection is sent of (after_ns, to_ns]."""
        return bool(connection.dead_streams or connection.held) or any(self._of(connection, after_ns, to_ns))

    def sent(
        self, connection: Sufferer, queue: Queue, first: int, last: int, after_ns: int, to_ns: int
    ) -> tuple[list[bytes], dict[int, int]]:
        """The messages [first, last) of its queue as this connection gets them, and how many there are of each stream.

        With them come those that were late and are due by ``to_ns``.
        """
        times_ns, streams = queue.times_ns[first:last], queue.streams[first:last]
        wire = queue.wire[first:last]
        counts = Counter(streams.tolist())
        for name, until_ns in tuple(connection.dead_streams.items()):
            if until_ns <= after_ns:
                del connection.dead_streams[name]
            elif name in queue.names:
                silent = (streams == queue.names.index(name)) & (times_ns < until_ns)
                self._spoil("silence", connection, queue, first, np.flatnonzero(silent), wire, counts)
        for each in self._of(connection, after_ns, to_ns):
            is_hit = each.matching(queue.names)[streams] if streams.size else np.zeros(0, bool)
            is_hit &= (times_ns >= each.from_ns) & (times_ns < each.to_ns)
            is_hit &= each.hits(connection.socket, times_ns)
            kind, by_s, places = each.fault.kind, each.fault.by_s, np.flatnonzero(is_hit)
            self._spoil(kind, connection, queue, first, places, wire, counts, by_s)
        arrived: dict[int, list[bytes]] = defaultdict(list)  # by the place before which they come
        while connection.held and connection.held[0].due_ns <= to_ns:
            late = heapq.heappop(connection.held)
            arrived[int(np.searchsorted(times_ns, late.due_ns))].append(late.wire)
            if late.stream in queue.names:
                counts[queue.names.index(late.stream)] += 1
        if arrived:
            wire.append(b"")
        for place, messages in arrived.items():
            wire[place] = b"".join(messages) + wire[place]
        return wire, {stream: count for stream, count in counts.items() if count}

    def lose(self, connection: Sufferer) -> None:
        """The connection has ended: what was still on its way to it is lost."""
        while connection.held:
            late = heapq.heappop(connection.held)
            self._note("drop", connection, late.stream, late.time_ns, late.wire)

    def _of(self, connection: Sufferer, after_ns: int, to_ns: int) -> Iterator[_Active]:
        """Faults of single messages that may befall this connection in (after_ns, to_ns]."""
        for each in self._active:
            is_then = each.from_ns <= to_ns and after_ns < each.to_ns
            if is_then and each.fault.kind in MESSAGE_KINDS and each.fault.socket in (None, connection.socket):
                yield each

    def _spoil(
        self,
        kind: str,
        connection: Sufferer,
        queue: Queue,
        first: int,
        places: np.ndarray,
        wire: list[bytes],
        counts: Counter[int],
        by_s: float = 0.0,
    ) -> None:
        """Do one kind of harm to the messages at some places of ``wire``; what was dropped before stays so."""
        start = STAMP_BYTES if connection.is_follower else 0
        for place in places.tolist():
            message = wire[place]
            if not message:
                continue
            time_ns, stream = int(queue.times_ns[first + place]), int(queue.streams[first + place])
            if kind in ("drop", "silence", "late"):
                wire[place] = b""
                counts[stream] -= 1
                if kind == "late":
                    due_ns = time_ns + round(by_s * _SECOND_NS)
                    stamp = stamps(np.array([due_ns]))[0] if connection.is_follower else b""
                    name = queue.names[stream]
                    late = Held(due_ns, next(self._numbers), name, time_ns, stamp + message[start:])
                    heapq.heappush(connection.held, late)
            elif kind in ("duplicate", "unknown_event"):
                said = payload_of(message[start:])
                said = said if kind == "duplicate" else _EVENT.sub(_STRANGER, said, count=1)
                wire[place] = message + text_frame(said)
                counts[stream] += 1
            else:
                said = payload_of(message[start:])
                spoilt = _spoilt(kind, said)
                if spoilt == said:
                    continue
                wire[place] = message[:start] + text_frame(spoilt)
            self._note(kind, connection, queue.names[stream], time_ns, queue.wire[first + place])

    def _note(self, kind: str, connection: Sufferer, stream: str, time_ns: int, wire: bytes) -> None:
        start = STAMP_BYTES if connection.is_follower else 0
        number, socket, said = connection.number, connection.socket, payload_of(wire[start:])
        self._truth.note(time_ns, kind, connection=number, socket=socket, stream=stream, payload=said)


def _spoilt(kind: str, said: bytes) -> bytes:
    """A message's text with something wrong; as it was where that cannot go wrong with it."""
    if kind == "malformed":
        return said[: len(said) // 2]
    if kind == "new_field":
        return said.replace(b'"E":', b'"surprise":"new","E":', 1)
    if kind == "missing_field":
        return _ANY_SENT_TIME.sub(b"", said, count=1)
    return _PREVIOUS_ID.sub(lambda found: b'"pu":%d' % (int(found[1]) + 1), said, count=1)


def _chances(times_ns: np.ndarray, key: int) -> np.ndarray:
    """Numbers in [0, 1), as if drawn at random, one for each time and always the same under the same key.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    mixed = times_ns.astype(np.uint64) ^ np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
