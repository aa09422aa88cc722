"""What a recorder does besides recording: watching the disk, and having the lake's files merged by a child process."""

import asyncio
import os
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from data.clock import Clock
from data.recorder_asking import sleep_until
from data.recorder_logs import LOG

_RESERVE_BYTES, _RESERVE_FRACTION = 64 * 2**20, 0.02  # kept for the log; the fraction on small disks
_SAMPLE_S, _SAMPLES = 60.0, 60  # the machine's seconds; an hour of samples
_FORESEEN_S = 30 * 86_400.0  # beyond that the pace of an hour says nothing
COMPACT_S = 3_600.0
_RUNS_PER_DAY = 24


class Disk:
    """How much room the lake's disk has, and for how long.

    Sealing and merging stop before the disk is full: the last bytes belong to the log.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    @property
    def free_bytes(self) -> int:
        """Room for this process."""
        told = os.statvfs(self._root)
        return told.f_bavail * told.f_frsize

    @property
    def reserve_bytes(self) -> int:
        """Room that is left to the log."""
        told = os.statvfs(self._root)
        return min(_RESERVE_BYTES, int(told.f_blocks * told.f_frsize * _RESERVE_FRACTION))

    @property
    def room_bytes(self) -> int:
        """Room for everything but the log; none or less than none when only the log may still be written."""
        return self.free_bytes - self.reserve_bytes

    def full_in_s(self) -> float | None:
        """Seconds of the machine until the disk is full at the pace of the last hour; None when it is not filling up.

        Takes a sample once a minute.
        """
        now_s, free = time.monotonic(), self.free_bytes
        if not self._samples or now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, free))
        begin_s, began_with = self._samples[0]
        taken = began_with - free
        if taken <= 0 or now_s - begin_s < _SAMPLE_S:
            return None
        left_s = free * (now_s - begin_s) / taken
        return left_s if left_s < _FORESEEN_S else None


class Compaction:
    """``python -m data.compaction`` as a child of this process, with little of the processor, hour by hour.

    The hours are those of what is recorded, so that a lake of a scaled day is kept as one of a real day is.

    The first run of a day also closes days that are over and removes raw rows that are old enough. Killed at any
    moment it leaves the lake as it was, or the next run finishes what it did.

    Attributes
    ----------
    trouble : why the last run failed; None when it did not.
    """

    def __init__(self, root: Path, disk: Disk, raw_retention_days: float, clock: Clock) -> None:
        self.trouble: str | None = None
        self._root = root
        self._clock = clock
        self._disk = disk
        self._raw_retention_days = raw_retention_days

    async def run(self) -> None:
        """Run it every hour; a disk without room is let alone."""
        runs = 0
        while True:
            await sleep_until(self._clock, self._clock.now_ns() + round(COMPACT_S * 1e9))
            if self._disk.room_bytes > 0:
                await self.once(is_daily=runs % _RUNS_PER_DAY == 0)
                runs += 1

    async def once(self, *, is_daily: bool) -> None:
        """One run; waits for its end, and ends it when cancelled."""
        command = ["nice", "-n", "10", sys.executable, "-m", "data.compaction", str(self._root)]
        command += ["--daily" if is_daily else "--hourly", "--now", self._clock.now().isoformat()]
        if is_daily:
            command += ["--raw-days", f"{self._raw_retention_days:g}"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        self.trouble = None
        if process.returncode:
            words = said.decode("utf-8", "replace").strip().splitlines()
            self.trouble = f"merging ended with status {process.returncode}: {words[-1] if words else 'no word'}"
            LOG.warning("merging failed", extra={"told": {"status": process.returncode, "said": words[-1:]}})
