"""Intervals that know how few independent days there are: whole days are drawn again, never single rows.

Rows of one day share its volatility, its news and its one big wick. So every figure of the validation is a function of
sums per day, and an interval comes from drawing the days with replacement, in blocks where an outcome reaches into the
next day. Künsch, H. (1989), "The Jackknife and the Bootstrap for General Stationary Observations"; Politis, D. and
Romano, J. (1992), "A circular block-resampling procedure for stationary data".
"""

from collections.abc import Callable

import numpy as np
import polars as pl

DAY_MS = 86_400_000
DRAWS = 1_000
LEVEL = 0.95

METRICS = pl.Schema(
    {
        "metric": pl.String,
        "band": pl.String,  # distance band in per cent, "all", or the factor that was judged
        "horizon_s": pl.Int64,
        "value": pl.Float64,  # NaN where it cannot be known
        "low": pl.Float64,  # interval by days, 95 % unless asked otherwise; NaN below two days
        "high": pl.Float64,
        "n": pl.Int64,  # samples
        "n_days": pl.Int64,  # distinct UTC days with samples
    }
)


def day_of(time_ms: np.ndarray) -> np.ndarray:
    """UTC day of each moment, counted from 1970-01-01; int64."""
    return np.asarray(time_ms, np.int64) // DAY_MS


def day_sums(time_ms: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums per UTC day.

    Parameters
    ----------
    time_ms : int64, shape (n,)
    values : float64, shape (n,) or (n, n_columns)

    Returns
    -------
    days : int64, shape (n_days,), ascending, only those with rows.
    sums : float64, shape (n_days, n_columns)
    """
    days, row_day = np.unique(day_of(time_ms), return_inverse=True)
    columns = np.asarray(values, np.float64).reshape(len(row_day), -1)
    sums = np.stack([np.bincount(row_day, column, minlength=len(days)) for column in columns.T], axis=1)
    return days, sums


def day_counts(n_days: int, *, block_days: int = 1, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each day is taken in each draw; int64, shape (draws, n_days), every row sums to ``n_days``."""
    rng = np.random.default_rng(seed)
    blocks = -(-n_days // block_days)
    start = rng.integers(0, n_days, (draws, blocks, 1))
    taken = ((start + np.arange(block_days)) % n_days).reshape(draws, -1)[:, :n_days]
    flat = taken + n_days * np.arange(draws)[:, None]
    return np.bincount(flat.ravel(), minlength=draws * n_days).reshape(draws, n_days)


def interval(
    sums: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    block_days: int = 1,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of column totals, by drawing whole days.

    Parameters
    ----------
    sums : float64, shape (n_days, n_columns)
        What each day adds to every column, as ``day_sums`` gives it.
    statistic : takes totals, shape (..., n_columns), gives shape (...).
    block_days : consecutive days drawn together; more than one where an outcome reaches into the next days.

    Returns
    -------
    (low, high) : NaN with fewer than two days, than two blocks, or when less than half of the draws have a value.
    """
    n_days = len(sums)
    if n_days < 2 or n_days < 2 * block_days:
        return float("nan"), float("nan")
    counts = day_counts(n_days, block_days=block_days, draws=draws, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.asarray(statistic(counts @ np.asarray(sums, np.float64)))
    drawn = drawn[np.isfinite(drawn)]
    if 2 * len(drawn) < draws:
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return float(low), float(high)


def measured(
    metric: str,
    time_ms: np.ndarray,
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    horizon_s: int,
    band: str = "all",
    draws: int = DRAWS,
    seed: int = 0,
) -> dict:
    """One row of ``METRICS``: a statistic of column totals over all samples, with its interval by days.

    Parameters
    ----------
    time_ms : int64, shape (n,), when the samples were predicted; their days are the blocks.
    values : float64, shape (n,) or (n, n_columns).
    statistic : as in ``interval``. Outcomes over more than a day are drawn in blocks of as many days and one.
    """
    row = {"metric": metric, "band": band, "horizon_s": horizon_s}
    if len(time_ms) == 0:
        return {**row, "value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0, "n_days": 0}
    days, sums = day_sums(time_ms, values)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(sums.sum(axis=0)))
    low, high = interval(sums, statistic, block_days=block_days(horizon_s), draws=draws, seed=seed)
    return {**row, "value": value, "low": low, "high": high, "n": len(time_ms), "n_days": len(days)}


def block_days(horizon_s: int) -> int:
    """Days in a block for outcomes that take this long: 1 up to twelve hours, 2 up to a day and a half, ..."""
    return 1 + round(horizon_s * 1_000 / DAY_MS)


def mean(totals: np.ndarray) -> np.ndarray:
    """First column over the second: values times weights, and weights."""
    return totals[..., 0] / totals[..., 1]
