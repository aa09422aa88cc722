"""The loopback exchange: plays a tape over real sockets and tells its clients the time.

A client that follows (header ``X-Loopback-Clock: follow``) gets before every message a ping with the time at which it
is delivered, so that what it stamps depends neither on speed nor on the machine; and pings that ask whether it is
quiet, before which the market does not go on. Other clients get the same messages, and nobody waits for them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
from aiohttp import web
from picows import WSCloseCode, WSUpgradeRequest, WSUpgradeResponseWithListener, ws_create_server

from data.loopback.chunk import Chunk
from data.loopback.connection import Connection, accepted
from data.loopback.delivery import Deliveries
from data.loopback.faults import Faults
from data.loopback.market import Market
from data.loopback.pace import Pace
from data.loopback.rest import Rest
from data.loopback.tape import NS_PER_MS, Source, to_ms

SECOND_NS = 1_000_000_000
TAIL_NS = 10 * SECOND_NS  # after the source's end: what was under way still arrives
_QUIET_EVERY_NS = 10 * SECOND_NS
_QUIET_EVERY_ROWS = 1_000
_BACK_WITHIN_S = 5.0  # of the machine's time: how long clients that were cut off are waited for


@dataclass(frozen=True, kw_only=True)
class Outage:
    """At that market time every connection is cut, and ``seconds`` of the tape pass unheard."""

    at: datetime
    seconds: float


class Loopback:
    """An exchange at work; an async context manager.

    Parameters
    ----------
    source : what to play.
    speed : market seconds per second of the machine; None for as fast as the followers go.
    host, port, stream_port : where REST and WebSocket listen; 0 lets the system choose.
    outages : planned ones.
    start : the market's time at the beginning, UTC; None for the source's start. What lies before is history for REST.
    life_s : market seconds after which the exchange closes a connection.
    weight_limit : of REST requests, per minute.

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
    ):
        if speed is not None and not speed > 0:
            raise ValueError(f"speed: expected a positive factor or None for as fast as followers go, got {speed}")
        if start is not None and not source.start <= start < source.end:
            raise ValueError(f"start: expected a time of the tape, {source.start} to {source.end}, got {start}")
        self.source = source
        self.speed = speed
        self.weight_limit = weight_limit
        self.frames_sent: Counter[str] = Counter()
        self.market: Market  # once it is open
        self._host, self._port, self._stream_port = host, port, stream_port
        self._grid_ns = to_ms(source.start) * NS_PER_MS
        self._end_ns = to_ms(source.end) * NS_PER_MS + TAIL_NS
        self._now_ns = to_ms(start or source.start) * NS_PER_MS
        self._sent_ns = self._now_ns - 1  # everything delivered up to then has been sent
        self._outages = sorted(
            ((to_ms(each.at) * NS_PER_MS, each.seconds) for each in outages if each.at > (start or source.start)),
            reverse=True,  # the next one last
        )
        self._life_ns = round(life_s * SECOND_NS)
        self._faults = Faults()
        self._connections: list[Connection] = []
        self._changed = asyncio.Event()
        self._orders: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._back_soon = 0  # followers that were cut off and are waited for
        self._quiet_at_ns = 0  # next time at which all followers must be quiet; 0 when not chosen yet
        self._worker = ThreadPoolExecutor(1, "loopback tape")  # the tape is read by one thread
        self._next: tuple[int, asyncio.Future[Deliveries]] | None = None
        self._current: tuple[int, Deliveries] | None = None
        self._pace = Pace(speed)

    async def __aenter__(self) -> Self:
        self.market = await self._on_tape(lambda: Market(self.source))
        runner = web.AppRunner(Rest(self).app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port).start()
        self._rest_runner = runner
        self._port = runner.addresses[0][1]
        self._server = await ws_create_server(self._accept, self._host, self._stream_port, enable_auto_pong=False)
        self._stream_port = self._server.sockets[0].getsockname()[1]
        self._player = asyncio.create_task(self._play(), name="loopback tape")
        self._player.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._player.cancel()
        await asyncio.wait({self._player})
        for connection in self._open():
            connection.leave(WSCloseCode.GOING_AWAY)
        self._server.close()
        await self._server.wait_closed()
        await self._rest_runner.cleanup()
        self._worker.shutdown(cancel_futures=True)
        if not self._player.cancelled():
            self._player.result()  # a tape that could not be read is no quiet end

    def _ended(self, player: "asyncio.Task[None]") -> None:
        """Let nobody wait for a market that will not go on."""
        if not player.cancelled() and player.exception() is not None:
            self._cut_all()

    @property
    def rest_url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def stream_url(self) -> str:
        return f"ws://{self._host}:{self._stream_port}"

    @property
    def now_ns(self) -> int:
        """The market's time, nanoseconds since 1970."""
        return self._now_ns

    @property
    def now_ms(self) -> int:
        return self._now_ns // NS_PER_MS

    async def finished(self) -> None:
        """Return once the tape has ended and every follower has dealt with it."""
        await asyncio.shield(self._player)

    async def cut(self, outage_s: float = 0.0) -> None:
        """Cut every connection, and let so much of the tape pass unheard."""

        def cut() -> None:
            self._cut_all()
            self._pass(round(outage_s * SECOND_NS))

        await self._order(cut)

    async def skip(self, seconds: float) -> None:
        """Let so much of the tape pass unheard; connections stay."""
        await self._order(lambda: self._pass(round(seconds * SECOND_NS)))

    def refuse_rest(self, path: str = "", seconds: float = 60.0, status: int = 503) -> None:
        """Refuse an endpoint (``klines``; empty for all) with an HTTP status for so long by the market's time."""
        self._faults.refuse(path, self._now_ns + round(seconds * SECOND_NS), status)

    def refused(self, name: str) -> int | None:
        """HTTP status with which that endpoint is refused now; None when it works."""
        return self._faults.refused(name, self._now_ns)

    def mute(self, stream: str, seconds: float) -> None:
        """Let a stream fall silent for so long by the market's time, with its connections open."""
        self._faults.mute(stream, self._now_ns + round(seconds * SECOND_NS))

    def status(self) -> dict[str, Any]:
        """What GET /loopback tells."""
        return {
            "stream_url": self.stream_url,
            "now_ms": self.now_ms,
            "start_ms": to_ms(self.source.start),
            "end_ms": to_ms(self.source.end),
            "speed": self.speed,
            "symbols": list(self.source.symbols),
            "is_finished": self._player.done(),
            "frames_sent": sum(self.frames_sent.values()),
        }

    async def reading(self, work: Callable[[], str | None]) -> str | None:
        """The result of work on the tape."""
        return await self._on_tape(work)

    def changed(self) -> None:
        """A connection came, left, answered, or listens to something else."""
        self._changed.set()

    def _on_tape(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _accept(self, request: WSUpgradeRequest) -> Connection | WSUpgradeResponseWithListener:
        """Answer an opening handshake."""
        answer = accepted(self, request)
        if isinstance(answer, Connection):
            self._connections.append(answer)
        return answer

    async def _order(self, what: Callable[[], None]) -> None:
        """Have something done between two messages, when the followers are quiet."""
        if self._player.done():
            what()
            return
        done = asyncio.get_running_loop().create_future()
        self._orders.append((what, done))
        self.changed()
        await done

    def _open(self) -> list[Connection]:
        self._connections = [connection for connection in self._connections if not connection.is_gone]
        return [connection for connection in self._connections if connection.is_open]

    def _cut_all(self) -> None:
        self._wait_for_return()
        for connection in self._open():
            connection.cut()

    def _pass(self, passed_ns: int) -> None:
        """Time passes and nobody hears of it."""
        self._now_ns = self._sent_ns = min(self._now_ns + passed_ns, self._end_ns)
        self._quiet_at_ns = 0
        self._pace.stop()
        while self._outages and self._outages[-1][0] <= self._now_ns:
            self._outages.pop()
        for connection in self._open():
            connection.tell(self._now_ns)

    async def _play(self) -> None:
        """The market's time, from the start to the end."""
        while True:
            await self._obey()
            if self._now_ns >= self._end_ns:
                break
            if not self._is_heard():
                self._pace.stop()
                await self._something_changed(lambda: self._is_heard() or bool(self._orders))
                await self._quiet()  # who is still asking for the past is not ready for what comes
                continue
            deliveries = await self._deliveries()
            quiet_at_ns = self._choose_quiet(deliveries.chunk)
            paced_ns = await self._pace.reached(self._now_ns)
            stop_ns = quiet_at_ns if paced_ns is None else min(quiet_at_ns, paced_ns)
            await self._make_ready(deliveries)
            if not self._is_heard():  # gone meanwhile
                continue
            self._send(deliveries, stop_ns)
            if stop_ns == quiet_at_ns:
                self._quiet_at_ns = 0
                await self._quiet()
                self._tend()
            if self._outages and self._outages[-1][0] <= self._now_ns:
                _, seconds = self._outages.pop()
                self._cut_all()
                self._pass(round(seconds * SECOND_NS))
        await self._quiet()
        await self._obey()

    async def _obey(self) -> None:
        """Do what was ordered."""
        while self._orders:
            what, done = self._orders.pop(0)
            await self._quiet()
            what()
            if not done.done():
                done.set_result(None)

    def _is_heard(self) -> bool:
        """Whether time may pass."""
        followers = self._listening_followers()
        if followers < self._back_soon:
            return False
        self._back_soon = 0
        return followers > 0 or (self.speed is not None and any(each.is_listening for each in self._open()))

    def _listening_followers(self) -> int:
        return sum(connection.is_follower and connection.is_listening for connection in self._open())

    def _wait_for_return(self) -> None:
        """Clients are about to be cut off: time stands still until as many follow again, or for a while.

        Several clients come back one after the other; the first must not run away with the market.
        """
        self._back_soon = max(self._back_soon, self._listening_followers())
        asyncio.get_running_loop().call_later(_BACK_WITHIN_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._back_soon = 0
        self.changed()

    async def _something_changed(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            self._changed.clear()
            await self._changed.wait()

    async def _quiet(self) -> None:
        """Return once every follower has dealt with what it was sent."""
        followers = [connection for connection in self._open() if connection.is_follower]
        for connection in followers:
            connection.ask(self._now_ns)
        await self._something_changed(lambda: not any(connection.is_awaited for connection in followers))

    def _tend(self) -> None:
        """What the exchange does to connections as time passes."""
        for connection in self._open():
            if self._now_ns - connection.opened_ns >= self._life_ns:
                self._wait_for_return()
                connection.leave(WSCloseCode.GOING_AWAY)
            else:
                connection.keep_alive(self._now_ns)

    async def _deliveries(self) -> Deliveries:
        """Those of now; the next ones are then being made."""
        chunk_ns = self.source.chunk_ms * NS_PER_MS
        index = (self._sent_ns + 1 - self._grid_ns) // chunk_ns
        if self._current is not None and self._current[0] == index:
            return self._current[1]
        if self._next is None or self._next[0] != index:
            follows = self._current is not None and self._current[0] == index - 1
            self._next = self._begin(index, self._current[1].chunk.last_ns if follows else 0)
        self._current = (index, await self._next[1])
        if self._grid_ns + (index + 1) * chunk_ns < self._end_ns:
            self._next = self._begin(index + 1, self._current[1].chunk.last_ns)
        return self._current[1]

    def _begin(self, index: int, after_ns: int) -> "tuple[int, asyncio.Future[Deliveries]]":
        """Have the chunk of that number made for those who listen now."""
        chunk_ns = self.source.chunk_ms * NS_PER_MS
        start_ns = self._grid_ns + index * chunk_ns
        listeners = {connection.listener for connection in self._open() if connection.is_listening}

        def made() -> Deliveries:
            chunk = Chunk(self.source, self.market.decimals, start_ns, start_ns + chunk_ns, after_ns)
            deliveries = Deliveries(chunk, self.source.symbols)
            for listener in listeners:
                deliveries.queue(listener)
            return deliveries

        return index, self._on_tape(made)

    async def _make_ready(self, deliveries: Deliveries) -> None:
        """Return once everybody who listens has a queue; others may come meanwhile."""
        while missing := [
            connection.listener
            for connection in self._open()
            if connection.is_listening and not deliveries.is_ready(connection.listener)
        ]:
            await self._on_tape(lambda listener=missing[0]: deliveries.queue(listener))

    def _choose_quiet(self, chunk: Chunk) -> int:
        """When the followers must be quiet next.

        It depends on the tape alone and not on who listens, so that the same run gives the same moments.
        """
        if not self._quiet_at_ns:
            last_ns = max(chunk.end_ns - 1, chunk.last_ns)
            first = int(np.searchsorted(chunk.times_ns, self._sent_ns, "right"))
            rows = chunk.times_ns[first + _QUIET_EVERY_ROWS - 1 :][:1]
            every_ns = (self._now_ns // _QUIET_EVERY_NS + 1) * _QUIET_EVERY_NS
            outage_ns = [self._outages[-1][0]] if self._outages else []
            self._quiet_at_ns = min(last_ns, every_ns, self._end_ns, *rows.tolist(), *outage_ns)
        return self._quiet_at_ns

    def _send(self, deliveries: Deliveries, stop_ns: int) -> None:
        """Send everything delivered up to ``stop_ns``."""
        muted = self._faults.muted(self._now_ns)
        for connection in self._open():
            if connection.is_listening:
                queue = deliveries.queue(connection.listener)
                first, last = np.searchsorted(queue.times_ns, (self._sent_ns, stop_ns), "right").tolist()
                wire, streams = queue.between(first, last, muted)
                if wire:
                    connection.send(b"".join(wire))
                    self.frames_sent.update({queue.names[stream]: count for stream, count in streams.items()})
            if stop_ns != self._quiet_at_ns:  # else the question whether it is quiet tells it
                connection.tell(stop_ns)
        self._now_ns = self._sent_ns = stop_ns
