"""What becomes of records: rows, counts, quarantine. That rows hold the right values is test_landing_rows.py's."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from data import wal
from data.landing import tables_of
from data.wal import Kind, Record

RECV_NS = 1_780_000_100_000_000_123
START_MS = 1_780_000_000_000  # 2026-05-28 20:26:40
MINUTE_MS = 60_000


def frame(said: object, recv_ns: int = RECV_NS) -> Record:
    return Record(recv_ns, Kind.FRAME, 0, json.dumps(said).encode())


def rest(path: str, body: object, recv_ns: int = RECV_NS, since_ms: int = START_MS, **asked) -> Record:
    effective_ms = asked.pop("effective_ms", None)
    payload = wal.answer(path, asked, since_ms, json.dumps(body).encode(), effective_ms=effective_ms)
    return Record(recv_ns, Kind.ANSWER, 0, payload)


def landing(*records: Record, **settings):
    return tables_of(records, venue="aster", **settings)


def ms(frame: pl.DataFrame, column: str) -> list[int | None]:
    return frame[column].to_physical().to_list()


def test_single_captured_frames_of_several_venues(real_data):
    lines = (real_data / "frames" / "live_frames.jsonl").read_text(encoding="utf-8").splitlines()
    found = landing(*(frame(json.loads(line)["raw"]) for line in lines))
    assert {table: rows.height for table, rows in found.tables.items()} == {
        "trades": 1,
        "raw_trades": 1,
        "force_orders": 5,
    }
    assert found.quarantine.select("line", "reason").rows() == [
        (3, "no event: the field e is missing"),
        (4, "no event: the field e is missing"),
        (5, "no event: the field e is missing"),
    ]
    assert found.tables["raw_trades"]["market_type"].to_list() == ["INSURANCE_FUND"]
    assert found.tables["force_orders"]["average_price"][0] == 0.0044461


# --- frames -----------------------------------------------------------------------------------------------------------

QUOTE = {"e": "bookTicker", "u": 7, "E": START_MS + 3, "T": START_MS, "s": "BTCUSDT"}
QUOTE |= {"b": "1.5", "B": "4", "a": "1.6", "A": "0.2"}
BOOK = {"e": "depthUpdate", "E": START_MS, "T": START_MS, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0}


def test_what_the_exchange_leaves_out_is_null_and_the_time_is_then_the_one_it_was_sent():
    old = {name: value for name, value in QUOTE.items() if name not in "uTBA"}
    rows = landing(frame(old), frame(QUOTE | {"u": None, "B": None, "A": ""})).tables["book_ticker"]
    assert rows["update_id"].to_list() == [None, None]
    assert rows["bid_quantity"].to_list() == rows["ask_quantity"].to_list() == [None, None]
    assert ms(rows, "event_time") == [START_MS + 3, START_MS]
    assert ms(rows, "recv_time") == [RECV_NS, RECV_NS]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"b": "one"}, "bid_price: expected a number above 0, got 'one'"),
        ({"b": "nan"}, "bid_price: expected a number above 0, got 'nan'"),
        ({"a": "0"}, "ask_price: expected a number above 0, got '0'"),
        ({"A": "-1"}, "ask_quantity: expected a number, 0 or above, or nothing, got '-1'"),
        ({"T": None, "E": None}, "event_time: the message names no time"),
        ({"s": None}, "bookTicker: Expected `str`, got `null` - at `$.s`"),
    ],
)
def test_a_message_without_identity_price_or_time_is_quarantined_and_costs_nothing_else(changed, reason):
    found = landing(frame(QUOTE), frame(QUOTE | changed), frame(QUOTE | {"u": 8}), segment="a.wal")
    assert found.tables["book_ticker"]["update_id"].to_list() == [7, 8]
    assert found.quarantine.select("file", "line", "reason", "raw").rows() == [
        ("a.wal", 2, reason, json.dumps(QUOTE | changed))
    ]
    assert ms(found.quarantine, "quarantined_time") == [RECV_NS // 1_000_000]


def test_several_refusals_in_one_frame_are_one_row_of_the_quarantine():
    found = landing(frame([QUOTE, QUOTE | {"b": "x"}, {"e": "new"}, QUOTE | {"b": "x"}]))
    assert found.tables["book_ticker"].height == 1
    assert found.quarantine["reason"].to_list() == [
        "unknown event 'new'; bid_price: expected a number above 0, got 'x'"
    ]


def test_a_thin_book_is_null_beyond_its_levels_and_every_book_is_best_first():
    thin = BOOK | {"b": [["9", "1"]], "a": []}
    mixed_up = BOOK | {"u": 3, "b": [["7", "1"], ["8", "2"], ["9", "3"]], "a": [["12", "1"], ["11", "2"]]}
    found = landing(frame({"stream": "b@depth5", "data": thin}), frame({"stream": "b@depth5", "data": mixed_up}))
    rows = found.tables["depth"]
    assert rows.select("levels", "bid_price_0", "bid_quantity_0", "bid_price_1", "ask_price_0").rows() == [
        (5, 9, 1, None, None),
        (5, 9, 3, 8, 11),
    ]
    assert rows.select("bid_price_2", "bid_quantity_2", "ask_price_1", "ask_quantity_1", "ask_price_2").rows() == [
        (None, None, None, None, None),
        (7, 1, 12, 1, None),
    ]


def test_a_book_that_is_no_book_is_quarantined():
    level = [["9", "1"]]
    found = landing(
        frame({"stream": "b@depth5", "data": BOOK | {"b": level * 6, "a": []}}),
        frame({"stream": "b@depth10", "data": BOOK | {"b": [["nine", "1"]], "a": []}}),
        frame({"stream": "b@depth5", "data": BOOK | {"b": [["9"]], "a": []}}),
        frame(BOOK | {"b": level, "a": level}),
    )
    assert found.tables == {}
    assert found.quarantine["reason"].to_list() == [
        "levels: the book is deeper than its stream's name says",
        "levels: expected pairs of numbers, 0 or above",
        "levels: expected pairs of numbers, 0 or above",
    ]
    assert found.skipped == {"depthUpdate of a whole book": 1}
    assert landing(frame(BOOK | {"b": level, "a": level}), levels=20).tables["depth"]["levels"].to_list() == [20]


def test_a_new_field_is_told_of_once_per_segment_and_every_row_is_kept():
    found = landing(frame(QUOTE | {"zz": 1}), frame(QUOTE | {"zz": 2, "u": 8}), frame(QUOTE | {"zz": 1, "yy": 1}))
    assert found.tables["book_ticker"].height == 3
    assert found.quarantine.select("line", "reason").rows() == [
        (1, "bookTicker: unknown field zz; the row was stored without it"),
        (3, "bookTicker: unknown field yy; the row was stored without it"),
    ]


def test_messages_without_a_table_are_counted_and_control_replies_are_nothing():
    found = landing(
        frame({"e": "24hrTicker"}), frame({"e": "24hrTicker", "c": 1}), frame({"e": "tradepro"}), frame({"result": 0})
    )
    assert (found.tables, found.skipped) == ({}, {"24hrTicker": 2, "tradepro": 1})
    assert found.quarantine.is_empty()


def test_the_exchanges_test_contracts_are_left_out_and_counted():
    found = landing(frame(QUOTE | {"s": "TESTUSDT"}), frame(QUOTE), frame(QUOTE | {"s": "TESTUSDT", "b": "x"}))
    assert found.tables["book_ticker"]["symbol"].to_list() == ["BTCUSDT"]
    assert (found.skipped, found.quarantine.height) == ({"test contract": 2}, 0)


def test_a_next_funding_time_of_zero_means_none():
    said = {"e": "markPriceUpdate", "E": START_MS, "s": "BTCUSD", "p": "1", "i": "1", "P": "1", "r": "", "T": 0}
    rows = landing(frame(said)).tables["mark_price"]
    assert rows.select("funding_rate", "next_funding_time").rows() == [(None, None)]


# --- answers and notes ------------------------------------------------------------------------------------------------


def bar(open_ms: int, close: str = "1.5") -> list:
    return [open_ms, "1", "2", "0.5", close, "10", open_ms + MINUTE_MS - 1, "15", 7, "4", "6", "0"]


def test_bars_that_had_closed_land_and_those_we_waited_for_carry_their_receipt():
    body = [bar(START_MS - 2 * MINUTE_MS), bar(START_MS - MINUTE_MS), bar(START_MS), bar(START_MS + MINUTE_MS)]
    recv_ns = (START_MS + 2 * MINUTE_MS) * 1_000_000 - 1  # a nanosecond before the last of them closes
    rows = landing(rest("/fapi/v3/klines", body, recv_ns, symbol="BTCUSDT", interval="1m")).tables["klines"]
    assert ms(rows, "open_time") == [START_MS - 2 * MINUTE_MS, START_MS - MINUTE_MS, START_MS]
    assert ms(rows, "recv_time") == [None, recv_ns, recv_ns]  # the second closed the moment we began to listen
    assert rows.select("symbol", "interval", "close", "trade_count", "taker_buy_volume", "source").row(0) == (
        ("BTCUSDT", "1m", 1.5, 7, 4.0, "rest")
    )
    later = landing(rest("/fapi/v1/klines", body, recv_ns + 1, symbol="BTCUSDT", interval="1m"))
    assert later.tables["klines"].height == 4


def test_bars_of_reference_prices_land_in_their_tables():
    body = [bar(START_MS - MINUTE_MS)]
    found = landing(
        rest("/fapi/v3/markPriceKlines", body, symbol="BTCUSDT", interval="1m"),
        rest("/fapi/v3/indexPriceKlines", body, pair="BTCUSDT", interval="1m"),
    )
    for table in ("mark_klines", "index_klines"):
        assert found.tables[table].select("symbol", "interval", "high", "source").rows() == [
            ("BTCUSDT", "1m", 2.0, "rest")
        ]


def test_trades_by_rest_carry_a_receipt_only_from_when_we_listened():
    trade = {"a": 1, "p": "2.5", "q": "3", "f": 1, "l": 2, "T": START_MS - 1, "m": True}
    rows = landing(rest("/fapi/v3/aggTrades", [trade, trade | {"a": 2, "T": START_MS}], symbol="X")).tables["trades"]
    assert rows.select("agg_trade_id", "price", "is_buyer_maker", "is_ambiguous").rows() == [
        (1, 2.5, True, False),
        (2, 2.5, True, False),
    ]
    assert ms(rows, "recv_time") == [None, RECV_NS]


def test_fundings_know_their_interval_where_the_log_does():
    rate = {"symbol": "BTCUSDT", "fundingRate": "-0.0001", "fundingTime": START_MS}
    info = {"symbol": "BTCUSDT", "interestRate": "0.0001", "time": 1, "fundingIntervalHours": 4, "fundingFeeCap": 0.03}
    asked = rest("/fapi/v3/fundingRate", [rate, rate | {"symbol": "ETHUSDT"}])
    for found in (landing(asked, rest("/fapi/v3/fundingInfo", [info])), landing(asked)):
        rows = found.tables["funding"]
        assert (rows["symbol"].to_list(), rows["funding_rate"].to_list()) == (["BTCUSDT", "ETHUSDT"], [-0.0001] * 2)
    known = landing(asked, rest("/fapi/v3/fundingInfo", [info])).tables["funding"]
    assert [known["interval_hours"].to_list(), rows["interval_hours"].to_list()] == [[4, None], [None, None]]


def test_contracts_are_in_force_from_the_receipt_or_from_when_the_record_says(real_data):
    info = json.loads((real_data / "exchangeInfo-response.json").read_text(encoding="utf-8"))
    hours = rest("/fapi/v3/fundingInfo", [{"symbol": "BTCUSDT", "fundingIntervalHours": 8}])
    rows = landing(hours, rest("/fapi/v3/exchangeInfo", info)).tables["instruments"]
    assert rows.height == 290
    assert rows["event_time"].unique().to_list() == [datetime.fromtimestamp(RECV_NS // 10**6 / 1_000, UTC)]
    known = rows.filter(pl.col("funding_interval_hours").is_not_null())
    assert known.select("symbol", "funding_interval_hours", "source").rows() == [("BTCUSDT", 8, "rest")]
    rows = landing(rest("/fapi/v3/exchangeInfo", info, effective_ms=START_MS)).tables["instruments"]
    assert rows["event_time"].dt.epoch("ms").unique().to_list() == [START_MS]


def test_answers_that_are_not_what_was_asked_for_are_quarantined():
    refusal = {"code": -1121, "msg": "Invalid symbol."}
    running = bar(START_MS + 5 * MINUTE_MS)
    mixed = [running, bar(START_MS - MINUTE_MS), bar(START_MS, "x"), [START_MS]]
    found = landing(
        rest("/fapi/v3/klines", refusal, symbol="X", interval="1m"),
        rest("/fapi/v3/klines", mixed, symbol="X", interval="1m"),
        rest("/fapi/v3/klines", [bar(START_MS)], symbol="X"),
        rest("/fapi/v3/exchangeInfo", refusal),
        rest("/fapi/v3/exchangeInfo", {"symbols": [{"symbol": "X"}]}),
        rest("/fapi/v3/somethingNew", []),
        Record(RECV_NS, Kind.ANSWER, 0, b"no JSON"),
    )
    assert found.tables["klines"].height == 1
    assert found.quarantine["raw"][1] == json.dumps(bar(START_MS, "x")[:-1], separators=(",", ":"))
    told = found.quarantine.select("line", pl.col("reason").str.slice(0, 40)).rows()
    assert told == [
        (1, "Expected `array`, got `object`"),
        (2, "close: expected a number above 0, got 'x"),
        (2, "Expected `array` of at least length 11, "),
        (3, "/fapi/v3/klines: KeyError: 'interval'"),
        (4, "/fapi/v3/exchangeInfo: KeyError: 'symbol"),
        (5, "a price or lot filter, the symbol or its"),
        (6, "/fapi/v3/somethingNew: LookupError: no t"),
        (7, "no answer with its question: JSON is mal"),
    ]


def test_answers_that_need_no_row_are_counted_and_empty_ones_are_nothing():
    found = landing(
        rest("/fapi/v3/premiumIndex", {"symbol": "X"}),
        rest("/fapi/v3/klines", [], symbol="X", interval="1m"),
        rest("/fapi/v3/fundingRate", []),
    )
    assert (found.tables, found.skipped, found.quarantine.height) == ({}, {"premiumIndex": 1}, 0)


def test_a_bar_that_was_given_up_is_a_gap_for_good():
    note = wal.note("gave_up", symbol="BTCUSDT", interval="1m", open_ms=START_MS)
    rows = landing(Record(RECV_NS, Kind.NOTE, 0, wal.note("started")), Record(RECV_NS, Kind.NOTE, 0, note))
    (row,) = rows.tables["gaps"].to_dicts()
    before, after = START_MS - MINUTE_MS, START_MS + MINUTE_MS
    assert row["gap_id"] == f"klines|BTCUSDT|1m|{before}|{after}"
    assert [row[name].timestamp() * 1_000 for name in ("from_time", "to_time")] == [before, after]
    assert row["detected_time"].timestamp() * 1_000 == -(-RECV_NS // 1_000_000)
    assert [row[name] for name in ("venue", "table", "missing", "is_estimate", "state", "cause")] == [
        "aster",
        "klines",
        1,
        False,
        "unrepairable",
        "reconnect",
    ]


def test_a_note_that_cannot_be_read_is_quarantined():
    notes = [b"", b"[]", b"{}", wal.note("gave_up", symbol="X"), wal.note("gave_up", symbol="X", interval=1, open_ms=1)]
    found = landing(*(Record(RECV_NS, Kind.NOTE, 0, note) for note in notes))
    assert (found.tables, found.quarantine.height) == ({}, len(notes))
