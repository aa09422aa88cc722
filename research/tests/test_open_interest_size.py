import math

import pytest

from research.fills import Terms, entry_quantity
from research.strategies.open_interest_size import OpenInterestSize, size_multiple, sized_quantity

LONG, SHORT = 1, -1
PRIOR_ART = OpenInterestSize()
TERMS = Terms(
    taker_fee_bps=4.0,
    slippage_bps=0.5,
    notional_usdt=100.0,
    max_notional_usdt=140.0,
    min_notional_usdt=5.0,
    tick_size=0.01,
    step_size=0.01,
    min_quantity=0.01,
    max_quantity=1_000.0,
    entry_limit_ticks=2.0,
    cooldown_bars=1,
)


@pytest.mark.parametrize(
    ("open_interest_usdt", "multiple"), [(6e9, 1.5), (5e9, 1.0), (2e9, 1.0), (1e9, 0.5), (4e8, 0.5), (0.0, 0.5)]
)
def test_more_open_interest_carries_a_larger_position(open_interest_usdt, multiple):
    assert size_multiple(LONG, open_interest_usdt, 1.0, PRIOR_ART) == multiple
    assert size_multiple(SHORT, open_interest_usdt, 1.0, PRIOR_ART) == multiple


@pytest.mark.parametrize(
    ("ratio", "of_long", "of_short"),
    [(1.3, 1.0, 1.2), (1.2, 1.0, 1.0), (0.8, 1.0, 1.0), (0.7, 1.2, 1.0), (math.nan, 1.0, 1.0)],
)
def test_against_the_crowd_a_position_is_larger(ratio, of_long, of_short):
    assert size_multiple(LONG, 2e9, ratio, PRIOR_ART) == of_long
    assert size_multiple(SHORT, 2e9, ratio, PRIOR_ART) == of_short


def test_thresholds_and_multiples_can_be_others():
    small_coin = OpenInterestSize(large_usdt=1e7, medium_usdt=1e6, large_multiple=2.0, crowded_long_ratio=3.0)
    assert size_multiple(SHORT, 2e7, 2.9, small_coin) == 2.0
    assert size_multiple(SHORT, 2e7, 3.1, small_coin) == pytest.approx(2.4)


def test_without_open_interest_there_is_no_size_and_no_entry():
    assert math.isnan(size_multiple(LONG, math.nan, 1.0, PRIOR_ART))
    assert sized_quantity(10.0, math.nan, TERMS) == 0.0


def test_the_notional_is_multiplied_and_the_cap_is_not():
    assert sized_quantity(10.0, 0.5, TERMS) == 5.0
    assert sized_quantity(10.0, 1.0, TERMS) == entry_quantity(10.0, TERMS) == 10.0
    assert sized_quantity(10.0, 1.5, TERMS) == 14.0


def test_at_multiple_one_every_quantity_is_the_one_without_a_size():
    for price in (0.37, 3.0, 9.99, 50.0, 120.0, 20_000.0):
        assert sized_quantity(price, 1.0, TERMS) == entry_quantity(price, TERMS)
