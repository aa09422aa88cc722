"""What REST answers: everything that has happened up to now, as the exchange writes it.

Source: Aster futures API, "Public REST endpoints".
"""

import json
from bisect import bisect_right
from collections.abc import Callable

import polars as pl

from data.loopback import contracts, wire
from data.loopback.candles import Candles
from data.loopback.tape import DAY_MS, HOUR_MS, Source
from data.loopback.wire import decimal_text
from data.schema import MAX_DEPTH_LEVELS

_LOOK_BACK_MS = 2 * DAY_MS  # how far the last row of something is looked for
_NO_ID = 1 << 62
_HIDDEN_FILLS = ("INSURANCE_FUND", "ADL")  # not in /trades


class Market:
    """The tape as REST sees it. Times are milliseconds, answers JSON text. One thread at a time."""

    def __init__(self, source: Source):
        self.source = source
        self.instruments = source.instruments()
        self.decimals = contracts.decimals(self.instruments, source.symbols)
        self.candles = Candles(source, self.decimals)
        onboard = self.instruments.group_by("symbol").agg(pl.col("onboard_time").to_physical().max().fill_null(0))
        self._onboard_ms = dict(onboard.iter_rows())
        self._first_ids: dict[tuple[str, str, int], int | None] = {}  # by table, symbol and hour

    def symbols(self, now_ms: int) -> tuple[str, ...]:
        """The contracts that exist."""
        return tuple(symbol for symbol in self.source.symbols if self._onboard_ms.get(symbol, 0) <= now_ms)

    def depth(self, now_ms: int, symbol: str, limit: int) -> str | None:
        """The last partial book, as deep as it was kept; the touch alone where no books were; None without any."""
        decimals = self.decimals[symbol]
        book = self._last("depth", symbol, now_ms, 1)
        if book.is_empty():
            touch = self._last("book_ticker", symbol, now_ms, 1)
            names = {f"{side}_{what}": f"{side}_{what}_0" for side in ("bid", "ask") for what in ("price", "quantity")}
            book = touch.rename(names)
        if book.is_empty():
            return None
        template = '{"lastUpdateId":<update_id>,"E":<sent_time>,"T":<event_time>,"bids":[<bids>],"asks":[<asks>]}'
        template, book = wire.with_sides(template, book, min(limit, MAX_DEPTH_LEVELS), decimals)
        return wire.lines(template, book, decimals).item()

    def trades(self, now_ms: int, symbol: str, limit: int, from_id: int | None = None) -> str:
        """Single fills; where only aggregates are known, each is taken for one fill."""
        decimals = self.decimals[symbol]
        if "raw_trades" in self.source.tables and self._last("raw_trades", symbol, now_ms, 1).height:
            name, table = "trade_id", "raw_trades"
            shown = ~pl.col("market_type").fill_null("").is_in(_HIDDEN_FILLS)
        else:
            name, table, shown = "first_trade_id", "trades", pl.lit(True)
        if from_id is None:
            rows = self._last(table, symbol, now_ms, limit, shown)
        else:
            rows = self._since_id(table, name, symbol, now_ms, from_id, limit, shown)
        notional = (pl.col("price") * pl.col("quantity")).round(decimals.price + decimals.quantity + 2)
        own_id = pl.col(name) if table == "raw_trades" else pl.coalesce(name, "agg_trade_id")
        rows = rows.with_columns(own_id.alias("trade_id"), notional.alias("quote_quantity"))
        return _array(wire.lines(wire.REST_TRADE, rows, decimals))

    def agg_trades(
        self, now_ms: int, symbol: str, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> str:
        until_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        if from_id is not None:
            rows = self._since_id("trades", "agg_trade_id", symbol, until_ms, from_id, limit)
        elif start_ms is not None:
            rows = self._first("trades", symbol, start_ms, until_ms, limit)
        else:
            rows = self._last("trades", symbol, until_ms, limit)
        return _array(wire.lines(wire.REST_AGG_TRADE, rows, self.decimals[symbol]))

    def premium_index(self, now_ms: int, symbol: str) -> str | None:
        row = self._last("mark_price", symbol, now_ms, 1)
        template = (
            '{"symbol":<symbol>,"markPrice":<mark_price>,"indexPrice":<index_price>,'
            '"estimatedSettlePrice":<estimated_settle_price>,"lastFundingRate":<funding_rate>,'
            '"nextFundingTime":<next_funding_time>,'
            f'"interestRate":"{contracts.INTEREST_RATE}","time":<event_time>}}'
        )
        return wire.lines(template, row, self.decimals[symbol]).item() if row.height else None

    def funding_rate(
        self, now_ms: int, symbol: str | None, start_ms: int | None, end_ms: int | None, limit: int
    ) -> str:
        """Settled rates, oldest first: from the start on where one is given, else the newest."""
        until_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        symbols = self.source.symbols if symbol is None else (symbol,)
        first_ms = max(start_ms or 0, self.source.first_ms)
        days = [(day_ms, min(day_ms + DAY_MS, until_ms + 1)) for day_ms in range(first_ms, until_ms + 1, DAY_MS)]
        rows = self.source.happened("funding", symbols[0], 0, 0)
        for from_ms, to_ms in days if start_ms is not None else reversed(days):
            if rows.height >= limit:
                break
            rows = pl.concat([rows, *(self.source.happened("funding", name, from_ms, to_ms) for name in symbols)])
        rows = rows.sort("event_time", "symbol")
        rows = rows.tail(limit) if start_ms is None else rows.head(limit)
        return _array(wire.lines(wire.REST_FUNDING, rows, wire.REFERENCE))

    def day_ticker(self, now_ms: int, symbol: str) -> str | None:
        """The last 24 hours, to the minute."""
        decimals = self.decimals[symbol]
        bars = self.candles.minutes(now_ms, "klines", symbol, (now_ms - DAY_MS) // 60_000 * 60_000, now_ms + 1)
        last = self._last("trades", symbol, now_ms, 1)
        if bars.is_empty():
            return None
        opened, close = bars["open"][0], bars["close"][-1]
        volume, quote_volume = bars["volume"].sum(), bars["quote_volume"].sum()
        prices = {
            "priceChange": close - opened,
            "weightedAvgPrice": quote_volume / volume if volume else close,
            "lastPrice": close,
            "openPrice": opened,
            "highPrice": bars["high"].max(),
            "lowPrice": bars["low"].min(),
        }
        text = {name: _rounded(value, decimals.price) for name, value in prices.items()}
        quantity = last["quantity"][0] if last.height else 0.0
        ids = {end: bars[f"{end}_trade_id"].filter(bars[f"{end}_trade_id"] >= 0) for end in ("first", "last")}
        ticker = {
            "symbol": symbol,
            "priceChange": text["priceChange"],
            "priceChangePercent": _rounded((close / opened - 1) * 100, 3),
            "weightedAvgPrice": text["weightedAvgPrice"],
            "lastPrice": text["lastPrice"],
            "lastQty": _rounded(quantity, decimals.quantity),
            "openPrice": text["openPrice"],
            "highPrice": text["highPrice"],
            "lowPrice": text["lowPrice"],
            "volume": _rounded(volume, decimals.quantity),
            "quoteVolume": _rounded(quote_volume, decimals.price + decimals.quantity),
            "openTime": int(bars["open_time"].to_physical()[0]),
            "closeTime": now_ms,
            "firstId": ids["first"][0] if len(ids["first"]) else -1,
            "lastId": ids["last"][-1] if len(ids["last"]) else -1,
            "count": bars["trade_count"].sum(),
        }
        return json.dumps(ticker, separators=(",", ":"))

    def price_ticker(self, now_ms: int, symbol: str) -> str | None:
        row = self._last("trades", symbol, now_ms, 1)
        template = '{"symbol":<symbol>,"price":<price>,"time":<event_time>}'
        return wire.lines(template, row, self.decimals[symbol]).item() if row.height else None

    def book_ticker(self, now_ms: int, symbol: str) -> str | None:
        row = self._last("book_ticker", symbol, now_ms, 1)
        template = (
            '{"symbol":<symbol>,"bidPrice":<bid_price>,"bidQty":<bid_quantity>,"askPrice":<ask_price>,'
            '"askQty":<ask_quantity>,"time":<event_time>,"lastUpdateId":<update_id>}'
        )
        return wire.lines(template, row, self.decimals[symbol]).item() if row.height else None

    def open_interest(self, now_ms: int, symbol: str) -> str | None:
        row = self._last("open_interest", symbol, now_ms, 1)
        template = '{"symbol":<symbol>,"openInterest":<open_interest>,"time":<event_time>}'
        return wire.lines(template, row, self.decimals[symbol]).item() if row.height else None

    def of_all(self, answer: Callable[[int, str], str | None], now_ms: int) -> str:
        """The same for every contract that has an answer, as one array."""
        found = [answer(now_ms, symbol) for symbol in self.source.symbols]
        return "[" + ",".join(each for each in found if each is not None) + "]"

    def _last(self, table: str, symbol: str, until_ms: int, limit: int, shown: pl.Expr | None = None) -> pl.DataFrame:
        """The newest rows up to a time, oldest first; of the last two days at most."""
        parts: list[pl.DataFrame] = []
        to_ms = until_ms + 1
        first_ms = max(to_ms - _LOOK_BACK_MS, self.source.first_ms)
        while True:
            rows = self.source.happened(table, symbol, max(to_ms - HOUR_MS, first_ms), to_ms)
            parts.insert(0, rows if shown is None else rows.filter(shown))
            to_ms -= HOUR_MS
            if to_ms <= first_ms or sum(part.height for part in parts) >= limit:
                return pl.concat(parts).tail(limit)

    def _first(
        self, table: str, symbol: str, start_ms: int, until_ms: int, limit: int, shown: pl.Expr | None = None
    ) -> pl.DataFrame:
        """The oldest rows of [start_ms, until_ms]."""
        parts: list[pl.DataFrame] = []
        from_ms = max(start_ms, self.source.first_ms)
        while True:
            rows = self.source.happened(table, symbol, from_ms, min(from_ms + HOUR_MS, until_ms + 1))
            parts.append(rows if shown is None else rows.filter(shown))
            from_ms += HOUR_MS
            if from_ms > until_ms or sum(part.height for part in parts) >= limit:
                return pl.concat(parts).head(limit)

    def _since_id(
        self,
        table: str,
        name: str,
        symbol: str,
        until_ms: int,
        from_id: int,
        limit: int,
        shown: pl.Expr | None = None,
    ) -> pl.DataFrame:
        """The oldest rows whose id is at least ``from_id``; ids grow with time."""
        first_hour, end_hour = self.source.first_ms // HOUR_MS, until_ms // HOUR_MS + 1
        hours = range(first_hour, end_hour)
        after = bisect_right(hours, from_id, key=lambda hour: self._first_id(table, name, symbol, hour, end_hour))
        from_ms = (first_hour + max(after - 1, 0)) * HOUR_MS
        wanted = pl.col(name) >= from_id
        return self._first(table, symbol, from_ms, until_ms, limit, wanted if shown is None else wanted & shown)

    def _first_id(self, table: str, name: str, symbol: str, hour: int, end_hour: int) -> int:
        """The first id at or after the beginning of an hour; a very large one where none comes before ``end_hour``."""
        for later in range(hour, end_hour):
            if (table, symbol, later) not in self._first_ids:
                rows = self.source.happened(table, symbol, later * HOUR_MS, (later + 1) * HOUR_MS)
                self._first_ids[table, symbol, later] = rows[name].min()
            if (first_id := self._first_ids[table, symbol, later]) is not None:
                return first_id
        return _NO_ID


def _array(lines: pl.Series) -> str:
    return "[" + ",".join(lines.to_list()) + "]"


def _rounded(value: float, decimals: int) -> str:
    return decimal_text(pl.Series([round(value, decimals)]), decimals).item()
