"""Typed messages and REST answers as rows of the lake's tables, column by column.

Text becomes numbers here, once per column. A row whose numbers are not what they must be is refused with the reason; it
is not for this module to say what happens to it.
"""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data import messages
from data.convert_rows import AMOUNT, NUMBER, OPTIONAL_AMOUNT, OPTIONAL_NUMBER, PRICE, Kind
from data.exchange_info import instruments
from data.messages import Answer, as_json, rest_rows
from data.schema import (
    BOOK_TICKER,
    DEPTH,
    FORCE_ORDERS,
    FUNDING,
    INDEX_KLINES,
    INSTRUMENTS,
    KLINE_UPDATES,
    KLINES,
    MARK_KLINES,
    MARK_PRICE,
    MAX_DEPTH_LEVELS,
    RAW_TRADES,
    TRADES,
    conform,
    is_test_symbol,
)
from data.table import Table

NS_PER_MS = 1_000_000
ANSWERS_WITHOUT_TABLE = ("ping", "time", "premiumIndex", "depth", "trades", "24hr", "price", "bookTicker")

_OHLC = {"open": PRICE, "high": PRICE, "low": PRICE, "close": PRICE}
_BAR_NUMBERS = {
    **_OHLC,
    "volume": AMOUNT,
    "quote_volume": OPTIONAL_AMOUNT,
    "taker_buy_volume": OPTIONAL_AMOUNT,
    "taker_buy_quote_volume": OPTIONAL_AMOUNT,
}
_BAR = f"open_time {' '.join(_BAR_NUMBERS)} trade_count"
_TIMES = "event_time sent_time"


class Refused(NamedTuple):
    """A message that is no row. ``row`` is its place among those that were given, ``raw`` its text where known."""

    row: int
    symbol: str | None
    table: str
    reason: str
    raw: str | None = None


@dataclass(frozen=True, kw_only=True)
class Turned:
    """What became of messages: rows that conform, refusals, and how many were of the exchange's test contracts."""

    tables: tuple[tuple[Table, pl.DataFrame], ...] = ()
    refused: tuple[Refused, ...] = ()
    of_test_contracts: int = 0


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """How messages of one type become rows: column and attribute, and what the columns of text must hold."""

    table: Table
    attributes: Mapping[str, str]
    numbers: Mapping[str, Kind]


def _shape(table: Table, numbers: Mapping[str, Kind], names: str, *, part: str = "", of_part: str = "") -> _Shape:
    """A shape with attributes named as their columns: on the message itself, and on its part."""
    attributes = {name: name for name in names.split()} | {name: f"{part}.{name}" for name in of_part.split()}
    return _Shape(table=table, attributes=attributes, numbers=numbers)


_SHAPES = {
    messages.AggTrade: _shape(
        TRADES,
        {"price": PRICE, "quantity": AMOUNT},
        f"symbol agg_trade_id {_TIMES} price quantity is_buyer_maker first_trade_id last_trade_id",
    ),
    messages.Trade: _shape(
        RAW_TRADES,
        {"price": PRICE, "quantity": AMOUNT},
        f"symbol trade_id {_TIMES} price quantity is_buyer_maker market_type",
    ),
    messages.BookTicker: _shape(
        BOOK_TICKER,
        {"bid_price": PRICE, "bid_quantity": OPTIONAL_AMOUNT, "ask_price": PRICE, "ask_quantity": OPTIONAL_AMOUNT},
        f"symbol update_id {_TIMES} bid_price bid_quantity ask_price ask_quantity",
    ),
    messages.MarkPrice: _shape(
        MARK_PRICE,
        {
            "mark_price": PRICE,
            "index_price": OPTIONAL_AMOUNT,
            "estimated_settle_price": OPTIONAL_AMOUNT,
            "funding_rate": OPTIONAL_NUMBER,
        },
        "symbol event_time mark_price index_price estimated_settle_price funding_rate next_funding_time",
    ),
    messages.Kline: _shape(
        KLINE_UPDATES,
        _BAR_NUMBERS,
        "symbol sent_time",
        part="bar",
        of_part=f"interval {_BAR} first_trade_id last_trade_id is_final",
    ),
    messages.Depth: _shape(DEPTH, {}, f"symbol levels first_update_id update_id previous_update_id {_TIMES}"),
    messages.ForceOrder: _shape(
        FORCE_ORDERS,
        {
            "quantity": AMOUNT,
            "price": PRICE,
            "average_price": OPTIONAL_AMOUNT,
            "last_filled_quantity": OPTIONAL_AMOUNT,
            "filled_quantity": AMOUNT,
        },
        "sent_time",
        part="order",
        of_part="symbol event_time side quantity price average_price last_filled_quantity filled_quantity status",
    ),
}
_REST_BARS = {
    "klines": (messages.RestKline, _shape(KLINES, _BAR_NUMBERS, f"{_BAR} close_time")),
    "markPriceKlines": (
        messages.RestReferenceKline,
        _shape(MARK_KLINES, _OHLC, "open_time open high low close close_time"),
    ),
    "indexPriceKlines": (
        messages.RestReferenceKline,
        _shape(INDEX_KLINES, _OHLC, "open_time open high low close close_time"),
    ),
}
_REST_TRADES = _shape(
    TRADES,
    {"price": PRICE, "quantity": AMOUNT},
    "agg_trade_id event_time price quantity is_buyer_maker first_trade_id last_trade_id",
)
_REST_FUNDING = _shape(FUNDING, {"funding_rate": NUMBER}, "symbol event_time funding_rate")
MESSAGES_WITH_TABLE = tuple(_SHAPES)


def turn_messages(kind: type, found: Sequence[Any], recv_ns: Sequence[int], *, venue: str) -> Turned:
    """Rows of messages of one type, in order; books must have their levels.

    Parameters
    ----------
    kind : one of ``MESSAGES_WITH_TABLE``.
    found : the messages.
    recv_ns : when each arrived.
    """
    shape = _SHAPES[kind]
    frame = _columns(shape, found).with_columns(recv_time=pl.Series(recv_ns, dtype=pl.Int64), source=pl.lit("ws"))
    if kind is messages.Depth:
        frame = pl.concat([frame, _book_columns(found)], how="horizontal")
    if {"event_time", "sent_time"} <= set(frame.columns):
        frame = frame.with_columns(event_time=pl.coalesce("event_time", "sent_time"))
    if kind is messages.MarkPrice:  # 0 where a contract has no funding
        frame = frame.with_columns(pl.when(pl.col("next_funding_time") > 0).then("next_funding_time"))
    turned, rows = _checked(frame, shape, venue)
    if kind is not messages.Kline:
        return _with_tables(turned, (shape.table, rows))
    finals = rows.filter("is_final").drop("is_final")
    return _with_tables(turned, (KLINE_UPDATES, rows), (KLINES, finals))


def turn_answer(answer: Answer, recv_ns: int, *, venue: str, funding_hours: MutableMapping[str, float]) -> Turned:
    """Rows of a REST answer.

    Bars that had not closed at ``recv_ns`` are no rows. A row has a receipt time only where we were waiting for it:
    what is older than ``answer.since_ms`` is history, and when that reached us says nothing.

    Parameters
    ----------
    funding_hours : hours between fundings per symbol; fundingInfo fills it, fundingRate and exchangeInfo read it.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError
        When question or answer are not of the form that the path promises.
    """
    name, body = answer.name, bytes(answer.body)
    if name == "exchangeInfo":
        return _turn_exchange_info(answer, recv_ns, venue, funding_hours)
    if name == "fundingInfo":
        found, refused = rest_rows(body, messages.RestFundingInfo)
        funding_hours.update((each.symbol, each.interval_hours) for each in found)
        return Turned(refused=_unread(refused, INSTRUMENTS))
    if name in _REST_BARS:
        what, shape = _REST_BARS[name]
        found, refused = rest_rows(body, what)
        symbol = answer.params["symbol"] if "symbol" in answer.params else answer.params["pair"]
        ended_ms = pl.col("close_time") + 1
        frame = _columns(shape, found).with_columns(symbol=pl.lit(symbol), interval=pl.lit(answer.params["interval"]))
        frame = frame.with_columns(recv_time=_waited_for(ended_ms, answer, recv_ns))
        frame = frame.filter(ended_ms * NS_PER_MS <= recv_ns).drop("close_time")
    elif name == "aggTrades":
        shape = _REST_TRADES
        found, refused = rest_rows(body, messages.RestAggTrade)
        frame = _columns(shape, found).with_columns(
            symbol=pl.lit(answer.params["symbol"]), recv_time=_waited_for(pl.col("event_time"), answer, recv_ns)
        )
    elif name == "fundingRate":
        shape = _REST_FUNDING
        found, refused = rest_rows(body, messages.RestFundingRate)
        hours = pl.col("symbol").replace_strict(funding_hours, default=None, return_dtype=pl.Float64)
        frame = _columns(shape, found).with_columns(interval_hours=hours)
    else:
        raise LookupError(f"no table is known for answers of {answer.path}")
    turned, rows = _checked(frame.with_columns(source=pl.lit("rest")), shape, venue)
    spelled = tuple(each._replace(raw=as_json(found[each.row])) for each in turned.refused)
    turned = Turned(refused=spelled + _unread(refused, shape.table), of_test_contracts=turned.of_test_contracts)
    return _with_tables(turned, (shape.table, rows))


def _turn_exchange_info(answer: Answer, recv_ns: int, venue: str, funding_hours: Mapping[str, float]) -> Turned:
    effective_ms = recv_ns // NS_PER_MS if answer.effective_ms is None else answer.effective_ms
    since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=effective_ms)
    rows, unreadable = instruments(json.loads(bytes(answer.body)), source="rest", effective=since)
    hours = pl.col("symbol").replace_strict(dict(funding_hours), default=None, return_dtype=pl.Float64)
    rows = rows.with_columns(venue=pl.lit(venue), funding_interval_hours=hours)
    reason = "a price or lot filter, the symbol or its status is missing"
    refused = [Refused(0, None, INSTRUMENTS.name, reason, json.dumps(entry)) for entry in unreadable]
    return Turned(tables=((INSTRUMENTS, rows),), refused=tuple(refused))


def _waited_for(own_ms: pl.Expr, answer: Answer, recv_ns: int) -> pl.Expr:
    """The receipt time of rows that were still to come when this process began to listen; null for the others."""
    return pl.when(own_ms >= answer.since_ms).then(pl.lit(recv_ns, pl.Int64))


def _unread(refused: Sequence[tuple[str, messages.Unknown]], table: Table) -> tuple[Refused, ...]:
    return tuple(Refused(0, None, table.name, unknown.reason, text) for text, unknown in refused)


def _with_tables(turned: Turned, *tables: tuple[Table, pl.DataFrame]) -> Turned:
    conforming = tuple((table, conform(rows, table)) for table, rows in tables if not rows.is_empty())
    return Turned(tables=conforming, refused=turned.refused, of_test_contracts=turned.of_test_contracts)


def _columns(shape: _Shape, found: Sequence[Any]) -> pl.DataFrame:
    """``row``, the place in ``found``, and a column per attribute; numbers still text, times still milliseconds."""
    columns = pl.DataFrame(
        [
            pl.Series(name, list(map(attrgetter(attribute), found)), dtype=_wire_dtype(shape, name))
            for name, attribute in shape.attributes.items()
        ]
    )
    return columns.with_row_index("row")


def _wire_dtype(shape: _Shape, name: str) -> pl.DataType:
    if name in shape.numbers:
        return pl.String()
    dtype = shape.table.columns.get(name, pl.Int64())  # close_time is in no table
    return pl.Int64() if dtype.is_temporal() else dtype


def _book_columns(books: Sequence[messages.Depth]) -> pl.DataFrame:
    """Price and quantity per level, best first, null beyond what a book holds; and ``problem``, null where all is well.

    The exchange's own documentation shows a book with its bids the wrong way round, so the order is not taken on trust.
    """
    width = min(max(book.levels for book in books), MAX_DEPTH_LEVELS)
    sides = [side for book in books for side in (book.bids, book.asks)]
    blanks = [((None, None),) * missing for missing in range(width + 1)]
    whole = [side if len(side) == width else (side + blanks[max(width - len(side), 0)])[:width] for side in sides]
    texts = pl.Series(list(chain.from_iterable(chain.from_iterable(whole))), dtype=pl.String)
    numbers = texts.cast(pl.Float64, strict=False)
    wrong = (~(numbers.is_finite() & (numbers >= 0)).fill_null(False) & texts.is_not_null()).to_numpy()
    is_wrong = wrong.reshape(len(books), -1).any(axis=1)
    is_deeper = [max(len(book.bids), len(book.asks)) > min(book.levels, MAX_DEPTH_LEVELS) for book in books]

    book = numbers.to_numpy().reshape(len(books), 2, width, 2).copy()  # book, bid or ask, level, price or quantity
    rank = book[..., 0] * np.array([[-1.0], [1.0]])  # rises from the best level on
    is_mixed = (np.diff(rank, axis=2) < 0).any(axis=(1, 2))
    if is_mixed.any():
        best_first = np.argsort(rank[is_mixed], axis=2, kind="stable")  # NaN, the missing levels, last
        book[is_mixed] = np.take_along_axis(book[is_mixed], best_first[..., None], axis=2)
    names = [
        f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(width) for what in ("price", "quantity")
    ]
    problem = (
        pl.when(pl.Series(is_wrong)).then(pl.lit("levels: expected numbers, 0 or above"))
        .when(pl.Series(is_deeper)).then(pl.lit("levels: the book is deeper than its stream's name says"))
    )  # fmt: skip
    columns = pl.from_numpy(book.reshape(len(books), -1), schema=names, orient="row")
    return columns.select(pl.all().fill_nan(None)).with_columns(problem=problem)


def _checked(frame: pl.DataFrame, shape: _Shape, venue: str) -> tuple[Turned, pl.DataFrame]:
    """(refusals, rows with their numbers as numbers)."""
    constants = {"venue": pl.lit(venue)}
    if "clock" in shape.table.columns:
        constants["clock"] = pl.lit("exchange")
    if "is_ambiguous" in shape.table.columns:
        constants["is_ambiguous"] = pl.lit(False)
    frame = frame.with_columns(**constants)
    tests = [symbol for symbol in frame["symbol"].unique() if is_test_symbol(symbol)]
    market = frame.filter(~pl.col("symbol").is_in(tests)) if tests else frame

    typed = {name: kind.read(pl.col(name)) for name, kind in shape.numbers.items()}
    faults = {name: _is_wrong(pl.col(name), kind) for name, kind in shape.numbers.items()}
    if shape.table.time in frame.columns:
        faults[shape.table.time] = pl.col(shape.table.time).is_null()
    if "problem" in frame.columns:
        faults["problem"] = pl.col("problem").is_not_null()
    is_wrong = market.select(pl.any_horizontal(faults.values())).to_series()
    refused = ()
    if is_wrong.any():
        refused = _refusals(market.filter(is_wrong), shape, faults)
        market = market.filter(~is_wrong)
    rows = market.with_columns(**typed).drop("row", "problem", strict=False)
    return Turned(refused=refused, of_test_contracts=frame.height - market.height - len(refused)), rows


def _is_wrong(text: pl.Expr, kind: Kind) -> pl.Expr:
    is_wrong = ~kind.holds(kind.read(text)).fill_null(False)
    return is_wrong & (text.fill_null("") != "") if kind.may_be_blank else is_wrong


def _refusals(wrong: pl.DataFrame, shape: _Shape, faults: Mapping[str, pl.Expr]) -> tuple[Refused, ...]:
    """Every wrong row with the first of its faults."""
    reasons = []
    for name, is_wrong in faults.items():
        if name == "problem":
            reason = pl.col(name)
        elif name in shape.numbers:
            expected = pl.lit(shape.numbers[name].expected)
            reason = pl.format("{}: expected {}, got '{}'", pl.lit(name), expected, pl.col(name).fill_null(""))
        else:
            reason = pl.format("{}: the message names no time", pl.lit(name))
        reasons.append(pl.when(is_wrong).then(reason))
    told = wrong.select("row", "symbol", pl.lit(shape.table.name).alias("table"), reason=pl.coalesce(reasons))
    return tuple(Refused(*row) for row in told.iter_rows())
