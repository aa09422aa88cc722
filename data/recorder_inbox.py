"""Where everything goes that a recorder receives: into the raw log, counted and watched on the way."""

import asyncio
import itertools
import logging
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from data.sink import Arrived
from data.stream_names import stream_of
from data.venues.questions import Question
from data.wal import Kind, Log, answer, connection_of, note, origin_of
from data.watch import Dead, Watch

MEMORY_BYTES = 256 * 2**20  # frames kept in memory while the disk is full
_AT_ONCE = 256  # frames: looked at together, while the code is in the processor's cache
_LOG = logging.getLogger("data.recorder")


class Inbox:
    """Where everything that arrives goes: into the raw log first, then through the watch. The ``Sink`` of streams.

    Attributes
    ----------
    reconnects, rotations : how often a connection was opened again after it had ended, and before.
    total : frames of all streams.
    last_ns, last_payload : of the frame that came last.
    disk_trouble : why the log takes nothing; None while it does.
    dropped : frames that neither disk nor memory took.
    is_listening : set at the first connection.
    """

    def __init__(self, log: Log, watch: Watch | None = None) -> None:
        self._watch = watch or Watch()
        self._unwatched: list[tuple[int, Sequence[tuple[int, bytes]]]] = []  # bursts that it has not seen yet
        self._unwatched_frames = 0
        self.reconnects = self.rotations = 0
        self.total = self.last_ns = 0
        self.last_payload = b""
        self.disk_trouble: str | None = None
        self.dropped = 0
        self.is_listening = asyncio.Event()
        self._log = log
        self._open: dict[int, dict[int, list[str]]] = {}  # streams by connection and life; empty where none goes on
        self._dropped: dict[str, Counter[str]] = {}  # by venue and stream, since the disk refused
        self._ever_dropped: Counter[str] = Counter()
        self._dropped_from_ns = self._dropped_to_ns = 0
        self._kept_ns = 0  # when the last frame came that was not dropped

    @property
    def watch(self) -> Watch:
        """What is known of the streams, up to the frame that came last."""
        self._look()
        return self._watch

    @property
    def connected(self) -> int:
        """Connections that are up."""
        return sum(map(bool, self._open.values()))

    @property
    def connections(self) -> int:
        """Connections that were ever opened, however often each."""
        return len(self._open)

    @property
    def frames(self) -> dict[str, int]:
        """Frames that were kept, by stream."""
        return {name: count - self._ever_dropped[name] for name, count in self.watch.frames.items()}

    def messages(self) -> dict[str, int]:
        """Frames that were kept, per kind of stream such as aggTrade or kline_1m; each copy of a message counts."""
        counts: Counter[str] = Counter()
        for name, count in self.frames.items():
            symbol, _, kind = name.partition("@")
            if count:
                counts[symbol[1:] if symbol.startswith("!") else kind.partition("@")[0]] += count
        return dict(sorted(counts.items()))

    def burst(self, connection: int = 0, frames: Sequence[tuple[int, bytes]] = ()) -> None:
        """Log what arrived. A disk that refuses is asked again with every burst, an empty one too.

        The watch looks at many frames together, when some hundred have come or somebody wants to know: one read brings
        few of them, and to look at each at once would cost more than to receive it.
        """
        if self.disk_trouble is not None:
            self._keep(connection, frames)
        elif isinstance(frames, Arrived):
            self._log.write_records(frames.records)
        else:
            self._log.write_all(Kind.FRAME, connection, frames)
        if count := len(frames):
            self.total += count
            self.last_ns, self.last_payload = frames[-1]
            if self.disk_trouble is None:
                self._kept_ns = self.last_ns
            self._unwatched.append((connection, frames))
            self._unwatched_frames += count
        if self._log.buffered_bytes or self.disk_trouble is not None:
            self._flush()
        if self._unwatched_frames >= _AT_ONCE:
            self._look()

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str], life: int) -> None:
        lives = self._open.get(connection)
        if lives is None:
            lives = self._open[connection] = {}
        elif lives:
            self.rotations += 1
        else:
            self.reconnects += 1
        lives[life] = list(streams)
        self.watch.opened(recv_ns, connection, streams, life)
        self.note(recv_ns, "opened", connection, streams=lives[life], life=life)
        self.is_listening.set()

    def closed(self, recv_ns: int, connection: int, reason: str, life: int, heard_ns: int) -> None:
        self._open.get(connection, {}).pop(life, None)
        self.watch.closed(connection, life)
        self.note(recv_ns, "closed", connection, reason=reason, life=life, heard_ns=heard_ns)

    def silent(self, now_ns: int, connections: Collection[int]) -> list[Dead]:
        """Note which streams fell silent or came back; returns those that are dead, see ``Watch.silent``."""
        verdict = self.watch.silent(now_ns, connections)
        for what, silences in (("stream_silent", verdict.began), ("stream_back", verdict.ended)):
            for connection, stream, from_ns in silences:
                self.note(now_ns, what, connection, stream=stream, from_ns=from_ns)
        return verdict.dead

    def checkpoint(self, recv_ns: int) -> None:
        """Note who listens and what is silent there, at the beginning of every segment after the first.

        So each can be understood alone.
        """
        listening = [
            (connection, life, streams, self.watch.heard_ns(connection))
            for connection, lives in sorted(self._open.items()) for life, streams in lives.items()
        ]  # fmt: skip
        silent = self.watch.silences()
        self.note(recv_ns, "listening", open=listening, **({"silent": silent} if silent else {}))

    def note(self, recv_ns: int, what: str, connection: int = 0, **told: object) -> None:
        """Log what happened to the connection or to us."""
        self._log.write(recv_ns, Kind.NOTE, connection, note(what, **told))
        self.burst()
        if what != "listening":
            _LOG.info(what, extra={"told": {"connection": connection, **told}})

    def answers(self, answered: Iterable[tuple[int, Question, int, bytes]]) -> None:
        """Log REST answers (when, to what, listening since, body), together in one segment: some explain others."""
        for recv_ns, question, since_ms, body in answered:
            told = answer(question.path, question.params, since_ms, body, gap_id=question.gap_id)
            self._log.write(recv_ns, Kind.ANSWER, connection_of(question.venue), told)
        self.burst()

    def refused(self, error: OSError) -> None:
        """The disk took nothing."""
        self.disk_trouble = f"the raw log cannot be written: {error.strerror or error}; waiting, kept in memory"

    def _keep(self, connection: int, frames: Sequence[tuple[int, bytes]]) -> None:
        """Keep frames in memory while there is room; throw the others away, but remember of which stream."""
        for recv_ns, payload in frames:
            if self._log.buffered_bytes <= MEMORY_BYTES:
                self._log.write(recv_ns, Kind.FRAME, connection, payload)
                self._kept_ns = recv_ns
                continue
            name = stream_of(payload)
            self._dropped_from_ns = self._dropped_from_ns or self._kept_ns
            self._dropped.setdefault(origin_of(connection).venue, Counter())[name] += 1
            self._ever_dropped[name] += 1
            self._dropped_to_ns = recv_ns
            self.dropped += 1

    def _flush(self) -> None:
        """Ask the disk again to take what waits."""
        try:
            self._log.flush()
        except OSError as error:
            self.refused(error)
        else:
            if self.disk_trouble is not None:
                self._resume()

    def _resume(self) -> None:
        """The disk takes what arrives again."""
        self.disk_trouble = None
        dropped, self._dropped = self._dropped, {}
        told = {"from_ns": self._dropped_from_ns, "to_ns": self._dropped_to_ns}
        self._dropped_from_ns = 0
        for venue, streams in dropped.items():
            self.note(self._dropped_to_ns, "dropped", connection_of(venue), cause="disk", streams=streams, **told)

    def _look(self) -> None:
        bursts, self._unwatched, self._unwatched_frames = self._unwatched, [], 0
        for connection, of_it in itertools.groupby(bursts, key=operator.itemgetter(0)):
            self._watch.take(connection, itertools.chain.from_iterable(frames for _, frames in of_it))
