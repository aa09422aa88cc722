"""Market streams over WebSocket: connect, stay connected, stamp every frame on arrival, hand the bytes on unchanged.

Nothing here knows what a frame says. Streams are named in the URL, so nothing is ever sent but pongs and pings.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import Sequence
from random import Random
from typing import NamedTuple, Protocol

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSProtocolError,
    WSTransport,
    ws_connect,
)

from data.clock import Clock, FollowedClock
from data.venues.aster import Venue, told_wait_s

STREAMS_PER_CONNECTION = 150  # the exchange drops a connection with more than 200
_BACK_OFF_S = 1.0  # upper end of the first wait; doubles with every failure in a row
_BACK_OFF_CAP_S = 30.0
_CONNECT_TIMEOUT_S = 15.0
_LONGEST_MESSAGE = 10 * 1024 * 1024  # bytes
_READ_BUFFER = 64 * 1024  # bytes
_TEXT = WSMsgType.TEXT
_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
_NAMES = {"bookTicker": "@bookTicker", "markPrice": "@markPrice@1s", "aggTrade": "@aggTrade", "trade": "@trade"}
_DEPTH_SPEEDS = {"100ms": "@100ms", "250ms": "", "500ms": "@500ms"}

_PICOWS_LOG = logging.getLogger("picows.stream")
_PICOWS_LOG.setLevel(logging.CRITICAL)  # what it would say reaches Sink.closed or ends run()


class Sink(Protocol):
    """Who takes what the streams bring. Called from the event loop, so it must not wait; what it raises ends the run.

    ``recv_ns`` is the clock's strictly increasing stamp, ``connection`` the number of the connection: 0, 1, … in the
    order of the streams it carries, the same after a reconnect.
    """

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str]) -> None:
        """A connection is up and subscribed."""

    def frame(self, recv_ns: int, connection: int, payload: bytes) -> None:
        """One message, exactly as received."""

    def burst(self) -> None:
        """All that one read of a socket brought has been handed over: write it now."""

    def closed(self, recv_ns: int, connection: int, reason: str) -> None:
        """A connection ended or could not be had; a new attempt follows unless the reason says stopped."""


def streams_of(
    symbols: Sequence[str], kinds: Sequence[str], depth_levels: int = 5, depth_speed: str = "100ms"
) -> tuple[str, ...]:
    """Names of the streams that carry these kinds of these symbols, symbol by symbol, each once.

    Parameters
    ----------
    kinds : ``kline_1m`` (or another interval), ``bookTicker``, ``markPrice`` (each second), ``aggTrade``, ``trade``,
        ``depth`` (the best levels), ``forceOrder`` (liquidations of the whole market: one stream whatever the symbols).
    depth_levels : 5, 10 or 20.
    depth_speed : 100ms, 250ms or 500ms.

    Raises
    ------
    ValueError
        Naming the kind, level count or speed that does not exist.
    """
    if depth_levels not in (5, 10, 20):
        raise ValueError(f"depth levels: expected 5, 10 or 20, got {depth_levels}")
    if depth_speed not in _DEPTH_SPEEDS:
        raise ValueError(f"depth speed: expected one of {', '.join(_DEPTH_SPEEDS)}, got {depth_speed!r}")
    suffixes = _NAMES | {f"kline_{interval}": f"@kline_{interval}" for interval in _INTERVALS}
    suffixes["depth"] = f"@depth{depth_levels}{_DEPTH_SPEEDS[depth_speed]}"
    for kind in kinds:
        if kind not in suffixes and kind != "forceOrder":
            known = ", ".join(("kline_1m (or another interval)", *_NAMES, "depth", "forceOrder"))
            raise ValueError(f"stream kind: expected one of {known}; got {kind!r}")
    names = [symbol.lower() + suffixes[kind] for symbol in symbols for kind in kinds if kind != "forceOrder"]
    if "forceOrder" in kinds:
        names.append("!forceOrder@arr")
    return tuple(dict.fromkeys(names))


class Fate(NamedTuple):
    """What follows from the end of a connection: why it ended, whether to try again, and after how long at least."""

    reason: str
    is_retried: bool
    wait_s: float


def fate(error: OSError | WSError, *, was_open: bool, now_ms: int) -> Fate:
    """What to do about a connection that failed; the one place where it is decided what is retried and what is fatal.

    Fatal: an upgrade refused with a status that asks for no patience (a wrong address), or a certificate that is not
    trusted, as long as the connection was never up. Once it was, the address is right and the trouble passes.
    Everything else is retried: refused, reset and timed-out connections, names that do not resolve, broken frames and
    429, 418, 403 and 5xx, which are waited out as told.
    """
    if isinstance(error, WSHandshakeError) and error.response is not None:
        status = error.response.status
        wait_s = told_wait_s(status, error.response.headers.get("Retry-After"), now_ms)
        reason = f"upgrade refused with HTTP {int(status)} {status.phrase}"
        if wait_s is None:
            return Fate(reason, was_open, _BACK_OFF_CAP_S)
        return Fate(f"{reason}, waiting {wait_s:g} s" if wait_s else reason, True, wait_s)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fate(f"certificate not trusted: {error.verify_message}", was_open, _BACK_OFF_CAP_S)
    if isinstance(error, TimeoutError):
        return Fate("no connection in time", True, 0.0)
    if isinstance(error, WSProtocolError):
        return Fate(f"broken frame: {error}", True, 0.0)
    return Fate(f"no connection: {str(error) or type(error).__name__}", True, 0.0)


class Stream:
    """Keeps streams flowing into a sink until stopped.

    Parameters
    ----------
    streams : names as the venue knows them; spread evenly over as few connections as hold them.
    clock : stamps frames and times every wait. A ``FollowedClock`` on a loopback venue is told the time by it.
    silence_s : a connection on which no frame of any kind came for so long is given up. A connection without a stream
        of steady rhythm (mark prices, one a second) is asked by a ping after half of it. A followed exchange that is
        silent has stopped the time as well, so silence is not watched there.
    seed : of the jitter of the back-off.

    Raises
    ------
    ValueError
        When there are no streams, or a name could not stand in a URL.
    """

    def __init__(
        self, venue: Venue, streams: Sequence[str], *, clock: Clock, sink: Sink, silence_s: float = 10.0, seed: int = 0
    ):
        names = tuple(dict.fromkeys(streams))
        if not names:
            raise ValueError("streams: expected at least one name such as btcusdt@aggTrade, got none")
        for name in names:
            if not name or any(sign in " /?#&%" or not sign.isprintable() for sign in name):
                raise ValueError(f"stream name: expected one such as btcusdt@aggTrade, got {name!r}")
        if not silence_s > 0:
            raise ValueError(f"silence_s: expected a positive number of seconds, got {silence_s}")
        count = math.ceil(len(names) / STREAMS_PER_CONNECTION)
        self._shards = tuple(names[number::count] for number in range(count))
        self._venue = venue
        self._clock = clock
        self._sink = sink
        self._silence_s = silence_s
        self._seed = seed
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End ``run`` soon; every connection is closed first. Before ``run``: it then ends at once."""
        self._stopping.set()

    async def run(self) -> None:
        """Receive until stopped or cancelled.

        Raises
        ------
        ValueError
            When the exchange refuses an address for good.
        Whatever the sink raises.
        """
        if self._stopping.is_set():
            return
        stopping = asyncio.create_task(self._stopping.wait())
        shards = [asyncio.create_task(self._keep(number, names)) for number, names in enumerate(self._shards)]
        try:
            await asyncio.wait([stopping, *shards], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *shards):
                task.cancel()
            for outcome in await asyncio.gather(stopping, *shards, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def _keep(self, number: int, streams: tuple[str, ...]) -> None:
        """One connection, again and again."""
        jitter = Random(f"{self._seed}/{number}")
        failures = 0
        was_open = False
        while True:
            began_ns = self._clock.now_ns()
            connection = _Connection(number, streams, self._clock, self._sink, self._venue.is_loopback)
            try:
                end = await self._once(connection, was_open)
            except asyncio.CancelledError:
                if connection.is_open:
                    self._sink.closed(self._clock.stamp_ns(), number, "stopped")
                raise
            finally:
                connection.is_over = True
            was_open = was_open or connection.was_connected
            self._sink.closed(self._clock.stamp_ns(), number, end.reason)
            if not end.is_retried:
                raise ValueError(f"streams of {self._venue.stream_url}: {end.reason}; check the venue's address")
            if connection.was_connected and self._clock.now_ns() - began_ns >= self._silence_s * 1e9:
                failures = 0  # it was up for a while: no sign of an exchange that wants fewer attempts
            longest_s = min(_BACK_OFF_S * 2**failures, _BACK_OFF_CAP_S)
            failures = min(failures + 1, 10)
            await self._clock.sleep(end.wait_s + jitter.uniform(0.0, longest_s))

    async def _once(self, connection: "_Connection", was_open: bool) -> Fate:
        """One connection from its opening to its end; raises what the sink raised meanwhile."""
        try:
            transport = await self._connect(connection)
        except (OSError, WSError) as error:
            return fate(error, was_open=was_open, now_ms=self._clock.now_ms())
        watch = None if connection.follows else asyncio.create_task(self._watch_silence(connection, transport))
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            return fate(error, was_open=True, now_ms=self._clock.now_ms())
        except asyncio.CancelledError:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()
            raise
        finally:
            if watch is not None:
                watch.cancel()
        return Fate(connection.reason, True, 0.0)

    async def _connect(self, connection: "_Connection") -> WSTransport:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            transport, _ = await ws_connect(
                lambda: connection,
                f"{self._venue.stream_url}/stream?streams={'/'.join(connection.streams)}",
                enable_auto_pong=False,
                enable_auto_ping=False,
                max_redirects=0,
                max_frame_size=_LONGEST_MESSAGE,
                read_buffer_init_size=_READ_BUFFER,
                extra_headers={"X-Loopback-Clock": "follow"} if connection.follows else None,
                logger_name=_PICOWS_LOG,
            )
        if not connection.was_connected:  # picows returns as if all were well when the peer hangs up before its answer
            raise ConnectionResetError("closed before the upgrade was answered")
        return transport

    async def _watch_silence(self, connection: "_Connection", transport: WSTransport) -> None:
        steady = any("@markPrice" in name for name in connection.streams)
        patience_s = self._silence_s if steady else self._silence_s / 2
        asked_ns = 0
        while True:
            now_ns = self._clock.now_ns()
            connection.heard_ns = min(connection.heard_ns, now_ns)  # the machine's clock may have stepped back
            silent_s = (now_ns - connection.heard_ns) / 1e9
            if silent_s >= self._silence_s:
                connection.give_up(transport, f"silent for {self._silence_s:g} s")
                return
            if silent_s >= patience_s and asked_ns <= connection.heard_ns:
                asked_ns = now_ns
                transport.send_ping(b"")
            await self._clock.sleep((patience_s if silent_s < patience_s else self._silence_s) - silent_s)


class _Connection(WSListener):
    """Takes the frames of one connection.

    What the sink raises goes on to picows, which keeps it for ``wait_disconnected``. picows would still hand over the
    rest of what it has read; ``is_over`` keeps that from a sink that has failed.
    """

    def __init__(self, number: int, streams: tuple[str, ...], clock: Clock, sink: Sink, is_loopback: bool):
        self.streams = streams
        self.follows = is_loopback and isinstance(clock, FollowedClock)
        self.reason = "lost without a word"
        self.heard_ns = clock.now_ns()
        self.was_connected = False
        self.is_open = False
        self.is_over = False
        self._number = number
        self._clock = clock
        self._sink = sink
        self._stamp_ns = clock.stamp_ns
        self._frame = sink.frame
        self._burst = sink.burst
        self._in_burst = False
        self._fragments: list[bytes] = []
        self._answering: set[asyncio.Task[None]] = set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self.is_over:  # nobody waits for it any more
            transport.disconnect(graceful=False)
            return
        self.was_connected = True
        self.heard_ns = self._clock.now_ns()
        if self.follows:
            self._clock.attach()  # open once it has told the time: it may have passed since the last connection
            return
        try:
            self._open()
        except BaseException:
            self._fail(transport)
            raise

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.is_over:
            return
        try:
            if frame.msg_type is _TEXT and frame.fin:
                self._take(frame.get_payload_as_bytes())
            else:
                self._take_other(transport, frame)
            if self._in_burst and frame.last_in_buffer:
                self._in_burst = False
                self._burst()
        except BaseException:
            self._fail(transport)
            raise

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.is_over = True
        for task in self._answering:
            task.cancel()
        if self.follows and self.was_connected:
            self._clock.detach()

    def give_up(self, transport: WSTransport, reason: str) -> None:
        """End it from our side."""
        self.reason = reason
        self.is_over = True
        transport.send_close(WSCloseCode.GOING_AWAY)
        transport.disconnect(graceful=False)

    def _fail(self, transport: WSTransport) -> None:
        self.is_over = True
        transport.disconnect(graceful=False)

    def _open(self) -> None:
        self.is_open = True
        self._sink.opened(self._stamp_ns(), self._number, self.streams)

    def _take(self, payload: bytes) -> None:
        if not self.is_open:
            self._open()
        recv_ns = self._stamp_ns()
        self.heard_ns = recv_ns
        self._in_burst = True
        self._frame(recv_ns, self._number, payload)

    def _take_other(self, transport: WSTransport, frame: WSFrame) -> None:
        """A control frame, a fragment or a binary message."""
        self.heard_ns = self._clock.now_ns()
        kind = frame.msg_type
        if kind is WSMsgType.PING:
            self._take_ping(transport, frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            code, words = int(frame.get_close_code()), frame.get_close_reason()
            self.reason = f"closed by the exchange, code {code}" + (f": {words}" if words else "")
            self.is_over = True
            transport.send_close(WSCloseCode.OK)
            transport.disconnect(graceful=False)
        elif kind is not WSMsgType.PONG:
            self._take_fragment(frame, kind is WSMsgType.CONTINUATION)

    def _take_fragment(self, frame: WSFrame, is_continuation: bool) -> None:
        if is_continuation != bool(self._fragments):
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "a fragment out of place")
        self._fragments.append(frame.get_payload_as_bytes())
        if sum(map(len, self._fragments)) > _LONGEST_MESSAGE:
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, f"a message longer than {_LONGEST_MESSAGE} bytes")
        if frame.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._take(message)

    def _take_ping(self, transport: WSTransport, payload: bytes) -> None:
        asks = len(payload) == 9 and payload.endswith(b"?")
        if not self.follows or not (asks or len(payload) == 8):
            transport.send_pong(payload)
            return
        self._clock.tell(int.from_bytes(payload[:8], "big"))
        if not self.is_open:
            self._open()
        if asks:
            answering = asyncio.create_task(self._answer(transport, payload))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, transport: WSTransport, payload: bytes) -> None:
        await self._clock.quiet()
        transport.send_pong(payload)
