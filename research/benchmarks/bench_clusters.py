"""``aster bench clusters``: the predictive map and its clusters, beside the map alone in NumPy and in plain Python.

All sides run on the same seeded bars, one after the other, compiled code warm. Times are the shortest of repeated runs:
other work on the machine only ever adds time. The two baselines run on a slice and are counted per bar. NumPy's is the
same slice on both sides. The dictionary of levels gets slower while levels gather, by half in its first two days:
it is measured after three, in turns with all bars of the map, so that a machine that slows down slows both.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np

from data.benchmarks.figures import figure
from research.benchmarks.clusters_numpy import numpy_map
from research.clusters.extraction import Found, find
from research.clusters.lifecycle import follow, marks_of
from research.clusters.predictive import State, predictive_map
from research.clusters.profiles import Profiles, SourceBars
from research.clusters.reference import LevelsByHand
from research.clusters.tiers import MapConfig

SYMBOLS = 20
DAYS = 30
EVERY_BARS = 5
THREADS = 2
TARGET_SECONDS = 3.0
TARGET_STEP_US = 20.0
TARGET_OVER_NUMPY = 10.0
TARGET_OVER_LEVELS = 1_000.0
REPEATS = 3

MINUTE_MS = 60_000
DAY_MINUTES = 1_440
NUMPY_BARS = 2 * DAY_MINUTES
LEVELS_WARM_BARS = 3 * DAY_MINUTES  # until levels lie as far as they will
LEVELS_BARS = 480
LIVE_BARS = 3_000

_BARS = ("time_ms", "avail_ms", "mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest", "is_new")


def minute_bars(seed: int, n_bars: int) -> SourceBars:
    """A random walk of 4 % a day with a value of open interest every minute, the most work a map can have."""
    random = np.random.default_rng(seed)
    volatility = 0.04 / np.sqrt(DAY_MINUTES)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, volatility, n_bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0.0, 0.5 * volatility, n_bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0.0, 0.5 * volatility, n_bars)))
    time_ms = MINUTE_MS * np.arange(1, n_bars + 1)
    return SourceBars(
        symbol=f"SYMBOL{seed}USDT",
        source="aster",
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        mark_high=high,
        mark_low=low,
        mark_close=close,
        volume_usdt=random.lognormal(12.0, 1.0, n_bars),
        open_interest=1e6 * np.exp(np.cumsum(random.normal(0.0, 0.001, n_bars))),
        is_new=np.ones(n_bars, np.bool_),
    )


def bench_clusters(*, symbols: int = SYMBOLS, days: int = DAYS, repeats: int = REPEATS) -> list[dict]:
    """Figures: what, value, unit, baseline, baseline_value, ratio, target, holds."""
    config = MapConfig()
    n_bars = days * DAY_MINUTES
    market = [minute_bars(seed, n_bars) for seed in range(symbols)]
    _clusters_of(market[0].rows(slice(0, DAY_MINUTES)), config)  # compiles

    _lives_of(market[0].rows(slice(0, DAY_MINUTES)), config)

    def all_symbols(made: Callable[[SourceBars, MapConfig], object]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda bars: made(bars, config), market))

    all_seconds = _shortest(lambda: all_symbols(_clusters_of), repeats)
    lives_seconds = _shortest(lambda: all_symbols(_lives_of), 1)
    one = market[0].rows(slice(0, NUMPY_BARS))
    slice_bars_per_second = _map_bars_per_second(one, config, 5 * repeats)
    numpy_bars_per_second = len(one) / _shortest(lambda: numpy_map(one, config, every_bars=EVERY_BARS), repeats)
    map_bars_per_second, levels_bars_per_second = _beside_levels(market[0], config, repeats)
    step_us, snapshot_us = _live_us(market[0], config)
    extrapolated = f"dictionary of levels, plain Python, from {LEVELS_BARS:,} bars after {LEVELS_WARM_BARS:,}"
    return [
        figure(
            f"clusters every {EVERY_BARS} min of {symbols} symbols, {days} d x 1 min x 500 buckets, {THREADS} threads",
            all_seconds,
            "s",
            at_most=TARGET_SECONDS,
        ),
        figure("the same with every cluster followed through its life, as rows and events", lives_seconds, "s"),
        figure(
            "map on one thread, NumPy operations per bar beside it",
            slice_bars_per_second,
            "bars/s",
            baseline=f"NumPy operations per bar, from {len(one):,} bars",
            baseline_value=numpy_bars_per_second,
            ratio_at_least=TARGET_OVER_NUMPY,
        ),
        figure(
            f"map on one thread, {days} d, levels in a dictionary beside it",
            map_bars_per_second,
            "bars/s",
            baseline=extrapolated,
            baseline_value=levels_bars_per_second,
            ratio_at_least=TARGET_OVER_LEVELS,
        ),
        figure(
            f"the same as seconds for one symbol, {days} d, extrapolated",
            n_bars / map_bars_per_second,
            "s",
            baseline=extrapolated,
            baseline_value=n_bars / levels_bars_per_second,
        ),
        figure("live step, median", step_us, "us", at_most=TARGET_STEP_US),
        figure("live snapshot, median", snapshot_us, "us"),
    ]


def _clusters_of(bars: SourceBars, config: MapConfig) -> tuple[Profiles, Found]:
    profiles, _ = predictive_map(bars, config, every_bars=EVERY_BARS)
    return profiles, find(profiles)


def _lives_of(bars: SourceBars, config: MapConfig) -> None:
    profiles, found = _clusters_of(bars, config)
    follow(found, profiles, marks_of(bars))


def _shortest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _rows(bars: SourceBars) -> list[dict]:
    columns = [getattr(bars, name).tolist() for name in _BARS]
    return [dict(zip(_BARS, row, strict=True)) for row in zip(*columns, strict=True)]


def _map_bars_per_second(bars: SourceBars, config: MapConfig, repeats: int) -> float:
    return len(bars) / _shortest(lambda: predictive_map(bars, config, every_bars=EVERY_BARS), repeats)


def _beside_levels(bars: SourceBars, config: MapConfig, repeats: int) -> tuple[float, float]:
    """Bars per second of the map and, once it is full, of the dictionary of levels; snapshots every ``EVERY_BARS``."""
    by_hand = LevelsByHand(config)
    rows = _rows(bars.rows(slice(0, LEVELS_WARM_BARS + LEVELS_BARS)))
    for row in rows:
        row.pop("avail_ms")
    for row in rows[:LEVELS_WARM_BARS]:
        by_hand.bar(**row)
    full = [deepcopy(by_hand) for _ in range(repeats)]

    def last_bars() -> None:
        levels = full.pop()
        for bar, row in enumerate(rows[LEVELS_WARM_BARS:]):
            levels.bar(**row)
            if (bar + 1) % EVERY_BARS == 0:
                levels.snapshot()

    turns = [(_map_bars_per_second(bars, config, 3), LEVELS_BARS / _shortest(last_bars, 1)) for _ in range(repeats)]
    return max(of_map for of_map, _ in turns), max(of_levels for _, of_levels in turns)


def _live_us(bars: SourceBars, config: MapConfig) -> tuple[float, float]:
    """Microseconds of one ``State.step`` and of one ``State.snapshot``."""
    state = State(bars.symbol, bars.source, config)
    steps, snapshots = [], []
    for row in _rows(bars.rows(slice(0, LIVE_BARS))):
        start = time.perf_counter()
        state.step(**row)
        stepped = time.perf_counter()
        state.snapshot()
        snapshots.append(time.perf_counter() - stepped)
        steps.append(stepped - start)
    return 1e6 * float(np.median(steps)), 1e6 * float(np.median(snapshots))
