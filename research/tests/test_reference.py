"""The reference itself, on bars small enough to work out by hand."""

import math

import numpy as np
import pytest

from research import reference
from research.fills import OPEN, STOP, TARGET, TRAILING, Market, Terms
from research.strategies import momentum
from research.worlds import ScriptParams, ScriptRow, script_decision

FREE = Terms(
    taker_fee_bps=0.0,
    slippage_bps=0.0,
    notional_usdt=100.0,
    max_notional_usdt=200.0,
    min_notional_usdt=5.0,
    tick_size=0.5,
    step_size=0.1,
    min_quantity=0.1,
    max_quantity=1_000.0,
    entry_limit_ticks=1.0,
    cooldown_bars=0,
)
FLAT = (100.0, 100.0, 100.0, 100.0)
UNSEEN = (math.nan,) * 4


def market(*bars: tuple[float, float, float, float], **columns: list[float]) -> Market:
    """Execution bars (open, high, low, close), also the mark's; no quotes, no funding; signal bars close at 100."""
    open_, high, low, close = (np.array(column, dtype=np.float64) for column in zip(*bars, strict=True))
    absent, zero, one = (np.full(len(bars), value) for value in (math.nan, 0.0, 1.0))
    given = {name: np.array(column, dtype=np.float64) for name, column in columns.items()}
    made = {
        "can_enter": np.full(len(bars), True),
        "close": 100.0 * one,
        "bid": absent,
        "ask": absent,
        "exec_open": open_,
        "exec_high": high,
        "exec_low": low,
        "exec_close": close,
        "mark_open": open_,
        "mark_high": high,
        "mark_low": low,
        "exec_bid": absent,
        "exec_ask": absent,
        "half_spread_bps": zero,
        "last_mark_ratio": one,
        "funding_per_unit": zero,
    }
    return Market(**(made | given))


def record(on: Market, *sides: int, terms: Terms = FREE, callback_bps: float = math.nan, days=None, **plan: float):
    """Trade ``sides`` row by row with one exit plan; distances that are not given are absent."""
    n_rows = on.close.size
    rows = {field: [plan.get(field, math.nan)] * n_rows for field in ScriptRow._fields}
    rows["side"] = [*sides, *[0] * (n_rows - len(sides))]
    return reference.simulate(on, rows, ScriptParams(callback_bps), terms, 0, n_rows, script_decision, days=days)


def exits(result) -> list[tuple]:
    return [(trade["exit_row"], trade["reason"], trade["exit_price"]) for trade in result.trades]


def test_a_stop_in_the_range_of_the_entry_bar_fills_at_the_stop():
    assert exits(record(market((100.0, 101.0, 98.0, 100.0)), 1, stop_bps=100)) == [(0, STOP, 99.0)]


def test_a_stop_below_the_open_fills_at_the_open():
    assert exits(record(market(FLAT, (97.0, 99.0, 96.0, 98.0)), 1, stop_bps=100)) == [(1, STOP, 97.0)]


def test_a_short_is_the_mirror_of_a_long():
    assert exits(record(market((100.0, 102.0, 99.5, 100.0)), -1, stop_bps=100)) == [(0, STOP, 101.0)]


def test_an_open_beyond_the_target_comes_before_the_stop_in_the_range():
    bars = market(FLAT, (103.0, 103.0, 98.0, 98.0))
    assert exits(record(bars, 1, stop_bps=100, target_bps=200)) == [(1, TARGET, 103.0)]


def test_of_stop_and_target_in_one_range_the_stop_is_taken_and_the_bar_is_ambiguous():
    result = record(market((100.0, 103.0, 98.0, 100.0)), 1, stop_bps=100, target_bps=200)
    assert exits(result) == [(0, STOP, 99.0)]
    assert result.ambiguous_bars == 1 and result.trades[0]["is_ambiguous"]


def test_the_stop_watches_the_mark_and_fills_at_the_last_price():
    bars = market(FLAT, FLAT, mark_low=[100.0, 98.0], last_mark_ratio=[1.0, 1.01])
    assert exits(record(bars, 1, stop_bps=100)) == [(1, STOP, 99.0 * 1.01)]


def test_where_no_mark_is_known_the_stop_watches_the_last_price_and_fills_at_it():
    unknown = [math.nan]
    marks = {"mark_open": unknown, "mark_high": unknown, "mark_low": unknown, "last_mark_ratio": [1.01]}
    bars = market((100.0, 101.0, 98.0, 100.0), **marks)
    assert exits(record(bars, 1, stop_bps=100)) == [(0, STOP, 99.0)]


def test_a_trailing_order_armed_in_an_earlier_bar_fills_in_the_range():
    bars = market((100.0, 110.0, 100.0, 109.5), (109.5, 110.0, 108.0, 109.0))
    assert exits(record(bars, 1, activation_bps=500, callback_bps=100)) == [(1, TRAILING, 110.0 * 0.99)]


def test_a_trailing_order_armed_by_the_bars_own_high_fills_if_the_close_is_beyond_it():
    result = record(market((100.0, 110.0, 100.0, 101.0)), 1, activation_bps=500, callback_bps=100)
    assert exits(result) == [(0, TRAILING, 110.0 * 0.99)]
    assert result.ambiguous_bars == 1


def test_a_trailing_order_that_may_have_triggered_unseen_is_counted_but_held():
    result = record(market((100.0, 110.0, 100.0, 109.5)), 1, activation_bps=500, callback_bps=100)
    assert exits(result) == [(0, OPEN, 109.5)]
    assert result.ambiguous_bars == 1


def test_the_reference_of_the_trailing_order_starts_at_the_open_not_at_the_fill():
    bars = market((100.0, 100.0, 99.5, 100.0), half_spread_bps=[100.0])
    assert exits(record(bars, 1, activation_bps=-200, callback_bps=10))[0][1:] == (TRAILING, 100.0 * 0.999 * 0.99)


def test_no_entry_is_taken_in_the_bar_after_an_exit_even_without_cooldown():
    fall = (100.0, 100.0, 98.0, 98.0)
    entries = [trade["entry_row"] for trade in record(market(*[fall] * 6), 1, 1, 1, 1, 1, 1, stop_bps=100).trades]
    assert entries == [0, 2, 4]


def test_cooldown_counts_from_the_bar_of_the_exit():
    fall = (100.0, 100.0, 98.0, 98.0)
    terms = FREE._replace(cooldown_bars=3)
    result = record(market(*[fall] * 6), 1, 1, 1, 1, 1, 1, stop_bps=100, terms=terms)
    assert [trade["entry_row"] for trade in result.trades] == [0, 4]


def test_funding_is_paid_in_the_entry_bar_and_not_in_a_bar_left_at_its_open():
    bars = market(FLAT, FLAT, (97.0, 97.0, 97.0, 97.0), funding_per_unit=[0.5, 0.25, 8.0])
    result = record(bars, 1, stop_bps=100)
    assert result.trades[0]["funding_usdt"] == 0.75
    assert result.equity_usdt == [-0.5, -0.75, -3.75]


def test_a_bar_nobody_saw_holds_the_position_and_its_equity():
    result = record(market((100.0, 100.0, 100.0, 104.0), UNSEEN, (106.0,) * 4), 1)
    assert result.equity_usdt == [4.0, 4.0, 6.0]
    assert exits(result) == [(2, OPEN, 106.0)]


def test_an_entry_into_a_bar_nobody_saw_is_missed():
    result = record(market(UNSEEN, FLAT), 1)
    assert (result.trades, result.missed_entries) == ([], 1)


@pytest.mark.parametrize(
    ("exec_ask", "fill"),
    [(100.5, 100.5), (101.0, 101.0), (101.5, None)],
    ids=["at the touch", "at the limit", "beyond"],
)
def test_an_entry_fills_up_to_its_limit_and_is_missed_beyond(exec_ask, fill):
    quotes = {"bid": [100.0], "ask": [100.5], "exec_bid": [100.0], "exec_ask": [exec_ask]}
    result = record(market(FLAT, **quotes), 1)
    assert [trade["entry_price"] for trade in result.trades] == ([] if fill is None else [fill])
    assert result.missed_entries == (fill is None)


def test_slippage_never_carries_an_entry_beyond_its_limit():
    quotes = {"bid": [100.0], "ask": [100.5], "exec_bid": [100.0], "exec_ask": [100.5]}
    result = record(market(FLAT, **quotes), 1, terms=FREE._replace(slippage_bps=100.0))
    assert result.trades[0]["entry_price"] == 101.0


def test_costs_are_against_us_on_both_sides():
    terms = FREE._replace(taker_fee_bps=5.0, slippage_bps=10.0)
    trade = record(market((100.0, 102.0, 100.0, 102.0)), 1, target_bps=100, terms=terms).trades[0]
    # Bought at 100.1; the target 101.101 rounds away to 101.5 and is sold 10 bps lower.
    assert trade["entry_price"] == pytest.approx(100.1) and trade["exit_price"] == pytest.approx(101.5 * 0.999)
    assert trade["fees_usdt"] == pytest.approx((100.1 + 101.5 * 0.999) * 5e-4)


def test_a_longs_orders_round_up_and_a_shorts_down():
    plan = {"stop_bps": 130, "target_bps": 130, "activation_bps": 130}
    (long,) = record(market(FLAT), 1, **plan).trades
    assert (long["stop"], long["target"], long["activation"]) == (99.0, 101.5, 101.5)
    (short,) = record(market(FLAT), -1, **plan).trades
    assert (short["stop"], short["target"], short["activation"]) == (101.0, 98.5, 98.5)


def test_prices_of_a_decision_replace_its_distances():
    (trade,) = record(market(FLAT), 1, stop_bps=1, stop_price=90.2, target_price=110.2).trades
    assert (trade["stop"], trade["target"]) == (90.5, 110.5)


@pytest.mark.parametrize(
    ("limits", "quantity"),
    [
        ({}, 1.0),
        ({"max_notional_usdt": 95.0}, 0.9),
        ({"max_quantity": 0.4}, 0.4),
        ({"notional_usdt": 1.0, "min_notional_usdt": 25.0}, 0.3),
        ({"notional_usdt": 1.0, "min_quantity": 0.7}, 0.7),
    ],
    ids=["up to the step", "down under the cap", "at most", "the least notional", "the least quantity"],
)
def test_size_is_rounded_up_and_cut_at_the_cap(limits, quantity):
    terms = FREE._replace(notional_usdt=92.0)._replace(**limits)
    assert [trade["quantity"] for trade in record(market(FLAT), 1, terms=terms).trades] == [quantity]


def test_an_entry_that_fits_no_size_is_missed():
    terms = FREE._replace(notional_usdt=92.0, min_notional_usdt=92.0, max_notional_usdt=95.0)
    result = record(market(FLAT), 1, terms=terms)
    assert (result.trades, result.missed_entries) == ([], 1)


def test_a_day_that_lost_its_limit_enters_no_more_and_the_next_day_does():
    bars = market(*[(100.0, 100.0, 98.0, 100.0)] * 8)  # every long is stopped at 99 and loses 1 USDT
    limited = FREE._replace(max_daily_loss_usdt=2.0)
    days = [5] * 6 + [6] * 2
    results = [record(bars, *[1] * 8, terms=terms, days=days, stop_bps=100) for terms in (FREE, limited)]
    assert [[trade["entry_row"] for trade in result.trades] for result in results] == [[0, 2, 4, 6], [0, 2, 6]]


def test_the_figures_follow_from_trades_and_equity():
    bars = market((100.0, 102.0, 100.0, 102.0), FLAT, (100.0, 100.0, 98.0, 98.0), FLAT)
    stats = record(bars, 1, 0, 1, 0, stop_bps=100, target_bps=200).stats()
    assert (stats["trades"], stats["wins"], stats["target_exits"], stats["stop_exits"]) == (2, 1, 1, 1)
    assert (stats["gross_pnl_usdt"], stats["net_pnl_usdt"], stats["max_drawdown_usdt"]) == (1.0, 1.0, -1.0)
    assert (stats["bar_pnl_squared"], stats["exposure_bars"]) == (5.0, 2)


PARAMS = momentum.Params(
    momentum_multiple=1.0,
    volatility_window_bars=10.0,
    volume_multiple=1.0,
    volume_window_bars=10.0,
    target_bps=20.0,
    stop_bps=25.0,
    activation_bps=10.0,
    activation_buffer_bps=0.5,
    callback_bps=10.0,
    target_gap_bps=4.0,
    max_spread_ticks=2.0,
    max_funding_bps=1.5,
)
RISING = {
    "return_bps": 12.0,
    "volatility_bps": 10.0,
    "volume": 5.0,
    "mean_volume": 4.0,
    "spread_ticks": 2.0,
    "spread_bps": 1.0,
    "funding_bps": -0.8,
    "funding_interval_hours": 8.0,
    "opening_loss_long_bps": 3.0,
    "opening_loss_short_bps": -2.0,
    "quote_age_ms": 2_000.0,
    "mark_age_ms": 3_000.0,
    "taker_fee_bps": 4.0,
}


def test_momentum_follows_a_large_heavy_bar_with_floors_under_its_exits():
    decision = reference.momentum_decision(RISING, PARAMS)
    # Floor: two fees of 4, a loss of 3, an hour of funding of 0.1: 11.1; activation half a bp above it.
    assert (decision.side, decision.stop_bps, decision.target_bps) == (1, 25.0, 20.0)
    assert decision.activation_bps == pytest.approx(11.6)
    falling = RISING | {"return_bps": -12.0}
    assert reference.momentum_decision(falling, PARAMS).side == -1


@pytest.mark.parametrize(
    "blocked",
    [
        {"return_bps": 10.0},
        {"volume": 4.0},
        {"spread_ticks": 3.0},
        {"funding_bps": -1.6},
        {"opening_loss_long_bps": 5.1},
        {"quote_age_ms": 2_001.0},
        {"mark_age_ms": 3_001.0},
    ],
    ids=lambda blocked: next(iter(blocked)),
)
def test_momentum_stays_out_behind_a_closed_gate(blocked):
    assert reference.momentum_decision(RISING | blocked, PARAMS).side == 0


@pytest.mark.parametrize("field", [field for field in momentum.Row._fields if field != "opening_loss_short_bps"])
def test_momentum_stays_out_when_a_number_it_needs_is_missing(field):
    row = RISING | {field: math.nan}
    assert reference.momentum_decision(row, PARAMS).side == 0
    assert momentum.decide(momentum.Row(**row), 0, PARAMS).side == 0
