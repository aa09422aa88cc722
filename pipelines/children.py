"""Processes of a job: they stop when it ends, however it ends, and what one says before it dies is told.

A child runs ``python -m pipelines.children MODULE ARGUMENTS``: MODULE as a program, in a session of its own, with a
pipe from the job as its input. When the job dies the pipe ends, and the child gets SIGTERM from itself.
"""

import fcntl
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0  # for a child to stop by itself, and for the children of a killed job to be gone
_POLL_S = 0.2


class ChildFailed(ValueError):
    """A process of the job ended by itself; the message has its last words."""


class Child:
    """One process. What it prints and complains stands in ``<logs>/<name>.out`` and ``.err``."""

    def __init__(self, name: str, module: str, *arguments: str, logs: Path, lock: int) -> None:
        self.name = name
        logs.mkdir(parents=True, exist_ok=True)
        self._out, self._err = logs / f"{name}.out", logs / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.children", module, *arguments],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C reaches the job alone, which stops its children in order
                pass_fds=(lock,),
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    def is_running(self) -> bool:
        """Whether it still runs; ``ChildFailed`` when it failed."""
        status = self._process.poll()
        if status:
            how = f"ended with status {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"
            raise ChildFailed(f"the {self.name} {how}: {last_words(self._err)}")
        return status is None

    def until(self, is_done: Callable[[], bool], *others: "Child") -> None:
        """Return once ``is_done``, or when the child has ended well.

        Raises
        ------
        ChildFailed
            When it failed, or one of ``others`` ended, which it cannot go on without.
        """
        while self.is_running():
            for other in others:
                if not other.is_running():
                    raise ChildFailed(f"the {other.name} ended before the {self.name} did: {last_words(other._err)}")
            if is_done():
                return
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Ask it to stop, and make it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdin.close()


def last_words(errors: Path) -> str:
    """The last line of what a process complained, as a reason."""
    lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ").removeprefix("error: ") if lines else f"it did not say why ({errors})"


@contextmanager
def alone_in(folder: Path) -> Iterator[int]:
    """Keep every other job out of a folder; yields the lock's descriptor.

    Children inherit it, so what a killed job left running is waited for.

    Raises
    ------
    ValueError
        When another job works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"another process works in {folder}: wait for it, or give another folder"
                    ) from None
                time.sleep(_POLL_S)
        yield lock
    finally:
        os.close(lock)


def _end_with_the_job() -> None:
    """Wait for the pipe to end. Without a buffer, whose lock could not be had when the interpreter shuts down."""
    while os.read(0, 4_096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_job, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
