"""A stretch of the tape in the order in which it is delivered, and the messages of every stream in it.

The order covers every row of the source, whoever listens: the same source gives the same messages at the same times,
whatever is subscribed. No two rows are delivered at the same nanosecond.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from data.loopback import bars, wire
from data.loopback.streams import Stream
from data.loopback.tape import HOUR_MS, MINUTE_MS, NS_PER_MS, Source
from data.loopback.wire import Decimals

_LATE_MS = 2 * MINUTE_MS  # rows that came later than that after their time are not played
_STALE_MS = 60 * MINUTE_MS  # a recorder that polled went on writing the last state of a bar while nothing came
_SECOND_MS = 1_000
_TABLES = {
    "aggTrade": "trades",
    "trade": "raw_trades",
    "bookTicker": "book_ticker",
    "depth": "depth",
    "markPrice": "mark_price",
    "forceOrder": "force_orders",
}
_TEMPLATES = {
    "aggTrade": wire.AGG_TRADE,
    "trade": wire.TRADE,
    "bookTicker": wire.BOOK_TICKER,
    "depth": wire.DEPTH,
    "markPrice": wire.MARK_PRICE,
    "forceOrder": wire.FORCE_ORDER,
    "kline": wire.KLINE,
}

Messages = tuple[np.ndarray, list[bytes]]  # places in the order of delivery (ascending), and what is sent there


class Chunk:
    """What the streams carry in [start_ns, end_ns), by time of delivery.

    Attributes
    ----------
    times_ns : int64, strictly increasing: when each row of the source is delivered.

    Parameters
    ----------
    after_ns : the last time already used; the first is later.
    """

    def __init__(self, source: Source, decimals: Mapping[str, Decimals], start_ns: int, end_ns: int, after_ns: int = 0):
        self.start_ns, self.end_ns = start_ns, end_ns
        self._source, self._decimals = source, decimals
        feeds = {}
        self._books_before = {}
        for kind in _TEMPLATES:  # the order in which rows of one nanosecond are delivered
            for symbol in source.symbols:
                rows = self._rows_of(kind, symbol)
                within = (pl.col("delivered_ns") >= start_ns) & (pl.col("delivered_ns") < end_ns)
                feeds[kind, symbol] = rows.filter(within).sort("delivered_ns", maintain_order=True)
                if kind == "depth":
                    self._books_before[symbol] = rows.filter(pl.col("delivered_ns") < start_ns).sort("delivered_ns")
        told_ns = np.concatenate([np.empty(0, np.int64), *(rows["delivered_ns"].to_numpy() for rows in feeds.values())])
        order = np.argsort(told_ns, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        step = np.arange(order.size)
        self.times_ns = np.maximum.accumulate(np.maximum(told_ns[order] - step, after_ns + 1)) + step
        first = np.cumsum([0, *(rows.height for rows in feeds.values())])
        self._feeds = {
            key: (rows, place[begin : begin + rows.height])
            for (key, rows), begin in zip(feeds.items(), first[:-1], strict=True)
        }
        self._messages: dict[tuple, Messages] = {}

    @property
    def last_ns(self) -> int:
        """The last delivery; 0 without any."""
        return int(self.times_ns[-1]) if self.times_ns.size else 0

    def messages(self, stream: Stream) -> Messages:
        """What one stream carries."""
        if stream not in self._messages:
            self._messages[stream] = self._made(stream)
        return self._messages[stream]

    def _rows_of(self, kind: str, symbol: str) -> pl.DataFrame:
        """Rows that may be delivered here, and some more."""
        from_ms = self.start_ns // NS_PER_MS - _LATE_MS
        to_ms = -(-self.end_ns // NS_PER_MS)
        if kind == "kline":
            return self._bar_states(symbol, from_ms, to_ms)
        if kind == "forceOrder":  # the stream shows the last liquidation of each second only
            from_ms, to_ms = (ms // _SECOND_MS * _SECOND_MS for ms in (from_ms, to_ms + _SECOND_MS))
            rows = self._source.carried(_TABLES[kind], symbol, from_ms, to_ms)
            return rows.unique(pl.col("event_time").dt.truncate("1s"), keep="last", maintain_order=True)
        if kind == "trade" and "raw_trades" not in self._source.tables:  # then each aggregate was one fill
            fills = self._source.carried("trades", symbol, from_ms, to_ms)
            return fills.with_columns(trade_id=pl.col("first_trade_id"), market_type=pl.lit("MARKET"))
        return self._source.carried(_TABLES[kind], symbol, from_ms, to_ms)

    def _bar_states(self, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        """States of the 1m bars as recorded, or else made of trades, and the final one from the bars themselves."""
        first_ms = from_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
        if self._source.has_bar_states(symbol, from_ms, to_ms):
            states = self._source.carried("kline_updates", symbol, first_ms - _STALE_MS, to_ms)
            return states.filter(pl.col("interval") == "1m")
        closed = self._source.carried("klines", symbol, first_ms, to_ms).filter(pl.col("interval") == "1m")
        closed = closed.with_columns(is_final=pl.lit(True))
        trades = self._source.carried("trades", symbol, first_ms, to_ms + bars.UPDATE_MS)
        running = bars.running_bars(trades, self._decimals[symbol])
        ends = closed.select("open_time", closed_ns="delivered_ns")
        still_open = pl.col("closed_ns").is_null() | (pl.col("delivered_ns") < pl.col("closed_ns"))
        running = running.join(ends, on="open_time", how="left", maintain_order="left").filter(still_open)
        return pl.concat([running.drop("closed_ns"), closed.select(running.drop("closed_ns").columns)])

    def _made(self, stream: Stream) -> Messages:
        texts = pl.concat([self._texts(stream, symbol) for symbol in stream.symbols]).sort("place", maintain_order=True)
        if stream.is_of_all and stream.kind == "markPrice":
            one_second = texts.group_by("time", maintain_order=True)
            array = pl.concat_str(pl.lit("["), pl.col("text").str.join(","), pl.lit("]"))
            texts = one_second.agg(pl.col("place").max(), array.alias("text")).sort("place")
        return texts["place"].to_numpy(), texts["text"].cast(pl.Binary).to_list()

    def _texts(self, stream: Stream, symbol: str) -> pl.DataFrame:
        """One symbol's rows on this stream: place, time (what marks of one array share), text."""
        rows, places = self._feeds[stream.kind, symbol]
        decimals = self._decimals[symbol]
        template = _TEMPLATES[stream.kind]
        rows = rows.with_columns(place=pl.Series(places, dtype=pl.Int64))
        if stream.kind == "depth":
            books = pl.concat([self._books_before[symbol], rows], how="diagonal")
            rows = _thinned(books, stream.cadence_ms).filter(pl.col("place").is_not_null())
            template, rows = wire.with_sides(template, rows, stream.levels, decimals)
        elif stream.kind == "markPrice":
            rows = rows.filter(pl.col("event_time").to_physical() % stream.cadence_ms < _SECOND_MS)
        elif stream.kind == "kline":
            if stream.interval != "1m":
                first_ms = bars.opens_ms(self.start_ns // NS_PER_MS - HOUR_MS, stream.interval)
                minutes = self._source.happened("klines", symbol, first_ms, self.end_ns // NS_PER_MS)
                rows = bars.longer_states(rows, minutes, stream.interval, decimals)
            rows = bars.with_close_time(rows, stream.interval)
        text = wire.lines(template, rows, decimals)
        time = rows["open_time" if stream.kind == "kline" else "event_time"]
        return pl.DataFrame({"place": rows["place"], "time": time, "text": text})


def _thinned(books: pl.DataFrame, cadence_ms: int) -> pl.DataFrame:
    """The first book of every ``cadence_ms``, each following the one before it; all, where they are no faster."""
    times = pl.col("event_time").to_physical()
    usual_gap_ms = books.select(times.diff().median()).item()
    if usual_gap_ms is None or usual_gap_ms >= 0.8 * cadence_ms:
        return books
    slot = times // cadence_ms
    kept = books.filter((slot != slot.shift()).fill_null(True))
    previous = pl.coalesce(pl.col("update_id").shift(), "previous_update_id")
    return kept.with_columns(previous.alias("previous_update_id"))
