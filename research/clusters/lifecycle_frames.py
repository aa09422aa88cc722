"""What the lifecycle kernel wrote, as rows of the lake's tables; and the forced orders that events are told with."""

from datetime import timedelta

import numpy as np
import polars as pl

from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS
from data.table import TIME_MS, conform
from research.clusters.grid import SIDES, centre, lower_edge
from research.clusters.lifecycle_book import ACTIVE, BROKEN, NAMES, NOBODY, TOUCHED
from research.clusters.profiles import Profiles

REALISED_WITHIN = timedelta(minutes=1)  # after the event: forced orders that count as its own
REALISED_EVENTS = (TOUCHED, BROKEN)
REALISED_WITHIN_MS = REALISED_WITHIN // timedelta(milliseconds=1)

ORDERS = pl.Schema(
    {
        "time_ms": pl.Int64,  # exchange clock
        "avail_ms": pl.Int64,
        "side": pl.Int64,  # of the positions that were closed
        "price": pl.Float64,
        "quantity": pl.Float64,  # base
    }
)


def known_orders(force_orders: pl.DataFrame | None) -> pl.DataFrame:
    """Rows of ``ORDERS``; a forced sale closes a long. Known from ``avail_time``, else ``recv_time``, else at once."""
    if force_orders is None:
        return pl.DataFrame(schema=ORDERS)
    happened = pl.col("event_time").dt.epoch("ms")
    known = [pl.col(name).dt.epoch("ms") for name in ("avail_time", "recv_time") if name in force_orders.columns]
    return force_orders.select(
        time_ms=happened,
        avail_ms=pl.coalesce(*known, happened),
        side=(pl.col("side").cast(pl.String) != "SELL").cast(pl.Int64),
        price=pl.col("average_price").cast(pl.Float64),
        quantity=pl.col("filled_quantity").cast(pl.Float64),
    )


def cluster_frame(rows: np.ndarray, clusters: np.ndarray, profiles: Profiles) -> pl.DataFrame:
    """Rows of ``CLUSTERS`` from the kernel's."""
    at = rows["snapshot"]
    mark, oi_usdt = profiles.mark[at], profiles.open_interest_usdt[at]
    level, mass = centre(clusters["peak"]), clusters["mass_usdt"]
    dist_bps = 1e4 * (level / mark - 1.0)
    share = np.divide(mass, oi_usdt, out=np.full(len(at), np.nan), where=oi_usdt > 0.0)
    columns = {
        "symbol": pl.repeat(profiles.symbol, len(at), dtype=pl.String, eager=True),
        "source": pl.repeat(profiles.source, len(at), dtype=pl.String, eager=True),
        "ts": _time(profiles.time_ms[at]),
        "avail_time": _time(profiles.avail_ms[at]),
        "cluster_id": clusters["id"],
        "side": pl.Series(SIDES).gather(rows["side"]),
        "state": pl.Series(NAMES).gather(clusters["state"]),
        "active": np.isin(clusters["state"], (ACTIVE, TOUCHED)),
        "price_level": level,
        "price_lo": lower_edge(clusters["lo"]),
        "price_hi": lower_edge(clusters["hi"] + 1),
        "distance_from_price": np.abs(dist_bps) / 100.0,
        "dist_bps": dist_bps,
        "open_interest": mass,
        "mass_src_usd": mass,
        "leverage_tier": clusters["leverage"],
        "strength": clusters["strength"],
        "zscore": clusters["zscore"],
        "strength_seed": np.minimum(1.0, np.sqrt(3.0 * share)),
        "calibrated": np.zeros(len(at), np.bool_),
        "coverage": profiles.placed_share[at],
        "firstSeen": _time(clusters["first_ms"]),
        "lastSeen": _time(clusters["seen_ms"]),
        "last_updated": _time(profiles.time_ms[at]),
        "available": np.ones(len(at), np.bool_),
    }
    if profiles.basis_bps is not None:
        columns["basis_bps"] = profiles.basis_bps[at]
    return conform(pl.DataFrame(columns).fill_nan(None), CLUSTERS)


def event_frame(
    events: np.ndarray, clusters: np.ndarray, orders: pl.DataFrame | None, *, symbol: str, source: str
) -> pl.DataFrame:
    """Rows of ``CLUSTER_EVENTS`` from the kernel's; ``orders`` None where there is no feed."""
    low, high = lower_edge(clusters["lo"]), lower_edge(clusters["hi"] + 1)
    level, swept = centre(clusters["peak"]), clusters["swept_usdt"]
    whole = swept + events["left_usdt"]
    avail_ms = events["avail_ms"].copy()
    realised, n_prints = np.full(len(events), np.nan), np.full(len(events), NOBODY)
    if orders is not None:
        told = np.isin(events["event"], REALISED_EVENTS)
        avail_ms[told] = np.maximum(avail_ms[told], events["time_ms"][told] + REALISED_WITHIN_MS)
        realised[told], n_prints[told] = _realised(events[told], low[told], high[told], avail_ms[told], orders)
    rows = pl.DataFrame(
        {
            "symbol": pl.repeat(symbol, len(events), dtype=pl.String, eager=True),
            "source": pl.repeat(source, len(events), dtype=pl.String, eager=True),
            "ts": _time(events["time_ms"]),
            "avail_time": _time(avail_ms),
            "event_id": events["event_id"],
            "cluster_id": clusters["id"],
            "side": pl.Series(SIDES).gather(events["side"]),
            "event": pl.Series(NAMES).gather(events["event"]),
            "price_lo": low,
            "price_peak": level,
            "price_hi": high,
            "mass_usd": clusters["mass_usdt"],
            "swept_usd": swept,
            "consumed_frac": np.divide(swept, whole, out=np.full(len(events), np.nan), where=whole > 0.0),
            "realised_usd": realised,
            "n_prints": n_prints,
            "mark": events["mark"],
            "dist_bps": 1e4 * (level / events["mark"] - 1.0),
            "age_s": (events["time_ms"] - clusters["first_ms"]) / 1_000.0,
            "parent_id": events["parent_id"],
        }
    )
    rows = rows.fill_nan(None).with_columns(
        pl.when(pl.col(name) != NOBODY).then(pl.col(name)) for name in ("n_prints", "parent_id")
    )
    return conform(rows, CLUSTER_EVENTS)


def _time(time_ms: np.ndarray) -> pl.Series:
    return pl.Series(time_ms).cast(TIME_MS)


def _realised(events, low, high, avail_ms, orders) -> tuple[np.ndarray, np.ndarray]:
    """Liquidated notional and number of prints inside each cluster, from the start of its bar to a minute after it.

    A print that was heard later than the row may be used does not count.
    """
    time_ms, heard_ms, side, price, quantity = (orders[name].to_numpy() for name in ORDERS)
    start = np.searchsorted(time_ms, events["from_ms"], side="left")
    stop = np.searchsorted(time_ms, events["time_ms"] + REALISED_WITHIN_MS, side="right")
    usdt, n_prints = np.zeros(len(events)), np.zeros(len(events), np.int64)
    for i in range(len(events)):
        near = slice(start[i], stop[i])
        counts = (
            (side[near] == events["side"][i])
            & (price[near] >= low[i])
            & (price[near] <= high[i])
            & (heard_ms[near] <= avail_ms[i])
        )
        usdt[i] = (price[near] * quantity[near])[counts].sum()
        n_prints[i] = counts.sum()
    return usdt, n_prints
