"""The loopback exchange: plays a tape over real sockets and tells its clients the time.

A client that follows (header ``X-Loopback-Clock: follow``) gets before every message a ping with the time at which it
is delivered, so that what it stamps depends neither on speed nor on the machine; and pings that ask whether it is
quiet, before which the market does not go on. Other clients get the same messages, and nobody waits for them.

The two sockets of a pair are told the same times, but a client reads one before the other: what it stamps is the time
told on the connection that brought the message.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import polars as pl
from aiohttp import web
from picows import WSUpgradeResponseWithListener, ws_create_server

from data.loopback.account_office import Office
from data.loopback.account_settings import AccountSettings
from data.loopback.audience import Audience
from data.loopback.connection import Connection, Handshake, refused
from data.loopback.faults import Announcement, Faults, RequestFault, StreamFault
from data.loopback.market import Market
from data.loopback.meter import Meter
from data.loopback.player import SECOND_NS, Outage, Player
from data.loopback.quirks import Quirky
from data.loopback.request_trouble import RequestTrouble
from data.loopback.rest import Rest
from data.loopback.tape import NS_PER_MS, Source, to_ms
from data.loopback.trouble import Trouble
from data.loopback.truth import Truth

_REFUSED_PASSES_NS = SECOND_NS  # of the tape, when nobody else could bring a refused client the time


class Loopback:
    """An exchange at work; an async context manager.

    Attributes
    ----------
    truth : what was really sent and what was done to it.
    office : its accounts.

    Parameters
    ----------
    source : what to play.
    speed : market seconds per second of the machine; None for as fast as the followers go.
    host, port, stream_port : where REST and WebSocket listen; 0 lets the system choose.
    outages : planned ones.
    start : the market's time at the beginning, UTC; None for the source's start. What lies before is history for REST.
    life_s : market seconds after which the exchange closes a connection.
    weight_limit : of REST requests, per minute.
    quiet_every_s : how far the market goes before it waits for its followers, in market seconds: so much later than the
        message that caused it may an order come, at full speed.
    faults : everything else that is wrong.
    accounts : its test accounts.

    Notes
    -----
    As fast as followers go: time stands still while no follower is subscribed to anything. At a given speed: while
    nobody is.
    """

    def __init__(
        self,
        source: Source,
        *,
        speed: float | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        stream_port: int = 0,
        outages: Sequence[Outage] = (),
        start: datetime | None = None,
        life_s: float = 86_400.0,
        weight_limit: int = 2_400,
        quiet_every_s: float = 10.0,
        faults: Faults | None = None,
        accounts: AccountSettings | None = None,
    ):
        if speed is not None and not speed > 0:
            raise ValueError(f"speed: expected a positive factor or None for as fast as followers go, got {speed}")
        if not quiet_every_s > 0:
            raise ValueError(f"quiet_every_s: expected a positive number of seconds, got {quiet_every_s}")
        if start is not None and not source.start <= start < source.end:
            raise ValueError(f"start: expected a time of the tape, {source.start} to {source.end}, got {start}")
        faults, start = faults or Faults(), start or source.start
        start_ns = to_ms(start) * NS_PER_MS
        self.source = Quirky(source, faults, to_ms(start))
        self.speed = speed
        self.weight_limit = weight_limit
        self.meter = Meter(weight_limit, faults.ban_after, faults.ban_s)
        self.truth = Truth()
        self.market: Market  # once it is open
        self._host, self._port, self._stream_port = host, port, stream_port
        self._offset_ms = faults.clock_offset_ms
        self._trouble = Trouble(faults.seed, self.truth)
        self._trouble.add(faults.streams, start_ns)
        self._request_trouble = RequestTrouble(faults.seed)
        self._request_trouble.add(faults.requests, start_ns)
        self._audience = Audience(self, self.truth, round(life_s * SECOND_NS))
        self._worker = ThreadPoolExecutor(1, "loopback tape")  # the tape is read by one thread
        self.office = Office(self, self._trouble, accounts or AccountSettings())
        self._player = Player(
            self.source, self._audience, self.office, self._trouble, self.truth, self._on_tape,
            start=start, speed=speed, quiet_every_s=quiet_every_s, outages=outages,
        )  # fmt: skip
        self._announce(faults.announcements)

    async def __aenter__(self) -> Self:
        self.market = await self._on_tape(lambda: Market(self.source))
        runner = web.AppRunner(Rest(self).app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port).start()
        self._rest_runner = runner
        self._port = runner.addresses[0][1]
        self._server = await ws_create_server(
            self._audience.accept, self._host, self._stream_port, enable_auto_pong=False
        )
        self._stream_port = self._server.sockets[0].getsockname()[1]
        self._playing = asyncio.create_task(self._player.play(self.market.decimals), name="loopback tape")
        self._playing.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._playing.cancel()
        await asyncio.wait({self._playing})
        self._audience.leave()
        self._server.close()
        await self._server.wait_closed()
        await self._rest_runner.cleanup()
        self._worker.shutdown(cancel_futures=True)
        if not self._playing.cancelled():
            self._playing.result()  # a tape that could not be read is no quiet end

    def _ended(self, playing: "asyncio.Task[None]") -> None:
        """Let nobody wait for a market that will not go on."""
        if not playing.cancelled() and playing.exception() is not None:
            self._player.cut_all()

    @property
    def rest_url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def stream_url(self) -> str:
        return f"ws://{self._host}:{self._stream_port}"

    @property
    def now_ns(self) -> int:
        """The market's time, nanoseconds since 1970."""
        return self._player.now_ns

    @property
    def now_ms(self) -> int:
        return self.now_ns // NS_PER_MS

    @property
    def clock_ms(self) -> int:
        """The exchange's own clock, which may be wrong."""
        return self.now_ms + self._offset_ms

    @property
    def frames_sent(self) -> Counter[str]:
        """How many messages of each stream were sent, over all connections."""
        return self._player.frames_sent

    async def finished(self) -> None:
        """Return once the tape has ended and every follower has dealt with it."""
        await asyncio.shield(self._playing)

    async def cut(self, outage_s: float = 0.0, socket: int | None = None) -> None:
        """Cut every connection, or that socket of every pair, and let so much of the tape pass unheard."""

        def cut() -> None:
            self._audience.cut(self._of(socket))
            if outage_s:
                self._player.pass_unheard(round(outage_s * SECOND_NS), "outage")

        await self._player.order(cut)

    async def half_open(self, socket: int | None = None) -> None:
        """Let every connection, or that socket of every pair, carry nothing any more, though it stays open."""

        def halve() -> None:
            for connection in self._of(socket):
                self._audience.halve(connection)

        await self._player.order(halve)

    async def skip(self, seconds: float) -> None:
        """Let so much of the tape pass unheard; connections stay."""
        await self._player.order(lambda: self._player.pass_unheard(round(seconds * SECOND_NS), "skip"))

    async def trouble(self, faults: Faults) -> None:
        """Put more faults into force; their times count from now.

        Raises
        ------
        ValueError
            When they concern the tape itself, which is being played.
        """
        allowed = Faults(
            seed=faults.seed, streams=faults.streams, requests=faults.requests, announcements=faults.announcements,
            clock_offset_ms=faults.clock_offset_ms,
        )  # fmt: skip
        if faults != allowed:
            raise ValueError(
                "faults: expected streams, requests, announcements or clock_offset_ms; "
                "the others are set when the exchange starts"
            )

        def add() -> None:
            self._trouble.add(faults.streams, self.now_ns)
            self._request_trouble.add(faults.requests, self.now_ns)
            self._offset_ms = faults.clock_offset_ms or self._offset_ms
            self._announce(faults.announcements)

        await self._player.order(add)

    def refuse_rest(self, path: str = "", seconds: float = 60.0, status: int = 503) -> None:
        """Refuse an endpoint (``klines``; empty for all) with an HTTP status for so long by the market's time."""
        retry_after_s = 60 - self.now_ms // 1_000 % 60 if status == 429 else None
        self._request_trouble.refuse(path, self.now_ns + round(seconds * SECOND_NS), status, retry_after_s)

    def request_fault(self, method: str, name: str) -> RequestFault | None:
        """What is wrong with a request for that endpoint now; None when all is well."""
        return self._request_trouble.befalls(method, name, self.now_ns)

    def mute(self, stream: str, seconds: float, socket: int | None = None) -> None:
        """Let a stream fall silent for so long by the market's time, with its connections open."""
        if seconds > 0:
            fault = StreamFault(kind="drop", streams=stream, socket=socket, for_s=seconds)
            self._trouble.add([fault], self.now_ns)

    def set_clock(self, offset_ms: int) -> None:
        """Set how far the exchange's own clock is ahead of the market's time."""
        self._offset_ms = offset_ms

    async def deposit(self, account: int, amount_usdt: float) -> None:
        """Money comes to a test account, or leaves it when negative."""
        await self.office.catch_up()
        self.office.deposit(account, Decimal(repr(amount_usdt)))

    async def deleverage(self, account: int, symbol: str, side: str = "BOTH") -> None:
        """Close a position of a test account as auto-deleveraging does.

        Raises
        ------
        ValueError
            When there is none.
        """
        await self.office.catch_up()
        self.office.deleverage(account, symbol, side)

    async def expire_listen_key(self, account: int = 0) -> None:
        """Let a test account's listen key run out now."""
        await self.office.catch_up()
        self.office.expire_listen_key(account, self.now_ms)
        self.office.tell()

    async def lost(self, *streams: str) -> pl.DataFrame:
        """Messages due by now that no connection was sent whole: stream, time_ns, payload; by stream and time."""
        return await self._player.lost(streams)

    def status(self) -> dict[str, Any]:
        """What GET /loopback tells."""
        return {
            "stream_url": self.stream_url,
            "now_ms": self.now_ms,
            "start_ms": to_ms(self.source.start),
            "end_ms": to_ms(self.source.end),
            "speed": self.speed,
            "symbols": list(self.source.symbols),
            "is_finished": self._playing.done(),
            "frames_sent": sum(self.frames_sent.values()),
        }

    async def reading(self, work: Callable[[], Any]) -> Any:
        """The result of work on the tape."""
        return await self._on_tape(work)

    def listening(self) -> list[Connection]:
        """Connections that are sent messages."""
        return self._audience.listening()

    def changed(self) -> None:
        """A connection came, left, answered, or listens to something else."""
        self._audience.changed()

    def ended(self, connection: Connection) -> None:
        """A connection is no more."""
        self._trouble.lose(connection)

    def refusal(self, handshake: Handshake, socket: int) -> WSUpgradeResponseWithListener | None:
        """The answer to a handshake that is refused; None when it may come in."""
        fault = self._trouble.refusal(socket, handshake.names, self.now_ns)
        if fault is None:
            return None
        self.truth.note(self.now_ns, "refuse", socket=socket)
        if handshake.is_follower and not self._audience.followers():
            self._player.begin_order(lambda: self._player.pass_unheard(_REFUSED_PASSES_NS, "refuse"))
        return refused(fault.status, "refused", fault.retry_after_s)

    def _announce(self, announcements: Sequence[Announcement]) -> None:
        """Plan announcements; their times count from now."""
        for number, each in enumerate(announcements):
            due_ns = self.now_ns + round(each.from_s * SECOND_NS)
            english = {
                "i": due_ns // NS_PER_MS + number, "t": each.title, "s": "", "c": each.category,
                "d": due_ns // NS_PER_MS, "S": False, "j": "", "C": "",
            }  # fmt: skip
            text = json.dumps({"e": "announcement", "en": english, "zh": english}, separators=(",", ":"))
            self._player.plan(due_ns, lambda text=text: self._audience.tell_all(text.encode()))

    def _of(self, socket: int | None) -> list[Connection]:
        return [each for each in self._audience.open() if socket in (None, each.socket)]

    def _on_tape(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._worker, work)
