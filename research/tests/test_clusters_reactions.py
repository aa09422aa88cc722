"""Reactions: returns count from when the event was known, along the approach, against touches that look alike."""

import numpy as np
import polars as pl
import pytest

from data.table import TIME_MS
from research.clusters.validation.reactions import SAMPLES, reaction_samples, reactions
from research.clusters.validation.worlds import WorldSpec, simulate

BOUNCE_BPS = 30.0


@pytest.fixture(scope="module")
def world():
    return simulate(0, WorldSpec(days=30, symbols=2, walls_per_day=8.0))


def bounced(world) -> pl.DataFrame:
    """Marks in which the price turns back by 30 bps in the five minutes after every touch, and goes on from there."""
    parts = []
    for marks in world.marks.partition_by("symbol"):
        touches = world.touches.filter(pl.col("symbol") == marks["symbol"][0])
        row = marks["ts"].search_sorted(touches["ts"]).to_numpy()
        back = np.zeros(marks.height + 6)
        sign = np.where(touches["side"].to_numpy() == "long", 1.0, -1.0)
        for later in range(1, 6):
            np.add.at(back, row + later, sign * BOUNCE_BPS / 5.0 / 1e4)
        lifted = pl.Series(np.exp(np.cumsum(back[: marks.height])))
        parts.append(marks.with_columns(pl.col("mark_high", "mark_low", "mark_close") * lifted))
    return pl.concat(parts)


def test_touches_of_walls_that_mean_nothing_react_as_any_touch(world):
    samples = reaction_samples(world.touches, world.marks)
    assert samples.schema == SAMPLES
    table = reactions(samples).filter(pl.col("band") == "all")
    assert table["metric"].unique().to_list() == ["reaction_touched"]
    assert table["horizon_s"].to_list() == [300, 900, 3_600]
    assert (table["n"] > 100).all()
    assert table["n_symbols"].to_list() == [2, 2, 2]
    assert ((table["low"] < 0.0) & (table["high"] > 0.0)).all()


def test_a_bounce_that_was_planted_is_found_and_counts_as_turning_back(world):
    table = reactions(reaction_samples(world.touches, bounced(world)))
    five_minutes = table.filter(pl.col("horizon_s") == 300)
    assert five_minutes["band"].to_list() == ["all", "long", "short"]
    assert five_minutes.filter(pl.col("band") == "all")["value"][0] == pytest.approx(-BOUNCE_BPS, abs=10.0)
    assert (five_minutes["high"] < 0.0).all()


def test_the_return_starts_when_the_event_was_known_and_points_along_the_approach(world):
    marks = world.marks.filter(pl.col("symbol") == "W0USDT")
    touches = world.touches.filter(pl.col("symbol") == "W0USDT")
    late = touches.with_columns(pl.col("avail_time") + pl.duration(seconds=61))
    samples = reaction_samples(late, marks, horizons_s=[300])
    close = dict(zip(marks["ts"], marks["mark_close"], strict=True))
    row = samples.row(3, named=True)
    known = row["avail_time"].replace(second=0)  # the last bar that had ended
    moved = 1e4 * np.log(close[known.replace() + np.timedelta64(300, "s").item()] / close[known])
    assert row["return_bps"] == pytest.approx(moved if row["side"] == "short" else -moved)
    assert row["excess_bps"] == pytest.approx(row["return_bps"] - row["placebo_bps"])


def test_nothing_after_the_last_horizon_changes_an_events_return(world):
    cut = world.marks["ts"][20 * 1_440]
    early = world.touches.filter(pl.col("ts") + pl.duration(hours=1) <= cut)
    marks = world.marks.with_columns(
        pl.when(pl.col("ts") > cut).then(pl.col(name) * 2.0).otherwise(name).alias(name)
        for name in ("mark_high", "mark_low", "mark_close")
    )
    key = ["symbol", "avail_time", "event", "side", "horizon_s", "return_bps"]
    whole, other = reaction_samples(early, world.marks).select(key), reaction_samples(early, marks).select(key)
    assert (
        whole.join(other, on=key[:-1], suffix="_other")
        .filter(pl.col("return_bps") != pl.col("return_bps_other"))
        .is_empty()
    )


def test_other_events_and_events_without_a_past_or_a_future_are_left_out(world):
    marks = world.marks.filter(pl.col("symbol") == "W0USDT")
    first, last = marks["ts"][10], marks["ts"][-2]
    events = pl.DataFrame(
        {"symbol": ["W0USDT"] * 3, "ts": [first, last, marks["ts"][20_000]], "side": ["long"] * 3,
         "event": ["TOUCHED", "TOUCHED", "FADED"]},
        schema_overrides={"ts": TIME_MS},
    ).with_columns(avail_time=pl.col("ts"))  # fmt: skip
    assert reaction_samples(events, marks).is_empty()
    assert reactions(reaction_samples(events, marks)).is_empty()


def test_open_interest_that_nobody_knows_matches_nothing_and_its_absence_is_no_obstacle(world):
    marks = world.marks.filter(pl.col("symbol") == "W0USDT")
    touches = world.touches.filter(pl.col("symbol") == "W0USDT")
    assert reaction_samples(touches, marks.drop("open_interest")).height > 0
    assert reaction_samples(touches, marks.with_columns(open_interest=pl.lit(float("nan")))).is_empty()
