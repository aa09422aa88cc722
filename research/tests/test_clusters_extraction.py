import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters.extraction import SMALLEST_RISE, WINDOW, find
from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, centre, highest_long_bucket, lowest_short_bucket
from research.clusters.profiles import Profiles

MARK_BUCKET = 4_605
MARK = float(centre(MARK_BUCKET))  # 100.0


def profiles_of(mass, leverage=None, mark=MARK, is_stale=False):
    """Snapshots a minute apart around one mark; mass of shape (n_snapshots, 2, BUCKETS)."""
    n_snapshots = len(mass)
    time_ms = 60_000 * np.arange(n_snapshots)
    return Profiles(
        symbol="BTCUSDT",
        source="aster",
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        first_bucket=np.full(n_snapshots, MARK_BUCKET - HALF_WINDOW),
        mass_usdt=np.asarray(mass, np.float32),
        mark=np.full(n_snapshots, mark),
        swept_usdt=np.zeros((n_snapshots, 2)),
        open_interest_usdt=np.full(n_snapshots, 1e6),
        placed_share=np.ones(n_snapshots),
        is_stale=np.full(n_snapshots, is_stale),
        leverage=leverage,
    )


def one_side(values, side=LONG):
    """One snapshot whose side holds ``values``, walking outward from the mark."""
    mass = np.zeros((1, 2, BUCKETS))
    steps = 1 + np.arange(len(values))
    mass[0, side, HALF_WINDOW + (2 * side - 1) * steps] = values
    return profiles_of(mass)


def clusters_of(found, side=LONG, snapshot=0):
    """(peak, near, far) in buckets from the mark, and the mass, heaviest first."""
    rows = []
    for rank in range(found.n[snapshot, side]):
        peak, lo, hi = (int(part[snapshot, side, rank]) for part in (found.peak, found.lo, found.hi))
        near, far = (hi, lo) if side == LONG else (lo, hi)
        distances = tuple(abs(bucket - MARK_BUCKET) for bucket in (peak, near, far))
        rows.append((*distances, float(found.mass_usdt[snapshot, side, rank])))
    return rows


def slow_clusters(values, top):
    """The definition, word by word."""
    raw = [float(value) for value in values]
    padded = [0.0, *raw, *[0.0] * (HALF_WINDOW - len(raw)), 0.0]
    height = [0.25 * padded[i] + 0.5 * padded[i + 1] + 0.25 * padded[i + 2] for i in range(len(padded) - 2)]

    def is_higher(one, other):
        return (height[one], -one) > (height[other], -other)

    def lowest(peak, outward):
        way = [height[peak]]
        for step in range(peak + outward, peak + (WINDOW + 1) * outward, outward):
            if not 0 <= step < len(height):
                return 0.0
            if is_higher(step, peak):
                break
            way.append(height[step])
        return min(way)

    hills = []
    for peak in range(len(height)):
        base = max(lowest(peak, -1), lowest(peak, 1))
        if height[peak] - base > SMALLEST_RISE * height[peak]:
            level = (height[peak] + base) / 2
            near = far = peak
            while near > 0 and peak - near < WINDOW and height[near - 1] >= level:
                near -= 1
            while far < len(height) - 1 and far - peak < WINDOW and height[far + 1] >= level:
                far += 1
            hills.append([peak, near, far])
    kept = []
    for peak, near, far in sorted(hills, key=lambda hill: (-height[hill[0]], hill[0])):  # the highest takes first
        if all(not first <= peak <= last for _, first, last in kept):
            taken = {bucket for _, first, last in kept for bucket in range(first, last + 1)}
            own = [bucket for bucket in range(near, far + 1) if bucket not in taken]
            kept.append([peak, own[0], own[-1]])
    padded_raw = padded[1:-1]
    rows = [(peak + 1, near + 1, far + 1, sum(padded_raw[near : far + 1])) for peak, near, far in kept]
    return sorted(rows, key=lambda row: (-row[3], row[0]))[:top]


def test_a_hill_is_its_peak_and_what_stands_above_half_of_its_prominence():
    found = find(one_side([0, 0, 10, 20, 40, 20, 10, 0]))
    # smoothed: 0, 2.5, 10, 22.5, 30, 22.5, 10, 2.5: half of 30 is 15
    assert clusters_of(found) == [(5, 4, 6, 80.0)]


def test_mass_in_one_bucket_peaks_there():
    assert clusters_of(find(one_side([0, 0, 0, 8]))) == [(4, 3, 5, 8.0)]


def test_a_saddle_separates_two_hills():
    found = find(one_side([0, 40, 0, 0, 0, 20, 0]))
    assert clusters_of(found) == [(2, 1, 3, 40.0), (6, 5, 7, 20.0)]


def test_a_bump_on_the_top_of_a_hill_is_part_of_it():
    found = find(one_side([0, 40, 40, 40, 30, 40, 40, 40, 0]))
    assert clusters_of(found) == [(3, 2, 8, 270.0)]


def test_of_two_equal_clusters_the_one_nearer_to_the_mark_comes_first():
    found = find(one_side([0, 0, 8, 0, 0, 0, 0, 8, 0]))
    assert [row[0] for row in clusters_of(found)] == [3, 8]


def test_only_the_heaviest_are_kept():
    found = find(one_side([0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 0]), top=2)
    assert [(row[0], row[3]) for row in clusters_of(found)] == [(6, 3.0), (10, 2.0)]
    assert np.isnan(find(one_side([0, 1, 0]), top=2).mass_usdt[0, LONG, 1])


def test_a_bump_on_a_long_slope_is_a_cluster_of_its_own_width():
    slope = np.linspace(100.0, 200.0, 200)  # rises outward: no hill but for the bump, and one at the far end
    slope[60:63] += 40.0
    found = clusters_of(find(one_side(slope)))
    assert [row[:3] for row in found if row[0] < 150] == [(62, 61, 63)]


def test_an_even_map_holds_no_cluster():
    assert clusters_of(find(one_side(np.full(240, 50.0)))) == []


def test_both_sides_are_found_alike():
    values = [3, 9, 4, 0, 2, 7, 7, 1]
    assert clusters_of(find(one_side(values, LONG)), LONG) == clusters_of(find(one_side(values, SHORT)), SHORT)


def test_long_clusters_end_below_the_mark_and_short_ones_above_it():
    mass = np.zeros((1, 2, BUCKETS))
    mass[0, :, HALF_WINDOW - 3 : HALF_WINDOW + 4] = 1.0  # across the mark, which the map never is
    found = find(profiles_of(mass))
    assert found.hi[0, LONG, 0] == highest_long_bucket(MARK)
    assert found.lo[0, SHORT, 0] == lowest_short_bucket(MARK)


def test_leverage_is_the_mean_by_mass():
    mass, leverage = np.zeros((1, 2, BUCKETS)), np.full((1, 2, BUCKETS), np.nan, np.float32)
    mass[0, LONG, 99:102] = [10, 30, 10]
    leverage[0, LONG, 99:102] = [10, 20, 60]
    found = find(profiles_of(mass, leverage))
    assert found.leverage[0, LONG, 0] == (10 * 10 + 30 * 20 + 10 * 60) / 50
    assert np.isnan(find(profiles_of(mass)).leverage[0, LONG, 0])


def test_without_a_mark_or_without_mass_nothing_is_found():
    assert find(profiles_of(np.ones((1, 2, BUCKETS)), mark=np.nan)).n.tolist() == [[0, 0]]
    assert find(profiles_of(np.zeros((1, 2, BUCKETS)))).n.tolist() == [[0, 0]]


def test_at_least_one_cluster_must_be_asked_for():
    with pytest.raises(ValueError, match="top: expected at least one cluster per side, got 0"):
        find(one_side([1.0]), top=0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.integers(0, 12) | st.sampled_from([100, 1_000]), min_size=1, max_size=60),
    side=st.sampled_from([LONG, SHORT]),
    top=st.integers(1, 8),
)
def test_the_kernel_finds_what_the_definition_says(values, side, top):
    assert clusters_of(find(one_side(values, side), top), side) == slow_clusters(values, top)


def test_clusters_of_a_side_never_overlap_on_rough_profiles():
    mass = np.random.default_rng(5).gamma(0.4, 1e5, (20, 2, BUCKETS))
    found = find(profiles_of(mass), top=200)
    for snapshot in range(20):
        for side in (LONG, SHORT):
            n = found.n[snapshot, side]
            order = np.argsort(found.lo[snapshot, side, :n])
            lo, hi = found.lo[snapshot, side, order], found.hi[snapshot, side, order]
            assert (hi[:-1] < lo[1:]).all()


def test_a_snapshot_is_found_the_same_alone_and_among_others():
    mass = np.random.default_rng(6).gamma(0.4, 1e5, (6, 2, BUCKETS))
    together = find(profiles_of(mass))
    for snapshot in range(6):
        alone = find(profiles_of(mass[snapshot : snapshot + 1]))
        assert np.array_equal(alone.peak[0], together.peak[snapshot])
        assert np.array_equal(alone.mass_usdt[0], together.mass_usdt[snapshot], equal_nan=True)
