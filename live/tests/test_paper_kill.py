"""A paper runner that is killed and started again goes on as if nothing had happened: position, cooldown, chain."""

import asyncio
import json
import shutil
import signal
import sys
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from data.loopback.server import Loopback
from live.dispatch import Dispatcher, Seat, walk
from live.journal import Journal, feed_folder, read_journal
from live.journal_trades import trades
from live.tests.paper_run import OFTEN, START, assert_proven, market

SPEED = 1_500.0  # of the market: slow enough to meet it in a position, and in the pause after one
BEGIN = START + timedelta(hours=2, minutes=20)


class Runner:
    """``aster-live --mode paper`` in a process of its own, started and killed."""

    def __init__(self, chosen, config, path, exchange: Loopback) -> None:
        self.config, self.path = config, path
        self._exchange = exchange
        asked = {"--config": chosen, "--mode": "paper", "--venue": exchange.rest_url, "--journal": path}
        self._arguments = ["--json", *(str(part) for pair in asked.items() for part in pair)]

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "live.runner", *self._arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def is_running(self) -> bool:
        return self._process.returncode is None

    async def until(self, happened) -> None:
        while not happened():
            assert self.is_running(), (await self._process.communicate())[1].decode()
            assert happened() or not self._exchange.status()["is_finished"], "the tape ended first"
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        await self._process.communicate()

    async def stop(self) -> dict:
        self._process.send_signal(signal.SIGTERM)
        printed, complained = await self._process.communicate()
        assert self._process.returncode == 0, complained.decode()
        return json.loads(printed)

    def trades(self) -> pl.DataFrame:
        if self._exchange.now_ms <= BEGIN.timestamp() * 1_000:  # nobody listened yet
            return pl.DataFrame({"exit_time": []})
        return trades(self.path, self.config.config_hash, self.config.symbol)

    def is_holding(self) -> bool:
        listed = self.trades()
        return listed.height > 0 and listed["exit_time"][-1] is None

    def is_flat_again(self) -> bool:
        return self.trades().height > 0 and not self.is_holding()

    def state(self, copy) -> Dispatcher:
        """What a restart finds, from a copy of journal and log."""
        copy.mkdir()
        for part in self.path.parent.glob(f"{self.path.name}*"):
            shutil.copytree(part, copy / part.name) if part.is_dir() else shutil.copy(part, copy / part.name)
        with Journal(copy / self.path.name) as journal:
            return walk([self.config], feed_folder(copy / self.path.name), journal)


@pytest.fixture
def paused(config):
    """A config with long pauses after its trades."""
    return config(**OFTEN, cooldown_bars=12)


async def killed_again_and_again(runner: Runner, exchange: Loopback, tmp_path) -> tuple[dict, list[pl.DataFrame]]:
    """The last run's summary and the journal as every kill left it: in a position, in a cooldown, twice at random."""
    random, left = np.random.default_rng(5), []

    async def leave(happened) -> Seat:
        await runner.start()
        await runner.until(happened)
        await runner.kill()
        found = runner.state(tmp_path / f"kill {len(left)}")
        left.append(read_journal(runner.path))
        return found.seats[0]

    # What was seen may have passed when the kill comes: then once more.
    while (await leave(runner.is_holding)).desk.side == 0:
        left.clear()
    while not is_paused(await leave(runner.is_flat_again)):
        pass
    for _ in range(2):
        moment_ns = exchange.now_ns + int(random.uniform(2, 10) * 60e9)
        await leave(lambda moment_ns=moment_ns: exchange.now_ns >= moment_ns)
    await runner.start()
    await runner.until(lambda: exchange.status()["is_finished"])
    return await runner.stop(), left


def is_paused(seat: Seat) -> bool:
    return seat.desk.side == 0 and seat.desk.next_entry_ms >= seat.feed.told_until_ms


def test_a_killed_runner_goes_on_with_its_position_and_its_cooldown(paused, promoted, tmp_path):
    path = tmp_path / "paper.sqlite"

    async def play():
        async with Loopback(market(), start=BEGIN, speed=SPEED) as exchange:
            runner = Runner(promoted(paused), paused, path, exchange)
            try:
                return await killed_again_and_again(runner, exchange, tmp_path)
            finally:
                if runner.is_running():
                    await runner.kill()

    result, left = asyncio.run(play())
    events = read_journal(path)
    for cut in left:
        assert cut.equals(events.head(cut.height))  # the chain goes on
    assert sorted(cut.height for cut in left) == [cut.height for cut in left]
    assert events.filter(pl.col("kind") == "intent")["client_order_id"].is_unique().all()
    assert (events["kind"] == "start").sum() == 1
    held = left[0]["trade_id"].drop_nulls()[-1]
    (listed,) = assert_proven([paused], path, result["chain_head"])
    assert listed.filter(pl.col("trade_id") == held)["reason"][0] in ("stop", "target", "trailing")
    assert result["mode"] == "paper" and result["trades"] == listed.filter(pl.col("reason") != "open").height > 3
    assert result["reconnects"] >= 4 and result["gaps"] == 0
    assert result["net_pnl_usdt"] == listed["net_pnl_usdt"].sum()
