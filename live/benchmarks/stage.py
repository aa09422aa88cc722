"""A real run with everything beside it: a loopback exchange with an account, runner, recorder and dashboard.

The exchange plays in a thread of this process, where its fills can be looked at; the others are the commands that an
operator starts, as processes of their own.
"""

import asyncio
import os
import secrets
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import tomli_w

from data import synthetic
from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.venues.aster_signed import ONLY_LOOPBACK
from live.dashboard.candidate import plain
from research.engine import TradingConfig

ROOT = Path(__file__).parents[2]
SYMBOL = "BTCUSDT"
_PATIENCE_S = 120.0
_OPENING = datetime(2026, 1, 5, 6, tzinfo=UTC)
_RULES = """\
instance = "one"
emergency_stop_bps = 400.0

[risk]
max_daily_drawdown = 0.2
max_drawdown = 0.5
max_losses_in_a_row = 500

[entries]
max_symbol_notional_usdt = 2000.0
max_total_notional_usdt = 5000.0
max_open_orders_per_symbol = 1
max_entries_per_hour = 600
"""


class Exchange:
    """The loopback exchange at work in a thread.

    Parameters
    ----------
    speed : market seconds per second of the machine.
    hours : how long its market lasts.
    """

    def __init__(self, speed: float, hours: float = 4.0) -> None:
        spec = synthetic.MarketSpec(
            symbols=(synthetic.BTC_LIKE,), start=_OPENING, days=hours / 24, seed=7, trades_per_second=0.4,
            quote_interval_s=2, depth_interval_s=20, mark_interval_s=1, momentum_edge=0.6,
        )  # fmt: skip
        accounts = AccountSettings(taker_fee=0.0004, leverage=1)
        self._is_open = threading.Event()
        self._loopback = Loopback(
            SyntheticSource(spec), speed=speed, start=_OPENING.replace(minute=42), quiet_every_s=1.0, accounts=accounts
        )  # fmt: skip
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), daemon=True)
        self._thread.start()
        if not self._is_open.wait(_PATIENCE_S):
            raise OSError("the exchange did not open")

    async def _play(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with self._loopback:
            self._is_open.set()
            await self._ended.wait()

    @property
    def url(self) -> str:
        """Where it is asked."""
        return self._loopback.rest_url

    @property
    def private_key(self) -> str:
        """Of the account's agent."""
        return self._loopback.office.keys[0].private_key

    @property
    def fills(self) -> int:
        """How many orders of the account, or parts of them, were filled."""
        return sum(len(each.ledger.fills) for each in self._loopback.office.accounts)

    @property
    def held(self) -> float:
        """Base units, as the exchange has it."""
        ledgers = [each.ledger for each in self._loopback.office.accounts]
        return float(sum(each.amount for ledger in ledgers for each in ledger.positions(SYMBOL)))

    def close(self) -> None:
        """End the market."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_PATIENCE_S)


class Stage:
    """Everything at once; a context manager.

    Attributes
    ----------
    journal : of the runner. lake : of the recorder. token : of the dashboard.

    Parameters
    ----------
    folder : for all that is written.
    config : what the runner trades.
    speed : market seconds per second of the machine.
    """

    def __init__(self, folder: Path, config: TradingConfig, speed: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.journal, self.lake = folder, folder / "real.sqlite", folder / "lake"
        self.lake.mkdir()
        self.token = secrets.token_urlsafe(24)
        self.config = config
        self.exchange = Exchange(speed)
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.url = ""

    def __enter__(self) -> Self:
        chosen = {"config_hash": self.config.config_hash, "config": plain(self.config), "provenance": {"run": "stage"}}
        written = {
            "chosen.toml": tomli_w.dumps(chosen),
            "account.toml": _RULES,
            "keys": f"ASTER_AGENT_KEY={self.exchange.private_key}\n",
            "token": self.token,
        }
        for name, text in written.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)
        venue = "--venue", self.exchange.url
        self.start(
            "runner", "live.runner", "--config", "chosen.toml", "--mode", "real", "--send-orders", SYMBOL, "--account",
            "account.toml", "--keys", "keys", *venue, "--journal", str(self.journal), "--json",
        )  # fmt: skip
        self.start("recorder", "pipelines.cli", "record", "--symbols", SYMBOL, *venue, "--lake", str(self.lake))
        self.serve()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.communicate(timeout=_PATIENCE_S)
        self.exchange.close()

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start a command."""
        with (self.folder / f"{name}.err").open("w") as complaints:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=self.folder, stdout=subprocess.PIPE, stderr=complaints,
                text=True, env=os.environ | {"PYTHONPATH": str(ROOT), ONLY_LOOPBACK: "1"},
            )  # fmt: skip

    def serve(self, port: int = 0) -> None:
        """Start the dashboard, and return once it answers."""
        self.start(
            "dashboard", "live.dashboard.server", "--journal", str(self.journal), "--lake", str(self.lake), "--port",
            str(port), "--token-file", "token", "--candidate", str(self.folder / "candidate.toml"),
        )  # fmt: skip
        self.url = self._processes["dashboard"].stdout.readline().partition("/#")[0].strip()
        if not self.url:
            raise OSError(f"the dashboard did not start: {(self.folder / 'dashboard.err').read_text()[-500:]}")

    @property
    def link(self) -> str:
        """What the operator opens."""
        return f"{self.url}/#token={self.token}"

    @property
    def port(self) -> int:
        """Of the dashboard."""
        return int(self.url.rpartition(":")[2])

    def signal(self, name: str, number: int) -> None:
        """Send a process a signal."""
        self._processes[name].send_signal(number)

    def kill(self, name: str) -> None:
        """End a process as a crash does."""
        self._processes[name].kill()
        self._processes[name].communicate()

    def is_alive(self, name: str) -> bool:
        """Whether a process still runs."""
        return self._processes[name].poll() is None
