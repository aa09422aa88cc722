"""A disk that fills up under ``aster record``, as an operator sees it: status, metrics, exit status, and the ledger.

Lakes that are refused at the start (missing, read-only, a second recorder) are in test_cli_market.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder_metrics import HOST
from data.recorder_status import Status, read_status
from data.tests.test_recorder import MARKET, SYMBOLS, expected
from pipelines.identity import CHECKOUT

LONG = replace(MARKET, days=2 / 24)
PATIENCE_S = 120
SPEED = 60

# the command, with less memory for what the disk does not take
FORGETFUL = """
import sys
from data import recorder_inbox
from pipelines.cli import main

recorder_inbox.MEMORY_BYTES = 150_000
sys.argv = ["aster", *sys.argv[1:]]
main()
"""


async def process_of(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=CHECKOUT, stdout=pipe, stderr=pipe)


async def status_of(root: Path, is_so: Callable[[Status], bool], recorder: asyncio.subprocess.Process) -> Status:
    """The first status of which that is so; the recorder must stay up."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert recorder.returncode is None, (await recorder.communicate())[1].decode()
            with suppress(LookupError):
                if is_so(status := read_status(root)):
                    return status
            await asyncio.sleep(0.1)


async def told_to_operators(root: Path) -> tuple[int, dict[str, float]]:
    """Exit status of ``aster record status``, and the metrics."""
    lines = "".join(path.read_text() for path in (root / "logs").glob("*.jsonl")).splitlines()
    port = next(line["port"] for line in map(json.loads, lines) if line["what"] == "metrics")
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    samples = (await reader.read()).decode().splitlines()
    writer.close()
    metrics = dict(line.rsplit(" ", 1) for line in samples if line.startswith("aster_recorder_"))
    asking = await process_of("-m", "pipelines.cli", "record", "status", "--lake", str(root))
    await asking.communicate()
    return asking.returncode, {name.removeprefix("aster_recorder_"): float(value) for name, value in metrics.items()}


def leave(disk: Path, free_bytes: int) -> None:
    """Fill the disk but for so many bytes."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for piece in (bytes(1 << 20), bytes(4_096)):
            with suppress(OSError):
                while True:
                    file.write(piece)
    with filler.open("r+b") as file:
        file.truncate(max(filler.stat().st_size - free_bytes, 0))


def test_a_disk_that_fills_up_stops_sealing_then_the_log_and_both_go_on_when_there_is_room(mounted_disk):
    disk = mounted_disk("size=400m")
    root = disk / "lake"

    async def play() -> tuple[int, int]:
        async with Loopback(SyntheticSource(LONG), speed=SPEED) as exchange:
            recorder = await process_of(
                "-c", FORGETFUL, "record", "--venue", exchange.rest_url, "--symbols", ",".join(SYMBOLS),
                "--lake", str(root), "--flush-interval", "1m", "--metrics-port", "0",
            )  # fmt: skip
            try:
                await status_of(root, lambda told: told.total_landed > 0, recorder)
                assert (await told_to_operators(root))[0] == 0

                leave(disk, 7_500_000)  # less than is kept for the log
                waits = await status_of(
                    root, lambda told: any("sealing waits" in each for each in told.trouble), recorder
                )
                assert waits.state == "recording"
                more = await status_of(root, lambda told: told.total_messages > waits.total_messages, recorder)
                exit_status, metrics = await told_to_operators(root)
                assert (exit_status, metrics["up"], metrics["trouble"]) == (1, 1, 1)

                leave(disk, 0)
                full = await status_of(root, lambda told: told.state == "disk full" and told.dropped > 0, recorder)
                assert full.total_landed == more.total_landed  # nothing was sealed meanwhile
                assert any("raw log cannot be written: No space left" in each for each in full.trouble)
                exit_status, metrics = await told_to_operators(root)
                assert (exit_status, metrics["up"], metrics['state{state="disk full"}']) == (1, 0, 1)
                assert metrics["dropped_total"] > 0

                (disk / "filler").unlink()
                await status_of(root, lambda told: not told.trouble and told.total_landed > full.total_landed, recorder)
                assert (await told_to_operators(root))[0] == 0
                recorder.send_signal(signal.SIGTERM)
                await recorder.communicate()
                return recorder.returncode, full.dropped
            finally:
                with suppress(ProcessLookupError):
                    recorder.kill()  # where it did not end by itself
                await recorder.wait()

    exit_status, dropped = asyncio.run(play())
    assert (exit_status, dropped > 0) == (1, True)
    told = read_status(root)
    assert (told.state, told.trouble, told.unsealed_bytes) == ("stopped", (), 0)
    lake = Lake(root)
    ledger = lake.sql("select * from ledger")
    assert ledger["cause"].unique().to_list() == ["disk"]
    assert ledger["symbol"].unique().sort().to_list() == sorted(SYMBOLS)
    states = dict(ledger.group_by("table").agg(pl.col("state").unique().sort()).iter_rows())
    assert states["trades"] == ["repaired"]  # by REST; of these there is no other copy:
    assert states["book_ticker"] == states["depth"] == ["unrepairable"]
    quotes = lake.scan("book_ticker").filter(pl.col("source") == "ws")
    values = ["symbol", "update_id", "event_time", "bid_price", "ask_price"]
    for symbol in SYMBOLS:
        (hole,) = ledger.filter(table="book_ticker", symbol=symbol).iter_rows(named=True)
        own = quotes.filter(symbol=symbol)
        market = expected(LONG, "book_ticker").filter(
            pl.col("recv_time").is_between(own["recv_time"].min(), own["recv_time"].max()), symbol=symbol
        )
        missed = market.join(own, on=values, how="anti")
        assert missed.height > 0
        assert missed["recv_time"].is_between(hole["from_time"], hole["to_time"]).all()
    trades = lake.scan("trades")
    for symbol in SYMBOLS:
        ids = trades.filter(symbol=symbol)["agg_trade_id"]
        assert ids.len() == ids.n_unique() == ids.max() - ids.min() + 1
    assert lake.verify() == []
