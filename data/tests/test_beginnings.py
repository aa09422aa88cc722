"""What was lost before the first row of a stream: the exchange is asked once, and what it has more is a gap."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data.beginning_questions import Beginning, first_position
from data.beginnings import before, due
from data.clock import FollowedClock
from data.lake import Lake
from data.ledger import newest
from data.listening import Listening
from data.loopback.faults import Faults, RequestFault
from data.loopback.server import Loopback, Outage
from data.loopback.tape import SyntheticSource
from data.recorder import record
from data.recorder_config import RecorderConfig
from data.recorder_locks import take_place
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec, generate
from data.tests.test_ledger import (
    MIDNIGHT_S,
    STREAMS,
    at,
    bars,
    closed_at,
    lake,
    land,
    marks,
    ms,
    opened,
    quotes,
    since_midnight,
    started,
    told_at,
    trades,
)  # fmt: skip
from data.tests.test_listening import frame
from data.venues.aster import AsterRest, venue_of
from data.venues.questions import Question
from data.wal import Kind, Record, connection_of, note

__all__ = ["lake"]  # a fixture
SINCE_MS = ms(at(-100))  # when ``since_midnight`` begins to listen
MINUTE_MS = 60_000


def first_of(stream: str, first: int | None, second: float = 50) -> Record:
    """The note of what the exchange has first."""
    return told_at(second, "first", venue="aster", stream=f"btcusdt@{stream}", first=first)


def again(lake: Lake, *records: Record) -> Listening:
    """What a further recorder hears; seconds count from midnight."""
    listening = Listening(lake.listened())
    later = [record._replace(recv_ns=record.recv_ns + round(MIDNIGHT_S * 1e9)) for record in records]
    assert list(listening.follow(later)) == later
    return listening


def asked_about(lake: Lake) -> list[tuple[str, int, int]]:
    """Table, since when, and first stored position of each stream that the exchange is to be asked about."""
    return [(each.table, each.since_ms, each.first) for each in due(lake)]


# --- what is asked, and what is made of the answer --------------------------------------------------------------------


def test_nothing_is_asked_as_long_as_nothing_has_come(lake):
    assert (
        land(lake, since_midnight(frame(900), closed_at(901, "lost"), opened(999, life=2, streams=STREAMS)))
        .filter(pl.col("table").is_in(["trades", "klines", "mark_price"]))
        .is_empty()
    )
    assert due(lake) == []


def test_what_the_exchange_has_before_the_first_trade_is_missing_from_its_id_on(lake):
    told = since_midnight(frame(9), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    assert land(lake, told, trades=trades(66, 67)).filter(table="trades").is_empty()
    assert asked_about(lake) == [("trades", SINCE_MS, 66)]
    list(told.follow([first_of("aggTrade", 14)._replace(recv_ns=told._now_ns + 1)]))
    (lost,) = land(lake, told).filter(table="trades").rows(named=True)
    expected = ("trades|BTCUSDT|14|65", 14, 65, 52, at(-100), at(66), "reconnect", "open")
    names = ("gap_id", "from_id", "to_id", "missing", "from_time", "to_time", "cause", "state")
    assert tuple(lost[name] for name in names) == expected
    assert due(lake) == []
    assert land(lake, again(lake, started(80), opened(81, streams=STREAMS)), trades=trades(82)).filter(
        table="trades"
    ).select("from_id", "to_id").rows() == [(68, 81)]


def test_a_first_trade_with_none_before_it_leaves_no_row_and_is_asked_about_once(lake):
    told = since_midnight(frame(9), first_of("aggTrade", None))
    assert land(lake, told, trades=trades(5, 6)).is_empty()
    assert due(lake) == []
    assert land(lake, told, trades=trades(7)).is_empty()
    assert lake.listened()["aster", "btcusdt@aggTrade"].since_ns is None


@pytest.mark.parametrize("seconds", [-100, -101, -86_000])
def test_a_trade_from_before_listening_began_is_followed_as_ever(lake, seconds):
    lake.append("trades", trades(seconds, source="rest", agg_trade_id=[100_000]), origin="snapshot")
    (lost,) = land(lake, since_midnight(frame(9)), trades=trades(1, agg_trade_id=[100_005])).rows(named=True)
    assert (lost["from_id"], lost["to_id"]) == (100_001, 100_004)
    assert due(lake) == []


def test_a_trade_of_days_ago_is_history_and_the_exchange_is_asked(lake):
    lake.append("trades", trades(-500_000), origin="an import of five days ago")
    assert land(lake, since_midnight(frame(9)), trades=trades(5)).is_empty()
    assert asked_about(lake) == [("trades", SINCE_MS, 5)]


def test_the_first_trade_of_all_has_none_before_it(lake):
    assert land(lake, since_midnight(frame(9)), trades=trades(0, 1)).is_empty()
    assert due(lake) == []


@pytest.mark.parametrize("goodbye", [[], [closed_at(9, "stopped"), told_at(9, "stopped")]])
def test_a_recorder_that_ended_before_the_first_trade_had_begun_to_listen_all_the_same(lake, goodbye):
    land(lake, since_midnight(frame(9), *goodbye))
    told = again(lake, started(30), opened(31, streams=STREAMS), frame(40))
    land(lake, told, trades=trades(35))
    assert asked_about(lake) == [("trades", SINCE_MS, 35)]
    more = again(lake, started(60), opened(61, streams=STREAMS))
    more.firsts["aster", "btcusdt@aggTrade"] = 3
    (lost,) = land(lake, more).filter(table="trades").rows(named=True)
    assert (lost["from_id"], lost["to_id"], lost["cause"]) == (3, 34, "stopped" if goodbye else "crash")


def test_a_symbol_that_is_added_later_is_asked_about_since_then(lake):
    told = since_midnight(frame(9), first_of("aggTrade", None), opened(20, life=2, streams=("ethusdt@aggTrade",)))
    land(lake, told, trades=pl.concat([trades(5), trades(30).with_columns(symbol=pl.lit("ETHUSDT"))]))
    assert [(each.symbol, each.since_ms) for each in due(lake)] == [("ETHUSDT", ms(at(20)))]


def test_bars_and_mark_prices_are_asked_about_unless_what_was_due_first_has_come(lake):
    told = since_midnight(frame(30))
    land(lake, told, klines=bars(-2), mark_price=marks(-98.5))
    assert due(lake) == []


def test_bars_and_mark_prices_are_missing_from_the_first_on_that_the_exchange_has(lake):
    told = since_midnight(frame(9), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    land(lake, told, klines=bars(1), mark_price=marks(66))
    assert asked_about(lake) == [("klines", SINCE_MS, ms(at(60)) // MINUTE_MS), ("mark_price", SINCE_MS, ms(at(66)))]
    told.firsts |= {
        ("aster", "btcusdt@kline_1m"): ms(at(-60)) // MINUTE_MS, ("aster", "btcusdt@markPrice@1s"): ms(at(0)),
    }  # fmt: skip
    lost = land(lake, told).filter(pl.col("table").is_in(["klines", "mark_price"])).sort("table")
    assert lost.select("table", "from_time", "to_time", "missing", "cause", "state").rows() == [
        ("klines", at(-120), at(60), 2, "reconnect", "open"),
        ("mark_price", at(0), at(66), 65, "reconnect", "open"),
    ]


def test_a_cause_that_is_long_ago_is_in_the_ledger(lake):
    cut = since_midnight(frame(9), closed_at(12, "lost"), opened(65, life=2, streams=STREAMS), frame(70))
    land(lake, cut, book_ticker=quotes(9, 66))
    later = again(lake, told_at(9_000, "listening", open=[[0, 2, list(STREAMS), 0]]), first_of("aggTrade", 20, 9_001))
    assert land(lake, later, trades=trades(9_000))["cause"].to_list() == ["reconnect"]


def test_half_a_second_without_mark_prices_is_no_hole():
    beginning = Beginning("aster", "x@markPrice@1s", "mark_price", "X", None, 1_000, 4_000, 4_000)
    assert before(beginning, 2_500) == []
    assert [lost["missing"] for lost in before(beginning, 2_000)] == [1]


# --- the questions ----------------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000
TRADE = Beginning("aster", "btcusdt@aggTrade", "trades", "BTCUSDT", None, SINCE_MS, 900, SINCE_MS + 5 * HOUR_MS)
BAR = TRADE._replace(table="klines", interval="1m", first=SINCE_MS // MINUTE_MS + 9)
MARK = TRADE._replace(table="mark_price", first=SINCE_MS + 9 * MINUTE_MS)


def answered(beginning: Beginning, *answers: object) -> tuple[int | None, list[Question]]:
    """The first position by these answers, and the questions that they were to; each was asked for."""
    asked, left = [], list(answers)

    async def ask(question: Question) -> bytes:
        asked.append(question)
        return json.dumps(left.pop(0)).encode()

    found = asyncio.run(first_position(beginning, ask))
    assert left == []
    return found, asked


@pytest.mark.parametrize("page", [[], [{"a": 900, "T": SINCE_MS + 9}], [{"a": 899, "T": SINCE_MS - 1}]])
def test_where_the_trade_before_is_none_or_older_than_listening_one_question_tells(page):
    found, (question,) = answered(TRADE, page)
    assert found is None
    assert (question.path, question.params["fromId"], question.params["limit"]) == ("/fapi/v3/aggTrades", 899, 1)


def test_else_the_hours_since_listening_began_are_searched_for_the_first_one():
    found, asked = answered(TRADE, [{"a": 899, "T": SINCE_MS + 4 * HOUR_MS}], [], [], [{"a": 850}])
    spans = [(each.params["startTime"] - SINCE_MS, each.params["endTime"] - SINCE_MS) for each in asked[1:]]
    # less than an hour each, or the exchange refuses
    assert (found, spans) == (850, [(hour * HOUR_MS, (hour + 1) * HOUR_MS - 1) for hour in range(3)])
    assert answered(TRADE, [{"a": 899, "T": SINCE_MS + 9}], [])[0] == 899  # that one is missing at least


def test_binance_is_asked_at_its_own_path():
    _, (question,) = answered(TRADE._replace(venue="binance"), [])
    assert (question.path, question.venue) == ("/fapi/v1/aggTrades", "binance")


def test_bars_are_asked_from_the_one_that_was_open_when_listening_began():
    minute = SINCE_MS // MINUTE_MS
    found, (question,) = answered(BAR, [[(minute + 2) * MINUTE_MS, "1"]])
    assert (found, question.path, question.params["startTime"]) == (minute + 2, "/fapi/v3/klines", minute * MINUTE_MS)
    assert answered(BAR, [[BAR.first * MINUTE_MS]])[0] is None
    assert answered(BAR, [])[0] is None


def test_mark_prices_are_missing_from_listening_on_or_from_their_first_minute():
    minute = SINCE_MS // MINUTE_MS
    found, (question,) = answered(MARK, [[minute * MINUTE_MS]])
    assert (found, question.path, question.params["interval"]) == (SINCE_MS, "/fapi/v3/markPriceKlines", "1m")
    assert answered(MARK, [[(minute + 3) * MINUTE_MS]])[0] == (minute + 3) * MINUTE_MS


@pytest.mark.parametrize("strange", [{"code": 200}, [{"id": 7}], 5])
def test_an_answer_of_another_form_is_refused(strange):
    with pytest.raises(ValueError, match="/fapi/v3/aggTrades"):
        answered(TRADE, strange)


# --- over sockets -----------------------------------------------------------------------------------------------------

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
MARKET = MarketSpec(
    symbols=(BTC_LIKE, ALT_LIKE, replace(ALT_LIKE, symbol="NEWUSDT")), start=START, days=10 / 1_440, seed=31,
    depth_interval_s=60, quote_interval_s=10,
)  # fmt: skip
CONFIG = RecorderConfig(
    symbols=("BTCUSDT", "ASTERUSDT", "NEWUSDT"), streams=("aggTrade", "kline", "markPrice", "bookTicker"),
    flush_interval_s=60.0, run_length_s=200.0, compaction=False, all_liquidations=False, sockets=1,
)  # fmt: skip
NEVER = START + timedelta(days=1)


class Newborn(SyntheticSource):
    """A market in which trading begins late, with ids that do not begin at 1."""

    def __init__(self, spec: MarketSpec, born: Mapping[str, datetime]) -> None:
        super().__init__(spec)
        self._born = born

    def happened(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        rows = super().happened(table, symbol, from_ms, to_ms)
        born = self._born.get(symbol, START)
        if table.endswith("klines"):
            return rows.filter(pl.col("open_time") >= born.replace(second=0))
        return rows.filter(pl.col("event_time") >= born) if table in ("trades", "mark_price") else rows


def of_market(symbol: str, born: datetime, spec: MarketSpec = MARKET) -> pl.DataFrame:
    """The market's trades since they began."""
    return generate(spec, symbol, START.date())["trades"].filter(pl.col("event_time") >= born)


@pytest.fixture
def overheard(monkeypatch) -> list[Question]:
    """What REST was asked."""
    questions = []
    ask = AsterRest.ask

    async def hear(rest: AsterRest, question: Question) -> bytes:
        questions.append(question)
        return await ask(rest, question)

    monkeypatch.setattr(AsterRest, "ask", hear)
    return questions


def test_what_an_outage_costs_before_the_first_trade_has_its_row_and_comes_back(tmp_path, overheard):
    """REST fails when it is asked first; one symbol is never traded, one only when the sockets are back."""
    born = {"BTCUSDT": START + 20 * A_SECOND, "ASTERUSDT": NEVER, "NEWUSDT": START + 120 * A_SECOND}
    outage = Outage(at=START + 10 * A_SECOND, seconds=60)
    trouble = RequestFault(kind="status", path="aggTrades", status=503, from_s=5.0, count=3)

    async def recorded(root: Path) -> None:
        faults = Faults(requests=(trouble,))
        async with Loopback(Newborn(MARKET, born), speed=None, outages=[outage], faults=faults) as exchange:
            await record(CONFIG, await venue_of(exchange.rest_url), root, FollowedClock())

    asyncio.run(recorded(tmp_path / "lake"))
    lake = Lake(tmp_path / "lake")
    ledger = newest(lake).filter(~pl.col("table").is_in(["book_ticker", "kline_updates"])).sort("table")
    wanted = of_market("BTCUSDT", born["BTCUSDT"])
    lost = wanted.filter(pl.col("recv_time") < START + 70 * A_SECOND)["agg_trade_id"]
    assert lost.len() > 20
    known = ["table", "symbol", "from_id", "to_id", "from_time", "missing", "cause", "state"]
    assert ledger.select(known).rows() == [
        ("klines", "BTCUSDT", None, None, START - 60 * A_SECOND, 1, "reconnect", "open"),
        ("mark_price", "BTCUSDT", None, None, START, 69, "reconnect", "open"),
        ("trades", "BTCUSDT", lost[0], lost[-1], START, lost.len(), "reconnect", "repaired"),
    ]
    found = lake.scan("trades", symbols=["BTCUSDT"])
    assert found["agg_trade_id"].to_list() == wanted["agg_trade_id"][: found.height].to_list()
    assert found.filter(source="rest")["agg_trade_id"].to_list() == lost.to_list()
    asked_for = [(each.params["symbol"], *each.params.keys() & {"fromId", "startTime"})
                 for each in overheard if each.path.endswith("/aggTrades")]  # fmt: skip
    assert sorted(asked_for) == sorted([
        ("BTCUSDT",), ("ASTERUSDT",), ("NEWUSDT",),  # the snapshot
        *2 * [("BTCUSDT", "fromId")], ("BTCUSDT", "startTime"), ("NEWUSDT", "fromId"),
        ("BTCUSDT", "fromId"),  # the repair
    ])  # fmt: skip
    assert due(lake) == []


def test_a_recorder_killed_before_the_first_trade_left_when_it_began(tmp_path):
    """So many trades are lost that the next recorder's snapshot does not hold them all."""
    born, restarts = START + 10 * A_SECOND, START + 700 * A_SECOND
    market = replace(MARKET, symbols=(BTC_LIKE,), days=15 / 1_440, trades_per_second=2.0)
    config = replace(CONFIG, symbols=("BTCUSDT",), streams=("aggTrade", "bookTicker"), run_length_s=20.0)
    root = tmp_path / "lake"
    Lake(root, create=True)
    (root / "loopback").touch()
    log = take_place(root, {"aster": config.stream_names()}).log
    began_ns = ms(START + 5 * A_SECOND) * 10**6
    for what, more in (("started", {}), ("opened", {"streams": config.stream_names(), "life": 1})):
        log.write(began_ns, Kind.NOTE, connection_of("aster"), note(what, **more))
    log.close()

    async def recorded() -> None:
        async with Loopback(Newborn(market, {"BTCUSDT": born}), speed=None, start=restarts) as exchange:
            await record(config, await venue_of(exchange.rest_url), root, FollowedClock())

    asyncio.run(recorded())
    lake = Lake(root)
    found, wanted = lake.scan("trades")["agg_trade_id"], of_market("BTCUSDT", born, market)["agg_trade_id"]
    assert found.to_list() == wanted[: found.len()].to_list()
    (lost,) = newest(lake).filter(table="trades").rows(named=True)
    assert (lost["from_id"], lost["from_time"], lost["cause"], lost["state"]) == (
        wanted[0], START + 5 * A_SECOND, "crash", "repaired",
    )  # fmt: skip
    assert lost["missing"] > 200
