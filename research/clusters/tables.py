"""Maps and clusters as rows of the lake, and back: a heat map takes a byte per bucket instead of four.

A byte is the logarithm of a bucket's mass below the largest bucket of its own row: nothing of other rows is needed, so
no row can know the future. What is read back is within ``MASS_ERROR`` of what was written; what is below the largest
bucket by more than ``DECADES`` reads as nothing.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS, HEATMAP, OI_STATE
from data.table import TIME_MS, Table, conform
from research.clusters.grid import BUCKETS, SIDES
from research.clusters.inputs import REACH, ReadBars
from research.clusters.profiles import Profiles

DECADES = 5.0  # between the largest bucket of a row and the smallest that is kept
_STEPS_PER_DECADE = 254 / DECADES
STALE = "the mark price or open interest was missing or too old"
NO_CLUSTERS = "no clusters"
MASS_ERROR = 10.0 ** (0.5 / _STEPS_PER_DECADE) - 1.0  # 0.0229: half a step, as a fraction of the mass
_STEPS_PER_DOUBLING = 254 / 8  # of leverage, from 1 to 256
LEVERAGE_ERROR = 2.0 ** (0.5 / _STEPS_PER_DOUBLING) - 1.0  # 0.0110, as a fraction


def encode(mass_usdt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masses as bytes and the peak that they are relative to.

    Parameters
    ----------
    mass_usdt : float, shape (..., BUCKETS), zero or more.

    Returns
    -------
    uint8 of the same shape, and float64 of shape (...): the largest bucket, exact, 0 where there is none.
    """
    mass = np.asarray(mass_usdt, np.float64)
    peak = mass.max(axis=-1, initial=0.0)
    share = np.divide(mass, peak[..., None], out=np.zeros_like(mass), where=peak[..., None] > 0.0)
    decades = np.log10(share, out=np.full_like(mass, -np.inf), where=share > 0.0)
    return np.clip(np.rint(255.0 + decades * _STEPS_PER_DECADE), 0.0, 255.0).astype(np.uint8), peak


def decode(codes: np.ndarray, peak_usdt: np.ndarray) -> np.ndarray:
    """The masses of ``encode``, float32, each within ``MASS_ERROR`` of its own, or 0 below ``DECADES``.

    Parameters
    ----------
    codes : uint8, shape (..., BUCKETS).
    peak_usdt : float64, shape (...).
    """
    shares = np.append(0.0, 10.0 ** ((np.arange(1, 256) - 255.0) / _STEPS_PER_DECADE))
    return (shares[codes] * np.asarray(peak_usdt)[..., None]).astype(np.float32)


def encode_leverage(leverage: np.ndarray) -> np.ndarray:
    """Mean leverages from 1 to 256 as bytes, any shape; 0 is NaN."""
    known = np.isfinite(leverage)
    doublings = np.log2(leverage, out=np.zeros(leverage.shape), where=known)
    return np.where(known, np.clip(np.rint(1.0 + doublings * _STEPS_PER_DOUBLING), 1.0, 255.0), 0.0).astype(np.uint8)


def decode_leverage(codes: np.ndarray) -> np.ndarray:
    """The leverages of ``encode_leverage``, float32, each within ``LEVERAGE_ERROR``; NaN where there was none."""
    return np.append(np.nan, 2.0 ** (np.arange(255) / _STEPS_PER_DOUBLING)).astype(np.float32)[codes]


def heatmap_rows(profiles: Profiles, map_id: str, *, venue: str = "aster") -> pl.DataFrame:
    """Two rows of ``HEATMAP`` per snapshot that has a mark, long then short."""
    seen = profiles.rows(np.isfinite(profiles.mark))
    codes, peak = encode(seen.mass_usdt)
    rows = pl.DataFrame(
        {
            **_head(seen, map_id, venue, per_snapshot=2),
            "side": SIDES * len(seen),
            "first_bucket": np.repeat(seen.first_bucket, 2),
            "mark_price": np.repeat(seen.mark, 2),
            "peak_usdt": peak.ravel(),
            "total_usdt": seen.mass_usdt.sum(axis=-1, dtype=np.float64).ravel(),
            "bins": _as_bytes(codes),
            "leverage_bins": None if seen.leverage is None else _as_bytes(encode_leverage(seen.leverage)),
        }
    )
    return conform(rows, HEATMAP)


def stored_profiles(heatmap: pl.DataFrame, oi_state: pl.DataFrame) -> Profiles:
    """The map that the rows of one symbol, source and map tell of.

    Snapshots without a mark have no row of the heat map and are left out; what anchoring masked is not stored.

    Parameters
    ----------
    heatmap : rows of one symbol, source and map; in any order.
    oi_state : rows of the same map; others are left out.

    Raises
    ------
    ValueError
        Without rows, with rows of several maps, or when a snapshot lacks a side or its ``oi_state``.
    """
    own = ["symbol", "source", "map_id", "ts"]
    maps = heatmap.select(own[:-1]).unique()
    if maps.height != 1:
        raise ValueError(f"expected rows of one map, got {maps.height}; filter by symbol, source and map_id first")
    sides = heatmap.sort("ts", "side")  # long before short, as in the alphabet
    values = ["total_oi_usd", "placed_share", "basis_bps", "basis_deviation_bps", "swept_long_usd", "swept_short_usd"]
    snapshots = sides.filter(pl.col("side") == "long").join(
        oi_state.select(*own, "is_stale", pl.col(values).fill_null(np.nan)),
        on=own,
        maintain_order="left",
    )
    if sides.height != 2 * snapshots.height:
        raise ValueError(
            f"expected a long and a short row and one of oi_state per snapshot, got {sides.height} and "
            f"{snapshots.height}; read both tables over the same range"
        )
    is_anchored = snapshots["basis_bps"].is_not_nan().any()
    return Profiles(
        symbol=maps["symbol"][0],
        source=maps["source"][0],
        time_ms=snapshots["ts"].dt.epoch("ms").to_numpy(),
        avail_ms=snapshots["avail_time"].dt.epoch("ms").to_numpy(),
        first_bucket=snapshots["first_bucket"].to_numpy(),
        mass_usdt=decode(_from_bytes(sides["bins"]), sides["peak_usdt"].to_numpy().reshape(-1, 2)),
        mark=snapshots["mark_price"].to_numpy(),
        swept_usdt=snapshots.select("swept_long_usd", "swept_short_usd").to_numpy(),
        open_interest_usdt=snapshots["total_oi_usd"].to_numpy(),
        placed_share=snapshots["placed_share"].to_numpy(),
        is_stale=snapshots["is_stale"].to_numpy(),
        leverage=None if sides["leverage_bins"].has_nulls() else decode_leverage(_from_bytes(sides["leverage_bins"])),
        basis_bps=snapshots["basis_bps"].to_numpy() if is_anchored else None,
        basis_deviation_bps=snapshots["basis_deviation_bps"].to_numpy() if is_anchored else None,
    )


def oi_rows(
    profiles: Profiles,
    bars: ReadBars,
    map_id: str,
    *,
    before_base: float = np.nan,
    ratios: pl.DataFrame | None = None,
    funding: pl.DataFrame | None = None,
    venue: str = "aster",
) -> pl.DataFrame:
    """A row of ``OI_STATE`` per snapshot.

    Parameters
    ----------
    profiles : the map.
    bars : what it was made of, over the same time; where their open interest is unknown, ``oi_base`` is the map's.
    before_base : open interest of the snapshot before the first one, for its ``oi_delta``; NaN where there was none.
    ratios, funding : of one symbol and venue with ``avail_time``, as ``inputs`` reads them; None where there are none.
        What is of more than ``inputs.REACH`` ago counts no more.
    """
    at = np.searchsorted(bars.time_ms, profiles.time_ms, side="right") - 1
    base = _taken(bars.open_interest, at)
    stamped_ms = _taken(np.where(bars.open_interest_ms < 0, np.nan, bars.open_interest_ms), at)
    oi_usdt = profiles.open_interest_usdt
    base = np.where(np.isnan(base), oi_usdt / profiles.mark, base)
    crowd, crowd_source = _crowd(ratios, profiles.avail_ms)
    rows = pl.DataFrame(
        {
            **_head(profiles, map_id, venue),
            "total_oi_usd": oi_usdt,
            "long_oi_usd": oi_usdt,
            "short_oi_usd": oi_usdt,
            "long_short_ratio": crowd,
            "ratio_source": crowd_source,
            "oi_base": base,
            "oi_delta": np.diff(base, prepend=before_base),
            "funding": _as_of(funding, "funding_rate", profiles.avail_ms),
            "taker_buy_share": _taker_buy_share(ratios, profiles.avail_ms),
            "swept_long_usd": profiles.swept_usdt[:, 0],
            "swept_short_usd": profiles.swept_usdt[:, 1],
            "placed_share": profiles.placed_share,
            "mark_price": profiles.mark,
            "basis_bps": profiles.basis_bps,
            "basis_deviation_bps": profiles.basis_deviation_bps,
            "is_stale": profiles.is_stale,
            "age_s": (profiles.time_ms - stamped_ms) / 1_000.0,
        }
    )
    return conform(rows, OI_STATE)


def cluster_rows(clusters: pl.DataFrame, profiles: Profiles, map_id: str, *, venue: str = "aster") -> pl.DataFrame:
    """The clusters of a map as rows of ``CLUSTERS``, and one row that says why for each snapshot that has none.

    So the newest row before a moment is of the newest snapshot before it, and nothing is read as still being there.

    Parameters
    ----------
    clusters : one row per cluster and snapshot; absent columns become null.
    profiles : the snapshots they were found in.
    """
    found = _of_map(clusters, CLUSTERS, map_id, venue).with_columns(
        available=pl.lit(True), reason=pl.lit(None, pl.String)
    )
    snapshots = pl.DataFrame(_head(profiles, map_id, venue) | {"is_stale": profiles.is_stale})
    empty = snapshots.join(found, on="ts", how="anti").select(
        pl.exclude("is_stale"),
        active=pl.lit(False),
        available=pl.lit(False),
        reason=pl.when("is_stale").then(pl.lit(STALE)).otherwise(pl.lit(NO_CLUSTERS)),
    )
    return pl.concat([found, conform(empty, CLUSTERS)]).sort("ts", "cluster_id")


def event_rows(events: pl.DataFrame, map_id: str, *, venue: str = "aster") -> pl.DataFrame:
    """The events of a map as rows of ``CLUSTER_EVENTS``."""
    return _of_map(events, CLUSTER_EVENTS, map_id, venue)


def unavailable_row(
    symbol: str, source: str, map_id: str, at: datetime, reason: str, *, venue: str = "aster"
) -> pl.DataFrame:
    """The one row of ``CLUSTERS`` that says why there is no map."""
    assert reason, "a row that says why needs words"
    row = {
        "venue": venue,
        "symbol": symbol,
        "source": source,
        "map_id": map_id,
        "ts": at.astimezone(UTC),
        "avail_time": at.astimezone(UTC),
        "active": False,
        "calibrated": False,
        "available": False,
        "reason": reason,
    }
    return conform(pl.DataFrame([row]), CLUSTERS)


def _head(profiles: Profiles, map_id: str, venue: str, per_snapshot: int = 1) -> dict[str, pl.Series | list[str]]:
    """The columns that every table of a map begins with."""
    n_rows = len(profiles) * per_snapshot
    texts = {"venue": venue, "symbol": profiles.symbol, "source": profiles.source, "map_id": map_id}
    times = {"ts": profiles.time_ms, "avail_time": profiles.avail_ms}
    return {name: [text] * n_rows for name, text in texts.items()} | {
        name: pl.Series(np.repeat(ms, per_snapshot)).cast(TIME_MS) for name, ms in times.items()
    }


def _of_map(rows: pl.DataFrame, table: Table, map_id: str, venue: str) -> pl.DataFrame:
    return conform(rows.with_columns(venue=pl.lit(venue), map_id=pl.lit(map_id)), table)


def _as_bytes(codes: np.ndarray) -> pl.Series:
    """One text of bytes per snapshot and side."""
    return pl.Series([row.tobytes() for row in codes.reshape(-1, BUCKETS)], dtype=pl.Binary)


def _from_bytes(bins: pl.Series) -> np.ndarray:
    """uint8, shape (n_snapshots, 2, BUCKETS)."""
    return np.frombuffer(b"".join(bins), np.uint8).reshape(-1, 2, BUCKETS)


def _taken(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The values at these rows; NaN before the first."""
    if not len(values):
        return np.full(len(at), np.nan)
    return np.where(at >= 0, values[np.maximum(at, 0)], np.nan)


def _as_of(rows: pl.DataFrame | None, column: str, avail_ms: np.ndarray) -> np.ndarray:
    """The last value that was known at each moment; NaN before the first, and where it is of longer ago than a piece
    of a history reads back."""
    if rows is None or rows.is_empty():
        return np.full(len(avail_ms), np.nan)
    at = np.searchsorted(rows["avail_time"].dt.epoch("ms").to_numpy(), avail_ms, side="right") - 1
    is_recent = _taken(rows["event_time"].dt.epoch("ms").to_numpy(), at) >= avail_ms - REACH // timedelta(
        milliseconds=1
    )
    return np.where(is_recent, _taken(rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy(), at), np.nan)


def _crowd(ratios: pl.DataFrame | None, avail_ms: np.ndarray) -> tuple[np.ndarray, pl.Series]:
    """Longs over shorts, of top traders' positions where known, else of accounts, and which; never of the book."""
    ratio = np.full(len(avail_ms), np.nan)
    named = pl.Series([None] * len(avail_ms), dtype=pl.String)
    if ratios is not None and ratios.height:
        for kind in ("long_short_accounts", "long_short_positions"):
            known = _as_of(ratios.filter(pl.col("kind") == kind), "value", avail_ms)
            ratio = np.where(np.isfinite(known), known, ratio)
            named = named.zip_with(pl.Series(~np.isfinite(known)), pl.Series([f"{ratios['venue'][0]} {kind}"]))
    return ratio, named


def _taker_buy_share(ratios: pl.DataFrame | None, avail_ms: np.ndarray) -> np.ndarray:
    rows = None if ratios is None else ratios.filter(pl.col("kind") == "taker_buy_sell")
    buys_per_sell = _as_of(rows, "value", avail_ms)
    return buys_per_sell / (1.0 + buys_per_sell)
