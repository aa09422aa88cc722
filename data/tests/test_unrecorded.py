"""A day whose last hours nobody recorded: what is missing is known, and comes back as the exchange has it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data.clock import FollowedClock, RealClock
from data.lake import Lake, Listened
from data.ledger import newest
from data.loopback.faults import Faults, RequestFault
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder_locks import take_place
from data.recorder_status import Status, write_status
from data.repair import repair
from data.schema import GAPS, TABLES
from data.stored_runs import to_ms
from data.synthetic import BTC_LIKE, MarketSpec, generate
from data.tests.test_beginnings import Newborn, overheard
from data.unrecorded import asked, unheard_ends, unrecorded
from data.venues.aster import AsterRest, venue_of
from data.venues.weights import Budget
from data.wal import Kind, note

__all__ = ["overheard"]  # a fixture
Rows = dict[str, pl.DataFrame]
MIDNIGHT = datetime(2026, 1, 6, tzinfo=UTC)
START = MIDNIGHT - timedelta(minutes=15)
STOPPED = START + timedelta(minutes=5)
MARKET = MarketSpec(symbols=(BTC_LIKE,), start=START, days=25 / 1_440, seed=31, depth_interval_s=60)
STREAMS = ("btcusdt@aggTrade", "btcusdt@kline_1m", "btcusdt@markPrice@1s", "btcusdt@bookTicker")
STREAMED = ("trades", "klines", "mark_price", "book_ticker")
TOLD_BY_REST = {
    "trades": ["agg_trade_id", "event_time", "price", "quantity", "is_buyer_maker", "first_trade_id", "last_trade_id"],
    "klines": ["open_time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count"],
}
A_MINUTE = timedelta(minutes=1)
STATUS = Status(
    pid=7, state="stopped", venue="aster", lake="", symbols=("BTCUSDT",), streams=STREAMS, started="", now="",
    seconds=0.0, connected=0, connections=2, reconnects=0, messages_per_second=0.0, last_message=None, lag_ms=None,
    unsealed_bytes=0, already_present=0, conflicts=0, quarantined=0, cut_bytes=0, dropped=0, trouble=(),
)  # fmt: skip


def lake_heard(
    root: Path,
    why: str,
    streams: tuple[str, ...] = STREAMS[:1],
    rows: Rows | None = None,
    began: datetime | None = None,
) -> Lake:
    """A lake that heard streams up to ten minutes before midnight."""
    lake = Lake(root, create=True)
    until_ns, since_ns = to_ms(STOPPED) * 10**6, None if began is None else to_ms(began) * 10**6
    heard = [
        Listened(venue="aster", stream=stream, until_ns=until_ns, why=why, since_ns=since_ns) for stream in streams
    ]
    lake.append_all(rows or {}, origin="test", listened=heard)
    return lake


@pytest.fixture(scope="module")
def sent() -> Rows:
    """What the market made before midnight."""
    rows = generate(MARKET, "BTCUSDT", MARKET.dates[0])
    return {name: rows[name] for name in STREAMED}


@pytest.fixture
def stopped(sent, tmp_path) -> Lake:
    """A lake whose recorder was stopped ten minutes before midnight."""
    came = {name: rows.filter(pl.col(TABLES[name].time) < STOPPED) for name, rows in sent.items()}
    came["klines"] = came["klines"][:-1]  # it had just closed, and its message was on the way
    lake = lake_heard(tmp_path / "lake", "stopped", STREAMS, came)
    write_status(lake.root, STATUS)
    return lake


async def closed(
    lake: Lake,
    at: datetime,
    end: datetime | None = None,
    source: SyntheticSource | None = None,
    faults: Faults | None = None,
) -> dict[str, dict]:
    """By table, what the ledger gets to know at a time of the exchange; it is repaired then."""
    async with Loopback(source or SyntheticSource(MARKET), speed=None, start=at, faults=faults) as exchange:
        clock = FollowedClock()
        async with AsterRest(await venue_of(exchange.rest_url), clock) as rest:
            budget = Budget(clock, 2_400)
            lost = await unrecorded(lake, rest, budget, clock, asked(lake), end=end)
            lake.append(GAPS.name, lost, origin="repair")
            await repair(lake, rest, budget, clock)
    return {each["table"]: each for each in lost.to_dicts()}


def test_the_rest_of_a_day_is_missing_and_comes_back_as_the_exchange_has_it(stopped, sent):
    last_id = stopped.scan("trades")["agg_trade_id"].max()
    lost = asyncio.run(closed(stopped, MIDNIGHT + 8 * A_MINUTE))
    assert lost.keys() == {*STREAMED, "kline_updates"}
    assert {(each["cause"], each["to_time"]) for each in lost.values()} == {("stopped", MIDNIGHT)}
    assert (lost["trades"]["from_id"], lost["trades"]["to_id"]) == (last_id + 1, sent["trades"]["agg_trade_id"].max())
    assert (lost["klines"]["missing"], lost["book_ticker"]["missing"]) == (11, None)
    for table, columns in TOLD_BY_REST.items():
        assert stopped.scan(table, columns=columns).equals(sent[table].select(columns))
    assert dict(newest(stopped).select("table", "state").iter_rows()) == {
        "trades": "repaired", "klines": "repaired", "mark_price": "partial",
        "book_ticker": "unrepairable", "kline_updates": "unrepairable",
    }  # fmt: skip
    assert asyncio.run(closed(stopped, MIDNIGHT + 9 * A_MINUTE)) == {}


def test_the_next_night_goes_on_where_the_last_one_ended(stopped):
    first = asyncio.run(closed(stopped, MIDNIGHT + 2 * A_MINUTE))  # too early for bars
    later = MIDNIGHT + 4 * A_MINUTE
    again = asyncio.run(closed(stopped, later + 5.5 * A_MINUTE, later))
    assert again.keys() == first.keys()
    assert {each["to_time"] for each in again.values()} == {later}
    assert again["trades"]["from_id"] == first["trades"]["to_id"] + 1
    assert {again[name]["from_time"] for name in ("book_ticker", "kline_updates")} == {MIDNIGHT}
    assert again["klines"]["from_time"] == MIDNIGHT - A_MINUTE  # the last bar of the day
    whole = newest(stopped).filter(pl.col("table").is_in(["trades", "klines"]))
    assert whole["state"].to_list() == 4 * ["repaired"]
    assert stopped.scan("klines")["open_time"].to_list() == [START + number * A_MINUTE for number in range(19)]


BEGAN = START + 3.4 * A_MINUTE


def test_what_a_recorder_missed_that_ended_before_the_first_row_is_missing_since_it_began(sent, tmp_path):
    lake = lake_heard(tmp_path / "lake", "stopped", STREAMS, began=BEGAN)
    write_status(lake.root, STATUS)
    lost = asyncio.run(closed(lake, MIDNIGHT + 8 * A_MINUTE))
    ids = sent["trades"].filter(pl.col("event_time") >= BEGAN)["agg_trade_id"]
    assert (lost["trades"]["from_id"], lost["trades"]["to_id"]) == (ids[0], ids[-1])
    assert {lost[name]["from_time"] for name in ("trades", "mark_price")} == {BEGAN}
    assert (lost["klines"]["from_time"], lost["klines"]["missing"]) == (START + 2 * A_MINUTE, 12)
    assert {(each["cause"], each["to_time"]) for each in lost.values()} == {("stopped", MIDNIGHT)}
    assert lake.scan("trades")["agg_trade_id"].to_list() == ids.to_list()
    assert asyncio.run(closed(lake, MIDNIGHT + 9 * A_MINUTE)) == {}


def test_what_came_before_a_first_row_is_asked_where_its_recorder_did_not_come_to_it(sent, tmp_path):
    came = sent["trades"].filter(pl.col("event_time").is_between(STOPPED - A_MINUTE, STOPPED))
    lake = lake_heard(tmp_path / "lake", "stopped", rows={"trades": came}, began=BEGAN)
    write_status(lake.root, STATUS)
    asyncio.run(closed(lake, MIDNIGHT + 8 * A_MINUTE))
    ids = sent["trades"].filter(pl.col("event_time") >= BEGAN)["agg_trade_id"]
    first, last = came["agg_trade_id"].min(), came["agg_trade_id"].max()
    found = newest(lake).sort("from_id").select("from_id", "to_id", "state").rows()
    assert found == [(ids[0], first - 1, "repaired"), (last + 1, ids[-1], "repaired")]
    assert asyncio.run(closed(lake, MIDNIGHT + 9 * A_MINUTE)) == {}


def test_where_nothing_was_traded_since_a_recorder_began_nothing_is_missing_and_one_question_tells(overheard, tmp_path):
    never = {"BTCUSDT": MIDNIGHT + timedelta(days=1)}
    lake = lake_heard(tmp_path / "lake", "stopped", began=BEGAN)
    write_status(lake.root, STATUS)
    assert asyncio.run(closed(lake, MIDNIGHT + 8 * A_MINUTE, source=Newborn(MARKET, never))) == {}
    assert [question.params for question in overheard if question.path != "/loopback"] == [
        {"symbol": "BTCUSDT", "limit": 1}
    ]


def test_what_a_killed_recorder_had_heard_is_not_missing(tmp_path):
    lake = lake_heard(tmp_path / "lake", "open", STREAMS[3:])
    later_ns = to_ms(STOPPED + 3 * A_MINUTE) * 10**6
    log = take_place(lake.root, {"aster": STREAMS[3:]}).log
    log.write(later_ns - 1, Kind.NOTE, 0, note("listening", open=[[0, 1, STREAMS[3:]]]))
    log.write(later_ns, Kind.FRAME, 0, b"{}")
    log.close()
    write_status(lake.root, replace(STATUS, state="recording"))
    clock = RealClock()
    (lost,) = asyncio.run(unrecorded(lake, None, Budget(clock, 1), clock, asked(lake))).to_dicts()
    assert (lost["table"], lost["cause"], lost["state"]) == ("book_ticker", "crash", "unrepairable")
    assert (lost["from_time"], lost["to_time"]) == (STOPPED + 3 * A_MINUTE, MIDNIGHT)


GONE = Faults(requests=(RequestFault(kind="status", path="aggTrades", status=400, code=-1121),))


def test_a_symbol_that_the_exchange_has_no_more_keeps_nothing_else_from_being_told(stopped):
    last = stopped.scan("trades")["event_time"].max()
    lost = asyncio.run(closed(stopped, MIDNIGHT + 8 * A_MINUTE, faults=GONE))
    assert lost.keys() == {*STREAMED, "kline_updates"}
    trades = lost["trades"]
    assert (trades["from_time"], trades["to_time"], trades["cause"]) == (last, MIDNIGHT, "stopped")
    assert (trades["from_id"], trades["missing"], trades["state"]) == (None, None, "unrepairable")
    assert newest(stopped).filter(table="klines")["state"].to_list() == ["repaired"]
    assert asyncio.run(closed(stopped, MIDNIGHT + 9 * A_MINUTE, faults=GONE)) == {}


def test_a_symbol_of_which_the_exchange_lists_no_trade_any_more_is_told_without_a_count(stopped):
    never = {"BTCUSDT": MIDNIGHT + timedelta(days=1)}
    lost = asyncio.run(closed(stopped, MIDNIGHT + 8 * A_MINUTE, source=Newborn(MARKET, never)))
    assert lost.keys() == {*STREAMED, "kline_updates"}
    assert (lost["trades"]["from_id"], lost["trades"]["to_time"]) == (None, MIDNIGHT)


@pytest.mark.parametrize("came", [[], ["trades"]])
def test_what_the_exchange_refuses_to_tell_of_a_beginning_is_not_told(came, sent, tmp_path):
    rows = {name: sent[name].filter(pl.col("event_time").is_between(STOPPED - A_MINUTE, MIDNIGHT)) for name in came}
    lake = lake_heard(tmp_path / "lake", "stopped", STREAMS[:2], rows, began=BEGAN)
    write_status(lake.root, STATUS)
    assert asyncio.run(closed(lake, MIDNIGHT + 8 * A_MINUTE, faults=GONE)).keys() - {"trades"} == {
        "klines",
        "kline_updates",
    }


@pytest.mark.parametrize(
    ("why", "cause"), [("open", "crash"), ("cut", "crash"), ("stopped", "stopped"), ("reconnect", "reconnect")]
)
def test_an_end_has_the_cause_that_it_came_to(why, cause, tmp_path):
    lake = lake_heard(tmp_path / "lake", why)
    (end,) = unheard_ends(lake, {STREAMS[0]: False}, end=None, now=MIDNIGHT)
    assert (end.from_ns, end.to_ns, end.cause) == (to_ms(STOPPED) * 10**6, to_ms(MIDNIGHT) * 10**6, cause)


def test_a_day_that_goes_on_a_stream_that_is_heard_and_one_that_nobody_asks_for_have_no_end(tmp_path):
    lake = lake_heard(tmp_path / "lake", "open")
    dead, living = {STREAMS[0]: False}, {STREAMS[0]: True}
    assert unheard_ends(lake, dead, end=None, now=MIDNIGHT - A_MINUTE) == []
    assert unheard_ends(lake, living, end=None, now=MIDNIGHT) == []
    assert unheard_ends(lake, {"ethusdt@aggTrade": False}, end=None, now=MIDNIGHT) == []
    assert unheard_ends(lake, dead, end=STOPPED, now=MIDNIGHT) == []
    deaf = lake_heard(tmp_path / "deaf", "reconnect")
    assert [end.cause for end in unheard_ends(deaf, living, end=None, now=MIDNIGHT)] == ["reconnect"]


def test_what_was_never_recorded_was_never_asked_for(tmp_path):
    assert asked(Lake(tmp_path / "lake", create=True)) == {}
