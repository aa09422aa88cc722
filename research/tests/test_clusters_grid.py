"""Buckets of log price, and which of them may show which side."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters import grid
from research.clusters.profiles import SourceBars


def test_buckets_are_ten_basis_points_of_log_price_from_one_up():
    assert grid.bucket_of([1.0, 1.0009, 1.0011, 0.9999, np.exp(11.0)]).tolist() == [0, 0, 1, -1, 11_000]


def test_a_price_computed_to_lie_on_an_edge_belongs_to_the_bucket_above():
    buckets = np.arange(-9_000, 13_000)
    assert np.array_equal(grid.bucket_of(grid.lower_edge(buckets)), buckets)
    assert np.array_equal(grid.bucket_of(grid.centre(buckets)), buckets)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(1e-6, 1e6))
def test_longs_end_below_the_mark_and_shorts_begin_above_it(mark):
    highest_long_price = grid.lower_edge(grid.highest_long_bucket(mark) + 1)
    lowest_short_price = grid.lower_edge(grid.lowest_short_bucket(mark))
    assert highest_long_price < mark < lowest_short_price


def test_a_mark_on_an_edge_leaves_no_room_for_the_long_bucket_that_ends_there():
    assert grid.bucket_of(1.0) == 0
    assert grid.highest_long_bucket(1.0) == -2
    assert grid.highest_long_bucket(1.0005) == -1


def test_the_window_has_as_many_buckets_below_the_marks_own():
    assert grid.first_bucket(100.0) == grid.bucket_of(100.0) - 250


@pytest.mark.parametrize("price", [np.nan, 0.0, -1.0, np.inf])
def test_no_price_has_no_bucket(price):
    with pytest.raises(ValueError, match="expected positive prices"):
        grid.bucket_of([1.0, price])


@pytest.fixture
def columns():
    return {
        "time_ms": np.array([60_000, 120_000]),
        "avail_ms": np.array([61_000, 121_000]),
        **dict.fromkeys(("mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest"), np.ones(2)),
        "is_new": np.array([True, True]),
    }


def test_bars_of_different_lengths_are_refused(columns):
    with pytest.raises(ValueError, match="expected 2 values of volume_usdt, got 1"):
        SourceBars(symbol="BTCUSDT", source="aster", **columns | {"volume_usdt": np.ones(1)})


def test_bars_that_are_out_of_order_are_refused(columns):
    with pytest.raises(ValueError, match="expected ascending bar times"):
        SourceBars(symbol="BTCUSDT", source="aster", **columns | {"time_ms": np.array([120_000, 60_000])})


def test_bars_that_are_known_before_they_close_are_refused(columns):
    with pytest.raises(ValueError, match="never to precede"):
        SourceBars(symbol="BTCUSDT", source="aster", **columns | {"avail_ms": np.array([59_000, 121_000])})


def test_negative_open_interest_is_refused(columns):
    with pytest.raises(ValueError, match="expected open_interest of 0 or more"):
        SourceBars(symbol="BTCUSDT", source="aster", **columns | {"open_interest": np.array([1.0, -1.0])})


def test_a_slice_of_bars_is_bars(columns):
    bars = SourceBars(symbol="BTCUSDT", source="aster", **columns).rows(slice(1, None))
    assert (len(bars), bars.time_ms.tolist(), bars.symbol) == (1, [120_000], "BTCUSDT")
