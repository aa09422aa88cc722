"""Rows of the lake as the exchange writes them: JSON text, a whole column of it at a time.

Numbers in quotes are plain decimals with the decimals of tick and step, and more where the float needs them: reading
the text gives back exactly the float. What is null here is null there.

Source: Aster futures API, "Public REST endpoints" and "Market WebSocket".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import polars as pl

MARK_DECIMALS = 8  # of mark and index prices and of funding rates
_MOST_DECIMALS = 15
_EXACT = 2.0**53
_PLACE = re.compile(r"<(\w+)>")

AGG_TRADE = (
    '{"e":"aggTrade","E":<sent_time>,"s":<symbol>,"a":<agg_trade_id>,"p":<price>,"q":<quantity>,'
    '"f":<first_trade_id>,"l":<last_trade_id>,"T":<event_time>,"m":<is_buyer_maker>}'
)
TRADE = (
    '{"e":"trade","E":<sent_time>,"T":<event_time>,"s":<symbol>,"t":<trade_id>,"p":<price>,"q":<quantity>,'
    '"X":<market_type>,"m":<is_buyer_maker>}'
)
MARK_PRICE = (
    '{"e":"markPriceUpdate","E":<event_time>,"s":<symbol>,"p":<mark_price>,"i":<index_price>,'
    '"P":<estimated_settle_price>,"r":<funding_rate>,"T":<next_funding_time>}'
)
KLINE = (
    '{"e":"kline","E":<sent_time>,"s":<symbol>,"k":{"t":<open_time>,"T":<close_time>,"s":<symbol>,"i":<interval>,'
    '"f":<first_trade_id>,"L":<last_trade_id>,"o":<open>,"c":<close>,"h":<high>,"l":<low>,"v":<volume>,'
    '"n":<trade_count>,"x":<is_final>,"q":<quote_volume>,"V":<taker_buy_volume>,"Q":<taker_buy_quote_volume>,"B":"0"}}'
)
BOOK_TICKER = (
    '{"e":"bookTicker","u":<update_id>,"E":<sent_time>,"T":<event_time>,"s":<symbol>,'
    '"b":<bid_price>,"B":<bid_quantity>,"a":<ask_price>,"A":<ask_quantity>}'
)
DEPTH = (
    '{"e":"depthUpdate","E":<sent_time>,"T":<event_time>,"s":<symbol>,"U":<first_update_id>,"u":<update_id>,'
    '"pu":<previous_update_id>,"b":[<bids>],"a":[<asks>]}'
)
FORCE_ORDER = (
    '{"e":"forceOrder","E":<sent_time>,"o":{"s":<symbol>,"S":<side>,"o":"LIMIT","f":"IOC","q":<quantity>,"p":<price>,'
    '"ap":<average_price>,"X":<status>,"l":<last_filled_quantity>,"z":<filled_quantity>,"T":<event_time>}}'
)
REST_TRADE = (
    '{"id":<trade_id>,"price":<price>,"qty":<quantity>,"quoteQty":<quote_quantity>,"time":<event_time>,'
    '"isBuyerMaker":<is_buyer_maker>}'
)
REST_AGG_TRADE = (
    '{"a":<agg_trade_id>,"p":<price>,"q":<quantity>,"f":<first_trade_id>,"l":<last_trade_id>,"T":<event_time>,'
    '"m":<is_buyer_maker>}'
)
REST_KLINE = (
    "[<open_time>,<open>,<high>,<low>,<close>,<volume>,<close_time>,<quote_volume>,<trade_count>,"
    '<taker_buy_volume>,<taker_buy_quote_volume>,"0"]'
)
REST_REFERENCE_KLINE = (
    '[<open_time>,<open>,<high>,<low>,<close>,"0",<close_time>,"0",<trade_count>,"0","0","0"]'  # of mark or index price
)
REST_FUNDING = '{"symbol":<symbol>,"fundingRate":<funding_rate>,"fundingTime":<event_time>}'

_QUANTITIES = ("quantity", "volume", "taker_buy_volume", "bid_quantity", "ask_quantity", "last_filled_quantity",
               "filled_quantity", "open_interest")  # fmt: skip
_NOTIONALS = ("quote_volume", "taker_buy_quote_volume", "quote_quantity")
_READY = ("bids", "asks")
_RATES = ("mark_price", "index_price", "estimated_settle_price", "funding_rate")


@dataclass(frozen=True, kw_only=True)
class Decimals:
    """Digits after the point that a contract's prices and quantities are written with, at least."""

    price: int
    quantity: int

    def of(self, column: str) -> int:
        """Those of a column."""
        if column in _RATES:
            return MARK_DECIMALS
        if column in _NOTIONALS:
            return self.price + self.quantity
        return self.quantity if column in _QUANTITIES or "_quantity_" in column else self.price


REFERENCE = Decimals(price=MARK_DECIMALS, quantity=0)  # klines of the mark or index price


def decimals_of(size: float) -> int:
    """Digits after the point of a tick or step: 3 for 0.001, 0 for 10."""
    return max(0, -Decimal(repr(size)).normalize().as_tuple().exponent)


def decimal_text(values: pl.Series, decimals: int) -> pl.Series:
    """Plain decimal text of floats, at least ``decimals`` digits after the point, such that float(text) == value.

    Null and NaN become null.
    """
    floats = values.to_numpy()
    left = np.flatnonzero(np.isfinite(floats))
    texts, places = [], []
    for digits in range(decimals, _MOST_DECIMALS + 1):
        counts, fits = _counted(floats[left], digits)
        texts.append(_fixed_point(counts[fits].astype(np.int64), digits))
        places.append(left[fits])
        left = left[~fits]
        if not left.size:
            break
    if left.size:
        texts.append(pl.Series([format(Decimal(repr(value)), "f") for value in floats[left].tolist()]))
        places.append(left)
    if len(places[0]) == len(floats):
        return texts[0]
    rank = np.full(len(floats), -1)
    rank[np.concatenate(places)] = np.arange(sum(map(len, places)))
    found = pl.Series(rank)
    return pl.concat(texts).gather(found.set(found < 0, None))


def _fixed_point(counts: np.ndarray, digits: int) -> pl.Series:
    """Whole numbers of 10 to the minus ``digits`` as decimal text."""
    sign = pl.Series(np.where(counts < 0, "-", ""), dtype=pl.String)
    whole, rest = np.divmod(np.abs(counts), 10**digits)
    columns = {"sign": sign, "whole": whole, "rest": rest + 10**digits}
    return pl.DataFrame(columns).select(pl.concat_str("sign", *_digits("whole", "rest", digits))).to_series()


def _digits(whole: str, rest: str, digits: int) -> list[pl.Expr]:
    """Expressions of a number's text from its part before the point and, plus 10 to the ``digits``, that behind it."""
    before = pl.col(whole).cast(pl.String)
    return [before, pl.lit("."), pl.col(rest).cast(pl.String).str.slice(1)] if digits else [before]


def lines(template: str, rows: pl.DataFrame, decimals: Decimals) -> pl.Series:
    """One JSON text per row: the template with each ``<column>`` replaced by the row's value.

    Floats and text come in quotes, times in milliseconds; ``bids`` and ``asks`` are JSON already.
    """
    literal_then_column = _PLACE.split(template)
    columns: dict[str, pl.Series | np.ndarray] = {}
    places = {name: _place(rows[name], decimals, columns) for name in dict.fromkeys(literal_then_column[1::2])}
    pieces: list[pl.Expr] = []
    for literal, name in zip(literal_then_column[0::2], [*literal_then_column[1::2], None], strict=True):
        pieces += [pl.lit(literal), *places.get(name, ())]
    return pl.DataFrame(columns).select(pl.concat_str(pieces)).to_series()


def _place(values: pl.Series, decimals: Decimals, columns: dict[str, pl.Series | np.ndarray]) -> list[pl.Expr]:
    """The expressions that write one column as JSON; what they read is added to ``columns``."""
    name = values.name
    if values.dtype.is_float():
        digits = decimals.of(name)
        counts = _counts(values, digits)
        if counts is None:
            columns[name] = quoted(decimal_text(values, digits)).fill_null("null")
            return [pl.col(name)]
        whole, rest = np.divmod(counts, 10**digits)
        columns[name], columns[f"{name}:rest"] = whole, rest + 10**digits
        return [pl.lit('"'), *_digits(name, f"{name}:rest", digits), pl.lit('"')]
    columns[name] = values.to_physical() if values.dtype.is_temporal() else values
    text = pl.col(name).cast(pl.String)
    is_text = name not in _READY and not (values.dtype.is_integer() or values.dtype.is_temporal())
    if is_text and values.dtype != pl.Boolean:
        text = pl.concat_str(pl.lit('"'), text, pl.lit('"'))
    return [text.fill_null("null") if values.null_count() else text]


def _counts(values: pl.Series, digits: int) -> np.ndarray | None:
    """The values as whole numbers of 10 to the minus ``digits``; None where one of them is not, or is negative."""
    counts, fits = _counted(values.to_numpy(), digits)
    return counts.astype(np.int64) if (fits & (counts >= 0)).all() else None


def _counted(floats: np.ndarray, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """How many 10 to the minus ``digits`` each float is, rounded, and whether that as a decimal reads as the float."""
    with np.errstate(over="ignore"):
        counts = np.rint(floats * 10.0**digits)
    # both are exact, so their quotient is the float nearest to the decimal: what reading the text will give
    return counts, (np.abs(counts) < _EXACT) & (counts / 10.0**digits == floats)


def quoted(text: pl.Series) -> pl.Series:
    """In double quotes; null stays null. Nothing here needs escaping."""
    return pl.select(pl.concat_str(pl.lit('"'), text, pl.lit('"'))).to_series()


def with_sides(template: str, books: pl.DataFrame, levels: int, decimals: Decimals) -> tuple[str, pl.DataFrame]:
    """A template with ``<bids>`` and ``<asks>``, ready for ``lines``, and the rows for it.

    Each side is the best ``levels`` of a row of ``depth``, as JSON pairs of price and quantity.
    """
    for side in ("bid", "ask"):
        names = [f"{side}_{what}_{level}" for level in range(levels) for what in ("price", "quantity")]
        names = [name for name in names if name in books.columns and books[name].null_count() < books.height]
        if any(books[name].null_count() for name in names):  # books of different depth
            books = books.with_columns(_pairs(books, names, decimals).alias(f"{side}s"))
        else:
            pairs = zip(names[0::2], names[1::2], strict=True)
            spelled_out = ",".join(f"[<{price}>,<{quantity}>]" for price, quantity in pairs)
            template = template.replace(f"<{side}s>", spelled_out)
    return template, books


def _pairs(books: pl.DataFrame, names: Sequence[str], decimals: Decimals) -> pl.Series:
    """Levels as JSON pairs, as many as each book holds."""
    pairs = []
    for price, quantity in zip(names[0::2], names[1::2], strict=True):
        texts = [quoted(decimal_text(books[name], decimals.of(name))) for name in (price, quantity)]
        parts = (pl.lit("["), texts[0], pl.lit(","), texts[1], pl.lit("]"))
        pairs.append(pl.select(pl.concat_str(parts)).to_series().rename(price))
    return pl.DataFrame(pairs).select(pl.concat_str(pl.all(), separator=",", ignore_nulls=True)).to_series()
