"""What the liquidation map said when a bar became known: columns beside those of ``research.bars``, one row per bar.

Everything is as of the bar's ``avail_time``: the newest snapshot known by then, the last break known by then, the last
open interest known by then. Prices are the map's own, so that a feature measures them from the bar's own mark. NaN
where nothing is known, where the newest snapshot is older than ``MAX_MAP_AGE`` or says itself that it is blind, and on
a side without a cluster that counts.

A cluster counts while it lives (prior-art 002's "active: intact", as in ``signals``) and from ``LEAST_STRENGTH`` on.
The column ``active`` is not asked for as well: it ranks the same mass among the same past as the strength does, and its
upper fifth would take the place of every threshold below it, prior-art 002's 0.5 and 0.6 among them, and come ten
minutes later. Only a break is told of active clusters alone.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS, OI_STATE
from data.table import Table
from research.clusters.grid import SIDES
from research.clusters.tables import NO_CLUSTERS
from research.recorded import last_known

# Whose map is believed: the first of these that sees anything at the moment.
SOURCES = ("hybrid", "aster", "binance", "hyperliquid", "okx")

MAX_MAP_AGE = timedelta(minutes=15)
BREAK_REACH = timedelta(hours=1)  # older breaks are history
STRONG_WITHIN_BPS = 200.0  # how far the strongest cluster is looked for: prior-art 002's hunting distance
LEAST_STRENGTH = 0.5  # prior-art 002's "strong": weaker ones are filtered out
LIVING = ("CANDIDATE", "ACTIVE", "TOUCHED")
CLEAR_BPS = 20.0  # clusters closer together than this are one wall to a stop behind them

PICKS = ("near", "strong")  # the nearest cluster that counts, the strongest within STRONG_WITHIN_BPS
_OF_CLUSTER = {  # column of the table behind each value of a pick
    "price": "price_level",
    "lo": "price_lo",
    "hi": "price_hi",
    "strength": "strength",
    "usdt": "mass_src_usd",  # on the source venue: its scale is known even where Aster's open interest is not
    "confidence": "confidence",
}

CLUSTER_COLUMNS = pl.Schema(
    {f"{pick}_{side}_{value}": pl.Float64 for pick in PICKS for side in SIDES for value in _OF_CLUSTER}
    | {
        "near_long_far": pl.Float64,  # far edge of the nearest, with living ones of any strength close behind it
        "near_short_far": pl.Float64,
        "break_direction": pl.Float64,  # of the last BROKEN: 1 up through a short cluster, -1 down through a long one
        "break_age_bars": pl.Float64,  # since it became known, in bar lengths
        "break_lo": pl.Float64,  # edges of the broken cluster
        "break_hi": pl.Float64,
        "break_usdt": pl.Float64,  # its mass on the source venue when it broke
        "open_interest": pl.Float64,  # base, one-sided
        "open_interest_usdt": pl.Float64,
        "long_short_ratio": pl.Float64,
        "map_age_ms": pl.Float64,  # of the snapshot
    }
)

_SNAPSHOT = ("source", "ts")


def cluster_columns(
    clusters: pl.DataFrame,
    events: pl.DataFrame,
    oi_state: pl.DataFrame,
    at_ms: np.ndarray,
    *,
    interval_ms: int,
    sources: Sequence[str] = SOURCES,
) -> pl.DataFrame:
    """``CLUSTER_COLUMNS`` at each moment, every number from one source: the first that is not blind then.

    Parameters
    ----------
    clusters, events, oi_state : rows of one symbol, of the tables of ``data.schema_clusters``, in any order. A snapshot
        without any cluster is known by its row of ``oi_state``.
    at_ms : int64, ascending: when each bar became known.
    interval_ms : length of a bar.
    sources : whose maps may be used, the most trusted first.

    Raises
    ------
    ValueError
        When the rows are of several symbols, or a source has maps of several settings.
    """
    given = ((CLUSTERS, clusters), (CLUSTER_EVENTS, events), (OI_STATE, oi_state))
    for table, frame in given:
        _refuse_mixture(table, frame)
    chosen = pl.DataFrame({"is_free": np.ones(len(at_ms), bool), **_nothing(len(at_ms))})
    for source in sources:
        rows = [frame.filter(pl.col("source") == source) for _, frame in given]
        known = _of_source(*rows, at_ms, interval_ms)
        takes = chosen["is_free"] & known["is_seeing"]
        if takes.any():
            columns = (pl.when(takes).then(known[name]).otherwise(chosen[name]).alias(name) for name in CLUSTER_COLUMNS)
            chosen = chosen.select(*columns, is_free=chosen["is_free"] & ~takes)
    return chosen.select(pl.col(list(CLUSTER_COLUMNS)).fill_null(np.nan))


def _of_source(
    clusters: pl.DataFrame, events: pl.DataFrame, oi_state: pl.DataFrame, at_ms: np.ndarray, interval_ms: int
) -> pl.DataFrame:
    """The columns by one source's map, and whether it was seeing anything."""
    snapshot = last_known(_snapshots(clusters, oi_state), at_ms, MAX_MAP_AGE)
    state = last_known(_in_order(oi_state, "ts"), at_ms, MAX_MAP_AGE)
    broken = last_known(_in_order(events.filter(pl.col("event") == "BROKEN"), "event_id"), at_ms, BREAK_REACH)
    return snapshot.select(
        pl.col("^(near|strong)_.*$"),
        is_seeing=~snapshot["is_blind"].fill_null(value=True),
        break_direction=(broken["side"] == "short").cast(pl.Float64) * 2.0 - 1.0,
        # divided by NumPy: polars multiplies by the inverse, which is another number in the last bit
        break_age_bars=pl.Series(broken["age_ms"].cast(pl.Float64).fill_null(np.nan).to_numpy() / interval_ms),
        break_lo=broken["price_lo"],
        break_hi=broken["price_hi"],
        break_usdt=broken["mass_usd"],
        open_interest=state["oi_base"],
        open_interest_usdt=state["total_oi_usd"],
        long_short_ratio=state["long_short_ratio"],
        map_age_ms=snapshot["age_ms"].cast(pl.Float64),
    )


def _snapshots(clusters: pl.DataFrame, oi_state: pl.DataFrame) -> pl.DataFrame:
    """One row per snapshot: known_ms, is_blind and the columns of its clusters."""
    is_empty = pl.col("reason").eq_missing(NO_CLUSTERS)
    is_available = pl.col("available").fill_null(value=False)
    made = pl.concat(
        [
            clusters.select(*_SNAPSHOT, "avail_time", is_blind=~(is_available | is_empty)),
            oi_state.select(*_SNAPSHOT, "avail_time", is_blind=pl.col("is_stale").fill_null(value=False)),
        ]
    )
    made = made.group_by(_SNAPSHOT).agg(pl.col("avail_time").max(), pl.col("is_blind").any())
    living = clusters.filter(is_available, pl.col("state").is_in(LIVING))
    for columns in _picks(living):
        made = made.join(columns, on=_SNAPSHOT, how="left")
    return _in_order(made, "ts")


def _picks(living: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Per pick and side the columns of the snapshots that have one."""
    for side in SIDES:
        outward = -1.0 if side == "long" else 1.0
        near_edge, far_edge = ("price_hi", "price_lo") if side == "long" else ("price_lo", "price_hi")
        # Way from the middle outward in bps, so that one rule serves both sides.
        clusters = living.filter(pl.col("side") == side).with_columns(
            starts=1e4 * outward * pl.col(near_edge).log(), ends=1e4 * outward * pl.col(far_edge).log()
        )
        counted = clusters.filter(pl.col("strength").fill_null(math.nan).is_between(LEAST_STRENGTH, 1.0))
        within = counted.filter(pl.col("dist_bps").abs() <= STRONG_WITHIN_BPS)
        nearest = counted.sort(*_SNAPSHOT, "starts", "ends").group_by(_SNAPSHOT, maintain_order=True).first()
        by_strength = within.sort(*_SNAPSHOT, -pl.col("strength"), "starts")
        strongest = by_strength.group_by(_SNAPSHOT, maintain_order=True).first()
        for pick, rows in zip(PICKS, (nearest, strongest), strict=True):
            yield rows.select(*_SNAPSHOT, **{f"{pick}_{side}_{value}": name for value, name in _OF_CLUSTER.items()})
        yield _walls(clusters, nearest, far_edge).rename({"far": f"near_{side}_far"})


def _walls(clusters: pl.DataFrame, nearest: pl.DataFrame, far_edge: str) -> pl.DataFrame:
    """Far edge of the nearest cluster and of everything that lives behind it without a gap of ``CLEAR_BPS``."""
    from_nearest = nearest.select(*_SNAPSHOT, begins="starts")
    behind = clusters.join(from_nearest, on=_SNAPSHOT).filter(pl.col("ends") >= pl.col("begins"))
    gap = pl.col("starts") - pl.col("ends").cum_max().shift(1)
    is_joined = ((gap > CLEAR_BPS).fill_null(value=False).cum_sum() == 0).over(_SNAPSHOT)
    wall = behind.sort(*_SNAPSHOT, "starts", "ends").filter(is_joined).sort(*_SNAPSHOT, "ends")
    return wall.group_by(_SNAPSHOT, maintain_order=True).agg(far=pl.col(far_edge).last())


def _in_order(rows: pl.DataFrame, then: str) -> pl.DataFrame:
    """The rows in the order they became known, those that came after a newer one left out."""
    ordered = rows.sort("avail_time", then).with_columns(known_ms=pl.col("avail_time").dt.epoch("ms"))
    return ordered.filter(pl.col(then) == pl.col(then).cum_max())


def _nothing(n_rows: int) -> dict[str, np.ndarray]:
    return {name: np.full(n_rows, np.nan) for name in CLUSTER_COLUMNS}


def _refuse_mixture(table: Table, rows: pl.DataFrame) -> None:
    if rows["symbol"].n_unique() > 1:
        symbols = ", ".join(rows["symbol"].unique().sort())
        raise ValueError(f"{table.name}: expected rows of one symbol, got {symbols}; pass those of the bars")
    maps = rows.group_by("source").agg(pl.col("map_id").unique().sort())
    for source, ids in maps.filter(pl.col("map_id").list.len() > 1).iter_rows():
        raise ValueError(
            f"{table.name}: the maps of source {source} were made with {len(ids)} settings, map_id {', '.join(ids)}; "
            "and none of them with the default ones, which would be taken: run `aster clusters` without --config and "
            "--every, or build each into a lake of its own (`aster clusters --lake`)"
        )
