"""The paper broker's own bookkeeping; that its fills are the backtest's is shown in ``test_runner``."""

import math

import numpy as np
import pytest

from live.brokers.paper import PaperBroker
from live.feed import ExecutionBar, ExecutionOpen, FeedEnded
from live.orders import (
    AmbiguousBar,
    EntryFilled,
    EntryMissed,
    EntryOrder,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Leg,
    RowKey,
)
from research.fills import Levels, Market, Terms

ROW = RowKey("1m", 0)
TERMS = Terms(
    taker_fee_bps=4.0,
    slippage_bps=0.0,
    notional_usdt=100.0,
    max_notional_usdt=200.0,
    min_notional_usdt=5.0,
    tick_size=0.1,
    step_size=0.01,
    min_quantity=0.01,
    max_quantity=100.0,
    entry_limit_ticks=1.0,
    cooldown_bars=0,
)
ENTRY = EntryOrder(
    client_order_id="wbrpl-abcdefghij-E0", trade_id="abcdefghij", row=ROW, side=1, quantity=2.0, decision_price=100.0
)  # fmt: skip
NAMES = {leg: f"wbrpl-abcdefghij-{leg}0" for leg in (Leg.STOP, Leg.TARGET, Leg.TRAILING)}
EXITS = ExitOrders(
    client_order_ids=NAMES,
    trade_id="abcdefghij",
    side=1,
    quantity=2.0,
    levels=Levels(99.0, 103.0, 101.0, 20.0),
)


def market(**changes: float) -> Market:
    """A bar that stays at 100 between quotes of 99.9 and 100, mark and last alike."""
    flat = dict.fromkeys(Market._fields, 100.0) | {"bid": 99.9, "exec_bid": 99.9, "half_spread_bps": 0.0}
    values = {**flat, "last_mark_ratio": 1.0, "funding_per_unit": 0.0, **changes}
    arrays = {name: np.array([value]) for name, value in values.items()}
    return Market(**{**arrays, "can_enter": np.array([True])})


def opening(**changes: float) -> ExecutionOpen:
    return ExecutionOpen(time_ms=1_000, row=ROW, market=market(**changes))


def window(**changes: float) -> ExecutionBar:
    return ExecutionBar(time_ms=61_000, row=ROW, opened_ms=1_000, market=market(**changes))


@pytest.fixture
def broker():
    """Long 2 from 100, with exits at 99, 103 and 20 bps behind the extreme once it has seen 101."""
    broker = PaperBroker(TERMS)
    broker.place(ENTRY)
    broker.on(opening())
    broker.place(EXITS)
    return broker


def test_an_entry_fills_at_the_ask_and_pays_the_taker_fee():
    broker = PaperBroker(TERMS)
    broker.place(ENTRY)
    (fill,) = broker.on(opening())
    assert isinstance(fill, EntryFilled)
    assert (fill.price, fill.quantity, fill.fee_usdt) == (100.0, 2.0, 0.08)


def test_an_entry_is_missed_when_the_ask_ran_beyond_the_limit():
    broker = PaperBroker(TERMS)
    broker.place(ENTRY)
    assert broker.on(opening(exec_ask=100.2)) == [EntryMissed(time_ms=1_000, client_order_id=ENTRY.client_order_id)]
    assert broker.on(opening()) == []


def test_the_stop_triggers_on_the_mark_and_cancels_the_rest(broker):
    (fill,) = broker.on(window(mark_low=98.9, exec_low=99.5))
    assert isinstance(fill, ExitFilled)
    assert (fill.leg, fill.reason, fill.price, fill.client_order_id) == (Leg.STOP, "stop", 99.0, NAMES[Leg.STOP])
    assert fill.filled_ms == 60_999
    assert broker.on(window(mark_low=98.9)) == []


def test_an_exit_at_the_open_happened_at_the_open_and_pays_no_funding(broker):
    (fill,) = broker.on(window(exec_open=103.5, funding_per_unit=0.01))
    assert (fill.reason, fill.price, fill.filled_ms) == ("target", 103.5, 1_000)


def test_funding_inside_the_window_is_paid_also_when_the_window_ends_the_trade(broker):
    funding, fill = broker.on(window(exec_high=103.0, funding_per_unit=0.01))
    assert funding == FundingPaid(time_ms=61_000, row=ROW, paid_usdt=0.02)
    assert fill.reason == "target"


def test_a_bar_that_reaches_stop_and_target_is_ambiguous(broker):
    ambiguous, fill = broker.on(window(mark_low=98.9, exec_high=103.0))
    assert isinstance(ambiguous, AmbiguousBar) and fill.reason == "stop"


def test_the_trailing_order_remembers_its_extreme_from_bar_to_bar(broker):
    assert broker.on(window(exec_high=102.0, exec_close=102.0, exec_low=101.9, exec_open=101.9)) == []
    (fill,) = broker.on(window(exec_open=102.0, exec_high=102.0, exec_low=101.0, exec_close=101.0))
    assert fill.reason == "trailing"
    assert fill.price == 102.0 * (1.0 - 20.0 / 1e4)


def test_a_window_without_prices_holds_the_position_and_still_pays_funding(broker):
    unseen = dict.fromkeys(("exec_open", "exec_high", "exec_low", "exec_close"), math.nan)
    assert broker.on(window(**unseen, mark_low=1.0)) == []
    (funding,) = broker.on(window(**unseen, funding_per_unit=0.01))
    assert funding.paid_usdt == 0.02


def test_entries_that_rest_are_refused_at_bar_resolution():
    with pytest.raises(ValueError, match="a runner lets entries rest at tick resolution only"):
        PaperBroker(TERMS._replace(rest_offset_bps=0.0, rest_ms=30_000))


def test_nothing_happens_without_orders():
    broker = PaperBroker(TERMS)
    assert broker.on(opening()) == [] and broker.on(window()) == [] and broker.on(FeedEnded(time_ms=0)) == []
