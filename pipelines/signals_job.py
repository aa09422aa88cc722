"""Signals of many symbols, at one moment or through a range: maps brought up to it, prices always aster's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import polars as pl

from data.lake import Lake
from data.manifest import first_ms
from pipelines.clusters_job import StoredMap, Tell, is_writable, read_map
from research.clusters import inputs, tables
from research.clusters.inputs import Unavailable
from research.clusters.levels import trend
from research.clusters.maps import MapSettings
from research.clusters.signals import Market, Rules, Signal, signal, signal_rows
from research.recorded import epoch_ms, known_ms

_MINUTE = timedelta(minutes=1)
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


def make_past_signals(
    lake: Lake,
    symbols: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    rules: Rules,
    *,
    source: str | None = None,
    settings: MapSettings | None = None,
    progress: Tell | None = None,
) -> dict[str, list[Signal]]:
    """One signal per symbol and snapshot of its map, and their rows in the lake where it can be written.

    Each is made at the moment its snapshot became known and by nothing later: ``make_signals`` of that moment makes
    the same.

    Parameters
    ----------
    start, end : aware, of the moments [start, end); None for the beginning of each map and for now.
    source : whose map; None for the best that a symbol has data of.

    Returns
    -------
    Per symbol its signals in order of time, none where no snapshot became known in the range. A symbol without a map
    has one, of the end of the range, that says why.
    """
    now = datetime.now(UTC)
    end = min(end or now, now)
    made = {}
    for done, symbol in enumerate(symbols, 1):
        made[symbol] = _past_signals(lake, symbol, start, end, rules, source, settings, progress)
        if is_writable(lake):
            lake.append("signals", signal_rows(made[symbol]), origin="signals")
        if progress is not None:
            progress("symbols", done, len(symbols))
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
        return _without_map(symbol, at, rules, source, found)
    return _read(lake, found, at, at, rules).signal(at)


def _past_signals(
    lake: Lake,
    symbol: str,
    start: datetime | None,
    end: datetime,
    rules: Rules,
    source: str | None,
    settings: MapSettings | None,
    progress: Tell | None,
) -> list[Signal]:
    before = None if start is None else start - _READ_BEFORE
    found = read_map(lake, symbol, source, before, end, settings=settings, progress=progress)
    if isinstance(found, Unavailable):
        return [_without_map(symbol, end, rules, source, found)]
    known = found.oi_state["avail_time"]
    moments = [at for at in known if at < end and (start is None or start <= at)]
    made: list[Signal] = []
    for _, of_day in groupby(moments, key=datetime.date):  # the mark stream has a row a second
        day = list(of_day)
        inputs_of_day = _read(lake, found, day[0], day[-1], rules)
        made += map(inputs_of_day.signal, day)
        if progress is not None:
            progress(f"{symbol} signals", len(made), len(moments))
    return made


def _without_map(symbol: str, at: datetime, rules: Rules, source: str | None, found: Unavailable) -> Signal:
    market = Market(symbol=symbol, price=math.nan, at=at, tick_size=math.nan)
    why = tables.unavailable_row(symbol, source or "any", "", at, found.reason)
    return signal(why, market, rules, source=source or "any", map_id="")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Inputs:
    """What the signals of a stretch of time are made of; each of them looks at no more than it would have read alone.

    Parameters
    ----------
    streamed : ``event_time, mark_price, known_ms`` of aster's mark.
    marks : the same by the minute, frame of ``inputs.MARKS``.
    contracts : rows of ``instruments``.
    """

    found: StoredMap
    rules: Rules
    clusters: pl.DataFrame
    oi_state: pl.DataFrame
    streamed: pl.DataFrame
    marks: pl.DataFrame
    contracts: pl.DataFrame

    def signal(self, at: datetime) -> Signal:
        """The signal of one moment of the stretch."""
        key = self.found.key
        crowd = _within(self.oi_state, "ts", at - _READ_BEFORE, at).filter(pl.col("avail_time") <= at).tail(1)
        market = Market(
            symbol=key.symbol,
            price=self._mark_price(at),
            at=at,
            tick_size=_number(self.contracts.filter(pl.col("event_time") <= at).tail(1), "tick_size"),
            long_short_ratio=_number(crowd, "long_short_ratio"),
            ratio_source=crowd["ratio_source"][0] if crowd.height else None,
            trend=self._trend(at),
        )
        clusters = _within(self.clusters, "ts", at - _READ_BEFORE, at)
        return signal(clusters, market, self.rules, source=key.source, map_id=self.found.map_id)

    def _mark_price(self, at: datetime) -> float:
        """Aster's mark price as it was known, a minute old at most; NaN without one."""
        streamed = _within(self.streamed, "event_time", at - _PRICE_AGE, at)
        known = streamed.filter(pl.col("known_ms") <= epoch_ms(at))
        if known.height:
            return known["mark_price"][-1]
        bars = self._minutes(at - 2 * _PRICE_AGE, at)
        recent = bars.filter(pl.col("avail_time").is_between(at - _PRICE_AGE, at))
        return recent["mark_close"][-1] if recent.height else math.nan

    def _trend(self, at: datetime) -> int | None:
        """Prior art's trend, of 5-minute closes of aster's mark; None without marks."""
        bars = self._minutes(at - _trend_reach(self.rules), at)
        if bars.is_empty():
            return None
        known = bars.filter(pl.col("avail_time") <= at, pl.col("ts").dt.minute() % _TREND_MINUTES == 0)
        return trend(
            known["mark_close"].to_numpy(),
            fast_bars=self.rules.trend_fast_bars,
            slow_bars=self.rules.trend_slow_bars,
            band_bps=self.rules.trend_band_bps,
        )

    def _minutes(self, start: datetime, end: datetime) -> pl.DataFrame:
        """The marks of the minutes that open in [start, end)."""
        return _within(self.marks, "ts", start + _MINUTE, end + _MINUTE)


def _read(lake: Lake, found: StoredMap, first: datetime, last: datetime, rules: Rules) -> _Inputs:
    """What the signals from ``first`` to ``last`` are made of."""
    symbol = found.key.symbol
    of_symbol = {"symbols": [symbol], "tail": True, "columns": ["event_time", "mark_price", "recv_time"]}
    streamed = lake.scan("mark_price", start=first - _PRICE_AGE, end=last, **of_symbol)
    minutes = inputs.marks(lake, symbol, first - _trend_reach(rules), last)
    return _Inputs(
        found=found,
        rules=rules,
        clusters=_within(found.clusters, "ts", first - _READ_BEFORE, last),
        oi_state=_within(found.oi_state, "ts", first - _READ_BEFORE, last),
        streamed=streamed.with_columns(known_ms=known_ms()).drop_nulls("mark_price"),
        marks=inputs.MARKS.to_frame() if isinstance(minutes, Unavailable) else minutes,
        contracts=lake.scan("instruments", symbols=[symbol], columns=["event_time", "tick_size"]),
    )


def _trend_reach(rules: Rules) -> timedelta:
    """How far back the trend looks; never less far than the price."""
    return timedelta(minutes=_TREND_SPANS * rules.trend_slow_bars * _TREND_MINUTES)


def _within(rows: pl.DataFrame, time: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of [start, end), as ``Lake.scan`` takes them."""
    return rows.filter(pl.col(time).dt.epoch("ms").is_between(first_ms(start), first_ms(end), closed="left"))


def _number(row: pl.DataFrame, column: str) -> float:
    value = row[column][0] if row.height else None
    return math.nan if value is None else value
