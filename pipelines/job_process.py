"""The process of a job: ``python -m pipelines.job_process FOLDER WHERE COMMAND...`` runs an ``aster`` command line.

FOLDER is the job's, which learns how far the command is and how it ended; WHERE is the folder that it runs in.
"""

import os
import signal
import sys
import time
from pathlib import Path

from pipelines.jobs import INTERRUPTED, Job

_EVERY_S = 0.5


class _Progress:
    """Told (what, done, total) often, writes it down rarely: when a step begins, and twice a second."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._steps: dict[str, tuple[int, int]] = {}
        self._next_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        is_new = what not in self._steps
        self._steps[what] = (done, total)
        if is_new or time.monotonic() >= self._next_s:
            self.write()

    def write(self) -> None:
        self._job.write_progress(self._steps)
        self._next_s = time.monotonic() + _EVERY_S


def run(job: Job, command: list[str]) -> None:
    """Run the command line, and note how it ended."""
    progress = _Progress(job)
    status = 1  # of our own bugs, whose traceback ends what it complains
    try:
        from pipelines.cli import main  # takes seconds, in which it may be stopped already

        main(command, progress)
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as ended:
        status = ended.code
    finally:
        progress.write()
        job.write_result(status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & would not hear it
    os.chdir(sys.argv[2])
    run(Job(Path(sys.argv[1])), sys.argv[3:])
