"""Asks by REST for what the ledger says is missing; the answers go into the raw log, and the sealer settles the gaps.

So nothing reaches the lake but through the log, and a repair that is killed is simply asked again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.clock import Clock
from data.recorder_asking import Answered, sleep_until
from data.recorder_logs import LOG
from data.repair_questions import questions
from data.venues.aster import AsterRest, Unavailable
from data.venues.weights import Budget, weight_of

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
    note : told of each question that the venue refuses for good: path, parameters, reason, gap.
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
        self._asked: dict[str, tuple[int, float]] = {}  # when it may be asked again, and after how long the next time
        self._offered = asyncio.Event()

    @property
    def gaps_open(self) -> int:
        """Gaps that may still be repaired."""
        return len(self._open)

    def offer(self, gaps: Sequence[Gap]) -> None:
        """These are open now; others that were are no more."""
        before, self._open = self._open, {gap["gap_id"]: gap for gap in gaps}
        for what, some, others in (("gap", self._open, before), ("gap settled", before, self._open)):
            for gap_id in some:
                if gap_id not in others:
                    LOG.info(what, extra={"told": {"gap_id": gap_id}})
        self._asked = {gap_id: told for gap_id, told in self._asked.items() if gap_id in self._open}
        self._offered.set()

    async def run(self) -> None:
        """Repair for as long as it runs."""
        while True:
            await self.round()
            self._offered.clear()
            await self._wait()

    async def round(self) -> int:
        """Ask for every gap that is due, until the venue does not answer; returns how many answers were logged."""
        before = self.answers
        try:
            for gap in list(self._open.values()):
                if self._is_due(gap):
                    await self._repair(gap)
            self.trouble = None
        except Unavailable as error:
            self.trouble = f"repair waits: {error}"
            self.retry_after_s = max(error.retry_after_s, _LEAST_PAUSE_S)
            LOG.warning("repair waits", extra={"told": {"reason": str(error)}})
        return self.answers - before

    async def _wait(self) -> None:
        """Return when there may be something to ask."""
        if self.trouble is not None:
            await sleep_until(self._clock, self._clock.now_ns() + round(max(self.retry_after_s, _PAUSE_S) * 1e9))
            return
        if not self._open:
            await self._offered.wait()
            return
        offered = asyncio.ensure_future(self._offered.wait())
        looked = asyncio.ensure_future(self._clock.sleep(_LOOK_S))
        try:
            await asyncio.wait([offered, looked], return_when=asyncio.FIRST_COMPLETED)
        finally:
            offered.cancel()
            looked.cancel()

    def _is_due(self, gap: Gap) -> bool:
        again_ns, _ = self._asked.get(gap["gap_id"], (0, 0.0))
        return self._clock.now_ns() >= again_ns

    async def _repair(self, gap: Gap) -> None:
        """Ask for one gap; nothing yet where the bars it lacks have not settled."""
        asked = questions(gap, self._clock.now_ms())
        for question in asked:
            await self._budget.take(weight_of(question.path, question.params))
            try:
                body = await self._rest.ask(question)
            except ValueError as error:
                told = {"path": question.path, "params": dict(question.params), "reason": str(error)}
                LOG.warning("REST refuses", extra={"told": told})
                self._note(**told, gap_id=gap["gap_id"])
                continue
            self._budget.told(self._rest.used_weight)
            self._log([Answered(self._clock.now_ns(), question, self._since_ms(), body)])
            self.answers += 1
        if asked:
            _, before_s = self._asked.get(gap["gap_id"], (0, _AGAIN_S / 2))
            again_s = min(before_s * 2, _LONGEST_AGAIN_S)
            self._asked[gap["gap_id"]] = self._clock.now_ns() + round(again_s * 1e9), again_s
