"""Liquidation prices against the clusters' own formula, and against the margin they stand for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from research.clusters.grid import LONG, SHORT
from research.clusters.tiers import Bracket, liquidation_ratio
from research.fills import LIQUIDATION, STOP, Levels, Trailing, exit_in_bar
from research.liquidation import brackets_of, liquidation_price, refusal, with_liquidation
from research.order_settings import Orders
from research.tests.test_fills import bar
from research.tests.test_reference import FREE

ORDERS = Orders(notional_usdt=100.0, max_notional_usdt=60_000.0, entry_limit_ticks=1, cooldown_bars=0, leverage=20.0)
INSTRUMENT = {
    "brackets": [
        {"notional_floor_usdt": 0.0, "notional_cap_usdt": 50_000.0, "max_leverage": 50.0,
         "maintenance_margin_rate": 0.01, "maintenance_amount_usdt": 0.0},
        {"notional_floor_usdt": 50_000.0, "notional_cap_usdt": 1e6, "max_leverage": 20.0,
         "maintenance_margin_rate": 0.02, "maintenance_amount_usdt": 500.0},
    ]
}  # fmt: skip
LEVERED = FREE._replace(leverage=20.0, brackets=brackets_of(INSTRUMENT))


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(("quantity", "which"), [(1.0, 0), (600.0, 1)], ids=["first bracket", "second bracket"])
def test_a_position_is_liquidated_where_its_own_bracket_says(side, quantity, which):
    bracket = Bracket(**INSTRUMENT["brackets"][which])
    expected = 100.0 * liquidation_ratio(LONG if side > 0 else SHORT, 20.0, bracket, quantity * 100.0)
    assert liquidation_price(side, 100.0, quantity, LEVERED) == pytest.approx(expected)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("quantity", [100.0, 505.0, 520.0, 2_000.0])
def test_there_the_margin_left_is_what_the_bracket_of_that_notional_asks_for(side, quantity):
    price = liquidation_price(side, 100.0, quantity, LEVERED)
    margin_left = quantity * (100.0 / 20.0 + side * (price - 100.0))
    notional = quantity * price
    maintenance = notional * 0.01 if notional <= 50_000.0 else notional * 0.02 - 500.0
    assert margin_left == pytest.approx(maintenance)


def test_a_liquidated_position_loses_its_margin():
    none = Levels(*[math.nan] * 4)
    assert with_liquidation(none, 1, 100.0, 1.0, LEVERED).bankruptcy == 95.0
    assert with_liquidation(none, -1, 100.0, 1.0, LEVERED).bankruptcy == 105.0


def test_without_brackets_nothing_is_liquidated():
    assert math.isnan(liquidation_price(1, 100.0, 1.0, FREE))
    assert brackets_of({"brackets": None}).shape == brackets_of({}).shape == (0, 2)


def outcome(levels: Levels, *prices: float) -> tuple[int, float, bool]:
    """Of a long, in one bar whose mark is the last price."""
    result = exit_in_bar(1, levels, Trailing(100.0, False), 0, bar(*prices))
    return result.reason, result.price, result.at_open


def test_of_stop_and_liquidation_in_one_range_the_nearer_ends_the_position():
    levels = Levels(97.0, math.nan, math.nan, math.nan, liquidation=96.0, bankruptcy=95.0)
    assert outcome(levels, 100.0, 100.0, 95.5, 96.5) == (STOP, 97.0, False)
    assert outcome(levels._replace(stop=95.5), 100.0, 100.0, 95.5, 96.5) == (LIQUIDATION, 95.0, False)
    assert outcome(levels._replace(stop=math.nan), 100.0, 100.0, 95.5, 96.5) == (LIQUIDATION, 95.0, False)


def test_an_open_beyond_both_is_a_liquidation():
    levels = Levels(97.0, math.nan, math.nan, math.nan, liquidation=96.0, bankruptcy=95.0)
    assert outcome(levels, 95.9, 99.0, 95.9, 99.0) == (LIQUIDATION, 95.0, True)


def test_a_leverage_that_the_brackets_of_the_cap_do_not_allow_is_refused():
    assert refusal(ORDERS, INSTRUMENT) is None
    assert refusal(replace(ORDERS, leverage=50.0, max_notional_usdt=50_000.0), INSTRUMENT) is None
    said = refusal(replace(ORDERS, leverage=25.0), INSTRUMENT)
    assert said == "leverage 25 is above 20, the most from 50000 USDT of notional on; lower it or max_notional_usdt"
    assert refusal(replace(ORDERS, leverage=125.0), {"brackets": None}) is None


def test_brackets_are_rate_and_amount():
    np.testing.assert_array_equal(brackets_of(INSTRUMENT), [[0.01, 0.0], [0.02, 500.0]])
