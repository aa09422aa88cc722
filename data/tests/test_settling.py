"""What becomes of open gaps: filled page by page, by late rows or some other way, or never."""

import json
from datetime import date, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from data.lake import Lake
from data.ledger import newest, open_gaps, scan_day, settle
from data.messages_rest import Answer, decode_answer
from data.repair_questions import questions
from data.schema import GAPS, MARK_KLINES
from data.tests.test_ledger import (
    MIDNIGHT_S,
    aggregate_trades,
    at,
    bars,
    given_up,
    land,
    marks,
    ms,
    quotes,
    since_midnight,
    told_at,
    trades,
)
from data.tests.test_listening import frame
from data.wal import answer


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def klines(
    gap_id: str, first: int, last: int, minutes: list[int], second: float, name: str = "klines"
) -> tuple[int, Answer]:
    body = json.dumps([[ms(at(60 * minute))] for minute in minutes]).encode()
    params = {"startTime": ms(at(60 * first)), "endTime": ms(at(60 * last)), "limit": 499, "interval": "1m"}
    payload = answer(f"/fapi/v3/{name}", params, 0, body, gap_id=gap_id)
    return round((MIDNIGHT_S + second) * 1e9), decode_answer(payload)


def settled(gaps: pl.DataFrame) -> list[tuple]:
    return gaps.select("gap_id", "state", "repair_source", "rows_recovered").rows()


def test_a_late_row_settles_the_hole_it_fills(lake):
    told = since_midnight(frame(9))
    land(lake, told, trades=trades(1, 2, 6, source="ws"))
    assert land(lake, told, trades=trades(3, 5, source="ws")).is_empty()
    assert [gap["remaining"] for gap in open_gaps(lake)] == [[[4, 4]]]
    late = land(lake, told, trades=trades(4, source="ws"))
    assert settled(late) == [("trades|BTCUSDT|3|5", "repaired", "stream", 3)]
    assert late["detected_time"].item() == at(9) + timedelta(milliseconds=1)  # the newest row speaks
    assert open_gaps(lake) == []
    assert newest(lake)["state"].to_list() == ["repaired"]


def test_rows_that_came_back_some_other_way_settle_it_too(lake):
    land(lake, since_midnight(frame(9)), trades=trades(1, 2, 6))
    lake.append("trades", trades(3, 4, 5, source="rest"), origin="backfill")
    assert open_gaps(lake) == []
    assert settled(settle(lake, {}, now=at(99))) == [("trades|BTCUSDT|3|5", "repaired", "REST aggTrades", 3)]


def test_a_bar_that_comes_after_it_was_given_up_does_not_settle_the_gap(lake):
    told = since_midnight(frame(150))
    land(lake, told, klines=bars(0, 2, source="ws"))
    assert land(lake, told, klines=bars(1, source="ws"), gaps=given_up(1, 180)).is_empty()
    assert newest(lake)["state"].to_list() == ["unrepairable"] and open_gaps(lake) == []


def test_answers_that_come_page_by_page_leave_a_gap_open_until_the_last(lake):
    told, gap_id = since_midnight(frame(9)), "trades|BTCUSDT|3|8"
    land(lake, told, trades=trades(1, 2, 9))
    assert land(lake, told, [aggregate_trades(gap_id, 3, 3, [3, 4, 5])], trades=trades(3, 4, 5)).is_empty()
    last = land(lake, told, [aggregate_trades(gap_id, 6, 3, [6, 7, 8])], trades=trades(6, 7, 8))
    assert settled(last) == [(gap_id, "repaired", "/fapi/v3/aggTrades", 6)]


def test_what_every_answer_leaves_out_is_partial(lake):
    told, gap_id = since_midnight(frame(9)), "trades|BTCUSDT|3|8"
    land(lake, told, trades=trades(1, 2, 9))
    some = land(lake, told, [aggregate_trades(gap_id, 3, 6, [3, 4, 7, 8, 9, 10])], trades=trades(3, 4, 7, 8, 9, 10))
    assert settled(some) == [(gap_id, "partial", "/fapi/v3/aggTrades", 4)]
    assert scan_day(lake, "trades", date(2026, 1, 2)).is_empty()  # 5 and 6 lie inside a gap that is known


def test_a_short_answer_about_young_rows_proves_nothing(lake):
    told, gap_id = since_midnight(frame(9)), "trades|BTCUSDT|3|5"
    land(lake, told, trades=trades(1, 2, 6))
    assert land(lake, told, [aggregate_trades(gap_id, 3, 3, [])]).is_empty()
    assert settled(land(lake, told, [aggregate_trades(gap_id, 3, 3, [], second=400)]))[0][1] == "unrepairable"


@pytest.mark.parametrize("row", [{}, None, [], "4", {"a": None}, {"a": "four"}])
def test_a_row_that_cannot_be_read_settles_nothing_and_stops_nobody(lake, row):
    told, gap_id = since_midnight(frame(9)), "trades|BTCUSDT|3|5"
    land(lake, told, trades=trades(1, 2, 6))
    recv_ns, page = aggregate_trades(gap_id, 3, 3, [3])
    odd = json.dumps([*json.loads(bytes(page.body)), row]).encode()
    spoilt = recv_ns, decode_answer(answer(page.path, page.params, 0, odd, gap_id=gap_id))
    assert land(lake, told, [spoilt], trades=trades(3)).is_empty()
    assert [gap["remaining"] for gap in open_gaps(lake)] == [[[4, 5]]]


@pytest.mark.parametrize("body", [b'[{"b":1}]', b"[null]", b'[{"a":"x"}]', b'[{"a":null}]', b"[[3]]", b"{}", b"3"])
def test_an_answer_that_cannot_be_read_proves_nothing(lake, body):
    told = since_midnight(frame(9))
    land(lake, told, trades=trades(1, 2, 6))
    params = {"symbol": "BTCUSDT", "fromId": 3, "limit": 3}
    payload = answer("/fapi/v3/aggTrades", params, 0, body, gap_id="trades|BTCUSDT|3|5")
    assert land(lake, told, [(round((MIDNIGHT_S + 400) * 1e9), decode_answer(payload))]).is_empty()
    assert len(open_gaps(lake)) == 1


def test_a_refused_question_ends_the_gap(lake):
    land(lake, since_midnight(frame(9)), trades=trades(1, 2, 6))
    refused = told_at(20, "refused", path="/fapi/v3/aggTrades", params={}, reason="-1121", gap_id="trades|BTCUSDT|3|5")
    (lost,) = land(lake, since_midnight(refused)).rows(named=True)
    assert (lost["state"], lost["cause"]) == ("unrepairable", "sequence")


def test_missing_bars_are_repaired_or_absent_at_the_exchange(lake):
    told = since_midnight(frame(700))
    (gap_id,) = land(lake, told, klines=bars(0, 5))["gap_id"]
    assert [gap["remaining"] for gap in open_gaps(lake)] == [[[ms(at(60)), ms(at(240))]]]
    young = land(lake, told, [klines(gap_id, 1, 4, [1], 310)], klines=bars(1))
    assert young.is_empty()
    some = land(lake, told, [klines(gap_id, 2, 4, [3], 700)], klines=bars(3))
    assert settled(some) == [(gap_id, "partial", "/fapi/v3/klines", 2)]


def test_the_question_for_bars_of_a_week_holds_the_monday_on_which_they_open(lake):
    week = 7 * 24 * 60
    monday = 3 * 24 * 60  # minutes after midnight; weeks since 1970 would begin on a Thursday
    came = [bars(monday + number * week, interval="1w") for number in (0, 3)]
    land(lake, since_midnight(frame(9)), klines=pl.concat(came))
    (gap,) = open_gaps(lake)
    (question,) = questions(gap, ms(at(60 * 9 * week)))
    missing = [ms(at(60 * (monday + number * week))) for number in (1, 2)]
    begin, end = question.params["startTime"], question.params["endTime"]
    assert [begin <= opened <= end for opened in missing] == [True, True]
    closes = missing[1] + 7 * 86_400_000
    assert end < closes
    assert questions(gap, closes) == []


def test_mark_prices_are_repaired_approximately_by_bars_of_a_minute(lake):
    told = since_midnight(frame(900))
    (gap_id,) = land(lake, told, mark_price=marks(10, 130))["gap_id"]
    assert [gap["remaining"] for gap in open_gaps(lake)] == [[[ms(at(0)), ms(at(120))]]]
    index = klines(gap_id, 0, 2, [0, 1, 2], 800, name="indexPriceKlines")
    assert land(lake, told, [index]).is_empty()
    told_mark = klines(gap_id, 0, 2, [0, 1, 2], 800, name="markPriceKlines")
    filled = land(lake, told, [told_mark], mark_klines=bars(0, 1, 2, table=MARK_KLINES))
    source = "markPriceKlines 1m, indexPriceKlines 1m, fundingRate: approximate"
    assert settled(filled) == [(gap_id, "partial", source, 3)]


def test_however_trades_arrive_the_open_gaps_are_what_is_missing(lake):
    """Out of order, twice, slice by slice: after each of them the ledger has exactly the ids that are not stored."""
    random, told, seen = Random(7), since_midnight(frame(9)), {0}
    for top in range(20, 140, 15):
        arrived = {0, *random.choices(range(max(top - 40, 0), top), k=18)}
        land(lake, told, trades=trades(*arrived))
        seen |= arrived
        pieces = [piece for gap in open_gaps(lake) for piece in gap["remaining"]]
        missing = [number for first, last in pieces for number in range(first, last + 1)]
        assert sorted(missing) == sorted(set(range(max(seen))) - seen)


def test_open_gaps_are_told_smallest_first_and_as_plain_values(lake):
    land(lake, since_midnight(frame(9)), trades=trades(1, 9), klines=bars(-1, 1), book_ticker=quotes(0))
    first, second = open_gaps(lake)
    assert (first["table"], second["table"]) == ("klines", "trades")
    assert second == json.loads(json.dumps(second))
    assert (second["from_time"], second["remaining"]) == (ms(at(1)), [[2, 8]])
    assert set(second) == {*GAPS.columns, "remaining"}
    assert [gap["table"] for gap in open_gaps(lake, tables=["trades"])] == ["trades"]
    assert open_gaps(lake, symbols=["ETHUSDT"]) == open_gaps(lake, venue="binance") == []
