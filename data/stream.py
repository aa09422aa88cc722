"""Market streams over WebSocket: on every shard two sockets of different age, so that what one misses the other brings.

A connection is replaced before the exchange ends it, the new one first. One that falls silent is given up; one on which
a single stream fell silent, while the other socket went on with it, is subscribed again and then replaced.
"""

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

from data.clock import Clock, FollowedClock
from data.pauses import Pauses
from data.sink import Sink
from data.sockets import BACK_OFF_CAP_S, Asked, Connection, Fate
from data.venues.aster import Venue
from data.wal import connection_of, origin_of
from data.watch import Dead

STREAMS_PER_CONNECTION = 150  # the exchange drops a connection with more than 200
_BACK_OFF_S = 1.0  # upper end of the first wait; doubles with every failure in a row
_APART_S = 0.25  # between two openings or control messages: the exchange allows ten messages a second
_LOOK_S = 1.0  # how often to look for dead streams, and at connections that overlap
_PASSES = 4  # of the wait for a silent connection
_HOURS = 24  # in the life of a connection: two that are due within one of them are due together
_STEADY = "@markPrice"  # in the names of streams of steady rhythm
_STANDSTILL_S = 0.05  # of the machine's time: a followed clock that has not moved for so long may wait for us


class Stream:
    """Keeps streams flowing into a sink until stopped.

    Parameters
    ----------
    streams : names as the venue knows them; spread evenly over as few shards as hold them.
    clock : stamps frames and times every wait. A ``FollowedClock`` on a loopback venue is told the time by it.
    sockets : connections per shard, 1 or 2.
    silence_s : a connection on which no frame of any kind came for so long is given up. One without a stream of steady
        rhythm (mark prices, one a second) is asked by a ping after half of it. With a followed clock this takes a
        second connection that brings the time.
    life_s : a connection so old is replaced; the exchange ends those of a day. Where both sockets of a shard would be
        due together, the later one is due after half of it.
    overlap_s : how long the old connection and its successor are open together at least.
    seed : of the jitter of the back-off.
    silent : asked once a second which streams are dead on which of these connections, and told the time up to which
        everything that is alive has been heard; see ``Watch.silent``.
    is_wrapped, is_prompt : see ``Connection``.
    read_pause_ms : from ``data.pauses.BUSY_PER_S`` messages a second on, a connection is read no more often than this,
        milliseconds of the machine, so a message may be stamped so much later than it came; 0 reads every one at once.
    asked : shared with another stream of one loopback exchange, so that one notices that the other fell silent.

    Raises
    ------
    ValueError
        When there are no streams, or a name could not stand in a URL.
    """

    def __init__(
        self,
        venue: Venue,
        streams: Sequence[str],
        *,
        clock: Clock,
        sink: Sink,
        sockets: int = 2,
        silence_s: float = 10.0,
        life_s: float = 82_800.0,
        overlap_s: float = 5.0,
        seed: int = 0,
        silent: Callable[[int, Collection[int]], Sequence[Dead]] | None = None,
        is_wrapped: bool = True,
        is_prompt: bool = False,
        read_pause_ms: float = 0.0,
        asked: Asked | None = None,
    ):
        names = tuple(dict.fromkeys(streams))
        if not names:
            raise ValueError("streams: expected at least one name such as btcusdt@aggTrade, got none")
        for name in names:
            if not name or any(sign in " /?#&%" or not sign.isprintable() for sign in name):
                raise ValueError(f"stream name: expected one such as btcusdt@aggTrade, got {name!r}")
        if sockets not in (1, 2):
            raise ValueError(f"sockets: expected 1 or 2 per shard, got {sockets}")
        for what, seconds in (("silence_s", silence_s), ("life_s", life_s), ("overlap_s", overlap_s)):
            if not seconds > 0:
                raise ValueError(f"{what}: expected a positive number of seconds, got {seconds}")
        self._venue = venue
        self._clock = clock
        self._sink = sink
        self._silence_s, self._life_s, self._overlap_s = silence_s, life_s, overlap_s
        self._silent = silent
        self._follows = venue.is_loopback and isinstance(clock, FollowedClock)
        self._asked = asked or Asked()
        self._is_wrapped, self._is_prompt = is_wrapped, is_prompt
        self._pauses = Pauses(read_pause_ms) if read_pause_ms else None
        self._was_open = False  # any connection: the address is right
        self._turn = asyncio.Lock()
        self._next_turn_ns = 0
        self._control_messages = itertools.count(1)
        self._slots: dict[int, _Slot] = {}
        shards = _shards(venue, names)
        for socket in range(sockets):
            for shard, (url, own) in enumerate(shards):
                number = connection_of(venue.speaks, shard, socket)
                self._slots[number] = _Slot(number, url, own, Random(f"{seed}/{number}"))
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None  # of the sink

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
        jobs = [self._stopping.wait(), *map(self._keep, self._slots.values())]
        if self._silent is not None:
            jobs.append(self._revive())
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(tasks)
            if self._failure is not None:
                raise self._failure

    async def _keep(self, slot: "_Slot") -> None:
        """One slot's connections, again and again."""
        try:
            life = await self._begin(slot)
            while True:
                await self._over_or_due(slot, life)
                if life.is_over:
                    self._ended(slot, life)
                    life = await self._begin(slot)
                else:
                    life = await self._replace(slot, life)
        finally:
            await _cancelled([life.task for life in slot.lives])

    async def _begin(self, slot: "_Slot") -> "_Life":
        """A connection that is open, however many attempts it takes."""
        while True:
            if slot.wait_s > 0:
                await self._pause(slot.wait_s)
            slot.count += 1
            connection = Connection(
                slot.number, slot.count, slot.streams,
                clock=self._clock, sink=self._sink, headers=self._headers(slot),
                follows=self._follows, asked=self._asked, is_wrapped=self._is_wrapped, is_prompt=self._is_prompt,
                pauses=self._pauses,
            )  # fmt: skip
            await self._take_turn()  # not before: the first one loads a compiler, and the second would follow at once
            life = _Life(connection, asyncio.create_task(self._live(slot, connection)), self._clock.now_ns())
            life.task.add_done_callback(self._end_if_failed)
            slot.lives.append(life)
            await life.open_or_over()
            if not life.is_over:
                self._was_open = True
                slot.wait_s = 0.0
                slot.due_ns = self._due_ns(slot)
                return life
            self._ended(slot, life)

    def _headers(self, slot: "_Slot") -> dict[str, str] | None:
        """What a loopback exchange must know of a connection."""
        if not self._venue.is_loopback:
            return None
        own = {"X-Loopback-Socket": str(origin_of(slot.number).socket)}
        return own | {"X-Loopback-Clock": f"follow {self._asked.client}"} if self._follows else own

    async def _live(self, slot: "_Slot", connection: Connection) -> Fate:
        watch = asyncio.create_task(self._watch_silence(connection))
        try:
            return await connection.live(slot.url, self._was_open)
        finally:
            watch.cancel()

    def _end_if_failed(self, life: "asyncio.Task[Fate]") -> None:
        """End the run at once when the sink failed, even while nobody waits for this connection."""
        if not life.cancelled() and life.exception() is not None:
            self._failure = life.exception()
            self._stopping.set()

    def _ended(self, slot: "_Slot", life: "_Life") -> None:
        """Choose how long to wait before the next attempt; raises what ended the connection if that was the sink."""
        end = life.task.result()
        slot.lives.remove(life)
        if not slot.lives:
            slot.due_ns = None
        if not end.is_retried:
            raise ValueError(f"streams of {slot.url}: {end.reason}; check the venue's address")
        if life.connection.was_connected and self._clock.now_ns() - life.began_ns >= self._silence_s * 1e9:
            slot.failures = 0  # it was up for a while: no sign of an exchange that wants fewer attempts
        longest_s = min(_BACK_OFF_S * 2**slot.failures, BACK_OFF_CAP_S)
        slot.failures = min(slot.failures + 1, 10)
        slot.wait_s = end.wait_s + slot.jitter.uniform(0.0, longest_s)

    def _due_ns(self, slot: "_Slot") -> int:
        """When a connection that opens now has to be replaced: not when the other socket of its shard has to be."""
        now_ns, life_ns = self._clock.now_ns(), round(self._life_s * 1e9)
        twin = self._slots.get(slot.number ^ 1)
        is_close = twin and twin.due_ns is not None and abs(now_ns + life_ns - twin.due_ns) < life_ns // _HOURS
        return now_ns + (life_ns // 2 if is_close else life_ns)

    async def _over_or_due(self, slot: "_Slot", life: "_Life") -> None:
        """Return when the connection has ended or is to be replaced."""
        tasks = [asyncio.create_task(slot.renewal_wanted.wait()), asyncio.create_task(self._sleep_until(slot.due_ns))]
        try:
            await asyncio.wait([life.task, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _replace(self, slot: "_Slot", old: "_Life") -> "_Life":
        """Open the successor of a connection, let both bring everything for a while, then close the old one."""
        reason = slot.renewal_reason or "rotated"
        slot.renewal_reason = None
        slot.renewal_wanted.clear()
        new = await self._begin(slot)
        await self._overlap(slot, old, new)
        if new.is_over:
            self._ended(slot, new)
            slot.due_ns = self._clock.now_ns()
            return old
        old.connection.give_up(reason)
        await asyncio.wait([old.task])
        old.task.result()
        slot.lives.remove(old)
        return new

    async def _overlap(self, slot: "_Slot", old: "_Life", new: "_Life") -> None:
        """Return when both were open for a while and every steady stream that the old one brings has come on the new.

        One that does not bring them is given up.
        """
        began_ns = self._reached_ns()
        for life in (old, new):
            life.connection.unheard = {name for name in slot.streams if _STEADY in name}
        while not old.is_over and not new.is_over:
            passed_s = (self._reached_ns() - began_ns) / 1e9
            missing = new.connection.unheard - old.connection.unheard
            if passed_s >= self._overlap_s and not missing:
                return
            if passed_s >= self._overlap_s + self._silence_s:
                new.connection.give_up(f"{min(missing)} did not come on it")
                await asyncio.wait([new.task])
            else:
                await self._pause(min(self._overlap_s / 4, _LOOK_S))

    async def _watch_silence(self, connection: Connection) -> None:
        """Give up a connection on which nothing comes. Passes of the wait are counted: the clock may be set."""
        is_steady = any(_STEADY in name for name in connection.streams)
        heard_ns = passes = 0
        while True:
            await self._clock.sleep(self._silence_s / _PASSES)
            if self._follows:
                is_silent = (
                    connection.heard_ns and self._asked.reached_ns - connection.heard_ns >= self._silence_s * 1e9
                )
                passes = _PASSES if is_silent else 0
            elif connection.heard_ns != heard_ns or not heard_ns:
                heard_ns, passes = connection.heard_ns, 0
            else:
                passes += 1
            if passes == _PASSES:
                connection.give_up(f"silent for {self._silence_s:g} s")
            elif passes == _PASSES // 2 and not is_steady:
                connection.ping()

    async def _revive(self) -> None:
        """Subscribe again to streams that are dead on one connection; replace it where that does not help."""
        while True:
            await self._clock.sleep(_LOOK_S)
            for dead in self._silent(self._reached_ns(), self._slots.keys()):
                slot = self._slots[dead.connection]
                names = ", ".join(dead.streams[:3]) + (", ..." if len(dead.streams) > 3 else "")
                if len(slot.lives) != 1 or not slot.lives[0].connection.is_open.is_set():
                    continue  # it is being replaced
                if dead.is_lost:
                    slot.renewal_reason = f"dead on it: {names}"
                    slot.renewal_wanted.set()
                    continue
                life = slot.lives[0]
                for method in ("UNSUBSCRIBE", "SUBSCRIBE"):
                    await self._take_turn()
                    if life.is_over:  # it broke meanwhile; the next one subscribes to everything
                        break
                    message = {"method": method, "params": dead.streams, "id": next(self._control_messages)}
                    life.connection.ask(json.dumps(message).encode())

    def _reached_ns(self) -> int:
        """The time up to which everything that is alive has been heard."""
        return self._asked.reached_ns if self._follows else self._clock.now_ns()

    async def _take_turn(self) -> None:
        """Return when a connection may be opened or a control message sent: never two in the same instant."""
        async with self._turn:
            left_s = (self._next_turn_ns - self._clock.now_ns()) / 1e9
            if left_s > 0:
                await self._pause(min(left_s, _APART_S))  # the clock may have been set back
            self._next_turn_ns = self._clock.now_ns() + round(_APART_S * 1e9)

    async def _pause(self, seconds: float) -> None:
        """Wait by the clock. A followed clock that stands still may do so until we come: then go on."""
        sleeping = asyncio.create_task(self._clock.sleep(seconds))
        try:
            while not sleeping.done():
                before_ns = self._clock.now_ns()
                await asyncio.wait([sleeping], timeout=_STANDSTILL_S if self._follows else None)
                if self._clock.now_ns() == before_ns:
                    return
        finally:
            sleeping.cancel()

    async def _sleep_until(self, moment_ns: int) -> None:
        """Return at that moment of the clock, however often a clock that stands still lets a sleep end early."""
        while (left_ns := moment_ns - self._clock.now_ns()) > 0:
            await self._clock.sleep(left_ns / 1e9)


@dataclass(frozen=True, eq=False)
class _Life:
    """One connection of a slot, with the task that lives it."""

    connection: Connection
    task: "asyncio.Task[Fate]"
    began_ns: int

    @property
    def is_over(self) -> bool:
        return self.task.done()

    async def open_or_over(self) -> None:
        opening = asyncio.create_task(self.connection.is_open.wait())
        try:
            await asyncio.wait([self.task, opening], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()


class _Slot:
    """The place of one socket: its connections follow one another, and overlap while one is replaced."""

    def __init__(self, number: int, url: str, streams: tuple[str, ...], jitter: Random):
        self.number, self.url, self.streams, self.jitter = number, url, streams, jitter
        self.lives: list[_Life] = []  # those that go on
        self.count = 0  # of all lives
        self.failures = 0
        self.wait_s = 0.0  # before the next attempt
        self.due_ns: int | None = None  # when the newest is to be replaced
        self.renewal_wanted = asyncio.Event()  # before it is due
        self.renewal_reason: str | None = None


def _shards(venue: Venue, names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(URL, streams) of each shard."""
    by_url: dict[str, list[str]] = {}
    for name in names:
        by_url.setdefault(venue.stream_url_of(name), []).append(name)
    shards = []
    for url, own in by_url.items():
        count = math.ceil(len(own) / STREAMS_PER_CONNECTION)
        shards += [(url, tuple(own[first::count])) for first in range(count)]
    return shards


async def _cancelled(tasks: Sequence[asyncio.Task]) -> None:
    """Cancel tasks and wait for their end; raises the first failure among them."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
