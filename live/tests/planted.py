"""A paper run heard again with something planted in it: it differs from its backtest by that and nothing else."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from data import wal
from data.messages import Kline, decode
from data.wal import Kind, Log, Record
from live import dispatch
from live.brokers.ticks import TickBroker
from live.dispatch import walk
from live.feed import Event, ExecutionOpen, Traded
from live.journal import Journal, feed_folder
from live.orders import EntryFilled, EntryMissed, EntryOrder, ExitFilled, Leg, Report
from live.readings import NS_PER_MS
from research.engine import TradingConfig
from research.fills import fee_usdt

MINUTE_MS = 60_000


def records_of(path: Path) -> list[Record]:
    """The input log of a journal."""
    return [record for segment in wal.segments(feed_folder(path)) for record in wal.read(segment)]


def walked(
    records: Iterable[Record], config: TradingConfig, path: Path, patch: pytest.MonkeyPatch,
    broker: type[TickBroker] = TickBroker,
) -> Path:  # fmt: skip
    """The journal of a run that hears these records through a broker."""
    with Log(feed_folder(path)) as log:
        for record in records:
            log.write(*record)
    with patch.context() as patched, Journal(path) as journal:
        patched.setitem(dispatch._BROKERS, "tick", broker)
        walk([config], feed_folder(path), journal)
    return path


def with_late_bars(records: Iterable[Record], seconds: float) -> list[Record]:
    """Every bar arrives so much later."""
    return _in_order(
        record._replace(recv_ns=record.recv_ns + round(seconds * 1e9)) if _is_final_bar(record) else record
        for record in records
    )


def with_a_cut(records: Iterable[Record], from_ms: int, until_ms: int, symbol: str) -> list[Record]:
    """Nothing is heard from one moment to another, and its bars are given up a minute after their end."""
    asked = {"symbol": symbol, "interval": "1m"}
    kept = [
        record for record in records
        if record.kind is not Kind.FRAME or not from_ms <= record.recv_ns // NS_PER_MS < until_ms
    ]  # fmt: skip
    first_ms = -(-from_ms // MINUTE_MS) * MINUTE_MS - MINUTE_MS
    for open_ms in range(first_ms, until_ms - MINUTE_MS, MINUTE_MS):
        note = wal.note("gave_up", open_ms=open_ms, **asked)
        kept.append(Record((open_ms + 2 * MINUTE_MS) * NS_PER_MS, Kind.NOTE, 0, note))
    return _in_order(kept)


def dearer_by(fee_bps: float) -> type[TickBroker]:
    """A broker that takes more than the config says."""

    class Dearer(TickBroker):
        def on(self, event: Event) -> list[Report]:
            return [_dearer(report, fee_bps) for report in super().on(event)]

    return Dearer


def missing(nth: int) -> type[TickBroker]:
    """A broker that lets the nth entry expire, counted from 1."""

    class Missing(TickBroker):
        seen = 0

        def _on_open(self, event: ExecutionOpen) -> list[Report]:
            order, reports = self._entry, super()._on_open(event)
            self.seen += order is not None
            if order is None or self.seen != nth:
                return reports
            return [EntryMissed(time_ms=event.time_ms, client_order_id=order.client_order_id)]

    return Missing


def missing_at_rest(nth: int) -> type[TickBroker]:
    """A broker that lets the nth entry rest in vain over which a trade goes, counted from 1."""

    class MissingAtRest(TickBroker):
        passed: tuple[str, ...] = ()  # names of entries

        def _passed(self, order: EntryOrder, trade: Traded) -> list[Report]:
            reports = super()._passed(order, trade)
            if reports and order.client_order_id not in self.passed:
                self.passed = (*self.passed, order.client_order_id)
            if not reports or self.passed.index(order.client_order_id) != nth - 1:
                return reports
            self._resting = order
            return []

    return MissingAtRest


def closing(nth: int, after_ms: int) -> type[TickBroker]:
    """A broker through which the operator closes the nth position so long after its entry, counted from 1."""

    class Closing(TickBroker):
        entries, due_ns = 0, None

        def on(self, event: Event) -> list[Report]:
            if isinstance(event, Traded) and self.due_ns is not None and event.recv_ns >= self.due_ns:
                self.due_ns = None
                if self._exits is not None:
                    self._trade = event
                    return [self._by_hand(event)]
            reports = super().on(event)
            for report in reports:
                if isinstance(report, EntryFilled):
                    self.entries += 1
                    self.due_ns = (report.time_ms + after_ms) * NS_PER_MS if self.entries == nth else None
            return reports

        def _by_hand(self, trade: Traded) -> ExitFilled:
            position = self._exits
            triggered = self._exit(position, 1, trade.recv_ns)
            return replace(triggered, leg=Leg.CLOSE, reason="operator", client_order_id=f"wbppr-{position.trade_id}-X0")

    return Closing


def filling(price: float = 0.0, quantity: float = 0.0) -> type[TickBroker]:
    """A broker whose entries fill that much dearer, and that much larger than ordered."""

    class Filling(TickBroker):
        def on(self, event: Event) -> list[Report]:
            return [self._otherwise(report) for report in super().on(event)]

        def _otherwise(self, report: Report) -> Report:
            if not isinstance(report, EntryFilled):
                return report
            paid, filled = report.price + price, report.quantity + quantity
            fee = fee_usdt(paid, filled, self._terms.taker_fee_bps)
            return replace(report, price=paid, quantity=filled, fee_usdt=fee)

    return Filling


def holding_on(nth: int) -> type[TickBroker]:
    """A broker that lets the trade that should have ended the nth position pass, counted from 1."""

    class HoldingOn(TickBroker):
        exits = 0

        def on(self, event: Event) -> list[Report]:
            position, trailing = self._exits, self._trailing
            reports = super().on(event)
            if any(isinstance(report, ExitFilled) for report in reports):
                self.exits += 1
                if self.exits == nth:
                    self._exits, self._trailing = position, trailing
                    return []
            return reports

    return HoldingOn


def _dearer(report: Report, fee_bps: float) -> Report:
    if not isinstance(report, (EntryFilled, ExitFilled)):
        return report
    return replace(report, fee_usdt=report.fee_usdt + report.price * report.quantity * fee_bps / 1e4)


def _is_final_bar(record: Record) -> bool:
    if record.kind is not Kind.FRAME:
        return False
    return any(isinstance(message, Kline) and message.bar.is_final for message in decode(record.payload))


def _in_order(records: Iterable[Record]) -> list[Record]:
    listed: list[Record] = []
    for record in sorted(records, key=lambda record: record.recv_ns):
        listed.append(record._replace(recv_ns=max(record.recv_ns, listed[-1].recv_ns + 1 if listed else 0)))
    return listed
