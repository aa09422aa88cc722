"""How many positions a cluster may hold: what is at risk there over the size of the liquidations seen lately."""

from datetime import timedelta

import numpy as np
import polars as pl

PAST = timedelta(days=7)
SMALLEST_SAMPLE = 30  # prints below which their median says nothing


def with_liquidation_count(clusters: pl.DataFrame, force_orders: pl.DataFrame | None) -> pl.DataFrame:
    """The rows with ``liquidation_count``: ``open_interest`` over the median forced order of the past week.

    Prior-art 002's estimated number of positions. The feed shows one order a second, the last one, so their median is
    of what was seen. How many were seen inside a cluster is ``n_prints`` of its events.

    Parameters
    ----------
    clusters : rows of one symbol with ts, avail_time and ``open_interest`` (USDT); the count is null where that is.
    force_orders : rows of ``FORCE_ORDERS`` of the same symbol with ``avail_time``, either side; None where nobody
        recorded them. For a row those count that happened before its ``ts``, in the week up to it, and were known by
        its ``avail_time``. Null with fewer than ``SMALLEST_SAMPLE``.
    """
    moments = clusters.select("ts", "avail_time").unique(maintain_order=True)
    medians = np.full(len(moments), np.nan)
    if force_orders is not None:
        filled = force_orders.filter(pl.col("average_price") * pl.col("filled_quantity") > 0.0).sort("event_time")
        happened_ms, known_ms = (filled[name].dt.epoch("ms").to_numpy() for name in ("event_time", "avail_time"))
        usdt = (filled["average_price"] * filled["filled_quantity"]).to_numpy()
        ts_ms, avail_ms = (moments[name].dt.epoch("ms").to_numpy() for name in ("ts", "avail_time"))
        first = np.searchsorted(happened_ms, ts_ms - PAST // timedelta(milliseconds=1))
        end = np.searchsorted(happened_ms, ts_ms)
        for moment in range(len(moments)):
            past = slice(first[moment], end[moment])
            seen = usdt[past][known_ms[past] <= avail_ms[moment]]
            if len(seen) >= SMALLEST_SAMPLE:
                medians[moment] = np.median(seen)
    told = clusters.join(
        moments.with_columns(pl.Series("median_usdt", medians, nan_to_null=True)),
        on=["ts", "avail_time"],
        how="left",
        maintain_order="left",
    )
    return told.with_columns(liquidation_count=pl.col("open_interest") / pl.col("median_usdt")).drop("median_usdt")
