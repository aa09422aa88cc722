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
