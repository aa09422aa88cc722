"""Records the exchange's streams: raw log first, then the lake, with a REST snapshot to begin with.

One process listens and writes what arrives, byte for byte; its child (``data.recorder_sealer``) turns closed segments
of the log into the lake's tables and says what is missing there, which is then asked for by REST. Killed at any moment,
everything that was written is in the log, and the next recorder seals it first.
"""

import asyncio
import gc
import itertools
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path

from data.clock import Clock
from data.manifest import Manifest, storage_errors
from data.recorder_asking import Asking, ask_forever, sleep_until
from data.recorder_clock import ClockWatch, Reading
from data.recorder_config import RecorderConfig
from data.recorder_inbox import Inbox
from data.recorder_locks import LOGS, Place, finished_segments, recorded_by_others, take_place
from data.recorder_logs import LOG, logged
from data.recorder_metrics import metrics_text, serve_metrics
from data.recorder_polls import MarketPolls, entries_of_other_venues
from data.recorder_repair import Repair
from data.recorder_report import Report
from data.recorder_sealer import Sealing
from data.recorder_status import Status, write_status
from data.recorder_upkeep import Compaction, Disk
from data.stream import Stream
from data.venues.aster import AsterRest, Unavailable, Venue
from data.venues.binance import BINANCE
from data.venues.hyperliquid import HYPERLIQUID
from data.venues.weights import Budget
from data.wal import all_segments, connection_of

_SYNC_S, _REPORT_S, _REPORTS_PER_FILE = 0.2, 0.5, 4  # the machine's seconds; a status file every two
_ROWS_PER_LOG = 0.5  # bytes of rows that a byte of the log becomes, generously
_ASK_ABSENT_S = 600.0  # a venue that refused
_LOOPBACK_MARK = "loopback"  # a file in lakes that hold what a loopback exchange sent, which no row of them tells
_OTHER_VENUES = {"binance": BINANCE, "hyperliquid": HYPERLIQUID}


async def record(
    config: RecorderConfig,
    venue: Venue,
    lake_root: Path,
    clock: Clock,
    *,
    stop: asyncio.Event | None = None,
    tell: Callable[[Status], None] | None = None,
) -> Status:
    """Record until ``stop`` is set or the run length is over; returns how it ended.

    Everything received is then in the lake, unless ``trouble`` of the result says otherwise.

    Parameters
    ----------
    lake_root : folder of the lake; made where its parent is there.
    clock : ``FollowedClock`` for a loopback exchange.
    tell : called with the status twice a second.

    Raises
    ------
    ValueError
        When another recorder of this lake records one of the streams, naming its process; when the exchange does not
        know a symbol; when a loopback exchange would be mixed into a lake of anything else, or the other way round.
    OSError
        When the lake cannot be written, naming the path and what it needs. A disk that fills up later is waited for.
    """
    root = Path(lake_root)
    if not root.parent.is_dir():
        raise FileNotFoundError(f"lake {root}: there is no folder {root.parent}; mount the disk, or make the folder")
    with storage_errors(root):
        _keep_apart(root, Manifest(root, create=True), venue)
        place = take_place(root, _streams(config, venue))
    recorder = _Recorder(config, venue, root, clock, place)
    try:
        with logged(root, place.number, clock), _without_garbage_collection():
            return await recorder.run(stop or asyncio.Event(), tell or (lambda status: None))
    finally:
        place.log.close()


def _streams(config: RecorderConfig, venue: Venue) -> dict[str, list[str]]:
    """Names of the streams, by the venue under whose name their rows are stored."""
    streams = {venue.speaks: config.stream_names()}
    if config.leading is not None:
        streams[BINANCE.speaks] = config.leading.stream_names()
    return streams


def _keep_apart(root: Path, manifest: Manifest, venue: Venue) -> None:
    """Refuse to mix what a loopback exchange sends with anything else: their rows look alike and share their keys."""
    mark = root / _LOOPBACK_MARK
    if mark.exists() and not venue.is_loopback:
        raise ValueError(f"lake {root} holds what a loopback exchange sent: give another --lake to record {venue.name}")
    if venue.is_loopback and not mark.exists():
        if manifest.files() or all_segments(root / LOGS):
            raise ValueError(f"lake {root} holds other rows: give another --lake to record a loopback exchange")
        mark.touch()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Inside, nobody looks for garbage while frames arrive: what is loaded by now stays, the rest waits."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()  # or DuckDB complains of leaks at the end


class _Recorder:
    """One run."""

    def __init__(self, config: RecorderConfig, venue: Venue, root: Path, clock: Clock, place: Place) -> None:
        self._config = config
        self._venue = venue
        self._root = root
        self._clock = clock
        self._place = place
        self._log = place.log
        self._inbox = Inbox(place.log)
        self._sealing = Sealing(root / LOGS, root)
        self._disk = Disk(root)
        self._compaction = Compaction(root, self._disk, config.raw_retention_days, clock)
        self._streams = _streams(config, venue)
        self._hold = getattr(clock, "hold", nullcontext)
        self._polls = MarketPolls(config, clock, self._note, lambda: self._inbox.reconnects)
        self._askings: list[Asking] = []
        self._repairs: dict[str, Repair] = {}  # by venue
        self._report = Report(
            root, venue, config.symbols, self._streams[venue.speaks], clock, place,
            inbox=self._inbox, sealing=self._sealing, disk=self._disk,
            connections=config.sockets * len(self._streams),
        )  # fmt: skip

    async def run(self, stop: asyncio.Event, tell: Callable[[Status], None]) -> Status:
        ended = "failed"
        try:
            async with AsyncExitStack() as stack:
                await self._run(stack, stop, tell)
            ended = "stopped"
        except (KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
            # nobody raises these on purpose: whoever looks at the status must see that, and where it was
            self._fail(f"a fault of this program: {error!r}", where=traceback.format_exc())
            raise
        except (ValueError, LookupError, OSError, Unavailable) as error:
            self._fail(str(error))
            raise
        finally:
            self._report.state = ended
            status = self._status()
            write_status(self._root, status)
            tell(status)
            LOG.info(ended, extra={"told": {"messages": status.total_messages, "rows": status.total_landed}})
        return status

    def _fail(self, reason: str, **told: str) -> None:
        self._report.failure = reason
        LOG.error("failed", extra={"told": {"reason": reason, **told}})

    async def _run(self, stack: AsyncExitStack, stop: asyncio.Event, tell: Callable[[Status], None]) -> None:
        """Everything at once, until one of the jobs ends; raises what ended it."""
        rest = await stack.enter_async_context(AsterRest(self._venue, self._clock))
        self._report.began()
        if self._config.metrics_port is not None:
            server = await serve_metrics(self._config.metrics_port, lambda: metrics_text(self._status()))
            stack.push_async_callback(_closed, server)
            LOG.info("metrics", extra={"told": {"port": server.sockets[0].getsockname()[1]}})
        told = {"pid": os.getpid(), "symbols": self._config.symbols, "streams": self._streams}
        self._inbox.note(self._clock.now_ns(), "started", **told)
        await self._sealing.start()
        self._sealing.give(self._finished())
        jobs = [
            stop.wait(), self._run_length(), *self._listening(), *await self._asking(stack, rest),
            self._compare_clocks(rest), self._sync_forever(), self._seal_forever(),
            self._report_forever(tell),
        ]  # fmt: skip
        if self._config.compaction:
            jobs.append(self._compaction.run())
        tasks = [asyncio.create_task(job) for job in jobs]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with self._hold():
            await self._end(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _end(self, tasks: Sequence[asyncio.Task]) -> None:
        """Close the connections, then bring everything that was received into the lake, and what was still missing."""
        self._report.state = "stopping"
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._inbox.note(self._clock.now_ns(), "stopped")
        try:
            async with asyncio.timeout(self._config.last_repairs_s):
                await self._last_repairs()
        except TimeoutError:
            LOG.warning("stopped before all repairs", extra={"told": {"gaps_open": len(self._sealing.open_gaps)}})
        self._seal()
        await self._sealing.finish()
        self._offer_gaps()

    async def _last_repairs(self) -> None:
        """Seal and ask for what is missing, until nothing more can be had; who does not answer is asked again."""
        while True:
            self._seal()
            await self._sealing.drained()
            self._offer_gaps()
            answers = sum([await repair.round() for repair in self._repairs.values()])
            pauses_s = [repair.retry_after_s for repair in self._repairs.values() if repair.trouble is not None]
            if not answers and not pauses_s:
                return
            await asyncio.sleep(max(pauses_s, default=0.0))

    async def _run_length(self) -> None:
        """Return when the run is over."""
        await self._inbox.is_listening.wait()
        if self._config.run_length_s is None:
            await asyncio.Event().wait()
        await sleep_until(self._clock, self._clock.now_ns() + round(self._config.run_length_s * 1e9))

    def _listening(self) -> list:
        """The jobs that keep the streams flowing, one per venue."""

        async def listen(venue: Venue, names: Sequence[str]) -> None:
            await self._polls.is_checked.wait()
            while True:
                stream = Stream(
                    venue, names, clock=self._clock, sink=self._inbox, sockets=self._config.sockets,
                    silence_s=self._config.silence_s, life_s=self._config.life_s, seed=os.getpid(),
                    silent=self._inbox.silent, read_pause_ms=self._config.read_pause_ms,
                )  # fmt: skip
                try:
                    return await stream.run()
                except ValueError as error:
                    if venue.speaks == self._venue.speaks:
                        raise
                    # another venue may refuse this machine for good; the exchange itself is recorded all the same
                    self._report.absent[venue.speaks] = f"{error}; asked again in {_ASK_ABSENT_S / 60:.0f} minutes"
                await sleep_until(self._clock, self._clock.now_ns() + round(_ASK_ABSENT_S * 1e9))
                del self._report.absent[venue.speaks]

        return [listen(self._at(speaks), names) for speaks, names in self._streams.items()]

    async def _asking(self, stack: AsyncExitStack, rest: AsterRest) -> list:
        """The jobs that ask by REST: the exchange itself, the other venues, and for what is missing."""
        own = self._venue.speaks
        entries = entries_of_other_venues(self._config)
        jobs = []
        for speaks in dict.fromkeys((*self._streams, *entries)):
            session = rest if speaks == own else AsterRest(self._at(speaks), self._clock)
            if session is not rest:
                await stack.enter_async_context(session)
            budget = Budget(self._clock, self._config.rest_weight_per_minute)
            check = {"check": self._polls.check} if speaks == own else {}
            asking = Asking(session, self._clock, budget, log=self._inbox.answers, note=self._note_refusal, **check)
            self._askings.append(asking)
            if speaks == own:
                jobs.append(self._polls.run(asking, self._inbox.is_listening, self._report.began))
            elif speaks in entries:
                jobs.append(self._ask_another(asking, entries[speaks]))
            if self._config.repair and speaks in self._streams:
                self._repairs[speaks] = repair = Repair(
                    session, self._clock, budget, log=self._inbox.answers, note=self._note,
                    since_ms=lambda: self._report.since_ms,
                )  # fmt: skip
                jobs.append(repair.run())
        return jobs

    async def _ask_another(self, asking: Asking, entries: Sequence) -> None:
        await self._inbox.is_listening.wait()
        asking.since_ms = self._clock.now_ms()
        await ask_forever(asking, entries, self._clock)

    def _at(self, speaks: str) -> Venue:
        """Where a venue is: a loopback exchange answers for all of them."""
        if self._venue.is_loopback or speaks == self._venue.speaks:
            return self._venue.speaking(speaks)
        return _OTHER_VENUES[speaks]

    def _note(self, what: str, **told: object) -> None:
        self._inbox.note(self._clock.now_ns(), what, connection_of(self._venue.speaks), **told)

    def _note_refusal(self, **told: object) -> None:
        self._note("refused", **told)

    def _note_clock(self, reading: Reading) -> None:
        told = {name: getattr(reading, name) for name in ("offset_ms", "round_trip_ms", "step_ms")}
        self._inbox.note(reading.at_ns, "clock", connection_of(self._venue.speaks), **told)

    async def _compare_clocks(self, rest: AsterRest) -> None:
        await self._inbox.is_listening.wait()  # a followed clock is told the time from then on
        await ClockWatch(rest, self._clock, self._note_clock).run()

    async def _sync_forever(self) -> None:
        """Bound what a power cut costs, and ask a full disk again when nothing arrives."""
        passes = asyncio.get_running_loop().time
        due_s = passes()
        while True:
            due_s = max(due_s + _SYNC_S, passes())  # from begin to begin: the time that a sync takes comes on top once
            await asyncio.sleep(due_s - passes())
            if self._inbox.disk_trouble is not None:
                self._inbox.burst()
            try:
                await asyncio.to_thread(self._log.sync)
            except OSError as error:
                self._inbox.refused(error)

    async def _seal_forever(self) -> None:
        """Close a segment every flush interval; a sealer that is behind gets longer segments, never more of them."""
        while True:
            await sleep_until(self._clock, self._clock.now_ns() + round(self._config.flush_interval_s * 1e9))
            if not self._sealing.is_busy and not self._report.is_room_short and self._rotate():
                self._inbox.checkpoint(self._clock.now_ns())
            self._give()
            gc.collect()

    def _seal(self) -> None:
        """Close the segment and have everything sealed, however little room there is."""
        self._rotate()
        self._report.is_room_short = False
        self._sealing.give(self._finished())

    def _give(self) -> None:
        """Have finished segments sealed as long as there is room for their rows beside the log."""
        waiting = self._finished()
        needed = [_size(self._root / LOGS / name) * _ROWS_PER_LOG for name in waiting]
        room_bytes = self._disk.room_bytes
        fitting = [
            name for name, total in zip(waiting, itertools.accumulate(needed), strict=True) if total < room_bytes
        ]
        self._report.is_room_short = len(fitting) < len(waiting) or room_bytes <= 0
        self._sealing.give(fitting)

    def _finished(self) -> list[str]:
        return finished_segments(self._root, self._log.folder)

    def _rotate(self) -> bool:
        """Close the segment; whether there was one."""
        try:
            return self._log.rotate() is not None
        except OSError as error:
            self._inbox.refused(error)
            return False

    def _offer_gaps(self) -> None:
        """Ask for what is missing in the lake, apart from what another recorder asks for."""
        gaps, begun = self._sealing.open_gaps, self._sealing.begun
        others = recorded_by_others(self._root, self._log.folder) if gaps or begun else set()
        for venue, repair in self._repairs.items():
            own = {name.partition("@")[0].upper() for name in self._streams[venue]}

            def is_ours(of: str, symbol: str, venue: str = venue, own: set[str] = own) -> bool:
                return of == venue and (symbol in own or (venue, symbol) not in others)

            repair.offer(
                [gap for gap in gaps if is_ours(gap["venue"], gap["symbol"])],
                [each for each in begun if is_ours(each.venue, each.symbol)],
            )

    async def _report_forever(self, tell: Callable[[Status], None]) -> None:
        for number in itertools.count():
            self._offer_gaps()
            status = self._status()
            tell(status)
            if number % _REPORTS_PER_FILE == 0:
                write_status(self._root, status)
            await asyncio.sleep(_REPORT_S)

    def _status(self) -> Status:
        return self._report.status(self._askings, list(self._repairs.values()), self._polls.notices, self._compaction)


def _size(path: Path) -> int:
    """Bytes of a segment; 0 when it was sealed and removed a moment ago."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


async def _closed(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()
