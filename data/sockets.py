"""One WebSocket connection to an exchange: opened, its frames stamped on arrival and handed on unchanged, its end told.

Nothing here knows what a frame says but the name of its stream. The streams are named in the URL; nothing is sent but
pings, pongs and what ``Connection.ask`` is given.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple

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

from data.clock import Asked as Asked  # whoever opens a connection needs one
from data.clock import Clock
from data.pauses import Pace, Pauses
from data.sink import Arrived, Sink
from data.stream_names import COMBINED, stream_of
from data.venues.aster import told_wait_s

BACK_OFF_CAP_S = 30.0
_CONNECT_TIMEOUT_S = 15.0
_LONGEST_MESSAGE = 10 * 1024 * 1024  # bytes
_READ_BUFFER = 64 * 1024  # bytes
_AT_ONCE = 256  # frames: more of them would not stay in the processor's cache
_TEXT = WSMsgType.TEXT
_LONGEST_CONTROL = 125  # bytes: RFC 6455, 5.5

_PICOWS_LOG = logging.getLogger("picows.stream")
_PICOWS_LOG.setLevel(logging.CRITICAL)  # what it would say reaches Sink.closed or ends the run


class Fate(NamedTuple):
    """What follows from the end of a connection: why it ended, whether to try again, and after how long at least."""

    reason: str
    is_retried: bool
    wait_s: float


def fate(error: OSError | WSError, *, was_open: bool, now_ms: int) -> Fate:
    """What to do about a connection that failed; the one place where it is decided what is retried and what is fatal.

    Fatal: an upgrade refused with a status that asks for no patience (a wrong address), or a certificate that is not
    trusted, as long as no connection was ever up. Once one was, the address is right and the trouble passes.
    Everything else is retried: refused, reset and timed-out connections, names that do not resolve, broken frames and
    429, 418, 403 and 5xx, which are waited out as told.
    """
    if isinstance(error, WSHandshakeError) and error.response is not None:
        status = error.response.status
        wait_s = told_wait_s(status, error.response.headers.get("Retry-After"), now_ms)
        reason = f"upgrade refused with HTTP {int(status)} {status.phrase}"
        if wait_s is None:
            return Fate(reason, was_open, BACK_OFF_CAP_S)
        return Fate(f"{reason}, waiting {wait_s:g} s" if wait_s else reason, True, wait_s)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fate(f"certificate not trusted: {error.verify_message}", was_open, BACK_OFF_CAP_S)
    if isinstance(error, TimeoutError):
        return Fate("no connection in time", True, 0.0)
    if isinstance(error, WSProtocolError):
        return Fate(f"broken frame: {error}", True, 0.0)
    return Fate(f"no connection: {str(error) or type(error).__name__}", True, 0.0)


class Connection(WSListener):
    """One connection from its opening to its end.

    Plain messages come from ``PlainFrames``, those of a read at once; every other frame comes from picows. With a
    followed clock all do, since a ping stands before each message.

    What the sink raises at a frame of picows goes on to it, which keeps it for ``live``. picows would still hand over
    the rest of what it has read; ``_is_over`` keeps that from a sink that has failed.

    Parameters
    ----------
    number, life : as the sink is told them.
    headers : of the opening handshake, beside the usual ones.
    follows : whether a loopback exchange tells it the time.
    is_wrapped : every message comes with the name of its stream; an account's own stream has its key for a name, and
        is asked for without.
    is_prompt : the sink has each message while a followed clock says when it came, and no compiler is loaded. Else it
        has what one read brought together, which costs it less where many come.
    pauses : of the reads, where many messages come; None where each is read at once. Those that a followed clock dates
        and those of a prompt connection are.

    Attributes
    ----------
    is_open : set once the sink was told that it is open.
    was_connected : whether the exchange answered the handshake.
    unheard : names of streams of which nothing came on it since the set was filled.
    """

    def __init__(
        self,
        number: int,
        life: int,
        streams: tuple[str, ...],
        *,
        clock: Clock,
        sink: Sink,
        headers: Mapping[str, str] | None,
        follows: bool,
        asked: Asked,
        is_wrapped: bool = True,
        is_prompt: bool = False,
        pauses: Pauses | None = None,
    ):
        self.number, self.life, self.streams = number, life, streams
        self.follows = follows
        self.is_open = asyncio.Event()
        self.was_connected = False
        self.unheard: set[str] = set()
        self._reason = "lost without a word"
        self._headers = headers
        self._path = ("/stream?streams=" if is_wrapped else "/ws/") + "/".join(streams)
        self._clock, self._sink, self._asked, self._is_prompt = clock, sink, asked, is_prompt
        self._last_ns = 0  # stamp of the message that came last, apart from those not stamped yet
        self._sign_ns = 0  # when anything else came: with a followed clock the time that it was told last
        self._stamped: list[tuple[int, bytes]] = []  # messages of this read, not handed over yet
        self._payloads: list[bytes] = []  # those after them
        self._first_ns = 0  # stamp of the first of these; each of the others came a nanosecond after the one before
        self._is_over = False
        self._is_subscribed = False  # is_open, faster
        self._fragments: list[bytes] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._short_way = None
        if not (follows or is_prompt):
            from data.plain_frames import PlainFrames  # loads a compiler, which takes a second, before there is a line

            self._short_way = PlainFrames
        self._transport: WSTransport | None = None
        self._plain = None  # PlainFrames, once they stand between the line and picows
        self._pauses, self._pace = pauses, None
        self._failure: BaseException | None = None  # of the sink, at a plain message

    @property
    def heard_ns(self) -> int:
        """When anything arrived last, 0 before."""
        return max(self._last_ns, self._sign_ns)

    async def live(self, url: str, was_open: bool) -> Fate:
        """Open, stay until it ends, and tell the sink that it did. Raises what the sink raised.

        ``was_open``: whether a connection to this exchange was up before.
        """
        try:
            end = await self._live(url, was_open)
        except asyncio.CancelledError:
            if self._is_subscribed:
                self._sink.closed(self._clock.stamp_ns(), self.number, "stopped", self.life, self.heard_ns)
            raise
        finally:
            self._is_over = True
        self._hand_over()  # what the last read brought before a broken frame
        self._sink.closed(self._clock.stamp_ns(), self.number, end.reason, self.life, self.heard_ns)
        return end

    async def _live(self, url: str, was_open: bool) -> Fate:
        try:
            transport = await self._connect(url)
        except (OSError, WSError) as error:
            return fate(error, was_open=was_open, now_ms=self._clock.now_ms())
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            return fate(error, was_open=True, now_ms=self._clock.now_ms())
        except asyncio.CancelledError:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()
            raise
        if self._failure is not None:
            raise self._failure
        return Fate(self._reason, True, 0.0)

    async def _connect(self, url: str) -> WSTransport:
        held = self._clock.hold() if self.follows else nullcontext()  # so that the exchange's time does not race us
        with held:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                try:
                    transport, _ = await ws_connect(
                        lambda: self,
                        url + self._path,
                        enable_auto_pong=False,
                        enable_auto_ping=False,
                        max_redirects=0,
                        max_frame_size=_LONGEST_MESSAGE,
                        read_buffer_init_size=_READ_BUFFER,
                        extra_headers=self._headers,
                        logger_name=_PICOWS_LOG,
                    )
                except asyncio.CancelledError:
                    if self.was_connected:  # a moment ago, and nobody has taken it over
                        self._transport.disconnect(graceful=False)
                    raise
        if not self.was_connected:  # picows returns as if all were well when the peer hangs up before its answer
            raise ConnectionResetError("closed before the upgrade was answered")
        return transport

    def ping(self) -> None:
        """Ask the exchange for a sign of life."""
        if not self._is_over:
            self._transport.send_ping(b"")

    def ask(self, message: bytes) -> None:
        """Send a control message; its answer comes as a frame."""
        if not self._is_over:
            self._transport.send(_TEXT, message)

    def give_up(self, reason: str) -> None:
        """End it from our side; nothing that still comes is taken."""
        if not self._is_over:
            self._reason = reason
            self._is_over = True
            self._transport.send_close(WSCloseCode.GOING_AWAY)
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        if self._is_over:  # nobody waits for it any more
            transport.disconnect(graceful=False)
            return
        self._transport = transport
        self.was_connected = True
        self._sign_ns = self._clock.now_ns()
        if self.follows:
            self._clock.attach()  # open once it has told the time: it may have passed since the last connection
            return
        try:
            self._open()
        except BaseException:
            self._fail(transport)
            raise
        if self._short_way is None:
            return
        line = transport.underlying_transport
        self._plain = self._short_way(
            line.get_protocol(), self.number, self._next_ns, self._take_plain, self._is_ending
        )
        line.set_protocol(self._plain)
        if self._pauses is not None:
            self._pace = Pace(self._pauses, line.get_extra_info("socket"))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._is_over:
            return
        if self._plain is not None:
            self._plain.unfinished_bytes = frame.tail_size
        payload = frame.get_payload_as_bytes()
        payloads = self._payloads
        try:
            # To ask a frame for its type takes longer than all the rest. Nearly every message is known without: it is
            # longer than a control frame may be, and begins as no end of a message in fragments does.
            is_plain = len(payload) > _LONGEST_CONTROL and payload.startswith(COMBINED) and frame.fin
            if (not is_plain or self._fragments) and (frame.msg_type is not _TEXT or not frame.fin):
                self._take_other(transport, frame)
            elif payloads:  # one read brought it together with the one before
                payloads.append(payload)
            else:
                self._take(payload)
            if frame.last_in_buffer or len(payloads) + len(self._stamped) >= _AT_ONCE or self._is_over:
                self._hand_over()
        except BaseException:
            self._fail(transport)
            raise

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._is_over = True
        self._plain = None  # they hold one another, and a recorder seldom looks for such pairs
        for task in self._answering:
            task.cancel()
        if self.follows and self.was_connected:
            self._clock.detach()

    def _fail(self, transport: WSTransport) -> None:
        self._is_over = True
        transport.disconnect(graceful=False)

    def _next_ns(self) -> int:
        """The time of what comes now. With a followed clock that which it was told, whatever others were told since."""
        return max(self._sign_ns if self.follows else self._clock.stamp_ns(), self._last_ns + 1)

    def _stamp(self) -> int:
        self._last_ns = self._next_ns()
        return self._last_ns

    def _open(self) -> None:
        self._is_subscribed = True
        self._sink.opened(self._stamp(), self.number, self.streams, self.life)
        self.is_open.set()

    def _take_plain(self, arrived: Arrived) -> None:
        if self._is_over:
            return
        if self.unheard:
            self.unheard.difference_update(stream_of(payload) for _, payload in arrived)
        self._last_ns = arrived.last_ns
        try:
            self._sink.burst(self.number, arrived)
        except BaseException as error:
            self._failure = error
            self._fail(self._transport)
            raise
        if self._pace is not None:
            self._pace.after(len(arrived), len(arrived.records), arrived.last_ns)

    def _is_ending(self) -> bool:
        return self._is_over or self._transport.close_handshake is not None

    def _take(self, payload: bytes) -> None:
        if not self._is_subscribed:
            self._open()
        if not self._payloads:
            self._first_ns = self._stamp()
        self._payloads.append(payload)

    def _with_stamps(self, first_ns: int, payloads: list[bytes]) -> list[tuple[int, bytes]]:
        if self.unheard:
            self.unheard.difference_update(map(stream_of, payloads))
        self._last_ns = first_ns + len(payloads) - 1
        return list(zip(range(first_ns, first_ns + len(payloads)), payloads, strict=True))

    def _stamp_all(self) -> None:
        if self._payloads:
            payloads, self._payloads = self._payloads, []
            self._stamped += self._with_stamps(self._first_ns, payloads)

    def _hand_over(self) -> None:
        self._stamp_all()
        if self._stamped:
            stamped, self._stamped = self._stamped, []
            self._sink.burst(self.number, stamped)

    def _take_other(self, transport: WSTransport, frame: WSFrame) -> None:
        """A control frame, a fragment or a binary message."""
        if not self.follows:
            self._sign_ns = self._clock.now_ns()
        kind = frame.msg_type
        if kind is WSMsgType.PING:
            self._take_ping(transport, frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            code, words = int(frame.get_close_code()), frame.get_close_reason()
            self._reason = f"closed by the exchange, code {code}" + (f": {words}" if words else "")
            self._is_over = True
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
        self._stamp_all()  # what came before it came at the time told before
        if self._is_prompt:
            self._hand_over()
        self._sign_ns = int.from_bytes(payload[:8], "big")
        self._clock.tell(self._sign_ns)
        if not self._is_subscribed:
            self._open()
        if asks:
            self._asked.at(self._sign_ns)
            answering = asyncio.create_task(self._answer(transport, payload))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, transport: WSTransport, payload: bytes) -> None:
        await self._clock.quiet()
        transport.send_pong(payload)
