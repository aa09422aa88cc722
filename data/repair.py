"""Fills the gaps of the ledger by REST, without a recorder: ``aster repair``. Answers are logged raw, then sealed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from data.answers import AnswerLog
from data.clock import Clock
from data.lake import Lake
from data.ledger import newest, open_gaps, settle
from data.listening import Listening
from data.repair_questions import is_repairable, questions
from data.schema import GAPS
from data.venues.aster import AsterRest, Unavailable
from data.venues.weights import Budget

__all__ = ["Report", "is_repairable", "questions", "repair"]

_PAGES_PER_SEAL = 60  # a minute's budget of trades: bounds the memory, and what is asked again after a kill
_ROUNDS = 3  # what an answer leaves out is asked for once more alone, which proves that the exchange does not have it


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a repair did.

    Parameters
    ----------
    gaps : how many were looked at.
    states : how many of them are open, repaired, partial or unrepairable now.
    rows : new rows per table of market data.
    asked, weight : answers and their request weight.
    trouble : why the rest was not asked, or what the exchange refused; empty when all went well.
    """

    gaps: int
    states: dict[str, int]
    rows: dict[str, int]
    asked: int
    weight: int
    trouble: tuple[str, ...]


async def repair(
    lake: Lake,
    rest: AsterRest,
    budget: Budget,
    clock: Clock,
    *,
    venue: str = "aster",
    gaps: Sequence[Mapping[str, Any]] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Ask for what the ledger says is missing, smallest gaps first, and settle them.

    May be killed and run again at any time: what was answered is logged, and only what is still missing is asked for.

    Parameters
    ----------
    rest : of the venue whose gaps are filled; an open one.
    budget : what may be asked per minute.
    venue : whose gaps.
    gaps : some of ``ledger.open_gaps``; None for all. Those of other venues are left alone.
    tell : called with a sentence per round, and whenever the exchange makes us wait.
    """
    tell = tell or (lambda sentence: None)
    chosen = [gap["gap_id"] for gap in (open_gaps(lake) if gaps is None else gaps) if gap["venue"] == venue]
    refused = Listening()
    trouble: list[str] = []
    async with AnswerLog(lake, rest, budget, clock, tell=tell) as answers:
        asked_before: dict[str, Any] = {}
        for _ in range(_ROUNDS):
            left = [
                gap
                for gap in open_gaps(lake, venue=venue)
                if gap["gap_id"] in chosen and asked_before.get(gap["gap_id"]) != gap["remaining"]
            ]
            if not left or trouble:
                break
            asked_before |= {gap["gap_id"]: gap["remaining"] for gap in left}
            tell(f"{len(left)} gaps to repair")
            try:
                await _ask(left, answers, clock, refused.refused)
            except Unavailable as error:
                trouble.append(f"{error.reason}; run the repair again later, it goes on where it was")
            await answers.seal()
            _close_refused(lake, refused, clock)
    states = newest(lake).filter(pl.col("gap_id").is_in(chosen), pl.col("venue") == venue)["state"]
    return Report(
        gaps=len(chosen),
        states=dict(sorted(Counter(states).items())),
        rows={table: count for table, count in sorted(answers.landed.items()) if table != GAPS.name},
        asked=answers.asked,
        weight=answers.weight,
        trouble=(*trouble, *refused.refused.values()),
    )


async def _ask(gaps: Sequence[Mapping[str, Any]], answers: AnswerLog, clock: Clock, refused: dict[str, str]) -> None:
    """Ask for every gap in turn; what the exchange refuses for good is told and not asked further."""
    pages = 0
    for gap in gaps:
        try:
            for question in questions(gap, clock.now_ms()):
                await answers.ask(question)
                pages += 1
                if pages % _PAGES_PER_SEAL == 0:
                    await answers.seal()
        except ValueError as error:
            refused[gap["gap_id"]] = str(error)


def _close_refused(lake: Lake, refused: Listening, clock: Clock) -> None:
    """Say in the ledger that the exchange refuses to answer."""
    if refused.refused:
        lake.append(GAPS.name, settle(lake, {}, told=refused, now=clock.now()), origin="repair")
