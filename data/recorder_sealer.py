"""The recorder's child process, which seals closed segments: decoding and Parquet never delay a frame."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from data import wal

_RESTART_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # after so many deaths in a row


class Sealing:
    """``python -m data.sealer --follow`` as a child of this process.

    It is told the names of closed segments and says of each what landed; what it could not seal it tries again with
    every further name. It has its own session, so Ctrl-C does not reach it, and when this process dies it finishes what
    it was told and ends. A child that dies is started again.

    Attributes
    ----------
    landed : rows added per table. already_present, conflicts, quarantined, cut_bytes : as ``data.sealer`` counts them.
    """

    def __init__(self, folder: Path, lake: Path) -> None:
        self._command = (sys.executable, "-m", "data.sealer", str(folder), str(lake), "--follow")
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task | None = None
        self._given: set[str] = set()
        self._refused: dict[str, str] = {}  # segments that could not be sealed so far, and why
        self._death: str | None = None
        self._deaths = 0
        self._is_closing = False
        self.landed: Counter[str] = Counter()
        self.already_present = self.conflicts = self.quarantined = self.cut_bytes = 0

    async def start(self) -> None:
        """Start the child."""
        await self._spawn()
        self._following = asyncio.create_task(self._follow())

    @property
    def is_busy(self) -> bool:
        """Whether it has a segment that it has not tried yet."""
        return len(self._given) > len(self._refused)

    @property
    def trouble(self) -> str | None:
        """Why something that was closed is not in the lake; None when all is well."""
        return next(iter(self._refused.values()), self._death)

    def give_closed(self) -> None:
        """Give it every segment that nobody writes to any more and that it does not have."""
        if self._process.returncode is not None:
            return
        for path in wal.segments(self._folder):
            if path.name not in self._given and _is_closed(path):
                self._given.add(path.name)
                self._process.stdin.write(f"{path.name}\n".encode())

    async def finish(self) -> None:
        """Give it what is left; return when everything is sealed or refused, and the child has ended."""
        self._is_closing = True
        self.give_closed()
        self._process.stdin.close()
        await self._following

    async def _follow(self) -> None:
        """Read what the child says; start it again when it dies."""
        while True:
            async for line in self._process.stdout:
                self._heard(json.loads(line))
            status = await self._process.wait()
            if not self._is_closing or self._given:
                self._death = f"the sealer ended with status {status}; what it was sealing stays in the log"
            if not self._is_closing:
                await asyncio.sleep(_RESTART_S[min(self._deaths, len(_RESTART_S) - 1)])
            if self._is_closing:
                return
            self._deaths += 1
            self._given.clear()
            self._refused.clear()
            await self._spawn()

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )

    def _heard(self, told: dict) -> None:
        """Count what became of one segment."""
        name = told["segment"]
        if "error" in told and (self._folder / name).exists():
            self._refused[name] = told["error"]
            return
        self._given.discard(name)
        self._refused.pop(name, None)
        if "error" in told:  # sealed a moment ago by the child of a recorder that was killed
            return
        self._death = None
        self._deaths = 0
        self.landed.update(told["landed"])
        self.already_present += told["present"]
        self.conflicts += told["conflicts"]
        self.quarantined += told["quarantined"]
        self.cut_bytes += told["cut_bytes"]


def _is_closed(path: Path) -> bool:
    """Whether nobody writes to the segment; false too when it was sealed and removed a moment ago."""
    try:
        return not wal.is_growing(path)
    except FileNotFoundError:
        return False
