"""A browser for the tests that look at pages, and a demo small enough to be run and killed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.benchmarks.browser import CHROMIUM, Browser
from pipelines.identity import CHECKOUT
from pipelines.runs import RunFolder

# Whole nights take ten minutes and are asked for: ASTER_WHOLE_NIGHT=1. In CI a test that skips is a failure.
collect_ignore = [] if os.environ.get("ASTER_WHOLE_NIGHT") else ["test_nightly_whole.py"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page is not opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def finished(synthetic_lake, tmp_path_factory) -> RunFolder:
    """One finished run of the small sweep; copy its folder before writing into it."""
    from conftest import SMALL_SWEEP
    from pipelines.sweep_job import run_sweep

    folder = tmp_path_factory.mktemp("runs")
    path = folder / "small.toml"
    path.write_text(SMALL_SWEEP)
    return run_sweep(path, synthetic_lake, folder / "runs", lambda *told: None)


TINY_DEMO = """
import json, sys
from dataclasses import replace
from pathlib import Path
from conftest import SMALL_SWEEP
from pipelines.demo import MARKET, run_demo

market = replace(MARKET, days=0.6, trades_per_second=0.2, depth_interval_s=60)
sweep = SMALL_SWEEP
for old, new in (
    ("end = 2026-01-08", "end = 2026-01-05T12:00:00Z"),
    ("train_days = 1.0", "train_days = 0.2"),
    ("test_days = 0.5", "test_days = 0.1"),
    ("embargo_bars = 60", "embargo_bars = 30"),
    ("min_trades = 3", "min_trades = 1"),
):
    assert old in sweep
    sweep = sweep.replace(old, new)
print(json.dumps(run_demo(Path(sys.argv[1]), lambda *told: None, market=market, sweep=sweep)))
"""


@pytest.fixture(scope="session")
def tiny_demo() -> str:
    """A program that runs the demo on half a day, trades two hours of it on paper, and prints the result as JSON."""
    return TINY_DEMO


@pytest.fixture(scope="session")
def demo_done(tiny_demo, tmp_path_factory) -> tuple[Path, dict]:
    """Folder of a demo that nobody interrupted, and its result."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    done = subprocess.run([sys.executable, "-c", tiny_demo, str(folder)], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)
