"""The mass of a map in rows and columns, and what its colours mean; a map whose numbers can be checked by eye."""

from datetime import UTC, datetime

import numpy as np
import pytest

from research.clusters import raster as mass
from research.clusters.grid import BUCKETS, bucket_of, first_bucket, lower_edge
from research.clusters.profiles import Profiles

START = datetime(2026, 2, 10, tzinfo=UTC)
START_MS = int(START.timestamp() * 1_000)
FIVE_MINUTES_MS = 300_000
DAY = 288  # snapshots


def profiles(n: int = 2 * DAY, mark: float = 1_000.0, *, source: str = "binance", stale: slice = slice(0)) -> Profiles:
    """A mark that stands still; 1, 2, 3, ... thousand USDT in the buckets away from it, 9 M USDT at 980 and 1 030."""
    marks = np.full(n, mark)
    first = first_bucket(marks)
    held = np.zeros((n, 2, BUCKETS), dtype=np.float32)
    away = np.arange(1, BUCKETS // 2, dtype=np.float32) * 1_000.0
    held[:, 0, 1 : BUCKETS // 2] = away[::-1]
    held[:, 1, BUCKETS // 2 + 1 :] = away
    for side, price in ((0, 0.98 * mark), (1, 1.03 * mark)):
        held[:, side, int(bucket_of(price) - first[0])] = 9e6
    is_stale = np.zeros(n, dtype=bool)
    is_stale[stale] = True
    time_ms = START_MS + FIVE_MINUTES_MS * np.arange(n)
    return Profiles(
        symbol="XYZUSDT", source=source, time_ms=time_ms, avail_ms=time_ms, first_bucket=first, mass_usdt=held,
        mark=marks, swept_usdt=np.zeros((n, 2)), open_interest_usdt=np.full(n, 1e8), placed_share=np.full(n, 0.625),
        is_stale=is_stale,
    )  # fmt: skip


SCALE = mass.mass_scale(profiles())


def test_mass_is_summed_over_price_and_the_largest_over_time_is_kept():
    shown = profiles(12)
    shown.mass_usdt[:] = 0.0
    at = int(bucket_of(980.0) - shown.first_bucket[0])
    shown.mass_usdt[2, 0, at], shown.mass_usdt[2, 0, at + 1], shown.mass_usdt[4, 0, at] = 300.0, 500.0, 700.0
    drawn = mass.raster(shown, low_usdt=900.0, rows=1, row_usdt=200.0, column_ms=6 * FIVE_MINUTES_MS)
    assert drawn.values.tolist() == [[800.0, 0.0]]


def test_no_mass_is_lost_or_made_between_buckets_and_rows():
    shown = profiles(1)
    low, high = mass.window(shown)
    drawn = mass.raster(shown, low_usdt=np.floor(low), rows=int(high - low) + 2, row_usdt=1.0, column_ms=60_000)
    assert drawn.values.sum() == pytest.approx(shown.mass_usdt.sum(), rel=1e-6)


def test_a_bucket_that_two_rows_share_is_divided_by_price():
    shown = profiles(1)
    shown.mass_usdt[:] = 0.0
    at = int(bucket_of(980.0))
    shown.mass_usdt[0, 0, at - int(shown.first_bucket[0])] = 1_000.0
    edges = lower_edge(np.array([at, at + 1]))
    row = float(edges[1] - edges[0])
    drawn = mass.raster(shown, low_usdt=float(edges[0]) - 0.25 * row, rows=2, row_usdt=row, column_ms=60_000)
    assert drawn.values[:, 0].tolist() == pytest.approx([750.0, 250.0], rel=1e-4)


def test_a_stale_snapshot_is_missing_and_not_zero():
    drawn = mass.raster(profiles(24, stale=slice(6, 12)), low_usdt=900.0, rows=2, row_usdt=100.0,
                        column_ms=6 * FIVE_MINUTES_MS)  # fmt: skip
    assert drawn.seen.tolist() == [True, False, True, True]
    assert np.isnan(drawn.values[:, 1]).all()


def test_thirty_days_are_half_hour_columns():
    assert mass.column_width_ms(profiles(30 * DAY)) == 1_800_000


@pytest.mark.parametrize(("value", "rounded"), [(0.0008, 0.001), (94.0, 100.0), (140.0, 100.0), (150.0, 200.0)])
def test_steps_are_the_nearest_of_one_two_and_five(value, rounded):
    assert mass.round_125(value) == rounded


def test_classes_are_six_rising_round_numbers():
    assert SCALE.row_usdt == 1.0
    assert list(SCALE.edges_usdt) == sorted(set(SCALE.edges_usdt))
    assert [f"{edge:e}"[0] in "125" for edge in SCALE.edges_usdt] == [True] * 6


def test_a_larger_row_keeps_what_a_colour_means():
    doubled = mass.coarser(SCALE)
    assert doubled.row_usdt == 2.0
    assert doubled.edges_usdt == tuple(2.0 * edge for edge in SCALE.edges_usdt)


def test_classes_of_nothing_are_refused():
    with pytest.raises(ValueError, match="expected a fresh snapshot with mass, got none of 5"):
        mass.mass_scale(profiles(5, stale=slice(0, 5)))


def test_counts_take_two_bytes_unless_rounding_would_move_a_colour():
    assert mass.as_counts(np.array([[9e6, np.nan]]), 1e3)[0].dtype == np.uint16
    numbers, unit = mass.as_counts(np.array([[9e6, 500.0]]), 200.0)
    assert (numbers.dtype, numbers.tolist(), unit) == (np.float32, [[9_000.0, 0.5]], 1_000.0)


def test_what_is_usual_at_its_distance_has_a_z_score_of_zero():
    before = profiles(4)
    before.mass_usdt[:2] *= 2.0
    scale = mass.mass_scale(before)
    z = mass.z_scores(before, scale)
    assert z[0, 10] == pytest.approx(1.0)
    assert z[3, 10] == pytest.approx(-1.0)
