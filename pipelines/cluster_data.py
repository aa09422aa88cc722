"""Which map the lake's data allows for a source, from when on, and until when it can be built without waiting."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl

from data.lake import Lake
from pipelines.cluster_store import MapKey, MapSettings
from research.clusters.contracts import asset
from research.clusters.inputs import MARKS, Unavailable, marks, source_bars
from research.clusters.lifecycle import marks_of
from research.clusters.profiles import SOURCES
from research.clusters.reactive import SOURCE as FORCE_ORDERS
from research.clusters.tiers import bracket_versions

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


def best_source(lake: Lake, symbol: str) -> str:
    """The first of ``SINGLE_SOURCES`` with data of a symbol; the first of all where none has any."""
    with_data = (name for name in SINGLE_SOURCES if _span(lake, _MADE_OF[name], symbol, _venue_of(name)))
    return next(with_data, SINGLE_SOURCES[0])


def mapped_sources(lake: Lake, symbol: str) -> tuple[str, ...]:
    """Those of ``ALL_SOURCES`` that a map of a symbol can be made of."""
    found = {source: map_key(lake, symbol, source, MapSettings()) for source in ALL_SOURCES}
    return tuple(source for source, made in found.items() if not isinstance(made, Unavailable))


def current_map_ids(lake: Lake, symbol: str) -> list[str]:
    """The maps of a symbol that ``aster clusters`` would build now, with default settings, one per source with data."""
    found = (map_key(lake, symbol, source, MapSettings()) for source in SINGLE_SOURCES)
    return [made[0].map_id for made in found if not isinstance(made, Unavailable)]


def mapped_symbols(lake: Lake) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Symbols of which a map could be made, and those of which the lake has only another venue's liquidations.

    Those with open interest come first: a map of liquidations alone shows little.
    """
    opened, ordered = lake.symbols("open_interest"), lake.symbols("force_orders")
    own = [symbol for symbol in ordered if symbol not in opened and lake.span("force_orders", symbol)]
    return (*opened, *own), tuple(symbol for symbol in ordered if symbol not in {*opened, *own})


def mark_minutes(lake: Lake, key: MapKey, start: datetime, end: datetime) -> pl.DataFrame:
    """Minutes of the mark on the map's prices, frame of ``inputs.MARKS``; no row for a minute nobody saw."""
    if key.venue == "aster":
        found = marks(lake, key.symbol, start, end)
    else:
        bars = source_bars(lake, key.symbol, key.source, start, end)
        found = bars if isinstance(bars, Unavailable) else marks_of(bars)
    if isinstance(found, Unavailable):
        return MARKS.to_frame()
    return found.with_columns(pl.lit(key.symbol).alias("symbol")).filter(pl.col("mark_close").is_not_nan())


def map_key(lake: Lake, symbol: str, source: str, settings: MapSettings) -> tuple[MapKey, datetime] | Unavailable:
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
        return Unavailable(reason=f"no mark price of {symbol} at aster and no klines of it at {venue} in the lake")
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
    return key, end


def minute(moment: datetime) -> datetime:
    """The whole minute, UTC, that a moment lies in."""
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _hybrid_key(lake: Lake, symbol: str, settings: MapSettings) -> tuple[MapKey, datetime] | Unavailable:
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
    return key, min(end for _, end in layers if end > newest - _SILENT)


def _known_settings(lake: Lake, symbol: str, source: str, settings: MapSettings) -> MapSettings:
    """The settings with what is known of the contract and the source."""
    brackets = settings.map.brackets
    if not brackets:
        brackets = bracket_versions(lake.scan("instruments", symbols=[symbol], columns=["event_time", "brackets"]))
    stale_minutes = max(settings.map.stale_after_minutes, _STALE_MINUTES.get(source, 0.0))
    return replace(settings, map=replace(settings.map, brackets=brackets, stale_after_minutes=stale_minutes))


def _venue_of(source: str) -> str:
    return source if source in SOURCES else "aster"


def _span(lake: Lake, names: Iterable[str], symbol: str, venue: str) -> tuple[datetime, datetime] | None:
    """First moment and last whole minute of the asset in these tables; None without any."""
    found = [
        (span[0], span[1] + _MINUTE if "klines" in name else minute(span[1] - _ON_THE_WAY))
        for name in names
        for other in _contracts(lake, name, symbol)
        if (span := lake.span(name, other, venue))
    ]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None


def _contracts(lake: Lake, table: str, symbol: str) -> list[str]:
    """What the asset is called in this table, at any venue."""
    return [other for other in lake.symbols(table) if asset(other) == asset(symbol)]


def _next_print(lake: Lake, symbol: str, venue: str) -> datetime:
    """When the next open interest is due after what is stored; a bar that closes then waits for it."""
    names = [name for name in _contracts(lake, "open_interest", symbol) if lake.span("open_interest", name, venue)]
    last = max(lake.span("open_interest", name, venue)[1] for name in names)
    near = lake.scan("open_interest", symbols=names, start=last - 2 * _SILENT, columns=["event_time"], venue=venue)
    steps = near["event_time"].sort().diff().drop_nulls()
    return last + (steps.median() if steps.len() else _MINUTE)
