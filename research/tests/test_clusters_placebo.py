"""Placebo maps keep what they promise and destroy the rest; strategies on random zones do not beat them."""

import numpy as np
import polars as pl
import pytest

from data.table import TIME_MS
from research.clusters.validation.magnet import magnet_samples
from research.clusters.validation.placebo import KINDS, economic_placebo, ground_of, placebo_map
from research.clusters.validation.worlds import WorldSpec, simulate

DAY_MS = 86_400_000
SPEC = WorldSpec(days=8, symbols=2, snapshot_minutes=60)


def hunt(marks: pl.DataFrame, reach: float = 0.01):
    """Go for every wall within reach of the mark; leave there, or after an hour."""
    log_close = pl.col("mark_close").log()
    ends = marks.select(
        "symbol", pl.col("ts").alias("avail_time"), move=(log_close.shift(-60) - log_close).over("symbol")
    )
    toward = pl.when(pl.col("side") == "short").then(1.0).otherwise(-1.0)

    def trades(walls: pl.DataFrame) -> pl.DataFrame:
        samples = magnet_samples(walls, marks, horizon_s=3_600).filter(pl.col("distance") < reach)
        earned = pl.when("is_touched").then("distance").otherwise(toward * pl.col("move"))
        return samples.join(ends, on=["symbol", "avail_time"]).select(
            "symbol", "side", "avail_time", pnl_usdt=100.0 * earned
        )

    return trades


@pytest.fixture(scope="module")
def world():
    return simulate(0, SPEC)


@pytest.fixture(scope="module")
def ground(world):
    return ground_of(world.walls, world.marks)


@pytest.fixture
def two_walls():
    """A mark of 100 for three days, a wall two per cent above from the first day on and one below on the second."""
    ts = pl.Series(np.arange(1, 3 * 1_440 + 1) * 60_000).cast(TIME_MS)
    marks = pl.DataFrame({"symbol": ["X"] * len(ts), "ts": ts, "mark_close": [100.0] * len(ts)})
    at = pl.Series([60_000, DAY_MS + 60_000]).cast(TIME_MS)
    walls = pl.DataFrame(
        {"symbol": ["X", "X"], "avail_time": at, "cluster_id": [0, 1], "side": ["short", "long"],
         "price_level": [102.0, 97.3], "price_lo": [101.0, 97.0], "price_hi": [103.0, 98.0],
         "dist_bps": [200.0, -270.0], "strength": [0.9, 0.1]}
    )  # fmt: skip
    return ground_of(walls, marks)


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_stays_on_its_side_of_the_mark(kind, world, ground):
    placebo = placebo_map(kind, ground, seed=0, number=0)
    assert placebo.schema == ground.clusters.schema
    assert placebo.height > 0.5 * ground.clusters.height
    checked = ground_of(placebo, world.marks)
    assert (checked.toward * (checked.clusters["price_level"].to_numpy() - checked.mark) >= 0.0).all()
    assert not placebo.select("price_level", "strength").equals(ground.clusters.select("price_level", "strength"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_placebo_follows_from_its_seed_and_number(kind, ground):
    one = placebo_map(kind, ground, seed=1, number=7)
    assert one.equals(placebo_map(kind, ground, seed=1, number=7))
    assert not one.equals(placebo_map(kind, ground, seed=1, number=8))


def test_a_rotation_moves_every_level_by_one_offset_around_the_circle(ground):
    turned = ground_of(placebo_map("rotated", ground, seed=0, number=0), ground.marks).distance
    circle = ground.distance.max() - ground.distance.min()
    offset = (turned - ground.distance) % circle
    assert np.ptp(np.minimum(offset, circle - offset)) == pytest.approx(0.0, abs=1e-9)


def test_a_shift_takes_each_snapshot_to_the_same_time_of_another_day(two_walls):
    shifted = placebo_map("shifted", two_walls, seed=0, number=0)
    assert shifted["avail_time"].dt.epoch("ms").to_list() == [60_000, DAY_MS + 60_000]
    assert shifted["cluster_id"].to_list() == [1, 0]
    assert shifted["price_level"].to_list() == pytest.approx([97.3, 102.0])


def test_a_mirror_puts_a_level_as_far_on_the_other_side_with_its_edges(two_walls):
    mirrored = placebo_map("mirrored", two_walls, seed=0, number=0)
    assert mirrored["side"].to_list() == ["long", "short"]
    assert mirrored["price_level"][0] == pytest.approx(100.0 / 1.02)
    assert mirrored["price_lo"][0] == pytest.approx(100.0 / 1.02 * 101.0 / 102.0)
    assert mirrored["dist_bps"][0] == pytest.approx(1e4 * (1.0 / 1.02 - 1.0))


def test_round_numbers_are_round_and_near(two_walls):
    for number in range(20):
        levels = placebo_map("round_numbers", two_walls, seed=0, number=number)["price_level"].to_numpy()
        # Steps lie between a tenth and two hundredths of the price: 97.3 goes to 97 or 97.5, 98 or 96.
        assert levels == pytest.approx(np.round(levels / 0.1) * 0.1)
        assert abs(levels - [102.0, 97.3]).max() <= 1.0


def test_permuted_masses_stay_in_their_band_and_with_one_cluster(ground):
    permuted = placebo_map("permuted", ground, seed=0, number=0)
    assert permuted["price_level"].equals(ground.clusters["price_level"])
    assert permuted.group_by("symbol", "cluster_id").agg(pl.col("strength").n_unique())["strength"].max() == 1
    first = pl.struct(
        "symbol", "side", pl.Series(np.searchsorted((0.005, 0.01, 0.02, 0.03, 0.05), ground.distance))
    ).alias("cell")
    masses = [
        frame.with_columns(first)
        .unique(["symbol", "cluster_id"], keep="first", maintain_order=True)
        .sort("symbol", "cluster_id")["strength"]
        for frame in (ground.clusters, permuted)
    ]
    assert sorted(masses[0]) == sorted(masses[1])
    assert (masses[0] != masses[1]).mean() > 0.5


def test_volume_nodes_know_only_the_days_before(world):
    cut = world.marks["ts"].min().replace(hour=0, minute=0) + np.timedelta64(5, "D").item()
    other = world.marks.with_columns(
        pl.when(pl.col("ts") > cut)
        .then(pl.col("volume_usdt") * 0.0 + 1.0)
        .otherwise("volume_usdt")
        .alias("volume_usdt")
    )
    whole, changed = (
        placebo_map("volume_nodes", ground_of(world.walls, marks), seed=0, number=0).filter(pl.col("avail_time") <= cut)
        for marks in (world.marks, other)
    )
    assert whole.height > 100
    assert whole.equals(changed)


def test_the_rank_counts_the_maps_that_earned_as_much(two_walls):
    earned = iter([5.0, 9.0, 5.0, 1.0, 0.0])  # the real map first

    def strategy(clusters: pl.DataFrame) -> pl.DataFrame:
        trade = clusters.select("symbol", "side", "avail_time").head(1)
        return trade.with_columns(pnl_usdt=pl.lit(next(earned)))

    test = economic_placebo(strategy, two_walls.clusters, two_walls.marks, maps=4, kinds=["rotated"])
    assert test.pnl_usdt == 5.0
    assert test.p_value == pytest.approx((1 + 2) / (1 + 4))
    assert test.maps["pnl_usdt"].to_list() == [9.0, 5.0, 1.0, 0.0]
    assert test.results["band"].to_list() == ["all", "rotated", "X", "X short"]
    assert test.results.row(0, named=True) | {"low": 0, "high": 0} == {
        "metric": "placebo_rank", "band": "all", "horizon_s": 0, "value": 0.6, "low": 0, "high": 0, "n": 1,
        "n_days": 1, "n_symbols": 1,
    }  # fmt: skip


def test_a_strategy_that_never_trades_has_no_rank(two_walls):
    nothing = pl.DataFrame(
        schema={"symbol": pl.String, "side": pl.String, "avail_time": TIME_MS, "pnl_usdt": pl.Float64}
    )
    test = economic_placebo(lambda clusters: nothing, two_walls.clusters, two_walls.marks, maps=2)
    assert test.results["band"].to_list() == ["all", "rotated", "shifted"]
    assert np.isnan(test.p_value)


def test_random_zones_do_not_beat_placebo_maps():
    p_values = []
    for seed in range(6):
        world = simulate(100 + seed, SPEC)
        p_values.append(economic_placebo(hunt(world.marks), world.walls, world.marks, maps=19, seed=seed).p_value)
    assert sum(p <= 0.05 for p in p_values) <= 1
    assert 0.2 < np.mean(p_values) < 0.8


def test_walls_that_pull_the_price_in_beat_placebo_maps():
    world = simulate(0, WorldSpec(days=10, symbols=2, pulled_share=1.0, near_share=0.5))
    kinds = ["rotated", "shifted", "mirrored"]  # the hunt reads no masses: permuted maps are the real one to it
    test = economic_placebo(hunt(world.marks, reach=0.03), world.walls, world.marks, maps=24, kinds=kinds)
    assert test.p_value <= 0.05


def test_an_unknown_kind_is_refused(two_walls):
    with pytest.raises(ValueError, match=r"kinds: \['astrology'\] are not known"):
        economic_placebo(lambda clusters: clusters, two_walls.clusters, two_walls.marks, kinds=["astrology"])


def test_rows_of_two_maps_are_refused(two_walls):
    both = pl.concat([two_walls.clusters.with_columns(source=pl.lit(name)) for name in ("aster", "binance")])
    with pytest.raises(ValueError, match="one map per symbol, got 2 maps; filter by source first"):
        ground_of(both, two_walls.marks)
