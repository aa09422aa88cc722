"""What a move would liquidate, and whether open interest says anything of the volatility to come."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from data.schema_clusters import OI_STATE
from data.table import conform
from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT
from research.clusters.risk import leverage_risk, volatility_after
from research.tests.cluster_worlds import clock, profiles_of


@pytest.fixture
def two_hills():
    """A hundred USDT of longs half a per cent below the mark and fifty three below it; ten of shorts above."""
    mass = np.zeros((1, 2, BUCKETS))
    mass[0, LONG, HALF_WINDOW - 5] = 100.0
    mass[0, LONG, HALF_WINDOW - 30] = 50.0
    mass[0, SHORT, HALF_WINDOW + 15] = 10.0
    return profiles_of(mass)


def test_what_a_move_reaches_is_at_risk(two_hills):
    found = leverage_risk(two_hills)
    assert found.select("side", "move_bps", "at_risk_usdt").rows() == [
        ("long", 100, 100.0), ("long", 200, 100.0), ("long", 500, 150.0),
        ("short", 100, 0.0), ("short", 200, 10.0), ("short", 500, 10.0),
    ]  # fmt: skip
    assert found["share"].to_list() == pytest.approx([100 / 1_200, 100 / 1_200, 0.125, 0.0, 10 / 1_200, 10 / 1_200])
    assert found["leverage"].is_nan().all()  # this map knows none


def test_a_stale_map_tells_of_no_risk(two_hills):
    blind = profiles_of(two_hills.mass_usdt, is_stale=np.array([True]))
    assert leverage_risk(blind).is_empty() and leverage_risk(blind.rows(slice(0, 0))).is_empty()


def hours(change: np.ndarray, volatility: np.ndarray) -> pl.DataFrame:
    """Snapshots every five minutes: per hour so much change of open interest, and returns of such a size."""
    returns = np.repeat(volatility, 12) * np.tile([1.0, -1.0], 6 * len(volatility))
    base = 1e6 * np.exp(np.repeat(np.cumsum(change), 12))
    rows = {
        "ts": [clock(5 * (i + 1)) for i in range(len(returns))],
        "mark_price": 100.0 * np.exp(np.cumsum(returns)),
        "oi_base": base,
        "is_stale": np.zeros(len(returns), np.bool_),
    }
    return conform(pl.DataFrame(rows), OI_STATE)


def test_volatility_that_follows_changes_is_found_and_volatility_that_follows_itself_is_told_apart():
    rng = np.random.default_rng(1)
    change = rng.gamma(1.0, 0.01, 24 * 30)
    follows = np.concatenate([[1e-3], 1e-3 + change[:-1] / 10])
    found = volatility_after(hours(change, follows))
    assert found["metric"].to_list() == ["change", "change beyond volatility"]
    assert (found["value"] > 0.99).all() and (found["low"] > 0.9).all()
    assert found["n_days"].to_list() == [30, 30]
    busy = np.exp(np.cumsum(rng.normal(0.0, 0.2, 24 * 30)))
    own = volatility_after(hours(busy * rng.gamma(9.0, 1e-4, 24 * 30), busy * 1e-4))
    assert own["value"][0] > 0.8 and abs(own["value"][1]) < 0.2


def test_hours_with_a_hole_are_left_out_and_nothing_is_made_of_nothing():
    rng = np.random.default_rng(2)
    whole = hours(rng.gamma(1.0, 0.01, 48), rng.gamma(1.0, 1e-3, 48))
    holed = whole.filter(pl.col("ts") != clock(24 * 60 + 5))
    assert volatility_after(whole)["n"][0] == 46
    assert volatility_after(holed)["n"][0] == 44
    nothing = volatility_after(whole.head(0))
    assert nothing["n"].to_list() == [0, 0] and nothing["value"].is_nan().all()
    assert timedelta(hours=47) < whole["ts"][-1] - whole["ts"][0]
