"""Another venue's map on Aster's prices."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters import grid
from research.clusters.anchoring import BasisState, anchor, anchored
from research.clusters.contracts import asset, units
from research.clusters.profiles import Profiles

T = 1_780_000_000_000
MINUTE = 60_000
ARRAYS = ("mass_usdt", "first_bucket", "mark", "is_stale", "basis_bps", "basis_deviation_bps", "masked_usdt")


def a_map(
    times: list[int], mark: list[float], *levels: tuple[int, float, float], symbol="BTCUSDT", leverage=None
) -> Profiles:
    """Snapshots ``times`` ms after T with the same levels (side, price, notional) in each."""
    mark = np.array(mark, np.float64)
    seen = np.isfinite(mark)
    first_bucket = np.zeros(len(mark), np.int64)
    first_bucket[seen] = grid.first_bucket(mark[seen])
    mass = np.zeros((len(mark), 2, grid.BUCKETS), np.float32)
    for side, price, notional in levels:
        for row in np.flatnonzero(seen):
            mass[row, side, grid.bucket_of(price) - first_bucket[row]] = notional
    time_ms = T + np.array(times, np.int64)
    return Profiles(
        symbol=symbol, source="binance", time_ms=time_ms, avail_ms=time_ms, first_bucket=first_bucket, mass_usdt=mass,
        mark=mark, swept_usdt=np.zeros((len(mark), 2)), open_interest_usdt=np.full(len(mark), 1_000.0),
        placed_share=mass.sum(axis=(1, 2)) / 2_000.0, is_stale=~seen,
        leverage=None if leverage is None else np.where(mass > 0.0, np.float32(leverage), np.float32(np.nan)),
    )  # fmt: skip


def at(times: list[int]) -> np.ndarray:
    return T + np.array(times, np.int64)


def masses(profiles: Profiles, row: int, side: int) -> dict[int, float]:
    """Notional by absolute bucket, where there is any."""
    columns = np.flatnonzero(profiles.mass_usdt[row, side])
    return {int(profiles.first_bucket[row] + k): float(profiles.mass_usdt[row, side, k]) for k in columns}


def mean_log_price(profiles: Profiles, row: int, side: int) -> float:
    found = masses(profiles, row, side)
    return sum((bucket + 0.5) * grid.DELTA * usdt for bucket, usdt in found.items()) / sum(found.values())


def test_the_same_mark_leaves_the_map_as_it_is():
    source = a_map([0], [100.0], (grid.LONG, 90.0, 500.0), (grid.SHORT, 110.0, 300.0))
    made = anchor(source, at([0]), np.array([100.0]))
    np.testing.assert_array_equal(made.mass_usdt, source.mass_usdt)
    assert (made.basis_bps[0], made.masked_usdt[0], made.placed_share[0]) == (0.0, 0.0, pytest.approx(0.4))


def test_levels_move_with_the_basis_and_keep_their_notional():
    basis = 0.00325  # three buckets and a quarter
    source = a_map([0], [100.0], (grid.LONG, 90.0, 400.0))
    made = anchor(source, at([0]), np.array([100.0 * math.exp(basis)]))
    own = int(grid.bucket_of(90.0))
    assert masses(made, 0, grid.LONG) == pytest.approx({own + 3: 300.0, own + 4: 100.0})
    assert made.basis_bps[0] == pytest.approx(32.5)
    assert mean_log_price(made, 0, grid.LONG) - mean_log_price(source, 0, grid.LONG) == pytest.approx(basis)


def test_the_basis_is_an_average_over_ten_minutes():
    times = [0, 10 * MINUTE]
    source = a_map(times, [100.0, 100.0], (grid.LONG, 90.0, 1.0))
    made = anchor(source, at(times), 100.0 * np.exp([0.0, 0.004]))
    weight = 1.0 - math.exp(-1.0)
    assert made.basis_bps == pytest.approx([0.0, 40.0 * weight])
    assert made.basis_deviation_bps[1] == pytest.approx(40.0 * math.sqrt(weight * (1.0 - weight)))


def test_the_basis_can_be_followed_between_the_snapshots():
    source = a_map([4 * MINUTE], [100.0], (grid.LONG, 90.0, 1.0))
    minutes = at([MINUTE * i for i in range(5)])
    made = anchor(source, minutes, np.full(5, 100.1), source_time_ms=minutes, source_mark=np.full(5, 100.0))
    assert made.basis_bps[0] == pytest.approx(1e4 * math.log(1.001))
    assert made.basis_deviation_bps[0] == pytest.approx(0.0, abs=1e-6)


def test_an_uncertain_basis_blurs_a_level_by_its_deviation():
    minutes = at([MINUTE * i for i in range(60)])
    swing = 0.002 * (-1.0) ** np.arange(60)
    source = a_map([59 * MINUTE], [100.0], (grid.LONG, 90.0, 500.0), leverage=25.0)
    made = anchor(source, minutes, 100.0 * np.exp(swing), source_time_ms=minutes, source_mark=np.full(60, 100.0))
    deviation = made.basis_deviation_bps[0] / 1e4
    assert deviation == pytest.approx(0.002, rel=0.1)
    found = masses(made, 0, grid.LONG)
    assert sum(found.values()) == pytest.approx(500.0)
    middle = mean_log_price(made, 0, grid.LONG)
    assert middle == pytest.approx(mean_log_price(source, 0, grid.LONG) + made.basis_bps[0] / 1e4, abs=1e-6)
    variance = sum(usdt * ((bucket + 0.5) * grid.DELTA - middle) ** 2 for bucket, usdt in found.items()) / 500.0
    assert variance == pytest.approx(deviation**2 + grid.DELTA**2 / 6.0, rel=0.02)  # two bucket widths are in it
    shown = made.mass_usdt[0] > 0.0
    np.testing.assert_allclose(made.leverage[0][shown], 25.0, rtol=1e-5)
    assert np.isnan(made.leverage[0][~shown]).all()


def test_what_crosses_asters_mark_is_masked_and_counted():
    source = a_map([30_000], [100.0], (grid.LONG, 99.8, 70.0), (grid.LONG, 90.0, 30.0), (grid.SHORT, 102.0, 5.0))
    # since the last pair of marks Aster's fell by half a percent
    aster = {"aster_time_ms": at([0, 30_000]), "aster_mark": np.array([100.0, 99.5])}
    made = anchor(source, **aster, source_time_ms=at([0]), source_mark=np.array([100.0]))
    assert made.masked_usdt[0] == 70.0
    assert made.mass_usdt[0].sum(axis=1).tolist() == [30.0, 5.0]
    assert list(masses(made, 0, grid.LONG)) == [grid.bucket_of(90.0)]


def test_longs_stay_below_and_shorts_above_asters_mark():
    near = [(side, price, 1.0) for side, price in ((grid.LONG, 99.8), (grid.LONG, 99.0), (grid.SHORT, 100.3))]
    for move in np.linspace(-0.009, 0.009, 37):
        made = anchor(a_map([0], [100.0], *near), at([0]), np.array([100.0 * math.exp(move)]))
        long, short = masses(made, 0, grid.LONG), masses(made, 0, grid.SHORT)
        assert not long or grid.lower_edge(max(long) + 1) <= made.mark[0]
        assert not short or made.mark[0] < grid.lower_edge(min(short))


def test_more_than_a_percent_of_basis_is_no_map():
    source = a_map([0], [100.0], (grid.LONG, 90.0, 1.0))
    for aster_mark, is_stale in ((100.9, False), (101.1, True), (98.9, True)):
        made = anchor(source, at([0]), np.array([aster_mark]))
        assert (made.is_stale[0], made.mass_usdt.sum() == 0.0) == (is_stale, is_stale)


def test_a_mark_older_than_a_minute_is_no_mark():
    source = a_map([0, MINUTE, MINUTE + 1], [100.0] * 3, (grid.LONG, 90.0, 1.0))
    made = anchor(source, at([0]), np.array([100.0]))
    assert made.is_stale.tolist() == [False, False, True]
    assert made.mass_usdt.sum(axis=(1, 2)).tolist() == [1.0, 1.0, 0.0]
    assert np.isnan(made.mark).tolist() == [False, False, True]
    old = anchor(source, at([0, MINUTE]), np.full(2, 100.0), source_time_ms=at([0]), source_mark=np.array([100.0]))
    assert old.is_stale.tolist() == [False, False, True]


def test_no_mark_of_aster_at_all_is_no_map():
    made = anchor(a_map([0], [100.0], (grid.LONG, 90.0, 1.0)), at([]), np.zeros(0))
    assert (made.is_stale[0], made.mass_usdt.sum()) == (True, 0.0)
    assert np.isnan([made.mark[0], made.basis_bps[0]]).all()


def test_a_contract_of_a_thousand_units_is_a_thousand_times_dearer():
    source = a_map([0], [0.01], (grid.SHORT, 0.011, 50.0), symbol="PEPEUSDT")
    made = anchor(source, at([0]), np.array([10.0]), symbol="1000PEPEUSDT")
    assert made.symbol == "1000PEPEUSDT"
    assert made.basis_bps[0] == pytest.approx(0.0, abs=1e-9)
    assert math.exp(mean_log_price(made, 0, grid.SHORT)) == pytest.approx(11.0, rel=1e-3)
    with pytest.raises(ValueError, match="same asset"):
        anchor(source, at([0]), np.array([10.0]), symbol="BTCUSDT")


def test_multiples_are_read_from_the_name():
    assert [units(name) for name in ("1000PEPEUSDT", "kPEPE", "1MBABYDOGEUSDT", "BTCUSDT", "1INCHUSDT")] == [
        1000.0, 1000.0, 1e6, 1.0, 1.0,
    ]  # fmt: skip
    assert asset("1000PEPEUSDT") == asset("PEPEUSDT") == "PEPEUSDT"


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.floats(-0.008, 0.008), min_size=8, max_size=8), st.integers(1, 7), st.floats(0.5, 2.0))
def test_the_past_does_not_change_when_the_future_arrives_and_pieces_give_the_same_bits(moves, cut, factor):
    times = [3 * MINUTE * i for i in range(8)]
    source = a_map(times, [100.0] * 8, (grid.LONG, 90.0, 3.0), (grid.SHORT, 100.4, 2.0), leverage=10.0)
    aster = 100.0 * np.exp(moves)
    whole, state = anchored(source, at(times), aster)

    scrambled = np.concatenate([aster[:cut], aster[cut:] * factor])
    known = anchor(source, at(times), scrambled)
    first, kept = anchored(source.rows(slice(cut)), at(times[:cut]), aster[:cut])
    rest, end = anchored(source.rows(slice(cut, None)), at(times), aster, state=kept)
    for name in (*ARRAYS, "leverage"):
        expected = getattr(whole, name)
        np.testing.assert_array_equal(getattr(first, name), expected[:cut], err_msg=name)
        np.testing.assert_array_equal(getattr(known, name)[:cut], expected[:cut], err_msg=name)
        np.testing.assert_array_equal(getattr(rest, name), expected[cut:], err_msg=name)
    assert end == state
    assert isinstance(state, BasisState)
