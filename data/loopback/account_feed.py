"""The tape as accounts meet it: trades, books, marks and funding, at the exchange's own time.

Accounts meet what happened, also what the streams never carried, and when it happened, not when it was delivered.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

import polars as pl

from data.loopback.account import Account
from data.loopback.account_book import Level
from data.loopback.tape import Source
from data.schema import MAX_DEPTH_LEVELS

_TABLES = ("trades", "depth", "book_ticker", "mark_price", "funding")  # in the order of one millisecond
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "trades": ("price", "quantity", "is_buyer_maker"),
    "book_ticker": ("bid_price", "bid_quantity", "ask_price", "ask_quantity"),
    "mark_price": ("mark_price",),
    "funding": ("funding_rate",),
}
_SIDES = {
    side: [(f"{side}_price_{level}", f"{side}_quantity_{level}") for level in range(MAX_DEPTH_LEVELS)]
    for side in ("bid", "ask")
}


class Row(NamedTuple):
    """Something that happened; ``values`` as the table has them, of books the two sides."""

    time_ms: int
    table: str
    symbol: str
    values: tuple


def rows(source: Source, from_ms: int, to_ms: int) -> list[Row]:
    """What happens in [from_ms, to_ms), in order. Rows without a value that they need are left out."""
    found = [
        row for table in _TABLES for symbol in source.symbols for row in _of(source, table, symbol, from_ms, to_ms)
    ]
    return sorted(found, key=lambda row: row.time_ms)  # stable: tables of one millisecond keep their order


def _of(source: Source, table: str, symbol: str, from_ms: int, to_ms: int) -> Iterator[Row]:
    happened = source.happened(table, symbol, from_ms, to_ms)
    times = happened["event_time"].to_physical().to_list()
    if table == "depth":
        for time_ms, book in zip(times, happened.iter_rows(named=True), strict=True):
            yield Row(time_ms, table, symbol, tuple(_levels(book, side) for side in _SIDES))
        return
    told = happened.select(_COLUMNS[table])
    if table == "trades":
        told = told.with_columns(pl.col("is_buyer_maker").fill_null(False))
    for time_ms, values in zip(times, told.iter_rows(), strict=True):
        if None not in values:
            yield Row(time_ms, table, symbol, values)


def _levels(book: Mapping[str, float | None], side: str) -> list[Level]:
    levels = [(book.get(price), book.get(quantity)) for price, quantity in _SIDES[side]]
    return [(exact(price), exact(quantity)) for price, quantity in levels if price is not None and quantity]


class Meeting:
    """Tells accounts what happens; knows the depth behind the touch, which quotes do not show."""

    def __init__(self, accounts: list[Account]):
        self._accounts = accounts
        self._books: dict[str, tuple[list[Level], list[Level]]] = {}

    def happens(self, row: Row) -> None:
        symbol, time_ms = row.symbol, row.time_ms
        if symbol not in self._accounts[0].rules:  # not listed yet
            return
        match row.table:
            case "trades":
                price, quantity, is_buyer_maker = row.values
                for account in self._accounts:
                    account.on_trade(symbol, exact(price), exact(quantity), is_buyer_maker, time_ms)
            case "mark_price":
                for account in self._accounts:
                    account.on_mark(symbol, exact(row.values[0]), time_ms)
            case "funding":
                for account in self._accounts:
                    account.on_funding(symbol, exact(row.values[0]), time_ms)
            case "depth":
                self.shows(symbol, *row.values, time_ms)
            case "book_ticker":
                bid, bid_quantity, ask, ask_quantity = (exact(value) for value in row.values)
                bids, asks = self._books.get(symbol, ([], []))
                bids = [(bid, bid_quantity), *(level for level in bids if level[0] < bid)]
                asks = [(ask, ask_quantity), *(level for level in asks if level[0] > ask)]
                self.shows(symbol, bids, asks, time_ms)

    def shows(self, symbol: str, bids: list[Level], asks: list[Level], time_ms: int) -> None:
        """A book."""
        self._books[symbol] = bids, asks
        for account in self._accounts:
            account.on_book(symbol, bids, asks, time_ms)


def exact(value: float) -> Decimal:
    """The decimal that a float was read from."""
    return Decimal(repr(value))
