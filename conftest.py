"""Shared fixtures and the guard that keeps tests on this machine."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

# Hundreds of processes are started: each finds compiled what the one before it compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("ASTER_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"real recordings not found at {folder}; set ASTER_REAL_DATA")
    return folder


@pytest.fixture(autouse=True, scope="session")
def only_loopback():
    """Refuse every socket that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"tests stay on loopback; something tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded
    os.environ["ASTER_ONLY_LOOPBACK"] = "1"  # of the processes that tests start, too
    yield
    socket.socket.connect = connect


@pytest.fixture
def mounted_disk() -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of its own in memory: ``mounted_disk("size=400k")``; skips where that is not allowed.

    Not below ``tmp_path``: pytest clears that away, and fails where the disk of a killed run is still mounted.
    """
    disks = []

    def mount(options: str) -> Path:
        disk = Path(tempfile.mkdtemp(prefix="aster-disk-"))
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


def pytest_xdist_auto_num_workers(config) -> int:
    """One worker more than cores: a quarter of a test's time it waits for sockets, disks and other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config):
    """Let a worker wait for what another one compiles: twice the work would gain nothing."""
    if not hasattr(config, "workerinput"):
        return
    from filelock import FileLock
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_one = Dispatcher.compile

    def compile_once(function, signature):
        folder = function._cache.cache_path
        if folder is None:  # nobody else would find it
            return compile_one(function, signature)
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Numba's own lock first: otherwise two threads of a worker could each wait for the other's.
        with global_compiler_lock, FileLock(Path(folder, f"{function.py_func.__qualname__}.lock")):
            return compile_one(function, signature)

    Dispatcher.compile = compile_once


def pytest_sessionfinish(session, exitstatus):
    """In CI everything needed is installed, so a skipped test is a failure there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def synthetic_spec():
    """Three quiet days of one symbol, seeded."""
    from datetime import UTC, datetime

    from data.synthetic import BTC_LIKE, MarketSpec

    return MarketSpec(
        symbols=(BTC_LIKE,),
        start=datetime(2026, 1, 5, tzinfo=UTC),
        days=3,
        seed=11,
        trades_per_second=0.2,
        quote_interval_s=2,
        depth_interval_s=60,
    )


@pytest.fixture(scope="session")
def synthetic_lake(tmp_path_factory, synthetic_spec):
    """A lake that holds ``synthetic_spec``; read it: sweeps alone write, which note in it what they tried."""
    from data.lake import Lake
    from data.synthetic import fill_lake

    lake = Lake(tmp_path_factory.mktemp("synthetic") / "lake", create=True)
    fill_lake(lake, synthetic_spec)
    return lake


SMALL_SWEEP = """\
name = "small"
strategy = "momentum"
symbols = ["BTCUSDT"]
start = 2026-01-05
end = 2026-01-08
capital_usdt = 1000.0
min_trades = 3
top = 2
placebos = 20

[costs]
taker_fee_bps = 4.0
maker_fee_bps = 2.0
slippage_bps = 0.5
latency_ms = 150

[orders]
notional_usdt = 500.0
max_notional_usdt = 600.0
entry_limit_ticks = 2
cooldown_bars = 5

[folds]
train_days = 1.0
test_days = 0.5
embargo_bars = 60

[grid]
momentum_multiple = [1.0, 1.5, 2.0]
volatility_window_bars = [10, 20, 30]
volume_multiple = [1.0]
volume_window_bars = [30]
target_bps = [60]
stop_bps = [30]
activation_bps = [25]
activation_buffer_bps = [0.5]
callback_bps = [10]
target_gap_bps = [4]
max_spread_ticks = [10]
max_funding_bps = [5]
"""


@pytest.fixture
def sweep_toml(tmp_path) -> Path:
    """A sweep of nine configs over ``synthetic_lake``."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SWEEP)
    return path
