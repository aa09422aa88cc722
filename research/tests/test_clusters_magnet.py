"""The magnet test: worked cases, no look into the future, and honest in markets whose truth is known."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.table import TIME_MS
from research.clusters.validation import magnet
from research.clusters.validation.magnet import magnet_results, magnet_samples, magnet_test
from research.clusters.validation.verdicts import verdicts
from research.clusters.validation.worlds import WorldSpec, simulate

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def times(ms) -> pl.Series:
    return pl.Series(np.asarray(ms, np.int64)).cast(TIME_MS)


def minutes(high, low, close, start_ms: int = 0) -> pl.DataFrame:
    """Bars of a minute; the first one ends a minute after the start."""
    high = np.asarray(high, float)
    return pl.DataFrame(
        {
            "symbol": ["X"] * high.size,
            "ts": times(start_ms + 60_000 * np.arange(1, high.size + 1)),
            "mark_high": high,
            "mark_low": np.asarray(low, float),
            "mark_close": np.asarray(close, float),
        }
    )


def wall(level: float, side: str, at_ms: int = 60_000) -> pl.DataFrame:
    return pl.DataFrame({"symbol": ["X"], "avail_time": times([at_ms]), "side": [side], "price_level": [level]})


def test_the_step_is_one_just_beyond_the_wall_minus_one_just_short_of_it_and_zero_elsewhere():
    # d = 0.02, so the band is 0.002
    assert [magnet._step(0.02, extreme) for extreme in (0.0179, 0.0181, 0.0199, 0.02, 0.0219, 0.0221, -0.01)] == [
        0.0, -1.0, -1.0, 1.0, 1.0, 0.0, 0.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("highest", "step", "touched"),
    [(101.99, -1.0, False), (102.01, 1.0, True), (102.5, 0.0, True), (101.0, 0.0, False)],
)
def test_a_wall_two_per_cent_above_is_just_missed_just_reached_or_passed(highest, step, touched):
    high = [100.0, 100.0, highest, 100.0]
    samples = magnet_samples(wall(102.0, "short"), minutes(high, [99.9] * 4, [100.0] * 4), horizon_s=180)
    assert samples["step"].to_list() == [step]
    assert samples["is_touched"].to_list() == [touched]
    assert samples["extreme"][0] == pytest.approx(np.log(highest / 100.0))


def test_a_wall_below_is_reached_by_the_lows():
    low = [100.0, 99.5, 97.99, 99.0]
    samples = magnet_samples(wall(98.0, "long"), minutes([100.0] * 4, low, [100.0] * 4), horizon_s=180)
    assert samples["step"].to_list() == [1.0]
    assert samples["extreme"][0] == pytest.approx(np.log(100.0 / 97.99))


def test_the_bar_of_the_snapshot_and_the_bars_beyond_the_horizon_do_not_count():
    high = [150.0, 100.5, 100.5, 150.0]  # before the snapshot, two inside, one after
    samples = magnet_samples(wall(102.0, "short"), minutes(high, [99.0] * 4, [100.0] * 4), horizon_s=120)
    assert samples["extreme"][0] == pytest.approx(np.log(1.005))


def test_a_snapshot_between_two_bars_begins_with_the_next_whole_bar():
    high = [100.0, 150.0, 100.5, 100.2, 100.2]  # the second bar began before the snapshot
    samples = magnet_samples(wall(102.0, "short", 61_000), minutes(high, [99.0] * 5, [100.0] * 5), horizon_s=180)
    assert samples["extreme"][0] == pytest.approx(np.log(1.005))


def test_a_sample_whose_horizon_was_not_seen_whole_is_left_out():
    seen = minutes([100.0] * 5, [99.0] * 5, [100.0] * 5)
    assert magnet_samples(wall(102.0, "short"), seen, horizon_s=240).height == 1
    assert magnet_samples(wall(102.0, "short"), seen, horizon_s=300).height == 0
    assert magnet_samples(wall(102.0, "short"), seen.filter(pl.int_range(pl.len()) != 2), horizon_s=240).height == 0
    unseen = seen.with_columns(
        pl.when(pl.int_range(pl.len()) == 2).then(np.nan).otherwise("mark_high").alias("mark_high")
    )
    assert magnet_samples(wall(102.0, "short"), unseen, horizon_s=240).height == 0


def test_a_wall_on_the_wrong_side_or_on_top_of_the_mark_is_no_sample():
    seen = minutes([100.0] * 3, [99.0] * 3, [100.0] * 3)
    assert magnet_samples(wall(98.0, "short"), seen, horizon_s=60).height == 0
    assert magnet_samples(wall(100.1, "short"), seen, horizon_s=60).height == 0


def test_rows_of_two_maps_are_refused():
    both = pl.concat([wall(102.0, "short").with_columns(map_id=pl.lit(name)) for name in "ab"])
    with pytest.raises(ValueError, match="one map per symbol, got 2 maps; filter by map_id first"):
        magnet_samples(both, minutes([100.0], [100.0], [100.0]))


def test_a_side_in_the_venues_words_is_refused():
    with pytest.raises(ValueError, match=r'expected "long" or "short", got \[\'SELL\'\]'):
        magnet_samples(wall(98.0, "SELL"), minutes([1.0], [1.0], [1.0]))


def test_the_excess_is_the_step_less_the_mean_of_eight_placebos():
    # The price goes exactly to the wall: the wall scores 1; placebos stand 14 % or more away, those nearer than the
    # extreme were passed by more than their band, those farther were missed by more than theirs.
    high = [100.0, 100.0 * np.exp(0.02001), 100.0]
    samples = magnet_samples(wall(100.0 * np.exp(0.02), "short"), minutes(high, [99.0] * 3, [100.0] * 3), horizon_s=120)
    assert samples["step"].to_list() == [1.0]
    assert samples["placebo_step"].to_list() == [0.0]
    assert samples["excess"].to_list() == [1.0]


def test_placebos_of_a_sample_stand_between_fifteen_and_forty_hundredths_away_on_both_sides():
    # A placebo at p scores 1 for extremes in [p, 1.1 p): the nearest at .02 exp(.15) = .0232 and .02 exp(-.15) = .0172,
    # the farthest at .02 exp(.4) = .0298 and .02 exp(-.4) = .0134; -1 for extremes in [.9 p, p).
    distance, key = np.full(4_000, 0.02), np.arange(4_000)
    scored = {}
    for extreme in (0.0119, 0.0125, 0.0165, 0.0175, 0.0195, 0.0205, 0.0235, 0.03, 0.033):
        _, placebo = magnet._steps(distance, np.full(4_000, extreme), key, key, 0)
        scored[extreme] = bool(placebo.min() < 0), bool(placebo.max() > 0)
    assert scored == {
        0.0119: (False, False), 0.0125: (True, False), 0.0165: (True, True), 0.0175: (False, True),
        0.0195: (False, False), 0.0205: (False, False), 0.0235: (True, True), 0.03: (False, True),
        0.033: (False, False),
    }  # fmt: skip


def test_the_day_is_the_observation():
    samples = pl.DataFrame(
        {
            "symbol": ["X", "X", "X", "Y"],
            "avail_time": times([0, HOUR_MS, DAY_MS, 2 * DAY_MS]),
            "step": [1.0, 0.0, 1.0, 0.0],
            "excess": [1.0, 1.0, 3.0, 1.0],
        }
    )
    test = magnet_test(samples)  # sums per day: 2, 3, 1; on the third no wall was reached or missed
    assert (test.value, test.n, test.n_blocks, test.n_days, test.n_symbols) == (1.5, 4, 3, 2, 1)
    assert test.t == pytest.approx(6.0 / np.sqrt(3.0))
    assert test.high - test.value == pytest.approx(4.303 * np.sqrt(3.0) / 4.0, rel=1e-3)
    assert magnet_test(samples, "symbol_day").n_blocks == 3
    assert magnet_test(samples, "none").n_blocks == 4


def test_one_day_or_no_day_gives_no_interval():
    samples = pl.DataFrame({"symbol": ["X"], "avail_time": times([0]), "step": [1.0], "excess": [1.0]})
    for frame in (samples, samples.clear()):
        test = magnet_test(frame)
        assert np.isnan([test.low, test.high, test.t, test.p_value]).all()


def test_results_are_told_for_everything_then_by_side_and_by_symbol():
    world = simulate(0, WorldSpec(days=3, symbols=2))
    samples = magnet_samples(world.walls, world.marks)
    results = magnet_results(samples, horizon_s=14_400)
    assert results["band"].to_list() == ["all", "long", "short", "W0USDT", "W1USDT"]
    assert results["n"][0] == results["n"][1] + results["n"][2] == results["n"][3] + results["n"][4] == samples.height
    assert results["value"][0] == pytest.approx(samples["excess"].mean())
    assert verdicts(results)["verdict"].unique().to_list() == ["too little data"]


def test_students_t_is_that_of_the_tables():
    for degrees, quantile in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)):
        assert magnet.t_quantile(degrees) == pytest.approx(quantile, abs=6e-4)
        assert magnet.t_p_value(quantile, degrees) == pytest.approx(0.05, abs=1e-4)


def test_nothing_after_the_horizon_changes_a_sample():
    world = simulate(0, WorldSpec(days=4))
    whole = magnet_samples(world.walls, world.marks)
    cut = world.marks["ts"][3 * 1_440]
    random = np.random.default_rng(0)
    later = pl.col("ts") > cut
    other = world.marks.with_columns(
        pl.when(later)
        .then(pl.col(name) * pl.Series(random.uniform(0.5, 2.0, world.marks.height)))
        .otherwise(name)
        .alias(name)
        for name in ("mark_high", "mark_low", "mark_close")
    )
    before = pl.col("avail_time") + pl.duration(seconds=14_400) <= cut
    kept = whole.filter(before).drop("base_rate")
    assert kept.height > 100
    scrambled = magnet_samples(world.walls, other).filter(before).drop("base_rate")
    shortened = magnet_samples(world.walls.filter(before), world.marks.filter(~later)).drop("base_rate")
    assert kept.equals(scrambled)
    assert kept.equals(shortened)


def test_the_order_and_company_of_walls_change_no_sample():
    world = simulate(0, WorldSpec(days=3, symbols=2))
    whole = magnet_samples(world.walls, world.marks)
    reversed_ = magnet_samples(world.walls.reverse(), world.marks)
    order = ["symbol", "avail_time", "distance"]
    assert whole.sort(order).equals(reversed_.sort(order))


@given(
    values=st.lists(st.one_of(st.floats(-5.0, 5.0), st.just(np.nan)), min_size=1, max_size=30),
    starts=st.lists(st.integers(-3, 33), min_size=1, max_size=12),
    width=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_future_extremes_are_those_of_a_look_at_every_bar(values, starts, width):
    high, end_ms = np.exp(values), 60_000 * np.arange(1, len(values) + 1)
    snapshot_ms = 20_000 * np.sort(np.array(starts))
    mark, extremes = magnet.future_extremes(end_ms, high, high, high, snapshot_ms, 60_000 * width, 60_000)
    for i, at in enumerate(snapshot_ms):
        inside = (end_ms - 60_000 >= at) & (end_ms <= at + 60_000 * width)
        wanted = [ms for ms in range(60_000, 10_000_000, 60_000) if ms - 60_000 >= at and ms <= at + 60_000 * width]
        seen = high[inside]
        if np.isfinite(mark[i]) and seen.size == len(wanted) > 0 and np.isfinite(seen).all():
            assert extremes[:, i] == pytest.approx([np.log(mark[i] / seen.min()), np.log(seen.max() / mark[i])])
        else:
            assert np.isnan(extremes[:, i]).all()


def test_a_magnet_planted_in_ten_symbols_and_sixty_days_is_found():
    world = simulate(0, WorldSpec(days=60, symbols=10, pulled_share=0.3))
    samples = magnet_samples(world.walls, world.marks)
    assert magnet_test(samples).t > 3.0
    assert magnet_test(samples, "symbol_day").t > 3.0


@pytest.mark.parametrize("change", ["rotated", "random"])
def test_maps_that_know_nothing_fail_in_a_market_with_magnets(change):
    world = simulate(0, WorldSpec(days=60, symbols=10, pulled_share=0.3))
    random = np.random.default_rng(1)
    sign = pl.when(pl.col("side") == "short").then(1.0).otherwise(-1.0)
    distance = sign * (pl.col("price_level") / pl.col("mark")).log()
    if change == "rotated":
        placed = 0.005 + (distance - 0.005 + 0.02) % 0.055
    else:
        placed = pl.Series(random.uniform(0.005, 0.06, world.walls.height))
    walls = world.walls.with_columns(price_level=pl.col("mark") * (sign * placed).exp())
    assert magnet_test(magnet_samples(walls, world.marks)).low <= 0.0
