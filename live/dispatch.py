"""The input log, record by record, through the desks: the same records write the same journal.

What is due between two records happens in the order of its milliseconds, and at one millisecond in the order the
configs were given in, however often a runner looks: so a walk over the log does what was done live.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl

from data import wal
from data.config import load
from data.landing_answers import turn_answer
from data.messages import decode
from data.messages_rest import Answer, decode_answer
from data.schema import INSTRUMENTS, interval_ms
from data.wal import Kind, Record
from live.brokers.paper import PaperBroker
from live.brokers.recorded import Recorded
from live.brokers.ticks import TickBroker
from live.desk import PAPER_INSTANCE, Broker, Desk
from live.feed import Event, Header, plain
from live.journal import Damaged, Journal
from live.journal import Record as Written
from live.map_feed import ASSUMPTION, MAP_HISTORY, MapFeed, history_of, no_bars
from live.oversight import Oversight, RiskConfig
from live.readings import NS_PER_MS, known_ms
from live.reports import report_of
from live.stream_feed import StreamFeed
from live.trading_rules import input_names, lookback_bars
from research.bars import BARS, Bars
from research.clusters.columns import CLUSTER_COLUMNS
from research.engine import TradingConfig, assumptions
from research.fills import Terms

SINCE_MS = 10_000  # a bar that closed so shortly before we came is waited for like those to come
_FRAME = Kind.FRAME
_BROKERS = {"tick": TickBroker, "bar": PaperBroker}


class Account(Protocol):
    """Takes the desks' orders in place of paper brokers. What it learns comes back as notes of the log."""

    instance: str

    def broker(self, config: TradingConfig, instrument: dict[str, Any]) -> Callable[[Terms], Broker]:
        """Maker of the broker of one desk."""


class Seat(NamedTuple):
    """A desk and the feed it listens to."""

    feed: StreamFeed
    desk: Desk


def first_open_ms(config: TradingConfig, since_ms: int) -> int:
    """Open_time of the first row: so far before the first bar we listen for that its features are complete."""
    length_ms = interval_ms(config.interval)
    first_live_ms = -(-(since_ms - length_ms) // length_ms) * length_ms
    return first_live_ms - (lookback_bars(config) - 1) * length_ms


class Dispatcher:
    """Everything that follows from the log so far.

    Parameters
    ----------
    account : that the orders of a real run go to; None for paper.

    Attributes
    ----------
    seats : one per config, in their order; empty until the log holds all that trading needs to begin.
    resolution, since_ms : as the log says.
    last_ns : when the last record arrived.
    oversight : what the run may do.
    maps : by symbol, of those whose configs look at the liquidation map.
    opened : how often a connection was opened that was not open, by number.
    open : number and life of every open connection; two lives of one while it is renewed.
    """

    def __init__(self, configs: Sequence[TradingConfig], journal: Journal, account: Account | None = None) -> None:
        keys = [(config.config_hash, config.symbol) for config in configs]
        if len(set(keys)) < len(keys):
            raise ValueError("the same config was given twice: every config runs once per symbol")
        self.seats: tuple[Seat, ...] = ()
        self.oversight = Oversight(journal)
        self.maps: dict[str, MapFeed] = {}
        self.resolution: str | None = None
        self.since_ms = 0
        self.last_ns = 0
        self.opened: dict[int, int] = {}
        self.open: set[tuple[int, int]] = set()
        self._configs, self._journal, self._account = tuple(configs), journal, account
        self._by_symbol: dict[str, list[Seat]] = {}
        self._instruments: dict[str, dict[str, Any]] = {}
        self._funding_hours: dict[str, float] = {}
        self._history: list[tuple[int, Answer]] = []
        self._map_history = {config.symbol: no_bars(config.symbol) for config in configs if looks_at_map(config)}

    @property
    def reconnects(self) -> int:
        """How often a connection had to be opened again, a new session's first time included."""
        return sum(count - 1 for count in self.opened.values())

    def take(self, record: Record) -> None:
        """Act on one record, which is on the disk."""
        self.advance(record.recv_ns)
        self.last_ns = record.recv_ns
        if record.kind is _FRAME:
            for message in decode(record.payload):
                symbol = getattr(message, "symbol", "")
                if symbol in self.maps:
                    self.maps[symbol].hear(record.recv_ns, message)
                    self._tell_of_map(symbol, known_ms(record.recv_ns))
                for seat in self._by_symbol.get(symbol, ()):
                    self._tell(seat, seat.feed.hear(record.recv_ns, message))
        elif record.kind is Kind.ANSWER:
            self._answered(record.recv_ns, decode_answer(record.payload))
        else:
            self._noted(record)

    def advance(self, now_ns: int) -> None:
        """Do what was due before ``now_ns``: no record can come any more that belongs before it."""
        while (due_ms := self.due_ms) is not None and due_ms * NS_PER_MS < now_ns:
            symbol = next((symbol for symbol, map_feed in self.maps.items() if map_feed.due_ms == due_ms), None)
            if symbol is not None:  # maps first: a bar is decided on what was known by then
                self.maps[symbol].due(due_ms)
                self._tell_of_map(symbol, due_ms)
                continue
            seat = next(seat for seat in self.seats if seat.feed.due_ms == due_ms)
            self._tell(seat, seat.feed.due(due_ms))

    @property
    def due_ms(self) -> int | None:
        """When the next thing is due; None when nothing is."""
        feeds = (*self.maps.values(), *(seat.feed for seat in self.seats))
        return min((due_ms for feed in feeds if (due_ms := feed.due_ms) is not None), default=None)

    def _tell(self, seat: Seat, events: Sequence[Event]) -> None:
        for event in events:
            seat.desk.handle(event, self._journal)
            self.oversight.heard(seat.desk, event)

    def _tell_of_map(self, symbol: str, now_ms: int) -> None:
        """Write down that the map became available, or why it is not."""
        for seat in self._by_symbol[symbol]:
            if seat.feed.map_feed is not None:
                seat.desk.tell_of_map(now_ms, self.maps[symbol].reason, self._journal)

    def _answered(self, recv_ns: int, answer: Answer) -> None:
        if answer.name in ("fundingInfo", "exchangeInfo"):
            turned = turn_answer(answer, recv_ns, venue="aster", funding_hours=self._funding_hours)
            for table, rows in turned.tables:
                if table is INSTRUMENTS:
                    mine = rows.filter(pl.col("symbol").is_in([config.symbol for config in self._configs]))
                    self._instruments = {row["symbol"]: plain(row) for row in mine.iter_rows(named=True)}
        elif answer.name == MAP_HISTORY:
            self._map_history[answer.params["symbol"]] = history_of(answer)
        elif not self.seats:
            self._history.append((recv_ns, answer))
        elif answer.name == "openInterest":
            if answer.params["symbol"] in self.maps:  # else a shadow asked
                self.maps[answer.params["symbol"]].answered(recv_ns, answer)
        else:
            self._bars_answered(recv_ns, answer)

    def _bars_answered(self, recv_ns: int, answer: Answer) -> None:
        for seat in self._by_symbol.get(answer.params["symbol"], ()):
            if seat.feed.interval == answer.params["interval"]:
                seat.feed.answered(recv_ns, answer)

    def _noted(self, record: Record) -> None:
        told = json.loads(record.payload)
        match told["note"]:
            case "started":
                self._started(told)
            case "ready":
                self._ready(record.recv_ns)
            case "resumed":
                self.open.clear()  # nobody says so of a run that was killed
                for seat in self.seats:
                    seat.feed.ended_ms = None
            case "opened":
                if all(number != record.connection for number, _ in self.open):
                    self.opened[record.connection] = self.opened.get(record.connection, 0) + 1
                self.open.add((record.connection, told.get("life", 0)))
            case "closed":
                self.open.discard((record.connection, told.get("life", 0)))
            case "command":
                self.oversight.obey(known_ms(record.recv_ns), told)
            case "gave_up":
                for seat in self._by_symbol.get(told["symbol"], ()):
                    if seat.feed.interval == told["interval"]:
                        seat.feed.given_up(record.recv_ns, told["open_ms"])
            case "report":
                seat = next(seat for seat in self.seats if list(seat.desk.key) == told["desk"])
                seat.desk.hear(report_of(told["told"]), self._journal)
            case "event":
                written = Written(**told["event"])
                self._journal.append([written])
                self.oversight.noticed(written)
            case "stopped":
                for seat in self.seats:
                    seat.desk.handle(seat.feed.stopped(record.recv_ns), self._journal)

    def _started(self, told: dict[str, Any]) -> None:
        hashes = [config.config_hash for config in self._configs]
        if told["configs"] != hashes:
            raise ValueError(
                f"the input log is of configs {_short(told['configs'])}, given were {_short(hashes)}; give those, or "
                "another journal"
            )
        self.resolution, self.since_ms = told["resolution"], told["since_ms"]
        mine = None if self._account is None else self._account.instance
        if self._account is None and "instance" in told:
            self._account = Recorded(told["instance"])
        elif mine != told.get("instance"):
            raise ValueError(
                f"the input log is of {told.get('instance', 'a paper run')}, this run is {mine}; give another journal"
            )
        self.oversight.limits = load(RiskConfig, told["risk"]) if told.get("risk") else None

    def _ready(self, recv_ns: int) -> None:
        """All that must be known before trading begins is known."""
        self.maps = {symbol: MapFeed(history) for symbol, history in self._map_history.items()}
        self.seats = tuple(self._seat(config) for config in self._configs)
        for seat in self.seats:
            self._by_symbol.setdefault(seat.feed.symbol, []).append(seat)
        for answered_ns, answer in self._history:
            self._bars_answered(answered_ns, answer)
        self._history.clear()
        self.oversight.watch([seat.desk for seat in self.seats], is_paper=self._account is None)
        for seat in self.seats:
            seat.feed.history_ended()
            told = {"resolution": self.resolution, "first_open_ms": seat.feed.next_ms, "since_ms": self.since_ms}
            seat.desk.start(known_ms(recv_ns), self._journal, **told)

    def _seat(self, config: TradingConfig) -> Seat:
        instrument = self._instruments.get(config.symbol)
        if instrument is None:
            raise ValueError(f"{config.symbol}: the exchange's exchangeInfo has no such contract; check the symbol")
        inputs = input_names(config)
        feed = StreamFeed(
            symbol=config.symbol,
            interval=config.interval,
            resolution=self.resolution,
            inputs=inputs,
            first_ms=first_open_ms(config, self.since_ms),
            since_ms=self.since_ms,
            instrument=instrument,
            funding_interval_hours=config.substitutions.funding_interval_hours,
            latency_ms=config.costs.latency_ms,
            map_feed=self.maps[config.symbol] if looks_at_map(config) else None,
        )
        header = Header(
            config_hash=config.config_hash,
            symbol=config.symbol,
            interval=config.interval,
            rows=0,
            instrument=instrument,
            inputs=inputs,
            assumptions=_assumptions(config, instrument, self.resolution),
        )
        if self._account is None:
            mode, instance, broker = "paper", PAPER_INSTANCE, _BROKERS[self.resolution]
        else:
            mode, instance, broker = "real", self._account.instance, self._account.broker(config, instrument)
        return Seat(feed, Desk(config, header, mode=mode, instance=instance, broker=broker))


def looks_at_map(config: TradingConfig) -> bool:
    """Whether anything the config decides by is of the liquidation map."""
    return not CLUSTER_COLUMNS.keys().isdisjoint(input_names(config))


def _assumptions(config: TradingConfig, instrument: dict[str, Any], resolution: str) -> tuple[str, ...]:
    """What a reader must know of paper trades."""
    told = []
    given = config.substitutions
    if (given.spread_ticks, given.mark, given.funding_rate_bps) != (None, None, None):
        told.append("nothing is substituted: quotes, marks and funding are those of the streams")
    if instrument["funding_interval_hours"] is None and given.funding_interval_hours is not None:
        told.append(f"funding every {given.funding_interval_hours:g} h: the exchange does not tell")
    if looks_at_map(config):
        told.append(ASSUMPTION)
    bars = Bars(
        symbol=config.symbol,
        interval=config.interval,
        frame=BARS.to_frame(),
        instrument=instrument,
        substituted=tuple(told),
    )
    return assumptions(config, bars, resolution)


def _short(hashes: Sequence[str]) -> str:
    return ", ".join(each[:10] for each in hashes)


def walk(
    configs: Sequence[TradingConfig], folder: Path, journal: Journal, account: Account | None = None
) -> Dispatcher:
    """Act again on everything that a log holds.

    Raises
    ------
    Damaged
        When a part of it cannot be read, and something after it can.
    """
    dispatcher = Dispatcher(configs, journal, account)
    for segment in wal.segments(folder):
        _force_to_disk(segment)
        end = 0
        for record in wal.read(segment):
            dispatcher.take(record)
            end += wal.size(record)
        # A whole record at the very end was written meanwhile: it is the log of a run that goes on.
        if end < wal.next_record(segment, end) < segment.stat().st_size:
            raise Damaged(f"{segment} is damaged at byte {end}; keep it as evidence and give another journal")
    return dispatcher


def _force_to_disk(segment: Path) -> None:
    """Whoever wrote it may have been killed before it could."""
    with segment.open("rb") as written:
        os.fsync(written.fileno())
