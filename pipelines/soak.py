"""``aster bench soak``: a recorder beside a loopback exchange that does everything wrong, for as long as one likes.

The exchange plays a synthetic market many times faster than real, so that half an hour holds half a day with its ends
of connections, outages, dead streams, refused requests and broken frames. At the end every message that no connection
was sent must be in the lake by repair, or in the gap ledger. Quotes and liquidations carry no sequence: where both
sockets lost a single one in passing, nobody can know of it, so these are counted beside.
"""

import asyncio
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from data.benchmarks.figures import figure
from data.config import load
from data.gaps import kline_gaps, trade_gaps
from data.lake import Lake
from data.loopback.faults import Faults
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder_config import RecorderConfig
from data.synthetic import ALT_LIKE, MarketSpec
from pipelines.soak_memory import SAMPLE_S, flat, samples

FRAMES_PER_SECOND = 2_000  # of both sockets together
SYMBOLS = tuple(f"{name}USDT" for name in ("BNB", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "SUI", "LTC", "ASTER"))
SPEED = 30.0  # market seconds per second: ten such symbols then make as many frames
LIFE_S = 7_200.0  # after which the exchange closes a connection, instead of a day
_PROCESSES = {b"data.sealer": "sealer", b"data.compaction": "compaction"}  # by a word of the command
_WITHOUT_SEQUENCE = ("bookTicker", "forceOrder")
_SLACK_MS = 2_000  # the ledger speaks of the exchange's time, a loss of the time of delivery
_START = datetime(2026, 1, 5, tzinfo=UTC)

FAULTS = Path(__file__).parent / "faults.toml"

_TABLES = {
    "bookTicker": "book_ticker",
    "markPriceUpdate": "mark_price",
    "aggTrade": "trades",
    "depthUpdate": "depth",
    "kline": "kline_updates",
    "forceOrder": "force_orders",
}


def run_soak(folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """Record for so many minutes into ``<folder>/lake``; figures as of every benchmark.

    Raises
    ------
    FileExistsError
        When the folder holds a lake already.
    """
    if (folder / "lake").exists():
        raise FileExistsError(f"{folder / 'lake'}: the soak wants a lake of its own; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_soak(folder, minutes, tell))


async def _soak(folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    days = minutes * SPEED / 1_440 + 0.1
    specs = tuple(replace(ALT_LIKE, symbol=symbol) for symbol in SYMBOLS)
    source = SyntheticSource(MarketSpec(symbols=specs, start=_START, days=days, seed=4))
    config = folder / "recorder.toml"
    config.write_text(f"symbols = {json.dumps(SYMBOLS)}\nlife_s = {LIFE_S - 600}\nmetrics_port = 0\n")
    async with Loopback(source, speed=SPEED, faults=load(Faults, FAULTS), life_s=LIFE_S) as exchange:
        with (folder / "status.json").open("wb") as said:
            recorder = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pipelines.cli", "record", "--venue", exchange.rest_url, "--json",
                "--lake", str(folder / "lake"), "--config", str(config), stdout=said,
            )  # fmt: skip
        memory = await _watch(recorder, minutes, tell)
        end_ns = exchange.now_ns
        recorder.send_signal(signal.SIGTERM)
        exit_status = await recorder.wait()
        lost = await exchange.lost(*load(RecorderConfig, config).stream_names())
    lost = lost.filter(pl.col("time_ns") <= end_ns)
    lake = Lake(folder / "lake")
    left = unexplained(lake, lost)
    left.write_parquet(folder / "unexplained.parquet")
    memory.write_parquet(folder / "memory.parquet")
    unseen = left.filter(pl.col("stream").str.contains_any([f"@{name}" for name in _WITHOUT_SEQUENCE])).height
    status = json.loads((folder / "status.json").read_text())
    rate = sum(status["messages"].values()) / (minutes * 60)
    return [
        figure("frames received", rate, "frames/s", at_least=FRAMES_PER_SECOND),
        figure("exit status of the recorder", exit_status, "", at_most=0),
        *_memory_figures(memory),
        figure("messages that no connection was sent", lost.height, "messages"),
        figure("of them neither in the lake nor in the ledger", left.height - unseen, "messages", at_most=0),
        figure("single quotes and liquidations among them, which nobody can miss", unseen, "messages"),
        *_lake_figures(lake),
    ]


async def _watch(
    recorder: asyncio.subprocess.Process, minutes: float, tell: Callable[[str, int, int], None]
) -> pl.DataFrame:
    """Every five seconds: seconds passed, process, memory_mib; until the time is over or the recorder ends."""
    began, told = time.monotonic(), []
    while (passed_s := time.monotonic() - began) < minutes * 60 and recorder.returncode is None:
        tell("soak, seconds", round(passed_s), round(minutes * 60))
        told += [(passed_s, *sample) for sample in samples(recorder.pid, _PROCESSES, "recorder")]
        await asyncio.sleep(SAMPLE_S)
    return pl.DataFrame(told, ["seconds", "process", "memory_mib"], orient="row")


def _memory_figures(memory: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Of the processes that stay, whether they grow; of compaction, which comes and goes, the most."""
    for process in ("recorder", "sealer"):
        yield from flat(memory, process)
    merging = memory.filter(pl.col("process") == "compaction")["memory_mib"].max()
    if merging is not None:
        yield figure("memory of compaction, the most", merging, "MiB")


def _lake_figures(lake: Lake) -> list[dict[str, Any]]:
    trades = lake.scan("trades", columns=["venue", "symbol", "agg_trade_id", "event_time", "is_ambiguous"])
    bars = lake.scan("klines", columns=["venue", "symbol", "interval", "open_time"])
    missing = int(trade_gaps(trades)["missing"].sum() + kline_gaps(bars, "1m")["missing"].sum())
    told = lake.scan("gaps").sort("detected_time").unique("gap_id", keep="last")
    states = dict(told.group_by("state").len().iter_rows())
    still_open, conflicts, damaged = states.pop("open", 0), lake.scan("conflicts").height, len(lake.verify())
    return [
        *(figure(f"gaps {state}", count, "gaps") for state, count in sorted(states.items())),
        figure("gaps still open", still_open, "gaps", at_most=0),
        figure("trades and bars missing between stored ones", missing, "rows", at_most=0),
        figure("rows in conflict", conflicts, "rows", at_most=0),
        figure("files that fail verification", damaged, "files", at_most=0),
    ]


def unexplained(lake: Lake, lost: pl.DataFrame) -> pl.DataFrame:
    """Messages that no connection was sent, and of which the lake neither has the row nor knows that it is missing.

    Parameters
    ----------
    lost : as ``Loopback.lost`` gives it: stream, time_ns, payload.
    """
    trades = set(lake.scan("trades", columns=["symbol", "agg_trade_id"]).iter_rows())
    bars = set(
        lake.scan("klines", columns=["symbol", "open_time"])
        .with_columns(pl.col("open_time").dt.epoch("ms"))
        .iter_rows()
    )
    told = lake.scan("gaps").with_columns(pl.col("from_time", "to_time").dt.epoch("ms"))
    known: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for table, symbol, from_ms, to_ms in told.select("table", "symbol", "from_time", "to_time").iter_rows():
        known[table, symbol].append((from_ms, to_ms))
    left = []
    for stream, time_ns, payload in lost.select("stream", "time_ns", "payload").iter_rows():
        message = json.loads(payload)
        kind, symbol = message["e"], message.get("o", message)["s"]
        if kind == "aggTrade" and (symbol, message["a"]) in trades:
            continue
        if kind == "kline" and (not message["k"]["x"] or (symbol, message["k"]["t"]) in bars):
            continue
        moment_ms = time_ns // 10**6
        spans = known[_TABLES[kind], symbol]
        if not any(from_ms - _SLACK_MS <= moment_ms <= to_ms + _SLACK_MS for from_ms, to_ms in spans):
            left.append((stream, time_ns, payload))
    return pl.DataFrame(left, lost.schema, orient="row")
