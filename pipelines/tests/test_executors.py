"""Blocks on Ray are blocks on this machine's own cores, also when a worker dies."""

import json
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


def ray_workers() -> list[int]:
    """Processes that evaluate a block at this moment."""
    found = []
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if commands.read_bytes().startswith(b"ray::_evaluate_in_worker"):
                found.append(int(commands.parent.name))
    return found


def test_ray_with_a_worker_killed_half_way_gives_the_same_bytes(synthetic_lake, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL_SWEEP)
    results = {}
    for name in ("local", "ray"):
        command = (
            sys.executable, "-m", "pipelines.cli", "sweep", str(tmp_path / "small.toml"), "--executor", name,
            "--no-notebook", "--json", "--runs", str(tmp_path / name), "--lake", str(synthetic_lake.root),
        )  # fmt: skip
        sweep = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if name == "ray":
            deadline = time.monotonic() + PATIENCE_S
            while not (workers := ray_workers()):
                assert sweep.poll() is None and time.monotonic() < deadline, "no worker to kill"
                time.sleep(0.002)
            os.kill(workers[0], signal.SIGKILL)
        out, err = sweep.communicate(timeout=PATIENCE_S)
        assert sweep.returncode == 0, err
        results[name] = Path(json.loads(out)["run"])
    for table in ("evaluated", "results", "walk_forward_trades"):
        told = [(run / f"{table}.parquet").read_bytes() for run in results.values()]
        assert told[0] == told[1], table
    assert ray_workers() == []


def test_an_executor_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no executor 'dask'; there are local, ray"), executor("dask"):
        pass
    with pytest.raises(ValueError, match="goes with --executor ray"), executor("local", "auto"):
        pass
