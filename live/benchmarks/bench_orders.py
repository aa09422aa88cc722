"""How long a runner's orders take on the loopback exchange, and how soon a killed one has its position protected.

Runner and exchange are processes of their own; the market is told as fast as both can follow, so what is measured is
work, disk and sockets of this machine, and no waiting for a market.
"""

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from data.benchmarks.figures import figure
from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.synthetic import MarketSpec
from live.benchmarks.configs import START, champion, market
from live.benchmarks.trading import Measured
from live.plain import SWITCH

HOURS, MINUTES_AFTER_A_KILL = 4.0, 3.0
KILLS = 3
TARGET_STOP_MS, TARGET_NAKED_MS, TARGET_RECONCILED_S, TARGET_PROTECTED_S = 5.0, 20.0, 5.0, 10.0
_HARNESS = "the design's own harness: signed, journaled, aiohttp, one order"
_CONFIRMED = "prior-art 003: asks four times a second whether an entry has filled"
_CLAIMED = "prior-art 001: claims, without a benchmark"

Progress = Callable[[str, int, int], None]


def bench_orders(tell: Progress) -> list[dict]:
    """Figures, as ``bench_live`` prints them."""
    with TemporaryDirectory() as folder:
        tell("orders", 0, 1 + KILLS)
        at_work = asyncio.run(_at_work(Path(folder) / "work.sqlite"))
        protected = []
        for number in range(KILLS):
            tell("orders", 1 + number, 1 + KILLS)
            protected.append(asyncio.run(_killed(Path(folder) / f"killed-{number}.sqlite")))
        tell("orders", 1 + KILLS, 1 + KILLS)
    answered, sent, naked = (
        [1e3 * each for each in told]
        for told in (at_work.decision_to_answer, at_work.fill_to_stop_sent, at_work.fill_to_stop_answered)
    )
    there_and_back_ms = statistics.median(naked) - statistics.median(sent)
    protected_s, reconciled_s = (max(told) for told in zip(*protected, strict=True))
    return [
        figure(
            f"decision to the exchange's answer, {len(answered)} entries", statistics.median(answered), "ms, median",
            baseline=_HARNESS, baseline_value=0.60,
        ),
        figure("the same", _p99(answered), "ms, 99th percentile", baseline=_CLAIMED, baseline_value=100.0),
        figure("fill known to its stop sent", statistics.median(sent), "ms, median", baseline=_CONFIRMED,
               baseline_value=125.0),
        figure("the same", _p99(sent), "ms, 99th percentile", at_most=TARGET_STOP_MS),
        figure("naked: fill known to its stop confirmed", statistics.median(naked), "ms, median",
               at_most=there_and_back_ms + TARGET_NAKED_MS),
        figure("the same", _p99(naked), "ms, 99th percentile"),
        figure("reconciliation of a start with an open position", reconciled_s, "s, most of all",
               at_most=TARGET_RECONCILED_S),
        figure(f"kill -9 before the stop is sent to the stop confirmed, {KILLS} kills", protected_s, "s, most of all",
               at_most=TARGET_PROTECTED_S),
    ]  # fmt: skip


async def _at_work(journal: Path) -> Measured:
    async with _exchange(market(HOURS)) as exchange:
        return await _measured(exchange, journal, HOURS)


async def _killed(journal: Path) -> tuple[float, float]:
    """Seconds from the death of a runner to its position's stop, and of those that its successor reconciles."""
    async with _exchange(market(HOURS)) as exchange:
        dies = await _runner(exchange, journal, 0.0)
        if await dies.wait() != -signal.SIGKILL:
            raise OSError(f"{journal}: expected a runner that is killed at its first stop, it ended by itself")
        died_at = time.time()
        after = await _measured(exchange, journal, MINUTES_AFTER_A_KILL / 60)
        return after.protected_at - died_at, after.reconciled


def _exchange(spec: MarketSpec) -> Loopback:
    settings = AccountSettings(taker_fee=champion().costs.taker_fee_bps / 1e4, leverage=1)
    return Loopback(SyntheticSource(spec), start=START, quiet_every_s=1.0, accounts=settings)


async def _measured(exchange: Loopback, journal: Path, hours: float) -> Measured:
    runner = await _runner(exchange, journal, hours)
    printed, complained = await runner.communicate()
    if runner.returncode:
        raise OSError(f"the runner on {journal} ended with status {runner.returncode}: {complained[-500:].decode()}")
    return Measured(**json.loads(printed))


async def _runner(exchange: Loopback, journal: Path, hours: float) -> asyncio.subprocess.Process:
    asked = (exchange.rest_url, exchange.office.keys[0].private_key, journal, hours)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "live.benchmarks.trading", *map(str, asked), env=os.environ | {SWITCH: "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
