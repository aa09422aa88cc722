"""Messages of the streams as rows of the lake's tables, column by column. REST answers are in landing_answers.py."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from data import messages
from data.convert_rows import AMOUNT, OPTIONAL_AMOUNT, OPTIONAL_NUMBER, PRICE
from data.landing_books import LossyLevel, book_columns
from data.landing_columns import (
    Oddity,
    Turned,
    checked,
    columns,
    lossy_reason,
    marked,
    shape_of,
)
from data.pairs import merge_pairs
from data.schema import (
    ANNOUNCEMENTS,
    BOOK_TICKER,
    DEPTH,
    FORCE_ORDERS,
    KLINE_UPDATES,
    KLINES,
    MARK_PRICE,
    RAW_TRADES,
    TRADES,
    conform,
)

OHLC = {"open": PRICE, "high": PRICE, "low": PRICE, "close": PRICE}
BAR_NUMBERS = {
    **OHLC,
    "volume": AMOUNT,
    "quote_volume": OPTIONAL_AMOUNT,
    "taker_buy_volume": OPTIONAL_AMOUNT,
    "taker_buy_quote_volume": OPTIONAL_AMOUNT,
}
BAR = f"open_time {' '.join(BAR_NUMBERS)} trade_count"
_TIMES = "event_time sent_time"
_NOTICE = "announcement_id event_time category title link"

_SHAPES = {
    messages.AggTrade: shape_of(
        TRADES,
        {"price": PRICE, "quantity": AMOUNT},
        messages.AggTrade,
        f"symbol agg_trade_id {_TIMES} price quantity is_buyer_maker first_trade_id last_trade_id",
    ),
    messages.Trade: shape_of(
        RAW_TRADES,
        {"price": AMOUNT, "quantity": AMOUNT},  # both are 0 where market_type is NA
        messages.Trade,
        f"symbol trade_id {_TIMES} price quantity is_buyer_maker market_type",
    ),
    messages.BookTicker: shape_of(
        BOOK_TICKER,
        {"bid_price": PRICE, "bid_quantity": OPTIONAL_AMOUNT, "ask_price": PRICE, "ask_quantity": OPTIONAL_AMOUNT},
        messages.BookTicker,
        f"symbol update_id {_TIMES} bid_price bid_quantity ask_price ask_quantity",
    ),
    messages.MarkPrice: shape_of(
        MARK_PRICE,
        {
            "mark_price": PRICE,
            "index_price": OPTIONAL_AMOUNT,
            "estimated_settle_price": OPTIONAL_AMOUNT,
            "funding_rate": OPTIONAL_NUMBER,
        },
        messages.MarkPrice,
        "symbol event_time mark_price index_price estimated_settle_price funding_rate next_funding_time",
    ),
    messages.Kline: shape_of(
        KLINE_UPDATES,
        BAR_NUMBERS,
        messages.Kline,
        "symbol sent_time",
        part="bar",
        of_part=f"interval {BAR} first_trade_id last_trade_id is_final",
        part_what=messages.Bar,
    ),
    messages.Depth: shape_of(
        DEPTH, {}, messages.Depth, f"symbol levels first_update_id update_id previous_update_id {_TIMES}"
    ),
    messages.ForceOrder: shape_of(
        FORCE_ORDERS,
        {
            "quantity": AMOUNT,
            "price": PRICE,
            "average_price": OPTIONAL_AMOUNT,
            "last_filled_quantity": OPTIONAL_AMOUNT,
            "filled_quantity": AMOUNT,
        },
        messages.ForceOrder,
        "sent_time",
        part="order",
        of_part="symbol event_time side quantity price average_price last_filled_quantity filled_quantity status",
        part_what=messages.Liquidation,
    ),
    messages.Announcement: shape_of(
        ANNOUNCEMENTS, {}, messages.Announcement, "", part="notice", of_part=_NOTICE, part_what=messages.Notice
    ),
}
NOTICES = shape_of(ANNOUNCEMENTS, {}, messages.Notice, _NOTICE)
MESSAGES_WITH_TABLE = tuple(_SHAPES)


def turn_messages(
    kind: type,
    found: Sequence[Any],
    recv_ns: np.ndarray,
    *,
    venue: str,
    socket: np.ndarray,
    recv2_ns: np.ndarray,
) -> Turned:
    """Rows of messages of one type, in order; books must have their levels.

    Parameters
    ----------
    kind : one of ``MESSAGES_WITH_TABLE``.
    found : the messages.
    recv_ns : int64, when each arrived.
    socket : int64, on which socket of its pair.
    recv2_ns : int64, when the other socket brought it; 0 where it did not.
    """
    shape = _SHAPES[kind]
    frame = marked(columns(shape, found), shape)
    frame = frame.with_columns(recv_time=pl.Series(recv_ns, dtype=pl.Int64), source=pl.lit("ws"))
    if "socket" in shape.table.columns:
        second = pl.Series(recv2_ns, dtype=pl.Int64)
        frame = frame.with_columns(recv2_time=second.set(second == 0, None), socket=pl.Series(socket, dtype=pl.Int64))
    lossy: Sequence[LossyLevel] = ()
    if kind is messages.Depth:
        books, lossy = book_columns(found)
        frame = pl.concat([frame, books], how="horizontal")
    if {"event_time", "sent_time"} <= set(frame.columns):
        frame = frame.with_columns(event_time=pl.coalesce("event_time", "sent_time"))
    if kind is messages.MarkPrice:  # 0 where a contract has no funding
        frame = frame.with_columns(pl.when(pl.col("next_funding_time") > 0).then("next_funding_time"))
    turned, rows = checked(frame, shape, venue)
    if lossy:
        turned = _with_lossy_books(turned, lossy)
    rows, copies = merge_pairs(conform(rows, shape.table), shape.table)
    turned = replace(turned, copies=copies)
    if kind is not messages.Kline:
        return turned.with_tables((shape.table, rows))
    finals = rows.filter("is_final").drop("is_final", "recv2_time", "socket")
    return turned.with_tables((KLINE_UPDATES, rows), (KLINES, finals))


def _with_lossy_books(turned: Turned, lossy: Sequence[LossyLevel]) -> Turned:
    """With the books that hold a number which is not its text."""
    first = lossy[0]
    odd = Oddity(first.book, DEPTH.name, "levels", lossy_reason("levels", first.text, first.number))
    return replace(turned, oddities=(*turned.oddities, odd), lossy={DEPTH.name: len({level.book for level in lossy})})
