"""Blocks on Ray are blocks on this machine's own cores, also when a worker dies."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import SMALL_SWEEP
from pipelines.executors import executor
from pipelines.identity import CHECKOUT

PATIENCE_S = 240  # Ray takes a minute to start where everything else is busy

# In a process of its own: Ray leaves threads and processes behind that pytest would complain of.
EVALUATE = """
import sys
from pathlib import Path
from data.config import load
from data.lake import Lake
from pipelines.executors import executor
from pipelines.search_job import find_configs
from pipelines.sweep_job import bars_for
from research.sweep import Evaluator, SweepConfig, blocks_of, folds_of

path, lake = Path(sys.argv[1]), Lake(Path(sys.argv[2]))
config = load(SweepConfig, path, path.name)
bars = {symbol: bars_for(config, lake, symbol) for symbol in config.symbols}
evaluators = {symbol: Evaluator(config, bars[symbol]) for symbol in config.symbols}
folds = {symbol: folds_of(config, bars[symbol].frame.height) for symbol in config.symbols}
found = {}
for name in ("local", "ray"):
    with executor(name) as evaluate:
        def frames(blocks):
            rows = {block.name: rows for block, rows in evaluate(config, evaluators, bars, blocks)}
            return [rows[block.name] for block in blocks]

        searched = config
        if config.search.method == "optuna":
            searched, came_to = find_configs(config, folds, frames, lambda done, total: None)
        blocks = [block for symbol in config.symbols for block in blocks_of(searched, symbol, folds[symbol])]
        found[name] = [*frames(blocks), *([came_to] if searched is not config else [])]
assert all(here.equals(there) for here, there in zip(*found.values(), strict=True))
print(f"{len(blocks)} blocks are the same")
"""


JOIN = """
import sys, time
from pipelines.executors import executor
from ray._private import services
services._find_address_from_flag = lambda flag: set()  # what else runs on this machine is not asked
began = time.monotonic()
try:
    with executor("ray", sys.argv[1]):
        print("joined")
except (ConnectionError, ValueError) as error:
    print(f"{time.monotonic() - began:.1f} {type(error).__name__}: {error}")
"""
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else Ray looks for 127.0.0.1 at the network's address


def refused(address: str, folder: Path, **environment: str) -> str:
    """How an address is refused, which takes no longer than a few seconds."""
    asked = os.environ | ON_LOOPBACK | {"RAY_TMPDIR": str(folder)} | environment
    # Ray takes some seconds to be imported, longer where everything else is busy; left alone it asks for minutes.
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address], cwd=CHECKOUT, env=asked, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stdout != "joined\n", done.stderr
    seconds, told = done.stdout.rstrip("\n").split(" ", 1)
    assert float(seconds) < 15
    return told


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def listening(word: bytes | None):
    """A port whose connections hear a word, or nobody takes up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def tell():
            with suppress(OSError):  # closed, as the test ends
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(100)
                        connection.sendall(word)

        if word is not None:
            threading.Thread(target=tell, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def ray_workers() -> list[int]:
    """Processes that evaluate a block at this moment."""
    found = []
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if commands.read_bytes().startswith(b"ray::_evaluate_in_worker"):
                found.append(int(commands.parent.name))
    return found


SEARCH = """
[search]
method = "optuna"
configs = 64
seed = 1

[search.ranges]
momentum_multiple = {low = 1.0, high = 2.0}
stop_bps = {low = 20, high = 60, log = true}
"""


def searched(text: str) -> str:
    """The sweep with Optuna in place of its grid."""
    kept = [line for line in text.splitlines() if not line.startswith(("momentum_multiple", "stop_bps"))]
    return 'selection = "best"\n' + "\n".join(kept) + SEARCH


if os.environ.get("ASTER_RAY"):  # each starts a cluster of its own, which takes a minute of two cores

    @pytest.mark.parametrize("text", [SMALL_SWEEP, searched(SMALL_SWEEP)], ids=["grid", "optuna"])
    def test_ray_with_a_worker_killed_gives_the_same_bytes(text, synthetic_lake, tmp_path):
        (tmp_path / "small.toml").write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-c", EVALUATE, str(tmp_path / "small.toml"), str(synthetic_lake.root)],
            cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE_S
        while not (workers := ray_workers()):
            assert process.poll() is None and time.monotonic() < deadline, f"no worker to kill: {process.communicate()}"
            time.sleep(0.002)
        os.kill(workers[0], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert out == "8 blocks are the same\n"
        assert ray_workers() == []


def test_an_executor_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no executor 'dask'; there are local, ray"), executor("dask"):
        pass
    with pytest.raises(ValueError, match="goes with --executor ray"), executor("local", "auto"):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_ray_address_where_nobody_answers_is_refused_within_seconds(scheme, tmp_path):
    port = closed_port()
    assert refused(f"{scheme}127.0.0.1:{port}", tmp_path) == (
        f"ConnectionError: no Ray cluster at {scheme}127.0.0.1:{port}: nothing answers at 127.0.0.1:{port}: Connection "
        "refused; start one with `ray start --head`, or leave --ray-address out"
    )


def test_a_ray_address_whose_port_is_silent_is_refused_within_seconds(tmp_path):
    """As where a firewall swallows everything, or a process hangs: the system takes the connection, nobody speaks."""
    with listening(None) as port:
        told = refused(f"127.0.0.1:{port}", tmp_path)
    assert f"nothing answers at 127.0.0.1:{port}: no word within 5 s; start one with" in told


def test_a_ray_address_of_something_else_is_refused_within_seconds(tmp_path):
    """Such as the port of Ray's dashboard, which speaks HTTP."""
    for word in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        with listening(word) as port:
            told = refused(f"127.0.0.1:{port}", tmp_path)
        assert f"what answers at 127.0.0.1:{port} is no Ray cluster: `ray start --head` says its port" in told


def test_a_ray_cluster_that_is_not_there_any_more_is_not_waited_for(tmp_path):
    port = closed_port()
    told = refused("auto", tmp_path, RAY_ADDRESS=f"127.0.0.1:{port}")
    assert told.startswith(f"ConnectionError: no Ray cluster at auto: nothing answers at 127.0.0.1:{port}: Connection ")
    assert "auto: none runs on this machine, and RAY_ADDRESS names none; start" in refused("auto", tmp_path)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")  # one that crashed leaves it behind
    assert f"no Ray cluster at auto: nothing answers at 127.0.0.1:{port}: " in refused("auto", tmp_path)


def test_what_is_no_ray_address_is_refused():
    for address in ("10.0.0.1", "head:port", ":6379", "head:99999", "ray://head", "http://head:8265", ""):
        expected = f"Ray address: expected HOST:PORT, ray://HOST:PORT or auto, got '{address}'"
        with pytest.raises(ValueError, match=re.escape(expected)), executor("ray", address):
            pass


def test_a_sweep_says_that_no_ray_cluster_answers(sweep_toml, synthetic_lake, tmp_path):
    words = ("sweep", sweep_toml, "--lake", synthetic_lake.root, "--runs", tmp_path / "runs", "--no-notebook")
    where = ("--executor", "ray", "--ray-address", f"127.0.0.1:{closed_port()}")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, words), *where],
        cwd=CHECKOUT, env=os.environ | ON_LOOPBACK, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no Ray cluster at 127.0.0.1:") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("address", [None, "local"])
def test_ray_started_here_listens_on_loopback_alone_however_it_is_asked_for(address, monkeypatch):
    """Else it is open to the network, and writes a token into the home folder to guard itself with."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    monkeypatch.setattr(os, "environ", environment)
    asked = []
    stub = SimpleNamespace(init=lambda **words: asked.append(words["address"]), shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", stub)
    with executor("ray", address):
        assert asked == ["local"]
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0" and environment["RAY_AUTH_MODE"] == "disabled"
