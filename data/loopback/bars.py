"""Bars of the loopback exchange: the running one made from trades, and longer ones made from minutes."""

import polars as pl

from data.loopback.wire import Decimals
from data.table import TIME_MS

INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
UPDATE_MS = 250  # at most one state of a running bar in that time


def every(interval: str) -> str:
    """The interval as polars writes it: its months are ``1mo``."""
    return interval.replace("M", "mo")


def running_bars(trades: pl.DataFrame, decimals: Decimals) -> pl.DataFrame:
    """States of 1m bars, one after the last trade of every quarter of a second.

    Parameters
    ----------
    trades : rows of ``trades`` with ``delivered_ns``, one symbol, in order, from the first trade of a minute on.

    Returns
    -------
    Rows of ``kline_updates`` (without ``recv_time`` and ``source``) with ``delivered_ns``, is_final false.
    """
    price, quantity, opened = pl.col("price"), pl.col("quantity"), pl.col("open_time")
    is_buy = (~pl.col("is_buyer_maker")).cast(pl.Float64)
    notional = price * quantity
    sent_ms = pl.coalesce("sent_time", "event_time").to_physical()
    states = trades.with_columns(open_time=pl.col("event_time").dt.truncate("1m")).select(
        "venue",
        "symbol",
        pl.lit("1m").alias("interval"),
        "open_time",
        price.first().over(opened).alias("open"),
        price.cum_max().over(opened).alias("high"),
        price.cum_min().over(opened).alias("low"),
        price.alias("close"),
        quantity.cum_sum().over(opened).round(decimals.quantity).alias("volume"),
        notional.cum_sum().over(opened).round(_notional_decimals(decimals)).alias("quote_volume"),
        pl.int_range(1, pl.len() + 1).over(opened).alias("trade_count"),
        (quantity * is_buy).cum_sum().over(opened).round(decimals.quantity).alias("taker_buy_volume"),
        (notional * is_buy).cum_sum().over(opened).round(_notional_decimals(decimals)).alias("taker_buy_quote_volume"),
        pl.col("first_trade_id").first().over(opened),
        "last_trade_id",
        pl.coalesce("sent_time", "event_time").alias("sent_time"),
        "delivered_ns",
        pl.lit(False).alias("is_final"),
        (sent_ms // UPDATE_MS).alias("quarter"),
    )
    is_last = (pl.col("quarter") != pl.col("quarter").shift(-1)) | (opened != opened.shift(-1))
    return states.filter(is_last.fill_null(True)).drop("quarter")


def _notional_decimals(decimals: Decimals) -> int:
    """Enough for exact products of prices printed at hundredths of a tick."""
    return min(decimals.price + 2 + decimals.quantity, 12)


def longer_bars(minutes: pl.DataFrame, interval: str, decimals: Decimals) -> pl.DataFrame:
    """Bars of an interval from 1m ones (or from reference bars, which have no sums), by ``open_time``."""
    ids = [
        pl.col("first_trade_id").filter(pl.col("first_trade_id") >= 0).first(),
        pl.col("last_trade_id").filter(pl.col("last_trade_id") >= 0).last(),
    ]
    return (
        minutes.sort("open_time")
        .group_by_dynamic("open_time", every=every(interval))
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            *(pl.col(name).sum().round(digits) for name, digits in _sums(minutes, decimals)),
            *(ids if "first_trade_id" in minutes.columns else ()),
        )
    )


def longer_states(states: pl.DataFrame, minutes: pl.DataFrame, interval: str, decimals: Decimals) -> pl.DataFrame:
    """States of an interval's bars, one for each state of a minute.

    Parameters
    ----------
    states : of 1m bars.
    minutes : the closed 1m bars, from the start of the first interval on.
    """
    opened = pl.col("open_time").dt.truncate(every(interval))
    before = minutes.sort("open_time").select(
        "open_time",
        opened.alias("opened"),
        pl.col("open").first().over(opened).alias("open_before"),
        pl.col("high").cum_max().over(opened).alias("high_before"),
        pl.col("low").cum_min().over(opened).alias("low_before"),
        *(pl.col(name).cum_sum().over(opened).alias(f"{name}_before") for name, _ in _sums(minutes, decimals)),
        pl.col("first_trade_id").filter(pl.col("first_trade_id") >= 0).first().over(opened).alias("first_id_before"),
    )
    joined = (
        states.with_columns(opened=opened, row=pl.int_range(pl.len()))
        .sort("open_time", maintain_order=True)
        .join_asof(before, on="open_time", by="opened", allow_exact_matches=False, check_sortedness=False)
        .sort("row")
    )
    is_last_minute = pl.col("open_time").dt.offset_by("1m") == pl.col("opened").dt.offset_by(every(interval))
    return joined.with_columns(
        pl.coalesce("open_before", "open").alias("open"),
        pl.max_horizontal("high", "high_before").alias("high"),
        pl.min_horizontal("low", "low_before").alias("low"),
        *(
            (pl.col(name) + pl.col(f"{name}_before").fill_null(0)).round(digits).alias(name)
            for name, digits in _sums(minutes, decimals)
        ),
        pl.coalesce("first_id_before", "first_trade_id").alias("first_trade_id"),
        pl.col("is_final") & is_last_minute,
        pl.lit(interval).alias("interval"),
        pl.col("opened").alias("open_time"),
    ).select(states.columns)


def with_close_time(bars: pl.DataFrame, interval: str) -> pl.DataFrame:
    """The bars with the last millisecond of each."""
    end = pl.col("open_time").dt.offset_by(every(interval))
    return bars.with_columns(close_time=end - pl.duration(milliseconds=1))


def opens_ms(at_ms: int, interval: str) -> int:
    """When the bar of a time opens, milliseconds since 1970. Weeks begin on Monday."""
    time = pl.Series([at_ms]).cast(TIME_MS).dt.truncate(every(interval))
    return time.to_physical().item()


def _sums(bars: pl.DataFrame, decimals: Decimals) -> list[tuple[str, int]]:
    """(column, digits after the point) of what is summed, of the columns there are."""
    digits = {
        "volume": decimals.quantity,
        "quote_volume": _notional_decimals(decimals),
        "trade_count": 0,
        "taker_buy_volume": decimals.quantity,
        "taker_buy_quote_volume": _notional_decimals(decimals),
    }
    return [(name, digits[name]) for name in digits if name in bars.columns]
