"""The gap ledger: what is found missing, why, and what becomes of it."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data.lake import Lake
from data.landing_notes import turn_note
from data.ledger import corrupt, found, newest, open_gaps, outside, scan_day, settle
from data.listening import Listening
from data.messages_rest import Answer, decode_answer
from data.schema import BOOK_TICKER, DEPTH, FORCE_ORDERS, GAPS, KLINES, MARK_PRICE, TRADES, conform
from data.stored_runs import moment
from data.tests.test_listening import SECOND, frame, opened, started, told
from data.wal import Record, answer

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
MIDNIGHT_S = MIDNIGHT.timestamp()
A_SECOND = timedelta(seconds=1)
A_MINUTE = timedelta(minutes=1)
STREAMS = (
    "btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s", "btcusdt@bookTicker", "btcusdt@depth5@100ms",
    "!forceOrder@arr",
)  # fmt: skip
LOST = ["gap_id", "from_time", "to_time", "missing", "cause", "state"]


def rows_of(table, times: list[datetime], **columns) -> pl.DataFrame:
    base = {"venue": "aster", "symbol": "BTCUSDT", table.time: times}
    return conform(pl.DataFrame(base | columns), table)


def trades(*ids: int, **columns) -> pl.DataFrame:
    """One trade a second, id 0 at midnight."""
    columns = {"agg_trade_id": list(ids), "price": 1.0, "quantity": 1.0, "is_buyer_maker": False} | columns
    return rows_of(TRADES, [MIDNIGHT + number * A_SECOND for number in ids], **columns)


def bars(*minutes: int, table=KLINES, **columns) -> pl.DataFrame:
    """Bars that open so many minutes after midnight."""
    return rows_of(table, [MIDNIGHT + n * A_MINUTE for n in minutes], **{"interval": "1m", "close": 1.0} | columns)


def marks(*seconds: float) -> pl.DataFrame:
    return rows_of(MARK_PRICE, [MIDNIGHT + second * A_SECOND for second in seconds], mark_price=1.0)


def books(*ids: int, previous: list[int], **columns) -> pl.DataFrame:
    """Books a tenth of a second apart, update id 0 at midnight."""
    times = [MIDNIGHT + number * A_SECOND / 10 for number in ids]
    columns = {"levels": 5, "update_id": list(ids), "previous_update_id": previous} | columns
    return rows_of(DEPTH, times, **columns)


def since_midnight(*records: Record, streams: tuple[str, ...] = STREAMS) -> Listening:
    """A recorder that began 100 s before midnight; the records' seconds count from midnight."""
    listening = Listening()
    first = opened(-100, streams=streams)
    later = [
        record._replace(recv_ns=record.recv_ns + round(MIDNIGHT_S * 1e9)) for record in (started(-101), first, *records)
    ]
    assert list(listening.follow(later)) == later
    return listening


def told_at(second: float, what: str, **more: float) -> Record:
    """A note whose times count from midnight too."""
    times = {name: round((value + MIDNIGHT_S) * 1e9) for name, value in more.items() if name.endswith("_ns")}
    return told(second, what, **more | times)


def closed_at(second: float, reason: str, heard: float | None = None) -> Record:
    return told_at(second, "closed", reason=reason, life=1, heard_ns=second if heard is None else heard)


def aggregate_trades(gap_id: str, first: int, limit: int, ids: list[int], second: float = 10) -> tuple[int, Answer]:
    body = json.dumps([{"a": number} for number in ids]).encode()
    params = {"symbol": "BTCUSDT", "fromId": first, "limit": limit}
    payload = answer("/fapi/v3/aggTrades", params, 0, body, gap_id=gap_id)
    return round((MIDNIGHT_S + second) * 1e9), decode_answer(payload)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def land(lake: Lake, told: Listening, answers=(), **tables: pl.DataFrame) -> pl.DataFrame:
    """Seal a slice; returns the rows of the ledger that it brought beside those that were told."""
    gaps = pl.concat([found(lake, tables, told), settle(lake, tables, answers, told)])
    noted = [tables[name] for name in (GAPS.name,) if name in tables]
    lake.append_all({**tables, "gaps": pl.concat([*noted, gaps])}, origin="test", listened=told.listened())
    return gaps


def given_up(minute: int, second: float) -> pl.DataFrame:
    """The ledger's row of a bar that a runner gave up."""
    note = told_at(second, "gave_up", symbol="BTCUSDT", interval="1m", open_ms=ms(at(60 * minute)))
    _, rows = turn_note(note._replace(recv_ns=round((second + MIDNIGHT_S) * 1e9)), "aster")
    return rows


def at(second: float) -> datetime:
    return MIDNIGHT + second * A_SECOND


def ms(time: datetime) -> int:
    return round(time.timestamp() * 1_000)


# --- what is found, for every cause ----------------------------------------------------------------------------------


def test_trades_that_are_missing_while_somebody_listened_are_a_sequence(lake):
    (lost,) = land(lake, since_midnight(frame(9)), trades=trades(1, 2, 6)).rows(named=True)
    expected = ("trades|BTCUSDT|3|5", at(2), at(6), 3, "sequence", "open")
    assert tuple(lost[name] for name in LOST) == expected
    assert (lost["from_id"], lost["to_id"], lost["is_estimate"], lost["detected_time"]) == (3, 5, False, at(9))


def test_a_trade_that_is_missing_within_a_millisecond_is_a_hole_too(lake):
    burst = trades(1, 2, 4).with_columns(event_time=pl.lit(at(2)).cast(pl.Datetime("ms", "UTC")))
    land(lake, since_midnight(frame(9)), trades=burst)
    (lost,) = open_gaps(lake)
    assert (lost["remaining"], lost["from_time"]) == ([[3, 3]], lost["to_time"])


def test_a_hole_between_a_stored_row_and_a_new_one_is_found(lake):
    listening = since_midnight(frame(9))
    assert land(lake, listening, trades=trades(1, 2)).is_empty()
    assert land(lake, listening, trades=trades(3)).is_empty()
    assert land(lake, listening, trades=trades(9))["gap_id"].to_list() == ["trades|BTCUSDT|4|8"]
    assert land(lake, listening, trades=trades(9, 10)).is_empty()


@pytest.mark.parametrize(("reason", "cause"), [("closed by the exchange", "reconnect"), ("silent for 10 s", "silence")])
def test_what_a_lost_connection_costs_is_told_for_every_table(lake, reason, cause):
    told = since_midnight(frame(9), closed_at(12, reason), opened(65, life=2, streams=STREAMS), frame(70))
    lost = land(lake, told, trades=trades(8, 66), mark_price=marks(8, 66), klines=bars(-1, 1))
    assert lost["cause"].unique().to_list() == [cause]
    assert lost.sort("table").select("table", "state", "missing", "interval").rows() == [
        ("book_ticker", "unrepairable", None, None),
        ("depth", "unrepairable", None, None),
        ("force_orders", "unrepairable", None, None),
        ("kline_updates", "unrepairable", None, "1m"),
        ("klines", "open", 1, "1m"),
        ("mark_price", "open", 57, None),
        ("trades", "open", 57, None),
    ]
    quotes = lost.filter(table="book_ticker")
    assert (quotes["from_time"].item(), quotes["to_time"].item()) == (at(12), at(65))
    assert quotes["gap_id"].item() == f"book_ticker|BTCUSDT|{ms(at(12))}|{ms(at(65))}"


def test_a_symbol_that_is_seldom_traded_shows_hours_later_what_a_lost_connection_cost(lake):
    told = since_midnight(frame(9), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    land(lake, told, trades=trades(8), klines=bars(-1, 2))
    for second, traded in ((5_000, []), (7_000, [7_000]), (7_060, [7_060])):
        list(told.follow([frame(MIDNIGHT_S + second)]))
        land(lake, told, trades=trades(*traded))
    assert newest(lake).filter(table="trades").select("from_id", "to_id", "cause").sort("from_id").rows() == [
        (9, 6_999, "reconnect"),
        (7_001, 7_059, "sequence"),
    ]


def test_one_socket_of_a_pair_costs_nothing(lake):
    told = since_midnight(
        opened(1, SECOND, streams=STREAMS), frame(11), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS)
    )
    assert land(lake, told, trades=trades(8, 9), mark_price=marks(8, 9)).is_empty()


def test_mark_prices_that_stay_away_while_somebody_listened_are_silence(lake):
    assert land(lake, since_midnight(), mark_price=marks(0, 1, 2)).is_empty()
    (lost,) = land(lake, since_midnight(frame(20)), mark_price=marks(8)).rows(named=True)
    assert (lost["from_time"], lost["to_time"], lost["missing"], lost["cause"]) == (at(2), at(8), 5, "silence")
    assert (lost["is_estimate"], lost["state"]) == (True, "open")


def test_a_few_seconds_of_mark_prices_are_a_hole_that_rest_cannot_fill(lake):
    (lost,) = land(lake, since_midnight(), mark_price=marks(0, 1, 3)).rows(named=True)
    assert (lost["missing"], lost["state"]) == (1, "unrepairable")


@pytest.mark.parametrize("length", [3, 9])
def test_mark_prices_that_the_other_socket_brings_in_the_next_slice_are_missing_no_more(lake, length):
    told = since_midnight(frame(20))
    (lost,) = land(lake, told, mark_price=marks(0, 1, 1 + length)).rows(named=True)
    assert land(lake, told, mark_price=marks(*range(3, 1 + length), 2 + length)).is_empty()  # one is missing still
    (gap,) = land(lake, told, mark_price=marks(2)).rows(named=True)
    assert (gap["gap_id"], gap["state"], gap["repair_source"]) == (lost["gap_id"], "repaired", "stream")
    assert (gap["rows_recovered"], open_gaps(lake), newest(lake).height) == (lost["missing"], [], 1)


@pytest.mark.parametrize(
    ("goodbye", "cause"), [([], "crash"), ([closed_at(9, "stopped"), told_at(9, "stopped")], "stopped")]
)
def test_the_time_between_two_recorders_is_known(lake, goodbye, cause):
    land(lake, since_midnight(frame(9), *goodbye), trades=trades(8))
    again = Listening(lake.listened())
    records = (started(30), opened(31, streams=STREAMS), frame(40))
    list(again.follow(record._replace(recv_ns=record.recv_ns + round(MIDNIGHT_S * 1e9)) for record in records))
    lost = land(lake, again, trades=trades(35))
    assert lost.filter(table="trades").select("from_id", "to_id", "cause").rows() == [(9, 34, cause)]
    quotes = lost.filter(table="book_ticker").select("from_time", "to_time", "cause").rows()
    assert quotes == [(at(9), at(31), cause)]


def test_a_full_disk_costs_what_was_dropped(lake):
    dropped = told_at(
        30, "dropped", cause="disk", streams={"btcusdt@aggTrade": 3, "btcusdt@bookTicker": 9}, from_ns=10, to_ns=29
    )
    lost = land(lake, since_midnight(frame(9), dropped, frame(31)), trades=trades(9, 30))
    assert lost.sort("table").select("table", "cause").rows() == [("book_ticker", "disk"), ("trades", "disk")]


def test_the_exchange_itself_may_not_have_what_is_missing(lake):
    land(lake, since_midnight(frame(9)), trades=trades(1, 2, 6))
    known = aggregate_trades("trades|BTCUSDT|3|5", 3, 3, [6, 7, 8])
    (lost,) = land(lake, since_midnight(frame(20)), [known], trades=trades(6, 7, 8)).rows(named=True)
    assert (lost["cause"], lost["state"], lost["rows_recovered"]) == ("exchange", "unrepairable", 0)
    assert open_gaps(lake) == []


def test_a_damaged_file_costs_what_no_other_file_has(lake):
    land(lake, since_midnight(frame(60)), trades=trades(1, 2, 3, 4), klines=bars(0, 1), book_ticker=quotes(0, 1, 2))
    damaged = lake.facts()
    for path in damaged["path"].unique():
        lake.set_aside(path)
    land(lake, since_midnight(frame(61)), trades=trades(2, 3, source="rest"))
    lost = corrupt(lake, damaged, at(70)).sort("gap_id")
    assert lost.select("table", "from_id", "to_id", "missing", "state").rows() == [
        ("book_ticker", None, None, 3, "unrepairable"),
        ("klines", None, None, 2, "open"),
        ("trades", 1, 1, 1, "open"),
        ("trades", 4, 4, 1, "open"),
    ]
    assert lost["cause"].unique().to_list() == ["corrupt"]
    klines = lost.filter(table="klines")
    assert (klines["from_time"].item(), klines["to_time"].item()) == (at(-60), at(120))


def quotes(*seconds: float) -> pl.DataFrame:
    return rows_of(BOOK_TICKER, [at(second) for second in seconds], update_id=list(range(len(seconds))))


# --- what is no gap --------------------------------------------------------------------------------------------------


def test_history_from_before_the_first_recording_is_no_gap(lake):
    lake.append("trades", trades(-500_000), origin="an import of five days ago")
    assert land(lake, since_midnight(frame(9)), trades=trades(1, 2), klines=bars(-9, -5)).is_empty()
    assert land(lake, Listening(), trades=trades(5)).is_empty()


def test_the_hole_between_the_first_snapshot_and_the_first_frame_is_one(lake):
    lake.append("trades", trades(-110, source="rest"), origin="snapshot")
    assert land(lake, since_midnight(frame(9)), trades=trades(1))["missing"].to_list() == [110]


def test_finding_the_same_again_adds_nothing(lake):
    told = since_midnight(frame(11), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    assert land(lake, told, trades=trades(8, 66)).height == 5
    assert land(lake, told, trades=trades(8, 66)).is_empty()
    assert scan_day(lake, "trades", date(2026, 1, 2)).is_empty()
    assert scan_day(lake, "book_ticker", date(2026, 1, 2)).is_empty()


def test_bars_given_up_one_by_one_are_known_and_not_found_again(lake):
    gave_up = pl.concat([given_up(minute, 60 * minute + 120) for minute in (1, 2)])
    told = since_midnight(frame(300))
    assert land(lake, told, klines=bars(0, 3), gaps=gave_up).is_empty()
    assert land(lake, told, klines=bars(4)).is_empty()
    assert scan_day(lake, "klines", date(2026, 1, 2)).is_empty()
    assert newest(lake)["state"].to_list() == ["unrepairable"] * 2
    assert land(lake, told, klines=bars(6), gaps=given_up(8, 600))["missing"].to_list() == [1]


def test_rows_of_another_venue_and_symbol_are_counted_apart(lake):
    here, there = trades(1, 2), trades(900, 901).with_columns(venue=pl.lit("binance"))
    other = trades(40, 41).with_columns(symbol=pl.lit("ETHUSDT"))
    assert land(lake, since_midnight(frame(9)), trades=pl.concat([here, there, other])).is_empty()


def test_liquidations_that_nobody_heard_are_of_this_venues_symbols(lake):
    order = {"side": "SELL", "price": 1.0, "quantity": 1.0, "filled_quantity": 1.0}
    for venue, symbol in (("aster", "ETHUSDT"), ("binance", "XRPUSDT")):
        rows = rows_of(FORCE_ORDERS, [at(1)], venue=venue, symbol=symbol, **order)
        lake.append("force_orders", rows, origin="an import")
    told = since_midnight(frame(9), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    assert land(lake, told).filter(table="force_orders")["symbol"].sort().to_list() == ["BTCUSDT", "ETHUSDT"]


def test_ids_of_doubtful_origin_bound_no_hole(lake):
    assert land(lake, since_midnight(frame(9)), trades=trades(1, 2, 900, is_ambiguous=[False, False, True])).is_empty()


# --- chains of books -------------------------------------------------------------------------------------------------


def test_a_book_whose_predecessor_never_came_is_a_hole_where_books_name_their_predecessors(lake):
    ids = [*range(12), *range(15, 20)]
    told = since_midnight(frame(9))
    (lost,) = land(lake, told, depth=books(*ids, previous=[i - 1 for i in ids])).rows(named=True)
    assert (lost["from_time"], lost["to_time"]) == (at(1.1), at(1.5))
    assert (lost["table"], lost["cause"], lost["state"], lost["missing"]) == ("depth", "sequence", "unrepairable", None)
    ids = list(range(25, 40))
    (lost,) = land(lake, told, depth=books(*ids, previous=[i - 1 for i in ids])).rows(named=True)
    assert (lost["from_time"], lost["to_time"]) == (at(1.9), at(2.5))


def test_books_that_name_something_else_have_no_chain_to_break(lake):
    ids = list(range(100, 140, 2))
    assert land(lake, since_midnight(frame(9)), depth=books(*ids, previous=[i - 1 for i in ids])).is_empty()


def test_a_chain_that_broke_because_nobody_listened_is_told_once(lake):
    ids = [*range(12), *range(15, 20)]
    told = since_midnight(frame(1.1), closed_at(1.15, "lost"), opened(1.45, life=2, streams=STREAMS), frame(9))
    lost = land(lake, told, depth=books(*ids, previous=[i - 1 for i in ids])).filter(table="depth")
    assert lost.select("from_time", "cause").rows() == [(at(1.15), "reconnect")]


def test_a_slice_may_begin_between_the_books_of_two_symbols_at_one_moment(lake):
    def chain(*ids, symbol):
        return books(*ids, previous=[number - 1 for number in ids], symbol=symbol)

    told = since_midnight(frame(9))
    first = pl.concat([chain(*range(13), symbol="BTCUSDT"), chain(*range(12), symbol="ETHUSDT")])
    assert land(lake, told, depth=first).is_empty()
    then = pl.concat([chain(12, *range(13, 30), symbol="ETHUSDT"), chain(*range(13, 30), symbol="BTCUSDT")])
    assert land(lake, told, depth=then).is_empty()


def test_a_book_that_the_other_socket_brings_in_the_next_slice_is_missing_no_more(lake):
    ids = [*range(12), *range(14, 20)]
    told = since_midnight(frame(9))
    (lost,) = land(lake, told, depth=books(*ids, previous=[i - 1 for i in ids])).rows(named=True)
    assert land(lake, told, depth=books(12, previous=[11])).is_empty()  # one of two
    (gap,) = land(lake, told, depth=books(13, 20, previous=[12, 19])).rows(named=True)
    assert gap["gap_id"] == lost["gap_id"]
    assert (gap["state"], gap["repair_source"], gap["rows_recovered"]) == ("repaired", "stream", 2)
    assert newest(lake).height == 1
    assert land(lake, told, depth=books(21, 22, previous=[20, 21])).is_empty()


# --- a day, looked at again ------------------------------------------------------------------------------------------


def test_a_day_is_scanned_for_holes_that_nobody_saw(lake):
    day = timedelta(days=1) // A_SECOND
    lake.append("trades", pl.concat([trades(-5, -3, 0, 1, 7), trades(day + 5)]), origin="unseen")
    scanned = scan_day(lake, "trades", date(2026, 1, 2), at(9))
    assert scanned.select("from_id", "to_id", "cause", "detected_time").rows() == [
        (-2, -1, "sequence", at(9)),
        (2, 6, "sequence", at(9)),
    ]
    next_day = scan_day(lake, "trades", date(2026, 1, 3))
    assert next_day.select("from_id", "to_id").rows() == [(8, day + 4)]


def test_a_scanned_hole_takes_the_cause_of_the_time_in_which_nobody_listened(lake):
    told = since_midnight(frame(99), closed_at(100, "lost"), opened(165, life=2, streams=STREAMS), frame(200))
    land(lake, told, book_ticker=quotes(99))
    lake.append("klines", bars(0, 2), origin="unseen")
    lake.append("mark_price", marks(50, 58), origin="unseen")
    assert scan_day(lake, "klines", date(2026, 1, 2))["cause"].to_list() == ["reconnect"]
    assert scan_day(lake, "mark_price", date(2026, 1, 2))["cause"].to_list() == ["silence"]


def test_a_hole_is_known_where_gaps_that_overlap_hold_it_and_that_takes_no_pair_of_all():
    def gaps(edges, state="open"):
        rows = [{"from_time": moment(a), "to_time": moment(b)} for a, b in edges]
        same = {"venue": "aster", "symbol": "BTCUSDT", "table": "mark_price", "state": state}
        return conform(pl.DataFrame(rows).with_columns(**{name: pl.lit(value) for name, value in same.items()}), GAPS)

    known = pl.concat([gaps([(10, 20), (15, 30), (40, 50)]), gaps([(60, 90)], "repaired")])
    asked = [(12, 18), (12, 28), (12, 31), (40, 50), (39, 45), (30, 40), (65, 70)]
    left = outside(gaps(asked), known)["from_time"].dt.epoch("ms").to_list()
    assert left == [12, 39, 30, 65]  # of those from 12 the one to 31
    assert outside(gaps([(12, 18)]).with_columns(symbol=pl.lit("ETHUSDT")), known).height == 1
    many = gaps([(10 * k, 10 * k + 5) for k in range(20_000)])
    assert outside(many, many).is_empty()
