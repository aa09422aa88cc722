"""The loopback exchange with a small market, and clients that keep what they hear."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import cache

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from data.loopback.server import Loopback
from data.loopback.tape import NS_PER_MS, SyntheticSource, to_ms
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec

START = datetime(2026, 1, 5, tzinfo=UTC)
START_NS = to_ms(START) * NS_PER_MS
SECOND_NS = 10**9
MARKET = MarketSpec(symbols=(BTC_LIKE, ALT_LIKE), start=START, days=10 / 1_440, seed=9)
END_NS = to_ms(MARKET.end) * NS_PER_MS
STREAMS = ("btcusdt@aggTrade", "asterusdt@bookTicker", "btcusdt@kline_1m", "!forceOrder@arr", "btcusdt@markPrice@1s")


class Client(WSListener):
    """A client that keeps what it hears; a follower stamps it with the time it was told.

    With ``answers`` false it does not say that it is quiet, and the market waits.
    """

    def __init__(self, answers: bool = True) -> None:
        self.now_ns = 0
        self.heard: list[tuple[int, dict]] = []
        self.told_ns: list[int] = []
        self.pings: list[bytes] = []
        self.asked_ns: list[int] = []
        self.answers = answers
        self.news = asyncio.Event()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.news.set()
        if frame.msg_type == WSMsgType.TEXT:
            self.heard.append((self.now_ns, json.loads(frame.get_payload_as_bytes())))
        elif frame.msg_type == WSMsgType.PING:
            payload = frame.get_payload_as_bytes()
            if len(payload) > 9:
                self.pings.append(payload)
                transport.send_pong(payload)
                return
            self.now_ns = int.from_bytes(payload[:8], "big")
            self.told_ns.append(self.now_ns)
            if payload[8:] == b"?":
                self.asked_ns.append(self.now_ns)
                if self.answers:
                    transport.send_pong(payload)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.news.set()

    def say(self, message: object) -> None:
        self.transport.send(WSMsgType.TEXT, json.dumps(message).encode())

    async def until(self, is_enough: Callable[["Client"], bool]) -> None:
        while not is_enough(self):
            self.news.clear()
            await self.news.wait()

    async def reply(self, message: object) -> dict:
        """What a control message is answered with."""
        before = len(self.heard)
        self.say(message)
        await self.until(lambda client: len(client.heard) > before)
        return self.heard.pop()[1]


async def connect(exchange: Loopback, path: str = "/ws", follows: bool = True, answers: bool = True) -> Client:
    headers = {"X-Loopback-Clock": "follow"} if follows else {}
    transport, client = await ws_connect(
        lambda: Client(answers), exchange.stream_url + path, extra_headers=headers, enable_auto_pong=False
    )
    client.transport = transport
    return client


def stream_path(streams: Sequence[str] = STREAMS) -> str:
    return f"/stream?streams={'/'.join(streams)}"


def run(test: Callable[[Loopback], Awaitable[object]], spec: MarketSpec = MARKET, **settings: object) -> object:
    """The test's result with an exchange at work."""

    async def session() -> object:
        async with asyncio.timeout(60), Loopback(market(spec), **settings) as exchange:
            return await test(exchange)

    return asyncio.run(session())


@cache
def market(spec: MarketSpec) -> SyntheticSource:
    """The market to play; made once."""
    return SyntheticSource(spec)


async def played(exchange: Loopback, streams: Sequence[str] = STREAMS) -> Client:
    """A follower that has heard the whole tape."""
    client = await connect(exchange, stream_path(streams))
    await exchange.finished()
    return client
