import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import children
from pipelines.children import Child, ChildFailed, alone_in
from pipelines.identity import CHECKOUT

PATIENCE_S = 30

PROGRAM = """
import signal, sys, time
from pathlib import Path
marks = Path(sys.argv[1])
def stop(*_):
    (marks / "stopped").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(marks / "started").touch()
print("at work", flush=True)
if sys.argv[2] == "fail":
    print("Traceback", file=sys.stderr)
    sys.exit("error: the disk is full; free some space")
time.sleep(60)
"""

JOB = """
import sys, time
from pathlib import Path
from pipelines.children import Child, alone_in
folder = Path(sys.argv[1])
with alone_in(folder) as lock, Child("worker", "worker", str(folder), "work", logs=folder, lock=lock):
    time.sleep(60)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A module that Python finds under the name ``worker``."""
    (tmp_path / "worker.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.01)


def test_what_a_child_prints_can_be_read_while_it_works(worker):
    with alone_in(worker) as lock, Child("worker", "worker", str(worker), "work", logs=worker, lock=lock) as child:
        child.until(lambda: "\n" in child.printed)
        assert child.printed == "at work\n"
        assert child.is_running()
    assert (worker / "stopped").exists()


def test_a_child_that_fails_is_told_with_its_last_words(worker):
    with alone_in(worker) as lock, Child("worker", "worker", str(worker), "fail", logs=worker, lock=lock) as child:
        expected = "^the worker ended with status 1: the disk is full; free some space$"
        with pytest.raises(ChildFailed, match=expected):
            child.until(lambda: False)


def test_a_child_does_not_go_on_without_the_other_it_needs(worker):
    with alone_in(worker) as lock:
        needed = Child("exchange", "worker", str(worker), "work", logs=worker, lock=lock)
        with needed, Child("worker", "worker", str(worker), "work", logs=worker, lock=lock) as child:
            wait_for(worker / "started")
            needed.until(lambda: bool(needed.printed))
            needed.stop()
            with pytest.raises(ChildFailed, match="the exchange ended before the worker did"):
                child.until(lambda: False, needed)


def test_the_children_of_a_killed_job_stop_and_the_next_job_waits_until_they_are_gone(worker):
    job = subprocess.Popen([sys.executable, "-c", JOB, str(worker)], cwd=CHECKOUT)
    wait_for(worker / "started")
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    with alone_in(worker):
        assert (worker / "stopped").exists()


def test_two_jobs_never_work_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "PATIENCE_S", 0.3)
    with alone_in(tmp_path), pytest.raises(ValueError, match="another process works in"), alone_in(tmp_path):
        pass
