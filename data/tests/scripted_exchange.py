"""An exchange of a test's own on 127.0.0.1: each connection does what its script says; and a sink that keeps all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

import data.plain_frames  # noqa: F401  # loads a compiler and may compile: seconds that no wait here is to count
from data.clock import Clock, FollowedClock
from data.stream import Stream
from data.venues.aster import Venue

START = datetime(2026, 1, 1, tzinfo=UTC)
START_NS = 1_767_225_600_000_000_000
AGG_TRADE = (
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1780000000105,"s":"BTCUSDT","a":501,"p":"61000.1",'
    b'"q":"0.020","f":900,"l":902,"T":1780000000101,"m":false}}'
)
Script = Callable[["Peer"], None]


class Peer(WSListener):
    """The server's end of one connection; what it does on connecting is the test's script."""

    def __init__(self, script: Script, path: str, headers: dict[str, str]):
        self.script, self.path, self.headers = script, path, headers
        self.heard: list[tuple[WSMsgType, bytes]] = []
        self.answers_pings = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.script(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.heard.append((frame.msg_type, frame.get_payload_as_bytes()))
        if frame.msg_type is WSMsgType.PING and self.answers_pings:
            transport.send_pong(frame.get_payload_as_bytes())

    def text(self, *messages: bytes) -> None:
        for message in messages:
            self.transport.send(WSMsgType.TEXT, message)

    def tell(self, now_ns: int, *, asks: bool = False) -> None:
        self.transport.send_ping(now_ns.to_bytes(8, "big") + (b"?" if asks else b""))

    def cut(self) -> None:
        self.transport.disconnect(graceful=True)

    @property
    def pongs(self) -> list[bytes]:
        return [payload for kind, payload in self.heard if kind is WSMsgType.PONG]


class Exchange:
    """A server on 127.0.0.1; each connection runs the next script, the last one for good. A status refuses."""

    def __init__(self, *scripts: Script | int, headers: dict[str, str] | None = None):
        self.scripts = list(scripts)
        self.headers = headers or {}
        self.peers: list[Peer] = []
        self.attempts = 0

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        script = self.scripts[min(self.attempts, len(self.scripts) - 1)]
        self.attempts += 1
        if isinstance(script, int):
            refusal = WSUpgradeResponse.create_error_response(script, extra_headers=self.headers)
            return WSUpgradeResponseWithListener(refusal, None)
        peer = Peer(script, request.path.decode(), dict(request.headers))
        self.peers.append(peer)
        return peer

    async def __aenter__(self) -> "Exchange":
        self.server = await ws_create_server(self._accept, "127.0.0.1", 0, enable_auto_pong=False)
        self.url = f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for peer in self.peers:
            peer.transport.disconnect(graceful=False)
        await self.server.wait_closed()


class Heard:
    """A sink that keeps everything, in order."""

    def __init__(self, clock: Clock):
        self.clock = clock
        self.events: list[tuple] = []
        self.lives: list[tuple] = []

    def opened(self, recv_ns, connection, streams, life):
        self.events.append(("opened", recv_ns, connection, tuple(streams)))
        self.lives.append(("opened", connection, life))

    def burst(self, connection, frames):
        for recv_ns, payload in frames:
            self.events.append(("frame", recv_ns, connection, payload))
        self.events.append(("burst",))

    def closed(self, recv_ns, connection, reason, life, heard_ns):
        self.events.append(("closed", recv_ns, connection, reason))
        self.lives.append(("closed", connection, life, reason, heard_ns))

    def of(self, kind: str) -> list[tuple]:
        return [event[1:] for event in self.events if event[0] == kind]

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload in self.of("frame")]

    @property
    def reasons(self) -> list[str]:
        return [reason for _, _, reason in self.of("closed")]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def streaming(
    exchange: Exchange,
    clock: Clock,
    *streams: str,
    sink: Heard | None = None,
    is_loopback: bool = False,
    sockets: int = 1,
    **settings,
) -> AsyncIterator[Heard]:
    """A stream that runs inside the block and is stopped behind it; one socket where nothing else is said."""
    sink = sink or Heard(clock)
    venue = Venue(name="test", rest_url="", stream_url=exchange.url, is_loopback=is_loopback)
    names = streams or ("btcusdt@aggTrade",)
    stream = Stream(venue, names, clock=clock, sink=sink, sockets=sockets, **settings)
    run = asyncio.create_task(stream.run())
    try:
        yield sink
        stream.stop()
        await run
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


def fast(tick_s: float = 1.0) -> FollowedClock:
    """A clock on which a second passes in a millisecond, but only after some turns of the event loop.

    One that went on while a busy machine lets us wait would end connections that are only just being opened.
    """
    clock = FollowedClock(START_NS)
    clock.attach()

    async def pass_time() -> None:
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            clock.tell(clock.now_ns() + round(tick_s * 1e9))

    clock.passing = asyncio.ensure_future(pass_time())
    return clock


def quietly(peer: Peer) -> None:
    """A script that does nothing."""
