"""What a recorder knows of its streams while they come: which socket was first, what is missing, late or silent.

Pure: it is told what arrived and what time it is. Nothing of it is stored; gaps are found again, and exactly, in what
was stored.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from data.messages import UNREADABLE, Drift, Unknown, decode
from data.messages_keys import AggTradeKeys, keys_of
from data.stream_names import COMBINED, stream_of
from data.wal import origin_of
from data.watch_trades import Trades

_NS = 10**9
_KEPT = 32_768  # messages: twice as many are remembered until their other copy comes
_PAIRED = -1
_LONGEST_NAME = 64
_LAGS = 2_048  # the latest of a connection
_LAG_EVERY = 0b111  # one message of eight, by the last digits of its time
_CLOSELY_EVERY = 0b111_111  # one message of 64 is read whole, to see fields nobody knows
_MOST_REASONS = 100
_LEAST_SILENCE_NS = 5 * _NS
_SILENT_INTERVALS = 20
_BEHIND_NS = _NS  # by so much one socket may be ahead of the other
_HELPED_WITHIN_NS = 10 * _NS  # subscribing again
_REPLACED_EVERY_NS = 60 * _NS  # doubles as long as it does not help
_REPLACED_AT_LEAST_EVERY_NS = 3_600 * _NS
_NEWEST = 0.05  # weight of one interval in their moving average
_STEADY = "@markPrice"  # in the names of streams that bring a message every second


class Dead(NamedTuple):
    """Streams that are dead on a connection. ``is_lost``: subscribing to them again did not help, or would not."""

    connection: int
    streams: tuple[str, ...]
    is_lost: bool


class Silence(NamedTuple):
    """A stream of which nothing came on a connection since ``from_ns``."""

    connection: int
    stream: str
    from_ns: int


class Verdict(NamedTuple):
    """What has changed since the last look."""

    began: list[Silence]
    ended: list[Silence]
    dead: list[Dead]


class Socket(NamedTuple):
    """Counts of one connection.

    ``second``: copies of what another connection had brought. ``repeats``: further copies, as when a connection is
    replaced. ``only``: messages that came on no other connection, of those that are no longer waited for.
    """

    frames: int
    second: int
    repeats: int
    only: int

    @property
    def first(self) -> int:
        """Messages that it brought before any other."""
        return self.frames - self.second - self.repeats


class Watch:
    """Follows every stream on every connection.

    Attributes
    ----------
    missing_trades : by stream, over all venues: aggregate trades that came on no socket although later ones did.
    unknown : why frames could not be read, and how many.
    drift : fields nobody knows, as "aggTrade: nq", and in how many of the messages that were looked at, one of 64.
    """

    def __init__(self) -> None:
        self.unknown: Counter[str] = Counter()
        self.drift: Counter[str] = Counter()
        self._heard: defaultdict[int, dict[str, _Heard]] = defaultdict(dict)
        self._trades: dict[tuple[str, str], Trades] = {}  # by venue and stream
        self._opened_ns: dict[int, dict[int, int]] = {}  # by connection and life
        self._copies: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])  # second, repeats
        self._only: Counter[int] = Counter()
        self._lags: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=_LAGS))
        self._young: dict[int, int] = {}  # hash of a message: connection that brought it, _PAIRED once another did
        self._old: dict[int, int] = {}
        self._replace_ns = 0  # not before that is a connection replaced because of a stream

    def opened(self, recv_ns: int, connection: int, streams: Iterable[str], life: int) -> None:
        """A connection is up."""
        self._opened_ns.setdefault(connection, {})[life] = recv_ns
        for stream in streams:
            self._hear(connection, stream)

    def closed(self, connection: int, life: int) -> None:
        """A connection ended or could not be had."""
        lives = self._opened_ns.get(connection, {})
        lives.pop(life, None)
        if not lives:
            self._opened_ns.pop(connection, None)

    def take(self, connection: int, frames: Iterable[tuple[int, bytes]]) -> None:
        """Messages of a connection in the order in which they came, each with its time of receipt."""
        here, lags = self._heard[connection], self._lags[connection]
        is_alone = len(self._opened_ns.get(connection, ())) + len(self._opened_ns.get(connection ^ 1, ())) <= 1
        for recv_ns, payload in frames if is_alone else self._without_copies(connection, frames):
            try:
                message = keys_of(payload)
                heard = here[message.stream]
            except UNREADABLE:
                self._take_unreadable(connection, recv_ns, payload)
                continue
            except KeyError:
                heard = self._stranger(connection, message.stream)
                if heard is None:
                    continue
            heard.frames += 1
            heard.last_ns = recv_ns
            if not recv_ns & _LAG_EVERY:
                if message.data.sent_time:
                    lags.append(recv_ns - message.data.sent_time * 1_000_000)
                if not recv_ns & _CLOSELY_EVERY:
                    self._look_closely(payload)
            trades, trade = heard.trades, message.data
            if trades is not None and type(trade) is AggTradeKeys:
                if trade.agg_trade_id == trades.next_id:
                    trades.next_id += 1
                else:
                    trades.jumped(trade.agg_trade_id)

    def _without_copies(self, connection: int, frames: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The messages that came for the first time; the others are counted."""
        here, copies = self._heard[connection], self._copies[connection]
        young, old = self._young, self._old
        shard = connection >> 1
        new = []
        for frame in frames:
            recv_ns, payload = frame
            if not payload.startswith(COMBINED):
                new.append(frame)
                continue
            key = hash(payload) ^ shard  # venues of one family may send the very same bytes
            first = young.get(key)
            if first is None:
                first = old.get(key)
            if first is None:
                young[key] = connection
                new.append(frame)
                continue
            stream = stream_of(payload)
            heard = here.get(stream) or self._stranger(connection, stream)
            if heard is None:
                continue
            heard.frames += 1
            heard.last_ns = recv_ns
            if first != connection and first != _PAIRED:
                copies[0] += 1
                (young if key in young else old)[key] = _PAIRED
            else:
                copies[1] += 1
        if len(young) >= _KEPT:
            self._only.update(old.values())
            self._young, self._old = {}, young
        return new

    @property
    def frames(self) -> dict[str, int]:
        """Frames by stream, over all connections."""
        counts: Counter[str] = Counter()
        for here in self._heard.values():
            for name, heard in here.items():
                counts[name] += heard.frames
        return dict(counts)

    @property
    def sockets(self) -> dict[int, Socket]:
        """Counts by connection."""
        return {
            connection: Socket(
                sum(heard.frames for heard in here.values()), *self._copies[connection], self._only[connection]
            )
            for connection, here in sorted(self._heard.items())
        }

    @property
    def missing_trades(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for (_, name), trades in self._trades.items():
            counts[name] += trades.missing
        return dict(+counts)

    def lag_ms(self, connection: int | None = None) -> tuple[float, float] | None:
        """Receipt minus sending, by two clocks: the median and the 99th percentile of the latest; None before any."""
        lags = sorted(lag for number, own in self._lags.items() if connection in (None, number) for lag in own)
        return (lags[len(lags) // 2] / 1e6, lags[len(lags) * 99 // 100] / 1e6) if lags else None

    def age_s(self, now_ns: int) -> dict[int, float]:
        """How long each open connection has been open; of two that overlap, the older."""
        return {number: (now_ns - min(lives.values())) / _NS for number, lives in sorted(self._opened_ns.items())}

    def heard_ns(self, connection: int) -> int:
        """When a message came on it last, or it was opened after that; 0 for one that never was."""
        lasts_ns = [heard.last_ns for heard in self._heard[connection].values()]
        return max([*lasts_ns, self._newest_ns(connection)], default=0)

    def silent(self, now_ns: int, connections: Collection[int]) -> Verdict:
        """Which streams of these connections fell silent, came back, and are dead.

        Silent on one socket: nothing for more than 5 s and 20 times the stream's usual interval, while the other socket
        brought something at least 5 s ago. Silent on every socket is told only of streams of steady rhythm; then one
        socket is to be replaced, once a minute at most, and ever more rarely as long as it does not help.

        Parameters
        ----------
        now_ns : what is alive has been heard up to then.
        """
        verdict = Verdict([], [], [])
        for connection in connections:
            if connection in self._opened_ns:
                self._judge(now_ns, connection, verdict)
        return verdict

    def silences(self) -> list[Silence]:
        """The streams of open connections that were told to be silent and are."""
        return [
            Silence(connection, name, heard.told_ns)
            for connection in sorted(self._opened_ns)
            for name, heard in self._heard[connection].items()
            if heard.is_silent and heard.told_ns == heard.since_ns
        ]

    def _judge(self, now_ns: int, connection: int, verdict: Verdict) -> None:
        here, opened_ns = self._heard[connection], self._newest_ns(connection)
        twin_opened_ns = self._newest_ns(connection ^ 1)
        there = self._heard[connection ^ 1] if twin_opened_ns else {}
        again, lost = [], []
        for name, heard in here.items():
            if heard.is_silent and heard.last_ns > heard.since_ns:
                verdict.ended.append(Silence(connection, name, heard.since_ns))
                heard.is_silent, heard.replacements, heard.replace_ns = False, 0, 0
            heard.look(opened_ns)
            twin = there.get(name)
            if heard.is_dead(now_ns, twin):
                if not heard.asked_ns:
                    heard.asked_ns = now_ns
                    again.append(name)
                elif now_ns - heard.asked_ns >= _HELPED_WITHIN_NS and now_ns >= heard.replace_ns:
                    lost.append(name)
            elif _STEADY in name and _is_late_everywhere(now_ns, heard, twin, twin_opened_ns):
                is_elder = twin is None or opened_ns <= twin_opened_ns
                if is_elder and now_ns >= max(heard.replace_ns, self._replace_ns):
                    lost.append(name)
            else:
                continue
            if not heard.is_silent or heard.told_ns != heard.since_ns:  # again where the connection is another
                heard.is_silent, heard.told_ns = True, heard.since_ns
                verdict.began.append(Silence(connection, name, heard.since_ns))
        for name in lost:
            here[name].put_off(now_ns)
        if lost:
            self._replace_ns = now_ns + _REPLACED_EVERY_NS
        for names, is_lost in ((again, False), (lost, True)):
            if names:
                verdict.dead.append(Dead(connection, tuple(names), is_lost))

    def _newest_ns(self, connection: int) -> int:
        """When the newest connection of that number opened; 0 while none is open."""
        return max(self._opened_ns.get(connection, {}).values(), default=0)

    def _hear(self, connection: int, name: str) -> "_Heard":
        """The place of a stream, made where missing."""
        here = self._heard[connection]
        if name not in here:
            key = origin_of(connection).venue, name  # venues of one family number their trades apart
            trades = self._trades.setdefault(key, Trades()) if name.endswith("@aggTrade") else None
            here[name] = _Heard(trades)
        return here[name]

    def _stranger(self, connection: int, name: str) -> "_Heard | None":
        """The place of a stream that nobody announced; None for what is no stream's name."""
        return self._hear(connection, name) if "@" in name and len(name) <= _LONGEST_NAME else None

    def _take_unreadable(self, connection: int, recv_ns: int, payload: bytes) -> None:
        """A frame that is no plain message, such as a control reply; it counts where it names its stream."""
        self._look_closely(payload)
        if payload.startswith(COMBINED):
            heard = self._stranger(connection, stream_of(payload))
            if heard is not None:
                heard.frames += 1
                heard.last_ns = recv_ns

    def _look_closely(self, payload: bytes) -> None:
        """Count what is wrong with a frame."""
        for found in decode(payload):
            if type(found) is Unknown:
                _count(self.unknown, found.reason)
            elif type(found) is Drift:
                _count(self.drift, f"{found.kind}: {', '.join(found.fields)}")


class _Heard:
    """One stream on one connection.

    Attributes
    ----------
    trades : of an aggTrade stream, shared by its venue's connections.
    interval_ns : moving average between two messages, 0 before there were two.
    since_ns : its last message, or the opening of the connection after that.
    behind_ns : when the other socket brought what this one lacks; 0 while it lacks nothing.
    asked_ns : when it was subscribed to again; 0 while it was not since ``since_ns``.
    replace_ns : not before that is the connection replaced because of it.
    told_ns : since when it is silent, as it was told.
    """

    __slots__ = (
        "asked_ns", "behind_ns", "frames", "interval_ns", "is_silent", "last_ns", "measured", "replace_ns",
        "replacements", "since_ns", "told_ns", "trades",
    )  # fmt: skip

    def __init__(self, trades: Trades | None) -> None:
        self.trades = trades
        self.is_silent = False
        self.interval_ns = 0.0
        self.frames = self.last_ns = self.since_ns = self.behind_ns = self.asked_ns = 0
        self.replace_ns = self.replacements = self.told_ns = 0
        self.measured = (0, 0)  # frames and last_ns at the last look

    def look(self, opened_ns: int) -> None:
        """Bring the average and ``since_ns`` up to date."""
        frames, last_ns = self.measured
        if new := self.frames - frames:
            if last_ns:
                interval_ns = (self.last_ns - last_ns) / new
                weight = 1.0 - (1.0 - _NEWEST) ** new if self.interval_ns else 1.0
                self.interval_ns += weight * (interval_ns - self.interval_ns)
            self.measured = (self.frames, self.last_ns)
        since_ns = max(self.last_ns, opened_ns)
        if since_ns != self.since_ns:
            self.since_ns, self.behind_ns, self.asked_ns = since_ns, 0, 0

    def is_dead(self, now_ns: int, twin: "_Heard | None") -> bool:
        """Whether it is silent although the other socket's goes on."""
        if twin is None:
            return False
        if not self.behind_ns and twin.last_ns > self.since_ns + _BEHIND_NS:
            self.behind_ns = twin.last_ns
        intervals_ns = [each.interval_ns for each in (self, twin) if each.interval_ns]
        if not self.behind_ns or not intervals_ns:
            return False
        patience_ns = max(_LEAST_SILENCE_NS, _SILENT_INTERVALS * min(intervals_ns))
        return now_ns - self.behind_ns >= _LEAST_SILENCE_NS and now_ns - self.since_ns > patience_ns

    def put_off(self, now_ns: int) -> None:
        """Its connection is being replaced: wait ever longer before the next time."""
        wait_ns = min(_REPLACED_EVERY_NS * 2**self.replacements, _REPLACED_AT_LEAST_EVERY_NS)
        self.replace_ns = now_ns + wait_ns
        self.replacements = min(self.replacements + 1, 10)


def _is_late_everywhere(now_ns: int, heard: _Heard, twin: _Heard | None, twin_opened_ns: int) -> bool:
    """Whether a stream of steady rhythm that once came is overdue on every socket."""
    if twin is None:
        return heard.frames > 0 and now_ns - heard.since_ns > _LEAST_SILENCE_NS
    since_ns = max(heard.since_ns, twin.last_ns, twin_opened_ns)
    return heard.frames + twin.frames > 0 and now_ns - since_ns > _LEAST_SILENCE_NS


def _count(counts: Counter[str], what: str) -> None:
    """Count it, in a table that a hostile stream cannot make grow for ever."""
    counts[what if what in counts or len(counts) < _MOST_REASONS else "other"] += 1
