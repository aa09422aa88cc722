"""``aster bench live``: how long the runner takes from hearing to deciding to signed bytes, and what it weighs.

The market is a synthetic one, recorded once from the loopback exchange and played into fresh processes at 250 frames a
second, with shadows and without, in turn. Baselines are what the prior bots publish or were measured at.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from data.benchmarks.figures import figure
from data.clock import FollowedClock
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.venues.aster import venue_of
from data.venues.signing import AgentKey, Nonces, signed_v3
from data.wal import Log
from live.benchmarks.bench_orders import bench_orders
from live.benchmarks.configs import START, champion, market
from live.journal import Journal, Record
from live.plain import SWITCH
from live.session import Session

SHADOWS = 50
ROUNDS = 2
HOURS = 3.0
FIRST_BARS = 5  # the first decisions of a process load compiled code
ORDERS = 1_000
TARGET_DECISION_MS, TARGET_SHADOWS_MS, TARGET_BYTES_MS, TARGET_MEMORY_MB = 50.0, 5.0, 1.0, 200.0
_HARNESS = "the design's own harness, sync included"
_LIBRARIES = """
import aiohttp, numpy, picows, polars, re
polars.DataFrame({"price": [1.0]}).filter(polars.col("price") > 0.0)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
_POLLED = "prior-art 003: polls once a second, half of it on average; one bar in ten is never seen"

Progress = Callable[[str, int, int], None]


def bench_live(tell: Progress) -> list[dict]:
    """Figures: what, value, unit, baseline, baseline_value, ratio, target, holds."""
    with TemporaryDirectory() as folder:
        feed = Path(folder) / "feed"
        tell("a market to hear", 0, 1)
        asyncio.run(record_market(feed))
        tell("a market to hear", 1, 1)
        alone, followed = [], []
        for number in range(ROUNDS):
            for shadows, kept in ((0, alone), (SHADOWS, followed)):
                kept.append(heard(feed, shadows))
                tell("decisions", 2 * number + (shadows > 0) + 1, 2 * ROUNDS)
        signed = _signed(Path(folder), is_synced=True), _signed(Path(folder), is_synced=False)
    orders = bench_orders(tell)
    decided, beside = (
        [1e3 * each for run in runs for each in run["seconds"][FIRST_BARS:]] for runs in (alone, followed)
    )
    added_ms = _percentile(beside, 99) - _percentile(decided, 99)
    return [
        figure(
            f"kline final to decision in the journal, {len(decided)} bars, a process's first {FIRST_BARS} aside",
            _percentile(decided, 50), "ms, median", baseline=_POLLED, baseline_value=500.0,
        ),
        figure("the same", _percentile(decided, 99), "ms, 99th percentile", at_most=TARGET_DECISION_MS),
        figure(f"what {SHADOWS} shadows add to it", added_ms, "ms, 99th percentile", at_most=TARGET_SHADOWS_MS),
        figure(
            "decision to signed, journaled bytes", _percentile(signed[0], 50), "ms, median",
            baseline=_HARNESS, baseline_value=0.34,
        ),
        figure(
            "the same", _percentile(signed[0], 99), "ms, 99th percentile", baseline=_HARNESS, baseline_value=0.42
        ),
        figure(
            "the same without the disk's own sync", _percentile(signed[1], 99), "ms, 99th percentile",
            at_most=TARGET_BYTES_MS,
        ),
        *orders,
        figure("memory of the libraries it listens with, of which none is ours", _floor_mb(), "MB"),
        figure(
            "memory of the runner", max(run["most_bytes"] for run in alone) / 1e6, "MB", at_most=TARGET_MEMORY_MB,
            baseline="prior-art 001: claims", baseline_value=200.0,
        ),
        figure(f"memory with {SHADOWS} shadows", max(run["most_bytes"] for run in followed) / 1e6, "MB"),
    ]  # fmt: skip


async def record_market(feed: Path, hours: float = HOURS) -> None:
    """Write the input log of a paper run on the loopback exchange."""
    async with Loopback(SyntheticSource(market(hours)), start=START) as loopback:
        venue = await venue_of(loopback.rest_url)
        with Log(feed) as log, Journal(feed.with_name("recorded.sqlite"), log.sync) as journal:
            length_s = hours * timedelta(hours=1).total_seconds()
            session = Session(
                [champion()], venue, FollowedClock(), log, journal, resolution="tick", run_length_s=length_s
            )  # fmt: skip
            await session.run(asyncio.Event())


def heard(feed: Path, shadows: int, *journal: Path) -> dict:
    """``hearing`` in a fresh process, as plain as the runner's, which may keep its journal."""
    command = [sys.executable, "-m", "live.benchmarks.hearing", str(feed), str(shadows), *map(str, journal)]
    done = subprocess.run(command, env=os.environ | {SWITCH: "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def _signed(folder: Path, *, is_synced: bool) -> list[float]:
    """Milliseconds from a decision to an order's bytes, its intent in the journal."""
    key, nonces, taken = AgentKey("ab" * 32), Nonces(), []
    with Journal(folder / f"orders-{is_synced}.sqlite", is_derived=not is_synced) as journal:
        for number in range(ORDERS):
            name = f"wbbch-{number:010d}-E0"
            body = {"leg": "E", "type": "LIMIT IOC", "side": 1, "quantity": 0.015, "decision_price": 91_234.5}
            begun = time.perf_counter()
            journal.append(
                Record(ts_ms=number, kind=kind, config_hash="0" * 64, symbol="BTCUSDT", trade_id=name[6:16],
                       client_order_id=name, body=body)
                for kind in ("decision", "intent")
            )  # fmt: skip
            order = [("symbol", "BTCUSDT"), ("side", "BUY"), ("type", "LIMIT"), ("timeInForce", "IOC"),
                     ("quantity", "0.015"), ("price", "91234.5"), ("newClientOrderId", name)]  # fmt: skip
            signed_v3(order, nonce_us=nonces.next(time.time_ns() // 1_000), key=key)
            taken.append(1e3 * (time.perf_counter() - begun))
    return taken


def _floor_mb() -> float:
    """Of a process that only imports what every runner needs, and asks a frame one question."""
    done = subprocess.run([sys.executable, "-c", _LIBRARIES], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1_024 / 1e6


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
