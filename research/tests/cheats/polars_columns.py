"""Every function here looks ahead, in the line that says so."""

import polars as pl


def negative_shift(bars: pl.DataFrame) -> pl.Series:
    close = bars["close"]
    return close.shift(-1) / close - 1.0  # cheat


def negative_change(bars: pl.DataFrame) -> pl.DataFrame:
    change = pl.col("close").pct_change(-5)  # cheat
    return bars.select("open_time", momentum=change.rolling_mean(3))


def fill_from_behind_a_gap(bars: pl.DataFrame) -> pl.DataFrame:
    close = pl.col("close").fill_nan(None)
    return bars.select(
        before=close.forward_fill(),
        after=close.backward_fill(),  # cheat
    )


def interpolated_gap(bars: pl.DataFrame) -> pl.Series:
    known = bars["mark_price"].fill_nan(None)
    smooth = known.interpolate()  # cheat
    return smooth.rolling_mean(5)


def centred_window(bars: pl.DataFrame) -> pl.Series:
    volume = bars["volume"].fill_nan(0.0)
    mean = volume.rolling_mean(21, center=True)  # cheat
    return volume / mean


def whole_sample_scaling(bars: pl.DataFrame) -> pl.Series:
    move = (bars["close"] / bars["open"] - 1.0).fill_nan(0.0)
    mean = move.mean()  # cheat
    return (move - mean) / move.rolling_std(30)


def whole_sample_range(bars: pl.DataFrame) -> pl.DataFrame:
    volume = pl.col("volume").fill_nan(0.0)
    return bars.with_columns(
        calm=volume.rolling_median(10),
        scaled=volume / volume.max(),  # cheat
    )


def rank_of_the_whole(bars: pl.DataFrame) -> pl.Series:
    return bars["quote_volume"].fill_nan(0.0).rank() / bars.height  # cheat


def threshold_of_the_whole(bars: pl.DataFrame) -> pl.Series:
    move = (bars["close"] / bars["open"] - 1.0).fill_nan(0.0).abs()
    limit = move.quantile(0.98)  # cheat
    return (move > limit).cast(pl.Int8)


def label_resampling(bars: pl.DataFrame) -> pl.DataFrame:
    hours = bars.group_by_dynamic("open_time", every="1h", label="left")
    hourly = hours.agg(hour_close=pl.col("close").last())  # cheat
    joined = bars.join_asof(hourly, on="open_time", strategy="backward")
    return joined.select("hour_close")


def unfinished_hour(bars: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("open_time").dt.truncate("1h")
    return bars.select(reach=pl.col("high").max().over(hour) - pl.col("low").min().over(hour))  # cheat


def forward_join(bars: pl.DataFrame) -> pl.DataFrame:
    heavy = bars.filter(pl.col("volume") > 60.0).select(known="avail_time", heavy_close="close")
    joined = bars.join_asof(heavy, left_on="avail_time", right_on="known", strategy="forward")  # cheat
    return joined.select(distance=pl.col("close") / pl.col("heavy_close") - 1.0)


def execution_price(bars: pl.DataFrame) -> pl.Series:
    slip = bars["exec_open"] / bars["close"]  # cheat
    return slip.fill_nan(1.0)


def reversed_sum(bars: pl.DataFrame) -> pl.Series:
    volume = bars["volume"].fill_nan(0.0)
    return volume / volume.cum_sum(reverse=True)  # cheat


def next_bar_as_signal(bars: pl.DataFrame) -> pl.Series:
    jump = (bars["open"].shift(-1) / bars["close"] - 1.0).fill_nan(0.0).fill_null(0.0)  # cheat
    return pl.Series("side", [1 if move > 2e-4 else -1 if move < -2e-4 else 0 for move in jump])
