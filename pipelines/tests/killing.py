"""Processes of ours that tests start, kill and start again."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pipelines.identity import CHECKOUT

PATIENCE_S = 120


def start(*arguments: str, lake: Path | None = None) -> subprocess.Popen:
    """A process of ours."""
    environment = os.environ | ({"ASTER_LAKE": str(lake)} if lake else {})
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT,
        env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """Standard output of a process that must succeed."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def kill_when(process: subprocess.Popen, has_begun) -> None:
    """SIGKILL the process as soon as there is something half-done to lose."""
    deadline = time.monotonic() + PATIENCE_S
    while not has_begun():
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < deadline, "nothing to kill appeared"
        time.sleep(0.002)
    process.kill()
    process.communicate()
