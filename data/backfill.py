"""History by REST: what the plan of ``data.backfill_plan`` lists is asked for, logged raw and sealed.

Newest first: what is most wanted is there first. A backfill may be killed at any moment: what was answered is in
the log and becomes rows when the next one, or a recorder, starts; what was not is still lacking and asked then.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from data.answers import AnswerLog
from data.backfill_plan import EVENTS_PER_ANSWER, PATHS, TRADES_PER_ANSWER, Plan, bar_questions
from data.clock import Clock
from data.gaps import HOLES, gap_rows
from data.lacking import HOUR_MS, Stretch, lacking_bars, lacking_fundings, moment, to_ms
from data.lake import Lake
from data.recorder_rest import CONTRACTS, INTERVALS
from data.schema import FUNDING, GAPS, TRADES, interval_ms
from data.stored_days import BARS, holes
from data.venues.aster import AsterRest
from data.venues.questions import Question
from data.venues.weights import Budget

Tell = Callable[[str, int, int], None]
_ANSWERS_PER_SEAL = 1_000
_SLAB_MS = 30 * 24 * HOUR_MS  # all streams of a month are asked before the month before: few files, each with many


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a backfill brought.

    Parameters
    ----------
    landed : new rows per table.
    asked, weight : answers, and their request weight.
    lost : what the exchange turned out not to have, rows of ``gaps``.
    """

    landed: dict[str, int]
    asked: int
    weight: int
    lost: pl.DataFrame


async def backfill(
    lake: Lake,
    rest: AsterRest,
    budget: Budget,
    clock: Clock,
    plan: Plan,
    *,
    tell: Tell | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Ask for everything in the plan and store it. What the exchange does not have is told in the gap ledger.

    Parameters
    ----------
    tell : called with (what, done, total): answers of a table, or about so many trades of a symbol.
    say : called with a sentence when the exchange makes us wait.

    Raises
    ------
    Unavailable
        When the exchange does not answer. What it answered before is stored.
    """
    async with AnswerLog(lake, rest, budget, clock, tell=say) as answers:
        run = _Run(answers, plan, tell or (lambda *_: None))
        await run.contracts()
        await run.bars()
        await run.fundings()
        await run.trades()
        await answers.seal()
        lost = _lost(lake, plan, run.begun, clock.now())
        if not lost.is_empty():
            lake.append(GAPS.name, lost, origin="backfill")
        return Report(landed=dict(answers.landed), asked=answers.asked, weight=answers.weight, lost=lost)


class _Run:
    """Asks, table by table.

    Attributes
    ----------
    begun : leading stretches of trades whose start was not reached, with the time of the first trade there is.
    """

    def __init__(self, answers: AnswerLog, plan: Plan, tell: Tell) -> None:
        self.begun: list[tuple[Stretch, int]] = []
        self._answers = answers
        self._plan = plan
        self._tell = tell
        self._unsealed = 0
        self._rows: Counter[str] = Counter()  # trades that came, per symbol

    async def contracts(self) -> None:
        """The rules of contracts of which the lake knows none, and how often they pay funding."""
        if self._plan.contracts_wanted:
            await self._ask(INTERVALS)
            await self._ask(CONTRACTS)

    async def bars(self) -> None:
        """Klines of every kind, month by month."""
        asked = [
            (stretch, question)
            for stretch in self._plan.stretches
            if stretch.table in BARS
            for question in bar_questions(stretch)
        ]
        asked.sort(key=lambda each: (-(each[1].params["startTime"] // _SLAB_MS), *_place(*each)))
        total, done = Counter(stretch.table for stretch, _ in asked), Counter()
        for stretch, question in asked:
            await self._ask(question)
            done[stretch.table] += 1
            self._tell(stretch.table, done[stretch.table], total[stretch.table])

    async def fundings(self) -> None:
        """Settled fundings of every symbol in one segment: its answer on intervals dates them all."""
        wanted = [stretch for stretch in self._plan.stretches if stretch.table == FUNDING.name]
        if not wanted:
            return
        await self._seal()
        await self._ask(INTERVALS)
        for done, stretch in enumerate(wanted, 1):
            begin_ms = stretch.start_ms
            while begin_ms < stretch.end_ms:
                span = {"startTime": begin_ms, "endTime": stretch.end_ms - 1, "limit": EVENTS_PER_ANSWER}
                events = await self._ask(Question(path=PATHS[FUNDING.name], params={"symbol": stretch.symbol, **span}))
                if len(events) < EVENTS_PER_ANSWER:
                    break
                begin_ms = int(events[-1]["fundingTime"]) + 1
            self._tell(FUNDING.name, done, len(wanted))

    async def trades(self) -> None:
        """Aggregate trades, symbol by symbol."""
        wanted = [stretch for stretch in self._plan.stretches if stretch.table == TRADES.name]
        for stretch in sorted(wanted, key=lambda each: (each.symbol, -each.end_ms)):
            if stretch.first_id is not None:
                await self._onward(stretch, stretch.first_id)
            elif stretch.last_id is not None:
                await self._back(stretch, stretch.last_id, stretch.end_ms)
            else:
                await self._unknown(stretch)
        for symbol, came in self._rows.items():
            self._tell(f"{TRADES.name} {symbol}", came, came)

    async def _onward(self, stretch: Stretch, next_id: int) -> None:
        """From an id on, to the end of the stretch."""
        while stretch.last_id is None or next_id <= stretch.last_id:
            limit = TRADES_PER_ANSWER
            if stretch.last_id is not None:
                limit = min(limit, stretch.last_id - next_id + 1)
            came = await self._trades(stretch.symbol, fromId=next_id, limit=limit)
            if len(came) < limit or came[-1]["T"] >= stretch.end_ms:
                return
            next_id = came[-1]["a"] + 1

    async def _back(self, stretch: Stretch, last_id: int, first_ms: int) -> None:
        """From an id back, to the start of the stretch or of what the exchange has.

        Parameters
        ----------
        first_ms : time of the trade after ``last_id``.
        """
        while last_id >= 0:
            first_id = max(last_id + 1 - TRADES_PER_ANSWER, 0)
            came = await self._trades(stretch.symbol, fromId=first_id, limit=last_id + 1 - first_id)
            came = [trade for trade in came if trade["a"] <= last_id]
            if not came:
                break
            last_id, first_ms = came[0]["a"] - 1, came[0]["T"]
            if first_ms < stretch.start_ms:
                return
            if first_id == 0:
                break
        self.begun.append((stretch, first_ms))

    async def _unknown(self, stretch: Stretch) -> None:
        """Where no id is stored near: the last hour with trades tells one."""
        for begin_ms, until_ms in _hours_back(self._plan.active[stretch.symbol], stretch):
            came = await self._trades(stretch.symbol, startTime=begin_ms, endTime=until_ms - 1, limit=TRADES_PER_ANSWER)
            if came:
                if len(came) == TRADES_PER_ANSWER:
                    await self._onward(stretch, came[-1]["a"] + 1)
                await self._back(stretch, came[0]["a"] - 1, came[0]["T"])
                return

    async def _trades(self, symbol: str, **asked: int) -> list[dict[str, Any]]:
        came = await self._ask(Question(path=PATHS[TRADES.name], params={"symbol": symbol, **asked}))
        self._rows[symbol] += len(came)
        expected = sum(each.rows for each in self._plan.stretches if (each.table, each.symbol) == (TRADES.name, symbol))
        self._tell(f"{TRADES.name} {symbol}", self._rows[symbol], max(expected, self._rows[symbol]))
        return came

    async def _ask(self, question: Question) -> list[Any]:
        body = await self._answers.ask(question)
        self._unsealed += 1
        if self._unsealed >= _ANSWERS_PER_SEAL:
            await self._seal()
        return json.loads(body)

    async def _seal(self) -> None:
        self._unsealed = 0
        await self._answers.seal()


def _place(stretch: Stretch, question: Question) -> tuple[str, str, int]:
    return stretch.table, stretch.symbol, -question.params["startTime"]


def _hours_back(active: Iterable[tuple[int, int]], stretch: Stretch) -> Iterator[tuple[int, int]]:
    """The hours of a stretch in which something was traded, latest first, [start, end) in ms."""
    for begin_ms, until_ms in reversed(list(active)):
        begin_ms, until_ms = max(begin_ms, stretch.start_ms), min(until_ms, stretch.end_ms)
        while begin_ms < until_ms:
            yield max(begin_ms, until_ms - HOUR_MS), until_ms
            until_ms -= HOUR_MS


def _lost(lake: Lake, plan: Plan, begun: Iterable[tuple[Stretch, int]], now: datetime) -> pl.DataFrame:
    """Rows of ``gaps`` for what was asked and did not come."""
    lost = [GAPS.empty()]
    missing: list[tuple[Stretch, pl.DataFrame]] = [(stretch, _bars_missing(stretch)) for stretch in plan.absent]
    for stretch in plan.stretches:
        span = (stretch.start_ms, stretch.end_ms)
        if stretch.table in BARS:
            lacking = lacking_bars(lake, stretch.table, stretch.symbol, stretch.interval, *span)
            missing += [(stretch, _bars_missing(each)) for each in lacking]
        elif stretch.table == TRADES.name and stretch.first_id is not None and stretch.last_id is not None:
            found = holes(lake, TRADES.name, stretch.symbol, moment(span[0]), moment(span[1] + 1))
            is_own = (pl.col("from_id") >= stretch.first_id) & (pl.col("to_id") <= stretch.last_id)
            missing.append((stretch, found.filter(is_own)))
        elif stretch.table == FUNDING.name:
            events = lake.scan(FUNDING.name, symbols=[stretch.symbol], start=moment(span[0]), end=moment(span[1] + 1))
            again = lacking_fundings(lake, stretch.symbol, *span)
            if len(events) and again and again[0].start_ms == stretch.start_ms:
                begun = [*begun, (stretch, to_ms(events["event_time"][0]))]
    for stretch, first_ms in begun:
        if first_ms > stretch.start_ms:
            span = (moment(stretch.start_ms), moment(first_ms))
            missing.append((stretch, _hole(stretch, *span, missing=None, is_estimate=True)))
    for stretch, rows in missing:
        source = PATHS[stretch.table]
        lost.append(gap_rows(rows, cause="exchange", detected_time=now, state="unrepairable", repair_source=source))
    return pl.concat(lost)


def _bars_missing(stretch: Stretch) -> pl.DataFrame:
    """``HOLES`` of a stretch of klines of which none came."""
    step_ms = interval_ms(stretch.interval)
    before, after = moment(stretch.start_ms - step_ms), moment(stretch.end_ms)
    return _hole(stretch, before, after, missing=(stretch.end_ms - stretch.start_ms) // step_ms, is_estimate=False)


def _hole(stretch: Stretch, from_time: datetime, to_time: datetime, **told: Any) -> pl.DataFrame:
    owner = {"table": stretch.table, "venue": "aster", "symbol": stretch.symbol, "interval": stretch.interval}
    return pl.DataFrame([{**owner, "from_time": from_time, "to_time": to_time, **told}], schema=HOLES)
