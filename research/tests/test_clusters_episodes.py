from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from data.table import TIME_MS
from research.clusters.grid import bucket_of, lower_edge
from research.clusters.validation.bootstrap import METRICS
from research.clusters.validation.episodes import EPISODES, episode_samples, episodes, recall, recall_samples
from research.clusters.validation.liquidated_worlds import liquidated_world

HOUR = 3_600
MINUTE_MS = 60_000
OWN = int(bucket_of(100.0))


@lru_cache
def judged(is_known: bool) -> pl.DataFrame:
    here = liquidated_world(20, seed=3, is_known=is_known)
    market, asked = (here.clusters, here.marks, here.force_orders), {"horizons_s": (4 * HOUR,)}
    claims = episode_samples(*market, min_realised_usdt=500.0, **asked)
    assert claims.schema == EPISODES
    return pl.concat([episodes(claims, draws=200), recall(recall_samples(*market, **asked), draws=200)])


def claimed(*market: pl.DataFrame, horizons_s: tuple[int, ...] = (4 * HOUR,), **more: int) -> pl.DataFrame:
    return episodes(episode_samples(*market, min_realised_usdt=1e3, horizons_s=horizons_s, **more))


def value(metrics: pl.DataFrame, name: str, band: str = "all", column: str = "value") -> float:
    return metrics.filter(pl.col("metric") == name, pl.col("band") == band)[column].item()


def test_clusters_that_know_are_hit_more_often_than_placebo_zones():
    assert judged(True).schema == METRICS
    assert value(judged(True), "reach_lift", column="low") > 1.3
    assert value(judged(True), "precision_lift", column="low") > 1.3


def test_zones_at_random_are_hit_as_often_as_placebo_zones():
    for lift in ("reach_lift", "precision_lift"):
        assert value(judged(False), lift, column="low") < 1.0 < value(judged(False), lift, column="high")
        assert value(judged(False), lift) == pytest.approx(1.0, abs=0.2)


def test_raw_hit_rates_fall_with_distance_for_both_and_say_nothing():
    for is_known in (True, False):
        near, far = (value(judged(is_known), "precision", band) for band in ("0-0.5", "1-2"))
        assert near > 2.0 * far


def test_large_clusters_first_beats_the_plain_hit_rate_only_where_mass_means_something():
    assert value(judged(True), "average_precision", column="low") > value(judged(True), "precision")
    assert value(judged(False), "average_precision") == pytest.approx(value(judged(False), "precision"), abs=0.03)


def test_recall_is_above_what_the_covered_share_of_the_band_would_catch():
    assert value(judged(True), "recall_lift", column="low") > 1.1
    assert value(judged(False), "recall_lift") == pytest.approx(1.0, abs=0.15)


def rows(*each) -> pl.DataFrame:
    """(hour, cluster_id, buckets below the mark, usdt) of long clusters two buckets wide; mark 100 throughout."""
    hour, cluster_id, away, usdt = zip(*each, strict=True)
    at = pl.Series([h * 60 * MINUTE_MS + 1_000 for h in hour]).cast(TIME_MS)
    low = np.array([OWN - a - 1 for a in away])
    return pl.DataFrame(
        {
            "symbol": ["BTCUSDT"] * len(each),
            "avail_time": at,
            "cluster_id": list(cluster_id),
            "side": ["long"] * len(each),
            "active": [True] * len(each),
            "available": [True] * len(each),
            "price_lo": lower_edge(low),
            "price_hi": lower_edge(low + 2),
            "open_interest": [float(u) for u in usdt],
        }
    )


def marks_with_fall(hours: int, fall_hour: float, steps: int) -> pl.DataFrame:
    n = hours * 60
    wiggle = 100.0 * np.exp(1e-5 * (np.arange(n) % 2))
    low = wiggle.copy()
    low[int(fall_hour * 60)] = float(lower_edge(OWN - steps) * 1.0001)
    return pl.DataFrame(
        {
            "ts": pl.Series(MINUTE_MS * np.arange(1, n + 1)).cast(TIME_MS),
            "mark_high": wiggle,
            "mark_low": low,
            "mark_close": wiggle,
        }
    )


def orders(*each) -> pl.DataFrame:
    """(hour, buckets below 100, usdt); the record begins at once."""
    each = ((0.0, -900, 1.0), *each)
    price = [float(lower_edge(OWN - away)) * 1.0005 for _, away, _ in each]
    return pl.DataFrame(
        {
            "event_time": pl.Series([int(hour * 60 * MINUTE_MS) for hour, _, _ in each]).cast(TIME_MS),
            "side": ["SELL"] * len(each),
            "average_price": price,
            "filled_quantity": [usdt / p for (_, _, usdt), p in zip(each, price, strict=True)],
        }
    )


def test_a_wall_that_stands_for_hours_is_one_episode():
    standing = rows(*[(hour, 7, 3, 1e6) for hour in range(5, 10)])
    metrics = claimed(standing, marks_with_fall(30, 6.5, 3), orders((6.51, 3, 5e3)))
    assert value(metrics, "precision", column="n") == 1
    assert value(metrics, "precision") == 1.0
    assert value(metrics, "precision_given_reach") == 1.0


def test_less_than_the_asked_notional_is_no_hit():
    standing = rows((5, 7, 3, 1e6))
    metrics = claimed(standing, marks_with_fall(30, 6.5, 3), orders((6.51, 3, 5e2)))
    assert value(metrics, "precision") == 0.0


def test_only_the_largest_clusters_of_a_band_are_claims():
    crowd = rows(*[(5, number, 2, 1e6 + number) for number in range(15)])
    metrics = claimed(crowd, marks_with_fall(30, 6.5, 3), orders((6.51, 3, 5e3)), horizons_s=(HOUR,), top=4)
    assert value(metrics, "precision", column="n") == 4


def test_recall_counts_the_notional_inside_clusters_of_the_windows_start():
    standing = rows(*[(hour, 7, 3, 1e6) for hour in range(5, 9)])
    prints = orders((6.51, 3, 3e3), (6.52, 2, 1e3))
    metrics = recall(recall_samples(standing, marks_with_fall(30, 6.5, 3), prints, horizons_s=(HOUR,)), draws=20)
    assert value(metrics, "recall") == pytest.approx(0.75)
    # Two of the four buckets up to half a per cent are covered.
    assert value(metrics, "recall_lift") == pytest.approx(1.5)


def test_clusters_that_are_not_active_claim_nothing():
    asleep = rows((5, 7, 3, 1e6)).with_columns(active=pl.lit(False))
    metrics = claimed(asleep, marks_with_fall(30, 6.5, 3), orders((6.51, 3, 5e3)), horizons_s=(HOUR,))
    assert metrics.filter(pl.col("metric").str.starts_with("precision")).is_empty()
