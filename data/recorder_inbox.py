"""Where everything goes that a recorder receives: into the raw log, counted on the way."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from data.recorder_rest import Question
from data.wal import Kind, Log, answer, note

_FRAME = int(Kind.FRAME)  # a plain number packs faster
MEMORY_BYTES = 256 * 2**20  # frames kept in memory while the disk is full


class Inbox:
    """Where everything that arrives goes: into the raw log, counted by stream. The ``Sink`` of ``data.stream``."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._write = log.write
        self._open: set[int] = set()
        self._known: set[int] = set()
        self._dropped: Counter[str] = Counter()  # by stream name, since the disk refused
        self._dropped_from_ns = self._dropped_to_ns = 0
        self.frames: defaultdict[bytes, int] = defaultdict(int)  # by stream name
        self.reconnects = 0
        self.last_ns = 0
        self.last_payload = b""
        self.disk_trouble: str | None = None
        self.dropped = 0
        self.is_listening = asyncio.Event()  # set at the first connection

    @property
    def connected(self) -> int:
        """Open connections."""
        return len(self._open)

    @property
    def connections(self) -> int:
        """Connections that were ever opened, however often each."""
        return len(self._known)

    def messages(self) -> dict[str, int]:
        """Frames per kind of stream, such as aggTrade or kline_1m; control replies aside."""
        counts = Counter()
        for name, count in self.frames.items():
            symbol, separator, kind = name.partition(b"@")
            if separator:
                counts[(symbol[1:] if symbol.startswith(b"!") else kind.partition(b"@")[0]).decode()] += count
        return dict(sorted(counts.items()))

    def frame(self, recv_ns: int, connection: int, payload: bytes) -> None:
        if self.disk_trouble is not None and self._log.buffered_bytes > MEMORY_BYTES:
            self._drop(recv_ns, payload)
            return
        self._write(recv_ns, _FRAME, connection, payload)
        self.frames[payload[11 : payload.find(b'"', 11)]] += 1  # {"stream":"btcusdt@aggTrade","data":...
        self.last_ns = recv_ns
        self.last_payload = payload

    def burst(self) -> None:
        """Hand what arrived to the kernel. A disk that refuses is asked again with every burst."""
        try:
            self._log.flush()
        except OSError as error:
            self.refused(error)
            return
        if self.disk_trouble is not None:
            self._resume()

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str]) -> None:
        self.reconnects += connection in self._known
        self._open.add(connection)
        self._known.add(connection)
        self.note(recv_ns, "opened", connection, streams=list(streams))
        self.is_listening.set()

    def closed(self, recv_ns: int, connection: int, reason: str) -> None:
        self._open.discard(connection)
        self.note(recv_ns, "closed", connection, reason=reason)

    def note(self, recv_ns: int, what: str, connection: int = 0, **told: object) -> None:
        """Log what happened to the connection or to us."""
        self._write(recv_ns, Kind.NOTE, connection, note(what, **told))
        self.burst()

    def answers(self, answered: Iterable[tuple[int, Question, int, bytes]]) -> None:
        """Log REST answers (when, to what, listening since, body), together in one segment: some explain others."""
        for recv_ns, question, since_ms, body in answered:
            self._write(recv_ns, Kind.ANSWER, 0, answer(question.path, question.params, since_ms, body))
        self.burst()

    def refused(self, error: OSError) -> None:
        """The disk took nothing."""
        self.disk_trouble = f"the raw log cannot be written: {error.strerror or error}; waiting, kept in memory"

    def _drop(self, recv_ns: int, payload: bytes) -> None:
        """Throw a frame away, but remember of which stream."""
        self._dropped_from_ns = self._dropped_from_ns or self.last_ns
        self._dropped[payload[11 : payload.find(b'"', 11)].decode()] += 1
        self._dropped_to_ns = recv_ns
        self.dropped += 1

    def _resume(self) -> None:
        """The disk takes what arrives again."""
        self.disk_trouble = None
        if self._dropped:
            told = {"streams": dict(self._dropped), "from_ns": self._dropped_from_ns, "to_ns": self._dropped_to_ns}
            self._dropped.clear()
            self._dropped_from_ns = 0
            self.note(self._dropped_to_ns, "dropped", cause="disk", **told)
