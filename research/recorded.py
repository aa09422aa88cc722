"""What was recorded around a range: when each row was known, what was missed, what stands in where there is nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from data import schema
from research.jit import njit
from research.tick_fills import MARK_SILENCE_MS

if TYPE_CHECKING:
    from data.lake import Lake

# A quote or mark older than this is not carried, and no further than this around a range is read.
REACH = timedelta(hours=1)
# The last settled funding event; no interval is longer.
FUNDING_REACH = timedelta(days=1)
# How much of a long table is in memory at once.
PIECE = timedelta(days=1)
TRADE_COLUMNS = "agg_trade_id event_time price quantity is_buyer_maker is_ambiguous recv_time"
QUOTE_COLUMNS = "event_time bid_price bid_quantity ask_price ask_quantity recv_time"
FORCED_COLUMNS = "event_time side average_price filled_quantity recv_time"
MARK_COLUMNS = "event_time mark_price index_price funding_rate next_funding_time recv_time"


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """Rows of one symbol, one frame per table of ``data.schema``, time ascending; empty where nothing was recorded.

    Klines of every kind hold one interval only, and ``gaps`` are those of the klines. Trades of which not all are kept
    tell in ``from_id`` what was: the ids from there to their own are complete.
    """

    klines: pl.DataFrame = field(default_factory=schema.KLINES.empty)
    trades: pl.DataFrame = field(default_factory=schema.TRADES.empty)
    quotes: pl.DataFrame = field(default_factory=schema.BOOK_TICKER.empty)
    marks: pl.DataFrame = field(default_factory=schema.MARK_PRICE.empty)
    mark_klines: pl.DataFrame = field(default_factory=schema.MARK_KLINES.empty)
    index_klines: pl.DataFrame = field(default_factory=schema.INDEX_KLINES.empty)
    funding: pl.DataFrame = field(default_factory=schema.FUNDING.empty)
    force_orders: pl.DataFrame = field(default_factory=schema.FORCE_ORDERS.empty)
    instruments: pl.DataFrame = field(default_factory=schema.INSTRUMENTS.empty)
    gaps: pl.DataFrame = field(default_factory=schema.GAPS.empty)

    @property
    def has_funding(self) -> bool:
        """True when a rate is known from either table."""
        return len(self.funding) > 0 or self.marks["funding_rate"].null_count() < len(self.marks)


@dataclass(frozen=True, kw_only=True)
class Substitutions:
    """What stands in for a table of which the lake has no row for the symbol and range. None: nothing does.

    Parameters
    ----------
    spread_ticks : without quotes, a spread of so many ticks around the close.
    mark : "last" takes the last price for mark and index.
    funding_rate_bps, funding_interval_hours : without funding, this rate at every such interval since 00:00 UTC.
        The interval is needed only where the instrument does not tell it.
    """

    spread_ticks: float | None = None
    mark: Literal["last"] | None = None
    funding_rate_bps: float | None = None
    funding_interval_hours: float | None = None

    def __post_init__(self) -> None:
        if self.spread_ticks is not None and not self.spread_ticks >= 0.0:
            raise ValueError(f"substitutions: spread_ticks {self.spread_ticks} is negative; write 0 or more")
        if self.mark not in (None, "last"):
            raise ValueError(f"substitutions: mark {self.mark!r} is unknown; write 'last' or leave it out")
        hours = self.funding_interval_hours
        if hours is not None and not (hours > 0.0 and (24.0 / hours).is_integer()):
            raise ValueError(f"substitutions: funding_interval_hours {hours} does not divide a day; write 8, 4 or 1")

    def funding_times(self, from_ms: int, to_ms: int) -> np.ndarray:
        """When funding is due at the assumed interval, int64 ms: the last time by ``from_ms`` to the first after
        ``to_ms``."""
        every_ms = round(self.funding_interval_hours * 3_600_000)
        return np.arange(from_ms // every_ms * every_ms, to_ms + every_ms, every_ms)

    def in_effect(self, recorded: Recorded) -> "Substitutions":
        """Those that act on these rows: a single recorded row switches its substitution off."""
        has_mark = len(recorded.marks) > 0 or len(recorded.mark_klines) > 0
        return replace(
            self,
            spread_ticks=None if len(recorded.quotes) else self.spread_ticks,
            mark=None if has_mark else self.mark,
            funding_rate_bps=None if recorded.has_funding else self.funding_rate_bps,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What bars of [start, end) are built from, with what lies around the range as far as it matters."""

    lake: "Lake"
    symbol: str
    start: datetime
    end: datetime
    interval: str
    venue: str = "aster"

    @property
    def reach(self) -> timedelta:
        """How far around the range is read."""
        return max(REACH, 2 * timedelta(milliseconds=schema.interval_ms(self.interval)))

    def rows(self, table: str, columns: str, before: timedelta | None = None) -> pl.DataFrame:
        """Rows of the range and around it; ``before`` where more is needed of what came before."""
        start = self.start - (self.reach if before is None else before)
        return self._scan(table, columns, start, self.end + self.reach)

    def pieces(self, table: str, columns: str) -> Iterator[pl.DataFrame]:
        """The same rows in frames of whole slots, one after the other, each at most ``PIECE`` long or one slot."""
        length = timedelta(milliseconds=schema.interval_ms(self.interval))
        step = max(PIECE // length, 1) * length
        span = self.lake.span(table, self.symbol, self.venue)
        if span is None:
            return
        start = max(self.start - self.reach, span[0])
        end = min(self.end + self.reach, span[1] + timedelta(milliseconds=1))
        begun = datetime.fromtimestamp(0, tz=UTC)
        while start < end:
            border = begun + ((start - begun) // step + 1) * step
            yield self._scan(table, columns, start, min(border, end))
            start = border

    def all_but_the_long(self) -> Recorded:
        """Everything but trades, quotes and marks."""
        return Recorded(
            klines=self._klines("klines", "volume quote_volume trade_count taker_buy_volume"),
            mark_klines=self._klines("mark_klines", ""),
            index_klines=self._klines("index_klines", ""),
            funding=self.rows("funding", "event_time funding_rate interval_hours", FUNDING_REACH),
            force_orders=self.rows("force_orders", FORCED_COLUMNS),
            instruments=self.lake.scan(
                "instruments", symbols=[self.symbol], end=self.end + self.reach, venue=self.venue
            ),
            gaps=self.lake.scan("gaps", symbols=[self.symbol], venue=self.venue).filter(
                pl.col("table") == "klines", pl.col("interval") == self.interval
            ),
        )

    def _klines(self, table: str, columns: str) -> pl.DataFrame:
        return self.rows(table, f"interval open_time open high low close recv_time source {columns}").filter(
            pl.col("interval") == self.interval
        )

    def _scan(self, table: str, columns: str, start: datetime, end: datetime) -> pl.DataFrame:
        return self.lake.scan(
            table, symbols=[self.symbol], start=start, end=end, columns=columns.split(), venue=self.venue
        )


def read_recorded(
    lake: "Lake", symbol: str, start: datetime, end: datetime, *, interval: str, venue: str = "aster"
) -> Recorded:
    """Everything bars of [start, end) are built from."""
    reading = Reading(lake=lake, symbol=symbol, start=start, end=end, interval=interval, venue=venue)
    return replace(
        reading.all_but_the_long(),
        trades=reading.rows("trades", TRADE_COLUMNS),
        quotes=reading.rows("book_ticker", QUOTE_COLUMNS),
        marks=reading.rows("mark_price", MARK_COLUMNS),
    )


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970; refuses a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; pass UTC, such as datetime(2025, 11, 28, tzinfo=UTC)")
    return (moment - datetime.fromtimestamp(0, tz=moment.tzinfo)) // timedelta(milliseconds=1)


def received_ms() -> pl.Expr:
    """``recv_time`` in whole milliseconds, rounded up: nothing is known before it arrived."""
    return (pl.col("recv_time").dt.epoch("ns") + 999_999) // 1_000_000


def known_ns() -> pl.Expr:
    """When a row became known, in nanoseconds: its receipt, or the event's own time where none was recorded."""
    return pl.coalesce(pl.col("recv_time").dt.epoch("ns"), event_ms() * 1_000_000)


def known_ms() -> pl.Expr:
    """When a row became known: its receipt, or the event's own time where none was recorded."""
    return pl.coalesce(received_ms(), event_ms())


def event_ms() -> pl.Expr:
    """``event_time`` in milliseconds."""
    return pl.col("event_time").dt.epoch("ms")


def by_known_time(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows in the order they became known, with that time as ``known_ms``."""
    return frame.sort(known_ns(), maintain_order=True).with_columns(known_ms=known_ms())


def known_marks(recorded: Recorded, length_ms: int) -> pl.DataFrame:
    """Mark and index by known time: the recorded stream, and every mark kline as one value known at its close."""
    index = recorded.index_klines.select("open_time", index_price="close")
    closes = (
        recorded.mark_klines.join(index, on="open_time", how="left")
        .with_columns(event_time=pl.col("open_time").dt.offset_by(f"{length_ms}ms"), mark_price="close")
        .select("event_time", "mark_price", "index_price", "recv_time")
    )
    return by_known_time(pl.concat([closes, recorded.marks.select(closes.columns)]))


def last_known(rows: pl.DataFrame, at_ms: np.ndarray, max_age: timedelta) -> pl.DataFrame:
    """Per moment the last row known by then and its ``age_ms``; nulls where there is none or it is too old.

    Parameters
    ----------
    rows : any columns and ``known_ms``, ascending.
    at_ms : int64, ms.
    """
    row = np.searchsorted(rows["known_ms"].to_numpy(), at_ms, side="right") - 1
    moments = pl.DataFrame({"row": row, "at_ms": at_ms})
    found = moments.join(rows.with_columns(row=pl.int_range(pl.len())), on="row", how="left", maintain_order="left")
    age_ms = pl.col("at_ms") - pl.col("known_ms")
    is_old = age_ms > max_age // timedelta(milliseconds=1)
    return found.with_columns(age_ms=age_ms).with_columns(pl.when(~is_old).then(pl.all()))


@dataclass(frozen=True, eq=False)
class Track:
    """Prices in time order and the stretches in which some may be missing.

    Attributes
    ----------
    time_ms : int64, ascending.
    price : float64.
    hole_from_ms, hole_to_ms : int64, the last price seen before a hole and the first one after it, by start; the end
        is the latest of all holes so far.
    """

    time_ms: np.ndarray
    price: np.ndarray
    hole_from_ms: np.ndarray
    hole_to_ms: np.ndarray

    def is_seen(self, from_ms: np.ndarray, to_ms: np.ndarray) -> np.ndarray:
        """True where nothing of [from, to) can be missing: seen before it, after it, and no hole touches it."""
        if not len(self.time_ms):
            return np.zeros(len(from_ms), dtype=bool)
        hole = np.searchsorted(self.hole_from_ms, to_ms, side="left") - 1
        reaches_in = np.zeros(len(from_ms), dtype=bool)
        if len(self.hole_from_ms):
            reaches_in = (hole >= 0) & (self.hole_to_ms[hole] >= from_ms)
        return (self.time_ms[0] < from_ms) & (self.time_ms[-1] >= to_ms) & ~reaches_in

    def rows_of(self, from_ms: np.ndarray, to_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per window the first row in it and the first row after it."""
        return np.searchsorted(self.time_ms, from_ms, side="left"), np.searchsorted(self.time_ms, to_ms, side="left")

    def ohlc(self, from_ms: np.ndarray, to_ms: np.ndarray) -> np.ndarray:
        """Open, high, low and close per window, shape (4, n_windows).

        A window without a price is flat at the last one before it; NaN where the window was not seen in full.
        """
        return window_ohlc(self.price, *self.rows_of(from_ms, to_ms), self.is_seen(from_ms, to_ms))


def counted_trades(trades: pl.DataFrame) -> pl.DataFrame:
    """The trades that count: an ambiguous one may repeat fills of an aggregate that is there already."""
    return trades.filter(~pl.col("is_ambiguous").fill_null(value=False))


def trade_track(trades: pl.DataFrame) -> Track:
    """Prices of ``counted_trades``; a hole is where their consecutive ids have one."""
    time_ms, ids = trades["event_time"].dt.epoch("ms").to_numpy(), trades["agg_trade_id"].to_numpy()
    from_id = trades["from_id"].to_numpy() if "from_id" in trades.columns else ids
    by_id = np.argsort(ids, kind="stable")
    before = np.flatnonzero(from_id[by_id[1:]] - ids[by_id[:-1]] > 1)
    ends = np.sort(np.stack([time_ms[by_id[before]], time_ms[by_id[before + 1]]]), axis=0)
    return _track(time_ms, trades["price"], ends)


def mark_track(marks: pl.DataFrame) -> Track:
    """Marks by known time; a hole is a silence longer than ``MARK_SILENCE_MS``."""
    known = by_known_time(marks.drop_nulls("mark_price"))
    time_ms = known["known_ms"].to_numpy()
    before = np.flatnonzero(np.diff(time_ms) > MARK_SILENCE_MS)
    return _track(time_ms, known["mark_price"], np.stack([time_ms[before], time_ms[before + 1]]))


def _track(time_ms: np.ndarray, price: pl.Series, holes: np.ndarray) -> Track:
    hole_from, hole_to = holes[:, np.argsort(holes[0], kind="stable")]
    return Track(time_ms, price.to_numpy(writable=True), hole_from, np.maximum.accumulate(hole_to))


@njit
def window_ohlc(price, first, after, is_seen):
    """Open, high, low and close per window of the rows [first, after), shape (4, n_windows); NaN where not seen."""
    ohlc = np.full((4, len(first)), np.nan)
    for i in range(len(first)):
        if not is_seen[i]:
            continue
        if first[i] == after[i]:
            ohlc[:, i] = price[first[i] - 1]
            continue
        high = low = price[first[i]]
        for row in range(first[i] + 1, after[i]):
            high = max(high, price[row])
            low = min(low, price[row])
        ohlc[0, i], ohlc[1, i], ohlc[2, i], ohlc[3, i] = price[first[i]], high, low, price[after[i] - 1]
    return ohlc
