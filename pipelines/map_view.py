"""A stored map and the market around it, as notebook 02 shows them: one range, minutes of the mark, frozen colours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from data.lake import Lake
from pipelines.cluster_data import mapped_symbols, mark_minutes
from pipelines.clusters_job import StoredMap, read_map
from research.clusters.inputs import Unavailable, liquidations
from research.clusters.maps import MapKey
from research.clusters.profiles import Profiles
from research.clusters.raster import MassScale, both_sides, is_fresh, mass_scale
from research.overlays import Overlay, overlay_lines

SHOWN_DAYS = 30
SCALE_DAYS = 30  # before the range, on which colours are frozen

DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_CLUSTER_COLUMNS = (
    "ts", "cluster_id", "side", "state", "active", "price_level", "price_lo", "price_hi", "dist_bps", "open_interest",
    "mass_src_usd", "leverage_tier", "strength", "zscore", "confidence", "firstSeen", "available",
)  # fmt: skip
_LEAST_SCALE = DAY  # snapshots over less than this before the range say little about what is usual


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for; the parameters of the notebook.

    Parameters
    ----------
    symbol, source : empty for the first that there is.
    start, end : UTC; None for the last ``days`` of the map, and for its end.
    leverage_low, leverage_high : mass whose mean leverage lies outside is left out; 0 is no limit.
    colour : "usdt" or "z".
    overlays : lines over the candles.
    """

    folder: Path
    symbol: str = ""
    source: str = ""
    start: datetime | None = None
    end: datetime | None = None
    days: int = SHOWN_DAYS
    leverage_low: float = 0.0
    leverage_high: float = 0.0
    colour: str = "usdt"
    overlays: tuple[Overlay, ...] = ()

    @property
    def is_filtered(self) -> bool:
        """Whether some leverage is left out."""
        return self.leverage_low > 0.0 or self.leverage_high > 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A map and the market around it, in the range that was asked for as far as there is a map; or why there is none.

    Attributes
    ----------
    reason : a sentence where there is no map; all that follows is None then.
    profiles, scale : snapshots of the range, and what their colours mean.
    bars : minutes of the mark price on the map's own scale, NaN where nobody saw.
    lines : of the overlays, ``research.overlays.LINES``.
    force_orders : None where that stream was never recorded.
    """

    asked: Question
    reason: str = ""
    map: StoredMap | None = None
    profiles: Profiles | None = None
    scale: MassScale | None = None
    bars: pl.DataFrame | None = None
    lines: pl.DataFrame | None = None
    force_orders: pl.DataFrame | None = None
    symbols: tuple[str, ...] = ()


def look(asked: Question, tell: Callable[[str, int, int], None] | None = None) -> Seen:
    """Read a map from the lake, building what is missing of it; a reason where there is no data.

    Parameters
    ----------
    tell : is told (what, done, total) while it is built.

    Raises
    ------
    LookupError
        On a symbol that the lake has no open interest or liquidations of.
    """
    try:
        lake = Lake(asked.folder)
    except LookupError:
        return Seen(asked=asked, reason=f"there is no lake at {asked.folder}")
    there, _ = mapped_symbols(lake)
    if not there:
        return Seen(asked=asked, reason=f"{asked.folder} holds neither open interest nor liquidations of aster")
    symbol = asked.symbol or there[0]
    if symbol not in there:
        raise LookupError(f"no open interest or liquidations of {symbol} in {asked.folder}; it has {', '.join(there)}")
    asked = replace(asked, symbol=symbol)
    source = asked.source or None
    options = {"cluster_columns": _CLUSTER_COLUMNS, "tell_late": True, "progress": tell}
    found = read_map(lake, symbol, source, *_reading(asked), **options)
    if isinstance(found, Unavailable):
        return Seen(asked=asked, reason=found.reason, symbols=there)
    return _cut(lake, asked, found, there)


def _reading(asked: Question) -> tuple[datetime | None, datetime | None]:
    """What is read: the range and the days before it that colours are frozen on."""
    return (None if asked.start is None else asked.start - SCALE_DAYS * DAY), asked.end


def _cut(lake: Lake, asked: Question, found: StoredMap, there: tuple[str, ...]) -> Seen:
    """The range of a map, with the market around it."""
    if found.heatmap.is_empty():
        return Seen(asked=asked, reason="the map has no snapshot in this range", symbols=there)
    profiles, key = found.profiles, found.key
    end = asked.end or moment(profiles.time_ms[-1]) + _MINUTE
    # What lies before the map is no gap in it.
    start = max(asked.start or end - asked.days * DAY, moment(profiles.time_ms[0]))
    first = int(np.searchsorted(profiles.time_ms, _ms(start)))
    before = profiles.rows(slice(max(0, int(np.searchsorted(profiles.time_ms, _ms(start - SCALE_DAYS * DAY)))), first))
    shown = profiles.rows(slice(first, None))
    if not len(shown):
        return Seen(asked=asked, reason="the map has no snapshot in this range", symbols=there)
    is_enough = len(before) and moment(before.time_ms[-1]) - moment(before.time_ms[0]) >= _LEAST_SCALE
    frozen_on = before if is_enough else shown
    if not both_sides(frozen_on)[is_fresh(frozen_on)].any():
        return Seen(asked=asked, reason="no snapshot of this range is fresh and holds mass", symbols=there)
    if shown.leverage is None:
        asked = replace(asked, leverage_low=0.0, leverage_high=0.0)  # nobody knows the leverage behind such a map
    elif asked.is_filtered:
        shown = _of_tiers(shown, asked)
    past = max((overlay.reach for overlay in asked.overlays), default=timedelta(0))
    bars = _bars(lake, key, start - past, min(end, moment(profiles.time_ms[-1])))
    in_range = (pl.col("ts") >= start) & (pl.col("ts") < end)
    return Seen(
        asked=replace(asked, source=key.source),
        map=replace(found, clusters=found.clusters.filter(in_range), events=found.events.filter(in_range)),
        profiles=shown,
        scale=mass_scale(frozen_on),
        bars=bars.filter(pl.col("open_time") >= start.replace(second=0, microsecond=0)),
        lines=overlay_lines(bars, asked.overlays).filter(pl.col("time") >= start),
        force_orders=liquidations(lake, key.symbol, start, end) if lake.span("force_orders", key.symbol) else None,
        symbols=there,
    )


def _of_tiers(shown: Profiles, asked: Question) -> Profiles:
    """The same snapshots without the buckets whose mean leverage is out of bounds."""
    kept = (shown.leverage >= asked.leverage_low) & (shown.leverage <= (asked.leverage_high or np.inf))
    return replace(shown, mass_usdt=np.where(kept, shown.mass_usdt, 0.0).astype(np.float32))


def of_leverage(clusters: pl.DataFrame, asked: Question) -> pl.DataFrame:
    """Clusters whose mean leverage is within bounds; all of them without a filter."""
    if not asked.is_filtered:
        return clusters
    tier = pl.col("leverage_tier").fill_nan(None)
    return clusters.filter(tier.is_between(asked.leverage_low, asked.leverage_high or float("inf")))


def _bars(lake: Lake, key: MapKey, start: datetime, end: datetime) -> pl.DataFrame:
    """Minutes of [start, end) on the map's prices, NaN where nobody saw; the open is the close before."""
    seen = mark_minutes(lake, key, start, end)
    times = seen["ts"].dt.epoch("ms").to_numpy()
    high, low, close = (seen[name].to_numpy() for name in ("mark_high", "mark_low", "mark_close"))
    minute = 60_000
    slots = np.arange(_ms(start) // minute * minute, _ms(end), minute)
    row = (times - minute - slots[0]) // minute
    prices = np.full((3, len(slots)), np.nan)
    inside = (row >= 0) & (row < len(slots))
    prices[:, row[inside]] = np.stack([high, low, close])[:, inside]
    before = np.concatenate([[np.nan], prices[2, :-1]])
    opened = np.where(np.isnan(before), prices[2], before)
    return pl.DataFrame(
        {
            "open_time": slots,
            "open": np.where(np.isnan(prices[2]), np.nan, opened),
            "high": np.fmax(prices[0], opened),
            "low": np.fmin(prices[1], opened),
            "close": prices[2],
        }
    ).with_columns(pl.from_epoch("open_time", time_unit="ms").dt.replace_time_zone("UTC"))


def tick_size(seen: Seen) -> float:
    """Of the contract, or five digits of the price where nobody recorded its rules."""
    instruments = Lake(seen.asked.folder).scan("instruments", symbols=[seen.map.key.symbol], columns=["tick_size"])
    if instruments.height:
        return float(instruments["tick_size"][-1])
    return 10.0 ** (np.floor(np.log10(np.nanmedian(seen.profiles.mark))) - 4)


def moment(time_ms: int) -> datetime:
    """UTC time of milliseconds since 1970."""
    return datetime.fromtimestamp(int(time_ms) / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
