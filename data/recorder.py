"""Records the exchange's streams: raw log first, then the lake, with a REST snapshot to begin with.

One process listens and writes what arrives, byte for byte; its child (``data.recorder_sealer``) turns closed segments
of the log into the lake's tables. Killed at any moment, everything that was written is in the log, and the next
recorder seals it first.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from data.clock import Clock
from data.manifest import Manifest, storage_errors
from data.recorder_inbox import Inbox
from data.recorder_rest import (
    CONTRACTS,
    INTERVALS,
    SETTLING_MS,
    Question,
    check_symbols,
    late_bars,
    next_poll_ns,
    polls,
    snapshot,
)
from data.recorder_sealer import Sealing
from data.recorder_status import Status, write_status
from data.stream import Stream, streams_of
from data.table import interval_ms
from data.venues.aster import AsterRest, Unavailable, Venue
from data.wal import Log, segments

STREAMS = ("kline", "bookTicker", "markPrice", "aggTrade", "depth", "forceOrder", "trade")
_SYNC_S, _REPORT_S, _REPORTS_PER_FILE = 0.2, 0.5, 4  # the machine's seconds; a status file every two
_WAIT_FOR_REST_S = 30.0
_ALL_LIQUIDATIONS = "!forceOrder@arr"
_SENT = re.compile(rb'"E":(\d+)')
_LOOPBACK_MARK = "loopback"  # a file in lakes that hold what a loopback exchange sent, which no row of them tells


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What to record.

    Parameters
    ----------
    symbols : such as BTCUSDT.
    streams : some of ``STREAMS``; ``trade`` (single fills) is undocumented by the exchange.
    kline_interval : of the kline stream and of the klines in the snapshot.
    depth_levels, depth_speed : of the partial books.
    all_liquidations : those of every symbol of the exchange, not only of ``symbols``.
    flush_interval_s : how long rows wait at most before they go to the lake, seconds of the clock.
    run_length_s : stop by itself after this long, seconds of the clock from the first connection on; None to go on.
    silence_s : a connection that says nothing for so long is taken for dead, seconds of the clock.
    """

    symbols: tuple[str, ...]
    streams: tuple[str, ...] = STREAMS[:6]
    kline_interval: str = "1m"
    depth_levels: Literal[5, 10, 20] = 5
    depth_speed: Literal["100ms", "250ms", "500ms"] = "100ms"
    all_liquidations: bool = True
    flush_interval_s: float = 60.0
    run_length_s: float | None = None
    silence_s: float = 10.0

    def __post_init__(self) -> None:
        for name, values in (("symbols", self.symbols), ("streams", self.streams)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: expected one or more different ones, got {list(values)}")
        unlike = [symbol for symbol in self.symbols if not re.fullmatch(r"[A-Z0-9]+", symbol)]
        if unlike:
            raise ValueError(f"symbols: expected capitals and digits such as BTCUSDT, got {unlike[0]!r}")
        unknown = [name for name in self.streams if name not in STREAMS]
        if unknown:
            raise ValueError(f"streams: unknown {unknown[0]!r}; there are {', '.join(STREAMS)}")
        interval_ms(self.kline_interval)
        for name in ("flush_interval_s", "run_length_s", "silence_s"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name}: expected more than 0 seconds, got {seconds}")

    def stream_names(self) -> list[str]:
        """The streams as the exchange names them."""
        kinds = [f"kline_{self.kline_interval}" if name == "kline" else name for name in self.streams]
        names = streams_of(self.symbols, kinds, self.depth_levels, self.depth_speed)
        if self.all_liquidations:
            return list(names)
        own = [f"{symbol.lower()}@forceOrder" for symbol in self.symbols]
        return [each for name in names for each in (own if name == _ALL_LIQUIDATIONS else (name,))]


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
        When another recorder writes this lake, naming its process; when the exchange does not know a symbol; when a
        loopback exchange would be mixed into a lake of anything else, or the other way round.
    OSError
        When the lake cannot be written, naming the path and what it needs. A disk that fills up later is waited for.
    """
    root = Path(lake_root)
    if not root.parent.is_dir():
        raise FileNotFoundError(f"lake {root}: there is no folder {root.parent}; mount the disk, or make the folder")
    with storage_errors(root):
        _keep_apart(root, Manifest(root, create=True), venue)
        log = Log(root / "wal")
    recorder = _Recorder(config, venue, root, clock, log)
    try:
        return await recorder.run(stop or asyncio.Event(), tell or (lambda status: None))
    finally:
        log.close()


def _keep_apart(root: Path, manifest: Manifest, venue: Venue) -> None:
    """Refuse to mix what a loopback exchange sends with anything else: their rows look alike and share their keys."""
    mark = root / _LOOPBACK_MARK
    if mark.exists() and not venue.is_loopback:
        raise ValueError(f"lake {root} holds what a loopback exchange sent: give another --lake to record {venue.name}")
    if venue.is_loopback and not mark.exists():
        if manifest.files() or segments(root / "wal"):
            raise ValueError(f"lake {root} holds other rows: give another --lake to record a loopback exchange")
        mark.touch()


class _Recorder:
    """One run."""

    def __init__(self, config: RecorderConfig, venue: Venue, root: Path, clock: Clock, log: Log) -> None:
        self._config = config
        self._venue = venue
        self._root = root
        self._clock = clock
        self._log = log
        self._inbox = Inbox(log)
        self._sealing = Sealing(log.folder, root)
        self._streams = config.stream_names()
        self._stream = Stream(
            venue, self._streams, clock=clock, sink=self._inbox, silence_s=config.silence_s, seed=os.getpid()
        )
        self._hold = getattr(clock, "hold", nullcontext)
        self._is_checked = asyncio.Event()  # the exchange knows the symbols, or could not be asked
        self._state = "starting"
        self._failure: str | None = None
        self._rest_trouble: str | None = None
        self._notices: list[str] = []
        self._since_ms = clock.now_ms()  # when listening began
        self._reported = (time.monotonic(), 0)  # when, and how many frames there were

    async def run(self, stop: asyncio.Event, tell: Callable[[Status], None]) -> Status:
        ended = "failed"
        try:
            async with AsterRest(self._venue, self._clock) as rest:
                await self._run(rest, stop, tell)
            ended = "stopped"
        except (ValueError, LookupError, OSError, Unavailable) as error:
            self._failure = str(error)
            raise
        finally:
            self._state = ended
            status = self._status()
            write_status(self._root, status)
            tell(status)
        return status

    async def _run(self, rest: AsterRest, stop: asyncio.Event, tell: Callable[[Status], None]) -> None:
        """Everything at once, until one of the jobs ends; raises what ended it."""
        self._since_ms = self._clock.now_ms()
        told = {"pid": os.getpid(), "symbols": self._config.symbols, "streams": self._streams}
        self._inbox.note(self._clock.now_ns(), "started", **told)
        await self._sealing.start()
        self._sealing.give_closed()
        jobs = (
            stop.wait(), self._run_length(), self._listen(), self._ask_forever(rest), self._sync_forever(),
            self._seal_forever(), self._report_forever(tell),
        )  # fmt: skip
        tasks = [asyncio.create_task(job) for job in jobs]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with self._hold():
            await self._end(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _end(self, tasks: Sequence[asyncio.Task]) -> None:
        """Close the connections, then bring everything that was received into the lake."""
        self._state = "stopping"
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._inbox.note(self._clock.now_ns(), "stopped")
        self._rotate()
        await self._sealing.finish()

    async def _run_length(self) -> None:
        """Return when the run is over."""
        await self._inbox.is_listening.wait()
        if self._config.run_length_s is None:
            await asyncio.Event().wait()
        await self._sleep_until(self._clock.now_ns() + round(self._config.run_length_s * 1e9))

    async def _listen(self) -> None:
        await self._is_checked.wait()
        await self._stream.run()

    async def _ask_forever(self, rest: AsterRest) -> None:
        """Ask for the rules and the history first, then for what no stream tells, hour by hour."""
        pending = await self._ask(rest, [CONTRACTS])
        self._is_checked.set()
        await self._inbox.is_listening.wait()
        self._since_ms = self._clock.now_ms()
        symbols, interval = self._config.symbols, self._config.kline_interval
        pending += await self._ask(rest, snapshot(symbols, interval, self._since_ms))
        late, late_ns = late_bars(symbols, interval, self._since_ms), (self._since_ms + SETTLING_MS) * 10**6
        next_ns = next_poll_ns(self._clock.now_ns())
        while True:
            due_ns = min(next_ns, late_ns) if late else next_ns
            retry_ns = self._clock.now_ns() + round(_WAIT_FOR_REST_S * 1e9)
            await self._sleep_until(min(due_ns, retry_ns) if pending else due_ns)
            if self._clock.now_ns() >= late_ns:
                pending, late = pending + late, []
            if self._clock.now_ns() >= next_ns:
                pending += polls(symbols, self._clock.now().hour)
                next_ns = next_poll_ns(self._clock.now_ns())
            pending = await self._ask(rest, pending)

    async def _ask(self, rest: AsterRest, questions: Sequence[Question]) -> list[Question]:
        """Log the answers; returns the questions for which the exchange is not available now.

        What the exchange refuses for good is told and left out, unless it is the very first question.
        """
        self._rest_trouble = None
        answers = []
        unanswered = []
        for question in (INTERVALS, *questions):
            if unanswered:
                unanswered.append(question)
                continue
            try:
                body = await rest.get(question.path, **question.params)
                if question is CONTRACTS:
                    self._notices = check_symbols(self._config.symbols, body)
            except Unavailable as error:
                self._rest_trouble = f"REST: {error}; asked again, the streams go on"
                unanswered.append(question)
            except ValueError as error:
                if not self._is_checked.is_set():
                    raise
                self._notices.append(str(error))
                told = {"path": question.path, "params": question.params, "reason": str(error)}
                self._inbox.note(self._clock.now_ns(), "refused", **told)
            else:
                answers.append((self._clock.now_ns(), question, self._since_ms, body))
        self._inbox.answers(answers)
        return [question for question in unanswered if question is not INTERVALS]

    async def _sync_forever(self) -> None:
        """Bound what a power cut costs, and ask a full disk again when nothing arrives."""
        while True:
            await asyncio.sleep(_SYNC_S)
            if self._inbox.disk_trouble is not None:
                self._inbox.burst()
            try:
                await asyncio.to_thread(self._log.sync)
            except OSError as error:
                self._inbox.refused(error)

    async def _seal_forever(self) -> None:
        """Close a segment every flush interval; a sealer that is behind gets longer segments, never more of them."""
        while True:
            await self._sleep_until(self._clock.now_ns() + round(self._config.flush_interval_s * 1e9))
            if not self._sealing.is_busy:
                self._rotate()
            self._sealing.give_closed()

    def _rotate(self) -> None:
        try:
            self._log.rotate()
        except OSError as error:
            self._inbox.refused(error)

    async def _report_forever(self, tell: Callable[[Status], None]) -> None:
        for number in itertools.count():
            if self._state == "starting" and self._inbox.is_listening.is_set():
                self._state = "recording"
            status = self._status()
            tell(status)
            if number % _REPORTS_PER_FILE == 0:
                write_status(self._root, status)
            await asyncio.sleep(_REPORT_S)

    async def _sleep_until(self, moment_ns: int) -> None:
        """Return at that moment of the clock, however often a clock that stands still lets a sleep end early."""
        while (left_ns := moment_ns - self._clock.now_ns()) > 0:
            await self._clock.sleep(left_ns / 1e9)

    def _status(self) -> Status:
        inbox, sealing = self._inbox, self._sealing
        messages = inbox.messages()
        told_at, told = self._reported
        self._reported = (time.monotonic(), sum(messages.values()))
        sent = _SENT.search(inbox.last_payload)
        troubles = (self._failure, inbox.disk_trouble, sealing.trouble, self._rest_trouble, *self._notices)
        return Status(
            pid=os.getpid(),
            state="disk full" if inbox.disk_trouble and self._state == "recording" else self._state,
            venue=self._venue.name,
            lake=str(self._root),
            symbols=self._config.symbols,
            started=_utc(self._since_ms * 10**6),
            now=_utc(self._clock.now_ns()),
            seconds=(self._clock.now_ms() - self._since_ms) / 1_000,
            connected=inbox.connected,
            connections=max(1, inbox.connections),
            reconnects=inbox.reconnects,
            messages=messages,
            messages_per_second=(self._reported[1] - told) / max(self._reported[0] - told_at, 1e-9),
            last_message=_utc(inbox.last_ns) if inbox.last_ns else None,
            lag_ms=(inbox.last_ns - int(sent[1]) * 10**6) / 1e6 if sent else None,
            unsealed_bytes=self._log.buffered_bytes + _bytes_in(self._log.folder),
            landed=dict(sorted(sealing.landed.items())),
            already_present=sealing.already_present,
            conflicts=sealing.conflicts,
            quarantined=sealing.quarantined,
            cut_bytes=sealing.cut_bytes,
            dropped=inbox.dropped,
            trouble=tuple(trouble for trouble in troubles if trouble),
        )


def _bytes_in(folder: Path) -> int:
    """Size of the segments that are not sealed yet; the sealer removes them one by one meanwhile."""
    total = 0
    for path in segments(folder):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**6 / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
