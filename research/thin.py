"""Fewer points, the same picture: lines keep their extremes, candles merge, missing stays missing."""

import itertools

import numpy as np
import polars as pl

MAX_CANDLES = 400
MAX_LINE_POINTS = 2_000

_MINUTE_MS = 60_000
_CANDLE_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880, 4320, 10080, 20160, 43200)
CANDLE_INTERVALS_MS = (1_000, 5_000, 15_000, *(minutes * _MINUTE_MS for minutes in _CANDLE_MINUTES))


def epoch_ms(times: pl.Series) -> np.ndarray:
    """UTC times as float64 milliseconds since 1970, the form in which figures carry them; null becomes NaN."""
    return times.cast(pl.Datetime("ms", "UTC")).dt.epoch("ms").cast(pl.Float64).to_numpy()


def thin_line(x: np.ndarray, y: np.ndarray, limit: int = MAX_LINE_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most ``limit`` points that draw the same line: first and last, and the minimum and maximum of each bucket.

    A run of NaN becomes one NaN, so that the line still breaks there.

    Parameters
    ----------
    x : float64, shape (n_points,), ascending. ``y`` the same shape.
    """
    missing = np.isnan(y)
    kept = ~(missing & np.concatenate([[False], missing[:-1]]))
    x, y = x[kept], y[kept]
    if len(y) <= limit:
        return x, y
    edges = np.linspace(0, len(y), (limit - 2) // 3 + 1).astype(int)
    chosen = {0, len(y) - 1}
    for first, last in itertools.pairwise(edges):
        bucket = y[first:last]
        holes = np.flatnonzero(np.isnan(bucket))
        if len(holes):
            chosen.add(first + int(holes[0]))
        if len(holes) < len(bucket):
            chosen.update((first + int(np.nanargmin(bucket)), first + int(np.nanargmax(bucket))))
    index = np.array(sorted(chosen))
    return x[index], y[index]


def merge_candles(bars: pl.DataFrame, limit: int = MAX_CANDLES) -> tuple[pl.DataFrame, int]:
    """Bars merged to the shortest usual interval that leaves at most ``limit`` candles.

    Parameters
    ----------
    bars : open_time (UTC, ascending, equally spaced), open, high, low, close (NaN or null where nothing was seen).

    Returns
    -------
    (candles, interval_ms)
        open_time, open, high, low, close, bars (how many were seen); candles in which nothing was seen are left out.
    """
    times, own = epoch_ms(bars["open_time"]), bar_interval_ms(bars)
    span = times[-1] - times[0] + own
    fitting = (one for one in (own, *CANDLE_INTERVALS_MS) if one >= own and one % own == 0 and span / one <= limit - 1)
    # Beyond the longest usual interval: as many of the bars' own as needed.
    interval = next(fitting, own * int(np.ceil(span / own / (limit - 1))))
    seen = bars.select("open_time", *(pl.col(name).fill_nan(None) for name in ("open", "high", "low", "close")))
    candles = (
        seen.drop_nulls()
        .group_by_dynamic("open_time", every=f"{interval}ms")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.len().alias("bars"),
        )
    )
    return candles, interval


def bar_interval_ms(bars: pl.DataFrame) -> int:
    """Distance between bars, their open_time ascending; one minute where there is only one."""
    times = epoch_ms(bars["open_time"])
    return int(np.min(np.diff(times))) if len(times) > 1 else _MINUTE_MS


def missing_runs(bars: pl.DataFrame) -> list[tuple[float, float]]:
    """[first, last) of every run of bars in which nothing was seen, milliseconds since 1970."""
    if bars.is_empty():
        return []
    unseen = bars["close"].fill_nan(None).is_null().to_numpy()
    return runs(epoch_ms(bars["open_time"]), unseen, bar_interval_ms(bars))


def runs(times: np.ndarray, held: np.ndarray, step: float) -> list[tuple[float, float]]:
    """[first, last) of every run of consecutive True in ``held``, in the unit of ``times``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], held.astype(int), [0]])))
    return [(float(times[a]), float(times[b - 1]) + step) for a, b in zip(edges[::2], edges[1::2], strict=True)]
