"""Gaps are filled by REST: what is asked, and that what comes back is what the exchange has, row for row."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.clock import FollowedClock
from data.lake import Lake
from data.ledger import found, newest, open_gaps
from data.listening import Listening
from data.loopback.faults import Faults, RequestFault, StreamFault
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder import RecorderConfig, record
from data.recorder_locks import take_place
from data.repair import Report, repair
from data.repair_questions import questions
from data.synthetic import BTC_LIKE, MarketSpec, generate
from data.venues.aster import AsterRest, venue_of
from data.venues.weights import Budget, weight_of
from data.wal import Kind, Record, answer, note

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
START_MS = 1_767_614_400_000
MINUTE_MS = 60_000
MARKET = MarketSpec(symbols=(BTC_LIKE,), start=START, days=25 / 1_440, seed=31, depth_interval_s=5)
CONFIG = RecorderConfig(symbols=("BTCUSDT",), streams=("aggTrade", "kline", "markPrice"), flush_interval_s=120)


def gap(table: str, remaining: list[list[int]], **columns: Any) -> dict[str, Any]:
    base = {"gap_id": f"{table}|1", "venue": "aster", "symbol": "BTCUSDT", "table": table, "state": "open"}
    return base | {"interval": None, "remaining": remaining} | columns


def minutes(*numbers: int) -> list[int]:
    return [START_MS + number * MINUTE_MS for number in numbers]


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_trades_are_asked_by_id_a_thousand_at_a_time():
    asked = questions(gap("trades", [[11, 2_015], [3_000, 3_000]]), 0)
    assert [(question.params["fromId"], question.params["limit"]) for question in asked] == [
        (11, 1_000), (1_011, 1_000), (2_011, 5), (3_000, 1),
    ]  # fmt: skip
    assert {(question.path, question.venue, question.gap_id) for question in asked} == {
        ("/fapi/v3/aggTrades", "aster", "trades|1")
    }


def test_an_id_that_is_far_off_asks_for_no_more_than_can_be_asked():
    asked = questions(gap("trades", [[11, 12], [14, 2 * 10**9]]), 0)
    assert [question.params["fromId"] for question in asked[:3]] == [11, 14, 1_014]
    assert len(asked) == 10_000


def test_an_hour_of_ten_trades_a_second_costs_720_weight():
    asked = questions(gap("trades", [[1, 36_000]]), 0)
    assert sum(weight_of(question.path, question.params) for question in asked) == 720


def test_bars_are_asked_by_time_once_they_have_settled():
    missing = gap("klines", [minutes(0, 0), minutes(3, 502)], interval="1m")
    now_ms = START_MS + (503 + 5) * MINUTE_MS
    assert questions(missing, now_ms - 1) == []
    asked = questions(missing, now_ms)
    spans = [(question.params["startTime"], question.params["endTime"]) for question in asked]
    assert spans == [tuple(minutes(0, 0)), tuple(minutes(3, 501)), tuple(minutes(502, 502))]
    assert asked[0].path == "/fapi/v3/klines"
    assert asked[0].params["interval"] == "1m"


def test_mark_prices_are_asked_as_bars_and_fundings_with_the_mark_price_last():
    missing = gap("mark_price", [minutes(0, 2)], from_time=START_MS + 10_000, to_time=START_MS + 130_000)
    asked = questions(missing, START_MS + 10 * MINUTE_MS)
    assert [question.path.rsplit("/", 1)[1] for question in asked] == ["indexPriceKlines", "markPriceKlines"]
    assert asked[0].params["pair"] == asked[1].params["symbol"] == "BTCUSDT"
    over_the_hour = missing | {"from_time": START_MS - 10_000}
    assert [question.path.rsplit("/", 1)[1] for question in questions(over_the_hour, START_MS + 10 * MINUTE_MS)] == [
        "fundingInfo", "fundingRate", "indexPriceKlines", "markPriceKlines",
    ]  # fmt: skip


def test_binance_is_asked_at_its_own_paths_and_others_not_at_all():
    (asked,) = questions(gap("trades", [[1, 5]], venue="binance"), 0)
    assert (asked.path, asked.venue) == ("/fapi/v1/aggTrades", "binance")
    assert questions(gap("trades", [[1, 5]], venue="hyperliquid"), 0) == []


@pytest.mark.parametrize("never", [{"table": "book_ticker"}, {"state": "unrepairable"}])
def test_what_rest_cannot_bring_is_not_asked(never):
    assert questions(gap("trades", [[1, 5]]) | never, 0) == []


# --- against the exchange --------------------------------------------------------------------------------------------

Sent = dict[str, list]  # per endpoint, as the exchange sends them


async def everything(rest: AsterRest) -> Sent:
    """All trades and closed bars that the exchange has of the market."""
    first, trades = 0, []
    while page := await rest.get_json("/fapi/v3/aggTrades", symbol="BTCUSDT", fromId=first, limit=1_000):
        trades += page
        first = page[-1]["a"] + 1
    asked = {"interval": "1m", "startTime": START_MS, "limit": 499}
    bars = await rest.get_json("/fapi/v3/klines", symbol="BTCUSDT", **asked)
    marks = await rest.get_json("/fapi/v3/markPriceKlines", symbol="BTCUSDT", **asked)
    return {"trades": trades, "klines": bars, "mark_klines": marks}


def assert_trades_equal_rest(lake: Lake, sent: Sent) -> None:
    """The stored trades are the exchange's, row for row, as far as both go."""
    wire = [
        (each["a"], each["T"], float(each["p"]), float(each["q"]), each["m"], each["f"], each["l"])
        for each in sent["trades"]
    ]
    columns = ["agg_trade_id", pl.col("event_time").to_physical(), "price", "quantity", "is_buyer_maker"]
    stored = lake.scan("trades").select(*columns, "first_trade_id", "last_trade_id").rows()
    last = min(stored[-1][0], wire[-1][0])
    assert [each for each in stored if each[0] <= last] == [each for each in wire if each[0] <= last]


def assert_bars_equal_rest(lake: Lake, sent: Sent, until: datetime) -> None:
    """The stored bars that open before a time are the exchange's, row for row."""
    wire = [
        (each[0], *map(float, (*each[1:6], each[7])), each[8])
        for each in sent["klines"]
        if each[0] < until.timestamp() * 1_000
    ]
    columns = [pl.col("open_time").to_physical(), "open", "high", "low", "close", "volume", "quote_volume"]
    assert lake.scan("klines", start=START, end=until).select(*columns, "trade_count").rows() == wire


def recorded_with_holes(root: Path, keep: dict[str, pl.Expr]) -> Lake:
    """A lake with the market's rows that are kept; the ledger knows of the others."""
    rows = generate(MARKET, "BTCUSDT", MARKET.dates[0])
    told = Listening()
    streams = ["btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s"]
    for what, more in (("started", {}), ("opened", {"streams": streams, "life": 1})):
        told.take(Record(START_MS * 10**6, Kind.NOTE, 0, note(what, **more)))
    lake = Lake(root, create=True)
    tables = {name: rows[name].filter(kept) for name, kept in keep.items()}
    lake.append_all({**tables, "gaps": found(lake, tables, told)}, origin="holes")
    return lake


async def repaired(
    lake: Lake, *, at_minute: float, faults: Faults | None = None, rounds: int = 1
) -> tuple[list[Report], Sent]:
    """Repair while the exchange stands still at a minute of the market."""
    begins = START + timedelta(minutes=at_minute)
    async with Loopback(SyntheticSource(MARKET), speed=None, start=begins, faults=faults) as exchange:
        clock = FollowedClock()
        async with AsterRest(await venue_of(exchange.rest_url), clock) as rest:
            reports = [await repair(lake, rest, Budget(clock, 2_400), clock) for _ in range(rounds)]
            return reports, {} if faults else await everything(rest)


IDS, OPENED, MARKED = pl.col("agg_trade_id"), pl.col("open_time"), pl.col("event_time")
KEPT = {
    "trades": ~IDS.is_between(39_200, 40_700) & (IDS != 40_900),  # of 39,049 to 41,024
    "klines": ~OPENED.is_between(START + timedelta(minutes=4), START + timedelta(minutes=6)),
    "mark_price": ~MARKED.is_between(START + timedelta(seconds=610), START + timedelta(seconds=690)),
}


def test_what_was_missing_comes_back_as_the_exchange_has_it(tmp_path):
    lake = recorded_with_holes(tmp_path / "lake", KEPT)
    assert sorted((gap["table"], gap["missing"]) for gap in open_gaps(lake)) == [
        ("klines", 3), ("mark_price", 81), ("trades", 1), ("trades", 1_501),
    ]  # fmt: skip
    (report, again), sent = asyncio.run(repaired(lake, at_minute=24, rounds=2))
    assert report.states == {"partial": 1, "repaired": 3}
    assert report.rows == {"index_klines": 2, "klines": 3, "mark_klines": 2, "trades": 1_502}
    assert (report.asked, report.trouble) == (2 + 1 + 1 + 2, ())
    assert (again.gaps, again.asked) == (0, 0)
    assert_trades_equal_rest(lake, sent)
    assert_bars_equal_rest(lake, sent, START + timedelta(minutes=24))
    repaired_rows = lake.scan("trades").filter(source="rest")
    assert (repaired_rows.height, repaired_rows["recv_time"].null_count()) == (1_502, 1_502)
    settled = newest(lake).sort("table", "missing").select("table", "state", "cause", "repair_source", "rows_recovered")
    approximate = "markPriceKlines 1m, indexPriceKlines 1m, fundingRate: approximate"
    assert settled.rows() == [
        ("klines", "repaired", "sequence", "/fapi/v3/klines", 3),
        ("mark_price", "partial", "silence", approximate, 2),
        ("trades", "repaired", "sequence", "/fapi/v3/aggTrades", 1),
        ("trades", "repaired", "sequence", "/fapi/v3/aggTrades", 1_501),
    ]
    assert lake.verify() == []
    answers = lake.scan("raw").filter(pl.col("kind") == Kind.ANSWER)
    assert answers.height == report.asked  # kept raw too


def test_bars_that_may_still_change_are_left_for_later(tmp_path):
    lake = recorded_with_holes(tmp_path / "lake", {"klines": KEPT["klines"]})
    (early,), _ = asyncio.run(repaired(lake, at_minute=11.9))
    assert (early.states, early.asked) == ({"open": 1}, 0)
    (later,), _ = asyncio.run(repaired(lake, at_minute=12.1))
    assert later.states == {"repaired": 1}


def test_a_repair_that_fails_midway_goes_on_where_it_was(tmp_path):
    lake = recorded_with_holes(tmp_path / "lake", {"trades": KEPT["trades"]})
    banned = RequestFault(kind="status", path="aggTrades", status=418, retry_after_s=7_200.0, rate=0.5)
    (failed,), _ = asyncio.run(repaired(lake, at_minute=24, faults=Faults(seed=1, requests=(banned,))))
    assert (len(failed.trouble), failed.asked, failed.states) == (1, 1, {"open": 1, "repaired": 1})
    assert "run the repair again later" in failed.trouble[0]
    (report,), sent = asyncio.run(repaired(lake, at_minute=24))
    assert report.states == {"repaired": 1}
    assert_trades_equal_rest(lake, sent)


def test_answers_that_were_logged_before_a_kill_are_not_asked_again(tmp_path):
    lake = recorded_with_holes(tmp_path / "lake", {"klines": KEPT["klines"]})
    (bars,) = open_gaps(lake)
    (question,) = questions(bars, START_MS + 20 * MINUTE_MS)
    rows = [
        [opens, "1", "1", "1", "1", "1", opens + MINUTE_MS - 1, "1", 1, "1", "1", "0"] for opens in minutes(4, 5, 6)
    ]
    place = take_place(lake.root, {})
    body = json.dumps(rows).encode()
    payload = answer(question.path, question.params, 0, body, gap_id=question.gap_id)
    place.log.write((START_MS + 20 * MINUTE_MS) * 10**6, Kind.ANSWER, 0, payload)
    place.log.close()
    (report,), _ = asyncio.run(repaired(lake, at_minute=24))
    assert (report.states, report.asked, report.rows["klines"]) == ({"repaired": 1}, 0, 3)


def test_a_question_that_the_exchange_refuses_ends_its_gap(tmp_path):
    lake = recorded_with_holes(tmp_path / "lake", {"trades": KEPT["trades"], "klines": KEPT["klines"]})
    refused = RequestFault(kind="status", path="aggTrades", status=400, code=-1121)
    (report,), _ = asyncio.run(repaired(lake, at_minute=24, faults=Faults(requests=(refused,))))
    assert report.states == {"repaired": 1, "unrepairable": 2}
    assert len(report.trouble) == 2
    assert all("-1121" in sentence for sentence in report.trouble)


# --- everything at once: a recorder, frames that never come, the recorder's own repair -------------------------------

DROPPED = (
    StreamFault(kind="drop", streams="*@aggTrade", rate=0.03, together=True, from_s=120, for_s=600),
    StreamFault(kind="drop", streams="*@aggTrade", together=True, from_s=800, for_s=45),
    StreamFault(kind="drop", streams="*@kline_1m", together=True, from_s=300, for_s=150),
    StreamFault(kind="drop", streams="*@markPrice@1s", together=True, from_s=400, for_s=20),
)


def test_every_hole_that_a_tape_leaves_is_found_repaired_and_equal_to_rest(tmp_path):
    """Whole frames vanish on both sockets; the recorder finds what is missing and asks for it while it goes on."""
    root = tmp_path / "lake"

    async def run() -> tuple[pl.DataFrame, Sent]:
        async with Loopback(SyntheticSource(MARKET), speed=None, faults=Faults(seed=5, streams=DROPPED)) as exchange:
            venue = await venue_of(exchange.rest_url)
            stop, clock = asyncio.Event(), FollowedClock()
            recording = asyncio.create_task(record(CONFIG, venue, root, clock, stop=stop))
            ended = asyncio.create_task(exchange.finished())
            await asyncio.wait([recording, ended], return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await recording
            clock = FollowedClock()
            async with AsterRest(venue, clock) as rest:
                return exchange.truth.frame(), await everything(rest)

    truth, sent = asyncio.run(run())
    lake = Lake(root)
    assert_trades_equal_rest(lake, sent)
    assert_bars_equal_rest(lake, sent, START + timedelta(minutes=25))
    payloads = truth.filter(what="drop", stream="btcusdt@aggTrade")["payload"].unique()
    dropped = {json.loads(payload)["data"]["a"] for payload in payloads}
    ledger = newest(lake)
    lost = ledger.filter(table="trades")
    found_ids = {number for first, last in lost.select("from_id", "to_id").rows() for number in range(first, last + 1)}
    assert found_ids == dropped
    assert len(dropped) > 60
    assert lost["rows_recovered"].sum() == len(dropped) == lost["missing"].sum()
    brought = lake.scan("trades").filter(pl.col("agg_trade_id").is_in(list(dropped)))
    assert brought["source"].unique().to_list() == ["rest"]
    assert ledger.filter(table="klines").select("missing", "rows_recovered").rows() == [(3, 3)]
    states = dict(ledger.group_by("table").agg(pl.col("state").unique()).rows())
    assert states == {"trades": ["repaired"], "klines": ["repaired"], "mark_price": ["partial"]}
    assert set(ledger["cause"]) == {"sequence", "silence"}
