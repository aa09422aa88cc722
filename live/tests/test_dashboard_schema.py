"""The dashboard's OpenAPI, asked at random: it never answers that it failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.dashboard.app import Place
from live.tests.dashboard_run import Served, StandIn, traded

EXAMPLES = os.environ.get("ASTER_API_EXAMPLES", "2")  # per operation
PHASES = os.environ.get("ASTER_API_PHASES", "fuzzing")  # examples, coverage and stateful there are too
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a token of enough letters"


@pytest.fixture
def served(tmp_path, synthetic_lake):
    events = traded(3)
    with StandIn(tmp_path / "live.sqlite", events) as runner:
        runner.play(len(events))
        place = Place(
            journal=runner.path, lake=synthetic_lake.root, candidate=tmp_path / "candidate.toml", token=TOKEN,
            inbox=lambda action, symbol: "a-key",
        )  # fmt: skip
        with Served(place) as served:
            yield served.caught_up(runner.written)


def test_no_request_makes_it_fail(served, tmp_path):
    # A process of its own: its plugin and its warnings stay out of this one.
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--header",
         f"Authorization: Bearer {TOKEN}", "--checks", "not_a_server_error", "--max-examples", EXAMPLES,
         "--phases", PHASES, "--exclude-path", "/api/stream", "--seed", "7", "--no-color",
         "--request-timeout", "20"],
        capture_output=True, text=True, cwd=tmp_path, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]


def test_every_answer_is_described_with_an_example(served):
    told = served.ask("/openapi.json").json()
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description") or operation.get("summary"), path
            answer = operation["responses"]["200"]["content"]
            assert answer, (path, method)
    assert {"/api/positions", "/api/account", "/api/trades", "/api/liquidations", "/api/stats", "/api/config",
            "/api/stream", "/api/heatmap/{symbol}", "/api/heatmap/{symbol}/best", "/api/signals", "/api/orders",
            "/api/health", "/metrics", "/api/parity", "/api/coverage"} <= set(told["paths"])  # fmt: skip
    assert "BTCUSDT" in json.dumps(told)
