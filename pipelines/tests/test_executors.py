"""Blocks on Ray are blocks on this machine's own cores, also when a worker dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

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
from pipelines.sweep_job import bars_for
from research.sweep import Evaluator, SweepConfig, blocks_of, folds_of

path, lake = Path(sys.argv[1]), Lake(Path(sys.argv[2]))
config = load(SweepConfig, path, path.name)
bars = {symbol: bars_for(config, lake, symbol) for symbol in config.symbols}
evaluators = {symbol: Evaluator(config, bars[symbol]) for symbol in config.symbols}
blocks = [
    block
    for symbol in config.symbols
    for block in blocks_of(config, symbol, folds_of(config, bars[symbol].frame.height))
]
found = {}
for name in ("local", "ray"):
    with executor(name) as evaluate:
        found[name] = {block.name: rows for block, rows in evaluate(config, evaluators, bars, blocks)}
assert sorted(found["ray"]) == sorted(block.name for block in blocks)
assert all(rows.equals(found["ray"][name]) for name, rows in found["local"].items())
print(f"{len(blocks)} blocks are the same")
"""


def ray_workers() -> list[int]:
    """Processes that evaluate a block at this moment."""
    found = []
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if commands.read_bytes().startswith(b"ray::_evaluate_in_worker"):
                found.append(int(commands.parent.name))
    return found


def test_ray_with_a_worker_killed_gives_the_same_bytes(synthetic_lake, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL_SWEEP)
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
