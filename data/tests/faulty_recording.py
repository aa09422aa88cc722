"""A recording of a loopback exchange that does wrong, with what the exchange itself says of it."""

import asyncio
import json
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import polars as pl

from data.clock import FollowedClock
from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder import RecorderConfig, record
from data.recorder_status import Status
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec
from data.tests.test_recorder import START, SYMBOLS, expected
from data.venues.aster import venue_of

MARKET = MarketSpec(  # with many liquidations
    symbols=tuple(replace(symbol, clusters_per_day=200.0) for symbol in (BTC_LIKE, ALT_LIKE)), start=START, days=1 / 24,
    seed=31, depth_interval_s=1,
)  # fmt: skip
CONFIG = RecorderConfig(symbols=SYMBOLS, flush_interval_s=300.0, compaction=False, last_repairs_s=200.0)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What was recorded of an exchange, and what that says of itself."""

    lake: Lake
    status: Status
    truth: pl.DataFrame
    lost: pl.DataFrame  # messages that no connection was sent whole
    answers: dict[str, dict[str, list[str]]]  # by endpoint and symbol: each trade or bar that REST has, as its text


async def play(root: Path, minutes: int, config: RecorderConfig = CONFIG, **settings) -> Played:
    """Record so many minutes at full speed."""
    market = replace(MARKET, days=minutes / 1_440)
    async with Loopback(SyntheticSource(market), speed=None, **settings) as exchange:
        stop = asyncio.Event()
        recording = asyncio.create_task(
            record(config, await venue_of(exchange.rest_url), root, FollowedClock(), stop=stop)
        )
        ended = asyncio.create_task(exchange.finished())
        async with asyncio.timeout(240):
            await asyncio.wait([recording, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        stop.set()
        status = await recording
        lost = await exchange.lost(*config.stream_names())
        answers = await rest_answers(exchange.rest_url, expected(market, "trades").height)
        return Played(lake=Lake(root), status=status, truth=exchange.truth.frame(), lost=lost, answers=answers)


async def rest_answers(url: str, trades: int) -> dict[str, dict[str, list[str]]]:
    """Everything REST has of trades and bars, asked for by itself, each trade or bar as the text it came as."""
    answers: dict[str, dict[str, list[str]]] = {"aggTrades": {}, "klines": {}}
    async with aiohttp.ClientSession() as session:
        for symbol in SYMBOLS:
            texts: list[str] = []
            while True:
                from_id = json.loads(texts[-1])["a"] + 1 if texts else 1
                page = {"symbol": symbol, "fromId": from_id, "limit": 1_000}
                async with session.get(f"{url}/fapi/v3/aggTrades", params=page) as answer:
                    found = elements(await answer.text(), "{}")
                texts += found
                if len(found) < 1_000:
                    break
            answers["aggTrades"][symbol] = texts
            asked = {"symbol": symbol, "interval": "1m", "limit": 499}
            async with session.get(f"{url}/fapi/v3/klines", params=asked) as answer:
                answers["klines"][symbol] = elements(await answer.text(), "[]")
    assert sum(map(len, answers["aggTrades"].values())) == trades
    return answers


def elements(text: str, brackets: str) -> list[str]:
    """The innermost objects or arrays of a JSON text, byte for byte."""
    begin, end = map(re.escape, brackets)
    return re.findall(f"{begin}[^{begin}{end}]*{end}", text)


def market_of(minutes: int, table: str) -> pl.DataFrame:
    """The market's own rows."""
    return expected(replace(MARKET, days=minutes / 1_440), table)


def within(rows: pl.DataFrame, from_s: float, to_s: float) -> pl.DataFrame:
    """Rows that arrived in these seconds after the start."""
    first, last = (START + timedelta(seconds=seconds) for seconds in (from_s, to_s))
    return rows.filter(pl.col("recv_time").is_between(first, last, "left"))


def at_second(time_ns: pl.Expr) -> pl.Expr:
    """Seconds since the start."""
    return (time_ns - round(START.timestamp()) * 10**9) / 1e9
