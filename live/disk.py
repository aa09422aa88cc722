"""A disk that takes no more: entries stop, ways out are still sent, and all is written down once there is room.

A run on paper ends then, for nothing is at stake. A real one keeps a file whose only use is that it can be deleted.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data.wal import Log
from live.journal import Journal

RESERVE_BYTES = 16 << 20
GATHER_S = 0.02  # of the machine's time


class Disk:
    """Where a run's log and journal are.

    Parameters
    ----------
    tell : hears, a moment later and once, that the disk was full; None: what it refuses ends the run.
    """

    def __init__(self, log: Log, journal: Journal, tell: Callable[[str], None] | None) -> None:
        self._log, self._journal, self._tell, self._was_full = log, journal, tell, False
        self._reserve = reserve_path(journal.path)
        if tell is not None:
            journal.when_refused = self.refused

    def keep_reserve(self) -> None:
        """Take up the room that is given up when there is none left.

        Raises
        ------
        OSError
            When there is not even so much.
        """
        if self._tell is not None:
            with self._reserve.open("ab") as reserve:
                os.posix_fallocate(reserve.fileno(), 0, RESERVE_BYTES)

    def give_up_reserve(self) -> None:
        """Make room."""
        self._reserve.unlink(missing_ok=True)

    def flush(self) -> None:
        """Have the log written; what the disk does not take waits in memory, and what follows from it is done."""
        try:
            self._log.flush()
        except OSError as error:
            self.refused(error)
            with suppress(OSError):  # told already
                self._log.flush()

    async def gather(self) -> None:
        """Let what the journal is told wait for more to be written with, if only a moment; until cancelled.

        The log has it already, and a run that is killed meanwhile finds it there. Nothing else waits for the disk.
        """
        has_observed = asyncio.Event()
        self._journal.when_observed = has_observed.set
        try:
            while True:
                await has_observed.wait()
                await asyncio.sleep(GATHER_S)
                has_observed.clear()
                last = self._journal.last_seq
                with self.tried():
                    await asyncio.to_thread(self._log.sync)
                    self._journal.flush_until(last)
        finally:
            self._journal.when_observed = None
            self._journal.flush()

    @contextmanager
    def tried(self) -> Iterator[None]:
        """For what else is written beside the log."""
        try:
            yield
        except OSError as error:
            self.refused(error)

    def refused(self, error: OSError) -> None:
        """The disk refused something: raised on paper, else lived with."""
        if self._tell is None:
            raise error
        if not self._was_full:
            self._was_full = True
            self.give_up_reserve()
            print(f"the disk takes no more, only exits are sent: {error}", file=sys.stderr)
            # Later, for whoever hears it writes an event, and one may be half written now.
            asyncio.get_running_loop().call_soon(self._tell, str(error))


def reserve_path(journal: Path) -> Path:
    """The reserve of a run."""
    return journal.with_name(f"{journal.name}.reserve")
