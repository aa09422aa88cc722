"""The recorder through kills, outages and full disks: what was stored stays, what could not be stored is told."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from data import wal
from data.clock import FollowedClock
from data.lake import Lake
from data.landing import tables_of
from data.loopback.server import Loopback, Outage
from data.loopback.tape import SyntheticSource
from data.recorder import record
from data.recorder_inbox import Inbox
from data.recorder_status import Status, read_status, write_status
from data.schema import TABLES
from data.tests.test_recorder import CONFIG, MARKET, START, SYMBOLS, assert_same, expected, recorded
from data.venues.aster import venue_of
from data.watch import Watch

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
LONG_MARKET = replace(MARKET, days=1 / 24)
STREAMED = ("klines", "kline_updates", "book_ticker", "mark_price", "trades", "depth", "force_orders")

RECORD = """
import asyncio, signal, sys
from pathlib import Path
from data.clock import FollowedClock
from data.recorder import RecorderConfig, record
from data.venues.aster import venue_of
from data.watch import Watch

async def main(url, root, symbols, flush_interval_s):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = RecorderConfig(symbols=tuple(symbols.split(",")), flush_interval_s=float(flush_interval_s))
    await record(config, await venue_of(url), Path(root), FollowedClock(), stop=stop)

asyncio.run(main(*sys.argv[1:]))
"""


async def recorder_process(url: str, root: Path, flush_interval_s: float = 300) -> asyncio.subprocess.Process:
    arguments = ("-c", RECORD, url, str(root), ",".join(SYMBOLS), str(flush_interval_s))
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)


async def until(is_so: Callable[[], bool], process: asyncio.subprocess.Process | asyncio.Task) -> None:
    """Wait for something that the recorder does; it must not end before."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            ended = process.done() if isinstance(process, asyncio.Task) else process.returncode is not None
            assert not ended, "the recorder ended"
            await asyncio.sleep(0.02)


def stored(root: Path) -> dict[str, pl.DataFrame]:
    """Every row of the lake and of the log beside it, as a reader would find them at this moment."""
    unsealed = []
    for segment in wal.all_segments(root / "wal"):
        with suppress(FileNotFoundError):  # sealed and removed a moment ago: then its rows are in the lake
            unsealed.append(tables_of(wal.read(segment), venue="aster").tables)
    lake = Lake(root)
    return {
        name: pl.concat([lake.scan(name), *(tables[name] for tables in unsealed if name in tables)]).unique(
            TABLES[name].key, keep="first"
        )
        for name in STREAMED
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_a_recorder_killed_at_any_moment_has_lost_nothing_that_was_stored(seed, tmp_path):
    random = Random(seed)
    root = tmp_path / "lake"

    async def play() -> list[dict[str, pl.DataFrame]]:
        seen = []
        async with Loopback(SyntheticSource(LONG_MARKET), speed=None) as exchange:
            for _ in range(3):
                process = await recorder_process(exchange.rest_url, root)
                before = exchange.now_ns
                wanted_ns = before + random.randrange(60, 900) * 10**9
                await until(lambda wanted_ns=wanted_ns: exchange.now_ns >= wanted_ns, process)
                process.kill()
                await process.wait()
                seen.append(stored(root))
                assert read_status(root).state == "killed"
            process = await recorder_process(exchange.rest_url, root)
            ended = asyncio.create_task(exchange.finished())
            await until(ended.done, process)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        return seen

    seen = asyncio.run(play())
    lake = Lake(root)
    for before in seen:
        for table, rows in before.items():
            lost = rows.join(lake.scan(table), on=[*TABLES[table].key, "recv_time"], how="anti", nulls_equal=True)
            assert lost.is_empty(), table
    for table in STREAMED:
        rows = lake.sql(f"select * from {table}")
        assert rows.height == rows.unique(TABLES[table].key).height
    assert lake.scan("conflicts").is_empty()
    assert lake.verify() == []
    assert wal.all_segments(root / "wal") == []
    assert read_status(root).state == "stopped"


def test_the_log_of_a_killed_recorder_is_sealed_by_the_next_even_when_its_end_is_torn(tmp_path):
    root = tmp_path / "lake"
    frame = (
        b'{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":%d,"s":"BTCUSDT","p":"1","i":"1","P":"1",'
        b'"r":"0.0001","T":1767628800000}}'
    )
    with wal.Log(root / "wal") as log:
        for second in range(3):
            log.write(second, wal.Kind.FRAME, 0, frame % (1_767_614_400_000 - 1_000 * second))
    (root / "loopback").touch()  # as the recorder of this log left it
    (segment,) = wal.segments(root / "wal")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 5)
    status = asyncio.run(recorded(SyntheticSource(MARKET), root, replace(CONFIG, run_length_s=60.0)))
    assert (status.cut_bytes > 0, status.quarantined, status.unsealed_bytes) == (True, 1, 0)
    assert Lake(root).scan("mark_price", end=START)["recv_time"].cast(pl.Int64).to_list() == [1]


def test_a_sealer_that_is_killed_is_started_again_and_nothing_is_missing(tmp_path):
    root = tmp_path / "lake"

    async def play() -> Status:
        async with Loopback(SyntheticSource(MARKET), speed=600) as exchange:
            stop = asyncio.Event()
            config = replace(CONFIG, flush_interval_s=30.0)
            venue = await venue_of(exchange.rest_url)
            told = []  # twice a second: the next one has sealed again before every file of the status is written
            task = asyncio.create_task(record(config, venue, root, FollowedClock(), stop=stop, tell=told.append))
            await until(lambda: bool(Lake(root).symbols("trades")) if (root / "trades").exists() else False, task)
            os.kill(sealer_of(root), signal.SIGKILL)
            await until(lambda: "sealer ended with status -9" in " ".join(told[-1].trouble), task)
            ended = asyncio.create_task(exchange.finished())
            await until(ended.done, task)
            stop.set()
            return await task

    status = asyncio.run(play())
    assert (status.state, status.trouble, status.unsealed_bytes) == ("stopped", (), 0)
    for table in ("mark_price", "trades"):
        assert_same(Lake(root).scan(table).filter(pl.col("source") == "ws"), expected(MARKET, table))


def sealer_of(root: Path) -> int:
    """The process that seals this lake."""
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"data.sealer\0" in (told := commands.read_bytes()) and str(root).encode() in told:
                return int(commands.parent.name)
    raise AssertionError("no sealer")


def test_a_fault_of_the_program_ends_it_with_its_place_in_the_log_and_is_called_one(tmp_path, monkeypatch):
    root = tmp_path / "lake"
    monkeypatch.setattr(Watch, "take", lambda self, connection, frames: [][connection])
    with pytest.raises(IndexError):
        asyncio.run(recorded(SyntheticSource(MARKET), root, CONFIG))
    assert read_status(root).state == "failed"
    assert "a fault of this program: IndexError" in read_status(root).trouble[0]
    lines = [json.loads(line) for log in (root / "logs").glob("*.jsonl") for line in log.read_text().splitlines()]
    (told,) = [line for line in lines if line["level"] == "error"]
    assert "recorder_inbox.py" in told["where"]


def test_what_rest_refuses_at_first_is_asked_again_and_the_streams_go_on_meanwhile(tmp_path):
    root = tmp_path / "lake"

    async def play() -> tuple[Status, Status]:
        async with Loopback(SyntheticSource(MARKET), speed=60, start=START + timedelta(minutes=11)) as exchange:
            exchange.refuse_rest("klines", seconds=86_400)
            stop = asyncio.Event()
            venue = await venue_of(exchange.rest_url)
            task = asyncio.create_task(record(CONFIG, venue, root, FollowedClock(), stop=stop))
            await until(lambda: (root / "recorder.json").exists() and bool(read_status(root).trouble), task)
            meanwhile = read_status(root)
            exchange.refuse_rest("klines", seconds=0)
            await until(lambda: not read_status(root).trouble, task)
            stop.set()
            return meanwhile, await task

    meanwhile, status = asyncio.run(play())
    assert "REST: /fapi/v3/klines: HTTP 503" in meanwhile.trouble[0]
    assert (status.state, status.trouble) == ("stopped", ())
    before = Lake(root).scan("klines", end=START + timedelta(minutes=5))
    assert before["open_time"].n_unique() == 5


def test_outages_cost_only_what_was_sent_meanwhile_and_are_counted(tmp_path):
    outages = [
        Outage(at=START + timedelta(minutes=at), seconds=seconds) for at, seconds in ((4, 30), (11, 90), (20, 5))
    ]
    source = SyntheticSource(MARKET)
    status = asyncio.run(recorded(source, tmp_path / "lake", CONFIG, outages=outages))
    assert status.reconnects == 3 * 2  # both sockets
    lake = Lake(tmp_path / "lake")
    missed = pl.any_horizontal(
        pl.col("recv_time").is_between(outage.at, outage.at + timedelta(seconds=outage.seconds)) for outage in outages
    )
    for table in ("book_ticker", "mark_price", "depth", "trades"):
        wanted = expected(MARKET, table)
        assert wanted.filter(missed).height > 0
        assert_same(lake.scan(table).filter(pl.col("source") == "ws"), wanted.filter(~missed))
    values = ["symbol", "agg_trade_id", "event_time", "price", "quantity", "is_buyer_maker"]
    trades = expected(MARKET, "trades")
    assert lake.scan("trades").select(values).equals(trades.select(values))  # REST had those that were missed
    repaired = lake.scan("gaps").filter(pl.col("state") == "repaired", table="trades")
    assert repaired["missing"].sum() == repaired["rows_recovered"].sum() == trades.filter(missed).height
    assert repaired["cause"].unique().to_list() == ["reconnect"]


@pytest.fixture
def small_disk(mounted_disk) -> Path:
    """A disk of 24 MB."""
    return mounted_disk("size=24m")


def fill(disk: Path) -> Path:
    """Leave no room; returns what to remove to make room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    return filler


async def full_for_a_while(disk: Path, **settings) -> tuple[list[Status], Status]:
    """Record on a disk that is full from the first minutes on, for some minutes; statuses meanwhile, and the last."""
    root = disk / "lake"
    async with Loopback(SyntheticSource(MARKET), speed=None) as exchange:
        stop = asyncio.Event()
        venue = await venue_of(exchange.rest_url)
        task = asyncio.create_task(record(CONFIG, venue, root, FollowedClock(), stop=stop))
        await until(lambda: exchange.now_ns > int((START + timedelta(minutes=3)).timestamp()) * 10**9, task)
        filler = fill(disk)
        await until(lambda: read_status(root).state == "disk full", task)
        meanwhile = [read_status(root)]
        await until(lambda: settings["is_enough"](exchange), task)
        meanwhile.append(read_status(root))
        filler.unlink()
        await until(lambda: read_status(root).state == "recording", task)
        ended = asyncio.create_task(exchange.finished())
        await until(ended.done, task)
        stop.set()
        return meanwhile, await task


def test_a_full_disk_is_waited_for_and_nothing_is_lost_while_memory_lasts(small_disk):
    def is_enough(exchange: Loopback) -> bool:
        return exchange.now_ns > int((START + timedelta(minutes=20)).timestamp()) * 10**9

    meanwhile, status = asyncio.run(full_for_a_while(small_disk, is_enough=is_enough))
    assert all(told.state == "disk full" for told in meanwhile)
    assert "raw log cannot be written: No space left" in meanwhile[0].trouble[0]
    assert (status.state, status.dropped, status.trouble, status.unsealed_bytes) == ("stopped", 0, (), 0)
    lake = Lake(small_disk / "lake")
    for table in ("book_ticker", "mark_price", "depth", "trades"):
        assert_same(lake.scan(table).filter(pl.col("source") == "ws"), expected(MARKET, table))


def test_frames_beyond_memory_are_dropped_and_the_log_says_which(small_disk, monkeypatch):
    monkeypatch.setattr("data.recorder_inbox.MEMORY_BYTES", 2_500_000)
    trade = b'{"stream":"btcusdt@aggTrade","data":' + bytes(600_000) + b"}"
    quote = b'{"stream":"btcusdt@bookTicker","data":' + bytes(600_000) + b"}"
    with wal.Log(small_disk / "wal") as log:
        inbox = Inbox(log)
        inbox.burst(0, [(1, trade)])
        filler = fill(small_disk)
        for recv_ns in range(2, 12):
            inbox.burst(0, [(recv_ns, trade if recv_ns % 2 else quote)])
        assert "No space left" in inbox.disk_trouble
        kept = 10 - inbox.dropped
        assert 0 < kept < 10
        filler.unlink()
        inbox.burst()
        assert inbox.disk_trouble is None
        inbox.burst(0, [(12, trade)])
        assert inbox.messages() == {"aggTrade": 2 + kept // 2, "bookTicker": -(-kept // 2)}
    (segment,) = wal.segments(small_disk / "wal")
    *records, note, last = wal.read(segment)
    assert [record.recv_ns for record in (*records, last)] == [*range(1, kept + 2), 12]
    told = json.loads(note.payload)
    assert told["note"] == "dropped"
    assert sum(told["streams"].values()) == inbox.dropped
    assert (told["from_ns"], told["to_ns"], told["cause"]) == (kept + 1, 11, "disk")


def test_a_status_is_told_even_when_the_disk_takes_no_new_file(small_disk):
    status = Status(
        pid=os.getpid(), state="recording", venue="aster", lake="", symbols=SYMBOLS, started="", now="", seconds=0.0,
        connected=1, connections=1, reconnects=0, messages_per_second=0.0, last_message=None, lag_ms=None,
        unsealed_bytes=0, already_present=0, conflicts=0, quarantined=0, cut_bytes=0, dropped=0, trouble=(),
    )  # fmt: skip
    write_status(small_disk, status)
    assert read_status(small_disk) == status
    filler = fill(small_disk)
    write_status(small_disk, replace(status, dropped=7))
    assert read_status(small_disk).dropped == 7
    filler.unlink()
    assert sorted(path.name for path in small_disk.iterdir()) == ["recorder.json"]
