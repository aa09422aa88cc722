"""Fault matrix, row F12: killed at K0 to K9 and started again, nothing is filled twice and what is held has its stop.

``ASTER_KILLS=20`` kills at every point so often, at random moments around it, every other time in hedge mode; without
it once, where a position has no stop yet.
"""

import asyncio
import json
import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from data.loopback import account_modes
from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.wal import Kind, read, segments, size
from live.backup import back_up
from live.journal import feed_folder, read_journal
from live.orders import order_name
from live.tests.invariants import check, legs
from live.tests.killed_run import POINTS, killed
from live.tests.paper_run import START, market
from live.tests.real_run import RULES, Run, often, trade
from research.resting import RestingEntry

KILLS = int(os.environ.get("ASTER_KILLS", "0"))
TWICE = ("K4", "KR", "KR")  # a position, and then killed while it is reconciled, again and again
ROWS = [*((point,) for point in POINTS if point != "KR"), TWICE]
CASES = [(points, seed) for seed in range(KILLS) for points in ROWS]


@pytest.fixture(scope="module")
def children():
    """Makes processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["live.tests.killed_run"])
    return context


@pytest.mark.parametrize(("points", "seed"), CASES or [(("K3",), 0)], ids=str)
def test_killed_and_started_again_a_run_keeps_every_invariant(config, promoted, tmp_path, children, points, seed):
    traded, path, point = often(config), tmp_path / "real.sqlite", points[0]
    if point == "KE":
        traded = often(config, resting=RestingEntry(offset_bps=30.0, lifetime_ms=40_000))
    rules = replace(RULES, is_hedge=seed % 2 == 1)
    run = _killed_and_resumed(traded, promoted, path, children, points, rules, Random(f"{points}/{seed}"))
    check(run, naked_ms=10_000)
    if point in ("K2", "K3", "K4", "K5"):
        assert len(run.orders("E")) >= 1 and run.orders("S")
    if point == "KE":
        first = run.orders("E")[0]
        assert (first.status, first.filled) == ("CANCELED", 0) and first.updated_ms - first.created_ms < 40_000
    if point == "K8":
        assert legs(run)[:2] in (["E", "X"], ["E", "F"])
    if point == "K9":
        for copy in tmp_path.glob("*.backup-????????"):
            assert read_journal(copy)["seq"][-1] <= read_journal(path)["seq"][-1]
        copy = back_up(path, datetime(2026, 1, 6, tzinfo=UTC))
        assert read_journal(copy).equals(read_journal(path)) and not [*tmp_path.glob("*.new")]


def test_what_a_power_cut_takes_is_found_on_the_exchange(config, promoted, tmp_path, children):
    """All that no wait for the disk followed is gone: the fill, the stop's intent, that it was sent."""
    path = tmp_path / "real.sqlite"

    def power_cut() -> None:
        (log,) = segments(feed_folder(path))
        end = 0
        for record in read(log):
            told = json.loads(record.payload) if record.kind is Kind.NOTE else {}
            if told.get("event", {}).get("kind") == "order":  # the entry is SENT
                break
            end += size(record)
        os.truncate(log, end)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)

    run = _killed_and_resumed(often(config), promoted, path, children, ("K5",), RULES, Random(0), power_cut)
    check(run, naked_ms=10_000)
    announced = _announced(path)
    stops = [order.client_id for order in run.orders("S") if order_name(order.client_id).trade_id in announced[0]]
    assert stops == announced[:1] and legs(run)[0] == "E", "the stop that stood, and no second one"
    assert run.orders("T")[0].client_id == announced[1]


def _announced(path) -> list[str]:
    """The exits that the first entry's intent names."""
    (body, *_) = (body for kind, body in read_journal(path).select("kind", "body").iter_rows() if kind == "intent")
    return json.loads(body)["exits"]


def _killed_and_resumed(traded, promoted, path, children, points, rules, random, between=lambda: None) -> Run:
    """The run that goes on after it was killed at every point in turn, and ``between`` was called."""
    chosen = promoted(traded)

    async def kill_and_resume() -> Run:
        fees = {"taker_fee": traded.costs.taker_fee_bps / 1e4, "maker_fee": traded.costs.maker_fee_bps / 1e4}
        accounts = AccountSettings(**fees, leverage=1)
        async with (
            asyncio.timeout(300),
            Loopback(market(), start=START, quiet_every_s=1.0, accounts=accounts) as exchange,
        ):
            await exchange.office.catch_up()
            if rules.is_hedge:
                account_modes.set_hedge(exchange.office.accounts[0], True, exchange.office.now_ms)
            key = exchange.office.keys[0].private_key
            for where in points:
                asked = (exchange.rest_url, key, chosen, path, rules, where, random.uniform(0.0, 0.006))
                child = children.Process(target=killed, args=asked)
                child.start()
                await asyncio.to_thread(child.join)
                with closing(child):
                    assert child.exitcode == -signal.SIGKILL
            between()
            return await trade(Run(exchange, path), traded, minutes=3.0, rules=rules)

    return asyncio.run(kill_and_resume())
