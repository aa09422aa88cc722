"""What maps are made of, read from the lake: bars of a source with its open interest, marks, liquidations, ratios.

Nothing here was known later than its ``avail_ms``: a row counts from its receipt on or, where nobody wrote that down,
from when it would have come. What had not come ``WAIT_MS`` after a bar closed is not waited for.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from data.schema import TIME_MS, TIME_NS, interval_ms
from research.clusters.contracts import asset, units
from research.clusters.profiles import SOURCES, SourceBars
from research.forced_orders import PRINT_DELAY_MS
from research.recorded import PIECE, epoch_ms, event_ms, received_ms

if TYPE_CHECKING:
    from data.lake import Lake

INTERVAL = "1m"
BAR_DELAY_MS = 1_000  # of a closed bar without a receipt time
WAIT_MS = 3_000  # 99 % of final klines came within 2.7 s of their close
STAMP_DELAY_MS = 60_000  # of open interest and funding without a receipt time
# Binance's ratios may carry the start of their five minutes; OKX's were found to be stamped at the end.
RATIO_DELAY_MS = {"okx": STAMP_DELAY_MS, "binance": 300_000 + STAMP_DELAY_MS}
REACH = timedelta(days=1)  # open interest, a ratio or a funding rate from further back counts no more
MILLISECOND = timedelta(milliseconds=1)

_MARK_COLUMNS = ("mark_high", "mark_low", "mark_close")
MARKS = pl.Schema(
    {
        "symbol": pl.String,
        "ts": TIME_MS,  # close of the bar
        "avail_time": TIME_MS,
        "mark_high": pl.Float64,  # USDT
        "mark_low": pl.Float64,
        "mark_close": pl.Float64,
    }
)
_STREAMED = pl.Schema(dict.fromkeys(("close_ms", "known_ms"), pl.Int64) | dict.fromkeys(_MARK_COLUMNS, pl.Float64))
# Summed up where it lies: the stream has a row a second. What came without a receipt was known as it happened.
_MINUTES_OF_MARKS = f"""
    WITH told AS (
        SELECT (epoch_ms(event_time) // {interval_ms(INTERVAL)} + 1) * {interval_ms(INTERVAL)} AS close_ms, *
        FROM mark_price WHERE venue = 'aster' AND mark_price IS NOT NULL
    )
    SELECT close_ms, close_ms + {BAR_DELAY_MS} AS known_ms, max(mark_price) AS mark_high, min(mark_price) AS mark_low,
        arg_max(mark_price, event_time) AS mark_close
    FROM told
    WHERE recv_time IS NULL OR epoch_ns(recv_time) <= (close_ms + {BAR_DELAY_MS}) * 1000000
    GROUP BY close_ms
"""


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """There is no real input, so there is no map; the reason is a sentence."""

    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadBars(SourceBars):
    """Source bars with what stands in for what was not recorded.

    Parameters
    ----------
    open_interest_ms : int64, shape (n_bars,)
        When the open interest was so, UTC ms; -1 where none of the last day is known.
    substituted : sentences on what was taken in place of missing data.
    """

    open_interest_ms: np.ndarray
    substituted: tuple[str, ...] = ()


def source_bars(
    lake: "Lake", symbol: str, source: str, start: datetime, end: datetime, *, begun: bool = False
) -> ReadBars | Unavailable:
    """One-minute bars of a source that open in [start, end), with its open interest as it was known.

    Marks are those of the source: Aster's from mark klines, else from the mark stream. Another venue's klines stand in
    for its mark; before the first of them Aster's own mark does. Bars begin with the first mark.

    Parameters
    ----------
    symbol : as Aster calls it; a source that trades the same asset in another multiple is found as well
        (1000PEPEUSDT, PEPEUSDT), and the bars carry the source's name, prices and units.
    source : one of ``profiles.SOURCES``.
    begun : the range goes on with one before: every minute is a bar, seen or not.

    Raises
    ------
    ValueError
        On an unknown source, a range without a minute, or a time without a zone.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; expected one of {', '.join(SOURCES)}")
    own = _name_at(lake, "open_interest", symbol, source)
    if own is None:
        return Unavailable(reason=f"no open interest of {symbol} at {source} in the lake")
    # a minute more, to know what is new in the first one
    slots = _slots(start - interval_ms(INTERVAL) * MILLISECOND, end)
    if slots.height < 2:
        raise ValueError(f"no minute opens {_told(start, end)}; give a later end")
    prices, substituted = _prices(lake, symbol, own, source, slots)
    seen = np.flatnonzero(np.isfinite(prices["mark_close"].to_numpy()[1:])) + 1
    if not len(seen) and not begun:
        return Unavailable(reason=f"no mark price or klines of {own} at {source} {_told(start, end)}")
    known = _open_interest(lake, own, source, start, end)
    avail_ms = prices["avail_ms"].to_numpy()
    row = np.searchsorted(known["known_ms"].to_numpy(), avail_ms, side="right") - 1
    is_new = np.diff(row) > 0
    # one rule for a range at once and in pieces: each piece reads no further back
    row[_at(known["event_ms"], row, -1) < avail_ms - REACH // MILLISECOND] = -1
    if (row < 0).all() and not begun:
        return Unavailable(reason=f"no open interest of {own} at {source} {_told(start, end)}")
    first = 1 if begun else seen[0]
    return ReadBars(
        symbol=own,
        source=source,
        time_ms=prices["close_ms"].to_numpy()[first:],
        avail_ms=avail_ms[first:],
        mark_high=prices["mark_high"].to_numpy()[first:],
        mark_low=prices["mark_low"].to_numpy()[first:],
        mark_close=prices["mark_close"].to_numpy()[first:],
        volume_usdt=prices["volume_usdt"].to_numpy()[first:],
        open_interest=_at(known["open_interest"], row[first:], np.nan),
        is_new=is_new[first - 1 :],
        open_interest_ms=_at(known["event_ms"], row[first:], -1),
        substituted=substituted,
    )


def marks(lake: "Lake", symbol: str, start: datetime, end: datetime) -> pl.DataFrame | Unavailable:
    """Aster's marks per minute that opens in [start, end), frame of ``MARKS``; no row for a minute nobody saw."""
    bars = _aster_marks(lake, symbol, _slots(start, end))
    if bars.is_empty():
        return Unavailable(reason=f"no mark price of {symbol} at aster {_told(start, end)}")
    named = bars.with_columns(symbol=pl.lit(symbol), ts="close_ms", avail_time="known_ms")
    return named.select(list(MARKS)).cast(MARKS)


def liquidations(lake: "Lake", symbol: str, start: datetime, end: datetime, *, venue: str = "aster") -> pl.DataFrame:
    """Liquidation orders of [start, end) with ``avail_time``, when each was known, ascending by it.

    ``side`` is the order's: SELL closed a long. Empty where none was recorded, which is no proof that none happened.
    """
    rows = lake.scan("force_orders", symbols=[symbol], start=start, end=end, venue=venue)
    return _with_avail_time(rows, PRINT_DELAY_MS)


def ratios(lake: "Lake", symbol: str, source: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows of ``ratios`` that may be known in [start, end), with ``avail_time``, ascending by it.

    Without what was told after something newer of its kind.
    """
    own = _name_at(lake, "ratios", symbol, source) or symbol
    rows = lake.scan("ratios", symbols=[own], start=start - REACH, end=end, venue=source)
    known = _with_avail_time(rows, RATIO_DELAY_MS.get(source, STAMP_DELAY_MS))
    return known.filter(pl.col("event_time") == pl.col("event_time").cum_max().over("kind"))


def funding(lake: "Lake", symbol: str, source: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Settled ``funding`` that may be known in [start, end), with ``avail_time``, ascending by it."""
    own = _name_at(lake, "funding", symbol, source) or symbol
    rows = lake.scan("funding", symbols=[own], start=start - REACH, end=end, venue=source)
    return _with_avail_time(rows.with_columns(recv_time=pl.lit(None, TIME_NS)), STAMP_DELAY_MS)


def _with_avail_time(rows: pl.DataFrame, delay_ms: int) -> pl.DataFrame:
    return rows.with_columns(avail_time=_avail_ms(event_ms(), delay_ms).cast(TIME_MS)).sort(
        "avail_time", maintain_order=True
    )


def _avail_ms(happened_ms: pl.Expr, delay_ms: int) -> pl.Expr:
    """When a row could be used: at its receipt, not before it happened; without one, ``delay_ms`` after that."""
    # A clock that lags receives a row before it happened.
    return (
        pl.when(pl.col("recv_time").is_null())
        .then(happened_ms + delay_ms)
        .otherwise(pl.max_horizontal(received_ms(), happened_ms))
    )


def _name_at(lake: "Lake", table: str, symbol: str, venue: str) -> str | None:
    """What a venue calls the asset in this table: the same name, else another multiple of it."""
    names = [name for name in lake.symbols(table) if asset(name) == asset(symbol)]
    found = [name for name in sorted(names, key=lambda name: name != symbol) if lake.span(table, name, venue)]
    return found[0] if found else None


def _slots(start: datetime, end: datetime) -> pl.DataFrame:
    """The bars that open in [start, end): ``close_ms``."""
    length = interval_ms(INTERVAL)
    first, after = (-(-epoch_ms(moment) // length) * length for moment in (start, end))
    return pl.DataFrame({"close_ms": np.arange(first, after, length) + length})


def _prices(
    lake: "Lake", symbol: str, own: str, source: str, slots: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Per slot ``close_ms, avail_ms, mark_high, mark_low, mark_close, volume_usdt``, NaN where unknown."""
    klines = _klines(lake, "klines", own, source, slots)
    span = lake.span("klines", own, source)
    since_ms = 2**62 if span is None else epoch_ms(span[0]) + interval_ms(INTERVAL)
    if source == "aster":
        marks_known, substituted = _aster_marks(lake, symbol, slots), ()
    else:
        marks_known, substituted = _stand_ins(lake, symbol, own, source, slots, klines, since_ms)
    volume = klines.select(
        "close_ms", volume_usdt=pl.coalesce("quote_volume", pl.col("volume") * pl.col("close")), traded_ms="known_ms"
    )
    bars = slots.join(marks_known, on="close_ms", how="left").join(volume, on="close_ms", how="left").sort("close_ms")
    parts = [pl.col("known_ms"), pl.when(pl.col("close_ms") >= since_ms).then("traded_ms").otherwise("known_ms")]
    bars = bars.with_columns(avail_ms=pl.max_horizontal(part.fill_null(pl.col("close_ms") + WAIT_MS) for part in parts))
    return bars.with_columns(pl.col(pl.Float64).fill_null(np.nan)), substituted


def _stand_ins(
    lake: "Lake", symbol: str, own: str, source: str, slots: pl.DataFrame, klines: pl.DataFrame, since_ms: int
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The prices of a venue whose mark nobody recorded: its own trades from ``since_ms`` on, Aster's mark before."""
    bars = klines.select("close_ms", "known_ms", mark_high="high", mark_low="low", mark_close="close")
    said = []
    if klines.height:
        said.append(f"no mark price of {source} is recorded: high, low and close of its klines stand in")
    early = slots.filter(pl.col("close_ms") < since_ms)
    if early.height:
        multiple = units(own) / units(symbol)
        borrowed = _aster_marks(lake, symbol, early).with_columns(pl.col(*_MARK_COLUMNS) * multiple)
        bars = pl.concat([bars, borrowed.select(bars.columns)])
        if borrowed.height:
            said.append(f"no klines of {source} are recorded to begin with: Aster's mark stands in for its mark")
    return bars, tuple(said)


def _aster_marks(lake: "Lake", symbol: str, slots: pl.DataFrame) -> pl.DataFrame:
    """Bars of Aster's mark: ``close_ms, known_ms`` and prices, for the slots that were seen in time.

    Where a mark kline came later than the stream had told the same, the stream counts: whoever was there used it.
    """
    klines = _klines(lake, "mark_klines", symbol, "aster", slots).select(
        "close_ms", "known_ms", mark_high="high", mark_low="low", mark_close="close"
    )
    prompt = klines.filter(pl.col("known_ms") <= pl.col("close_ms") + BAR_DELAY_MS)
    wanted = slots.join(prompt, on="close_ms", how="anti")
    streamed = _streamed_marks(lake, symbol, wanted)
    late = klines.join(prompt, on="close_ms", how="anti").join(streamed, on="close_ms", how="anti")
    return pl.concat([prompt, streamed, late]).sort("close_ms")


def _klines(lake: "Lake", table: str, symbol: str, venue: str, slots: pl.DataFrame) -> pl.DataFrame:
    """The klines of the slots that came in time, with ``close_ms`` and ``known_ms``."""
    length = interval_ms(INTERVAL)
    start, end = _span(slots)
    close_ms = pl.col("open_time").dt.epoch("ms") + length
    rows = lake.scan(table, symbols=[symbol], start=start, end=end, venue=venue)
    return (
        rows.filter(pl.col("interval") == INTERVAL)
        .with_columns(close_ms=close_ms, known_ms=_avail_ms(close_ms, BAR_DELAY_MS))
        .filter(pl.col("known_ms") <= pl.col("close_ms") + WAIT_MS)
    )


def _streamed_marks(lake: "Lake", symbol: str, slots: pl.DataFrame) -> pl.DataFrame:
    """Bars made of what the mark stream had told ``BAR_DELAY_MS`` after each close; one mark makes a bar."""
    bars = [_STREAMED.to_frame()]
    day = (pl.col("close_ms") - interval_ms(INTERVAL)) // (PIECE // MILLISECOND)
    runs = slots.sort("close_ms").with_columns(run=(day.diff() > 1).fill_null(value=False).cum_sum())
    for _, run in runs.group_by("run"):
        start, end = _span(run)
        told = lake.sql(_MINUTES_OF_MARKS, symbols=[symbol], start=start, end=end)
        bars.append(told.cast(_STREAMED).join(run, on="close_ms", how="semi"))
    return pl.concat(bars)


def _open_interest(lake: "Lake", symbol: str, source: str, start: datetime, end: datetime) -> pl.DataFrame:
    """``event_ms, known_ms, open_interest`` by ``known_ms``, without what was told after something newer."""
    until = end + WAIT_MS * MILLISECOND  # the last bar waits so long
    rows = lake.scan("open_interest", symbols=[symbol], start=start - REACH, end=until, venue=source)
    known = (
        rows.drop_nulls("open_interest")
        .select("open_interest", event_ms=event_ms(), known_ms=_avail_ms(event_ms(), STAMP_DELAY_MS))
        .sort("known_ms", "event_ms")
    )
    return known.filter((pl.col("event_ms") > pl.col("event_ms").cum_max().shift(1)).fill_null(value=True))


def _at(values: pl.Series, row: np.ndarray, before: float) -> np.ndarray:
    """The values at these rows; ``before`` where there is none yet."""
    taken = np.full(len(row), before, values.to_numpy().dtype)
    taken[row >= 0] = values.to_numpy()[row[row >= 0]]
    return taken


def _span(slots: pl.DataFrame) -> tuple[datetime, datetime]:
    """From the first slot's opening to the last one's close."""
    length = interval_ms(INTERVAL)
    first, last = (slots["close_ms"][0] - length, slots["close_ms"][-1]) if slots.height else (0, 0)
    return tuple(datetime.fromtimestamp(0, tz=UTC) + ms * MILLISECOND for ms in (first, last))


def _told(start: datetime, end: datetime) -> str:
    return f"from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
