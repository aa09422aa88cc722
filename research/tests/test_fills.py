"""Fills worked by hand: every number here can be checked on paper."""

import math

import numpy as np
import pytest

from research import fills
from research.fills import OPEN, STOP, TARGET, TRAILING, Decision, Levels, Market, Terms, Trailing

NAN = math.nan


def market(**columns) -> Market:
    """One execution bar; what is not given is absent (NaN), the ratio of last to mark is one."""
    values = dict.fromkeys(Market._fields, NAN) | {"last_mark_ratio": 1.0, "funding_per_unit": 0.0, "can_enter": True}
    values |= columns
    return Market(**{name: np.array([value]) for name, value in values.items()})


def bar(open_, high, low, close, **columns) -> Market:
    """A bar whose mark equals the last price unless said otherwise."""
    mark = {"mark_open": open_, "mark_high": high, "mark_low": low}
    return market(exec_open=open_, exec_high=high, exec_low=low, exec_close=close, **(mark | columns))


@pytest.fixture
def terms() -> Terms:
    return Terms(
        taker_fee_bps=4.0,
        slippage_bps=1.0,
        notional_usdt=100.0,
        max_notional_usdt=120.0,
        min_notional_usdt=5.0,
        tick_size=0.1,
        step_size=0.01,
        min_quantity=0.01,
        max_quantity=1000.0,
        entry_limit_ticks=2.0,
        cooldown_bars=10,
    )


LONG = Levels(stop=99.0, target=103.0, activation=101.0, callback_bps=100.0)
UNARMED = Trailing(extreme=100.0, armed=False)


def quantity(price: float, terms: Terms, multiple: float = 1.0, side: int = 1, **plan: float) -> float:
    """Of an entry with this plan; distances and prices that are not given are absent."""
    return fills.entry_quantity(price, fills.stay_out()._replace(side=side, **plan), multiple, terms)


def test_the_notional_is_rounded_up_to_the_step(terms):
    assert quantity(30.0, terms) == 3.34


def test_the_notional_never_exceeds_the_cap(terms):
    assert quantity(70.0, terms._replace(step_size=1.0, min_quantity=1.0)) == 1.0


def test_no_quantity_satisfies_a_cap_below_one_step(terms):
    assert quantity(500.0, terms._replace(step_size=1.0, min_quantity=1.0)) == 0.0


def test_the_notional_is_multiplied_and_the_cap_is_not(terms):
    assert [quantity(10.0, terms, multiple) for multiple in (0.5, 1.0, 1.5)] == [5.0, 10.0, 12.0]


def test_an_unknown_size_is_no_size(terms):
    assert quantity(10.0, terms, NAN) == quantity(10.0, terms, 0.0) == 0.0


def test_a_risk_buys_what_loses_as_much_at_the_stop(terms):
    risky = terms._replace(risk_usdt=1.0)
    assert quantity(100.0, risky, stop_bps=200.0) == 0.5
    assert quantity(100.0, risky, side=-1, stop_bps=200.0) == 0.5
    assert quantity(100.0, risky, stop_bps=200.0, stop_price=96.0) == 0.25  # a price counts before its distance
    assert quantity(100.0, risky, side=-1, stop_price=104.0) == 0.25
    assert quantity(100.0, risky, 1.5, stop_bps=200.0) == 0.75


def test_a_risk_is_rounded_down_cut_at_the_cap_and_never_raised_to_a_minimum(terms):
    risky = terms._replace(risk_usdt=1.0)
    assert quantity(100.0, risky, stop_bps=300.0) == 0.33
    assert quantity(100.0, risky, stop_bps=10.0) == 1.2
    assert quantity(100.0, risky, stop_bps=2_500.0) == 0.0  # 0.04 of 100 USDT: the exchange wants 5 USDT


def test_a_risk_without_a_stop_against_the_position_has_no_size(terms):
    risky = terms._replace(risk_usdt=1.0)
    assert quantity(100.0, risky) == quantity(100.0, risky, stop_price=101.0) == quantity(100.0, risky, stop_bps=0) == 0


def test_an_entry_without_quotes_pays_half_the_spread_and_slippage(terms):
    there = bar(100.0, 100.0, 100.0, 100.0, half_spread_bps=2.0)
    assert fills.entry_price(1, 0, there, terms) == pytest.approx(100.03)
    assert fills.entry_price(-1, 0, there, terms) == pytest.approx(99.97)


def test_an_entry_with_quotes_is_missed_when_the_touch_ran_beyond_the_limit(terms):
    there = bar(100.0, 100.0, 100.0, 100.0, bid=99.9, ask=100.0, exec_bid=100.2, exec_ask=100.3)
    assert math.isnan(fills.entry_price(1, 0, there, terms))


def test_an_entry_with_quotes_never_fills_beyond_its_limit(terms):
    there = bar(100.0, 100.0, 100.0, 100.0, bid=99.9, ask=100.0, exec_bid=100.1, exec_ask=100.2)
    assert fills.entry_price(1, 0, there, terms) == 100.2


def test_an_entry_into_an_unseen_bar_is_missed(terms):
    assert math.isnan(fills.entry_price(1, 0, market(bid=99.9, ask=100.0, exec_bid=99.9, exec_ask=100.0), terms))


def test_stops_round_toward_the_entry_and_targets_away_from_it():
    decision = Decision(1, 52.0, 52.0, 21.0, 10.0, NAN, NAN)
    assert fills.exit_levels(1, 100.0, decision, 0.1) == Levels(99.5, 100.6, 100.3, 10.0)
    assert fills.exit_levels(-1, 100.0, decision, 0.1) == Levels(100.5, 99.4, 99.7, 10.0)


def test_a_decision_may_name_prices_instead_of_distances():
    decision = Decision(1, NAN, NAN, NAN, NAN, 98.04, 104.01)
    levels = fills.exit_levels(1, 100.0, decision, 0.1)
    assert (levels.stop, levels.target) == (98.1, 104.1)
    assert math.isnan(levels.activation)


def exit_of(levels, trailing, there) -> tuple:
    done = fills.exit_in_bar(1, levels, trailing, 0, there)
    return done.reason, done.price, done.at_open, done.is_ambiguous


def test_a_gap_through_the_stop_fills_at_the_open():
    assert exit_of(LONG, UNARMED, bar(98.0, 99.5, 97.0, 99.0)) == (STOP, 98.0, True, False)


def test_the_stop_is_checked_before_the_target_and_counted_as_ambiguous():
    assert exit_of(LONG, UNARMED, bar(100.0, 103.5, 98.5, 102.0)) == (STOP, 99.0, False, True)


def test_the_stop_looks_at_the_mark_and_fills_at_the_last_price():
    there = bar(100.0, 100.5, 98.0, 98.5, mark_low=99.4)
    assert exit_of(LONG, UNARMED, there)[0] == OPEN
    there = bar(100.0, 100.5, 99.5, 100.0, mark_low=99.0, last_mark_ratio=1.001)
    assert exit_of(LONG, UNARMED, there) == (STOP, 99.0 * 1.001, False, False)


def test_the_target_needs_the_last_price():
    there = bar(100.0, 102.9, 99.9, 102.0, mark_high=103.5)
    assert exit_of(LONG, UNARMED, there)[0] == OPEN
    assert exit_of(LONG, UNARMED, bar(100.0, 103.0, 99.9, 102.9)) == (TARGET, 103.0, False, False)


def test_an_armed_trailing_order_triggers_a_callback_below_the_extreme():
    armed = Trailing(extreme=102.0, armed=True)
    assert exit_of(LONG, armed, bar(101.5, 101.8, 100.9, 101.0)) == (TRAILING, 102.0 * 0.99, False, False)
    assert exit_of(LONG, armed, bar(100.5, 100.9, 100.2, 100.4)) == (TRAILING, 100.5, True, False)


def test_the_open_may_arm_the_trailing_order_and_move_its_extreme():
    there = bar(102.5, 102.6, 101.0, 102.4)
    assert exit_of(LONG, UNARMED, there) == (TRAILING, 102.5 * 0.99, False, False)


def test_an_extreme_inside_the_bar_arms_and_the_close_decides():
    assert exit_of(LONG, UNARMED, bar(100.0, 102.0, 99.9, 100.5)) == (TRAILING, 102.0 * 0.99, False, True)
    reason, _, _, is_ambiguous = exit_of(LONG, UNARMED, bar(100.0, 102.0, 99.9, 101.5))
    assert (reason, is_ambiguous) == (OPEN, True)


def test_a_short_is_the_mirror_of_a_long():
    short = Levels(stop=101.0, target=97.0, activation=99.0, callback_bps=100.0)
    done = fills.exit_in_bar(-1, short, UNARMED, 0, bar(100.0, 101.5, 96.5, 98.0))
    assert (done.reason, done.price, done.is_ambiguous) == (STOP, 101.0, True)


def test_absent_orders_never_trigger():
    none = Levels(NAN, NAN, NAN, NAN)
    assert exit_of(none, UNARMED, bar(100.0, 200.0, 1.0, 100.0)) == (
        OPEN,
        pytest.approx(NAN, nan_ok=True),
        False,
        False,
    )


def test_the_floor_is_a_round_trip_with_one_hours_funding():
    assert fills.breakeven_floor_bps(4.0, 2.0, -8.0, 8.0) == 11.0
    assert fills.breakeven_floor_bps(4.0, -3.0, 8.0, 4.0) == 10.0
