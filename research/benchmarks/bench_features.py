"""``aster bench features``: features of a window beside rolling windows of pandas and Polars.

They carry sums from row to row, which is why a buffer gives other bits there than all history: ours begin anew on every
row. All sides run on the same seeded bars, one after the other, compiled code warm; the shortest of repeated runs
counts. What a runner computes on every bar is the newest row alone.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import polars as pl

from data.benchmarks.figures import figure
from research.features import compute, lookback_bars, newest

ROWS = 28 * 1_440
WINDOWS = (10, 30, 60)
STEMS = ("volatility_bps", "mean_volume", "return_bps", "trade_imbalance", "vwap_distance_bps")
MOST_DIFFERENCE = 1e-6  # of values around one: the sums that are carried on have rounded that far
LIVE_ROWS = 200
REPEATS = 20

Arrays = Mapping[str, np.ndarray]


def bench_features(*, rows: int = ROWS, live_rows: int = LIVE_ROWS, repeats: int = REPEATS) -> list[dict]:
    """Figures: what, value, unit, baseline, baseline_value, ratio, target, holds."""
    bars = seeded_bars(rows)
    names = [f"{stem}_{window}" for stem in STEMS for window in WINDOWS]
    by_pandas, by_polars = pandas_features(bars), polars_features(bars)
    ours, values = compute(bars, names), rows * len(names)
    seconds, pandas_s, polars_s = (
        _shortest(side, repeats)
        for side in (lambda: compute(bars, names), lambda: pandas_features(bars), lambda: polars_features(bars))
    )
    lookback = lookback_bars(names)
    buffers = [
        {name: column[end - lookback : end] for name, column in bars.items()}
        for end in np.linspace(lookback, rows, live_rows).astype(int)
    ]
    alike = [
        _bits(newest(buffer, names)[name]) == _bits(ours[name][end - 1])
        for buffer, end in zip(buffers, np.linspace(lookback, rows, live_rows).astype(int), strict=True)
        for name in names
    ]
    what = f"{len(names)} features of windows of 10, 30 and 60, {rows:,} bars, one thread"
    return [
        figure(
            what, values / seconds, "values/s",
            baseline="pandas rolling, sums carried on", baseline_value=values / pandas_s,
        ),
        figure(
            "the same beside Polars", values / seconds, "values/s",
            baseline="Polars rolling on all threads, sums carried on", baseline_value=values / polars_s,
        ),
        figure(
            "largest difference of the three", max(_difference(ours, each) for each in (by_pandas, by_polars)),
            "of 1 bps", at_most=MOST_DIFFERENCE,
        ),
        figure(
            "the newest row of all of them, as a runner asks on every bar", _median_us(buffers, newest, names), "us",
            baseline="pandas over the same buffer", baseline_value=_median_us(buffers, _last_of_pandas, names),
        ),
        figure("the newest row from a buffer has the bits of all history", float(np.mean(alike)), "of 1", at_least=1.0),
    ]  # fmt: skip


def seeded_bars(rows: int) -> dict[str, np.ndarray]:
    """A random walk of minutes, with volume."""
    random = np.random.default_rng(0)
    close = 600.0 * np.exp(np.cumsum(random.normal(0.0, 5e-4, rows)))
    open_ = np.append(600.0, close[:-1])
    volume = random.lognormal(3.0, 1.0, rows)
    return {
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + random.exponential(2e-4, rows)),
        "low": np.minimum(open_, close) * (1.0 - random.exponential(2e-4, rows)),
        "close": close,
        "volume": volume,
        "quote_volume": volume * (open_ + close) / 2.0,
        "taker_buy_volume": volume * random.random(rows),
    }


def pandas_features(bars: Arrays) -> dict[str, np.ndarray]:
    """The features by pandas, as prior-art 003 makes its own."""
    frame = pd.DataFrame(bars, copy=False)
    up, down = (np.log(frame[edge] / frame["close"]) * np.log(frame[edge] / frame["open"]) for edge in ("high", "low"))
    variance, bought, volume = up + down, frame["taker_buy_volume"], frame["volume"]
    made = {}
    for window in WINDOWS:
        volumes = volume.rolling(window).sum()
        price = frame["quote_volume"].rolling(window).sum() / volumes
        made |= {
            f"volatility_bps_{window}": 1e4 * np.sqrt(variance.rolling(window).mean()),
            f"mean_volume_{window}": volume.rolling(window).mean(),
            f"return_bps_{window}": 1e4 * (frame["close"] / frame["close"].shift(window) - 1.0),
            f"trade_imbalance_{window}": (2.0 * bought - volume).rolling(window).sum() / volumes,
            f"vwap_distance_bps_{window}": 1e4 * (frame["close"] / price - 1.0),
        }
    return {name: column.to_numpy() for name, column in made.items()}


def polars_features(bars: Arrays) -> dict[str, np.ndarray]:
    """The same by Polars."""
    close, bought, volume = pl.col("close"), pl.col("taker_buy_volume"), pl.col("volume")
    up, down = ((pl.col(edge) / close).log() * (pl.col(edge) / pl.col("open")).log() for edge in ("high", "low"))
    made = []
    for window in WINDOWS:
        volumes = volume.rolling_sum(window)
        price = pl.col("quote_volume").rolling_sum(window) / volumes
        made += [
            (1e4 * (up + down).rolling_mean(window).sqrt()).alias(f"volatility_bps_{window}"),
            volume.rolling_mean(window).alias(f"mean_volume_{window}"),
            (1e4 * (close / close.shift(window) - 1.0)).alias(f"return_bps_{window}"),
            ((2.0 * bought - volume).rolling_sum(window) / volumes).alias(f"trade_imbalance_{window}"),
            (1e4 * (close / price - 1.0)).alias(f"vwap_distance_bps_{window}"),
        ]
    return {column.name: column.to_numpy() for column in pl.DataFrame(bars).select(made).iter_columns()}


def _last_of_pandas(buffer: Arrays, names: list[str]) -> dict[str, np.float64]:
    made = pandas_features(buffer)
    return {name: made[name][-1] for name in names}


def _difference(ours: Arrays, theirs: Arrays) -> float:
    """The largest, beside the value where that is more than one; infinity where only one side is ready."""
    found = 0.0
    for name, values in theirs.items():
        if (np.isnan(values) != np.isnan(ours[name])).any():
            return np.inf
        apart = np.abs(ours[name] - values) / np.maximum(np.abs(values), 1.0)
        found = max(found, float(np.nanmax(apart)))
    return found


def _shortest(run: Callable[[], object], repeats: int) -> float:
    """Seconds."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _median_us(buffers: list[dict], side: Callable[[Arrays, list[str]], object], names: list[str]) -> float:
    side(buffers[0], names)
    taken = []
    for buffer in buffers:
        begun = time.perf_counter()
        side(buffer, names)
        taken.append(time.perf_counter() - begun)
    return 1e6 * float(np.median(taken))


def _bits(value: np.float64) -> bytes:
    return np.float64(value).tobytes()
