"""Jobs: command lines that outlive the notebook, shell or page that started them, and can be met again.

A job's folder in ``pipelines/runs/jobs`` holds ``job.json`` (what runs, where, since when), ``progress.json``, what it
printed and complained in ``job.out`` and ``job.err``, and ``result.json`` once it has ended. While it runs it holds a
lock, which the system frees however it ends: a process that got its number later is not taken for it.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.children import PATIENCE_S, last_words
from pipelines.identity import CHECKOUT
from pipelines.runs import FINISHED, RUNNING, default_runs, write_whole

STOPPED, FAILED, LOST = "stopped", "failed", "lost"
INTERRUPTED = 130  # exit status after Ctrl-C
_JOB, _LOCK, _PROGRESS, _RESULT = "job.json", ".lock", "progress.json", "result.json"
_POLL_S = 0.2


@dataclass(frozen=True)
class Job:
    """A job's folder."""

    path: Path

    @property
    def name(self) -> str:
        """Its folder's name, such as sweep-3f2a9c1d."""
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """Its ``command`` as words, the folder ``where`` it runs, the ``pid`` of its process group, and ``started``."""
        return self._read(_JOB)

    @property
    def state(self) -> str:
        """Running, finished, stopped (as by Ctrl-C), failed, or lost: gone without a word about how it ended."""
        if self._is_running():
            return RUNNING
        status = self.status
        return LOST if status is None else {0: FINISHED, INTERRUPTED: STOPPED}.get(status, FAILED)

    @property
    def status(self) -> int | None:
        """Exit status; None where it is not known."""
        return self._read(_RESULT).get("status")

    @property
    def progress(self) -> dict[str, list[int]]:
        """Per step how much is done, and of how much."""
        return self._read(_PROGRESS)

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(errors="replace")

    @property
    def complained(self) -> str:
        """What it has said on standard error so far."""
        return self._err.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The last it said on standard error."""
        return last_words(self._err)

    def as_json(self) -> dict[str, Any]:
        """All that is known of it, its output aside."""
        known = {"job": self.name, "state": self.state, **self.about, "progress": self.progress}
        return {**known, "status": None, "ended": None, **self._read(_RESULT), "folder": str(self.path)}

    def follow(self, tell: Callable[[str, int, int], None]) -> str:
        """Tell (what, done, total) as it changes until the job has ended, and the state in which it did."""
        told: dict[str, list[int]] = {}
        while True:
            state = self.state  # before its progress: what it wrote last is told
            for what, (done, total) in self.progress.items():
                if told.get(what) != [done, total]:
                    told[what] = [done, total]
                    tell(what, done, total)
            if state != RUNNING:
                return state
            time.sleep(_POLL_S)

    def stop(self) -> str:
        """Interrupt it as Ctrl-C does, and kill it when that does not help; its state then."""
        if self.state != RUNNING:
            return self.state
        for number in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self.about["pid"], number)
            deadline = time.monotonic() + PATIENCE_S
            while self.state == RUNNING and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            if self.state != RUNNING:
                break
        if self.state == LOST:  # killed, or interrupted before it could listen
            self.write_result(INTERRUPTED)
        return self.state

    def write_progress(self, steps: dict[str, tuple[int, int]]) -> None:
        """Note how far it is."""
        self._write(_PROGRESS, steps)

    def write_result(self, status: int) -> None:
        """Note how it ended."""
        self._write(_RESULT, {"status": status, "ended": _now()})

    def begin(self, command: Sequence[str], where: Path) -> bool:
        """Start its process; false when it runs already."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT)
        try:
            while not _takes(lock, fcntl.LOCK_EX):  # somebody may only have looked whether it runs
                if self._is_running():
                    return False
            for name in (_JOB, _PROGRESS, _RESULT):
                (self.path / name).unlink(missing_ok=True)
            with self._out.open("wb") as out, self._err.open("wb") as err:
                process = subprocess.Popen(
                    [sys.executable, "-m", "pipelines.job_process", str(self.path), str(where), *command],
                    cwd=CHECKOUT,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,  # neither Ctrl-C nor a closed terminal or kernel reaches it
                    pass_fds=(lock,),
                )
            threading.Thread(target=process.wait, daemon=True).start()  # as its parent goes on, it leaves no zombie
            about = {"command": list(command), "where": str(where), "pid": process.pid, "started": _now()}
            self._write(_JOB, about)
        finally:
            os.close(lock)  # the process has it still
        return True

    @property
    def _out(self) -> Path:
        return self.path / "job.out"

    @property
    def _err(self) -> Path:
        return self.path / "job.err"

    def _is_running(self) -> bool:
        with suppress(FileNotFoundError), (self.path / _LOCK).open("rb") as lock:
            return not _takes(lock.fileno(), fcntl.LOCK_SH)
        return False

    def _read(self, name: str) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            return json.loads((self.path / name).read_text())
        return {}

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_whole(self.path / name, (json.dumps(content, indent=2) + "\n").encode())


def start(command: Sequence[str], where: Path) -> tuple[Job, bool]:
    """The job of an ``aster`` command line, which runs from now on if it did not; and whether it did.

    Parameters
    ----------
    command : its words, such as sweep, CONFIG.toml.
    where : the folder that its paths are relative to.
    """
    job = job_of(command, where)
    return job, not job.begin(command, where)


def job_of(command: Sequence[str], where: Path) -> Job:
    """The one job of a command line in a folder: of the same words, the same lake, and TOML files that say the same."""
    digest = hashlib.sha256(f"{where.resolve()}\0{os.environ.get('ASTER_LAKE', '')}".encode())
    for word in command:
        path = where / word
        is_config = word.endswith(".toml") and path.is_file()
        digest.update(f"\0{path.resolve() if is_config else word}".encode() + (path.read_bytes() if is_config else b""))
    return Job(_folder() / f"{command[0]}-{digest.hexdigest()[:8]}")


def jobs() -> list[Job]:
    """All jobs, the one started last at the end."""
    return sorted((Job(path.parent) for path in _folder().glob(f"*/{_JOB}")), key=lambda job: job.about["started"])


def open_job(name: str) -> Job:
    """A job by its name or the beginning of it.

    Raises
    ------
    LookupError
        When it is none's or several's, naming the jobs there are.
    """
    there = jobs()
    found = [job for job in there if job.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(job.name for job in there) or "none"
        raise LookupError(f"{len(found) or 'no'} jobs of a name that begins with {name!r}; there are: {names}")
    return found[0]


def _folder() -> Path:
    return default_runs().resolve() / "jobs"


def _takes(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
