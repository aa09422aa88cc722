"""Markets whose truth is known: the same seed, the same market; walls stand until they are reached."""

import numpy as np
import polars as pl
import pytest

from research.clusters.validation.worlds import MINUTES_PER_DAY, WorldSpec, simulate

SHORT_SPEC = WorldSpec(days=6)


def test_the_same_seed_gives_the_same_market():
    one, same, other = simulate(3, SHORT_SPEC), simulate(3, SHORT_SPEC), simulate(4, SHORT_SPEC)
    assert one.marks.equals(same.marks)
    assert one.walls.equals(same.walls)
    assert one.touches.equals(same.touches)
    assert not one.marks.equals(other.marks)


def test_every_minute_is_there_and_its_range_holds_its_close():
    marks = simulate(0, SHORT_SPEC).marks
    assert marks.height == 6 * MINUTES_PER_DAY
    assert marks["ts"].diff().drop_nulls().unique().dt.total_seconds().to_list() == [60]
    assert (marks["mark_high"] >= marks["mark_close"]).all()
    assert (marks["mark_low"] <= marks["mark_close"]).all()


def test_a_wall_keeps_its_price_and_stands_on_its_side_of_the_mark():
    walls = simulate(0, SHORT_SPEC).walls
    assert walls.group_by("cluster_id").agg(pl.col("price_level", "side").n_unique())["price_level"].max() == 1
    assert (
        walls.filter(pl.col("side") == "long")["price_level"] < walls.filter(pl.col("side") == "long")["mark"]
    ).all()
    assert (
        walls.filter(pl.col("side") == "short")["price_level"] > walls.filter(pl.col("side") == "short")["mark"]
    ).all()


def test_a_touched_wall_was_reached_in_that_minute_and_is_seen_no_more():
    world = simulate(1, SHORT_SPEC)
    touched = world.touches.join(world.marks, on=["symbol", "ts"])
    assert touched.height == world.touches.height > 5
    assert ((touched["mark_low"] <= touched["price_level"]) & (touched["price_level"] <= touched["mark_high"])).all()
    after = world.walls.join(world.touches.select("cluster_id", "ts"), on="cluster_id")
    assert (after["avail_time"] < after["ts"]).all()


def test_planted_magnets_add_touches_and_move_no_close():
    plain, pulled = simulate(2), simulate(2, WorldSpec(pulled_share=1.0))
    assert pulled.marks["mark_close"].equals(plain.marks["mark_close"])
    assert pulled.touches.height > plain.touches.height
    longer = (pulled.marks["mark_high"] > plain.marks["mark_high"]) | (
        pulled.marks["mark_low"] < plain.marks["mark_low"]
    )
    assert 0 < longer.sum() <= pulled.touches.height


def test_volatility_clusters_over_hours_and_symbols_move_together():
    marks = simulate(5, WorldSpec(days=20, symbols=2)).marks
    moves = [
        np.diff(np.log(part["mark_close"].to_numpy()))[: 19 * MINUTES_PER_DAY].reshape(-1, 60)
        for part in marks.partition_by("symbol")
    ]
    hourly = np.log(moves[0].std(axis=1))
    assert np.corrcoef(hourly[1:], hourly[:-1])[0, 1] > 0.7
    assert 0.5 < np.corrcoef(moves[0].sum(axis=1), moves[1].sum(axis=1))[0, 1] < 0.7


def test_a_share_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="fraction from 0 to 1, got 30"):
        WorldSpec(pulled_share=30)
