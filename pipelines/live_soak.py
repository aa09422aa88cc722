"""``aster bench live-soak``: a runner with orders, its watchdog and an exchange that does everything wrong.

The exchange plays a synthetic market many times faster than real, so that two hours hold more than a day. The runner is
killed a few times and started again as systemd would, and whenever only exits are left the operator lets it enter
again. In the end everything is closed, and the journal's money is set beside the exchange's: to the last digit.
"""

import asyncio
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from data.benchmarks.figures import figure
from data.clock import RealClock
from data.config import load
from data.loopback.account_ledger import Income
from data.loopback.account_settings import AccountSettings
from data.loopback.faults import MOMENT_KINDS, Faults, RequestFault, StreamFault
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.synthetic import BTC_LIKE, MarketSpec
from data.venues.signing import AgentKey
from live.benchmarks.configs import champion
from live.commands import ask
from live.config import Chosen
from live.heartbeat import Beat, read_beat
from live.journal import read_journal
from live.promotion import document_of
from pipelines.soak import FAULTS, LIFE_S
from pipelines.soak_memory import SAMPLE_S, flat, samples

SPEED = 15.0  # market seconds per second: two hours are 30
KILLED_AT = (0.05, 0.1, 0.15, 0.2)  # parts of the time
SILENT_S = 30.0  # of the machine's time, until it is started again
WATCHED_S = 20.0  # of silence, after which the watchdog acts
CALM_S = 60.0  # of the machine's time, at the end: nothing more goes wrong, and everything is heard
_WATCHDOG_KEY = "5a" * 32
_START = datetime(2026, 1, 5, tzinfo=UTC)
_IN_DOUBT = ("SENT", "UNKNOWN")
_KINDS = {"REALIZED_PNL": "realised", "COMMISSION": "commission", "FUNDING_FEE": "funding"}
_ACCOUNT = """\
instance = "one"
emergency_stop_bps = 100.0

[risk]
max_daily_drawdown = 0.5
max_drawdown = 0.9
max_losses_in_a_row = 1000

[entries]
max_symbol_notional_usdt = 2000.0
max_total_notional_usdt = 5000.0
max_open_orders_per_symbol = 1
max_entries_per_hour = 60
"""


def run_live_soak(folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """Trade for so many minutes with ``<folder>/journal.sqlite``; figures as of every benchmark.

    Raises
    ------
    FileExistsError
        When the folder holds a journal already.
    """
    if (folder / "journal.sqlite").exists():
        raise FileExistsError(f"{folder / 'journal.sqlite'}: the soak wants a journal of its own; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_soak(folder, minutes, tell))


@dataclass
class _Processes:
    """Runner and watchdog, and what is done to them."""

    folder: Path
    exchange: Loopback
    symbol: str
    kills: int = 0
    resumed: int = 0
    memory: list[tuple[float, str, float]] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite"

    async def start(self, name: str) -> asyncio.subprocess.Process:
        """``runner`` or ``watchdog``; what it says goes into a file of its name."""
        told = ["--journal", self.journal, "--account", self.folder / "account.toml", "--venue", self.exchange.rest_url,
                "--send-orders", self.symbol, "--keys", self.folder / f"{name}.keys"]  # fmt: skip
        told += {
            "runner": ["--config", self.folder / "chosen.toml", "--mode", "real", "--json"],
            "watchdog": ["--silence", WATCHED_S, "--look", 1.0],
        }[name]
        with (self.folder / f"{name}.log").open("ab") as said:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"live.{name}", *map(str, told), stdout=said, stderr=said
            )

    async def trade(self, minutes: float, tell: Callable[[str, int, int], None]) -> tuple[int, int]:
        """Let them work for so long; the exit statuses of both."""
        watchdog, runner = await self.start("watchdog"), await self.start("runner")
        began, length_s, kills = time.monotonic(), minutes * 60, list(KILLED_AT)
        while (passed_s := time.monotonic() - began) < length_s - CALM_S and runner.returncode is None:
            tell("soak, seconds", round(passed_s), round(length_s))
            self._weigh(passed_s, {"runner": runner.pid, "watchdog": watchdog.pid})
            beat = read_beat(self.journal)
            if beat is not None and beat.pid == runner.pid:  # it is at work by now
                self._let_enter(beat)
                if kills and passed_s >= kills[0] * length_s:
                    kills.pop(0)
                    runner = await self._killed(runner)
            await asyncio.sleep(SAMPLE_S)
        if runner.returncode is None:
            self._ask("flatten")
            await asyncio.sleep(CALM_S)
            runner.send_signal(signal.SIGTERM)
        status = await runner.wait()
        watchdog.send_signal(signal.SIGTERM)
        return status, await watchdog.wait()

    async def _killed(self, runner: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
        """Another one after a while in which the market went on."""
        runner.kill()
        await runner.wait()
        self.kills += 1
        await self.exchange.skip(SILENT_S * SPEED)
        await asyncio.sleep(SILENT_S)
        return await self.start("runner")

    def _let_enter(self, beat: Beat) -> None:
        """What an operator does who has looked at an alarm."""
        if beat.level != "ACTIVE":
            self.resumed += 1
            self._ask("resume")

    def _ask(self, command: str) -> None:
        now_ms = RealClock().now_ms()
        ask(self.journal, command, None, by="ctl", now_ms=now_ms, patience_ms=round(CALM_S * 1_000))

    def _weigh(self, passed_s: float, pids: dict[str, int]) -> None:
        self.memory += [(passed_s, *sample) for name, pid in pids.items() for sample in samples(pid, {}, name)]


async def _soak(folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    config = champion()
    chosen = Chosen(config_hash=config.config_hash, config=config, provenance={"run": "soak"})
    (folder / "chosen.toml").write_text(tomli_w.dumps(document_of(chosen)))
    (folder / "account.toml").write_text(_ACCOUNT)
    market = MarketSpec(
        symbols=(BTC_LIKE,), start=_START, days=minutes * SPEED / 1_440 + 0.2, seed=7, trades_per_second=0.4,
        quote_interval_s=2, depth_interval_s=20, mark_interval_s=1, momentum_edge=0.6,
    )  # fmt: skip
    accounts = AccountSettings(
        taker_fee=config.costs.taker_fee_bps / 1e4, leverage=1, agent=AgentKey(_WATCHDOG_KEY).address, shows_all=True
    )  # fmt: skip
    faults = _ending(load(Faults, FAULTS), (minutes * 60 - CALM_S) * SPEED)
    async with Loopback(
        SyntheticSource(market), speed=SPEED, start=_START.replace(minute=42, second=20), faults=faults, life_s=LIFE_S,
        accounts=accounts,
    ) as exchange:  # fmt: skip
        began_ms = exchange.now_ms
        for name, key in (("runner", exchange.office.keys[0].private_key), ("watchdog", _WATCHDOG_KEY)):
            (folder / f"{name}.keys").write_text(f"ASTER_AGENT_KEY={key}\n")
            (folder / f"{name}.keys").chmod(0o600)
        at_work = _Processes(folder, exchange, config.symbol)
        statuses = await at_work.trade(minutes, tell)
        account, hours = exchange.office.accounts[0], (exchange.now_ms - began_ms) / 3.6e6
    memory = pl.DataFrame(at_work.memory, ["seconds", "process", "memory_mib"], orient="row")
    memory.write_parquet(folder / "memory.parquet")
    events = [(kind, name, json.loads(body)) for kind, name, body in
              read_journal(at_work.journal).select("kind", "client_order_id", "body").iter_rows()]  # fmt: skip
    steps = sum(" sent " in f" {line}" for line in (folder / "watchdog.log").read_text().splitlines())
    left = sum(abs(held.amount) for held in account.ledger.positions())
    return [
        figure("market hours", hours, "hours"),
        figure("fills", len(account.ledger.fills), "fills", at_least=1),
        figure("times the runner was killed", at_work.kills, "times"),
        figure("times the operator let it enter again", at_work.resumed, "times"),
        figure("orders of the watchdog", steps, "orders"),
        figure("exit status of the runner", statuses[0], "", at_most=0),
        figure("exit status of the watchdog", statuses[1], "", at_most=0),
        *differences(events, account.ledger.incomes),
        figure("position left", float(left), "BTC", at_most=0),
        figure("orders whose fate is not known", len(in_doubt(events)), "orders", at_most=0),
        *flat(memory, "runner"),
        *flat(memory, "watchdog"),
    ]


def differences(
    events: Iterable[tuple[str, str | None, dict[str, Any]]], incomes: Iterable[Income]
) -> list[dict[str, Any]]:
    """The exchange's money by kind, and how far the journal's is from it.

    Parameters
    ----------
    events : of the journal: kind, client order id, body.
    """
    ledger, ours = dict.fromkeys(_KINDS.values(), Decimal(0)), dict.fromkeys(_KINDS.values(), Decimal(0))
    for row in incomes:
        if row.kind in _KINDS:
            ledger[_KINDS[row.kind]] += row.amount_usdt
    for kind, _, body in events:
        if kind == "execution":
            ours["realised"] += Decimal(body["realised_usdt"])
            ours["commission"] -= Decimal(body["commission"])
        elif kind == "income":
            ours["funding"] += Decimal(repr(body["amount_usdt"]))
    return [
        each
        for kind in ledger
        for each in (
            figure(f"{kind}, by the exchange", float(ledger[kind]), "USDT"),
            figure("the journal's difference from it", float(abs(ours[kind] - ledger[kind])), "USDT", at_most=0.0),
        )
    ]


def in_doubt(events: Iterable[tuple[str, str | None, dict[str, Any]]]) -> list[str | None]:
    """Orders of which the journal does not know what became."""
    statuses = {name: body["status"] for kind, name, body in events if kind == "order"}
    return [name for name, status in statuses.items() if status in _IN_DOUBT]


def _ending(faults: Faults, after_s: float) -> Faults:
    """The same, but what befalls single messages and requests ends so long after the start."""
    streams = tuple(each if each.kind in MOMENT_KINDS else _ended(each, after_s) for each in faults.streams)
    return replace(faults, streams=streams, requests=tuple(_ended(each, after_s) for each in faults.requests))


def _ended(fault: StreamFault | RequestFault, after_s: float) -> StreamFault | RequestFault:
    return replace(fault, for_s=max(1.0, min(fault.for_s or math.inf, after_s - fault.from_s)))
