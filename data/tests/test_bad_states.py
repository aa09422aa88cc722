"""A recorder through what an exchange and a machine may do to it: everything is told, and nothing else is affected.

Kills are in test_bad_states_kill, a disk that fills up under a recorder and refused lakes in pipelines/tests.
"""

import asyncio
import json
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from data import recorder_upkeep
from data.clock import FollowedClock, RealClock
from data.compaction import compact
from data.lake import Lake
from data.loopback.faults import ContractChange, Faults, RequestFault, StreamFault
from data.loopback.request_trouble import RequestTrouble
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder import RecorderConfig, record
from data.recorder_metrics import metrics_text
from data.recorder_status import Status, read_status
from data.recorder_upkeep import Compaction, Disk
from data.synthetic import ALT_LIKE
from data.tests.test_compaction import CLOSED, fill
from data.tests.test_recorder import CONFIG, MARKET, START, SYMBOLS, assert_same, expected, recorded
from data.tests.test_recorder_faults import until
from data.venues.aster import venue_of
from data.venues.weights import weight_of

VALUES = {
    "trades": ["symbol", "agg_trade_id", "event_time", "price", "quantity", "is_buyer_maker"],
    "book_ticker": ["symbol", "update_id", "event_time", "bid_price", "bid_quantity", "ask_price", "ask_quantity"],
    "mark_price": ["symbol", "event_time", "mark_price", "index_price", "funding_rate"],
}


# Our clock steps.


class SteppingClock(RealClock):
    """Reads a time at its start, and can be set."""

    def __init__(self, start: datetime) -> None:
        self._ahead_ns = round(start.timestamp()) * 10**9 - time.time_ns()

    def step(self, seconds: float) -> None:
        self._ahead_ns += round(seconds * 1e9)

    def now_ns(self) -> int:
        return time.time_ns() + self._ahead_ns


STEPS_S = (90.0, -120.0)  # further than what counts as a silent connection
PATIENT = replace(CONFIG, silence_s=60.0)


@pytest.fixture(scope="module")
def stepped(tmp_path_factory) -> tuple[Lake, Status]:
    """Some seconds at the pace of the market, with a clock that is set forward, then back."""
    root = tmp_path_factory.mktemp("stepped") / "lake"
    clock, stop = SteppingClock(START), asyncio.Event()

    def steps() -> int:
        return sum(path.read_text().count("our clock stepped") for path in (root / "logs").glob("*.jsonl"))

    async def play() -> Status:
        async with Loopback(SyntheticSource(MARKET), speed=1) as exchange:
            task = asyncio.create_task(record(PATIENT, await venue_of(exchange.rest_url), root, clock, stop=stop))

            async def two_more_marks() -> None:
                enough = exchange.frames_sent["btcusdt@markPrice@1s"] + 4  # on two sockets
                await until(lambda: exchange.frames_sent["btcusdt@markPrice@1s"] >= enough, task)

            for number, seconds in enumerate(STEPS_S, start=1):
                await two_more_marks()
                clock.step(seconds)
                await until(lambda number=number: steps() >= number, task)
            await two_more_marks()
            stop.set()
            return await task

    status = asyncio.run(play())
    return Lake(root), status


def test_a_clock_that_steps_is_told_in_the_clock_table(stepped):
    lake, status = stepped
    told = lake.scan("clock").filter(pl.col("step_ms").abs() > 500)
    assert sorted(told["step_ms"]) == pytest.approx(sorted(1_000 * seconds for seconds in STEPS_S), abs=100)
    assert told["offset_ms"].null_count() == 0
    assert status.reconnects == 0  # no socket was taken for a silent one


def test_rows_of_a_clock_that_steps_keep_both_times_and_none_is_lost_or_reordered(stepped):
    lake, status = stepped
    frames = lake.sql("select connection, payload from raw where kind = 0 order by segment, line")
    assert frames.height == status.total_messages
    for (connection,), own in frames.group_by("connection"):
        sent = [message["data"] for message in map(json.loads, own["payload"])]
        for symbol in SYMBOLS:
            ids = [each["a"] for each in sent if each["e"] == "aggTrade" and each["s"] == symbol]
            in_order = list(dict.fromkeys(ids))  # a connection and its successor bring some twice
            assert in_order == list(range(min(ids, default=0), max(ids, default=-1) + 1)), connection
    for table, values in VALUES.items():
        found = lake.scan(table).filter(pl.col("source") == "ws")
        came = expected(MARKET, table).join(found, on=values, how="semi")
        first, last = came["recv_time"].min(), came["recv_time"].max()
        assert came.height == found.height > 0
        assert came.height == expected(MARKET, table).filter(pl.col("recv_time").is_between(first, last)).height
    late_s = lake.scan("mark_price").select((pl.col("recv_time") - pl.col("event_time")).dt.total_seconds()).to_series()
    assert late_s.max() - late_s.min() >= 80  # recv_time is what our clock said
    assert lake.scan("gaps").is_empty()
    assert lake.scan("quarantine").is_empty()


# The exchange says what nobody knows, to both sockets.

STRANGE = Faults(
    streams=tuple(
        StreamFault(kind=kind, streams=streams, rate=rate, together=True, from_s=60.0 * minute, for_s=60.0)
        for minute, (kind, streams, rate) in enumerate(
            (
                ("malformed", "*@bookTicker", 0.3),
                ("unknown_event", "*@depth5*", 0.3),
                ("new_field", "*@markPrice@1s", 1.0),
                ("missing_field", "*@aggTrade", 1.0),
            ),
            start=1,
        )
    )
)


class Strange(NamedTuple):
    lake: Lake
    status: Status
    spoilt: dict[str, pl.DataFrame]  # by kind of fault: what was done to messages


@pytest.fixture(scope="module")
def strange(tmp_path_factory) -> Strange:
    root = tmp_path_factory.mktemp("strange") / "lake"
    market = replace(MARKET, days=6 / 1_440)

    async def play() -> Strange:
        async with Loopback(SyntheticSource(market), speed=None, faults=STRANGE) as exchange:
            status = await _recorded(exchange, root, CONFIG, exchange.finished())
            truth = exchange.truth.frame()
            return Strange(Lake(root), status, {what: rows for (what,), rows in truth.group_by("what")})

    return asyncio.run(play())


async def _recorded(exchange: Loopback, root: Path, config: RecorderConfig, end: Awaitable[None]) -> Status:
    stop = asyncio.Event()
    task = asyncio.create_task(record(config, await venue_of(exchange.rest_url), root, FollowedClock(), stop=stop))
    ended = asyncio.ensure_future(end)
    await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    ended.cancel()
    return await task


def test_messages_that_cannot_be_read_are_kept_told_and_counted(strange):
    lake, status, spoilt = strange
    raw = set(lake.sql("select payload from raw where kind = 0")["payload"])
    quarantine = lake.scan("quarantine")
    halves = {payload[: len(payload) // 2] for payload in spoilt["malformed"]["payload"]}
    assert len(halves) > 20
    assert halves <= raw
    told = quarantine.filter(pl.col("raw").is_in([half.decode() for half in halves]))
    assert told["raw"].n_unique() == len(halves)
    strangers = quarantine.filter(pl.col("reason").str.contains("unknown event"))
    assert {row.encode() for row in strangers["raw"]} <= raw
    assert strangers.height >= spoilt["unknown_event"]["payload"].n_unique() > 20
    reasons = quarantine["reason"]
    assert reasons.str.contains("markPrice.*surprise").any()
    assert reasons.str.contains("aggTrade: missing field E").any()
    assert status.quarantined == quarantine.height
    assert min(status.unknown, status.drifted) > 0
    text = metrics_text(status)
    for name, count in (
        ("rows_quarantined_total", status.quarantined),
        ("unknown_total", status.unknown),
        ("drifted_total", status.drifted),
    ):
        assert f"aster_recorder_{name} {count}\n" in text


def test_messages_that_cannot_be_read_affect_no_other(strange):
    lake, status, spoilt = strange
    market = replace(MARKET, days=6 / 1_440)
    for table in ("depth", "mark_price", "force_orders"):
        assert_same(lake.scan(table).filter(pl.col("source") == "ws"), expected(market, table))
    said = [json.loads(payload)["data"] for payload in spoilt["malformed"]["payload"]]
    lost = {(each["s"], each["u"]) for each in said}
    is_lost = pl.struct("symbol", "update_id").map_elements(
        lambda key: tuple(key.values()) in lost, return_dtype=pl.Boolean
    )
    assert_same(
        lake.scan("book_ticker").filter(pl.col("source") == "ws"), expected(market, "book_ticker").filter(~is_lost)
    )
    trades = lake.scan("trades")
    assert trades.select(VALUES["trades"]).equals(expected(market, "trades").select(VALUES["trades"]))
    minute = trades.filter(pl.col("recv_time").dt.minute() == 4)
    assert minute["sent_time"].null_count() == minute.height > 0
    assert (status.conflicts, status.dropped, status.trouble) == (0, 0, ())


# The exchange asks for patience while gaps are repaired.

WAITS_S = {429: 20.0, 418: 150.0, 403: 60.0}  # told; a page of the firewall tells none: half a minute at least


class Asked(NamedTuple):
    at_s: float  # since the start
    path: str
    status: int  # answered


def test_repair_waits_as_long_as_it_is_told_and_the_streams_go_on(tmp_path, monkeypatch):
    asked: list[Asked] = []
    befalls = RequestTrouble.befalls

    def overheard(trouble: RequestTrouble, method: str, name: str, now_ns: int) -> RequestFault | None:
        fault = befalls(trouble, method, name, now_ns)
        asked.append(Asked(now_ns / 1e9 - START.timestamp(), name, fault.status if fault else 200))
        return fault

    monkeypatch.setattr(RequestTrouble, "befalls", overheard)
    refusals = [
        RequestFault(kind="html" if status == 403 else "status", path="aggTrades", status=status, count=1,
                     from_s=60.0, retry_after_s=wait_s)
        for status, wait_s in WAITS_S.items()
    ]  # fmt: skip
    dropped = StreamFault(kind="drop", streams="*@aggTrade", rate=0.2, together=True, from_s=20.0, for_s=30.0)
    faults = Faults(streams=(dropped,), requests=tuple(refusals))
    root, stop = tmp_path / "lake", asyncio.Event()

    def is_repaired() -> bool:
        if not (root / "recorder.json").exists():
            return False
        told = read_status(root)
        return told.repair_answers > 0 and not told.gaps_open and {each.status for each in asked} >= WAITS_S.keys()

    async def play() -> tuple[Status, int]:
        market = replace(MARKET, days=1 / 24)
        async with Loopback(SyntheticSource(market), speed=100, faults=faults) as exchange:
            config = replace(CONFIG, flush_interval_s=60.0)
            task = asyncio.create_task(
                record(config, await venue_of(exchange.rest_url), root, FollowedClock(), stop=stop)
            )
            await until(is_repaired, task)
            ended_ns = exchange.now_ns
            stop.set()
            return await task, ended_ns

    status, ended_ns = asyncio.run(play())
    for number, request in enumerate(asked):
        if wait_s := WAITS_S.get(request.status):
            later = (each for each in asked[number + 1 :] if each.at_s > request.at_s)  # what was under way aside
            assert next(later).at_s - request.at_s >= wait_s  # no request of any kind
    assert [each.status for each in asked if each.status != 200] == list(WAITS_S)
    pages = [
        (each.at_s, weight_of("/fapi/v3/aggTrades", {"limit": 1_000})) for each in asked if each.path == "aggTrades"
    ]
    for at_s, _ in pages:
        assert sum(weight for when_s, weight in pages if at_s <= when_s < at_s + 60) <= CONFIG.rest_weight_per_minute
    lake, market = Lake(root), replace(MARKET, days=1 / 24)
    came = pl.col("recv_time").cast(pl.Int64) < ended_ns - 5 * 10**9
    for table in ("book_ticker", "depth", "mark_price", "force_orders", "klines"):
        found = lake.scan(table).filter(pl.col("source") == "ws")
        assert_same(found.filter(came), expected(market, table).filter(came))
    trades = expected(market, "trades").filter(came).select(VALUES["trades"])
    assert trades.join(lake.scan("trades"), on=VALUES["trades"], how="anti").is_empty()
    assert (status.reconnects, status.trouble, status.gaps_open) == (0, (), 0)
    assert lake.sql("select state from ledger")["state"].unique().to_list() == ["repaired"]


# Contracts come and go.


def test_contracts_that_come_and_go_keep_every_status_and_their_streams_end_with_a_note(tmp_path):
    new = replace(ALT_LIKE, symbol="NEWUSDT")
    market = replace(
        MARKET, symbols=(*MARKET.symbols, new), days=2.1 / 24, trades_per_second=0.01, quote_interval_s=60,
        depth_interval_s=60,
    )  # fmt: skip
    changes = (
        ContractChange(symbol="NEWUSDT", from_s=0.0, status="PENDING_TRADING"),
        ContractChange(symbol="NEWUSDT", from_s=1_800.0, status="TRADING"),
        ContractChange(symbol="BTCUSDT", from_s=5_000.0, status="SETTLING"),
    )
    config = replace(CONFIG, symbols=(*SYMBOLS, "NEWUSDT"), flush_interval_s=1_200.0)
    status = asyncio.run(recorded(SyntheticSource(market), tmp_path / "lake", config, faults=Faults(contracts=changes)))
    lake = Lake(tmp_path / "lake")
    history = {symbol: lake.scan("instruments", symbols=[symbol])["status"].to_list() for symbol in config.symbols}
    assert history == {
        "BTCUSDT": ["TRADING", "SETTLING"], "ASTERUSDT": ["TRADING"], "NEWUSDT": ["PENDING_TRADING", "TRADING"],
    }  # fmt: skip

    def at(hours: float) -> datetime:
        return START + timedelta(hours=hours)

    assert [lake.universe(at(hours)) for hours in (0.4, 1.1, 2.05)] == [
        ["ASTERUSDT", "BTCUSDT"], ["ASTERUSDT", "BTCUSDT", "NEWUSDT"], ["ASTERUSDT", "NEWUSDT"],
    ]  # fmt: skip
    assert lake.instrument("BTCUSDT", at(1.1))["status"] == "TRADING"
    notes = map(json.loads, lake.sql("select payload from raw where kind = 2 order by segment, line")["payload"])
    told = [(each["symbol"], each["status"]) for each in notes if each["note"] == "symbol_status"]
    assert told == [("NEWUSDT", "PENDING_TRADING"), ("NEWUSDT", "TRADING"), ("BTCUSDT", "SETTLING")]
    assert any("BTCUSDT" in notice and "SETTLING" in notice for notice in status.notices)
    for table in ("book_ticker", "mark_price"):
        last = lake.scan(table, symbols=["BTCUSDT"])["event_time"].max()
        assert START + timedelta(seconds=4_900) < last <= START + timedelta(seconds=5_000)
        found = lake.scan(table, symbols=["ASTERUSDT"]).filter(pl.col("source") == "ws")
        assert_same(found, expected(market, table).filter(symbol="ASTERUSDT"))
    assert lake.scan("gaps").is_empty()
    assert (status.state, status.trouble, status.reconnects) == ("stopped", (), 0)


# The disk has no room for a merge. Full disks under a recorder are in test_recorder_faults and pipelines/tests.


def test_a_merge_that_finds_no_room_leaves_the_lake_as_it_was(mounted_disk):
    disk = mounted_disk("size=1m")
    lake = Lake(disk / "lake", create=True)
    fill(lake, range(4))
    rows, paths = lake.scan("trades"), [entry.path for entry in lake.files()]
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1_024))
    with pytest.raises(OSError, match="free space"):
        compact(lake, level=2, now=CLOSED)
    assert [entry.path for entry in lake.files()] == paths
    assert lake.scan("trades").equals(rows)
    filler.unlink()
    assert [merged.rows for merged in compact(lake, level=2, now=CLOSED).merged] == [rows.height]
    assert lake.scan("trades").equals(rows)
    assert lake.verify() == []


def test_a_recorder_merges_nothing_while_only_the_log_has_room(tmp_path, monkeypatch):
    runs, room_bytes = [], 0
    monkeypatch.setattr(recorder_upkeep, "COMPACT_S", 0.001)
    monkeypatch.setattr(Disk, "room_bytes", property(lambda disk: room_bytes))

    async def once(compaction: Compaction, *, is_daily: bool) -> None:
        runs.append(is_daily)

    monkeypatch.setattr(Compaction, "once", once)

    async def play() -> None:
        nonlocal room_bytes
        merging = asyncio.create_task(Compaction(tmp_path, Disk(tmp_path), 30.0, RealClock()).run())
        await asyncio.sleep(0.05)
        assert runs == []
        room_bytes = 10**9
        while len(runs) < 3:
            await asyncio.sleep(0.001)
        merging.cancel()

    asyncio.run(play())
    assert runs[:3] == [True, False, False]  # days that are over first
