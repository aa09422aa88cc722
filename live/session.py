"""Paper and real mode: listens to an exchange's streams, writes what arrives to the input log, and acts on it.

The log comes first: what is acted on is in it, and what is written to the journal rests on a log that is on the disk. A
session that was killed is walked again from its log, through the same code, and goes on.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from data import wal
from data.clock import Clock, RealClock
from data.sockets import Asked
from data.stream import Stream
from data.stream_names import streams_of
from data.venues.aster import AsterRest, Venue
from data.wal import Kind, Log, Record
from live.alerts import Alerts
from live.asking import Asking
from live.backup import back_up_daily
from live.commands import Inbox
from live.disk import Disk
from live.dispatch import SINCE_MS, Account, Dispatcher, walk
from live.heartbeat import EVERY_S, AccountTold, Beat, tell_systemd, write_beat
from live.journal import Damaged, Journal
from live.oversight import Adopting, RiskConfig
from live.readings import NS_PER_MS
from live.risk import Flatten, RiskEvent
from live.shadows import Shadows, longest_looking_back, require_same_feed, walk_shadows
from live.waiting import set_or_until, why_not_reached
from live.warm_start import warm_start
from research.engine import TradingConfig, looks_at_liquidations

_STREAMS = ("bookTicker", "markPrice", "aggTrade")
_TELL_S, _SYNC_S, _LOOK_S = 0.5, 1.0, 0.1  # of the machine's time
_TOLERATED_MS = 60_000  # the clock may be so far behind the log


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a session stands."""

    now: datetime
    connection: str  # starting, connected, reconnecting
    side: int  # of the open positions, added up
    trades: int  # that were closed
    net_pnl_usdt: float  # of those
    bars: int
    gaps: int
    reconnects: int


class LiveAccount(Account, Protocol):
    """The account of a real run, which works beside the streams."""

    def restore(self, dispatcher: Dispatcher, journal: Path, write: Callable[..., None]) -> None:
        """Take up what a run before left; from now on ``write`` puts notes into the log."""

    @property
    def level(self) -> str:
        """Of ``live.risk``."""

    @property
    def told(self) -> AccountTold:
        """For the sign of life."""

    def ordered(self, event: RiskEvent | Adopting | Flatten) -> None:
        """What the operator or an alarm said of the level, of which symbol a position is taken over, or closed."""

    async def run(self, asked: Asked) -> None:
        """Keep to the account until cancelled; ``asked`` is of the market's streams."""

    async def come_to_rest(self) -> None:
        """Let no entry out any more, and return once what is held has its stop; not much later in any case."""

    def disk_was_full(self, reason: str) -> None:
        """Log or journal could not be written: no entry rests on them."""


class Session:
    """One run of paper or real mode on an open log and journal. The ``Sink`` of ``data.stream``.

    Parameters
    ----------
    configs : what to trade.
    resolution : tick or bar.
    limits : on what may be lost; None for none.
    alerts : that people are told through; None: nobody is.
    lake : for the warm start; None for REST alone.
    run_length_s : stop by itself so long after the first connection, by the clock; None to go on.
    account : that orders go to; None for paper.
    shadows : that hear what this hears; None for none.

    Attributes
    ----------
    ended_early : in a sentence, why the run length was not reached; None where it was, or a signal came.

    Raises
    ------
    ValueError
        When the log is of other configs or limits, of another resolution, or of the future.
    """

    def __init__(
        self,
        configs: Sequence[TradingConfig],
        venue: Venue,
        clock: Clock,
        log: Log,
        journal: Journal,
        *,
        resolution: str,
        limits: RiskConfig | None = None,
        alerts: Alerts | None = None,
        lake: Path | None = None,
        run_length_s: float | None = None,
        account: LiveAccount | None = None,
        shadows: Shadows | None = None,
    ) -> None:
        self._shadows = shadows or Shadows([], journal.path)
        require_same_feed(configs, self._shadows.configs)
        self.dispatcher = walk(configs, log.folder, journal, account)
        if journal.is_ahead and not self.dispatcher.seats:
            raise Damaged(f"{log.folder} has nothing of the run that {journal.path} holds; give another journal")
        if not self.dispatcher.seats:  # cut off before trading began: nothing was acted on
            for segment in wal.segments(log.folder):
                segment.unlink()
            self.dispatcher = Dispatcher(configs, journal, account)
        else:
            walk_shadows(self._shadows, log.folder)
        self._configs, self._venue, self._clock = configs, venue, clock
        self._log, self._journal, self._resolution, self._limits = log, journal, resolution, limits
        self._lake, self._run_length_s, self._account = lake, run_length_s, account
        self._alerts = alerts
        self._disk = Disk(log, journal, None if account is None else account.disk_was_full)
        self.dispatcher.oversight.news.clear()  # of the run before: it was told
        self.dispatcher.oversight.ordered.clear()
        self._last_ns = max(self.dispatcher.last_ns, journal.last_ms * NS_PER_MS)
        self._pending: list[Record] = []
        self._is_listening = asyncio.Event()
        self._is_new_due = asyncio.Event()
        self._armed_ms: int | None = None
        self._began_ms = 0
        self.ended_early: str | None = None
        if self.dispatcher.seats and self.dispatcher.resolution != resolution:
            raise ValueError(
                f"{log.folder} is a log of resolution {self.dispatcher.resolution}: go on with that, or give another "
                "journal"
            )
        if self.dispatcher.seats and self.dispatcher.oversight.limits != limits:
            raise ValueError(f"{log.folder} is a log under another [risk]: go on with that, or give another journal")

    async def run(self, stop: asyncio.Event, tell: Callable[[Progress], None] = lambda progress: None) -> None:
        """Trade until ``stop`` is set or the run length is over.

        Raises
        ------
        Unavailable
            When the exchange does not answer at the start.
        ValueError
            When it refuses a question for good, or does not know a symbol.
        OSError
            When log or journal cannot be written: nothing is done that they do not hold.
        """
        async with AsterRest(self._venue, self._clock) as rest:
            await self._begin(rest)
            self._disk.keep_reserve()
            if self._account is not None:
                self._account.restore(self.dispatcher, self._journal.path, self._note)
            names = self._stream_names()
            asked = Asked()
            stream = Stream(
                self._venue, names, clock=self._clock, sink=self, sockets=1, seed=os.getpid(),
                is_prompt=True, asked=asked,
            )  # fmt: skip
            asking = Asking(
                rest, self.dispatcher, self._shadows, self._clock,
                answered=self._answered, note=self._note, began_ms=self._began_ms,
            )  # fmt: skip
            jobs = (stop.wait(), self._run_length(), stream.run(), self._keep_time(), asking.for_bars(),
                    asking.for_open_interest(self._is_listening), self._disk.gather(), self._sync_forever(),
                    self._obey(), self._beat_forever(), self._tell(tell),
                    back_up_daily(self._journal.path, self._clock, self._disk),
                    self._shadows.run(getattr(self._clock, "hold", nullcontext)))  # fmt: skip
            tasks = [asyncio.create_task(job) for job in jobs]
            if self._account is not None:
                tasks.append(asyncio.create_task(self._account.run(asked)))
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if self._account is not None and not tasks[-1].done():
                    await self._account.come_to_rest()
            finally:
                with getattr(self._clock, "hold", nullcontext)():
                    for task in tasks:
                        task.cancel()
                    await asyncio.wait(tasks)
                self._tell_people()  # also what ends the run
            for task in tasks:
                if not task.cancelled():
                    task.result()
            self._note("stopped")
            self._log.sync()
            self._shadows.finish()
            tell_systemd("STOPPING=1")
            write_beat(self._journal.path, self._beat(has_ended=True))
            self._disk.give_up_reserve()

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str], life: int) -> None:
        self._write(recv_ns, Kind.NOTE, connection, wal.note("opened", streams=list(streams), life=life))
        self.burst()
        self._is_listening.set()

    def burst(self, connection: int = 0, frames: Sequence[tuple[int, bytes]] = ()) -> None:
        """Act on what arrived, once the log has it."""
        for recv_ns, payload in frames:
            self._write(recv_ns, Kind.FRAME, connection, payload)
        self._disk.flush()
        pending, self._pending = self._pending, []
        for record in pending:
            self.dispatcher.take(record)
        for record in pending:
            self._shadows.hear(record)
        due_ms = self.dispatcher.due_ms
        if due_ms is not None and (self._armed_ms is None or due_ms < self._armed_ms):
            self._is_new_due.set()

    def closed(self, recv_ns: int, connection: int, reason: str, life: int, heard_ns: int) -> None:
        told = {"reason": reason, "life": life, "heard_ns": heard_ns}
        self._write(recv_ns, Kind.NOTE, connection, wal.note("closed", **told))
        self.burst()

    def progress(self) -> Progress:
        """Where it stands now."""
        seats = self.dispatcher.seats
        was_open = bool(self.dispatcher.opened)
        return Progress(
            now=datetime.fromtimestamp(self._clock.now_ms() / 1_000, UTC),
            connection="connected" if self.dispatcher.open else "reconnecting" if was_open else "starting",
            side=sum(seat.desk.side for seat in seats),
            trades=sum(seat.desk.closed_trades for seat in seats),
            net_pnl_usdt=sum(seat.desk.net_pnl_usdt for seat in seats),
            bars=sum(seat.feed.bars for seat in seats),
            gaps=sum(seat.feed.gaps for seat in seats),
            reconnects=self.dispatcher.reconnects,
        )

    async def _begin(self, rest: AsterRest) -> None:
        """Write down all that must be known first, or that an earlier session goes on."""
        now_ms = self._began_ms = self._clock.now_ms()
        behind_ms = self._last_ns // NS_PER_MS - now_ms
        if behind_ms > _TOLERATED_MS:
            raise ValueError(
                f"{self._log.folder} ends {behind_ms / 1_000:.0f} s after the time it is now by the exchange's clock; "
                "give another journal"
            )
        if self.dispatcher.seats:
            self._note("resumed", pid=os.getpid())
            return
        since_ms = now_ms - SINCE_MS
        known = [*self._configs, *longest_looking_back(self._shadows.configs)]
        answers = await warm_start(rest, known, since_ms, self._lake)
        told = {"resolution": self._resolution, "since_ms": since_ms, "venue": self._venue.name, "pid": os.getpid()}
        if self._account is not None:
            told["instance"] = self._account.instance
        if self._limits is not None:
            told["risk"] = asdict(self._limits)
        self._keep(Kind.NOTE, wal.note("started", configs=[config.config_hash for config in self._configs], **told))
        for payload in answers:
            self._keep(Kind.ANSWER, payload)
        self._note("ready")

    def _stream_names(self) -> tuple[str, ...]:
        names = [
            name for config in self._configs
            for name in streams_of([config.symbol], [f"kline_{config.interval}", *_STREAMS])
        ]  # fmt: skip
        if any(map(looks_at_liquidations, (*self._configs, *self._shadows.configs))):
            names += streams_of([], ["forceOrder"])
        return tuple(dict.fromkeys(names))

    def _write(self, recv_ns: int, kind: Kind, connection: int, payload: bytes) -> None:
        """Log a record; later than every one before it, whatever the machine's clock says after a restart."""
        self._last_ns = max(recv_ns, self._last_ns + 1)
        self._log.write(self._last_ns, kind, connection, payload)
        self._pending.append(Record(self._last_ns, kind, connection, payload))

    def _keep(self, kind: Kind, payload: bytes) -> None:
        self._write(self._clock.stamp_ns(), kind, 0, payload)

    def _note(self, what: str, **told: object) -> None:
        self._keep(Kind.NOTE, wal.note(what, **told))
        self.burst()

    def _answered(self, payload: bytes) -> None:
        self._keep(Kind.ANSWER, payload)
        self.burst()

    async def _run_length(self) -> None:
        await self._is_listening.wait()
        if self._run_length_s is None:
            await asyncio.Event().wait()
        end_ms = self._clock.now_ms() + round(self._run_length_s * 1_000)
        self.ended_early = await why_not_reached(self._clock, end_ms, self._venue)

    async def _keep_time(self) -> None:
        """Do what is due when its time has come, also while nothing arrives."""
        while True:
            self._is_new_due.clear()
            self._armed_ms = self.dispatcher.due_ms
            await set_or_until(self._is_new_due, self._clock, None if self._armed_ms is None else self._armed_ms + 1)
            self.burst()
            now_ns = max(self._clock.stamp_ns(), self._last_ns)
            self.dispatcher.advance(now_ns)
            self._last_ns = max(self._last_ns, now_ns - 1)

    async def _sync_forever(self) -> None:
        """Bound what a power cut costs."""
        while True:
            with self._disk.tried():
                await asyncio.to_thread(self._log.sync)
            await asyncio.sleep(_SYNC_S)

    async def _obey(self) -> None:
        """Do what the operator wants, as soon as it is asked."""
        with Inbox(self._journal.path) as inbox:
            while True:
                for wish in inbox.unread():
                    if wish.key not in self.dispatcher.oversight.obeyed:
                        self._note("command", **asdict(wish), is_late=RealClock().now_ms() > wish.until_ms)
                # The account writes notes of its own: they come after all that a command wrote.
                while ordered := self.dispatcher.oversight.ordered:
                    event = ordered.popleft()
                    if self._account is not None:
                        self._account.ordered(event)
                await asyncio.sleep(_LOOK_S)

    async def _beat_forever(self) -> None:
        """Say that we live, and to people what they should know."""
        tell_systemd("READY=1")
        while True:
            with self._disk.tried():
                write_beat(self._journal.path, self._beat())
            tell_systemd("WATCHDOG=1")
            self._tell_people()
            await asyncio.sleep(EVERY_S)

    def _tell_people(self) -> None:
        while news := self.dispatcher.oversight.news:
            said = news.popleft()
            if self._alerts is not None:
                self._alerts.post(said.kind, said.detail)

    def _beat(self, *, has_ended: bool = False) -> Beat:
        desks, progress = [seat.desk for seat in self.dispatcher.seats], self.progress()
        return Beat(
            pid=os.getpid(),
            told_ms=RealClock().now_ms(),
            market_ms=round(progress.now.timestamp() * 1_000),
            mode=desks[0].mode,
            level=(self._account or self.dispatcher.oversight).level,
            connection=progress.connection,
            instance=desks[0].rules.instance,
            symbols=tuple(dict.fromkeys(desk.key[1] for desk in desks)),
            has_ended=has_ended,
            account=None if self._account is None else self._account.told,
        )

    async def _tell(self, tell: Callable[[Progress], None]) -> None:
        while True:
            tell(self.progress())
            await asyncio.sleep(_TELL_S)
