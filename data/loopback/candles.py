"""Bars as REST answers them: any interval from minutes, the running one last."""

from collections.abc import Mapping

import polars as pl

from data.loopback import bars, wire
from data.loopback.tape import DAY_MS, MINUTE_MS, Source
from data.loopback.wire import Decimals
from data.table import TIME_MS, interval_ms

_MONTH_MS = 31 * DAY_MS
_POINTS_PER_MINUTE = 60  # of the mark and index price: one a second
_OHLC = ("open", "high", "low", "close")
_SUMS = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume", "trade_count")
_PRICES = {"mark_klines": "mark_price", "index_klines": "index_price"}


class Candles:
    """Answers to klines, markPriceKlines and indexPriceKlines: ``table`` is klines, mark_klines or index_klines."""

    def __init__(self, source: Source, decimals: Mapping[str, Decimals]):
        self._source, self._decimals = source, decimals

    def klines(
        self,
        now_ms: int,
        table: str,
        symbol: str,
        interval: str,
        *,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
    ) -> list[str]:
        """One JSON array per bar that opens in [start_ms, end_ms], oldest first; without a start the newest ones."""
        last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        length_ms = _MONTH_MS if interval == "1M" else interval_ms(interval)
        decimals = self._decimals[symbol] if table == "klines" else wire.REFERENCE
        found = []
        if start_ms is None:
            first_ms = bars.opens_ms(max(last_ms - limit * length_ms, self._source.first_ms), interval)
            found.append(self._longer(now_ms, table, symbol, interval, first_ms, last_ms + 1))
        else:
            first_ms = bars.opens_ms(max(start_ms, self._source.first_ms), interval)
            while first_ms <= last_ms and sum(part.height for part in found) < limit:
                to_ms = bars.opens_ms(first_ms + (limit + 1) * length_ms, interval)  # a whole number of bars
                part = self._longer(now_ms, table, symbol, interval, first_ms, min(to_ms, last_ms + 1))
                found.append(part.filter(pl.col("open_time").to_physical() >= start_ms))
                first_ms = to_ms
        rows = pl.concat(found) if found else pl.DataFrame()
        if rows.is_empty():
            return []
        rows = rows.tail(limit) if start_ms is None else rows.head(limit)
        template = wire.REST_KLINE if table == "klines" else wire.REST_REFERENCE_KLINE
        return wire.lines(template, bars.with_close_time(rows, interval), decimals).to_list()

    def minutes(self, now_ms: int, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        """1m bars that open in [from_ms, to_ms), in order, the running one among them."""
        running_ms = now_ms // MINUTE_MS * MINUTE_MS
        closed = self._source.happened(table, symbol, from_ms, min(to_ms, running_ms))
        closed = closed.filter(pl.col("interval") == "1m")
        if table != "klines":
            closed = closed.with_columns(trade_count=pl.lit(_POINTS_PER_MINUTE, pl.Int64))
        if not from_ms <= running_ms < to_ms:
            return closed
        make = self._running if table == "klines" else self._running_reference
        running = make(now_ms, table, symbol, running_ms)
        if running.is_empty():  # nothing has happened in this minute yet
            running = _flat(closed.tail(1), running_ms)
        names = [name for name in closed.columns if name in running.columns]
        return pl.concat([closed.select(names), running.select(names)])

    def _longer(self, now_ms: int, table: str, symbol: str, interval: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        """Bars of an interval that open in [from_ms, to_ms); ``from_ms`` opens one."""
        whole_ms = bars.opens_ms(to_ms - 1, interval) + (_MONTH_MS if interval == "1M" else interval_ms(interval))
        minutes = self.minutes(now_ms, table, symbol, from_ms, whole_ms)
        decimals = self._decimals[symbol] if table == "klines" else wire.REFERENCE
        made = minutes if interval == "1m" else bars.longer_bars(minutes, interval, decimals)
        return made.filter(pl.col("open_time").to_physical() < to_ms)

    def _running(self, now_ms: int, table: str, symbol: str, open_ms: int) -> pl.DataFrame:
        """The last state of the running bar."""
        if self._source.has_bar_states(symbol, now_ms, now_ms):
            states = self._source.happened("kline_updates", symbol, open_ms, open_ms + MINUTE_MS)
            return states.filter(pl.col("interval") == "1m", pl.col("delivered_ns") <= now_ms * 1_000_000).tail(1)
        trades = self._source.happened("trades", symbol, open_ms, now_ms + 1)
        return bars.running_bars(trades, self._decimals[symbol]).tail(1)

    def _running_reference(self, now_ms: int, table: str, symbol: str, open_ms: int) -> pl.DataFrame:
        marks = self._source.happened("mark_price", symbol, open_ms, now_ms + 1)
        price = pl.col(_PRICES[table])
        made = marks.select(
            pl.col("event_time").first().dt.truncate("1m").alias("open_time"),
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            pl.len().cast(pl.Int64).alias("trade_count"),
        )
        return made.filter(pl.col("open").is_not_null())


def _flat(last: pl.DataFrame, open_ms: int) -> pl.DataFrame:
    """A bar without trades at the close of the one before."""
    nothing = [pl.lit(0, last.schema[name]).alias(name) for name in _SUMS if name in last.columns]
    ids = [pl.lit(-1, pl.Int64).alias(name) for name in ("first_trade_id", "last_trade_id") if name in last.columns]
    opened = pl.lit(open_ms).cast(TIME_MS).alias("open_time")
    return last.with_columns(*(pl.col("close").alias(name) for name in _OHLC), *nothing, *ids, opened)
