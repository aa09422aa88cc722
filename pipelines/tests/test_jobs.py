"""Jobs as real processes: they outlive who started them, are met again, and say how they ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import cli, job_process, jobs
from pipelines.children import ChildFailed
from pipelines.identity import CHECKOUT
from pipelines.jobs import Job, job_of, start
from pipelines.notebook_views import finished_job

PATIENCE_S = 60
STARTER = """
import sys, time
from pathlib import Path
from pipelines.jobs import start
start(sys.argv[1:], Path.cwd())
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ASTER_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def waiting(tmp_path) -> tuple[str, ...]:
    """A command line that waits for somebody to write its settings."""
    os.mkfifo(tmp_path / "nightly.toml")
    return ("nightly", "--config", str(tmp_path / "nightly.toml"), "--lake", str(tmp_path / "lake"))


def aster(*arguments: str, status: int = 0):
    done = CliRunner().invoke(cli.cli, list(arguments), catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def wait_until_not(job: Job, state: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while job.state == state:
        assert time.monotonic() < deadline, f"{job.name} stayed {state}"
        time.sleep(0.01)


def test_a_job_outlives_who_started_it_is_met_again_and_stops_like_by_ctrl_c(waiting, tmp_path):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, *waiting], cwd=CHECKOUT, stdout=subprocess.PIPE, start_new_session=True
    )
    assert starter.stdout.readline() == b"started\n"
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()

    job, was_running = start(waiting, CHECKOUT)
    assert (was_running, job.state) == (True, "running")
    with (tmp_path / "nightly.toml").open("wb"):  # it reads by now
        listed = json.loads(aster("job", "--json").stdout)
        assert [(one["job"], one["state"], one["command"]) for one in listed] == [(job.name, "running", list(waiting))]
        assert aster("job", "stop", job.name[:9]).stdout == f"{job.name}: stopped\n"
    assert "run the same command again to go on" in aster("job", "attach", job.name, status=130).stderr


def test_a_failed_job_says_why_with_its_status(tmp_path):
    words = ("sql", "SELECT 1", "--lake", str(tmp_path / "none"))
    with pytest.raises(ChildFailed, match=r"job sql-\w{8} is failed: no lake at .*/none"):
        finished_job(*words)
    told = aster("job", "attach", "sql", "--json", status=1)
    assert json.loads(told.stdout).items() >= {"state": "failed", "status": 1, "command": list(words)}.items()
    assert "error: " in aster("job", "attach", "sql", status=1).stderr


def test_a_killed_job_is_lost_and_says_how_to_start_it_again(waiting):
    job, was_running = start(waiting, CHECKOUT)
    assert not was_running
    os.killpg(job.about["pid"], signal.SIGKILL)
    wait_until_not(job, "running")
    assert job.state == "lost"
    assert f"aster job start nightly --config {waiting[2]}" in aster("job", "attach", job.name, status=1).stderr
    assert aster("job", "stop", job.name).stdout == f"{job.name}: lost\n"
    assert f"{job.name}  lost" in aster("job").stdout


@pytest.mark.parametrize(("ends", "status", "state"), [(None, 0, "finished"), (SystemExit(3), 3, "failed"),
                                                       (KeyboardInterrupt(), 130, "stopped")])  # fmt: skip
def test_progress_and_the_end_are_written_down(runs, monkeypatch, ends, status, state):
    job = Job(runs / "jobs" / "sweep-0")
    job.path.mkdir(parents=True)

    def main(command, tell):
        assert command == ["sweep", "small.toml"]
        for done in range(4):
            tell("bars", done, 3)
        assert job.progress == {"bars": [0, 3]}  # the rest comes within half a second
        if ends:
            raise ends

    monkeypatch.setattr(cli, "main", main)
    job_process.run(job, ["sweep", "small.toml"])
    told = []
    assert job.follow(lambda *step: told.append(step)) == state
    assert (job.status, told) == (status, [("bars", 3, 3)])


def test_a_bug_fails_a_job_and_keeps_its_traceback(runs, monkeypatch):
    job = Job(runs / "jobs" / "sweep-0")
    monkeypatch.setattr(cli, "main", lambda command, tell: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        job_process.run(job, ["sweep"])
    assert (job.state, job.status) == ("failed", 1)


def test_a_config_that_says_something_else_is_another_job(tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("top = 2\n")
    first = job_of(("sweep", "small.toml"), tmp_path)
    assert first == job_of(("sweep", str(config)), tmp_path)
    config.write_text("top = 3\n")
    assert first != job_of(("sweep", "small.toml"), tmp_path)


def test_what_is_no_command_or_no_job_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no command 'swep' to run as a job; there are .*sweep"):
        aster("job", "start", "swep")
    with pytest.raises(LookupError, match="no jobs of a name that begins with 'x'; there are: none"):
        aster("job", "attach", "x")
    assert jobs.jobs() == []
