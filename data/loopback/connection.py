"""One WebSocket connection to the loopback exchange: what it listens to, what it was told, what it may send."""

import time
from collections import deque
from typing import Protocol
from urllib.parse import unquote

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from data.loopback.delivery import Listener
from data.loopback.streams import MAX_STREAMS, Subscriptions

FOLLOW_HEADER = "X-Loopback-Clock"
MESSAGES_PER_SECOND = 10  # inbound, control messages and pings
PING_EVERY_NS = 300_000_000_000
PONG_WITHIN_NS = 900_000_000_000
_PONG_GRACE_NS = 10_000_000_000  # of the machine's time: at full speed the market's minutes pass before a pong can come
_SECOND_NS = 1_000_000_000
_MOST_UNSENT_BYTES = 64 << 20  # a client that nobody waits for and that lags so far behind is dropped
_ASK = b"?"


class Exchange(Protocol):
    """What a connection needs of the exchange."""

    @property
    def now_ns(self) -> int:
        """The market's time."""

    def changed(self) -> None:
        """A connection came, left, answered, or listens to something else."""


class Connection(WSListener):
    """A client.

    Attributes
    ----------
    is_follower : whether it is told the time, and waited for.
    is_awaited : whether a follower has still to say that it is quiet.
    is_open, is_gone : from the opening handshake to the end of the connection; after it.
    opened_ns : the market's time then.
    """

    def __init__(self, exchange: Exchange, subscriptions: Subscriptions, is_follower: bool):
        self.subscriptions = subscriptions
        self.is_follower = is_follower
        self.is_open = self.is_gone = False
        self.opened_ns = 0
        self._exchange = exchange
        self._transport: WSTransport | None = None
        self._told_ns = -1
        self._awaited: bytes | None = None
        self._pinged_ns = self._ponged_ns = 0
        self._ponged_wall_ns = 0
        self._received: deque[tuple[int, int]] = deque(maxlen=MESSAGES_PER_SECOND)

    @property
    def is_awaited(self) -> bool:
        return self._awaited is not None

    @property
    def listener(self) -> Listener:
        """What it is sent, as bytes."""
        subscriptions = self.subscriptions
        return Listener(
            names=tuple(sorted(subscriptions.names)),
            is_combined=subscriptions.is_combined,
            is_follower=self.is_follower,
        )

    @property
    def is_listening(self) -> bool:
        """Whether it has subscribed to anything."""
        return self.is_open and bool(self.subscriptions.names)

    def tell(self, now_ns: int) -> None:
        """Tell a follower the time, unless it knows."""
        if self.is_follower and now_ns > self._told_ns:
            self._transport.send_ping(now_ns.to_bytes(8, "big"))
            self._told_ns = now_ns

    def ask(self, now_ns: int) -> None:
        """Tell a follower the time, and that it shall answer when it is quiet."""
        self._awaited = now_ns.to_bytes(8, "big") + _ASK
        self._told_ns = now_ns
        self._transport.send_ping(self._awaited)

    def send(self, wire: bytes) -> None:
        """Send whole WebSocket frames."""
        # past picows, which sends every frame by a system call of its own and need not know
        self._transport.underlying_transport.write(wire)

    def keep_alive(self, now_ns: int) -> None:
        """Ping a client that does not follow, every five minutes; leave one silent for fifteen, or far behind."""
        if self.is_follower:
            return
        if now_ns - self._pinged_ns >= PING_EVERY_NS:
            self._transport.send_ping(str(now_ns // 1_000_000).encode())
            self._pinged_ns = now_ns
        is_silent = now_ns - self._ponged_ns > PONG_WITHIN_NS
        if is_silent and time.monotonic_ns() - self._ponged_wall_ns > _PONG_GRACE_NS:
            self.leave(WSCloseCode.GOING_AWAY)
        elif self._transport.underlying_transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self.cut()

    def leave(self, code: WSCloseCode) -> None:
        """Close in good order."""
        self._transport.send_close(code)
        self._transport.disconnect()
        self._end()

    def cut(self) -> None:
        """End the connection as a broken line does."""
        self._transport.disconnect(graceful=False)
        self._end()

    def _end(self) -> None:
        self.is_open, self.is_gone = False, True
        self._awaited = None
        self._exchange.changed()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.is_open = True
        self.opened_ns = self._pinged_ns = self._ponged_ns = self._exchange.now_ns
        self._ponged_wall_ns = time.monotonic_ns()
        self.tell(self._exchange.now_ns)
        self._exchange.changed()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._end()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.PONG:
            self._ponged(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif self._is_too_fast():
            self.leave(WSCloseCode.POLICY_VIOLATION)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            transport.send(WSMsgType.TEXT, self.subscriptions.answer(frame.get_payload_as_bytes()))
            self._exchange.changed()

    def pause_writing(self) -> None:
        """Nothing to do: a follower is waited for, others are dropped when they are too far behind."""

    def resume_writing(self) -> None:
        """Nothing was paused."""

    def _ponged(self, payload: bytes) -> None:
        self._ponged_ns, self._ponged_wall_ns = self._exchange.now_ns, time.monotonic_ns()
        if payload == self._awaited:
            self._awaited = None
            self._exchange.changed()

    def _is_too_fast(self) -> bool:
        """More than ten messages within a second, both of the market's time and of the machine's.

        Both, because the market's time may stand still or fly.
        """
        now = self._exchange.now_ns, time.monotonic_ns()
        is_full = len(self._received) == MESSAGES_PER_SECOND
        is_too_fast = is_full and all(new - old < _SECOND_NS for new, old in zip(now, self._received[0], strict=True))
        self._received.append(now)
        return is_too_fast


def accepted(exchange: Exchange, request: WSUpgradeRequest) -> Connection | WSUpgradeResponseWithListener:
    """The connection that an opening handshake asks for, or its refusal."""
    path, _, query = request.path.decode("ascii", "replace").partition("?")
    if path == "/stream":
        asked = [value for key, _, value in (each.partition("=") for each in query.split("&")) if key == "streams"]
        names = "/".join(asked)
    elif path == "/ws" or path.startswith("/ws/"):
        names = path.removeprefix("/ws")
    else:
        return _refusal(404, "no such endpoint: expected /ws/<stream> or /stream?streams=<stream>/<stream>")
    wanted = [unquote(name) for name in names.split("/") if name]
    if len(set(wanted)) > MAX_STREAMS:
        most = f"at most {MAX_STREAMS} streams per connection, got {len(set(wanted))}; open another one"
        return _refusal(400, most)
    subscriptions = Subscriptions(wanted, is_combined=path == "/stream")
    return Connection(exchange, subscriptions, request.headers.get(FOLLOW_HEADER) == "follow")


def _refusal(status: int, reason: str) -> WSUpgradeResponseWithListener:
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, reason.encode()), None)
