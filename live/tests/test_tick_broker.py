"""The tick broker's own bookkeeping; that its fills are the backtest's is shown in ``test_stream_feed``."""

import math
from dataclasses import replace

import numpy as np
import pytest

from live.brokers.ticks import TickBroker
from live.feed import ExecutionOpen, FundingDue, Marked, Quoted, Traded
from live.orders import CancelEntry, EntryFilled, EntryMissed, EntryOrder, ExitFilled, FundingPaid, Leg, RowKey
from live.tests.test_paper import ENTRY, EXITS, NAMES, ROW, TERMS
from research.fills import Market

SECOND_NS = 1_000_000_000


def opening(row: RowKey = ROW) -> ExecutionOpen:
    """An order's arrival a second after the epoch, between quotes of 99.9 and 100."""
    known = {"can_enter": True, "close": 100.0, "bid": 99.9, "ask": 100.0, "exec_open": 100.0, "exec_bid": 99.9,
             "exec_ask": 100.0, "half_spread_bps": 5.0, "last_mark_ratio": 1.0}  # fmt: skip
    market = Market(*(np.array([known.get(name, math.nan)]) for name in Market._fields))
    return ExecutionOpen(time_ms=1_000, row=row, market=market._replace(can_enter=np.array([True])))


@pytest.fixture
def broker():
    """Long 2 from 100, with exits at 99, 103 and 20 bps behind the best trade once one was at 101."""
    broker = TickBroker(TERMS)
    broker.on(Traded(SECOND_NS // 3, 100.0))
    broker.on(Marked(SECOND_NS // 2, 100.0))
    broker.place(ENTRY)
    (fill,) = broker.on(opening())
    assert isinstance(fill, EntryFilled) and fill.price == 100.0
    broker.place(EXITS)
    return broker


def test_the_mark_triggers_the_stop_and_the_bid_fills_it(broker):
    broker.on(Quoted(2 * SECOND_NS, 98.7, 98.8))
    assert broker.on(Traded(2 * SECOND_NS + 1, 98.5)) == []  # the last price does not trigger a stop
    (fill,) = broker.on(Marked(2 * SECOND_NS + 1_500_000, 99.0))
    assert isinstance(fill, ExitFilled)
    assert (fill.leg, fill.price, fill.client_order_id) == (Leg.STOP, 98.7, NAMES[Leg.STOP])
    assert fill.filled_ms == fill.time_ms == 2_002  # the millisecond it is known by
    assert broker.on(Marked(3 * SECOND_NS, 98.0)) == []


def test_after_ten_seconds_without_a_mark_the_last_price_triggers_the_stop(broker):
    broker.on(Quoted(11 * SECOND_NS, 98.7, 98.8))
    (fill,) = broker.on(Traded(11 * SECOND_NS, 98.9))
    assert (fill.reason, fill.price) == ("stop", 98.7)


def test_a_trade_at_the_target_sells_at_the_bid_of_that_moment(broker):
    broker.on(Quoted(2 * SECOND_NS, 103.1, 103.2))
    (fill,) = broker.on(Traded(3 * SECOND_NS, 103.0))
    assert (fill.reason, fill.price) == ("target", 103.1)


def test_without_a_fresh_quote_half_the_spread_is_paid(broker):
    broker.on(Quoted(SECOND_NS, 99.9, 100.0))
    (fill,) = broker.on(Traded(4 * SECOND_NS, 103.0))
    assert fill.price == 103.0 * (1 - 5.0 / 1e4)


def test_the_trailing_order_follows_the_best_trade(broker):
    broker.on(Quoted(2 * SECOND_NS, 101.7, 101.8))
    assert broker.on(Traded(2 * SECOND_NS, 102.0)) == []
    assert broker.on(Traded(2 * SECOND_NS + 1, 101.9)) == []
    (fill,) = broker.on(Traded(2 * SECOND_NS + 2, 101.7))
    assert (fill.reason, fill.price) == ("trailing", 101.7)


def test_funding_is_paid_while_the_position_is_open_and_belongs_to_the_last_row(broker):
    broker.on(opening(RowKey("1m", 60_000)))
    (paid,) = broker.on(FundingDue(2_000, 0.01))
    assert paid == FundingPaid(time_ms=2_000, row=RowKey("1m", 60_000), paid_usdt=0.02)
    broker.on(Marked(3 * SECOND_NS, 98.0))
    assert broker.on(FundingDue(4_000, 0.01)) == []


RESTING = replace(ENTRY, decision_price=99.5, lifetime_ms=30_000)


def laid(order: EntryOrder) -> TickBroker:
    """A broker with an order that is about to meet the market."""
    broker = TickBroker(TERMS._replace(maker_fee_bps=1.0))
    broker.on(Traded(SECOND_NS // 3, 100.0))
    broker.place(order)
    return broker


def test_an_entry_that_rests_is_filled_by_a_trade_through_its_price_for_the_maker_fee():
    broker = laid(RESTING)
    assert broker.on(opening()) == broker.on(Traded(2 * SECOND_NS, 99.5)) == []
    (fill,) = broker.on(Traded(3 * SECOND_NS + 1, 99.4))
    assert isinstance(fill, EntryFilled)
    assert (fill.time_ms, fill.price, fill.quantity) == (3_001, 99.5, 2.0)
    assert fill.fee_usdt == pytest.approx(0.0199)
    broker.place(EXITS)
    (stopped,) = broker.on(Marked(4 * SECOND_NS, 98.9))
    assert stopped.reason == "stop"


def test_its_life_ends_before_what_comes_later_is_heard():
    broker, later = laid(RESTING), RowKey("1m", 60_000)
    assert broker.on(opening()) == broker.on(opening(later)) == []
    assert broker.on(Quoted(31 * SECOND_NS, 99.3, 99.4)) == []
    (missed,) = broker.on(Traded(31 * SECOND_NS + 1, 99.0))
    assert missed == EntryMissed(time_ms=31_000, client_order_id=ENTRY.client_order_id, row=later)
    assert broker.on(Traded(32 * SECOND_NS, 98.0)) == []


def test_one_that_would_take_as_it_arrives_never_rests():
    (missed,) = laid(replace(RESTING, decision_price=100.0)).on(opening())
    assert missed == EntryMissed(time_ms=1_000, client_order_id=ENTRY.client_order_id)


@pytest.mark.parametrize("has_arrived", [True, False])
def test_one_that_is_taken_back_is_not_filled(has_arrived):
    broker = laid(RESTING)
    if has_arrived:
        broker.on(opening())
    broker.place(CancelEntry(client_order_id=ENTRY.client_order_id))
    (missed,) = broker.on(Traded(2 * SECOND_NS, 99.0))
    assert isinstance(missed, EntryMissed)
    assert broker.on(opening(RowKey("1m", 60_000))) == broker.on(Traded(3 * SECOND_NS, 99.0)) == []
