"""What the two sockets of a pair bring becomes one row with both arrivals; what they disagree about is not hidden."""

import json

import polars as pl

from data import wal
from data.lake import Lake
from data.landing import REMEMBERED, Lander, tables_of
from data.wal import Kind, Record, connection_of

START_MS = 1_780_000_000_000  # 2026-05-28 20:26:40
START_NS = START_MS * 1_000_000
A, B = connection_of("aster", 0, 0), connection_of("aster", 0, 1)


def trade(number: int, **changes) -> dict:
    said = {"e": "aggTrade", "E": START_MS + 3, "T": START_MS, "s": "BTCUSDT", "a": number, "p": "2.5", "q": "3"}
    return said | {"f": number, "l": number, "m": True} | changes


def frame(said: object, at: int, connection: int = A) -> Record:
    """A frame ``at`` nanoseconds after the start."""
    return Record(START_NS + at, Kind.FRAME, connection, json.dumps(said).encode())


def told(rows: pl.DataFrame) -> list[tuple]:
    """(id, first receipt, second receipt, first socket), receipts in ns after the start."""
    receipts = pl.col("recv_time", "recv2_time").dt.epoch("ns") - START_NS
    return rows.select("agg_trade_id", receipts, "socket").rows()


def test_the_first_arrival_counts_and_the_second_is_noted_on_its_row():
    found = tables_of([frame(trade(1), 5), frame(trade(1), 9, B), frame(trade(2), 10, B), frame(trade(2), 30)])
    assert told(found.tables["trades"]) == [(1, 5, 9, 0), (2, 10, 30, 1)]
    assert (found.copies, found.quarantine.height, found.heard) == (2, 0, {A: START_NS + 30, B: START_NS + 10})


def test_what_one_socket_alone_brought_has_no_second_arrival():
    found = tables_of([frame(trade(1), 5), frame(trade(2), 6, B), frame(trade(1), 7, B)])
    assert told(found.tables["trades"]) == [(1, 5, 7, 0), (2, 6, None, 1)]


def test_late_and_reordered_copies_find_their_row_and_a_third_changes_nothing():
    order = [(1, A), (2, B), (3, A), (3, B), (1, B), (2, A), (1, A), (3, B)]
    found = tables_of([frame(trade(number), at, socket) for at, (number, socket) in enumerate(order)])
    assert told(found.tables["trades"]) == [(1, 0, 4, 0), (2, 1, 5, 1), (3, 2, 3, 0)]


def test_a_message_twice_on_one_socket_is_one_fact_for_the_lake(tmp_path):
    found = tables_of([frame(trade(1), 5), frame(trade(1), 9), frame(trade(1), 12, B)])
    landed = Lake(tmp_path / "lake", create=True).append("trades", found.tables["trades"], origin="test")
    assert (landed.landed, landed.conflicts) == (1, 0)


def test_copies_whose_bytes_differ_but_not_what_they_say_are_merged_too():
    later_sent = trade(1, E=START_MS + 4)
    book = {"e": "bookTicker", "u": 7, "E": START_MS, "T": START_MS, "s": "X", "b": "1", "B": "1", "a": "2", "A": "1"}
    found = tables_of(
        [frame(trade(1), 5), frame(later_sent, 9, B), frame(book, 10, B), frame(book | {"E": START_MS + 1}, 11)]
    )
    assert told(found.tables["trades"]) == [(1, 5, 9, 0)]
    assert found.tables["book_ticker"].select("update_id", "socket").rows() == [(7, 1)]
    assert found.copies == 2


def test_copies_that_contradict_each_other_stay_and_become_a_conflict(tmp_path):
    found = tables_of([frame(trade(1), 5), frame(trade(1, p="2.6"), 9, B)])
    assert told(found.tables["trades"]) == [(1, 5, None, 0), (1, 9, None, 1)]
    lake = Lake(tmp_path / "lake", create=True)
    assert lake.append("trades", found.tables["trades"], origin="test").conflicts == 1
    assert lake.scan("trades")["price"].to_list() == [2.5]


def test_a_final_bar_and_a_liquidation_that_came_twice_are_one_row_each():
    bar = {"t": START_MS, "T": START_MS + 59_999, "s": "X", "i": "1m", "f": 1, "L": 2, "o": "1", "c": "1", "h": "1"}
    bar |= {"l": "1", "v": "1", "n": 1, "x": True, "q": "1", "V": "1", "Q": "1", "B": "0"}
    order = {"s": "X", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "1", "p": "1", "ap": "1", "X": "FILLED", "l": "1"}
    said = [{"e": "kline", "E": START_MS, "s": "X", "k": bar}]
    said += [{"e": "forceOrder", "E": START_MS, "o": order | {"z": "1", "T": START_MS}}]
    found = tables_of([frame(each, at, socket) for at, socket in ((1, A), (2, B)) for each in said])
    assert {table: rows.height for table, rows in found.tables.items()} == {
        "kline_updates": 1,
        "klines": 1,
        "force_orders": 1,
    }


def test_an_array_that_came_twice_notes_both_arrivals_on_all_its_rows():
    marks = [
        {"e": "markPriceUpdate", "E": START_MS, "s": symbol, "p": "1", "i": "1", "P": "1", "r": "0", "T": START_MS}
        for symbol in ("X", "Y")
    ]
    rows = tables_of([frame(marks, 1), frame(marks, 2, B)]).tables["mark_price"]
    assert (rows["recv2_time"].dt.epoch("ns") - START_NS).to_list() == [2, 2]


def test_a_copy_is_known_over_slices_and_after_many_frames():
    lander = Lander(segment="x")
    lander.add([frame(trade(-1), 0), frame(trade(0), 0, B), frame(trade(1), 1)])
    assert lander.take().tables["trades"].height == 3
    assert lander.add([frame(trade(1), 3, B), frame(trade(2), 4)]) == 2
    assert told(lander.take().tables["trades"]) == [(2, 4, None, 0)]
    many = [frame(trade(number), number) for number in range(10, REMEMBERED + 20)]
    lander.add(many)
    lander.add([many[-5]._replace(connection=B), many[0]._replace(connection=B)])  # one of them is long past
    landing = lander.take()
    assert (landing.tables["trades"].height, landing.copies) == (len(many), 2)


def test_venues_are_told_apart_by_the_connection_and_never_merged():
    binance = connection_of("binance", 0, 0)
    same = [frame(trade(1), 1), frame(trade(1), 2, binance), frame(trade(1), 3, binance + 1)]
    rows = tables_of(same).tables["trades"].sort("recv_time")
    assert rows.select("venue", "socket", pl.col("recv2_time").is_null()).rows() == [
        ("aster", 0, True),
        ("binance", 0, False),
    ]
    assert tables_of(same, venue="binance").tables["trades"]["venue"].unique().to_list() == ["binance"]


def test_frames_that_were_sealed_before_count_and_explain_but_are_no_rows():
    hours = wal.answer("/fapi/v3/fundingInfo", {}, 0, b'[{"symbol":"X","fundingIntervalHours":4}]')
    rate = b'[{"symbol":"X","fundingRate":"0.1","fundingTime":%d}]' % START_MS
    lander = Lander(segment="x")
    assert lander.pass_over([frame(trade(1), 1), Record(START_NS, Kind.ANSWER, 0, hours)]) == 2
    lander.add([Record(START_NS, Kind.ANSWER, 0, wal.answer("/fapi/v3/fundingRate", {}, 0, rate)), frame(7, 9)])
    landing = lander.take()
    assert list(landing.tables) == ["funding"]
    assert landing.tables["funding"]["interval_hours"].to_list() == [4]
    assert landing.quarantine["line"].to_list() == [4]
