"""REST answers as rows of the lake's tables: history, repairs, and what is only ever polled."""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from data import messages_rest as wire
from data.convert_rows import AMOUNT, NUMBER, OPTIONAL_AMOUNT, PRICE
from data.exchange_info import instruments
from data.landing_columns import Refused, Shape, Turned, checked, columns, shape_of
from data.landing_rows import BAR, BAR_NUMBERS, NOTICES, OHLC
from data.messages import Unknown, as_json
from data.messages_rest import Answer, rest_rows
from data.schema import (
    FUNDING,
    INDEX_KLINES,
    INDEX_REFERENCES,
    INSTRUMENTS,
    KLINES,
    MARK_KLINES,
    OPEN_INTEREST,
    RATIOS,
    TRADES,
)
from data.table import Table
from data.venues.hyperliquid import symbol_of

NS_PER_MS = 1_000_000
ANSWERS_WITHOUT_TABLE = (
    "ping", "time", "premiumIndex", "depth", "trades", "24hr", "price", "bookTicker",
    "source_bars",  # what a runner read from a lake
)  # fmt: skip
EXPLAINING = ("fundingInfo", "leverageBracket")  # the rows of other answers carry what these say


_REFERENCE_BAR = "open_time open high low close close_time"
_BARS = {
    "klines": shape_of(KLINES, BAR_NUMBERS, wire.RestKline, f"{BAR} close_time"),
    "markPriceKlines": shape_of(MARK_KLINES, OHLC, wire.RestReferenceKline, _REFERENCE_BAR),
    "indexPriceKlines": shape_of(INDEX_KLINES, OHLC, wire.RestReferenceKline, _REFERENCE_BAR),
}
_TRADES = shape_of(
    TRADES,
    {"price": PRICE, "quantity": AMOUNT},
    wire.RestAggTrade,
    "agg_trade_id event_time price quantity is_buyer_maker first_trade_id last_trade_id",
)
_FUNDING = shape_of(FUNDING, {"funding_rate": NUMBER}, wire.RestFundingRate, "symbol event_time funding_rate")
_INTEREST = {
    "openInterest": shape_of(
        OPEN_INTEREST, {"open_interest": AMOUNT}, wire.RestOpenInterest, "symbol event_time open_interest"
    ),
    "openInterestHist": shape_of(
        OPEN_INTEREST,
        {"open_interest": AMOUNT, "open_interest_usdt": OPTIONAL_AMOUNT},
        wire.RestOpenInterestPeriod,
        "symbol event_time open_interest open_interest_usdt",
    ),
}
_COINS = shape_of(
    OPEN_INTEREST, {"open_interest": AMOUNT, "mark_price": AMOUNT}, wire.HyperliquidMarket, "open_interest mark_price"
)
_RATIOS = {  # shape, and the kind of the ratio
    name: (shape_of(RATIOS, {"value": AMOUNT}, what, "event_time value"), kind)
    for name, what, kind in (
        ("globalLongShortAccountRatio", wire.RestLongShort, "long_short_accounts"),
        ("topLongShortPositionRatio", wire.RestLongShort, "long_short_positions"),
        ("takerlongshortRatio", wire.RestTakerRatio, "taker_buy_sell"),
    )
}
_REFERENCES = shape_of(INDEX_REFERENCES, {"weight": AMOUNT}, wire.RestReference, "exchange reference_symbol weight")

Brackets = list[dict[str, float]]


def turn_answer(
    answer: Answer,
    recv_ns: int,
    *,
    venue: str,
    funding_hours: MutableMapping[str, float],
    brackets: MutableMapping[str, Brackets] | None = None,
) -> Turned:
    """Rows of a REST answer.

    Bars that had not closed at ``recv_ns`` are no rows. A row has a receipt time only where we were waiting for it:
    what is older than ``answer.since_ms`` is history, and what fills a gap was missed when it came; when that reached
    us says nothing.

    Parameters
    ----------
    funding_hours : hours between fundings per symbol; fundingInfo fills it, fundingRate and exchangeInfo read it.
    brackets : leverage brackets per symbol; leverageBracket fills it, exchangeInfo reads it.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError
        When question or answer are not of the form that the path promises.
    """
    name, body = answer.name, bytes(answer.body)
    if name == "exchangeInfo":
        return _contracts(answer, recv_ns, venue, funding_hours, brackets or {})
    if name == "fundingInfo":
        found, refused = rest_rows(body, wire.RestFundingInfo)
        funding_hours.update((each.symbol, each.interval_hours) for each in found)
        return Turned(refused=_unread(refused, INSTRUMENTS))
    if name == "leverageBracket":
        found, refused = rest_rows(wire.as_rows(body), wire.RestBrackets)
        if brackets is not None:
            brackets.update((each.symbol, [wire.plain(step) for step in each.brackets]) for each in found)
        return Turned(refused=_unread(refused, INSTRUMENTS))
    if name == "metaAndAssetCtxs":
        return _coins(body, recv_ns, venue)
    if name == "indexreferences":
        return _references(body, answer, recv_ns, venue)
    if name in ("direct", "directById"):
        return _notices(body, answer, recv_ns, venue)

    asked = answer.params
    if name in _BARS:
        shape = _BARS[name]
        symbol = asked["symbol"] if "symbol" in asked else asked["pair"]
        more = {"symbol": pl.lit(symbol), "interval": pl.lit(asked["interval"])}
        own_ms = pl.col("close_time") + 1
    elif name == "aggTrades":
        shape, more, own_ms = _TRADES, {"symbol": pl.lit(asked["symbol"])}, pl.col("event_time")
    elif name == "fundingRate":
        hours = pl.col("symbol").replace_strict(funding_hours, default=None, return_dtype=pl.Float64)
        shape, more, own_ms = _FUNDING, {"interval_hours": hours}, None
    elif name in _INTEREST:
        shape, own_ms = _INTEREST[name], pl.col("event_time")
        more = {"is_documented": pl.lit(venue != "aster")}
    elif name in _RATIOS:
        shape, kind = _RATIOS[name]
        more, own_ms = {"symbol": pl.lit(asked["symbol"]), "kind": pl.lit(kind)}, pl.col("event_time")
    else:
        raise LookupError(f"no table is known for answers of {answer.path}")
    found, refused = rest_rows(wire.as_rows(body), shape.what)
    frame = columns(shape, found).with_columns(**more)
    if own_ms is not None:
        frame = frame.with_columns(recv_time=_waited_for(own_ms, answer, recv_ns))
    if name in _BARS:
        frame = frame.filter(own_ms * NS_PER_MS <= recv_ns).drop("close_time")
    return _turned(frame, shape, found, refused, venue)


def _turned(
    frame: pl.DataFrame,
    shape: Shape,
    found: Sequence[Any],
    refused: Sequence[tuple[str, Unknown]],
    venue: str,
) -> Turned:
    turned, rows = checked(frame.with_columns(source=pl.lit("rest")), shape, venue)
    turned = _spelled(turned, found)
    return replace(turned, refused=turned.refused + _unread(refused, shape.table)).with_tables((shape.table, rows))


def _spelled(turned: Turned, found: Sequence[Any]) -> Turned:
    """With the text of each row that is told of: an answer may hold a thousand."""
    refused = tuple(each._replace(raw=as_json(found[each.row])) for each in turned.refused)
    oddities = tuple(each._replace(raw=as_json(found[each.row])) for each in turned.oddities)
    return replace(turned, refused=refused, oddities=oddities)


def _coins(body: bytes, recv_ns: int, venue: str) -> Turned:
    """Open interest of Hyperliquid's perpetuals, as of the receipt: the answer names no time. Notional is in USDC."""
    pairs = wire.hyperliquid_markets(body)
    found = [market for _, market in pairs]
    frame = columns(_COINS, found).with_columns(
        symbol=pl.Series([symbol_of(coin.name) for coin, _ in pairs], dtype=pl.String),
        event_time=pl.lit(recv_ns // NS_PER_MS),
        recv_time=pl.lit(recv_ns),
        is_documented=pl.lit(True),
        source=pl.lit("rest"),
    )
    turned, rows = checked(frame, _COINS, venue)
    rows = rows.with_columns(open_interest_usdt=pl.col("open_interest") * pl.col("mark_price")).drop("mark_price")
    return _spelled(turned, found).with_tables((OPEN_INTEREST, rows))


def _references(body: bytes, answer: Answer, recv_ns: int, venue: str) -> Turned:
    parts, refused = rest_rows(wire.as_rows(body), wire.RestIndexReferences)
    found = [reference for part in parts for reference in part.references]
    frame = columns(_REFERENCES, found).with_columns(
        symbol=pl.Series([part.symbol for part in parts for _ in part.references], dtype=pl.String),
        event_time=pl.Series([part.event_time for part in parts for _ in part.references], dtype=pl.Int64),
    )
    frame = frame.with_columns(recv_time=_waited_for(pl.col("event_time"), answer, recv_ns))
    return _turned(frame, _REFERENCES, found, refused, venue)


def _notices(body: bytes, answer: Answer, recv_ns: int, venue: str) -> Turned:
    found, refused = wire.notices(body)
    frame = columns(NOTICES, found)
    frame = frame.with_columns(recv_time=_waited_for(pl.col("event_time"), answer, recv_ns))
    return _turned(frame, NOTICES, found, refused, venue)


def _contracts(
    answer: Answer,
    recv_ns: int,
    venue: str,
    funding_hours: Mapping[str, float],
    brackets: Mapping[str, Brackets],
) -> Turned:
    effective_ms = recv_ns // NS_PER_MS if answer.effective_ms is None else answer.effective_ms
    since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=effective_ms)
    rows, unreadable = instruments(json.loads(bytes(answer.body)), source="rest", effective=since, venue=venue)
    hours = pl.col("symbol").replace_strict(dict(funding_hours), default=None, return_dtype=pl.Float64)
    steps = pl.Series([brackets.get(symbol) for symbol in rows["symbol"]], dtype=INSTRUMENTS.columns["brackets"])
    rows = rows.with_columns(funding_interval_hours=hours, brackets=steps)
    reason = "a price or lot filter, the symbol or its status is missing, or a number is none"
    refused = [Refused(0, None, INSTRUMENTS.name, reason, json.dumps(entry)) for entry in unreadable]
    return Turned(tables=((INSTRUMENTS, rows),), refused=tuple(refused))


def _waited_for(own_ms: pl.Expr, answer: Answer, recv_ns: int) -> pl.Expr:
    """The receipt time of rows that were still to come when this process began to listen; null for the others."""
    if answer.gap_id is not None:
        return pl.lit(None, pl.Int64)
    return pl.when(own_ms >= answer.since_ms).then(pl.lit(recv_ns, pl.Int64))


def _unread(refused: Sequence[tuple[str, Unknown]], table: Table) -> tuple[Refused, ...]:
    return tuple(Refused(0, None, table.name, unknown.reason, text) for text, unknown in refused)
