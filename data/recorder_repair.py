"""Asks by REST for what the ledger says is missing; the answers go into the raw log, and the sealer settles the gaps.

Asks too what came before the first row of a stream: what the exchange says goes into the log as a note, and where that
is more than was stored the sealer tells of one more gap.

So nothing reaches the lake but through the log, and a repair that is killed is simply asked again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from data.beginning_questions import Beginning, first_position
from data.clock import Clock
from data.recorder_asking import Answered, ask_within, sleep_until
from data.recorder_logs import LOG
from data.repair_questions import questions
from data.venues.aster import AsterRest, Unavailable
from data.venues.weights import Budget

_AGAIN_S = 600.0  # a gap that is still open so long after its answers were logged is asked again; doubles every time
_LONGEST_AGAIN_S = 86_400.0
_LOOK_S = 60.0  # a bar may be asked for only when it has settled
_LEAST_PAUSE_S = 1.0  # when there is little time left
_PAUSE_S = 30.0  # after a venue that does not answer and says nothing of how long

Gap = Mapping[str, Any]  # columns of ``gaps``, times as milliseconds since 1970


class Repair:
    """Repairs the open gaps of one venue, oldest first.

    Parameters
    ----------
    log : takes answers as they come.
    note : logs a word for what happened, and figures: each question that the venue refuses for good, and which row is
        the first that it has of a stream since listening to it began.
    since_ms : when this process began to listen, milliseconds since 1970.

    Attributes
    ----------
    answers : logged so far.
    trouble : why repair waits; None when it does not. retry_after_s : how long it was told to wait, at least a second.
    """

    def __init__(
        self,
        rest: AsterRest,
        clock: Clock,
        budget: Budget,
        *,
        log: Callable[[Sequence[Answered]], None],
        note: Callable[..., None],
        since_ms: Callable[[], int],
    ) -> None:
        self.answers = 0
        self.trouble: str | None = None
        self.retry_after_s = 0.0
        self._rest = rest
        self._clock = clock
        self._budget = budget
        self._log = log
        self._note = note
        self._since_ms = since_ms
        self._open: dict[str, Gap] = {}
        self._begun: dict[str, Beginning] = {}
        self._looked = 0  # beginnings that were answered
        self._asked: dict[str, tuple[int, float]] = {}  # when it may be asked again, and after how long the next time
        self._offered = asyncio.Event()

    @property
    def gaps_open(self) -> int:
        """Gaps that may still be repaired."""
        return len(self._open)

    def offer(self, gaps: Sequence[Gap], begun: Sequence[Beginning] = ()) -> None:
        """These are open now, and of these streams it is to be asked what came first; others that were are no more."""
        self._begun = {f"{each.table} since {each.stream}": each for each in begun}
        before, self._open = self._open, {gap["gap_id"]: gap for gap in gaps}
        for what, some, others in (("gap", self._open, before), ("gap settled", before, self._open)):
            for gap_id in some:
                if gap_id not in others:
                    LOG.info(what, extra={"told": {"gap_id": gap_id}})
        self._asked = {name: told for name, told in self._asked.items() if name in self._open or name in self._begun}
        self._offered.set()

    async def run(self) -> None:
        """Repair for as long as it runs."""
        while True:
            await self.round()
            self._offered.clear()
            await self._wait()

    async def round(self) -> int:
        """Ask for all that is due, until the venue does not answer; returns how many answers and notes were logged."""
        before = self.answers + self._looked
        try:
            for gap_id, gap in list(self._open.items()):
                if self._is_due(gap_id):
                    await self._repair(gap)
            for name in list(self._begun):
                if name in self._begun and self._is_due(name):  # a snapshot may have told meanwhile
                    await self._look_before(name, self._begun[name])
            self.trouble = None
        except Unavailable as error:
            self.trouble = f"repair waits: {error}"
            self.retry_after_s = max(error.retry_after_s, _LEAST_PAUSE_S)
            LOG.warning("repair waits", extra={"told": {"reason": str(error)}})
        return self.answers + self._looked - before

    async def _wait(self) -> None:
        """Return when there may be something to ask."""
        if self.trouble is not None:
            await sleep_until(self._clock, self._clock.now_ns() + round(max(self.retry_after_s, _PAUSE_S) * 1e9))
            return
        if not self._open and not self._begun:
            await self._offered.wait()
            return
        offered = asyncio.ensure_future(self._offered.wait())
        looked = asyncio.ensure_future(self._clock.sleep(_LOOK_S))
        try:
            await asyncio.wait([offered, looked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            offered.cancel()
            looked.cancel()

    def _is_due(self, name: str) -> bool:
        again_ns, _ = self._asked.get(name, (0, 0.0))
        return self._clock.now_ns() >= again_ns

    async def _repair(self, gap: Gap) -> None:
        """Ask for one gap; nothing yet where the bars it lacks have not settled."""
        asked = questions(gap, self._clock.now_ms())
        for question in asked:
            try:
                body = await ask_within(self._rest, self._budget, question)
            except ValueError as error:
                told = {"path": question.path, "params": dict(question.params), "reason": str(error)}
                LOG.warning("REST refuses", extra={"told": told})
                self._note("refused", **told, gap_id=gap["gap_id"])
                continue
            self._log([Answered(self._clock.now_ns(), question, self._since_ms(), body)])
            self.answers += 1
        if asked:
            self._put_off(gap["gap_id"])

    async def _look_before(self, name: str, beginning: Beginning) -> None:
        """Ask which row is the first since listening began."""
        try:
            first = await first_position(beginning, partial(ask_within, self._rest, self._budget))
        except ValueError as error:
            LOG.warning("REST refuses", extra={"told": {"stream": beginning.stream, "reason": str(error)}})
        else:
            self._note("first", venue=beginning.venue, stream=beginning.stream, first=first)
            self._looked += 1
        self._put_off(name)

    def _put_off(self, name: str) -> None:
        """Ask again only when what was answered must have been sealed."""
        _, before_s = self._asked.get(name, (0, _AGAIN_S / 2))
        again_s = min(before_s * 2, _LONGEST_AGAIN_S)
        self._asked[name] = self._clock.now_ns() + round(again_s * 1e9), again_s
