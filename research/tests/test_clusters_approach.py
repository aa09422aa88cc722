from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from research.clusters.validation.approach import NOTIONAL_USDT, approach

START = datetime(2026, 2, 10, tzinfo=UTC)


def marks(closes: list[float]) -> pl.DataFrame:
    """Minutes without wicks: each runs from the close before to its own."""
    close = np.array(closes)
    before = np.concatenate([close[:1], close[:-1]])
    return pl.DataFrame(
        {
            "symbol": "XYZUSDT", "ts": [START + timedelta(minutes=i) for i in range(len(close))],
            "mark_high": np.maximum(before, close), "mark_low": np.minimum(before, close), "mark_close": close,
        },
        schema_overrides={"ts": pl.Datetime("ms", "UTC")},
    )  # fmt: skip


def clusters(level: float, side: str = "short", snapshots: int = 3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": "XYZUSDT", "cluster_id": 7, "side": side, "price_level": level, "active": True,
            "avail_time": [START + timedelta(minutes=i) for i in range(snapshots)],
        },
        schema_overrides={"avail_time": pl.Datetime("ms", "UTC")},
    )  # fmt: skip


def earned(closes: list[float], shown: pl.DataFrame, cost_bps: float = 0.0, horizon_s: int = 600) -> list[float]:
    trades = approach(marks(closes), cost_bps=cost_bps, horizon_s=horizon_s)(shown)
    return (trades["pnl_usdt"] / NOTIONAL_USDT * 1e4).to_list()


def test_a_cluster_that_is_reached_earns_its_distance_less_the_cost():
    assert earned([100.0, 100.0, 101.0], clusters(101.0), cost_bps=10.0) == pytest.approx([1e4 * np.log(1.01) - 10.0])


def test_the_stop_lies_as_far_away_on_the_other_side():
    assert earned([100.0, 100.0, 98.0, 101.0], clusters(101.0)) == pytest.approx([-1e4 * np.log(1.01)])


def test_longs_are_approached_downward():
    assert earned([100.0, 100.0, 99.0], clusters(99.0, "long")) == pytest.approx([-1e4 * np.log(0.99)])


def test_after_the_horizon_the_trade_ends_at_the_mark():
    assert earned([100.0, 100.0, 100.5, 100.2, 101.0], clusters(101.0), horizon_s=180) == pytest.approx(
        [1e4 * np.log(1.002)]
    )


def test_a_minute_with_both_prices_counts_as_the_stop():
    wild = marks([100.0, 100.0, 100.0]).with_columns(mark_high=pl.lit(102.0), mark_low=pl.lit(98.0))
    trades = approach(wild, cost_bps=0.0, horizon_s=600)(clusters(101.0))
    assert trades["pnl_usdt"].to_list() == pytest.approx([-NOTIONAL_USDT * np.log(1.01)])


def test_a_cluster_is_traded_once_and_only_within_reach():
    assert len(earned([100.0] * 5, clusters(101.0, snapshots=5))) == 1
    assert earned([100.0] * 5, clusters(103.0)) == []
    assert earned([100.0] * 5, clusters(100.1)) == []


def test_an_inactive_cluster_is_not_traded():
    assert earned([100.0] * 5, clusters(101.0).with_columns(active=pl.lit(False))) == []
