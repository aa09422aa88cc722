"""Which rows are new, known, or in contradiction."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from data.dedupe import has_identity, sift
from data.schema import BOOK_TICKER, GAPS, INSTRUMENTS, KLINES, RAW, TRADES, conform

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def trade(agg_trade_id: int | None, price: float = 100.0, **other) -> dict:
    return {
        "venue": "aster",
        "symbol": "BTCUSDT",
        "agg_trade_id": agg_trade_id,
        "event_time": NOON,
        "price": price,
        "quantity": 1.0,
        "is_buyer_maker": False,
        **other,
    }


def trades(*rows: dict) -> pl.DataFrame:
    return conform(pl.DataFrame(rows, infer_schema_length=None), TRADES) if rows else TRADES.empty()


def book(update_id: int | None, bid_price: float, **other) -> dict:
    row = {"venue": "aster", "symbol": "BTCUSDT", "update_id": update_id, "event_time": NOON, "bid_price": bid_price}
    return row | other


def books(*rows: dict) -> pl.DataFrame:
    return conform(pl.DataFrame(rows, infer_schema_length=None), BOOK_TICKER)


def counts(table, arrived: pl.DataFrame, stored: pl.DataFrame) -> tuple[int, int, int]:
    sifted = sift(table, arrived, stored)
    return sifted.fresh.height, sifted.already_present, sifted.disputed.height


def test_new_rows_keep_their_order_and_content():
    arrived = trades(trade(2), trade(1))
    sifted = sift(TRADES, arrived, trades(trade(3)))
    assert sifted.fresh.equals(arrived)
    assert (sifted.already_present, sifted.disputed.height) == (0, 0)


def test_a_repair_by_rest_repeats_the_streamed_trade():
    streamed = trades(trade(1, recv_time=NOON, sent_time=NOON, source="ws", first_trade_id=7))
    assert counts(TRADES, trades(trade(1, source="rest")), streamed) == (0, 1, 0)


def test_another_price_under_the_same_id_is_disputed_and_both_rows_are_told():
    sifted = sift(TRADES, trades(trade(1, price=101.0)), trades(trade(1)))
    assert sifted.fresh.is_empty()
    told = sifted.disputed.row(0, named=True)
    assert told["symbol"] == "BTCUSDT"
    assert json.loads(told["key"]) == {"venue": "aster", "symbol": "BTCUSDT", "agg_trade_id": 1}
    assert (json.loads(told["stored"])["price"], json.loads(told["arrived"])["price"]) == (100.0, 101.0)


def test_within_one_frame_the_first_row_of_a_key_holds_it():
    arrived = trades(trade(1), trade(1), trade(1, price=101.0), trade(2))
    sifted = sift(TRADES, arrived, TRADES.empty())
    assert sifted.fresh["agg_trade_id"].to_list() == [1, 2]
    assert (sifted.already_present, sifted.disputed.height) == (1, 1)


def test_an_ambiguous_id_never_bars_the_sure_trade_that_has_it():
    stored = trades(trade(1, price=99.0, is_ambiguous=True))
    assert counts(TRADES, trades(trade(1, is_ambiguous=False)), stored) == (1, 0, 0)


def test_a_sure_trade_equal_to_an_ambiguous_one_is_the_same_trade():
    stored = trades(trade(1, is_ambiguous=True))
    assert counts(TRADES, trades(trade(1, is_ambiguous=False)), stored) == (0, 1, 0)
    stored = trades(trade(1, is_ambiguous=False))
    assert counts(TRADES, trades(trade(1, is_ambiguous=True)), stored) == (0, 1, 0)


def test_two_ambiguous_trades_with_one_id_and_other_content_are_two_trades():
    arrived = trades(trade(1, is_ambiguous=True), trade(1, price=99.0, is_ambiguous=True))
    assert counts(TRADES, arrived, TRADES.empty()) == (2, 0, 0)
    assert counts(TRADES, arrived, arrived) == (0, 2, 0)


def test_rows_without_ids_are_known_by_when_we_received_them():
    second = NOON + timedelta(seconds=1)
    stored = books(book(None, 100.0, recv_time=NOON))
    assert counts(BOOK_TICKER, books(book(None, 100.0, recv_time=NOON)), stored) == (0, 1, 0)
    assert counts(BOOK_TICKER, books(book(None, 100.0, recv_time=second)), stored) == (1, 0, 0)
    assert counts(BOOK_TICKER, books(book(None, 99.0, recv_time=NOON)), stored) == (0, 0, 1)


def test_a_book_dated_by_our_clock_repeats_the_same_book_dated_by_the_exchange():
    stored = books(book(5, 100.0, clock="exchange"))
    late = book(5, 100.0, clock="receive") | {"event_time": NOON + timedelta(milliseconds=80)}
    assert counts(BOOK_TICKER, books(late), stored) == (0, 1, 0)
    assert counts(BOOK_TICKER, books(late | {"clock": "exchange"}), stored) == (0, 0, 1)


def test_a_bar_from_rest_without_trade_ids_repeats_the_streamed_bar():
    bar = {"venue": "aster", "symbol": "BTCUSDT", "interval": "1m", "open_time": NOON, "close": 1.0}
    streamed = conform(pl.DataFrame([bar | {"first_trade_id": 1}]), KLINES)
    assert counts(KLINES, conform(pl.DataFrame([bar]), KLINES), streamed) == (0, 1, 0)


def test_other_leverage_brackets_are_a_contradiction():
    row = {"venue": "aster", "symbol": "BTCUSDT", "event_time": NOON, "brackets": [{"max_leverage": 100.0}]}
    stored = conform(pl.DataFrame([row]), INSTRUMENTS)
    other = conform(pl.DataFrame([row | {"brackets": [{"max_leverage": 50.0}]}]), INSTRUMENTS)
    assert counts(INSTRUMENTS, stored, stored) == (0, 1, 0)
    assert counts(INSTRUMENTS, other, stored) == (0, 0, 1)


def test_a_gap_found_again_later_adds_nothing_and_its_repair_does():
    gap = {"venue": "aster", "symbol": "BTCUSDT", "gap_id": "trades|BTCUSDT|3|4", "state": "open", "cause": "sequence"}
    opened = conform(pl.DataFrame([gap | {"rows_recovered": 0, "detected_time": NOON}]), GAPS)
    again = conform(opened.with_columns(detected_time=NOON + timedelta(hours=1)), GAPS)
    assert counts(GAPS, again, opened) == (0, 1, 0)
    repaired = conform(opened.with_columns(state=pl.lit("repaired"), rows_recovered=2), GAPS)
    assert counts(GAPS, repaired, opened) == (1, 0, 0)


def test_bytes_that_contradict_are_told_in_hexadecimal():
    record = {"segment": "0/a.wal", "line": 1, "event_time": NOON, "payload": b"{}"}
    stored = conform(pl.DataFrame([record]), RAW)
    assert counts(RAW, stored, stored) == (0, 1, 0)
    told = sift(RAW, conform(pl.DataFrame([record | {"payload": b"[]"}]), RAW), stored).disputed.row(0, named=True)
    assert (json.loads(told["stored"])["payload"], json.loads(told["arrived"])["payload"]) == ("7b7d", "5b5d")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (trade(1), True),
        (trade(None), False),
        (trade(1) | {"event_time": None}, False),
        (trade(1) | {"symbol": None}, False),
    ],
)
def test_a_row_needs_a_time_and_a_whole_key(row, expected):
    assert trades(row).select(has_identity(TRADES)).item() is expected


def test_a_row_without_id_needs_its_whole_fallback_key():
    found = books(book(None, 1.0), book(None, 1.0, recv_time=NOON)).select(has_identity(BOOK_TICKER)).to_series()
    assert found.to_list() == [False, True]
