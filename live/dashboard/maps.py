"""Liquidation maps as the lake has them: clusters with filters, the best one, the picture. Nothing is built here.

`aster clusters` and the nightly job build maps; whoever asks for one that is not there is told so.
"""

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl

from data.lake import Lake
from research.clusters.grid import BUCKETS, lower_edge
from research.clusters.inputs import Unavailable, liquidations, marks
from research.clusters.profiles import Profiles
from research.clusters.raster import MassScale, both_sides, coarser, is_fresh, mass_scale, raster
from research.clusters.signals import INTACT
from research.clusters.tables import stored_profiles
from research.thin import merge_candles

PREFERRED = ("aster", "binance", "hyperliquid", "okx", "force_orders", "hybrid")
_COLUMNS_MS = tuple(minutes * 60_000 for minutes in (5, 10, 15, 30, 60, 120, 240))
_MOST_COLUMNS, _MOST_ROWS = 480, 150
_MOST_MARKS = 80
_SCALE_DAYS = 30
_SCALE_MINUTES = 30
_LEAST_SNAPSHOTS = 4
UNSEEN = 255  # class of a column in which nobody listened
_OWN = ("source", "map_id", "ts")
_WORDS = ("symbol", "source")
_DAY = timedelta(days=1)
_SNAPSHOTS_BEFORE = timedelta(hours=2)
_TOLD = (
    "cluster_id", "side", "state", "active", "price_level", "price_lo", "price_hi", "distance_from_price", "dist_bps",
    "open_interest", "mass_src_usd", "leverage_tier", "liquidation_count", "strength", "zscore", "confidence",
    "p_touch", "p_liq_touch", "calibrated", "firstSeen", "lastSeen", "last_updated",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which clusters are wanted (prior-art 002's filters); the defaults leave all that are intact."""

    side: Literal["long", "short"] | None = None
    min_strength: float = 0.0
    max_distance: float = 100.0  # per cent of the mark, the unit of prior art
    min_open_interest: float = 0.0
    min_leverage: float = 0.0
    max_leverage: float = 1_000.0
    active: bool | None = None
    is_intact: bool = True


def symbols(lake: Lake) -> list[str]:
    """Symbols that the lake has a map of."""
    return lake.symbols("heatmap")


def clusters(lake: Lake, symbol: str, source: str | None, filters: Filters) -> dict[str, Any]:
    """The clusters of the newest snapshot that pass, strongest first; a reason where there is no map."""
    found = _newest(lake, symbol, source)
    if isinstance(found, str):
        return {"symbol": symbol, "available": False, "reason": found, "count": 0, "clusters": []}
    first = found.row(0, named=True)
    state = _state(lake, symbol, first)
    passed = found.filter(_condition(filters)).sort("strength", "open_interest", descending=True, nulls_last=True)
    rows = passed.select(_TOLD).fill_nan(None).to_dicts()
    return {
        "symbol": symbol,
        "available": bool(first["available"]) or first["reason"] is None,
        "reason": first["reason"],
        "source": first["source"],
        "venue": first["venue"],
        "map_id": first["map_id"],
        "ts": first["ts"],
        "avail_time": first["avail_time"],
        "current_price": None if state is None else state["mark_price"],
        "placed_share": None if state is None else state["placed_share"],
        "count": len(rows),
        "clusters": rows,
    }


def _condition(filters: Filters) -> pl.Expr:
    """What a cluster must be; of an unknown leverage or open interest nobody can say that it is too much."""
    at_risk = pl.coalesce("open_interest", "mass_src_usd").fill_nan(None).fill_null(0.0)
    leverage = pl.col("leverage_tier").fill_nan(None)
    wanted = [
        pl.col("available"),
        pl.col("strength").fill_nan(0.0) >= filters.min_strength,
        pl.col("distance_from_price") <= filters.max_distance,
        at_risk >= filters.min_open_interest,
        leverage.is_null() | leverage.is_between(filters.min_leverage, filters.max_leverage),
    ]
    if filters.side is not None:
        wanted.append(pl.col("side") == filters.side)
    if filters.active is not None:
        wanted.append(pl.col("active") == filters.active)
    if filters.is_intact:
        wanted.append(pl.col("state").is_in(INTACT))
    return pl.all_horizontal(wanted)


def _newest(lake: Lake, symbol: str, source: str | None) -> pl.DataFrame | str:
    """Rows of the last snapshot of a map, or why there is none."""
    last = lake.span("clusters", symbol)
    if last is None:
        return f"the lake has no map of {symbol}; run `aster clusters --symbol {symbol}`"
    rows = lake.scan("clusters", symbols=[symbol], start=last[1] - _SNAPSHOTS_BEFORE)
    rows = rows.filter(pl.col("source") == _source(rows["source"].unique().to_list(), source))
    if rows.is_empty():
        return f"the lake has no recent map of {symbol} from {source}; run `aster clusters --source {source}`"
    newest = rows.filter(pl.col("ts") == pl.col("ts").max())
    return newest.filter(pl.col("map_id") == newest["map_id"][-1])


def _source(there: Sequence[str], asked: str | None) -> str | None:
    return asked or next((source for source in PREFERRED if source in there), None)


def _state(lake: Lake, symbol: str, cluster: dict[str, Any]) -> dict[str, Any] | None:
    """The row of ``oi_state`` of a snapshot; NaN as None."""
    at = cluster["ts"]
    rows = lake.scan("oi_state", symbols=[symbol], start=at, end=at + timedelta(milliseconds=1))
    rows = rows.filter(pl.col("map_id") == cluster["map_id"], pl.col("source") == cluster["source"])
    return rows.fill_nan(None).row(0, named=True) if rows.height else None


def open_interest(lake: Lake) -> list[dict[str, Any]]:
    """The last row of ``oi_state`` of each symbol, of the source that is preferred."""
    told = []
    for symbol in lake.symbols("oi_state"):
        found = _newest(lake, symbol, None)
        state = None if isinstance(found, str) else _state(lake, symbol, found.row(0, named=True))
        if state is not None:
            told.append(state)
    return told


def picture(lake: Lake, symbol: str, source: str | None, days: float) -> dict[str, Any]:
    """A map of the last days as a picture small enough for a page: colour classes by price row and time column.

    Returns
    -------
    classes : base64 of bytes, row by row from the lowest price: 0 nothing, 1 to 6 the classes of ``edges_usdt``, 255
        not seen. candles : time (ms), open, high, low, close of the mark. marks : time (ms), price, USDT and whether
        longs were closed, of liquidations, those of one column and side together.
    """
    last = lake.span("heatmap", symbol)
    if last is None:
        return {"symbol": symbol, "available": False, "reason": f"the lake has no map of {symbol}; "
                f"run `aster clusters --symbol {symbol}`"}  # fmt: skip
    end = last[1] + timedelta(milliseconds=1)
    start = end - days * _DAY
    heads = lake.scan("heatmap", symbols=[symbol], start=start, columns=[*_OWN, "first_bucket", "mark_price"])
    heads = heads.filter(pl.col("source") == _source(heads["source"].unique().to_list(), source))
    if heads.is_empty():
        return {"symbol": symbol, "available": False, "reason": f"no snapshot from {source} in the last {days:g} days"}
    heads = heads.filter(pl.col("map_id") == heads["map_id"][-1])
    own = _Map(symbol=symbol, source=heads["source"][0], map_id=heads["map_id"][0])
    states = own.rows(lake, "oi_state", start, end).select("ts", "is_stale", "placed_share")
    fresh = heads.join(states, on="ts").filter(~pl.col("is_stale"))
    midnight = last[1].replace(hour=0, minute=0, second=0, microsecond=0)
    scale = _frozen_scale(lake, own, midnight - _SCALE_DAYS * _DAY, midnight) or _frozen_scale(lake, own, start, end)
    if fresh.is_empty() or scale is None:
        return {"symbol": symbol, "available": False, "reason": "no snapshot of this range is fresh and holds mass"}
    low, high = _shown(fresh)
    while (high - low) / scale.row_usdt > _MOST_ROWS:
        scale = coarser(scale)
    low = math.floor(low / scale.row_usdt) * scale.row_usdt
    first_ms, last_ms = (round(heads["ts"][at].timestamp() * 1e3) for at in (0, -1))
    column_ms = next((one for one in _COLUMNS_MS if (last_ms - first_ms) / one < _MOST_COLUMNS), _COLUMNS_MS[-1])
    start_ms = first_ms // column_ms * column_ms
    cells = np.full((math.ceil((high - low) / scale.row_usdt), (last_ms - start_ms) // column_ms + 1), np.nan, "f4")
    for profiles in own.days(lake, heads["ts"][0], end):
        drawn = raster(
            profiles, low_usdt=low, rows=len(cells), row_usdt=scale.row_usdt, column_ms=column_ms
        )  # fmt: skip
        place = (drawn.start_ms - start_ms) // column_ms
        part = cells[:, place : place + drawn.values.shape[1]]
        np.fmax(part, drawn.values, out=part)
    classes = np.searchsorted(np.array(scale.edges_usdt), np.nan_to_num(cells), side="right").astype(np.uint8)
    classes[:, np.isnan(cells).all(axis=0)] = UNSEEN
    return {
        "symbol": symbol,
        "available": True,
        "reason": None,
        "source": own.source,
        "map_id": own.map_id,
        "until": last[1],
        "start_ms": start_ms,
        "column_ms": column_ms,
        "columns": cells.shape[1],
        "rows": cells.shape[0],
        "low_usdt": float(low),
        "row_usdt": scale.row_usdt,
        "edges_usdt": list(scale.edges_usdt),
        "classes": base64.b64encode(np.ascontiguousarray(classes).tobytes()).decode(),
        "placed_share": fresh["placed_share"].fill_nan(None).median(),
        "candles": _candles(lake, symbol, start, end),
        "marks": _marks(lake, symbol, start, end, column_ms),
    }


@dataclass(frozen=True, kw_only=True)
class _Map:
    """One map of the lake."""

    symbol: str
    source: str
    map_id: str

    def rows(self, lake: Lake, table: str, start: datetime, end: datetime) -> pl.DataFrame:
        """Its rows of [start, end)."""
        rows = lake.scan(table, symbols=[self.symbol], start=start, end=end)
        return rows.filter(pl.col("source") == self.source, pl.col("map_id") == self.map_id)

    def days(self, lake: Lake, start: datetime, end: datetime, every_minutes: int = 1) -> Iterator[Profiles]:
        """Its snapshots day by day, as a month of them at once takes more memory than everything else here together."""
        while start < end:
            until = min(end, start.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY)
            rows = self.rows(lake, "heatmap", start, until).filter(pl.col("ts").dt.minute() % every_minutes == 0)
            if rows.height:
                yield stored_profiles(rows, self.rows(lake, "oi_state", start, until))
            start = until


@lru_cache(maxsize=16)
def _frozen_scale(lake: Lake, own: _Map, start: datetime, end: datetime) -> MassScale | None:
    """What colours mean, from a snapshot every half hour; None where there are too few of them."""
    days = list(own.days(lake, start, end, _SCALE_MINUTES))
    if sum(map(len, days)) < _LEAST_SNAPSHOTS:
        return None
    shared = [field.name for field in fields(Profiles) if getattr(days[0], field.name) is not None]
    columns = {name: np.concatenate([getattr(day, name) for day in days]) for name in shared if name not in _WORDS}
    whole = Profiles(symbol=own.symbol, source=own.source, **{**columns, "leverage": None})
    return mass_scale(whole) if both_sides(whole)[is_fresh(whole)].any() else None


def _shown(fresh: pl.DataFrame) -> tuple[float, float]:
    """The prices to show: the mark's way and some more on both sides, 7 per cent or more, but no more than was seen."""
    low, high = fresh["mark_price"].min(), fresh["mark_price"].max()
    margin = max(0.6 * (high - low), 0.07 * high)
    buckets = fresh["first_bucket"]
    seen = float(lower_edge(buckets.min())), float(lower_edge(buckets.max() + BUCKETS))
    return max(seen[0], low - margin), min(seen[1], high + margin)


def _candles(lake: Lake, symbol: str, start: datetime, end: datetime) -> list[list[float]]:
    found = marks(lake, symbol, start, end)
    if isinstance(found, Unavailable):
        return []
    close = pl.col("mark_close").fill_nan(None)
    opened = pl.coalesce(close.shift(1), close)
    bars = found.filter(pl.col("ts").is_between(start, end)).select(
        (pl.col("ts") - pl.duration(minutes=1)).alias("open_time"),
        opened.alias("open"),
        pl.max_horizontal("mark_high", opened).alias("high"),
        pl.min_horizontal("mark_low", opened).alias("low"),
        close.alias("close"),
    ).drop_nulls()  # fmt: skip
    if bars.height < 2:
        return []
    candles, _ = merge_candles(bars, 240)
    times = candles["open_time"].dt.epoch("ms").to_list()
    prices = candles.select("open", "high", "low", "close").rows()
    return [[time_ms, *(round(price, 8) for price in row)] for time_ms, row in zip(times, prices, strict=True)]


def _marks(lake: Lake, symbol: str, start: datetime, end: datetime, column_ms: int) -> list[list[float | bool]]:
    """The largest sums of liquidations."""
    if lake.span("force_orders", symbol) is None:
        return []
    usdt = pl.col("average_price") * pl.col("filled_quantity")
    mean_price = (pl.col("average_price") * pl.col("usdt")).sum() / pl.col("usdt").sum()
    sums = (
        liquidations(lake, symbol, start.astimezone(UTC), end)
        .with_columns(usdt.alias("usdt"), (pl.col("side") == "SELL").alias("closed_long"))
        .filter(pl.col("usdt") > 0.0)
        .group_by(pl.col("event_time").dt.epoch("ms") // column_ms, "closed_long")
        .agg(pl.col("usdt").sum(), mean_price.alias("at"))
        .top_k(_MOST_MARKS, by="usdt")
        .sort("event_time")
    )
    return [
        [(slot + 0.5) * column_ms, at, usdt, closed_long]
        for slot, at, usdt, closed_long in sums.select("event_time", "at", "usdt", "closed_long").iter_rows()
    ]
