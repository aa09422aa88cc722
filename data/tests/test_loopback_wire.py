"""What rows look like on the wire, against the samples of the exchange's documents."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.loopback import wire
from data.loopback.wire import Decimals, decimal_text, decimals_of
from data.schema import TABLES, conform

BTC = Decimals(price=1, quantity=3)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def rows(table: str, **columns) -> pl.DataFrame:
    return conform(pl.DataFrame([{"venue": "aster", "symbol": "BTCUSDT", **columns}]), TABLES[table])


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def only(template: str, row: pl.DataFrame) -> str:
    return wire.lines(template, row, BTC).item()


@given(st.lists(st.one_of(st.none(), FINITE), min_size=1), st.integers(0, 8))
def test_reading_the_text_gives_back_exactly_the_float(values, digits):
    texts = decimal_text(pl.Series(values, dtype=pl.Float64), digits).to_list()
    assert [None if text is None else float(text) for text in texts] == values
    assert not any("e" in text for text in texts if text is not None)


@given(st.lists(st.integers(0, 10**12), min_size=1), st.integers(0, 6))
def test_prices_on_the_grid_are_written_with_the_decimals_of_the_grid(counts, digits):
    texts = decimal_text(pl.Series([count / 10**digits for count in counts]), digits).to_list()
    assert texts == [f"{count / 10**digits:.{digits}f}" for count in counts]


def test_prices_off_the_grid_get_the_digits_they_need():
    prices = pl.Series([61000.0, 61000.1, 61000.125, -0.5, None, 0.1 + 0.2])
    expected = ["61000.0", "61000.1", "61000.125", "-0.5", None, "0.30000000000000004"]
    assert decimal_text(prices, 1).to_list() == expected


@pytest.mark.parametrize(("size", "digits"), [(0.001, 3), (0.1, 1), (1.0, 0), (10.0, 0), (0.0001, 4), (0.25, 2)])
def test_a_tick_says_how_many_decimals_prices_have(size, digits):
    assert decimals_of(size) == digits


def test_an_aggregate_trade_is_as_in_the_documents():
    row = rows(
        "trades", agg_trade_id=501, price=61000.1, quantity=0.02, first_trade_id=900, last_trade_id=902,
        event_time=at(1780000000101), sent_time=at(1780000000105), is_buyer_maker=False,
    )  # fmt: skip
    assert only(wire.AGG_TRADE, row) == (
        '{"e":"aggTrade","E":1780000000105,"s":"BTCUSDT","a":501,"p":"61000.1","q":"0.020","f":900,"l":902,'
        '"T":1780000000101,"m":false}'
    )


def test_a_mark_price_is_as_in_the_documents():
    row = rows(
        "mark_price", event_time=at(1780000000000), mark_price=61002.51, index_price=61010.2,
        estimated_settle_price=61001.0, funding_rate=0.00008, next_funding_time=at(1780012800000),
    )  # fmt: skip
    assert only(wire.MARK_PRICE, row) == (
        '{"e":"markPriceUpdate","E":1780000000000,"s":"BTCUSDT","p":"61002.51000000","i":"61010.20000000",'
        '"P":"61001.00000000","r":"0.00008000","T":1780012800000}'
    )


def test_a_bar_is_as_in_the_documents():
    row = rows(
        "kline_updates", interval="1m", open_time=at(1780000000000), sent_time=at(1780000059950), open=61000.1,
        high=61005.0, low=60999.9, close=61004.0, volume=3.211, quote_volume=195880.12, trade_count=51,
        taker_buy_volume=1.9, taker_buy_quote_volume=115900.4, first_trade_id=900, last_trade_id=950, is_final=False,
    ).with_columns(close_time=pl.lit(1780000059999).cast(pl.Datetime("ms", "UTC")))  # fmt: skip
    assert only(wire.KLINE, row) == (
        '{"e":"kline","E":1780000059950,"s":"BTCUSDT","k":{"t":1780000000000,"T":1780000059999,"s":"BTCUSDT","i":"1m",'
        '"f":900,"L":950,"o":"61000.1","c":"61004.0","h":"61005.0","l":"60999.9","v":"3.211","n":51,"x":false,'
        '"q":"195880.1200","V":"1.900","Q":"115900.4000","B":"0"}}'
    )


def test_a_touch_is_as_in_the_documents():
    row = rows(
        "book_ticker", update_id=770001, sent_time=at(1780000000011), event_time=at(1780000000009), bid_price=61000.0,
        bid_quantity=1.25, ask_price=61000.1, ask_quantity=0.3,
    )  # fmt: skip
    assert only(wire.BOOK_TICKER, row) == (
        '{"e":"bookTicker","u":770001,"E":1780000000011,"T":1780000000009,"s":"BTCUSDT","b":"61000.0","B":"1.250",'
        '"a":"61000.1","A":"0.300"}'
    )


def test_a_partial_book_is_as_in_the_documents():
    row = rows(
        "depth", levels=5, first_update_id=5001, update_id=5010, previous_update_id=5000, event_time=at(1780000000248),
        sent_time=at(1780000000250), bid_price_0=61000.0, bid_quantity_0=0.0, ask_price_0=61000.1, ask_quantity_0=0.28,
    )  # fmt: skip
    template, row = wire.with_sides(wire.DEPTH, row, 5, BTC)
    assert only(template, row) == (
        '{"e":"depthUpdate","E":1780000000250,"T":1780000000248,"s":"BTCUSDT","U":5001,"u":5010,"pu":5000,'
        '"b":[["61000.0","0.000"]],"a":[["61000.1","0.280"]]}'
    )


def test_books_of_different_depth_are_each_as_deep_as_they_are():
    deep = rows("depth", bid_price_0=3.0, bid_quantity_0=1.0, bid_price_1=2.0, bid_quantity_1=5.0)
    flat = rows("depth", bid_price_0=3.0, bid_quantity_0=1.0)
    template, books = wire.with_sides("[<bids>] [<asks>]", pl.concat([deep, flat]), 5, BTC)
    texts = wire.lines(template, books, BTC).to_list()
    assert texts == ['[["3.0","1.000"],["2.0","5.000"]] []', '[["3.0","1.000"]] []']


def test_a_forced_order_is_as_in_the_documents():
    row = rows(
        "force_orders", event_time=at(1780000000871), sent_time=at(1780000001000), side="SELL", quantity=4.2,
        price=2990.11, average_price=3004.55, last_filled_quantity=1.0, filled_quantity=4.2, status="FILLED",
    ).with_columns(symbol=pl.lit("ETHUSDT"))  # fmt: skip
    assert wire.lines(wire.FORCE_ORDER, row, Decimals(price=2, quantity=3)).item() == (
        '{"e":"forceOrder","E":1780000001000,"o":{"s":"ETHUSDT","S":"SELL","o":"LIMIT","f":"IOC","q":"4.200",'
        '"p":"2990.11","ap":"3004.55","X":"FILLED","l":"1.000","z":"4.200","T":1780000000871}}'
    )


def test_a_single_fill_has_the_keys_of_the_one_that_was_captured_live():
    row = rows(
        "raw_trades", trade_id=21955616, price=0.086245, quantity=3894.0, market_type="INSURANCE_FUND",
        is_buyer_maker=True, event_time=at(1787302843450), sent_time=at(1787302843505),
    ).with_columns(symbol=pl.lit("DOGEUSDT"))  # fmt: skip
    assert wire.lines(wire.TRADE, row, Decimals(price=5, quantity=0)).item() == (
        '{"e":"trade","E":1787302843505,"T":1787302843450,"s":"DOGEUSDT","t":21955616,"p":"0.086245","q":"3894",'
        '"X":"INSURANCE_FUND","m":true}'
    )


def test_what_is_null_in_the_lake_is_null_on_the_wire():
    said = json.loads(only(wire.AGG_TRADE, rows("trades", price=1.0, event_time=at(1780000000101))))
    nulls = ["E", "a", "f", "l", "m", "q"]
    assert sorted(name for name, value in said.items() if value is None) == nulls
