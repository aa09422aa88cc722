"""What a recorder was asked for and nobody recorded: from where a stream was heard last to the end of a day.

A hole between two rows is seen when the second one comes. Where a recorder has stopped none comes, so a day that is
over looks for itself until when each stream was heard. What lies before the first recording is no hole of it; what lies
between that and the first row is, and where the recorder did not come to ask for it, it is asked for here.
"""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from data.answers import AnswerLog
from data.beginning_questions import Beginning, first_position
from data.beginnings import before, due, is_recent
from data.clock import Clock
from data.gaps import Owner, Run, hole, moment, reach, step_ms
from data.lake import Lake
from data.ledger import SEEN, known_cause, newest, unknown
from data.ledger_heard import Carried, carried, unheard
from data.listening import CUT, OPEN, Hole
from data.recorder_status import ALIVE, read_statuses
from data.schema import TRADES
from data.stored_runs import extents, to_ms
from data.venues.aster import AsterRest
from data.venues.questions import Question
from data.venues.weights import Budget

VENUE = "aster"
_DAY = timedelta(days=1)
_HOUR_MS = 3_600_000  # the exchange looks no further for trades at once
_LOOKED_MS = 24 * _HOUR_MS  # behind the end; where nothing was traded then, up to the newest trade of all

Known = Mapping[tuple[str, str, str | None], tuple[int, int]]  # per table, symbol and interval


def asked(lake: Lake) -> dict[str, bool]:
    """The streams that the recorders of a lake were asked for last, each with whether a recorder of it lives."""
    try:
        recorders = read_statuses(lake.root)
    except LookupError:
        return {}
    found: dict[str, bool] = {}
    for recorder in recorders:
        for stream in recorder.streams:
            found[stream] = found.get(stream, False) or recorder.state in ALIVE
    return found


def unheard_ends(lake: Lake, living: Mapping[str, bool], *, end: datetime | None, now: datetime) -> list[Hole]:
    """Of each of these streams the time since it was heard last, where nobody hears it any more.

    Parameters
    ----------
    living : by stream whether a recorder of it lives, as ``asked`` tells it.
    end : until when it should have been heard, UTC; None for the end of the day in which it was heard last.
    now : of what ends later nothing is told: its recorder may come back.
    """
    found = []
    for (venue, stream), last in sorted(lake.listened().items()):
        if venue != VENUE or stream not in living:
            continue
        if last.why == OPEN and living[stream]:  # it is heard; what came since waits to be sealed
            continue
        heard = moment(last.until_ns // 10**6)
        due = end or datetime(heard.year, heard.month, heard.day, tzinfo=UTC) + _DAY
        if heard < due <= now:
            cause = "crash" if last.why in (OPEN, CUT) else last.why
            found.append(Hole(venue, stream, last.until_ns, to_ms(due) * 10**6, cause))
    return found


async def unrecorded(
    lake: Lake,
    rest: AsterRest,
    budget: Budget,
    clock: Clock,
    living: Mapping[str, bool],
    *,
    end: datetime | None = None,
    tables: Collection[str] | None = None,
) -> pl.DataFrame:
    """Rows of ``gaps`` for what of these streams nobody heard, as far as the ledger does not know it.

    Asks the exchange which trade was the first behind each end, so that trades are missing from an id to an id; and of
    streams that nobody hears now, which row was the first since listening began, where that is not known. What it
    refuses to tell, as of a contract that it has no more, keeps nothing else from being told: trades are missing from a
    time to a time then, and of a beginning nothing is known.

    Parameters
    ----------
    living, end : see ``unheard_ends``; before anybody else takes a place among the recorders.
    tables : only these; None for all.
    """
    now = clock.now()
    async with AnswerLog(lake, rest, budget, clock) as answers:  # seals what a recorder that was killed had heard
        ends = unheard_ends(lake, living, end=end, now=now)
        known = newest(lake)
        reached = _reached(known)
        found = unheard(lake, ends, [(lost.venue, lost.stream) for lost in ends])
        for lost in found:
            _, to_known_ms = reached.get((lost["table"], lost["symbol"], lost["interval"]), (0, 0))
            lost["from_time"] = max(lost["from_time"], moment(to_known_ms))
        for beginning in due(lake):
            is_heard = living.get(beginning.stream, True)  # then its recorder asks
            if beginning.venue == VENUE and not is_heard and (tables is None or beginning.table in tables):
                with suppress(ValueError):  # refused
                    lost = before(beginning, await first_position(beginning, answers.look))
                    found += [each | {"cause": known_cause(known, each)} for each in lost]
        for lost in ends:
            for carries in carried(lost.stream):
                if carries.table in SEEN and (tables is None or carries.table.name in tables):
                    found += await _unseen(lake, answers, carries, lost, reached, to_ms(now))
    return unknown(known, [lost for lost in found if tables is None or lost["table"] in tables], now)


def _reached(known: pl.DataFrame) -> Known:
    """How far the ledger's gaps of each stream reach: the last missing id, and the time of the first row behind."""
    of_venue = known.filter(pl.col("venue") == VENUE)
    ends = of_venue.group_by("table", "symbol", "interval").agg(
        pl.col("to_id").max().fill_null(0), pl.col("to_time").max().dt.epoch("ms")
    )
    return {row[:3]: row[3:] for row in ends.iter_rows()}


async def _unseen(
    lake: Lake, answers: AnswerLog, carries: Carried, lost: Hole, reached: Known, now_ms: int
) -> list[dict[str, Any]]:
    """The hole between the last row and the end of trades, bars or mark prices, where something is missing."""
    table, symbol, interval = carries
    owner: Owner = (lost.venue, symbol, interval)
    end_ms = lost.to_ns // 10**6
    facts = lake.facts([table.name], symbols=[symbol], end=moment(end_ms + 1), venue=lost.venue)
    since_ns = lake.listened()[lost.venue, lost.stream].since_ns
    stored = [run for run in extents(table, facts).get(owner, ()) if is_recent(run, (since_ns or 0) // 10**6)]
    to_id, to_known_ms = reached.get((table.name, symbol, interval), (0, 0))
    if not stored and not to_known_ms:  # it never brought anything
        if since_ns is not None:
            with suppress(ValueError):  # refused
                return await _since(since_ns // 10**6, answers, carries, lost, now_ms)
        return []
    last, last_ms = max((run.last for run in stored), default=0), max((run.last_ms for run in stored), default=0)
    if max(last_ms, to_known_ms) >= end_ms:
        return []
    if table is TRADES:
        last, last_ms = max(last, to_id), max(last_ms, to_known_ms)
        try:
            behind = await _next_id(answers, symbol, end_ms, now_ms)
        except ValueError:  # how many there were nobody knows
            edges = Run(0, 0, last_ms, last_ms), Run(1, 1, end_ms, end_ms)
            uncounted = {"from_id": None, "to_id": None, "missing": None, "is_estimate": True}
            return [hole(table, owner, *edges) | uncounted | {"cause": lost.cause}]
    else:
        step = step_ms(table, interval)
        last = max(last, to_known_ms // step - 1)
        last_ms, behind = max(last_ms, last * step), end_ms // step
    before, after = Run(last, last, last_ms, last_ms), Run(behind, behind, end_ms, end_ms)
    if behind - last <= reach(table):
        return []
    return [hole(table, owner, before, after) | {"cause": lost.cause}]


async def _since(since_ms: int, answers: AnswerLog, carries: Carried, lost: Hole, now_ms: int) -> list[dict[str, Any]]:
    """The hole from the first row since listening began to the end, where the exchange has one and the lake none."""
    table, symbol, interval = carries
    end_ms = lost.to_ns // 10**6
    if table is TRADES:
        newest_trade = await _first_trade(answers, symbol, {})
        if not newest_trade or newest_trade[0]["T"] < since_ms:
            return []
        behind = await _next_id(answers, symbol, end_ms, now_ms)
    else:
        behind = end_ms // step_ms(table, interval)
    beginning = Beginning(lost.venue, lost.stream, table.name, symbol, interval, since_ms, behind, end_ms)
    holes = before(beginning, await first_position(beginning, answers.look))
    return [each | {"cause": lost.cause} for each in holes]


async def _next_id(answers: AnswerLog, symbol: str, at_ms: int, now_ms: int) -> int:
    """The id of the first trade at a time or later, or that which the next trade will get.

    Raises
    ------
    ValueError
        When the exchange refuses to tell, or knows of no trade at all.
    """
    for begin_ms in range(at_ms, min(now_ms, at_ms + _LOOKED_MS), _HOUR_MS):
        span = {"startTime": begin_ms, "endTime": begin_ms + _HOUR_MS - 1}
        if came := await _first_trade(answers, symbol, span):
            return came[0]["a"]
    newest_trade = await _first_trade(answers, symbol, {})
    if not newest_trade:
        raise ValueError(f"{symbol}: the lake has trades, the exchange lists none")
    return newest_trade[0]["a"] + 1


async def _first_trade(answers: AnswerLog, symbol: str, span: Mapping[str, int]) -> list[dict[str, Any]]:
    """One trade: the first of an hour, or the newest."""
    asked_for = {"symbol": symbol, **span, "limit": 1}
    return json.loads(await answers.look(Question(path="/fapi/v3/aggTrades", params=asked_for)))
