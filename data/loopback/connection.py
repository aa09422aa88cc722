"""One WebSocket connection to the loopback exchange: what it listens to, what it was told, what it may send.

Two headers of the opening handshake are our own. ``X-Loopback-Clock: follow`` asks to be told the time; a word behind
it names the client, which may hold several connections. ``X-Loopback-Socket: 0`` or ``1`` says which connection of a
pair it is, so that faults can be aimed at it.
"""

import time
from collections import deque
from dataclasses import dataclass
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
from data.loopback.trouble import Held

FOLLOW_HEADER = "X-Loopback-Clock"
SOCKET_HEADER = "X-Loopback-Socket"
MESSAGES_PER_SECOND = 10  # inbound, control messages and pings
PING_EVERY_NS = 300_000_000_000
PONG_WITHIN_NS = 900_000_000_000
_PONG_GRACE_NS = 10_000_000_000  # of the machine's time: at full speed the market's minutes pass before a pong can come
_SECOND_NS = 1_000_000_000
_MOST_UNSENT_BYTES = 64 << 20  # a client that nobody waits for and that lags so far behind is dropped
_ASK = b"?"


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """What an opening handshake asks for; ``client`` is empty where it names none, ``socket`` None."""

    names: tuple[str, ...]
    is_combined: bool
    is_follower: bool
    client: str
    socket: int | None

    def is_of(self, client: str) -> bool:
        """Whether it may belong to a client of that name; nobody knows where it names none."""
        return not self.client or self.client == client


class Exchange(Protocol):
    """What connections need of the exchange."""

    @property
    def now_ns(self) -> int:
        """The market's time."""

    def changed(self) -> None:
        """A connection came, left, answered, or listens to something else."""

    def ended(self, connection: "Connection") -> None:
        """A connection is no more."""

    def refusal(self, handshake: Handshake, socket: int) -> WSUpgradeResponseWithListener | None:
        """The answer to a handshake that is refused; None when it may come in."""


class Connection(WSListener):
    """A connection of a client.

    Attributes
    ----------
    number : in the order of acceptance, from 0.
    client, has_named_client : whose it is: the name in its handshake, or one of its own.
    socket : its place in a pair.
    opening_names : the streams that its handshake asked for.
    is_follower : whether it is told the time, and waited for.
    is_awaited : whether a follower has still to say that it is quiet.
    is_open, is_gone : from the opening handshake to the end of the connection; after it.
    is_half_open : nothing goes through it any more, in neither direction.
    opened_ns : the market's time then.
    dead_streams, held : see ``trouble.Sufferer``.
    """

    def __init__(self, exchange: Exchange, handshake: Handshake, number: int, socket: int):
        self.subscriptions = Subscriptions(handshake.names, handshake.is_combined)
        self.number, self.socket = number, socket
        self.client, self.has_named_client = handshake.client or f"#{number}", bool(handshake.client)
        self.opening_names = handshake.names
        self.is_follower = handshake.is_follower
        self.is_open = self.is_gone = self.is_half_open = False
        self.opened_ns = 0
        self.dead_streams: dict[str, int] = {}
        self.held: list[Held] = []
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

    def say(self, text: bytes) -> None:
        """Send one message."""
        self._transport.send(WSMsgType.TEXT, text)

    def send(self, wire: bytes) -> None:
        """Send whole WebSocket frames."""
        # past picows, which sends every frame by a system call of its own and need not know
        self._transport.underlying_transport.write(wire)

    def keep_alive(self, now_ns: int) -> None:
        """Ping a client that does not follow, every five minutes; leave one silent for fifteen, or far behind."""
        if self.is_follower or self.is_half_open:
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
        if self.is_gone:
            return
        self.is_open, self.is_gone = False, True
        self._awaited = None
        self._exchange.ended(self)
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
        elif self.is_half_open:
            return
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif self._is_too_fast():
            self.leave(WSCloseCode.POLICY_VIOLATION)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            transport.send(WSMsgType.TEXT, self.subscriptions.answer(frame.get_payload_as_bytes()))
            for name in self.dead_streams.keys() - self.subscriptions.names.keys():
                del self.dead_streams[name]  # subscribed anew it will live
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


def understood(request: WSUpgradeRequest) -> Handshake | WSUpgradeResponseWithListener:
    """What an opening handshake asks for, or its refusal when it asks for what there is not."""
    path, _, query = request.path.decode("ascii", "replace").partition("?")
    if path == "/stream":
        asked = [value for key, _, value in (each.partition("=") for each in query.split("&")) if key == "streams"]
        names = "/".join(asked)
    elif path == "/ws" or path.startswith("/ws/"):
        names = path.removeprefix("/ws")
    else:
        return refused(404, "no such endpoint: expected /ws/<stream> or /stream?streams=<stream>/<stream>")
    wanted = tuple(dict.fromkeys(unquote(name) for name in names.split("/") if name))
    if len(wanted) > MAX_STREAMS:
        return refused(400, f"at most {MAX_STREAMS} streams per connection, got {len(wanted)}; open another one")
    follow, _, client = request.headers.get(FOLLOW_HEADER, "").partition(" ")
    socket = request.headers.get(SOCKET_HEADER, "")
    return Handshake(
        names=wanted,
        is_combined=path == "/stream",
        is_follower=follow == "follow",
        client=client.strip(),
        socket=int(socket) if socket.isdecimal() else None,
    )


def refused(status: int, reason: str, retry_after_s: float | None = None) -> WSUpgradeResponseWithListener:
    """A handshake answered with an HTTP status."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:.0f}"}
    response = WSUpgradeResponse.create_error_response(status, reason.encode(), headers)
    return WSUpgradeResponseWithListener(response, None)
