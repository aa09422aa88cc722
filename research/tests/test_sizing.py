"""Sizes by open interest, worked by hand."""

import math

import numpy as np
import pytest

from data.config import load
from research.order_settings import Orders
from research.sizing import OpenInterestSize, size_multiples, unscaled

PRIOR_ART = OpenInterestSize()


def multiples(open_interest_usdt: float, ratio: float, size: OpenInterestSize = PRIOR_ART) -> list[float]:
    """Of a long and of a short."""
    features = {"open_interest_usdt": np.array([open_interest_usdt]), "long_short_ratio": np.array([ratio])}
    return size_multiples(size, features, 1)[:, 0].tolist()


@pytest.mark.parametrize(
    ("open_interest_usdt", "multiple"), [(6e9, 1.5), (5e9, 1.0), (2e9, 1.0), (1e9, 0.5), (4e8, 0.5), (0.0, 0.5)]
)
def test_more_open_interest_carries_a_larger_position(open_interest_usdt, multiple):
    assert multiples(open_interest_usdt, 1.0) == [multiple, multiple]


@pytest.mark.parametrize(
    ("ratio", "of_long", "of_short"),
    [(1.3, 1.0, 1.2), (1.2, 1.0, 1.0), (0.8, 1.0, 1.0), (0.7, 1.2, 1.0), (math.nan, 1.0, 1.0)],
)
def test_against_the_crowd_a_position_is_larger(ratio, of_long, of_short):
    assert multiples(2e9, ratio) == [of_long, of_short]


def test_thresholds_and_multiples_can_be_others():
    small_coin = OpenInterestSize(large_usdt=1e7, medium_usdt=1e6, large_multiple=2.0, crowded_long_ratio=3.0)
    assert multiples(2e7, 2.9, small_coin) == [2.0, 2.0]
    assert multiples(2e7, 3.1, small_coin) == [2.0, 2.4]


def test_without_open_interest_no_size_is_known():
    assert np.isnan(multiples(math.nan, 1.0)).all()
    assert np.isnan(multiples(math.nan, 1.3)).all()


def test_a_size_that_is_not_scaled_asks_for_nothing_and_is_one_on_every_row():
    assert size_multiples(None, {}, 3).tolist() == unscaled(3).tolist() == [[1.0] * 3] * 2


ORDERS = {"notional_usdt": 100, "max_notional_usdt": 150, "entry_limit_ticks": 2, "cooldown_bars": 1}


def test_an_empty_section_takes_the_numbers_of_prior_art():
    assert load(Orders, {**ORDERS, "open_interest_size": {}}).open_interest_size == PRIOR_ART
    assert load(Orders, ORDERS).open_interest_size is None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"risk_usdt": 0}, "risk_usdt 0 must be above 0; leave it out for a fixed notional"),
        ({"leverage": 0.5}, "leverage 0.5 is under 1"),
        ({"leverage": 2.5}, "leverage 2.5 cannot be set, the exchange takes whole numbers; write 2 or 3"),
        ({"entry_hours": [8, 24]}, "entry_hours 24 is no hour of a day; write 0 to 23"),
        ({"notional_usdt": 0}, "notional_usdt 0 must be above 0"),
        ({"open_interest_size": {"small_multiple": -1}}, r"\[open_interest_size\]: small_multiple -1 must be above 0"),
        ({"open_interest_size": {"large_usdt": 1e8}}, "medium_usdt 1e[+]09 is above large_usdt 1e[+]08; swap them"),
        ({"open_interest_size": {"crowded_long_ratio": 0.5}}, "both sides would be the crowd"),
        ({"open_interest_size": {"large_multple": 2}}, "unknown key 'large_multple'; did you mean large_multiple"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_size_that_makes_no_sense_is_refused_by_name(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        load(Orders, {**ORDERS, **changes})
