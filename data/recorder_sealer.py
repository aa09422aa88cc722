"""The recorder's child process, which seals closed segments: decoding and Parquet never delay a frame."""

import asyncio
import json
import sys
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.beginning_questions import Beginning

_RESTART_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # after so many deaths in a row
_SEGMENTS_PER_CHILD = 240  # four hours: what its allocators keep grows by a tenth of a mebibyte with each
_TOLD_AHEAD = 4  # segments: it never waits for a name, and one that is replaced in the middle of many ends soon
_LINE_BYTES = 16 << 20  # what it says of a segment holds hundreds of open gaps


class Sealing:
    """``python -m data.sealer --follow`` as a child of this process.

    It is told the names of closed segments, a few ahead, and says of each what landed; what it could not seal it tries
    again with every further name. It has its own session, so Ctrl-C does not reach it, and when this process dies it
    finishes what it was told and ends. A child that dies is started again and given what it had not finished; one that
    has sealed many segments is replaced by a fresh one, however many wait, so that memory which it keeps does not add
    up over weeks.

    Parameters
    ----------
    logs : folder of the logs: names of segments are relative to it.
    lake : folder of the lake.

    Attributes
    ----------
    landed : rows added per table. already_present, conflicts, quarantined, copies, lossy, cut_bytes : as
        ``data.sealer`` counts them.
    open_gaps : rows of the ledger that REST could still fill, as of the last segment; see ``ledger.open_gaps``.
    begun : first rows of which it is not known what came before them, as of the last segment.
    """

    def __init__(self, logs: Path, lake: Path) -> None:
        self._command = (sys.executable, "-m", "data.sealer", str(logs), str(lake), "--follow")
        self._logs = logs
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task | None = None
        self._given: dict[str, None] = {}  # in order; not sealed yet
        self._untold: deque[str] = deque()  # of them, what this child does not know of
        self._unanswered: set[str] = set()  # of them, what it was told and has not tried
        self._refused: dict[str, str] = {}  # segments that could not be sealed so far, and why
        self._news = asyncio.Event()
        self._death: str | None = None
        self._deaths = 0
        self._sealed = 0  # segments, by this child
        self._is_closing = False
        self.landed: Counter[str] = Counter()
        self.already_present = self.conflicts = self.quarantined = self.copies = self.lossy = self.cut_bytes = 0
        self.open_gaps: list[dict[str, Any]] = []
        self.begun: list[Beginning] = []

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

    def give(self, names: Iterable[str]) -> None:
        """Give it segments that nobody writes to any more; those that it has already are left out."""
        new = [name for name in names if name not in self._given]
        self._given.update(dict.fromkeys(new))
        self._untold += new
        self._tell_on()

    async def drained(self) -> None:
        """Return when everything it was given is sealed or refused."""
        while self.is_busy:
            self._news.clear()
            await self._news.wait()

    async def finish(self) -> None:
        """Return when everything is sealed or refused, and the child has ended."""
        self._is_closing = True
        self._tell_on()
        await self._following

    async def _follow(self) -> None:
        """Read what the child says; start it again when it dies."""
        while True:
            async for line in self._process.stdout:
                self._heard(json.loads(line))
                self._tell_on()
                self._news.set()
            status = await self._process.wait()
            is_replaced = status == 0 and self._sealed >= _SEGMENTS_PER_CHILD
            if not is_replaced and (self._given or not self._is_closing):
                self._death = f"the sealer ended with status {status}; what it was sealing stays in the log"
            if not is_replaced and not self._is_closing:
                await asyncio.sleep(_RESTART_S[min(self._deaths, len(_RESTART_S) - 1)])
                self._deaths += 1
            if self._is_closing and not (is_replaced and self._given):
                return
            self._refused.clear()
            await self._spawn()
            self._untold = deque(self._given)
            self._tell_on()

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        self._sealed = 0
        self._unanswered.clear()

    def _tell_on(self) -> None:
        """Name the next segments to the child; one that is dead, or about to end, leaves them to the next."""
        names = self._process.stdin
        if self._process.returncode is not None or names.is_closing():
            return
        while self._untold and len(self._unanswered) < _TOLD_AHEAD and self._sealed < _SEGMENTS_PER_CHILD:
            name = self._untold.popleft()
            self._unanswered.add(name)
            names.write(f"{name}\n".encode())
        if self._sealed >= _SEGMENTS_PER_CHILD or (self._is_closing and not self._untold):
            names.close()

    def _heard(self, told: dict[str, Any]) -> None:
        """Count what became of one segment."""
        name = told["segment"]
        self.open_gaps = told.get("open", self.open_gaps)
        if "begun" in told:
            self.begun = [Beginning(*each) for each in told["begun"]]
        if name is None:  # its first line
            return
        self._unanswered.discard(name)
        if "error" in told and (self._logs / name).exists():
            self._refused[name] = told["error"]
            return
        self._given.pop(name, None)
        self._refused.pop(name, None)
        if "error" in told:  # sealed a moment ago by the child of a recorder that was killed
            return
        self._death = None
        self._deaths = 0
        self._sealed += 1
        self.landed.update(told["landed"])
        for count in ("conflicts", "quarantined", "copies", "lossy", "cut_bytes"):
            setattr(self, count, getattr(self, count) + told[count])
        self.already_present += told["present"]
