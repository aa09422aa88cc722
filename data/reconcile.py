"""Do the recorded trades add up to the exchange's own bars?"""

from datetime import datetime

import polars as pl

from data.lake import Lake
from data.schema import KLINES, TRADES
from data.table import TIME_MS

RECONCILED = pl.Schema(
    {
        "minute": TIME_MS,
        "trades_quantity": pl.Float64,  # base units, sum of the aggregate trades of the minute; 0 without any
        "kline_volume": pl.Float64,  # base units; null where the bar is missing
        "residual": pl.Float64,  # kline_volume minus trades_quantity; null where the bar is missing
    }
)
_UNITS = 1e8  # of a quantity: more decimals than any contract has


def reconcile(lake: Lake, symbol: str, start: datetime, end: datetime, venue: str = "aster") -> pl.DataFrame:
    """``RECONCILED``, every minute of [start, end) that has trades or a bar, in order.

    A residual above 0 is what bars count and aggregate trades leave out: fills of the insurance fund and of automatic
    deleveraging (Aster futures API, "Aggregate Trade Streams"), or trades that are missing. Below 0 it is a bar that
    was taken before it was final. Quantities are added as whole units of their eighth decimal: sums of binary fractions
    would differ in their last digits.

    Parameters
    ----------
    start, end : UTC, whole minutes.
    """
    asked = {"symbols": [symbol], "start": start, "end": end, "venue": venue}
    trades = (
        lake.scan(TRADES.name, columns=["event_time", "quantity"], **asked)
        .group_by(minute=pl.col("event_time").dt.truncate("1m"))
        .agg(traded=_in_units("quantity").sum())
    )
    bars = lake.scan(KLINES.name, columns=["open_time", "interval", "volume"], **asked).filter(interval="1m")
    minutes = bars.select(minute="open_time", kline_volume="volume", volume=_in_units("volume")).join(
        trades, on="minute", how="full", coalesce=True
    )
    traded = pl.col("traded").fill_null(0)
    told = minutes.with_columns(
        trades_quantity=traded.cast(pl.Float64) / _UNITS,
        residual=(pl.col("volume") - traded).cast(pl.Float64) / _UNITS,
    )
    return told.select(RECONCILED.names()).cast(RECONCILED).sort("minute")


def _in_units(name: str) -> pl.Expr:
    return (pl.col(name) * _UNITS).round().cast(pl.Int128)
