"""Signals of many symbols at one moment: maps brought up to it, prices always aster's."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from data.lake import Lake
from pipelines.clusters_job import Tell, is_writable, read_map
from research.clusters import inputs, tables
from research.clusters.inputs import Unavailable
from research.clusters.levels import trend
from research.clusters.maps import MapSettings
from research.clusters.signals import Market, Rules, Signal, signal, signal_rows
from research.recorded import known_ms

_PRICE_AGE = timedelta(seconds=60)
_READ_BEFORE = timedelta(hours=1)  # of the map: what is older makes no signal
_TREND_MINUTES = 5
_TREND_SPANS = 4  # of the slow mean that are read: what lies further back weighs e**-8


def make_signals(
    lake: Lake,
    symbols: Sequence[str] | None,
    at: datetime | None,
    rules: Rules,
    *,
    source: str | None = None,
    settings: MapSettings | None = None,
    progress: Tell | None = None,
) -> list[Signal]:
    """One signal per symbol, and their rows in the lake where it can be written.

    Parameters
    ----------
    symbols : None for every contract that was trading.
    at : aware, when the decision is made; None for now.
    source : whose map; None for the best that a symbol has data of.
    """
    at = datetime.now(UTC) if at is None else at
    names = list(symbols) if symbols is not None else lake.universe(at)
    if not names:
        raise LookupError(
            f"the lake knows of no contract that was trading at {at:%Y-%m-%d %H:%M} UTC; name some with --symbols, or "
            "run `aster import FILE --format exchange-info`"
        )
    made = []
    for done, symbol in enumerate(names):
        if progress is not None:
            progress("symbols", done, len(names))
        made.append(_signal(lake, symbol, at, rules, source, settings, progress))
    if progress is not None:
        progress("symbols", len(names), len(names))
    if is_writable(lake):
        lake.append("signals", signal_rows(made), origin="signals")
    return made


def _signal(
    lake: Lake,
    symbol: str,
    at: datetime,
    rules: Rules,
    source: str | None,
    settings: MapSettings | None,
    progress: Tell | None,
) -> Signal:
    found = read_map(lake, symbol, source, at - _READ_BEFORE, at, settings=settings, progress=progress)
    if isinstance(found, Unavailable):
        market = Market(symbol=symbol, price=math.nan, at=at, tick_size=math.nan)
        why = tables.unavailable_row(symbol, source or "any", "", at, found.reason)
        return signal(why, market, rules, source=source or "any", map_id="")
    crowd = found.oi_state.filter(pl.col("avail_time") <= at).tail(1)
    market = Market(
        symbol=symbol,
        price=_mark_price(lake, symbol, at),
        at=at,
        tick_size=_tick_size(lake, symbol, at),
        long_short_ratio=_number(crowd, "long_short_ratio"),
        ratio_source=crowd["ratio_source"][0] if crowd.height else None,
        trend=_trend(lake, symbol, at, rules),
    )
    return signal(found.clusters, market, rules, source=found.key.source, map_id=found.map_id)


def _mark_price(lake: Lake, symbol: str, at: datetime) -> float:
    """Aster's mark price as it was known, a minute old at most; NaN without one."""
    span = {"symbols": [symbol], "start": at - _PRICE_AGE, "end": at}
    streamed = lake.scan("mark_price", columns=["event_time", "mark_price", "recv_time"], tail=True, **span)
    known = streamed.filter(known_ms() <= int(at.timestamp() * 1_000)).drop_nulls("mark_price")
    if known.height:
        return known["mark_price"][-1]
    bars = inputs.marks(lake, symbol, at - 2 * _PRICE_AGE, at)
    if isinstance(bars, Unavailable):
        return math.nan
    recent = bars.filter(pl.col("avail_time").is_between(at - _PRICE_AGE, at))
    return recent["mark_close"][-1] if recent.height else math.nan


def _tick_size(lake: Lake, symbol: str, at: datetime) -> float:
    """Of the contract; NaN where its rules are not known."""
    try:
        return lake.instrument(symbol, at)["tick_size"]
    except LookupError:
        return math.nan


def _trend(lake: Lake, symbol: str, at: datetime, rules: Rules) -> int | None:
    """Prior art's trend, of 5-minute closes of aster's mark; None without marks."""
    past = timedelta(minutes=_TREND_SPANS * rules.trend_slow_bars * _TREND_MINUTES)
    bars = inputs.marks(lake, symbol, at - past, at)
    if isinstance(bars, Unavailable):
        return None
    known = bars.filter(pl.col("avail_time") <= at, pl.col("ts").dt.minute() % _TREND_MINUTES == 0)
    return trend(
        known["mark_close"].to_numpy(),
        fast_bars=rules.trend_fast_bars,
        slow_bars=rules.trend_slow_bars,
        band_bps=rules.trend_band_bps,
    )


def _number(row: pl.DataFrame, column: str) -> float:
    value = row[column][0] if row.height else None
    return math.nan if value is None else value
