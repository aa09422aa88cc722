"""From snapshots of clusters to lives: one row per cluster that was ever active, its box and how it ended."""

import polars as pl

from data.table import TIME_MS

ENDS = ("BROKEN", "FADED", "MERGED", "CONSUMED")
LIVES = pl.Schema(
    {
        "cluster_id": pl.Int64,
        "side": pl.String,
        "first": TIME_MS,
        "last": TIME_MS,
        "price_lo": pl.Float64,
        "price_level": pl.Float64,
        "price_hi": pl.Float64,
        "mass_usdt": pl.Float64,  # the largest it ever was
        "now_usdt": pl.Float64,  # when last seen
        "state": pl.String,  # ACTIVE, one of ENDS, or STALE
        "realised_usd": pl.Float64,  # forced orders inside it when it ended; null where nobody counted
    }
)


def cluster_lives(clusters: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster of one map that was ever active, largest first.

    Parameters
    ----------
    clusters : rows of ``data.schema_clusters.CLUSTERS`` of one symbol, source and map.
    events : rows of ``CLUSTER_EVENTS`` of the same; may be empty.

    Returns
    -------
    ``LIVES``. A cluster without an end that is not in the last snapshot, or not active there, is STALE.
    """
    seen = clusters.filter(pl.col("available"), pl.col("cluster_id").is_not_null())
    if seen.is_empty():
        return LIVES.to_frame()
    mass = pl.coalesce(pl.col("open_interest").fill_nan(None), pl.col("mass_src_usd").fill_nan(None))
    lives = (
        seen.sort("ts")
        .group_by("cluster_id")
        .agg(
            pl.col("side").last(),
            pl.coalesce(pl.col("firstSeen").first(), pl.col("ts").first()).alias("first"),
            pl.col("ts").last().alias("last"),
            pl.col("price_lo", "price_level", "price_hi").last(),
            mass.max().alias("mass_usdt"),
            mass.last().alias("now_usdt"),
            pl.col("state").last(),
            pl.col("active").any().alias("was_active"),
            pl.col("active").last().alias("is_active"),
        )
        .filter("was_active")
    )
    ended = (
        events.filter(pl.col("event").is_in(ENDS))
        .sort("event_id")
        .group_by("cluster_id")
        .agg(pl.col("event").last(), pl.col("ts").last().alias("end"), pl.col("realised_usd").last())
    )
    is_live = pl.col("is_active") & (pl.col("last") == seen["ts"].max())
    state = (
        pl.when(pl.col("state").is_in(ENDS))
        .then("state")
        .when(pl.col("event").is_not_null())
        .then("event")
        .otherwise(pl.when(is_live).then(pl.lit("ACTIVE")).otherwise(pl.lit("STALE")))
    )
    return (
        lives.join(ended, on="cluster_id", how="left")
        .with_columns(state.alias("state"), pl.coalesce("end", "last").alias("last"))
        .sort("mass_usdt", descending=True, nulls_last=True)
        .select(LIVES.names())
        .cast(LIVES)
    )
