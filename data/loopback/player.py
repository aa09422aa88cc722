"""The market's time: what is sent when, to whom, and when it stands still.

As fast as followers go: time stands still while no follower is subscribed to anything. At a given speed: while nobody
is. Planned moments (outages, faults, announcements) come when the followers are quiet, so that each run has them at the
same point of its messages. So do moments of which an account is told.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from data.loopback.account_office import Office
from data.loopback.audience import Audience
from data.loopback.chunk import Chunk
from data.loopback.delivery import Deliveries
from data.loopback.pace import Pace
from data.loopback.streams import stream_of
from data.loopback.tape import NS_PER_MS, Source, to_ms
from data.loopback.trouble import Trouble
from data.loopback.truth import LOST, Truth
from data.loopback.wire import Decimals

SECOND_NS = 1_000_000_000
TAIL_NS = 10 * SECOND_NS  # after the source's end: what was under way still arrives
_QUIET_EVERY_ROWS = 1_000

OnTape = Callable[[Callable[[], Any]], "asyncio.Future[Any]"]


@dataclass(frozen=True, kw_only=True)
class Outage:
    """At that market time every connection is cut, and ``seconds`` of the tape pass unheard."""

    at: datetime
    seconds: float


class Player:
    """Plays the tape.

    Attributes
    ----------
    now_ns : the market's time, nanoseconds since 1970.
    frames_sent : by stream.

    Parameters
    ----------
    quiet_every_s : market seconds after which followers must be quiet, at the latest.
    on_tape : has work on the source done, in the one thread that may read it.
    """

    def __init__(
        self,
        source: Source,
        audience: Audience,
        office: Office,
        trouble: Trouble,
        truth: Truth,
        on_tape: OnTape,
        *,
        start: datetime,
        speed: float | None,
        quiet_every_s: float,
        outages: Sequence[Outage],
    ):
        self.frames_sent: Counter[str] = Counter()
        self.now_ns = to_ms(start) * NS_PER_MS
        self._source, self._audience, self._office = source, audience, office
        self._trouble, self._truth = trouble, truth
        self._on_tape = on_tape
        self._decimals: dict[str, Decimals] = {}
        self._start_ns = self.now_ns
        self._quiet_every_ns = round(quiet_every_s * SECOND_NS)
        self._grid_ns = to_ms(source.start) * NS_PER_MS
        self._end_ns = to_ms(source.end) * NS_PER_MS + TAIL_NS
        self._sent_ns = self.now_ns - 1  # everything delivered up to then has been sent
        self._outages = sorted(
            ((to_ms(each.at) * NS_PER_MS, each.seconds) for each in outages if each.at > start),
            reverse=True,  # the next one last
        )
        self._plan: list[tuple[int, Callable[[], None]]] = []  # the next one last
        self._is_paced = speed is not None
        self._pace = Pace(speed)
        self._orders: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self._quiet_at_ns = 0  # next time at which all followers must be quiet; 0 when not chosen yet
        self._next: tuple[int, asyncio.Future[Deliveries]] | None = None
        self._current: tuple[int, Deliveries] | None = None
        self._follows_ns: dict[int, int] = {}  # by number of a chunk: the last time used before it
        self._has_ended = False

    async def play(self, decimals: dict[str, Decimals]) -> None:
        """The market's time, from the start to the end."""
        self._decimals = decimals
        try:
            await self._play()
        finally:
            self._has_ended = True

    async def order(self, what: Callable[[], None]) -> None:
        """Have something done between two messages, when the followers are quiet."""
        if self._has_ended:
            what()
            return
        done = asyncio.get_running_loop().create_future()
        self._orders.append((what, done))
        self._audience.changed()
        await done

    def begin_order(self, what: Callable[[], None]) -> None:
        """As ``order``, without waiting for it."""
        self._orders.append((what, asyncio.get_running_loop().create_future()))
        self._audience.changed()

    def plan(self, at_ns: int, what: Callable[[], None]) -> None:
        """Have something done at a market time, when the followers are quiet."""
        self._plan.append((at_ns, what))
        self._plan.sort(key=lambda moment: moment[0], reverse=True)

    def cut_all(self) -> None:
        """Cut every connection."""
        self._audience.cut(self._audience.open())

    def pass_unheard(self, passed_ns: int, why: str) -> None:
        """Time passes and nobody hears of it."""
        self._truth.note(self.now_ns, why)
        self.now_ns = self._sent_ns = min(self.now_ns + passed_ns, self._end_ns)
        self._quiet_at_ns = 0
        self._pace.stop()
        while self._outages and self._outages[-1][0] <= self.now_ns:
            self._outages.pop()
        for connection in self._audience.followers():
            connection.tell(self.now_ns)

    async def lost(self, streams: Sequence[str]) -> pl.DataFrame:
        """Messages due by now that were sent whole to no connection: stream, time_ns, payload; by stream and time."""
        parts = await self._on_tape(lambda: list(self._lost(streams, self._sent_ns)))
        return pl.concat([pl.DataFrame(schema=LOST), *parts]).sort("stream", "time_ns")

    def _lost(self, streams: Sequence[str], until_ns: int):
        chunk_ns = self._source.chunk_ms * NS_PER_MS
        last_ns = 0
        for index in range((self._start_ns - self._grid_ns) // chunk_ns, (until_ns - self._grid_ns) // chunk_ns + 1):
            start_ns = self._grid_ns + index * chunk_ns
            follows_ns = self._follows_ns.get(index, last_ns)
            chunk = Chunk(self._source, self._decimals, start_ns, start_ns + chunk_ns, follows_ns)
            last_ns = chunk.last_ns
            for name in streams:
                stream = stream_of(name, self._source.symbols)
                if stream is None:
                    continue
                places, texts = chunk.messages(stream)
                times_ns = chunk.times_ns[places]
                is_due = (times_ns >= self._start_ns) & (times_ns <= until_ns)
                is_lost = is_due & ~self._truth.reached(name, times_ns)
                rows = {"stream": name, "time_ns": times_ns[is_lost],
                        "payload": [texts[place] for place in np.flatnonzero(is_lost).tolist()]}  # fmt: skip
                yield pl.DataFrame(rows, LOST)

    async def _play(self) -> None:
        while True:
            await self._obey()
            await self._befall()
            await self._office.follow()
            if self.now_ns >= self._end_ns:
                break
            if not self._audience.is_heard(self._is_paced):
                self._pace.stop()
                await self._audience.until(lambda: self._audience.is_heard(self._is_paced) or bool(self._orders))
                await self._quiet()  # who is still asking for the past is not ready for what comes
                continue
            deliveries = await self._deliveries()
            quiet_at_ns = self._choose_quiet(deliveries.chunk)
            paced_ns = await self._pace.reached(self.now_ns)
            stop_ns = quiet_at_ns if paced_ns is None else min(quiet_at_ns, paced_ns)
            await self._make_ready(deliveries)
            await self._office.ready(stop_ns)
            if not self._audience.is_heard(self._is_paced):  # gone meanwhile
                continue
            told_ns = self._office.advance(stop_ns)
            self._send(deliveries, told_ns)
            self._office.tell()
            if told_ns == quiet_at_ns:
                self._quiet_at_ns = 0
                await self._quiet()
                self._audience.tend(self.now_ns)
            elif told_ns < stop_ns:  # who was told of an order may act before anything else happens
                await self._quiet()
        await self._quiet()
        await self._obey()

    async def _quiet(self) -> None:
        await self._audience.quiet(self.now_ns)

    async def _obey(self) -> None:
        """Do what was ordered."""
        while self._orders:
            what, done = self._orders.pop(0)
            await self._quiet()
            what()
            self._quiet_at_ns = 0
            if not done.done():
                done.set_result(None)

    def _planned_ns(self) -> int:
        """When the next planned moment is."""
        moments = [moments[-1][0] for moments in (self._outages, self._plan) if moments]
        return min(*moments, self._trouble.next_moment_ns(), self._end_ns)

    async def _befall(self) -> None:
        """Let happen what is planned for now."""
        if self._planned_ns() > self.now_ns or self.now_ns >= self._end_ns:
            return
        await self._quiet()
        struck = [(each, each.listener.names) for each in self._audience.open() if not each.is_half_open]
        for kind, connection in list(self._trouble.moments(self.now_ns, struck)):
            if kind == "cut":
                self._audience.cut([connection])
            else:
                self._audience.halve(connection)
        while self._plan and self._plan[-1][0] <= self.now_ns:
            self._plan.pop()[1]()
        if self._outages and self._outages[-1][0] <= self.now_ns:
            _, seconds = self._outages.pop()
            self.cut_all()
            self.pass_unheard(round(seconds * SECOND_NS), "outage")

    async def _deliveries(self) -> Deliveries:
        """Those of now; the next ones are then being made."""
        chunk_ns = self._source.chunk_ms * NS_PER_MS
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
        chunk_ns = self._source.chunk_ms * NS_PER_MS
        start_ns = self._grid_ns + index * chunk_ns
        listeners = {connection.listener for connection in self._audience.listening()}
        self._follows_ns[index] = after_ns

        def made() -> Deliveries:
            chunk = Chunk(self._source, self._decimals, start_ns, start_ns + chunk_ns, after_ns)
            deliveries = Deliveries(chunk, self._source.symbols)
            for listener in listeners:
                deliveries.queue(listener)
            return deliveries

        return index, self._on_tape(made)

    async def _make_ready(self, deliveries: Deliveries) -> None:
        """Return once everybody who listens has a queue; others may come meanwhile."""
        while missing := [
            connection.listener
            for connection in self._audience.listening()
            if not deliveries.is_ready(connection.listener)
        ]:
            await self._on_tape(lambda listener=missing[0]: deliveries.queue(listener))

    def _choose_quiet(self, chunk: Chunk) -> int:
        """When the followers must be quiet next.

        It depends on the tape and on what is planned, not on who listens, so that the same run gives the same moments.
        """
        if not self._quiet_at_ns:
            last_ns = max(chunk.end_ns - 1, chunk.last_ns)
            first = int(np.searchsorted(chunk.times_ns, self._sent_ns, "right"))
            rows = chunk.times_ns[first + _QUIET_EVERY_ROWS - 1 :][:1]
            every_ns = (self.now_ns // self._quiet_every_ns + 1) * self._quiet_every_ns
            self._quiet_at_ns = min(last_ns, every_ns, self._planned_ns(), *rows.tolist())
        return self._quiet_at_ns

    def _send(self, deliveries: Deliveries, stop_ns: int) -> None:
        """Send everything delivered up to ``stop_ns``."""
        for connection in self._audience.listening():
            queue = deliveries.queue(connection.listener)
            first, last = np.searchsorted(queue.times_ns, (self._sent_ns, stop_ns), "right").tolist()
            if self._trouble.concerns(connection, self._sent_ns, stop_ns):
                wire, streams = self._trouble.sent(connection, queue, first, last, self._sent_ns, stop_ns)
            else:
                wire, streams = queue.between(first, last)
            self._truth.sent(connection.number, queue.names, self._sent_ns, stop_ns)
            if wire:
                connection.send(b"".join(wire))
                self.frames_sent.update({queue.names[stream]: count for stream, count in streams.items()})
        if stop_ns != self._quiet_at_ns:  # else the question whether it is quiet tells it
            for connection in self._audience.followers():
                connection.tell(stop_ns)
        self.now_ns = self._sent_ns = stop_ns
