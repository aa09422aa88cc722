"""Of which symbols and sources the lake allows maps, and the marks around one."""

from datetime import datetime

import polars as pl

from data.lake import Lake
from research.clusters.inputs import MARKS, Unavailable, marks, source_bars
from research.clusters.lifecycle import marks_of
from research.clusters.maps import ALL_SOURCES, MapKey, MapSettings, map_key


def mapped_sources(lake: Lake, symbol: str) -> tuple[str, ...]:
    """Those of ``ALL_SOURCES`` that a map of a symbol can be made of."""
    found = {source: map_key(lake, symbol, source, MapSettings()) for source in ALL_SOURCES}
    return tuple(source for source, made in found.items() if not isinstance(made, Unavailable))


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
