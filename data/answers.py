"""Answers of the exchange on their way into the lake: logged as they come, then sealed like what a recorder received.

Repair and backfill ask this way: their answers are kept raw too, and one that was logged outlives a kill.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from data import wal
from data.clock import Clock
from data.lake import Lake
from data.recorder_locks import LOGS, Place, finished_segments, take_place
from data.sealer import seal
from data.venues.aster import AsterRest, Unavailable
from data.venues.questions import Question
from data.venues.weights import Budget, weight_of

PATIENCE_S = 600.0  # how long one question may be put off by an exchange that cannot answer now


class AnswerLog:
    """Asks, logs every answer in a log of its own beside those of recorders, and seals it. An async context manager.

    Entering seals what a run that was killed left behind; leaving, however that comes about, seals the rest.

    Parameters
    ----------
    lake : where the rows go.
    rest : an open one; its venue may be a loopback.
    budget : what may be asked per minute.
    clock : dates the answers.
    tell : called with a sentence when the exchange makes us wait.

    Attributes
    ----------
    landed : new rows per table so far.
    asked, weight : answers and their request weight so far.
    """

    def __init__(
        self, lake: Lake, rest: AsterRest, budget: Budget, clock: Clock, *, tell: Callable[[str], None] | None = None
    ) -> None:
        self.landed: Counter[str] = Counter()
        self.asked = 0
        self.weight = 0
        self._lake = lake
        self._rest = rest
        self._budget = budget
        self._clock = clock
        self._tell = tell or (lambda _: None)
        self._place: Place | None = None

    async def __aenter__(self) -> Self:
        self._place = take_place(self._lake.root, {})  # it listens to no stream: any recorder may run beside it
        try:
            await self.seal()
        except BaseException:
            self._place.log.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.seal()
        finally:
            self._place.log.close()

    async def ask(self, question: Question) -> bytes:
        """The answer's body, logged; see ``look``."""
        body = await self.look(question)
        self.asked += 1
        recv_ns = self._clock.stamp_ns()
        # nothing in it was waited for: its receipt dates no row
        payload = wal.answer(question.path, question.params, recv_ns // 10**6 + 1, body, gap_id=question.gap_id)
        self._place.log.write(recv_ns, wal.Kind.ANSWER, wal.connection_of(question.venue), payload)
        self._place.log.flush()
        return body

    async def look(self, question: Question) -> bytes:
        """The answer's body, of which no rows are wanted. Waits for the budget, and for as long as the exchange says.

        Raises
        ------
        Unavailable
            When the exchange could not answer within ``PATIENCE_S``, or says that it will not.
        ValueError
            When the request is at fault.
        """
        give_up_ns = self._clock.now_ns() + round(PATIENCE_S * 1e9)
        weight = weight_of(question.path, question.params)
        while True:
            await self._budget.take(weight)
            self.weight += weight
            try:
                return await self._rest.ask(question)
            except Unavailable as error:
                if self._clock.now_ns() + round(error.retry_after_s * 1e9) > give_up_ns:
                    raise
                self._tell(f"{error.reason}: asking again in {error.retry_after_s:.0f} s")
                await self._clock.sleep(error.retry_after_s)
            finally:
                self._budget.told(self._rest.used_weight)

    async def seal(self) -> dict[str, int]:
        """Make rows of what was logged; returns how many are new, per table.

        Raises
        ------
        OSError, CorruptFile
            When the lake cannot take the rows. They stay logged: the next run or recorder seals them.
        """
        log = self._place.log
        log.rotate()
        await asyncio.to_thread(log.sync)
        landed: Counter[str] = Counter()
        logs = self._lake.root / LOGS
        for name in finished_segments(self._lake.root, log.folder):
            with suppress(FileNotFoundError):  # somebody else sealed it meanwhile
                sealed = await asyncio.to_thread(seal, logs / name, self._lake, keep=False)
                landed.update(sealed.landed)
        self.landed.update(landed)
        return dict(landed)
