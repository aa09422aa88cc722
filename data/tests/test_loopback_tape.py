"""What is played, when, and in which order: rows of a source as messages of streams."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from data.lake import Lake
from data.loopback import bars, contracts
from data.loopback.chunk import Chunk
from data.loopback.streams import stream_of
from data.loopback.tape import NS_PER_MS, RecordingSource, SyntheticSource, to_ms
from data.schema import TABLES, conform
from data.synthetic import ALT_LIKE, BTC_LIKE, Hole, MarketSpec, fill_lake, generate
from data.table import TIME_MS

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARKET = MarketSpec(
    symbols=(BTC_LIKE, ALT_LIKE), start=START, days=20 / 1_440, seed=3, trades_per_second=2.0, depth_levels=10
)
SYMBOLS = ("BTCUSDT", "ASTERUSDT")
FIELDS = {
    "aggTrade": (
        "trades",
        {"a": "agg_trade_id", "p": "price", "q": "quantity", "f": "first_trade_id", "l": "last_trade_id",
         "T": "event_time", "E": "sent_time", "m": "is_buyer_maker"},
    ),
    "bookTicker": (
        "book_ticker",
        {"u": "update_id", "b": "bid_price", "B": "bid_quantity", "a": "ask_price", "A": "ask_quantity",
         "T": "event_time", "E": "sent_time"},
    ),
    "markPrice@1s": (
        "mark_price",
        {"E": "event_time", "p": "mark_price", "i": "index_price", "P": "estimated_settle_price", "r": "funding_rate",
         "T": "next_funding_time"},
    ),
    "forceOrder": (
        "force_orders",
        {"S": "side", "q": "quantity", "p": "price", "ap": "average_price", "X": "status",
         "l": "last_filled_quantity", "z": "filled_quantity", "T": "event_time"},
    ),
}  # fmt: skip


def chunk(source, first: float = 0, last: float = 21, after_ns: int = 0) -> Chunk:
    """Minutes [first, last) of a source; a row may arrive a little after the market's end."""
    start_ns, end_ns = (to_ms(START + minute * MINUTE) * NS_PER_MS for minute in (first, last))
    return Chunk(source, contracts.decimals(source.instruments(), source.symbols), start_ns, end_ns, after_ns)


def said(part: Chunk, name: str) -> list[dict]:
    """The messages of a stream, decoded."""
    return [json.loads(text) for text in part.messages(stream_of(name, SYMBOLS))[1]]


def times(part: Chunk, name: str) -> np.ndarray:
    return part.times_ns[part.messages(stream_of(name, SYMBOLS))[0]]


def wanted(table: str, symbol: str) -> pl.DataFrame:
    return generate(MARKET, symbol, START.date())[table]


def read(told: object) -> object:
    """What a field says, as the lake keeps it."""
    return float(told) if isinstance(told, str) and told not in ("BUY", "SELL", "FILLED") else told


@pytest.fixture(scope="module")
def whole() -> Chunk:
    return chunk(SyntheticSource(MARKET))


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("kind", FIELDS)
def test_the_messages_read_back_are_exactly_the_rows_when_they_arrived(whole, kind, symbol):
    table, fields = FIELDS[kind]
    rows = wanted(table, symbol).sort("recv_time", maintain_order=True)
    name = f"{symbol.lower()}@{kind}"
    messages = [message.get("o", message) for message in said(whole, name)]
    found = [[read(message[field]) for field in fields] for message in messages]
    in_ms = rows.select(fields.values()).with_columns(pl.selectors.temporal().to_physical())
    assert found == [list(row) for row in in_ms.iter_rows()]
    late_ns = times(whole, name) - rows["recv_time"].to_physical().to_numpy()
    assert set(late_ns.tolist()) <= set(range(10))  # rows that arrived together are told apart by nanoseconds


@pytest.mark.parametrize(("asked", "levels"), [("depth5@100ms", 5), ("depth10@500ms", 10), ("depth20", 10)])
def test_books_are_as_deep_as_asked_for_and_as_they_are(whole, asked, levels):
    rows = wanted("depth", "BTCUSDT")
    messages = said(whole, f"btcusdt@{asked}")
    assert [message["u"] for message in messages] == rows["update_id"].to_list()
    for side in ("bid", "ask"):
        names = [(f"{side}_price_{level}", f"{side}_quantity_{level}") for level in range(levels)]
        found = [[[float(price), float(size)] for price, size in message[side[0]]] for message in messages]
        assert found == [[[row[price], row[size]] for price, size in names] for row in rows.iter_rows(named=True)]


def test_no_two_rows_are_delivered_at_the_same_moment(whole):
    assert (np.diff(whole.times_ns) > 0).all()
    rows = sum(wanted(table, symbol).height for table, _ in FIELDS.values() for symbol in SYMBOLS)
    assert whole.times_ns.size > rows


def test_what_is_sent_depends_neither_on_who_asks_nor_on_where_the_tape_is_cut(whole):
    source = SyntheticSource(MARKET)
    parts = []
    for first, last in ((0, 7), (7, 8), (8, 21)):
        parts.append(chunk(source, first, last, parts[-1].last_ns if parts else 0))
    for name in ("asterusdt@kline_1m", "btcusdt@depth5", "asterusdt@aggTrade", "!forceOrder@arr", "btcusdt@kline_5m"):
        assert [message for part in parts for message in said(part, name)] == said(whole, name)
        assert np.concatenate([times(part, name) for part in parts]).tolist() == times(whole, name).tolist()


def test_a_bar_ends_as_recorded_and_runs_as_its_trades_did(whole):
    trades = wanted("trades", "ASTERUSDT")
    bars = {row["open_time"]: row for row in wanted("klines", "ASTERUSDT").iter_rows(named=True)}
    messages = said(whole, "asterusdt@kline_1m")
    closed = [message["k"] for message in messages if message["k"]["x"]]
    assert [bar["t"] for bar in closed] == [to_ms(opened) for opened in bars]
    finals = times(whole, "asterusdt@kline_1m")[[message["k"]["x"] for message in messages]]
    late_ns = finals - wanted("klines", "ASTERUSDT")["recv_time"].to_physical().to_numpy()
    assert set(late_ns.tolist()) <= set(range(10))
    last = {}
    for message in messages:
        bar = message["k"]
        if bar["x"]:  # says the same as the last state before it, to the last digit
            before = last.get(bar["t"], bar)
            assert {**before, "x": True} == bar
            row = bars[START + timedelta(milliseconds=bar["t"] - to_ms(START))]
            assert [float(bar[key]) for key in "ohlcvqVQn"] == [
                row[name]
                for name in ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume",
                             "taker_buy_quote_volume", "trade_count")
            ]  # fmt: skip
        else:
            sent = trades.filter(
                pl.col("event_time").dt.truncate("1m").to_physical() == bar["t"],
                pl.col("last_trade_id") <= bar["L"],
            )
            assert (bar["n"], bar["f"]) == (sent.height, sent["first_trade_id"][0])
            assert float(bar["v"]) == pytest.approx(sent["quantity"].sum(), abs=1e-9)
            assert (float(bar["h"]), float(bar["l"])) == (sent["price"].max(), sent["price"].min())
            last[bar["t"]] = bar


def test_a_running_bar_is_told_at_most_four_times_a_second_and_only_when_it_changed(whole):
    running = [message for message in said(whole, "btcusdt@kline_1m") if not message["k"]["x"]]
    quarters = [(message["k"]["t"], message["E"] // 250) for message in running]
    assert len(set(quarters)) == len(quarters) > 100
    assert len({(message["k"]["t"], message["k"]["n"]) for message in running}) == len(running)


def test_longer_bars_are_made_of_minutes(whole):
    minutes = wanted("klines", "ASTERUSDT")
    closed = [message["k"] for message in said(whole, "asterusdt@kline_5m") if message["k"]["x"]]
    assert [bar["t"] for bar in closed] == [to_ms(START + number * 5 * MINUTE) for number in range(4)]
    for number, bar in enumerate(closed):
        five = minutes[number * 5 : number * 5 + 5]
        assert (float(bar["o"]), float(bar["c"])) == (five["open"][0], five["close"][-1])
        assert (float(bar["h"]), float(bar["l"])) == (five["high"].max(), five["low"].min())
        assert (bar["n"], bar["T"]) == (five["trade_count"].sum(), bar["t"] + 299_999)
        assert float(bar["v"]) == pytest.approx(five["volume"].sum(), abs=1e-9)
    assert bars.opens_ms(to_ms(START), "1w") == to_ms(START.replace(hour=0))  # a Monday


def test_marks_come_every_third_second_unless_every_one_is_asked_for(whole):
    assert len(said(whole, "btcusdt@markPrice@1s")) == 20 * 60
    seconds = [message["E"] // 1_000 for message in said(whole, "btcusdt@markPrice")]
    assert [second % 3 for second in seconds] == [0] * (20 * 20)


def test_marks_of_all_contracts_come_as_one_array_a_second(whole):
    messages = said(whole, "!markPrice@arr@1s")
    assert [len(message) for message in messages] == [2] * (20 * 60)
    assert messages[0] == [said(whole, f"{symbol.lower()}@markPrice@1s")[0] for symbol in SYMBOLS]


def test_streams_of_all_contracts_carry_those_of_each_in_order_of_arrival(whole):
    each = [(time, message) for symbol in SYMBOLS
            for time, message in zip(times(whole, f"{symbol.lower()}@bookTicker"),
                                     said(whole, f"{symbol.lower()}@bookTicker"), strict=True)]  # fmt: skip
    assert said(whole, "!bookTicker") == [message for _, message in sorted(each, key=lambda one: one[0])]


def test_rows_in_a_hole_happened_but_were_never_carried():
    hole = Hole(table="klines", symbol="BTCUSDT", start=START + 3 * MINUTE, end=START + 5 * MINUTE)
    source = SyntheticSource(replace(MARKET, holes=(hole,)))
    finals = [message["k"]["t"] for message in said(chunk(source), "btcusdt@kline_1m") if message["k"]["x"]]
    assert [to_ms(START + number * MINUTE) for number in range(20) if number not in (3, 4)] == finals
    happened = source.happened("klines", "BTCUSDT", to_ms(START), to_ms(START + 20 * MINUTE))
    assert happened.drop("delivered_ns").equals(wanted("klines", "BTCUSDT"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Lake:
    """A lake that holds the market; read it, never write to it."""
    lake = Lake(tmp_path_factory.mktemp("recorded") / "lake", create=True)
    fill_lake(lake, MARKET)
    return lake


@pytest.fixture
def lake(tmp_path) -> Lake:
    """An empty one."""
    return Lake(tmp_path / "lake", create=True)


def test_a_recording_is_played_as_the_market_was_that_it_recorded(whole, recorded):
    source = RecordingSource(recorded, SYMBOLS, START, START + 20 * MINUTE)
    again = chunk(source)
    assert again.times_ns.tolist() == whole.times_ns.tolist()
    for name in ("btcusdt@aggTrade", "asterusdt@kline_1m", "btcusdt@depth10", "!forceOrder@arr", "!markPrice@arr"):
        assert said(again, name) == said(whole, name)


def test_only_the_tables_asked_for_are_played(recorded):
    source = RecordingSource(recorded, SYMBOLS, START, START + 20 * MINUTE, tables=("trades", "klines"))
    part = chunk(source, 0, 2)
    assert (len(said(part, "!bookTicker")), len(said(part, "!markPrice@arr"))) == (0, 0)
    assert len(said(part, "btcusdt@aggTrade")) > 50


def test_states_of_bars_that_were_recorded_are_sent_as_they_are(recorded, lake):
    for table in ("trades", "klines"):
        lake.append(table, recorded.scan(table), origin="test")
    bar = wanted("klines", "BTCUSDT").head(1)
    states = pl.concat([
        bar.with_columns(
            close=pl.lit(bar["open"][0] + number),
            sent_time=pl.lit(START + timedelta(seconds=number)).cast(TIME_MS),
            recv_time=pl.lit(START + timedelta(seconds=number, milliseconds=50)).cast(pl.Datetime("ns", "UTC")),
            is_final=pl.lit(number == 61),
        )
        for number in (2, 30, 61)
    ])  # fmt: skip
    lake.append("kline_updates", conform(states, TABLES["kline_updates"]), origin="test")
    part = chunk(RecordingSource(lake, SYMBOLS, START, START + 20 * MINUTE), 0, 2)
    told = [
        (message["k"]["x"], float(message["k"]["c"]) - bar["open"][0]) for message in said(part, "btcusdt@kline_1m")
    ]
    assert told == [(False, pytest.approx(2)), (False, pytest.approx(30)), (True, pytest.approx(61))]
    assert len(said(part, "asterusdt@kline_1m")) > 20  # none were recorded of this one: made from its trades


def test_rows_that_nobody_received_are_delivered_when_they_happened(recorded, lake):
    for table in ("trades", "klines"):
        rows = recorded.scan(table, symbols=["BTCUSDT"]).with_columns(recv_time=None, sent_time=None)
        lake.append(table, conform(rows, TABLES[table]), origin="test")
    part = chunk(RecordingSource(lake), 0, 22)
    trades = wanted("trades", "BTCUSDT")
    assert (times(part, "btcusdt@aggTrade") // NS_PER_MS).tolist() == trades["event_time"].to_physical().to_list()
    assert {message["E"] for message in said(part, "btcusdt@aggTrade")} == {None}
    ends = [place for place, message in enumerate(said(part, "btcusdt@kline_1m")) if message["k"]["x"]]
    closed = [START + number * MINUTE for number in range(1, 21)]
    late = [to_ms(end + timedelta(seconds=3)) for end in closed]
    assert (times(part, "btcusdt@kline_1m")[ends] // NS_PER_MS).tolist() == late


def test_of_several_liquidations_in_a_second_only_the_last_is_shown(lake):
    moments = (100, 400, 900, 1_100)
    rows = [
        {"venue": "aster", "symbol": "BTCUSDT", "event_time": START + timedelta(milliseconds=ms), "side": "SELL",
         "price": 1.0, "quantity": float(ms), "filled_quantity": float(ms)}
        for ms in moments
    ]  # fmt: skip
    lake.append("force_orders", conform(pl.DataFrame(rows), TABLES["force_orders"]), origin="test")
    part = chunk(RecordingSource(lake, ["BTCUSDT"], START, START + MINUTE), 0, 1)
    assert [float(message["o"]["q"]) for message in said(part, "btcusdt@forceOrder")] == [900.0, 1_100.0]


def test_books_are_thinned_to_the_speed_asked_for_and_follow_each_other(lake):
    books = [
        {"venue": "aster", "symbol": "BTCUSDT", "levels": 5, "update_id": number, "first_update_id": number,
         "previous_update_id": number - 1, "event_time": START + timedelta(milliseconds=100 * number),
         "bid_price_0": 1.0, "bid_quantity_0": 1.0}
        for number in range(1, 51)
    ]  # fmt: skip
    lake.append("depth", conform(pl.DataFrame(books), TABLES["depth"]), origin="test")
    part = chunk(RecordingSource(lake, ["BTCUSDT"], START, START + MINUTE), 0, 1)
    assert len(said(part, "btcusdt@depth5@100ms")) == 50
    thinned = said(part, "btcusdt@depth5@500ms")
    assert [message["u"] for message in thinned] == [1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert [message["pu"] for message in thinned] == [0, 1, 5, 10, 15, 20, 25, 30, 35, 40, 45]


def test_an_unknown_table_or_an_empty_lake_cannot_be_played(lake):
    with pytest.raises(ValueError, match="tables to play: expected some of"):
        RecordingSource(lake, tables=["tradez"])
    with pytest.raises(LookupError, match="nothing to play: the lake has no trades and no klines of"):
        RecordingSource(lake)


def test_each_aggregate_is_one_fill_where_no_fills_are_known(whole):
    fills = said(whole, "btcusdt@trade")
    assert [(fill["t"], fill["T"], fill["p"], fill["q"], fill["m"], fill["X"]) for fill in fills] == [
        (trade["f"], trade["T"], trade["p"], trade["q"], trade["m"], "MARKET")
        for trade in said(whole, "btcusdt@aggTrade")
    ]


def test_thinned_books_follow_each_other_wherever_the_tape_is_cut():
    source = SyntheticSource(replace(MARKET, depth_interval_s=1))
    books = []
    for first, last in ((0, 1), (1, 2), (2, 5)):
        part = chunk(source, first, last)
        slow = stream_of("btcusdt@depth5", SYMBOLS)
        books += [json.loads(text) for text in part.messages(replace(slow, cadence_ms=3_000))[1]]
    assert len(books) == 100
    assert [book["pu"] for book in books[1:]] == [book["u"] for book in books[:-1]]
