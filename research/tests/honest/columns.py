"""The same questions without looking ahead."""

import numpy as np
import polars as pl

from research.feature_kernels import volatility_bps
from research.jit import njit

LOOKBACK_BARS = {
    "past_change": 9,
    "filled_gap": 40,
    "rolling_scaling": 61,
    "finished_hours": 180,
    "backward_join": 600,
    "own_window": 30,
    "kernel": 11,
    "mixed": 31,
}


def past_change(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select("open_time", change=pl.col("close").pct_change(5).rolling_mean(3))


def filled_gap(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].fill_nan(None).forward_fill(30)


def rolling_scaling(bars: pl.DataFrame) -> pl.DataFrame:
    move = (pl.col("close") / pl.col("open") - 1.0).fill_nan(0.0)
    return bars.with_columns(scaled=(move - move.rolling_mean(60)) / move.rolling_std(60), now=pl.col("close"))


def finished_hours(bars: pl.DataFrame) -> pl.DataFrame:
    hourly = bars.group_by_dynamic("open_time", every="1h", label="right").agg(
        pl.col("close").last(), known=pl.col("avail_time").last(), rows=pl.len()
    )
    hourly = hourly.filter(pl.col("rows") == 60)  # the newest hour is not over
    return bars.join_asof(hourly, left_on="avail_time", right_on="known", suffix="_of_hour").select("close_of_hour")


def backward_join(bars: pl.DataFrame) -> pl.DataFrame:
    heavy = bars.filter(pl.col("volume") > 100.0).select(known="avail_time", heavy_close="close")
    joined = bars.join_asof(heavy, left_on="avail_time", right_on="known", strategy="backward", tolerance="500m")
    return joined.select(distance=pl.col("close") / pl.col("heavy_close") - 1.0)


def future_return(bars: pl.DataFrame) -> pl.Series:
    return bars["close"].shift(-10) / bars["close"] - 1.0


def own_window(close):
    windows = np.lib.stride_tricks.sliding_window_view(close, 30)
    return np.append(np.full(29, np.nan), windows.mean(axis=1))


@njit
def kernel(high, low):
    out = np.full(len(high), np.nan)
    for i in range(10, len(high)):
        best, worst = high[i], low[i]
        for j in range(i - 10, i):
            best, worst = max(best, high[j]), min(worst, low[j])
        out[i] = best - worst
    return out


def mixed(bars: pl.DataFrame) -> dict:
    frame = bars.to_dict(as_series=False)
    prices = [np.array(frame[name]) for name in ("open", "high", "low", "close")]
    return {"volatility": volatility_bps(*prices, 30), "age": frame["quote_age_ms"]}
