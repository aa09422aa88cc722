"""Rows of the lake as a recording around one noon holds them, told by what matters in them."""

import polars as pl

from data import schema

MINUTE = 60_000
NOON = 1_764_331_200_000  # 2025-11-28 12:00 UTC


def rows(table: schema.Table, **columns) -> pl.DataFrame:
    """Rows of a table; times as ms since 1970, ``recv_time`` too."""
    if "recv_time" in columns:
        columns["recv_time"] = [None if ms is None else round(ms * 1e6) for ms in columns["recv_time"]]
    return schema.conform(pl.DataFrame(columns, strict=False), table)


def klines(closes: dict[int, float], received_ms: dict[int, float] | None = None, source: str = "ws") -> pl.DataFrame:
    """Minute bars after noon that open, high, low and close at one price; receipts in ms after noon."""
    received_ms = received_ms or {}
    return rows(
        schema.KLINES,
        venue=["aster"] * len(closes),
        symbol=["BNBUSDT"] * len(closes),
        interval=["1m"] * len(closes),
        open_time=[NOON + minute * MINUTE for minute in closes],
        **{name: list(closes.values()) for name in ("open", "high", "low", "close")},
        volume=[1.0] * len(closes),
        recv_time=[NOON + received_ms[minute] if minute in received_ms else None for minute in closes],
        source=[source] * len(closes),
    )


def trades(prints: list[tuple[int, int, float]], received_ms: list[float | None] | None = None) -> pl.DataFrame:
    """Trades of one unit as (id, ms after noon, price)."""
    ids, times, prices = zip(*prints, strict=True)
    return rows(
        schema.TRADES,
        agg_trade_id=ids,
        event_time=[NOON + ms for ms in times],
        price=prices,
        quantity=[1.0] * len(prints),
        is_buyer_maker=[False] * len(prints),
        recv_time=[None if ms is None else NOON + ms for ms in received_ms or [None] * len(prints)],
    )


def quotes(seen: list[tuple[float, float, float]]) -> pl.DataFrame:
    """Quotes as (ms after noon at which they were received, bid, ask); the exchange sent them 100 ms before."""
    times, bids, asks = zip(*seen, strict=True)
    return rows(
        schema.BOOK_TICKER,
        event_time=[NOON + int(ms) - 100 for ms in times],
        recv_time=[NOON + ms for ms in times],
        bid_price=bids,
        bid_quantity=[2.0] * len(seen),
        ask_price=asks,
        ask_quantity=[3.0] * len(seen),
    )


def marks(seen: list[tuple[int, float]], **columns) -> pl.DataFrame:
    """Marks as (ms after noon at which they were received, price)."""
    times, prices = zip(*seen, strict=True)
    times = [NOON + ms for ms in times]
    return rows(schema.MARK_PRICE, event_time=times, recv_time=times, mark_price=prices, **columns)


def instruments(statuses: dict[int, str] | None = None, **columns) -> pl.DataFrame:
    """Instrument rows by ms after noon; by default one that trades since long before."""
    statuses = statuses or {-86_400_000: "TRADING"}
    fixed = {"venue": "aster", "symbol": "BNBUSDT", "tick_size": 0.1, "step_size": 0.01, "funding_interval_hours": 8.0}
    return rows(
        schema.INSTRUMENTS,
        event_time=[NOON + ms for ms in statuses],
        status=list(statuses.values()),
        **{name: [value] * len(statuses) for name, value in (fixed | columns).items()},
    )


def gaps(told: list[tuple[str, str, int, int, int]]) -> pl.DataFrame:
    """The ledger's rows as (gap, state, last good minute before, first good one after, ms after noon it was told)."""
    names, states, before, after, detected = zip(*told, strict=True)
    return rows(
        schema.GAPS,
        gap_id=names,
        state=states,
        from_time=[NOON + minute * MINUTE for minute in before],
        to_time=[NOON + minute * MINUTE for minute in after],
        detected_time=[NOON + ms for ms in detected],
    )
