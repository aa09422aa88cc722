"""When somebody listened: which streams of a recorder had a socket on them, and where all of them were gone.

A pure fold over the records of one recorder's log. A stream is heard as long as one socket of its pair is; what the
exchange sent in the time between is lost, and for most tables nothing ever brings it back. Times are nanoseconds since
1970 by the clock that stamped the records.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from data.manifest import Listened
from data.wal import Kind, Record, origin_of

OPEN = "open"  # a socket was still listening
CUT = "cut"  # the records behind this one cannot be read
_STEADY = "@markPrice"  # once a second: a connection with it is never quiet for long
_QUIET_NS = 5 * 10**9
REMEMBERED_NS = 3_600 * 10**9  # a symbol without trades may show its hole long after the sockets were back
_FRAME = Kind.FRAME

Key = tuple[str, str]  # venue, stream


class Span(NamedTuple):
    """One socket listened in [from_ns, to_ns]; ``cause`` is why it ended there."""

    from_ns: int
    to_ns: int
    cause: str


class Hole(NamedTuple):
    """Nobody listened to this stream in (from_ns, to_ns)."""

    venue: str
    stream: str
    from_ns: int
    to_ns: int
    cause: str


def between(spans: Iterable[Span]) -> list[Span]:
    """What lies between spans that may overlap: in order, none empty, each with the cause of the span before it."""
    holes = []
    reach: Span | None = None
    for span in sorted(spans):
        if reach is not None and span.from_ns > reach.to_ns:
            holes.append(Span(reach.to_ns, span.from_ns, reach.cause))
        if reach is None or span.to_ns > reach.to_ns:
            reach = span
    return holes


def without(spans: Iterable[Span], lost: Sequence[Span]) -> list[Span]:
    """The parts of spans that lie outside of ``lost``; a part that ends where something was lost has its cause."""
    left = list(spans)
    for gone in lost:
        parts = []
        for span in left:
            if span.to_ns <= gone.from_ns or span.from_ns >= gone.to_ns:
                parts.append(span)
                continue
            if span.from_ns < gone.from_ns:
                parts.append(Span(span.from_ns, gone.from_ns, gone.cause))
            if span.to_ns > gone.to_ns:
                parts.append(Span(gone.to_ns, span.to_ns, span.cause))
        left = parts
    return left


@dataclass(kw_only=True)
class _Life:
    """One connection from its opening to its end; ``since`` per stream that it brings."""

    venue: str
    since: dict[str, int]
    silent: set[str] = field(default_factory=set)
    dead_ns: int | None = None  # its last frame, when none came any more long before its end


class Listening:
    """Follows the records of one recorder's folder, segment after segment.

    Parameters
    ----------
    before : what the lake knows: until when each stream was listened to, and why it ended. It tells what was lost
        between the last process and the first record here.

    Attributes
    ----------
    refused : reason per gap whose repair the exchange refused for good.
    firsts : by stream what the exchange answered when it was asked what it has before the first stored row, since
        listening began: the position of the first such row, None for nothing.
    """

    def __init__(self, before: Mapping[Key, Listened] | None = None) -> None:
        self._before = dict(before or {})
        self._lives: dict[tuple[int, int], _Life] = {}  # by connection and life
        self._spans: dict[Key, list[Span]] = {}
        self._lost: dict[Key, list[Span]] = {}
        self._began: dict[Key, int] = {}
        self._joined: set[Key] = set()
        self._is_told = False  # who listened when the first record came
        self._frames: dict[int, int] = {}  # the last frame of each connection
        self._now_ns = 0
        self.refused: dict[str, str] = {}
        self.firsts: dict[Key, int | None] = {}

    @property
    def now(self) -> datetime:
        """When the last record was received, rounded up to the millisecond."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=-(-self._now_ns // 10**6))

    def follow(self, records: Iterable[Record]) -> Iterator[Record]:
        """Hand the records through, taking each: those of one slice, between which nobody asks for holes."""
        self._forget()
        frames = self._frames
        for record in records:
            if record.kind is _FRAME:
                frames[record.connection] = record.recv_ns
            else:
                self.take(record)
            yield record
        self._now_ns = max(self._now_ns, *frames.values(), 0)

    def take(self, record: Record) -> None:
        """Learn from one record; the log's order is kept."""
        self._now_ns = max(self._now_ns, record.recv_ns)
        if record.kind is _FRAME:
            self._frames[record.connection] = record.recv_ns
        elif record.kind is Kind.NOTE:
            with suppress(ValueError, LookupError, TypeError, AttributeError):  # what is no note is told elsewhere
                self._take_note(record, json.loads(record.payload))

    def cut(self) -> None:
        """What follows in this segment cannot be read."""
        self._end_all(CUT, self._process_ns())

    def streams(self) -> list[Key]:
        """Every stream that was ever listened to here."""
        return sorted(self._spans.keys() | {(life.venue, name) for life in self._lives.values() for name in life.since})

    def began_ns(self, key: Key) -> int | None:
        """Since when a stream is recorded, 0 when longer than is known here; None when it never was."""
        return self._began.get(key)

    def join(self, key: Key) -> None:
        """It is known now what the first row of a stream follows: when listening to it began is not asked any more."""
        self._joined.add(key)

    def holes(self) -> list[Hole]:
        """Where nobody listened, in the last slice and the hour before it; a hole that goes on has no end to tell."""
        if not self._is_told:
            return []
        found = []
        for key in self.streams():
            holes = between(without(self._heard(key), self._lost.get(key, ())))
            found += [Hole(*key, hole.from_ns, hole.to_ns, _cause(hole)) for hole in holes]
        return found

    def listened(self) -> list[Listened]:
        """Until when each stream was listened to, and why it ended: ``OPEN`` where it did not."""
        told = []
        for venue, stream in self.streams():
            last = max(self._heard((venue, stream)), key=lambda span: (span.to_ns, span.cause == OPEN), default=None)
            if last is not None:
                until_ns = max(self._process_ns(), last.from_ns) if last.cause == OPEN else last.to_ns
                since_ns = None if (venue, stream) in self._joined else self._began.get((venue, stream)) or None
                told.append(Listened(venue=venue, stream=stream, until_ns=until_ns, why=last.cause, since_ns=since_ns))
        return told

    def _take_note(self, record: Record, told: Mapping[str, Any]) -> None:
        match told["note"]:
            case "started" | "resumed":
                self._start()
                for venue, streams in told.get("streams", {}).items():
                    for stream in streams:  # before the first is opened the next segment may begin
                        if (venue, stream) in self._before:
                            self._recall((venue, stream), record.recv_ns)
            case "listening":
                self._check(record.recv_ns, told["open"])
                for silence in told.get("silent", ()):
                    self._silence(*silence)
            case "opened":
                self._open(record.connection, told.get("life", 0), told["streams"], record.recv_ns)
            case "closed":
                heard_ns = min(told.get("heard_ns") or record.recv_ns, record.recv_ns)
                self._close(record.connection, told.get("life", 0), heard_ns, _why_closed(told["reason"]))
            case "stopped":
                self._end_all("stopped", record.recv_ns)
            case "dropped":
                venue = origin_of(record.connection).venue
                for stream in told["streams"]:
                    lost = Span(told["from_ns"], told["to_ns"], told.get("cause", "disk"))
                    self._lost.setdefault((venue, stream), []).append(lost)
            case "stream_silent":
                self._silence(record.connection, told["stream"], told["from_ns"])
            case "stream_back":
                self._back(record.connection, told["stream"], record.recv_ns)
            case "refused" if told.get("gap_id"):
                self.refused[told["gap_id"]] = told["reason"]
            case "first":
                self.firsts[told["venue"], told["stream"]] = told["first"]

    def _start(self) -> None:
        """A process begins: whoever listened here before died without a word, as far as it did not say goodbye."""
        self._end_all("crash", self._process_ns())
        self._frames.clear()
        for key, spans in self._spans.items():
            self._spans[key] = [span._replace(cause="crash") if span.cause == CUT else span for span in spans]
        self._before = {
            key: replace(last, why="crash") if last.why in (OPEN, CUT) else last for key, last in self._before.items()
        }
        self._is_told = True

    def _check(self, recv_ns: int, told: Sequence[Sequence[Any]]) -> None:
        """The process says which connections are open at the beginning of a segment."""
        followed = set(self._spans)  # before: both sockets of a pair go on
        for connection, life, streams, *_ in told:
            if (connection, life) in self._lives:
                continue
            venue = origin_of(connection).venue
            since = {}
            for stream in streams:
                last = self._before.get((venue, stream))
                goes_on = last is not None and last.why == OPEN and (venue, stream) not in followed
                since[stream] = min(last.until_ns, recv_ns) if goes_on else recv_ns
                self._recall((venue, stream), recv_ns)
            self._lives[connection, life] = _Life(venue=venue, since=since)
            self._frames.setdefault(connection, recv_ns)
        self._is_told = True

    def _open(self, connection: int, life: int, streams: Sequence[str], recv_ns: int) -> None:
        venue = origin_of(connection).venue
        for stream in streams:
            self._recall((venue, stream), recv_ns)
        for (number, _), older in self._lives.items():
            if number == connection:  # their frames cannot be told apart from now on
                older.dead_ns = older.dead_ns or self._quiet_since(connection, older, recv_ns)
        self._frames[connection] = recv_ns
        self._lives[connection, life] = _Life(venue=venue, since=dict.fromkeys(streams, recv_ns))

    def _recall(self, key: Key, recv_ns: int) -> None:
        """Begin where the lake's knowledge of this stream ends."""
        last = self._before.get(key)
        self._began.setdefault(key, recv_ns if last is None else last.since_ns or 0)
        if self._spans.setdefault(key, []) or last is None or last.why == OPEN:
            return
        self._spans[key].append(Span(0, last.until_ns, last.why))

    def _close(self, connection: int, life: int, heard_ns: int, cause: str) -> None:
        ended = self._lives.pop((connection, life), None)
        if ended is None:  # an attempt that never came to be
            return
        dead_ns = ended.dead_ns or self._quiet_since(connection, ended, heard_ns)
        heard_ns = heard_ns if dead_ns is None else dead_ns
        for stream, since_ns in ended.since.items():
            if stream not in ended.silent:
                self._spans[ended.venue, stream].append(Span(since_ns, max(heard_ns, since_ns), cause))

    def _quiet_since(self, connection: int, life: _Life, at_ns: int) -> int | None:
        """The last frame of a connection that should not have been quiet so long; a peer may ping and send nothing."""
        frame_ns = self._frames.get(connection, at_ns)
        is_steady = any(_STEADY in stream for stream in life.since)
        return frame_ns if is_steady and at_ns - frame_ns > _QUIET_NS else None

    def _silence(self, connection: int, stream: str, from_ns: int) -> None:
        """One stream of a connection that is well otherwise brings nothing any more."""
        life = self._newest(connection, stream)
        if life is not None and stream not in life.silent:
            life.silent.add(stream)
            since_ns = life.since[stream]
            self._spans[life.venue, stream].append(Span(since_ns, max(from_ns, since_ns), "silence"))

    def _back(self, connection: int, stream: str, recv_ns: int) -> None:
        life = self._newest(connection, stream)
        if life is not None and stream in life.silent:
            life.silent.discard(stream)
            life.since[stream] = recv_ns

    def _newest(self, connection: int, stream: str) -> _Life | None:
        lives = [number for each, number in self._lives if each == connection]
        life = self._lives[connection, max(lives)] if lives else None
        return life if life is not None and stream in life.since else None

    def _end_all(self, cause: str, at_ns: int) -> None:
        for connection, life in list(self._lives):
            self._close(connection, life, at_ns, cause)

    def _process_ns(self) -> int:
        """Until when this process surely listened: the last frame that it wrote, on whichever connection."""
        return max(self._frames.values(), default=self._now_ns)

    def _heard(self, key: Key) -> list[Span]:
        """The spans of a stream; those that go on end now."""
        venue, stream = key
        going = [
            Span(life.since[stream], max(self._now_ns, life.since[stream]), OPEN)
            for life in self._lives.values()
            if life.venue == venue and stream in life.since and stream not in life.silent
        ]
        return [*self._spans.get(key, ()), *going]

    def _forget(self) -> None:
        """Drop what ended long ago; the last span of a stream stays, it says since when nobody listens."""
        oldest_ns = self._now_ns - REMEMBERED_NS
        heard = {(life.venue, stream) for life in self._lives.values() for stream in life.since.keys() - life.silent}
        for key, spans in self._spans.items():
            if spans and min(span.to_ns for span in spans) < oldest_ns:
                last = None if key in heard else max(spans, key=lambda span: span.to_ns)
                self._spans[key] = [span for span in spans if span.to_ns >= oldest_ns or span is last]
        for key, lost in self._lost.items():
            self._lost[key] = [span for span in lost if span.to_ns >= oldest_ns]


def _why_closed(reason: str) -> str:
    if reason == "stopped":
        return "stopped"
    return "silence" if reason.startswith(("silent", "dead")) else "reconnect"


def _cause(hole: Span) -> str:
    """Of the ledger's words; an unreadable end of a segment that its process survived is damage."""
    return "corrupt" if hole.cause == CUT else hole.cause
