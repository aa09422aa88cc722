"""What is only ever polled, repaired or told by notes, as rows."""

import json

import polars as pl
import pytest

from data import wal
from data.landing import tables_of
from data.wal import Kind, Record, connection_of

START_MS = 1_780_000_000_000  # 2026-05-28 20:26:40
RECV_MS = START_MS + 5_000


def rest(path: str, body: object, venue: str = "aster", gap_id: str | None = None, **asked) -> Record:
    payload = wal.answer(path, asked, START_MS, json.dumps(body).encode(), gap_id=gap_id)
    return Record(RECV_MS * 1_000_000, Kind.ANSWER, connection_of(venue), payload)


def note(what: str, venue: str = "aster", **told) -> Record:
    return Record(RECV_MS * 1_000_000 + 1, Kind.NOTE, connection_of(venue), wal.note(what, **told))


def plain(rows: pl.DataFrame, *columns: str) -> list[tuple]:
    """Cells, times as ms after the start."""
    return rows.select(
        (pl.col(name).dt.epoch("ms") - START_MS) if rows.schema[name].is_temporal() else pl.col(name)
        for name in columns
    ).rows()


def test_open_interest_of_every_venue_stands_in_one_table_and_says_whether_it_is_promised():
    now = {"symbol": "BTCUSDT", "openInterest": "10659.509", "time": START_MS + 7}
    ended = {"symbol": "BTCUSDT", "sumOpenInterest": "2", "sumOpenInterestValue": "9.5", "timestamp": str(START_MS)}
    coins = [{"name": "BTC", "szDecimals": 5}, {"name": "kPEPE"}, {"name": "OLD", "isDelisted": True}]
    markets = [{"openInterest": "3", "markPx": "2.5"}, {"openInterest": "10", "markPx": "0.1"}]
    markets += [{"openInterest": "0.0", "markPx": "1"}]
    rows = tables_of(
        [
            rest("/fapi/v1/openInterest", now, symbol="BTCUSDT"),
            rest("/fapi/v1/openInterest", now, "binance", symbol="BTCUSDT"),
            rest("/futures/data/openInterestHist", [ended], "binance", symbol="BTCUSDT", period="5m"),
            rest("/info", [{"universe": coins}, markets], "hyperliquid", type="metaAndAssetCtxs"),
        ]
    ).tables["open_interest"]
    columns = ("venue", "symbol", "event_time", "open_interest", "open_interest_usdt", "recv_time", "is_documented")
    assert plain(rows, *columns) == [
        ("aster", "BTCUSDT", 7, 10659.509, None, 5_000, False),
        ("binance", "BTCUSDT", 7, 10659.509, None, 5_000, True),
        ("binance", "BTCUSDT", 0, 2, 9.5, 5_000, True),
        ("hyperliquid", "BTCUSDT", 5_000, 3, 7.5, 5_000, True),
        ("hyperliquid", "1000PEPEUSDT", 5_000, 10, 1, 5_000, True),
    ]


def test_the_three_ratios_of_binance():
    accounts = [{"symbol": "X", "longShortRatio": "1.8105", "longAccount": "0.6", "timestamp": START_MS}]
    positions = [{"symbol": "X", "longShortRatio": "1.4", "timestamp": str(START_MS)}]
    takers = [{"buySellRatio": "0.9", "buyVol": "9", "sellVol": "10", "timestamp": START_MS}]
    found = tables_of(
        [
            rest("/futures/data/globalLongShortAccountRatio", accounts, "binance", symbol="X"),
            rest("/futures/data/topLongShortPositionRatio", positions, "binance", symbol="X"),
            rest("/futures/data/takerlongshortRatio", takers, "binance", symbol="X"),
            rest("/futures/data/takerlongshortRatio", [{"buySellRatio": "x", "timestamp": START_MS}], symbol="X"),
        ]
    )
    assert plain(found.tables["ratios"], "venue", "symbol", "event_time", "kind", "value") == [
        ("binance", "X", 0, "long_short_accounts", 1.8105),
        ("binance", "X", 0, "long_short_positions", 1.4),
        ("binance", "X", 0, "taker_buy_sell", 0.9),
    ]
    assert found.quarantine["reason"].to_list() == ["value: expected a number, 0 or above, got 'x'"]


def test_the_markets_that_an_index_is_made_of():
    references = [{"exchange": "binance", "symbol": "BTCUSDT", "weight": "0.4144"}]
    references += [{"exchange": "okx", "symbol": "BTC-USDT", "weight": "0.5856"}]
    body = {"symbol": "BTCUSDT", "time": START_MS + 1, "references": references}
    rows = tables_of([rest("/fapi/v3/indexreferences", body, symbol="BTCUSDT")]).tables["index_references"]
    assert plain(rows, "symbol", "event_time", "exchange", "reference_symbol", "weight", "recv_time") == [
        ("BTCUSDT", 1, "binance", "BTCUSDT", 0.4144, 5_000),
        ("BTCUSDT", 1, "okx", "BTC-USDT", 0.5856, 5_000),
    ]


def test_announcements_come_between_messages_or_on_a_page():
    told = {"i": 7, "t": "Delisting", "c": "DELISTING", "d": START_MS, "j": "https://x"}
    event = Record(RECV_MS * 1_000_000, Kind.FRAME, 0, json.dumps({"e": "announcement", "en": told}).encode())
    texts = [{"language": "zh", "title": "维护"}, {"language": "en", "title": "Maintenance", "subtitle": ""}]
    page = {"id": 8, "contents": texts, "category": "UPDATES", "publishTime": START_MS + 1, "jumpLink": "https://y"}
    answers = [rest("/fapi/v3/announcement/direct", {"total": 1, "rows": [page]})]
    answers += [rest("/fapi/v3/announcement/directById", page | {"id": 9}, id=9)]
    rows = tables_of([event, *answers]).tables["announcements"]
    assert plain(rows, "announcement_id", "event_time", "category", "title", "link", "source") == [
        ("7", 0, "DELISTING", "Delisting", "https://x", "ws"),
        ("8", 1, "UPDATES", "Maintenance", "https://y", "rest"),
        ("9", 1, "UPDATES", "Maintenance", "https://y", "rest"),
    ]


def test_leverage_brackets_are_a_column_of_the_contracts_in_the_same_log():
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.1"}]
    filters += [{"filterType": "LOT_SIZE", "stepSize": "1", "minQty": "1", "maxQty": "9"}]
    contracts = [{"symbol": symbol, "status": "TRADING", "filters": filters} for symbol in ("X", "Y")]
    step = {"bracket": 1, "initialLeverage": 50, "notionalCap": 5, "notionalFloor": 0, "maintMarginRatio": 0.01}
    brackets = {"symbol": "X", "brackets": [step | {"cum": 0}]}
    rows = tables_of(
        [rest("/fapi/v3/exchangeInfo", {"symbols": contracts}), rest("/fapi/v3/leverageBracket", [brackets])]
    ).tables["instruments"]
    assert rows["brackets"].list.len().to_list() == [1, None]
    assert rows["brackets"][0][0]["maintenance_margin_rate"] == 0.01


def test_an_answer_that_is_no_answer_costs_a_row_of_the_quarantine():
    refusal = {"code": -1000, "msg": "An unknown error"}
    found = tables_of(
        [
            rest("/fapi/v1/openInterest", refusal, symbol="X"),
            rest("/info", [{"universe": [{"name": "BTC"}]}, []], "hyperliquid", type="metaAndAssetCtxs"),
            rest("/info", {}, "hyperliquid", type="clearinghouseState"),
            rest("/fapi/v3/time", {"serverTime": START_MS}),
        ]
    )
    assert (found.tables, found.skipped) == ({}, {"time": 1})
    assert found.quarantine["line"].to_list() == [1, 2, 3]


def test_what_fills_a_gap_has_no_receipt_and_is_handed_on_with_its_answer():
    bar = [START_MS, "1", "2", "0.5", "1.5", "10", START_MS + 4_999, "15", 7, "4", "6", "0"]
    asked = {"symbol": "X", "interval": "1m"}
    gap = "klines|X|1m|1|2"
    found = tables_of([rest("/fapi/v3/klines", [bar], gap_id=gap, **asked), rest("/fapi/v3/klines", [bar], **asked)])
    assert plain(found.tables["klines"], "source", "recv_time") == [("rest", None), ("rest", 5_000)]
    ((recv_ns, answer),) = found.answers
    assert (recv_ns, answer.gap_id, answer.params) == (RECV_MS * 1_000_000, gap, asked)


def test_clock_comparisons_are_rows_and_all_notes_are_handed_on():
    compared = {"offset_ms": -2.5, "round_trip_ms": 40, "step_ms": None}
    notes = [note("clock", "binance", event_ms=START_MS, **compared), note("started", pid=1), note("clock", **compared)]
    found = tables_of(notes)
    assert plain(found.tables["clock"], "venue", "event_time", "offset_ms", "round_trip_ms", "step_ms") == [
        ("binance", 0, -2.5, 40, None),
        ("aster", 5_000, -2.5, 40, None),
    ]
    assert found.notes == notes


# --- numbers and fields that are not quite right ----------------------------------------------------------------------


def trade(**changes) -> Record:
    said = {"e": "aggTrade", "E": START_MS, "T": START_MS, "s": "X", "a": 1, "p": "1", "q": "1", "f": 1, "l": 1}
    return Record(RECV_MS * 1_000_000, Kind.FRAME, 0, json.dumps(said | {"m": True} | changes).encode())


@pytest.mark.parametrize("text", ["0.1", "99999999.1234567", "0.00000000000000100", "2251799813685248.5", "1e-7"])
def test_a_number_is_stored_as_its_text_says(text):
    found = tables_of([trade(p=text)])
    assert (found.lossy, found.quarantine.height) == ({}, 0)
    assert found.tables["trades"]["price"][0] == float(text)


def test_a_number_with_more_digits_than_a_float_holds_is_stored_and_told_once():
    too_long = "9007199254740993.1"
    found = tables_of([trade(q=too_long), trade(a=2), trade(a=3, q=too_long)])
    assert found.tables["trades"]["quantity"].to_list() == [9007199254740994.0, 1.0, 9007199254740994.0]
    assert (found.lossy, found.quarantine["line"].to_list()) == ({"trades": 2}, [1])
    assert found.quarantine["reason"][0] == (
        "quantity: 9007199254740993.1 has more digits than a float64 holds, it was stored as 9007199254740994.0"
    )
    period = {"symbol": "X", "sumOpenInterest": "1", "sumOpenInterestValue": too_long, "timestamp": START_MS}
    found = tables_of([rest("/futures/data/openInterestHist", [period], "binance", symbol="X")])
    assert (found.lossy, json.loads(found.quarantine["raw"][0])) == ({"open_interest": 1}, period)
    book = {"e": "depthUpdate", "E": START_MS, "T": START_MS, "s": "X", "U": 1, "u": 2, "pu": 0}
    book |= {"b": [["1", too_long]], "a": [["2", "1"]]}
    books = [{"stream": "x@depth5", "data": book}, {"stream": "x@depth5", "data": book | {"u": 3, "b": []}}]
    records = [Record(RECV_MS * 1_000_000, Kind.FRAME, 0, json.dumps(each).encode()) for each in books]
    found = tables_of(records)
    assert (found.lossy, found.tables["depth"].height) == ({"depth": 1}, 2)
    assert found.quarantine["reason"][0].startswith("levels: 9007199254740993.1 has more digits")


def test_a_field_that_is_missing_is_told_once_and_the_row_is_kept():
    found = tables_of([trade(), trade(a=2, f=None), trade(a=3, f=None), trade(a=4, E=None), trade(a=5, f=None, p="x")])
    assert found.tables["trades"]["agg_trade_id"].to_list() == [1, 2, 3, 4]
    assert found.quarantine.select("line", "reason").rows() == [
        (2, "aggTrade: missing field f; the row was stored without it"),
        (4, "aggTrade: missing field E; the row was stored without it"),
        (5, "price: expected a number above 0, got 'x'"),
    ]
    order = {"s": "X", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "1", "p": "1", "X": "FILLED", "l": "1", "z": "1"}
    said = {"e": "forceOrder", "E": START_MS, "o": order | {"T": START_MS}}
    found = tables_of([Record(RECV_MS * 1_000_000, Kind.FRAME, 0, json.dumps(said).encode())])
    assert found.quarantine["reason"].to_list() == ["forceOrder: missing field o.ap; the row was stored without it"]


def test_a_print_that_was_no_trade_has_neither_price_nor_quantity():
    said = {"e": "trade", "E": START_MS, "T": START_MS, "s": "X", "t": 1, "p": "0", "q": "0", "X": "NA", "m": True}
    found = tables_of([Record(RECV_MS * 1_000_000, Kind.FRAME, 0, json.dumps(said).encode())])
    assert found.tables["raw_trades"].select("price", "market_type").rows() == [(0, "NA")]
