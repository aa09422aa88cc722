"""Everything that is recorded beside the streams, recorders that share a lake, and a disk with little room."""

import asyncio
import json
import logging
import math
import os
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from data.clock import FollowedClock, RealClock, ScaledClock
from data.lake import Lake
from data.loopback.faults import Faults, StreamFault
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder import record
from data.recorder_config import LeadingConfig, RecorderConfig
from data.recorder_logs import Readable
from data.recorder_status import Status, read_status, read_statuses
from data.recorder_upkeep import Compaction, Disk
from data.schema import RAW, conform
from data.tests.test_recorder import CONFIG, MARKET, START, assert_same, expected, recorded
from data.tests.test_recorder_faults import until
from data.venues.aster import venue_of

SHORT = replace(MARKET, days=12 / 1_440)
EVERYTHING = replace(
    CONFIG, leading=LeadingConfig(symbols=("BTCUSDT",)), open_interest_s=300.0, other_venues=True, life_s=480.0,
    metrics_port=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> tuple[Lake, Status]:
    """Twelve minutes with all there is, and connections that are replaced after eight."""
    root = tmp_path_factory.mktemp("everything") / "lake"
    status = asyncio.run(recorded(SyntheticSource(SHORT), root, EVERYTHING))
    return Lake(root), status


def test_the_leading_venue_is_stored_beside_the_exchange_under_its_own_name(everything):
    lake, _ = everything
    for table in ("trades", "book_ticker"):
        wanted = expected(SHORT, table).filter(symbol="BTCUSDT")
        found = lake.scan(table, venue="binance").filter(pl.col("source") == "ws")
        assert found["venue"].unique().to_list() == ["binance"]
        assert_same(found.drop("venue"), wanted.drop("venue"))
    assert lake.scan("mark_price", venue="binance").is_empty()


def test_connections_are_replaced_before_the_exchange_ends_them_and_nothing_is_lost(everything):
    lake, status = everything
    assert status.rotations >= 4  # each socket of both venues once at least
    assert (status.reconnects, status.gaps_open, lake.scan("gaps").height) == (0, 0, 0)
    for table in ("book_ticker", "mark_price", "depth", "trades", "force_orders"):
        assert_same(lake.scan(table).filter(pl.col("source") == "ws"), expected(SHORT, table))


def test_both_arrivals_of_a_message_are_kept(everything):
    lake, status = everything
    quotes = lake.scan("book_ticker")
    assert quotes["recv2_time"].null_count() < 0.01 * quotes.height
    assert (quotes["recv2_time"] >= quotes["recv_time"]).all()
    assert sorted(quotes["socket"].unique().to_list()) == [0, 1]
    assert [(each.venue, each.socket) for each in status.sockets] == [
        ("aster", 0), ("aster", 1), ("binance", 0), ("binance", 1),
    ]  # fmt: skip


def test_open_interest_and_ratios_come_from_every_venue_that_has_them(everything):
    lake, _ = everything
    for venue in ("aster", "binance", "hyperliquid"):
        times = lake.scan("open_interest", symbols=["BTCUSDT"], venue=venue)["event_time"].to_list()
        assert len(times) == 3
        assert all(later - earlier <= timedelta(minutes=5) for earlier, later in pairwise(times))
    assert lake.scan("ratios", venue="binance").height > 0
    assert sorted(lake.symbols("index_references")) == ["ASTERUSDT", "BTCUSDT"]


def test_the_clocks_are_compared_and_what_happened_is_told_line_by_line(everything):
    lake, _ = everything
    clock = lake.scan("clock")
    assert clock["offset_ms"].abs().max() <= 1.0
    lines = [json.loads(line) for line in (lake.root / "logs" / "recorder-2026-01-05.jsonl").read_text().splitlines()]
    told = [line["what"] for line in lines]
    assert told.count("opened") == told.count("closed") >= 8
    assert {"started", "metrics", "clock", "stopped"} <= set(told)
    record_ = logging.makeLogRecord({"msg": "opened", "told": {"connection": 1}})
    assert Readable().format(record_).endswith("opened connection=1")


def test_recorders_of_different_symbols_share_a_lake_and_a_third_of_the_same_is_refused(tmp_path):
    root = tmp_path / "lake"

    async def play() -> None:
        async with Loopback(SyntheticSource(SHORT), speed=None) as exchange:
            venue, stop = await venue_of(exchange.rest_url), asyncio.Event()

            def recording(symbol: str) -> asyncio.Task:
                config = replace(CONFIG, symbols=(symbol,), all_liquidations=False)
                return asyncio.create_task(record(config, venue, root, FollowedClock(), stop=stop))

            first, second = recording("BTCUSDT"), recording("ASTERUSDT")
            await until(lambda: (root / "recorder-1.json").exists(), first)
            with pytest.raises(ValueError, match=f"process {os.getpid()} .*records btcusdt@"):
                await recording("BTCUSDT")
            ended = asyncio.create_task(exchange.finished())
            await until(ended.done, first)
            stop.set()
            await asyncio.gather(first, second)

    asyncio.run(play())
    assert [(status.number, status.state) for status in read_statuses(root)] == [(0, "stopped"), (1, "stopped")]
    lake = Lake(root)
    for table in ("book_ticker", "trades"):
        found = lake.scan(table).filter(pl.col("source") == "ws")
        assert found["symbol"].unique().sort().to_list() == ["ASTERUSDT", "BTCUSDT"]
        whole = expected(SHORT, table).filter(pl.col("recv_time") > START + timedelta(minutes=2))
        late = found.filter(pl.col("recv_time") > START + timedelta(minutes=2))
        assert late.height == whole.height
    assert lake.verify() == []


def test_with_little_room_sealing_waits_and_the_log_goes_on_until_there_is_more(tmp_path, monkeypatch):
    root, is_short = tmp_path / "lake", True
    monkeypatch.setattr(Disk, "room_bytes", property(lambda disk: 0 if is_short else 10**9))

    async def play() -> tuple[Status, Status]:
        nonlocal is_short
        async with Loopback(SyntheticSource(MARKET), speed=60) as exchange:
            stop = asyncio.Event()
            venue = await venue_of(exchange.rest_url)
            config = replace(CONFIG, flush_interval_s=60.0)
            task = asyncio.create_task(record(config, venue, root, FollowedClock(), stop=stop))
            await until(lambda: (root / "recorder.json").exists() and bool(read_status(root).trouble), task)
            first = read_status(root)
            await until(lambda: read_status(root).total_messages > first.total_messages, task)
            second = read_status(root)
            is_short = False
            await until(lambda: not read_status(root).trouble and read_status(root).total_landed > 0, task)
            stop.set()
            return second, await task

    meanwhile, status = asyncio.run(play())
    assert (meanwhile.state, meanwhile.total_landed) == ("recording", 0)
    assert "MB free: sealing waits, the log goes on" in meanwhile.trouble[0]
    assert (status.state, status.trouble, status.dropped, status.unsealed_bytes) == ("stopped", (), 0, 0)


def test_merging_that_fails_is_told_and_one_under_way_is_ended_with_the_recorder(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    program = tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\necho $$ $* >> {calls}\nif [ $7 ]; then sleep 60; fi\necho no manifest >&2; exit 3\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    compaction = Compaction(tmp_path, Disk(tmp_path), 7.0, FollowedClock(round(START.timestamp()) * 10**9))

    async def play() -> None:
        await compaction.once(is_daily=False)
        assert compaction.trouble == "merging ended with status 3: no manifest"
        under_way = asyncio.create_task(compaction.once(is_daily=True))
        while calls.read_text().count("\n") < 2:
            await asyncio.sleep(0.01)
        under_way.cancel()
        await asyncio.wait([under_way])

    asyncio.run(play())
    first, second = (line.split(maxsplit=1) for line in calls.read_text().splitlines())
    now = START.isoformat()
    assert first[1] == f"-m data.compaction {tmp_path} --hourly --now {now}"
    assert second[1] == f"-m data.compaction {tmp_path} --daily --now {now} --raw-days 7"
    with pytest.raises(ProcessLookupError):
        os.kill(int(second[0]), 0)


def test_a_lake_of_a_scaled_day_is_merged_at_its_own_hours(tmp_path, monkeypatch):
    calls, program = tmp_path / "calls", tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho $6 >> {calls}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    calls.touch()

    async def play() -> None:
        clock = ScaledClock(START, 36_000.0)
        merging = asyncio.create_task(Compaction(tmp_path, Disk(tmp_path), 7.0, clock).run())
        while calls.read_text().count("\n") < 3:
            await asyncio.sleep(0.01)
        merging.cancel()
        await asyncio.wait([merging])

    asyncio.run(play())
    told = [START, *map(datetime.fromisoformat, calls.read_text().split())]
    assert all(later - earlier >= timedelta(hours=1) for earlier, later in pairwise(told))


@pytest.mark.parametrize(("days", "kept"), [(1.5, 0), (1e6, 1), (math.inf, 1)])
def test_the_raw_log_stays_as_long_as_the_recorder_was_told(tmp_path, days, kept):
    lake = Lake(tmp_path / "lake", create=True)
    row = {"segment": "0/1.wal", "line": 1, "recv_time": START, "event_time": START, "payload": b"{}"}
    lake.append("raw", conform(pl.DataFrame([row]), RAW), origin="")
    compaction = Compaction(lake.root, Disk(lake.root), days, RealClock())
    asyncio.run(compaction.once(is_daily=True))
    assert (compaction.trouble, lake.scan("raw").height) == (None, kept)


def test_a_config_without_a_leading_venue_records_none():
    assert RecorderConfig(symbols=("BTCUSDT",)).leading is None
    with pytest.raises(ValueError, match="leading streams: unknown 'depth'; there are aggTrade, bookTicker"):
        LeadingConfig(symbols=("BTCUSDT",), streams=("depth",))


def test_a_leading_venue_that_refuses_for_good_costs_nothing_but_itself(tmp_path):
    refusal = StreamFault(kind="refuse", streams="*@bookTicker", status=451)
    config = replace(
        CONFIG, streams=("markPrice",), leading=LeadingConfig(symbols=("BTCUSDT",), streams=("bookTicker",)),
        run_length_s=120.0,
    )  # fmt: skip
    told = []

    async def play() -> Status:
        async with Loopback(SyntheticSource(SHORT), faults=Faults(streams=(refusal,))) as exchange:
            venue = await venue_of(exchange.rest_url)
            return await record(config, venue, tmp_path / "lake", FollowedClock(), tell=told.append)

    status = asyncio.run(play())
    assert any("HTTP 451" in sentence for status in told for sentence in status.trouble)
    assert (status.state, status.gaps_open) == ("stopped", 0)
    assert Lake(tmp_path / "lake").scan("mark_price").height > 100
