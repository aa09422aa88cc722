from dataclasses import replace
from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from data.table import TIME_MS
from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, bucket_of, centre, first_bucket
from research.clusters.outcomes import marks_of, orders_of
from research.clusters.profiles import Profiles
from research.clusters.validation.bootstrap import METRICS
from research.clusters.validation.liquidated_worlds import World, liquidated_world
from research.clusters.validation.location import location, location_samples, windows_of
from research.clusters.validation.mass_effect import mass_effect, reached_buckets
from research.clusters.validation.visits import AGE_CLASSES, age_class

HOUR = 3_600
MINUTE_MS = 60_000


@lru_cache
def world(is_known: bool) -> World:
    return liquidated_world(20, seed=2, is_known=is_known)


def both(here: World, profiles: Profiles, draws: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    located = location_samples(profiles, here.marks, here.force_orders, horizon_s=4 * HOUR)
    reached = reached_buckets(profiles, here.marks, here.force_orders)
    return location(located, horizon_s=4 * HOUR, draws=draws), mass_effect(reached, draws=draws)


@lru_cache
def found(is_known: bool) -> dict[str, dict]:
    here = world(is_known)
    where, effect = both(here, here.profiles, draws=200)
    assert where.schema == METRICS
    return {row["metric"]: row for row in pl.concat([where, effect]).to_dicts()}


def test_a_map_that_knows_says_where_orders_fall_better_than_distance():
    assert found(True)["location_log_gain"]["low"] > 0.0
    assert found(True)["location_ks"]["value"] < 0.15
    assert found(True)["location_quantile"]["value"] == pytest.approx(0.5, abs=0.06)


def test_zones_at_random_say_less_than_distance():
    assert found(False)["location_log_gain"]["high"] < 0.0


def test_more_mass_means_more_orders_only_in_a_map_that_knows():
    assert found(True)["mass_beta"]["low"] > 0.2
    assert found(True)["deviance_gain"]["low"] > 0.1
    assert found(False)["mass_beta"]["low"] < 0.0 < found(False)["mass_beta"]["high"]
    assert found(False)["deviance_gain"]["low"] < 0.0


def test_a_rotated_map_fails_both_gates():
    here = world(True)
    rotated = replace(here.profiles, mass_usdt=np.roll(here.profiles.mass_usdt, 24 * 7, axis=0))
    where, effect = both(here, rotated, draws=100)
    assert where.filter(pl.col("metric") == "location_log_gain")["low"][0] < 0.0
    assert effect.filter(pl.col("metric") == "mass_beta")["low"][0] < 0.0


def test_symbols_are_judged_together_each_at_its_own_level():
    here = world(True)
    reached = reached_buckets(here.profiles, here.marks, here.force_orders)
    # The same market once more, whose map is a thousandth as heavy and half of whose orders nobody saw.
    other = reached.with_columns(
        symbol=pl.lit("OTHER"), log_mass=pl.col("log_mass") - 6.9, orders=pl.col("orders") // 2
    )
    alone, together = (
        mass_effect(rows, draws=50).row(0, named=True) for rows in (reached, pl.concat([reached, other]))
    )
    assert together["value"] == pytest.approx(alone["value"], rel=0.1)
    # Days are the blocks: a second symbol on the same days is not twice as many observations.
    assert (together["n"], together["n_days"]) == (2 * alone["n"], alone["n_days"])
    assert together["high"] - together["low"] > 0.8 * (alone["high"] - alone["low"])


def one_map(*walls) -> Profiles:
    """A map at minute 60; walls are (side, buckets away from the mark's, usdt)."""
    mass = np.zeros((1, 2, BUCKETS), np.float32)
    for side, away, usdt in walls:
        mass[0, side, HALF_WINDOW + away] = usdt
    unknown = np.full(1, np.nan)
    return Profiles(
        symbol="BTCUSDT", source="aster", time_ms=np.array([59 * MINUTE_MS]),
        avail_ms=np.array([59 * MINUTE_MS + 1_000]),
        first_bucket=first_bucket(np.array([100.0])), mass_usdt=mass, mark=np.array([100.0]),
        swept_usdt=np.zeros((1, 2)), open_interest_usdt=unknown, placed_share=unknown, is_stale=np.zeros(1, bool),
    )  # fmt: skip


def fall_to(bucket_steps: int) -> pl.DataFrame:
    """Two hours at 100, with one minute of the second far below."""
    close = np.full(121, 100.0)
    close[80] = centre(int(bucket_of(100.0)) - bucket_steps)
    return pl.DataFrame(
        {
            "ts": pl.Series(MINUTE_MS * np.arange(121)).cast(TIME_MS),
            "mark_high": np.full(121, 100.0),
            "mark_low": close,
            "mark_close": np.full(121, 100.0),
        }
    )


def sold(bucket_steps: int, minute: float = 80.0) -> pl.DataFrame:
    """A first order that opens the record, and one that sold so many buckets below 100."""
    price = [500.0, float(centre(int(bucket_of(100.0)) - bucket_steps))]
    return pl.DataFrame(
        {
            "event_time": pl.Series([0, int(minute * MINUTE_MS)]).cast(TIME_MS),
            "side": ["SELL", "SELL"],
            "average_price": price,
            "filled_quantity": [1.0, 1.0],
        }
    )


def test_a_window_holds_the_map_of_its_start_the_reach_of_its_end_and_the_orders_between():
    windows = windows_of(one_map((LONG, -3, 10.0), (SHORT, 4, 5.0)), marks_of(fall_to(5)), orders_of(sold(3)), HOUR)
    assert windows.start_ms.tolist() == [HOUR * 1_000]
    assert windows.reach.tolist() == [[5, 0]]
    assert (windows.mass[0, LONG, 2], windows.mass[0, SHORT, 3]) == (10.0, 5.0)
    assert windows.prints[0, LONG].nonzero()[0].tolist() == [2]


def test_an_order_halfway_through_the_reached_mass_has_quantile_one_half():
    walls = [(LONG, -2, 10.0), (LONG, -3, 0.001), (LONG, -4, 10.0), (LONG, -9, 99.0)]
    rows = location_samples(one_map(*walls), fall_to(5), sold(3), horizon_s=HOUR)
    assert rows["quantile"].to_list() == [pytest.approx(0.5, abs=1e-3)]


def test_an_order_beyond_the_mark_extends_the_reach():
    windows = windows_of(one_map((LONG, -3, 10.0)), marks_of(fall_to(2)), orders_of(sold(7)), HOUR)
    assert windows.reach[0, LONG] == 7


def test_an_order_where_the_map_shows_nothing_is_counted_as_unplaced():
    rows = location(location_samples(one_map((LONG, -30, 10.0)), fall_to(5), sold(3), horizon_s=HOUR), horizon_s=HOUR)
    by_name = {row["metric"]: row for row in rows.to_dicts()}
    assert by_name["location_unplaced"]["value"] == 1.0
    assert by_name["location_quantile"]["n"] == 0
    assert by_name["location_log_gain"]["value"] == pytest.approx(0.0)


def test_without_orders_every_value_is_unknown():
    seen = one_map((LONG, -3, 1.0)), fall_to(5), sold(3).clear()
    rows = pl.concat(
        [location(location_samples(*seen, horizon_s=HOUR), horizon_s=HOUR), mass_effect(reached_buckets(*seen))]
    )
    assert rows["value"].is_nan().all()
    assert rows["n"].to_list() == [0] * 8


def test_a_stale_or_old_map_has_no_window():
    stale = replace(one_map((LONG, -3, 1.0)), is_stale=np.ones(1, bool))
    assert len(windows_of(stale, marks_of(fall_to(5)), orders_of(sold(3)), HOUR).start_ms) == 0


def test_a_bucket_just_visited_a_bucket_of_hours_ago_and_one_never_seen_wait_differently():
    marks = marks_of(fall_to(5))
    own = int(bucket_of(100.0))
    classes = age_class(marks, np.array([121 * MINUTE_MS]), np.array([[own, own - 5, own - 50]]))
    assert classes.tolist() == [[0, 0, AGE_CLASSES - 1]]
    later = age_class(marks, np.array([400 * MINUTE_MS]), np.array([[own - 5]]))
    assert later.tolist() == [[2]]
    before = age_class(marks, np.array([70 * MINUTE_MS]), np.array([[own - 5]]))
    assert before.tolist() == [[AGE_CLASSES - 1]]
