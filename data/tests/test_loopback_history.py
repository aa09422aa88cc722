"""History of the loopback exchange as a backfill asks for it; late bars, silent minutes, contracts that change."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import polars as pl
import pytest

from data.loopback.chunk import Chunk
from data.loopback.contracts import decimals, in_force
from data.loopback.faults import ContractChange, Faults
from data.loopback.quirks import Quirky
from data.loopback.server import Loopback
from data.loopback.streams import stream_of
from data.loopback.tape import NS_PER_MS, SyntheticSource, to_ms
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec, generate
from data.tests.loopback_client import Client, connect, market, run, stream_path

START = datetime(2026, 1, 5, tzinfo=UTC)
START_MS = to_ms(START)
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
DEEP = MarketSpec(symbols=(BTC_LIKE,), start=START, days=3.0, seed=11, trades_per_second=0.05)
QUIET = MarketSpec(
    symbols=(replace(BTC_LIKE, clusters_per_day=0.0), ALT_LIKE), start=START, days=30 / 1_440, seed=4,
    trades_per_second=0.02,
)  # fmt: skip


@pytest.fixture(scope="module")
def deep() -> SyntheticSource:
    return market(DEEP)


def asked(source: SyntheticSource, test: Callable[[Callable[..., Awaitable[object]]], Awaitable[object]]) -> object:
    """The test's result with a function that asks an exchange at the end of its tape."""

    async def session() -> object:
        begins = source.end - timedelta(minutes=1)
        async with asyncio.timeout(60), Loopback(source, start=begins) as exchange, aiohttp.ClientSession() as http:

            async def ask(name: str, **params: object) -> object:
                async with http.get(f"{exchange.rest_url}/fapi/v3/{name}", params=params) as answer:
                    assert answer.status == 200, await answer.text()
                    weights.append(int(answer.headers["X-MBX-USED-WEIGHT-1M"]))
                    return await answer.json()

            weights: list[int] = []
            return await test(ask), weights

    return asyncio.run(session())


def test_trades_of_days_ago_are_paged_first_by_time_and_then_by_id(deep):
    rows = pl.concat([generate(DEEP, "BTCUSDT", day)["trades"] for day in DEEP.dates])

    async def backfill(ask) -> list[dict]:
        from_ms = START_MS + 5 * HOUR_MS
        page = await ask("aggTrades", symbol="BTCUSDT", startTime=from_ms, endTime=from_ms + HOUR_MS - 1, limit=1_000)
        found = []
        while page and page[0]["T"] < from_ms + 24 * HOUR_MS:
            found += page
            page = await ask("aggTrades", symbol="BTCUSDT", fromId=page[-1]["a"] + 1, limit=1_000)
        return found

    found, weights = asked(deep, backfill)
    ids = [trade["a"] for trade in found]
    assert ids == list(range(ids[0], ids[-1] + 1))
    wanted = rows.filter(pl.col("agg_trade_id").is_between(ids[0], ids[-1]))
    assert [(float(trade["p"]), trade["T"]) for trade in found] == [
        (price, to_ms(time)) for price, time in wanted.select("price", "event_time").iter_rows()
    ]
    assert found[0]["T"] >= START_MS + 5 * HOUR_MS > to_ms(rows.filter(agg_trade_id=ids[0] - 1)["event_time"][0])
    assert all(after in (before + 20, 20) for before, after in itertools.pairwise(weights))  # a minute may end


def test_bars_of_days_ago_come_in_pages_of_their_limit(deep):
    async def backfill(ask) -> dict[str, list[list]]:
        found: dict[str, list[list]] = {}
        for name, symbol in (("klines", "symbol"), ("markPriceKlines", "symbol"), ("indexPriceKlines", "pair")):
            bars, from_ms, end_ms = [], START_MS, START_MS + 48 * HOUR_MS
            while from_ms < end_ms:
                span = {"startTime": from_ms, "endTime": end_ms - 1}
                page = await ask(name, interval="1m", limit=499, **span, **{symbol: "BTCUSDT"})
                assert len(page) == min(499, (end_ms - from_ms) // MINUTE_MS)
                bars += page
                from_ms = page[-1][0] + MINUTE_MS
            found[name] = bars
        return found

    found, _ = asked(deep, backfill)
    opened = [START_MS + minute * MINUTE_MS for minute in range(48 * 60)]
    assert {name: [bar[0] for bar in bars] for name, bars in found.items()} == dict.fromkeys(found, opened)
    rows = pl.concat([generate(DEEP, "BTCUSDT", day)["klines"] for day in DEEP.dates[:2]])
    assert [float(bar[4]) for bar in found["klines"]] == rows["close"].to_list()


def test_settled_rates_of_days_ago_come_in_pages_and_the_newest_without_a_start(deep):
    async def ask_twice(ask) -> tuple[list[dict], list[dict]]:
        pages = await ask("fundingRate", symbol="BTCUSDT", startTime=START_MS, limit=2)
        pages += await ask("fundingRate", symbol="BTCUSDT", startTime=pages[-1]["fundingTime"] + 1, limit=100)
        return pages, await ask("fundingRate", symbol="BTCUSDT", limit=3)

    (pages, newest), _ = asked(deep, ask_twice)
    assert [rate["fundingTime"] for rate in pages] == [START_MS + 8 * HOUR_MS * number for number in range(1, 9)]
    assert newest == pages[-3:]


def chunk(source: Quirky) -> Chunk:
    first_ns = START_MS * NS_PER_MS
    return Chunk(
        source, decimals(source.instruments(), source.symbols), first_ns, first_ns + 40 * MINUTE_MS * NS_PER_MS
    )


def ends(part: Chunk, name: str) -> dict[int, tuple[float, int]]:
    """Seconds after its end at which each bar's last message comes, and its trades, by open time."""
    places, texts = part.messages(stream_of(name, part._source.symbols))
    told = [(json.loads(text)["k"], int(time_ns)) for text, time_ns in zip(texts, part.times_ns[places], strict=True)]
    return {bar["t"]: (time_ns / 1e9 - bar["T"] / 1e3, bar["n"]) for bar, time_ns in told if bar["x"]}


def test_bars_end_as_late_as_asked_for():
    part = chunk(Quirky(market(QUIET), Faults(late_bars_s=(5.0, 8.0)), START_MS))
    late = ends(part, "asterusdt@kline_1m")
    assert len(late) == 30
    assert min(seconds for seconds, _ in late.values()) >= 5.0
    assert 7.0 < max(seconds for seconds, _ in late.values()) <= 8.01


def test_minutes_without_a_trade_say_nothing_when_asked_for():
    told = ends(chunk(Quirky(market(QUIET), Faults(), START_MS)), "asterusdt@kline_1m")
    heard = ends(chunk(Quirky(market(QUIET), Faults(silent_minutes=True), START_MS)), "asterusdt@kline_1m")
    assert 0 < len(heard) < len(told) == 30
    assert heard == {opened: bar for opened, bar in told.items() if bar[1] > 0}


CHANGES = (
    ContractChange(symbol="BTCUSDT", from_s=300.0, tick_size=0.01, funding_interval_hours=4.0),
    ContractChange(symbol="BTCUSDT", from_s=600.0, status="SETTLING"),
    ContractChange(symbol="ASTERUSDT", from_s=120.0, is_new=True),
)


def test_rules_change_contracts_end_and_new_ones_begin():
    source = Quirky(market(QUIET), Faults(contracts=CHANGES), START_MS)
    told = [
        [(row["symbol"], row["status"], row["tick_size"], row["funding_interval_hours"])
         for row in in_force(source.instruments(), START_MS + seconds * 1_000)]
        for seconds in (0, 299, 300, 600)
    ]  # fmt: skip
    aster = ("ASTERUSDT", "TRADING", 0.0001, 4.0)
    assert told == [
        [("BTCUSDT", "TRADING", 0.1, 8.0)],
        [aster, ("BTCUSDT", "TRADING", 0.1, 8.0)],
        [aster, ("BTCUSDT", "TRADING", 0.01, 4.0)],
        [aster, ("BTCUSDT", "SETTLING", 0.01, 4.0)],
    ]
    part = chunk(source)
    for name, first_s, end_s in (("btcusdt@markPrice@1s", 0, 600), ("asterusdt@markPrice@1s", 120, 1_800)):
        _, texts = part.messages(stream_of(name, source.symbols))
        assert [json.loads(text)["E"] for text in texts] == [START_MS + 1_000 * s for s in range(first_s, end_s)]


def test_a_contract_that_does_not_exist_yet_is_unknown():
    async def wait(exchange: Loopback) -> None:
        async with aiohttp.ClientSession() as http:

            async def told() -> tuple[int, list[str]]:
                async with http.get(f"{exchange.rest_url}/fapi/v3/premiumIndex?symbol=ASTERUSDT") as answer:
                    code = (await answer.json()).get("code", 0)
                async with http.get(f"{exchange.rest_url}/fapi/v3/exchangeInfo") as answer:
                    return code, [each["symbol"] for each in (await answer.json())["symbols"]]

            assert await told() == (-1121, ["BTCUSDT"])
            client: Client = await connect(exchange, stream_path(("asterusdt@markPrice@1s",)))
            await exchange.skip(121.0)
            await client.until(lambda client: client.heard != [])
            assert await told() == (0, ["ASTERUSDT", "BTCUSDT"])

    run(wait, QUIET, faults=Faults(contracts=CHANGES))


def test_a_change_of_an_unknown_contract_is_refused():
    change = ContractChange(symbol="NOPE", from_s=1.0)
    with pytest.raises(ValueError, match="contracts: expected one of BTCUSDT, ASTERUSDT, got 'NOPE'"):
        Loopback(market(QUIET), faults=Faults(contracts=(change,)))
