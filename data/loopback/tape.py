"""What the loopback exchange plays: the rows of a synthetic market or of a recording, each with its delivery.

A row is delivered when it once reached us: at ``recv_time``; where that is null at the time it was sent, happened or,
for a bar, three seconds after its end.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import polars as pl

from data.schema import TABLES
from data.synthetic import MarketSpec, generate

if TYPE_CHECKING:
    from data.lake import Lake

NS_PER_MS = 1_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
BAR_DELAY_MS = 3_000  # from a bar's end to its arrival, where nobody wrote down when it came
STREAMED = ("trades", "raw_trades", "book_ticker", "depth", "mark_price", "force_orders", "klines", "kline_updates")
ASKED = ("mark_klines", "index_klines", "funding", "open_interest")  # by REST only
_BUSY = ("trades", "raw_trades", "book_ticker", "depth", "mark_price", "kline_updates")
_CHUNK_ROWS = 40_000
_LONGEST_CHUNK_MS = HOUR_MS
_RECORDED_CHUNK_MS = 5 * MINUTE_MS
_REMEMBERED = 4  # blocks per busy table and symbol
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Source(Protocol):
    """What there is to play.

    Attributes
    ----------
    symbols : in upper case.
    tables : those that may have rows.
    start, end : UTC, [start, end).
    first_ms : where its history begins, at or before the start.
    chunk_ms : how much of it is made ready at a time.
    """

    symbols: tuple[str, ...]
    tables: tuple[str, ...]
    start: datetime
    end: datetime
    first_ms: int
    chunk_ms: int

    def instruments(self) -> pl.DataFrame:
        """Rows of ``instruments``, all symbols, in order of time."""

    def happened(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        """Rows with the table's time in [from_ms, to_ms), in order, and ``delivered_ns`` (int64): what REST knows."""

    def carried(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        """The same, without rows that the streams never brought."""

    def has_bar_states(self, symbol: str, first_ms: int, last_ms: int) -> bool:
        """Whether ``kline_updates`` were recorded from first to last: then no running bar is made up from trades."""


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class SyntheticSource:
    """A synthetic market. Rows in its holes happened but were never carried: REST knows them, the streams do not."""

    def __init__(self, spec: MarketSpec):
        self.symbols = tuple(symbol.symbol for symbol in spec.symbols)
        self.tables = tuple(name for name in (*STREAMED, *ASKED) if name not in ("raw_trades", "kline_updates"))
        self.start, self.end = spec.start, spec.end
        rows_per_s = 1.5 * spec.trades_per_second + 1 / spec.quote_interval_s
        rows_per_s += 1 / spec.depth_interval_s + 1 / spec.mark_interval_s
        minutes = int(_CHUNK_ROWS / rows_per_s / len(spec.symbols) / 60)
        self.chunk_ms = min(max(minutes, 1) * MINUTE_MS, _LONGEST_CHUNK_MS)
        self.first_ms, self._end_ms = to_ms(spec.start), to_ms(spec.end)
        self._holes = spec.holes
        self._whole = replace(spec, holes=())
        self._blocks = _Blocks(self._load, len(self.symbols))

    def instruments(self) -> pl.DataFrame:
        day = self._whole.dates[0]
        return pl.concat([generate(self._whole, symbol, day)["instruments"] for symbol in self.symbols])

    def happened(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        if table not in self.tables:
            return _delivered(table, TABLES[table].empty())
        first_ms, end_ms = max(from_ms, self.first_ms), min(to_ms, self._end_ms)
        return self._blocks.rows(table, symbol, first_ms, end_ms, DAY_MS)

    def carried(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        rows = self.happened(table, symbol, from_ms, to_ms)
        time = pl.col(TABLES[table].time)
        for hole in self._holes:
            if (hole.table, hole.symbol) == (table, symbol):
                rows = rows.filter((time < hole.start) | (time >= hole.end))
        return rows

    def has_bar_states(self, symbol: str, first_ms: int, last_ms: int) -> bool:
        return False

    def _load(self, table: str, symbol: str, from_ms: int, to_ms: int) -> dict[str, pl.DataFrame]:
        return generate(self._whole, symbol, (_EPOCH + timedelta(milliseconds=from_ms)).date())


class RecordingSource:
    """What a lake holds of some symbols: whatever it has is played, the rest stays silent.

    Parameters
    ----------
    symbols : those to play; None for all that have trades or klines.
    start, end : UTC; None for the first and the last row of trades and klines.
    tables : of ``STREAMED`` and ``ASKED``, those to serve; None for all.

    Raises
    ------
    ValueError
        On an unknown table.
    LookupError
        When the lake has nothing to play.
    """

    def __init__(
        self,
        lake: "Lake",
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        tables: Sequence[str] | None = None,
        venue: str = "aster",
    ):
        unknown = set(tables or ()) - {*STREAMED, *ASKED}
        if unknown:
            raise ValueError(f"tables to play: expected some of {[*STREAMED, *ASKED]}, got {sorted(unknown)}")
        self._lake, self._venue = lake, venue
        self.symbols = tuple(symbols or sorted({*lake.symbols("trades"), *lake.symbols("klines")}))
        has_fills = any(lake.span("raw_trades", symbol, venue) is not None for symbol in self.symbols)
        self.tables = tuple(name for name in tables or (*STREAMED, *ASKED) if has_fills or name != "raw_trades")
        spans = [lake.span(table, symbol, venue) for symbol in self.symbols for table in ("trades", "klines")]
        spans = [span for span in spans if span is not None]
        if not spans and (start is None or end is None):
            raise LookupError(f"nothing to play: the lake has no trades and no klines of {list(self.symbols)}")
        self.start = start or min(first for first, _ in spans)
        self.end = end or max(last for _, last in spans) + timedelta(minutes=1, seconds=BAR_DELAY_MS / 1_000)
        self.first_ms = min(to_ms(first) for first in (self.start, *(first for first, _ in spans)))
        self.chunk_ms = _RECORDED_CHUNK_MS
        self._bar_states = {symbol: lake.span("kline_updates", symbol, venue) for symbol in self.symbols}
        self._blocks = _Blocks(self._load, len(self.symbols))

    def instruments(self) -> pl.DataFrame:
        return self._lake.scan("instruments", symbols=self.symbols, venue=self._venue).sort("event_time")

    def happened(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        if table not in self.tables:
            return _delivered(table, TABLES[table].empty())
        return self._blocks.rows(table, symbol, from_ms, to_ms, HOUR_MS if table in _BUSY else DAY_MS)

    def carried(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        return self.happened(table, symbol, from_ms, to_ms)

    def has_bar_states(self, symbol: str, first_ms: int, last_ms: int) -> bool:
        span = self._bar_states[symbol] if "kline_updates" in self.tables else None
        return span is not None and to_ms(span[0]) <= last_ms and first_ms <= to_ms(span[1]) + MINUTE_MS

    def _load(self, table: str, symbol: str, from_ms: int, to_ms: int) -> dict[str, pl.DataFrame]:
        start, end = (_EPOCH + timedelta(milliseconds=ms) for ms in (from_ms, to_ms))
        return {table: self._lake.scan(table, symbols=[symbol], start=start, end=end, venue=self._venue)}


class _Blocks:
    """Rows of a source, loaded block by block; of busy tables only the last few blocks are remembered."""

    def __init__(self, load: Callable[[str, str, int, int], dict[str, pl.DataFrame]], symbols: int):
        self._load = load
        self._busy: OrderedDict[tuple[str, str, int], pl.DataFrame] = OrderedDict()
        self._quiet: dict[tuple[str, str, int], pl.DataFrame] = {}
        self._limit = _REMEMBERED * len(_BUSY) * symbols

    def rows(self, table: str, symbol: str, from_ms: int, to_ms: int, block_ms: int) -> pl.DataFrame:
        """Rows with the table's time in [from_ms, to_ms)."""
        starts = range(from_ms // block_ms * block_ms, to_ms, block_ms) if from_ms < to_ms else ()
        blocks = [self._block(table, symbol, start, block_ms) for start in starts]
        if not blocks:
            return _delivered(table, TABLES[table].empty())
        time = pl.col(TABLES[table].time).to_physical()
        return pl.concat(blocks).filter((time >= from_ms) & (time < to_ms))

    def _block(self, table: str, symbol: str, start_ms: int, block_ms: int) -> pl.DataFrame:
        store = self._busy if table in _BUSY else self._quiet
        if (table, symbol, start_ms) not in store:
            for name, rows in self._load(table, symbol, start_ms, start_ms + block_ms).items():
                (self._busy if name in _BUSY else self._quiet)[name, symbol, start_ms] = _delivered(name, rows)
            while len(self._busy) > self._limit:
                self._busy.popitem(last=False)
        if table in _BUSY:
            self._busy.move_to_end((table, symbol, start_ms))
        return store[table, symbol, start_ms]


def _delivered(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with ``delivered_ns``, int64."""
    if table in ("klines", "kline_updates"):
        late_ms = MINUTE_MS + BAR_DELAY_MS
        otherwise = [pl.col("sent_time").to_physical(), pl.col("open_time").to_physical() + late_ms]
    else:
        otherwise = [pl.col(TABLES[table].time).to_physical()]
    received = [pl.col("recv_time").to_physical()] if "recv_time" in rows.columns else []
    in_ns = pl.coalesce(*received, *(time * NS_PER_MS for time in otherwise))
    return rows.with_columns(in_ns.cast(pl.Int64).alias("delivered_ns"))
