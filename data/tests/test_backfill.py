"""History comes whole, is asked for once, and costs what was said before."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.answers import AnswerLog
from data.backfill import Report, backfill
from data.backfill_plan import Plan, plan_backfill
from data.clock import ScaledClock
from data.coverage import coverage
from data.gaps import kline_gaps
from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.synthetic import BTC_LIKE, MarketSpec, fill_lake
from data.venues.aster import AsterRest, Unavailable, venue_of
from data.venues.weights import Budget, weight_of

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = START + 10 * HOUR
END = START + 2 * HOUR
BARS = ("klines", "mark_klines", "index_klines")


MARKET = MarketSpec(symbols=(BTC_LIKE,), start=START, days=0.5, seed=3)  # about 3,000 trades an hour, funding at 08:00


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(MARKET)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Lake:
    """A lake in which nothing of that market is missing."""
    lake = Lake(tmp_path_factory.mktemp("whole") / "lake", create=True)
    fill_lake(lake, MARKET)
    return lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


class Exchange:
    """A loopback exchange whose history begins at START, at rest at NOW, and what is asked of it."""

    def __init__(self, rest: AsterRest, clock: ScaledClock) -> None:
        self.rest, self.clock = rest, clock
        self.asked: list[tuple[str, dict[str, Any]]] = []
        ask = rest.ask

        async def counting(question):
            self.asked.append((question.path.rsplit("/", 1)[1], dict(question.params)))
            return await ask(question)

        rest.ask = counting

    async def plan(self, lake: Lake, *tables: str, start=START, end=END) -> Plan:
        budget = Budget(self.clock, 2_400)
        return await plan_backfill(lake, self.rest, budget, symbols=["BTCUSDT"], start=start, end=end, tables=tables)

    async def fetch(self, lake: Lake, *tables: str, per_minute: int = 2_400, **span: datetime) -> Report:
        plan = await self.plan(lake, *tables, **span)
        self.asked.clear()
        return await backfill(lake, self.rest, Budget(self.clock, per_minute), self.clock, plan)


@asynccontextmanager
async def exchange(source: SyntheticSource, **settings: Any) -> AsyncIterator[Exchange]:
    async with Loopback(source, start=NOW, **settings) as loopback:
        clock = ScaledClock(NOW, speed=3_000)
        async with AsterRest(await venue_of(loopback.rest_url), clock) as rest:
            yield Exchange(rest, clock)


def run(source: SyntheticSource, work: Callable[[Exchange], Any], **settings: Any) -> Any:
    async def within() -> Any:
        async with exchange(source, **settings) as place:
            return await work(place)

    return asyncio.run(asyncio.wait_for(within(), 60))


def test_everything_there_is_comes_once_and_nothing_is_asked_twice(source, lake):
    async def twice(place: Exchange) -> tuple[Report, Plan]:
        return await place.fetch(lake, *BARS, "trades"), await place.plan(lake, *BARS, "trades")

    report, again = run(source, twice)
    assert (report.landed["klines"], report.landed["mark_klines"], report.landed["index_klines"]) == (120, 120, 120)
    days = coverage(lake, tables=["klines", "trades"], start=START, end=END)
    assert days.select("table", "missing", "state").rows() == [("klines", 0, "complete"), ("trades", 0, "complete")]
    trades = lake.scan("trades")
    assert trades["agg_trade_id"].to_list() == list(range(1, len(trades) + 1))
    assert set(trades["source"]) == {"rest"}
    assert trades["recv_time"].null_count() == len(trades)
    assert again.stretches == ()


def test_what_was_asked_is_kept_raw(source, lake):
    report = run(source, lambda place: place.fetch(lake, "klines"))
    assert len(lake.scan("raw")) == report.asked == 3  # intervals and rules of the contracts, one page of bars
    assert list((lake.root / "wal").rglob("*.wal")) == []


def test_it_takes_what_was_estimated(source, lake):
    async def compare(place: Exchange) -> tuple[Plan, Report, list[tuple[str, dict[str, Any]]]]:
        plan = await place.plan(lake, *BARS, "trades")
        place.asked.clear()
        return plan, await backfill(lake, place.rest, Budget(place.clock, 2_400), place.clock, plan), place.asked

    plan, report, asked = run(source, compare)
    assert plan.requests <= report.asked <= plan.requests + 5
    assert report.weight == sum(weight_of(f"/fapi/v3/{name}", params) for name, params in asked)
    assert plan.rows == pytest.approx(sum(report.landed.values()), rel=0.25)
    assert plan.minutes == pytest.approx(plan.weight / 2_400)
    assert {(row["table"], row["symbol"]) for row in plan.table()} == {
        ("klines 1m", "BTCUSDT"), ("mark_klines 1m", "BTCUSDT"), ("index_klines 1m", "BTCUSDT"), ("trades", "BTCUSDT")
    }  # fmt: skip


def test_killed_in_the_middle_it_goes_on_where_it_was(source, lake, monkeypatch):
    async def cut_off(place: Exchange) -> tuple[int, list[int]]:
        plan = await place.plan(lake, "trades")
        ask, calls = place.rest.ask, 0

        async def dying(question):
            nonlocal calls
            calls += 1
            if calls > 5:
                raise KeyboardInterrupt
            return await ask(question)

        place.rest.ask = dying
        with monkeypatch.context() as killed:
            killed.setattr(AnswerLog, "__aexit__", _vanish)  # as after kill -9: what was logged is not sealed
            with pytest.raises(KeyboardInterrupt):
                await backfill(lake, place.rest, Budget(place.clock, 2_400), place.clock, plan)
        assert len(lake.scan("trades")) == 0
        place.rest.ask = ask
        await place.fetch(lake, "klines")  # seals what is left over
        landed = len(lake.scan("trades"))
        plan = await place.plan(lake, "trades")
        place.asked.clear()
        await backfill(lake, place.rest, Budget(place.clock, 2_400), place.clock, plan)
        return landed, [params["fromId"] for name, params in place.asked]

    landed, from_ids = run(source, cut_off)
    assert landed >= 2_000
    trades = lake.scan("trades")
    assert trades["agg_trade_id"].to_list() == list(range(1, len(trades) + 1))
    assert min(from_ids) == 0
    assert len(from_ids) == -(-(len(trades) - landed) // 1_000)


async def _vanish(answers: AnswerLog, *_: object) -> None:
    answers._place.log.close()


def test_holes_in_what_is_stored_are_filled_and_what_is_there_is_not_asked_for(source, lake, whole):
    bars = whole.scan("klines", start=START + HOUR, end=END)
    hole = pl.col("open_time").is_between(START + HOUR + 30 * MINUTE, START + HOUR + 34 * MINUTE)
    lake.append("klines", bars.filter(~hole), origin="import")
    trades = whole.scan("trades").filter(pl.col("agg_trade_id").is_between(2_000, 4_000))
    lake.append("trades", trades.filter(~pl.col("agg_trade_id").is_between(3_000, 3_009)), origin="import")

    async def fetch(place: Exchange) -> list[tuple[str, dict[str, Any]]]:
        await place.fetch(lake, "klines", "trades")
        return place.asked

    asked = run(source, fetch)
    assert [(params["startTime"], params["limit"]) for name, params in asked if name == "klines"] == [
        (_ms(START + HOUR + 30 * MINUTE), 5),
        (_ms(START), 60),
    ]
    assert (3_000, 10) in [(params["fromId"], params["limit"]) for name, params in asked if name == "aggTrades"]
    assert kline_gaps(lake.scan("klines"), "1m").is_empty()
    trades = lake.scan("trades")
    assert trades["agg_trade_id"].to_list() == list(range(1, len(trades) + 1))
    assert lake.scan("conflicts").is_empty()


def test_before_a_contract_was_listed_there_is_nothing_and_the_ledger_says_so(source, lake):
    async def early(place: Exchange) -> tuple[Report, Plan]:
        span = {"start": START - 2 * HOUR, "end": START + HOUR}
        return await place.fetch(lake, "klines", "trades", **span), await place.plan(lake, "klines", "trades", **span)

    report, again = run(source, early)
    lost = report.lost.select("table", "state", "cause", "from_time", "missing").sort("table")
    assert lost.rows() == [
        ("klines", "unrepairable", "exchange", START - 2 * HOUR - MINUTE, 120),
        ("trades", "unrepairable", "exchange", START - 2 * HOUR, None),
    ]
    assert again.stretches == again.absent == ()
    (day, next_day) = coverage(lake, tables=["klines"], start=START - 2 * HOUR, end=START + HOUR).rows(named=True)
    assert (day["missing"], day["unrepairable"], next_day["missing"]) == (120, 120, 0)


def test_bars_that_may_still_change_are_left_for_later(source, lake):
    report = run(source, lambda place: place.fetch(lake, "klines", start=NOW - HOUR, end=None))
    assert report.landed["klines"] == 55
    assert lake.scan("klines")["open_time"].max() == NOW - 6 * MINUTE


def test_fundings_come_with_the_interval_that_the_exchange_tells(source, lake):
    async def fetch(place: Exchange) -> tuple[Report, Plan]:
        span = {"start": START, "end": NOW}
        return await place.fetch(lake, "funding", **span), await place.plan(lake, "funding", **span)

    report, again = run(source, fetch)
    assert report.landed["funding"] == 1
    assert lake.scan("funding").select("event_time", "interval_hours").rows() == [(START + 8 * HOUR, 8.0)]
    assert again.stretches == ()


def test_the_budget_is_kept(source, lake):
    async def frugal(place: Exchange) -> float:
        began = place.clock.now()
        await place.fetch(lake, "trades", per_minute=60)
        return (place.clock.now() - began) / MINUTE

    assert run(source, frugal) >= 2.0  # nine pages or so of weight 20, three a minute


def test_an_exchange_that_is_busy_is_waited_for_and_one_that_is_gone_is_not(source, lake):
    said: list[str] = []

    async def busy(place: Exchange) -> Report:
        plan = await place.plan(lake, "klines")
        ask, refusals = place.rest.ask, [Unavailable("HTTP 429", 30.0), Unavailable("HTTP 418", 130.0)]

        async def refusing(question):
            if refusals:
                raise refusals.pop(0)
            return await ask(question)

        place.rest.ask = refusing
        report = await backfill(lake, place.rest, Budget(place.clock, 2_400), place.clock, plan, say=said.append)
        place.rest.ask = lambda question: _gone()
        with pytest.raises(Unavailable):
            await place.fetch(lake, "trades")
        return report

    assert run(source, busy).landed["klines"] == 120
    assert said == ["HTTP 429: asking again in 30 s", "HTTP 418: asking again in 130 s"]


async def _gone() -> bytes:
    raise Unavailable("connection refused", 4.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"symbols": ["BTCUSD"]}, "no BTCUSD; did you mean BTCUSDT"),
        ({"tables": ["depth"]}, "table depth has no history.*klines"),
        ({"start": NOW}, "nothing to ask: start 2026-01-05 10:00 is not before 2026-01-05 10:00"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(source, lake, wrong, said):
    async def ask(place: Exchange) -> None:
        asked = {"symbols": ["BTCUSDT"], "start": START} | wrong
        await plan_backfill(lake, place.rest, Budget(place.clock), **asked)

    with pytest.raises(ValueError, match=said):
        run(source, ask)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
