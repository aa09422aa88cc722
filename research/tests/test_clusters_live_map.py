"""A map made step by step knows what the tables of the same map, built at once, tell at every moment."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from research.clusters import tables
from research.clusters.columns import CLUSTER_COLUMNS, cluster_columns
from research.clusters.extraction import find
from research.clusters.inputs import ReadBars
from research.clusters.lifecycle import Lifecycle, follow, marks_of
from research.clusters.live_map import TOP, UNKNOWN, LiveMap
from research.clusters.predictive import predictive_map
from research.clusters.tables import STALE
from research.clusters.tiers import MapConfig

START_MS = 1_764_331_200_000
MINUTE_MS, STEP_MS = 60_000, 5_000
STEP = timedelta(milliseconds=STEP_MS)
QUICK = Lifecycle(
    slot=timedelta(minutes=1), smallest_history=30, history=timedelta(days=1), active_quantile=0.61, active_slots=1
)


def walking(seed: int, n_bars: int, length_ms: int, *, start_ms: int = START_MS, price: float = 100.0) -> ReadBars:
    """Bars of a mark that walks wildly, open interest that comes and goes in one of six."""
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0.0, 1e-3, n_bars)))
    spread = np.abs(rng.normal(0.0, 4e-4, (2, n_bars)))
    time_ms = start_ms + length_ms * np.arange(1, n_bars + 1)
    is_new = np.arange(n_bars) % 6 == 0
    interest = np.repeat(1e5 * np.exp(np.cumsum(rng.normal(0.0, 0.02, n_bars // 6 + 1))), 6)[:n_bars]
    return ReadBars(
        symbol="SOLUSDT",
        source="aster",
        time_ms=time_ms,
        avail_ms=time_ms,
        mark_high=close * np.exp(spread[0]),
        mark_low=close * np.exp(-spread[1]),
        mark_close=close,
        volume_usdt=rng.gamma(1.0, 1e5, n_bars),
        open_interest=interest,
        is_new=is_new,
        open_interest_ms=time_ms,
    )


def with_holes(bars: ReadBars) -> ReadBars:
    """Without the mark for some bars, with a pause of twenty minutes, and without open interest for twenty more."""
    n_bars = len(bars)
    for name in ("mark_high", "mark_low", "mark_close"):
        getattr(bars, name)[n_bars // 4 : n_bars // 4 + 3] = np.nan
    bars.is_new[n_bars * 3 // 4 :] = False
    later_ms = np.where(np.arange(n_bars) > n_bars // 2, 20 * MINUTE_MS, 0)
    for name in ("time_ms", "avail_ms"):
        getattr(bars, name)[:] += later_ms
    return bars


def told_by_tables(learnt: ReadBars, bars: ReadBars, at_ms: np.ndarray) -> pl.DataFrame:
    """What the tables of the second part of a map tell."""
    profiles, book = predictive_map(learnt, MapConfig(), every_bars=5)
    _, _, followed = follow(find(profiles, TOP), profiles, marks_of(learnt), config=QUICK)
    profiles, _ = predictive_map(bars, MapConfig(), every_bars=1, state=book)
    found = find(profiles, TOP)
    clusters, events, _ = follow(found, profiles, marks_of(bars), bar=STEP, config=QUICK, state=followed)
    rows = (
        tables.cluster_rows(clusters, profiles, "a"),
        tables.event_rows(events, "a"),
        tables.oi_rows(profiles, bars, "a"),
    )
    return cluster_columns(*rows, at_ms, interval_ms=MINUTE_MS)


def test_at_every_moment_a_live_map_knows_what_the_tables_tell():
    learnt = walking(1, 600, MINUTE_MS)
    bars = with_holes(walking(10, 1_000, STEP_MS, start_ms=int(learnt.time_ms[-1]), price=float(learnt.mark_close[-1])))
    at_ms = np.arange(bars.time_ms[0] - 2_000, bars.time_ms[-1] + 20 * MINUTE_MS, 7_000)
    live = LiveMap("SOLUSDT", "aster", lifecycle=QUICK)
    live.learn(learnt)
    known, i = [], 0
    for moment_ms in at_ms.tolist():
        while i < len(bars) and bars.time_ms[i] <= moment_ms:
            live.step(bars.rows(slice(i, i + 1)), length=STEP)
            i += 1
        known.append(live.columns(moment_ms, MINUTE_MS))
    found = pl.DataFrame(known, schema=CLUSTER_COLUMNS)
    assert_frame_equal(found, told_by_tables(learnt, bars, at_ms), check_exact=True)
    told = found.select(pl.all().is_not_nan().sum()).row(0, named=True)
    assert told["near_long_far"] > 100 and told["strong_short_usdt"] > 100 and told["break_lo"] > 100
    assert found["open_interest"].is_nan().sum() > 200  # in the pause, and when open interest had gone stale


def test_edges_are_those_of_the_clusters_that_live():
    live = LiveMap("SOLUSDT", "aster", lifecycle=QUICK)
    bars = walking(4, 300, MINUTE_MS)
    live.learn(bars.rows(slice(0, 299)))
    assert live.edges.size == 0
    live.step(bars.rows(slice(299, 300)), length=timedelta(minutes=1))
    assert live.edges.size > 4 and (np.diff(live.edges) > 0).all()
    seen = live.columns(int(bars.time_ms[-1]), MINUTE_MS)
    assert {seen[name] for name in ("near_long_lo", "near_long_hi", "near_short_lo")} <= {*live.edges.tolist()}


def test_why_there_is_no_map_is_said_in_words():
    bars = walking(5, 400, MINUTE_MS)
    bars.open_interest[:10] = math.nan
    bars.is_new[:11] = [False] * 10 + [True]
    bars.is_new[200:300] = False
    live = LiveMap("SOLUSDT", "aster", lifecycle=QUICK)
    reasons = [live.reason]
    for i in range(len(bars)):
        live.step(bars.rows(slice(i, i + 1)), length=timedelta(minutes=1))
        if live.reason != reasons[-1]:
            reasons.append(live.reason)
            assert all(map(math.isnan, live.columns(live.time_ms, MINUTE_MS).values())) == (live.reason is not None)
    young = "open interest is known for less than 0.5 hours"
    assert reasons == [UNKNOWN, young, None, STALE, None]
