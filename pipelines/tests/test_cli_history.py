"""Backfill and repair from the command line, against a loopback exchange."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from data.lake import Lake, Listened
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder_status import write_status
from data.stored_runs import to_ms
from data.synthetic import BTC_LIKE, MarketSpec
from data.tests.test_unrecorded import STATUS
from pipelines.cli import cli, main

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A loopback exchange at rest in a thread of its own, two hours after its market began."""
    ready, told = threading.Event(), {}

    async def serve() -> None:
        source = SyntheticSource(MarketSpec(symbols=(BTC_LIKE,), start=START, days=0.1, seed=3))
        async with Loopback(source, start=START + timedelta(hours=2)) as exchange:
            told.update(url=exchange.rest_url, loop=asyncio.get_running_loop(), over=asyncio.Event())
            ready.set()
            await told["over"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield told["url"]
    told["loop"].call_soon_threadsafe(told["over"].set)
    thread.join()


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


def test_backfill_says_what_it_takes_fetches_it_and_has_nothing_left_to_do(tmp_path, url):
    lake = tmp_path / "lake"
    asked = ("--symbols", "BTCUSDT", "--start", "2026-01-05", "--end", "2026-01-05T01:00", "--tables", "klines,trades")
    asked = ("backfill", *asked, "--venue", url, "--weight", "2400", "--lake", str(lake))
    estimate = json.loads(run(*asked, "--estimate", "--json"))
    assert estimate["weight"] == 1 + 20 * (estimate["requests"] - 1) > 1  # a page of bars, and pages of trades
    assert "klines 1m" in run(*asked, "--estimate")
    assert Lake(lake).files() == []

    refused = CliRunner().invoke(cli, list(asked))
    assert (refused.exit_code, "add --yes" in refused.stderr) == (1, True)

    told = json.loads(run(*asked, "--yes", "--json"))
    assert told["landed"]["klines"] == 60
    trades = Lake(lake).scan("trades")
    assert told["landed"]["trades"] == len(trades)
    assert trades["agg_trade_id"].to_list() == list(range(1, len(trades) + 1))
    assert [row["table"] for row in told["not_at_the_exchange"]] == ["trades"]  # before the first one
    assert "nothing is lacking" in run(*asked, "--yes")


@pytest.fixture(scope="module")
def whole(url, tmp_path_factory) -> Lake:
    """The first hour of the market, as the exchange has it."""
    folder = tmp_path_factory.mktemp("whole") / "lake"
    asked = ("--symbols", "BTCUSDT", "--start", "2026-01-05", "--end", "2026-01-05T01:00", "--tables", "klines,trades")
    run("backfill", *asked, "--venue", url, "--weight", "2400", "--lake", str(folder), "--yes")
    return Lake(folder)


def test_repair_fills_what_an_import_left_out(tmp_path, url, whole):
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("trades", whole.scan("trades").filter(~pl.col("agg_trade_id").is_between(500, 519)), origin="import")
    lake.append("klines", whole.scan("klines").filter(pl.col("open_time").dt.minute() != 30), origin="import")

    there = ("--venue", url, "--lake", str(lake.root))
    report = json.loads(run("repair", *there, "--json"))
    assert (report["gaps"], report["states"]) == (2, {"repaired": 2})
    assert lake.scan("trades").equals(whole.scan("trades"))
    assert lake.scan("klines").equals(whole.scan("klines"))
    assert "no gap is open" in run("repair", *there)


def test_repair_fills_the_end_of_a_time_after_a_recorder_has_stopped(tmp_path, url, whole):
    stopped = START + timedelta(minutes=50)
    streams = [Listened(venue="aster", stream=name, until_ns=to_ms(stopped) * 10**6, why="stopped")
               for name in ("btcusdt@aggTrade", "btcusdt@kline_1m")]  # fmt: skip
    lake = Lake(tmp_path / "lake", create=True)
    rows = {name: whole.scan(name, end=stopped) for name in ("trades", "klines")}
    lake.append_all(rows, origin="recorded", listened=streams)
    write_status(lake.root, STATUS)

    there = ("--venue", url, "--lake", str(lake.root))
    assert "no gap is open" in run("repair", *there)  # the day goes on, the recorder may come back
    report = json.loads(run("repair", "--end", "2026-01-05T01:00", *there, "--json"))
    assert (report["gaps"], report["states"]) == (2, {"repaired": 2})
    assert lake.scan("trades").equals(whole.scan("trades", end=START + timedelta(hours=1)))
    assert lake.scan("klines").equals(whole.scan("klines"))


def test_an_exchange_that_does_not_answer_is_named_and_the_status_is_1(tmp_path, monkeypatch, capsys):
    Lake(tmp_path / "lake", create=True)
    there = ["--venue", "http://127.0.0.1:1", "--lake", str(tmp_path / "lake")]
    monkeypatch.setattr(sys, "argv", ["aster", "backfill", "--symbols", "BTCUSDT", "--start", "2026-01-05", *there])
    monkeypatch.setattr("data.venues.aster._BACK_OFF_S", 0.01)
    with pytest.raises(SystemExit) as stop:
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 1
    assert "venue http://127.0.0.1:1" in said
    assert "goes on" in said
