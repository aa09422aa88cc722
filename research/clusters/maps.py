"""Which map the lake's data allows for a source, from when on, and until when it can be built without waiting.

A map is known by the hash of all that it is made with, so that maps of other settings stand beside each other. What was
told once stays: of a map that was made anew because rows came late, the last one is the current one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from data.config import config_hash
from research.clusters import reactive
from research.clusters.contracts import asset
from research.clusters.hybrid import HybridConfig
from research.clusters.inputs import Unavailable
from research.clusters.profiles import SOURCES
from research.clusters.reactive import SOURCE as FORCE_ORDERS
from research.clusters.tiers import MapConfig, bracket_versions

if TYPE_CHECKING:
    from data.lake import Lake

FORMAT = 1  # of states and of the rows: another number is another map
HYBRID = "hybrid"
SINGLE_SOURCES = (*SOURCES, FORCE_ORDERS)  # in the order in which they are preferred
ALL_SOURCES = (*SINGLE_SOURCES, HYBRID)

_MADE_OF = dict.fromkeys(SOURCES, ("open_interest",)) | {FORCE_ORDERS: ("force_orders",)}
_MARKS = ("mark_klines", "mark_price")
_STALE_MINUTES = {"okx": 75.0}  # its open interest comes once an hour
_WARM_UP = timedelta(days=14)  # before the first mark of aster: positions that are open by then
_SILENT = timedelta(hours=1)  # data that is missing for longer is not waited for
_ON_THE_WAY = timedelta(seconds=3)  # what happened so shortly before the last row may still come
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """What a map is made with; another value of any of these is another map.

    Parameters
    ----------
    every_minutes : from one snapshot to the next.
    top : clusters followed per side.
    horizon_s, min_print_usdt : what confidence is of: a forced order of that size inside the cluster by then.
    half_life_s : of forced orders, in maps of them.
    map : what is assumed about positions.
    hybrid : how sources are put together.
    """

    every_minutes: int = 5
    top: int = 20
    horizon_s: int = 14_400
    min_print_usdt: float = 0.0  # any
    half_life_s: float = float(reactive.HALF_LIFE_S)
    map: MapConfig = field(default_factory=MapConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.every_minutes <= 60 or 60 % self.every_minutes:
            raise ValueError(f"every_minutes: expected a divisor of 60, got {self.every_minutes}")


@dataclass(frozen=True, kw_only=True)
class MapKey:
    """One map.

    Parameters
    ----------
    symbol : as aster calls it.
    source : whose data it is made of.
    venue : where its prices hold: aster, or the source itself where no mark of aster is recorded.
    begin : of its data.
    layers : the maps a hybrid one is made of, which may become more.
    revision : how often it was made anew with rows that had come late.
    """

    symbol: str
    source: str
    venue: str
    begin: datetime
    settings: MapSettings
    layers: tuple["MapKey", ...] = ()
    revision: int = 0

    @property
    def map_id(self) -> str:
        """12 hex digits: a hash of source, venue, beginning, settings and revision."""
        told = {"format": FORMAT} | {name: getattr(self, name) for name in ("source", "venue", "begin", "settings")}
        if self.revision:
            told["revision"] = self.revision
        return config_hash(told)[:12]

    @property
    def revised(self) -> "MapKey":
        """The map that takes its place."""
        return replace(self, revision=self.revision + 1)


def best_source(lake: "Lake", symbol: str) -> str:
    """The first of ``SINGLE_SOURCES`` with data of a symbol; the first of all where none has any."""
    with_data = (name for name in SINGLE_SOURCES if _span(lake, _MADE_OF[name], symbol, _venue_of(name)))
    return next(with_data, SINGLE_SOURCES[0])


def current_map_ids(lake: "Lake", symbol: str) -> list[str]:
    """The maps of a symbol that ``aster clusters`` would build now, with default settings, one per source with data."""
    found = (map_key(lake, symbol, source, MapSettings()) for source in ALL_SOURCES)
    return [made[0].map_id for made in found if not isinstance(made, Unavailable)]


def of_current_maps(frames: Sequence[pl.DataFrame], lake: "Lake", symbol: str) -> Sequence[pl.DataFrame]:
    """The frames without the other maps of a source whose current map is there; other sources keep what they have."""
    maps = pl.concat([frame.select("source", "map_id") for frame in frames]).unique()
    if maps["source"].is_unique().all():
        return frames
    wanted = pl.col("map_id").is_in(current_map_ids(lake, symbol))
    has_one = maps.filter(wanted)["source"]
    return [frame.filter(wanted | ~pl.col("source").is_in(has_one.to_list())) for frame in frames]


def map_key(lake: "Lake", symbol: str, source: str, settings: MapSettings) -> tuple[MapKey, datetime] | Unavailable:
    """The map of a source, and until when all that can change it is stored."""
    if source == HYBRID:
        return _hybrid_key(lake, symbol, settings)
    venue = _venue_of(source)
    data = _span(lake, _MADE_OF[source], symbol, venue)
    if data is None:
        what = "liquidations" if source == FORCE_ORDERS else "open interest"
        return Unavailable(reason=f"no {what} of {symbol} at {venue} in the lake")
    aster = _span(lake, _MARKS, symbol, "aster")
    if venue != "aster" and aster is not None and not (data[0] < aster[1] and aster[0] < data[1]):
        aster = None  # marks of another time say nothing of where this venue's prices were
    priced = (_span(lake, ("klines",), symbol, venue) if venue != "aster" else None) or aster
    if priced is None:
        klines = "" if venue == "aster" else f" and no klines of it at {venue}"
        return Unavailable(reason=f"no mark price of {symbol} at aster{klines} in the lake")
    begin, end = data[0], min(priced[1], aster[1] if aster else priced[1])
    if aster is not None:
        begin = max(begin, aster[0] - _WARM_UP)
    if begin >= end:
        return Unavailable(reason=f"prices of {symbol} end at {end:%Y-%m-%d %H:%M} UTC, before the data of {source}")
    if source != FORCE_ORDERS:
        due = _next_print(lake, symbol, venue)
        if end - _SILENT < due <= end:
            end = minute(due - timedelta(milliseconds=1))
    key = MapKey(
        symbol=symbol,
        source=source,
        venue="aster" if aster is not None else venue,
        begin=begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0),
        settings=_known_settings(lake, symbol, source, settings),
    )
    return _newest(lake, key), end


def minute(moment: datetime) -> datetime:
    """The whole minute, UTC, that a moment lies in."""
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _hybrid_key(lake: "Lake", symbol: str, settings: MapSettings) -> tuple[MapKey, datetime] | Unavailable:
    """The map of all sources that have one on aster's prices; it ends where the first of those still alive does."""
    found = [map_key(lake, symbol, source, settings) for source in SINGLE_SOURCES]
    layers = [made for made in found if not isinstance(made, Unavailable) and made[0].venue == "aster"]
    if not layers:
        missing = "no open interest or liquidations"
        return Unavailable(reason=f"{missing} of {symbol} beside a mark price at aster in the lake")
    newest = max(end for _, end in layers)
    key = MapKey(
        symbol=symbol,
        source=HYBRID,
        venue="aster",
        begin=min(layer.begin for layer, _ in layers),
        settings=settings,
        layers=tuple(layer for layer, _ in layers),
    )
    return _newest(lake, key), min(end for _, end in layers if end > newest - _SILENT)


def _newest(lake: "Lake", key: MapKey) -> MapKey:
    """The last revision of a map that the lake has rows of."""
    stored = lake.sql("SELECT DISTINCT map_id FROM oi_state", symbols=[key.symbol])["map_id"].to_list()
    while key.revised.map_id in stored:
        key = key.revised
    return key


def _known_settings(lake: "Lake", symbol: str, source: str, settings: MapSettings) -> MapSettings:
    """The settings with what is known of the contract and the source."""
    brackets = settings.map.brackets
    if not brackets:
        brackets = bracket_versions(lake.scan("instruments", symbols=[symbol], columns=["event_time", "brackets"]))
    stale_minutes = max(settings.map.stale_after_minutes, _STALE_MINUTES.get(source, 0.0))
    return replace(settings, map=replace(settings.map, brackets=brackets, stale_after_minutes=stale_minutes))


def _venue_of(source: str) -> str:
    return source if source in SOURCES else "aster"


def _span(lake: "Lake", names: Iterable[str], symbol: str, venue: str) -> tuple[datetime, datetime] | None:
    """First moment and last whole minute of the asset in these tables; None without any."""
    found = [
        (span[0], span[1] + _MINUTE if "klines" in name else minute(span[1] - _ON_THE_WAY))
        for name in names
        for other in _contracts(lake, name, symbol)
        if (span := lake.span(name, other, venue))
    ]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None


def _contracts(lake: "Lake", table: str, symbol: str) -> list[str]:
    """What the asset is called in this table, at any venue."""
    return [other for other in lake.symbols(table) if asset(other) == asset(symbol)]


def _next_print(lake: "Lake", symbol: str, venue: str) -> datetime:
    """When the next open interest is due after what is stored; a bar that closes then waits for it."""
    names = [name for name in _contracts(lake, "open_interest", symbol) if lake.span("open_interest", name, venue)]
    last = max(lake.span("open_interest", name, venue)[1] for name in names)
    near = lake.scan("open_interest", symbols=names, start=last - 2 * _SILENT, columns=["event_time"], venue=venue)
    steps = near["event_time"].sort().diff().drop_nulls()
    return last + (steps.median() if steps.len() else _MINUTE)
