"""What history the lake lacks, and what it would cost to ask for it: the first half of ``aster backfill``.

Nothing is noted down anywhere: the lake says what is there, its gap ledger what the exchange does not have. A backfill
that was interrupted is planned anew, and what it brought is no longer lacking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from data.lacking import HOUR_MS, Stretch, lacking_bars, lacking_fundings, lacking_trades, moment, to_ms
from data.lake import Lake
from data.recorder_rest import CONTRACTS, check_symbols, settled_ms, statuses
from data.schema import FUNDING, INDEX_KLINES, INSTRUMENTS, KLINES, MARK_KLINES, TRADES, interval_ms
from data.venues.aster import AsterRest
from data.venues.questions import Question
from data.venues.weights import Budget, weight_of

BACKFILLED = (KLINES.name, MARK_KLINES.name, INDEX_KLINES.name, FUNDING.name, TRADES.name)
PATHS = {
    KLINES.name: "/fapi/v3/klines",
    MARK_KLINES.name: "/fapi/v3/markPriceKlines",
    INDEX_KLINES.name: "/fapi/v3/indexPriceKlines",
    FUNDING.name: "/fapi/v3/fundingRate",
    TRADES.name: "/fapi/v3/aggTrades",
}
BARS_PER_ANSWER = 499  # the most per unit of request weight
EVENTS_PER_ANSWER = 1_000
TRADES_PER_ANSWER = 1_000
TRADES_WEIGHT = 20
_ANSWER_S = 0.15  # one question after the other; what an answer of the exchange took others


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be asked.

    Parameters
    ----------
    stretches : what the lake lacks and the exchange may have.
    absent : what it lacks and the exchange does not have: mostly the time before a contract was listed.
    active : hours (or days) in which each symbol traded, [start, end) in ms, in time order; only of those whose trades
        are asked for.
    contracts_wanted : symbols whose rules the lake does not know at all.
    """

    stretches: tuple[Stretch, ...]
    absent: tuple[Stretch, ...] = ()
    active: Mapping[str, Sequence[tuple[int, int]]]
    contracts_wanted: tuple[str, ...] = ()
    per_minute: int

    @property
    def requests(self) -> int:
        """How many GETs."""
        return sum(stretch.requests for stretch in self.stretches)

    @property
    def weight(self) -> int:
        """Request weight of all of them."""
        return sum(stretch.weight for stretch in self.stretches)

    @property
    def rows(self) -> int:
        """Rows that will arrive, about."""
        return sum(stretch.rows for stretch in self.stretches)

    @property
    def minutes(self) -> float:
        """How long it takes, about: what the budget allows, or what the answers take one after the other."""
        return max(self.weight / self.per_minute, self.requests * _ANSWER_S / 60)

    def table(self) -> list[dict[str, Any]]:
        """One row per table and symbol, for a human."""
        told: dict[tuple[str, str], dict[str, Any]] = {}
        for stretch in self.stretches:
            row = told.setdefault(
                (stretch.table, stretch.symbol),
                {
                    "table": stretch.table if stretch.interval is None else f"{stretch.table} {stretch.interval}",
                    "symbol": stretch.symbol,
                    "from": moment(stretch.start_ms),
                    "to": moment(stretch.end_ms),
                    "stretches": 0,
                    "rows": 0,
                    "requests": 0,
                    "weight": 0,
                },
            )
            row["from"], row["to"] = min(row["from"], moment(stretch.start_ms)), max(row["to"], moment(stretch.end_ms))
            row["stretches"] += 1
            for name in ("rows", "requests", "weight"):
                row[name] += getattr(stretch, name)
        return list(told.values())


async def plan_backfill(
    lake: Lake,
    rest: AsterRest,
    budget: Budget,
    *,
    symbols: Sequence[str],
    start: datetime,
    end: datetime | None = None,
    tables: Sequence[str] = BACKFILLED,
    interval: str = "1m",
) -> Plan:
    """What of [start, end) the lake lacks and how much asking for it takes. Asks the exchange a little to know.

    Parameters
    ----------
    end : UTC; None, or later than now, for now. Bars of the last minutes are left out: they may change.
    interval : of the klines.

    Raises
    ------
    ValueError
        When the exchange has no such symbol, a table cannot be backfilled, or the range is empty.
    Unavailable
        When the exchange does not answer.
    """
    for name in tables:
        if name not in BACKFILLED:
            raise ValueError(f"table {name} has no history at the exchange; expected some of {', '.join(BACKFILLED)}")
    await budget.take(1)
    check_symbols(symbols, statuses(await rest.ask(CONTRACTS)))
    await budget.take(1)
    now_ms = int((await rest.get_json("/fapi/v3/time"))["serverTime"])
    start_ms = to_ms(start)
    end_ms = now_ms if end is None else min(to_ms(end), now_ms)
    if start_ms >= end_ms:
        raise ValueError(
            f"nothing to ask: start {moment(start_ms):%Y-%m-%d %H:%M} is not before {moment(end_ms):%Y-%m-%d %H:%M}"
        )
    asking = _Asking(lake, rest, budget)
    found: list[Stretch] = []
    absent: list[Stretch] = []
    active: dict[str, list[tuple[int, int]]] = {}
    for table in (name for name in BACKFILLED if name in tables):
        for symbol in symbols:
            if table == TRADES.name:
                stretches, active[symbol] = await asking.trades(symbol, start_ms, end_ms)
                found += stretches
            elif table == FUNDING.name:
                found += asking.fundings(symbol, start_ms, end_ms)
            else:
                until_ms = min(end_ms, settled_ms(interval, now_ms) + 1)
                stretches, before = await asking.bars(table, symbol, interval, start_ms, until_ms)
                found += stretches
                absent += before
    known = lake.symbols(INSTRUMENTS.name)
    return Plan(
        stretches=tuple(found),
        absent=tuple(absent),
        active=active,
        contracts_wanted=tuple(symbol for symbol in symbols if symbol not in known),
        per_minute=budget.per_minute,
    )


class _Asking:
    """Finds what is lacking, stream by stream."""

    def __init__(self, lake: Lake, rest: AsterRest, budget: Budget) -> None:
        self._lake = lake
        self._rest = rest
        self._budget = budget

    async def bars(
        self, table: str, symbol: str, interval: str, start_ms: int, end_ms: int
    ) -> tuple[list[Stretch], list[Stretch]]:
        """Stretches of klines to ask for; and what lies before the first bar that the exchange has."""
        found: list[Stretch] = []
        absent: list[Stretch] = []
        for stretch in lacking_bars(self._lake, table, symbol, interval, start_ms, end_ms):
            if stretch.is_leading:
                oldest_ms = min(await self._oldest(stretch), stretch.end_ms)
                if oldest_ms > stretch.start_ms:
                    absent.append(replace(stretch, end_ms=oldest_ms))
                stretch = replace(stretch, start_ms=oldest_ms)
            if asked := bar_questions(stretch):
                rows = (stretch.end_ms - stretch.start_ms) // interval_ms(interval)
                weight = sum(weight_of(each.path, each.params) for each in asked)
                found.append(replace(stretch, rows=rows, requests=len(asked), weight=weight))
        return found, absent

    def fundings(self, symbol: str, start_ms: int, end_ms: int) -> list[Stretch]:
        """The stretch of fundings to ask for."""
        found = []
        for stretch in lacking_fundings(self._lake, symbol, start_ms, end_ms):
            requests = -(-stretch.rows // EVENTS_PER_ANSWER)
            found.append(replace(stretch, requests=requests, weight=requests))
        return found

    async def trades(self, symbol: str, start_ms: int, end_ms: int) -> tuple[list[Stretch], list[tuple[int, int]]]:
        """Stretches of trades that are lacking, and the hours in which the symbol traded."""
        stretches = lacking_trades(self._lake, symbol, start_ms, end_ms)
        if not stretches:
            return [], []
        traded = await self._traded(symbol, start_ms, end_ms)
        told = []
        for stretch in stretches:
            if stretch.first_id is not None and stretch.last_id is not None:
                rows = stretch.last_id - stretch.first_id + 1
            else:
                rows = sum(
                    count
                    * max(min(until_ms, stretch.end_ms) - max(begin_ms, stretch.start_ms), 0)
                    // (until_ms - begin_ms)
                    for begin_ms, until_ms, count in traded
                )
            if not rows and stretch.first_id is None and stretch.last_id is None:
                continue  # nothing was traded
            requests = max(-(-rows // TRADES_PER_ANSWER), 1)
            told.append(replace(stretch, rows=rows, requests=requests, weight=requests * TRADES_WEIGHT))
        return told, [(begin_ms, until_ms) for begin_ms, until_ms, count in traded if count]

    async def _oldest(self, stretch: Stretch) -> int:
        """Opening time of the first bar that the exchange has in or after a stretch; its end where it has none."""
        params = {**_of(stretch), "startTime": stretch.start_ms, "limit": 1}
        bars = await self._ask(Question(path=PATHS[stretch.table], params=params))
        return int(bars[0][0]) if bars else stretch.end_ms

    async def _traded(self, symbol: str, start_ms: int, end_ms: int) -> list[tuple[int, int, int]]:
        """(start, end, trades) per hour, or per day of a long range; single fills, so at least as many as trades."""
        interval = "1h" if end_ms - start_ms <= BARS_PER_ANSWER * HOUR_MS else "1d"
        length_ms = interval_ms(interval)
        whole = Stretch(
            table=KLINES.name,
            symbol=symbol,
            interval=interval,
            start_ms=start_ms // length_ms * length_ms,
            end_ms=-(-end_ms // length_ms) * length_ms,
        )
        bars = [bar for question in bar_questions(whole) for bar in await self._ask(question)]
        return [(int(bar[0]), int(bar[0]) + length_ms, int(bar[8])) for bar in bars]

    async def _ask(self, question: Question) -> list:
        await self._budget.take(weight_of(question.path, question.params))
        return await self._rest.get_json(question.path, **question.params)


def bar_questions(stretch: Stretch) -> list[Question]:
    """The questions for a stretch of klines, oldest first."""
    step_ms = interval_ms(stretch.interval)
    asked = []
    for begin_ms in range(stretch.start_ms, stretch.end_ms, BARS_PER_ANSWER * step_ms):
        count = min((stretch.end_ms - begin_ms) // step_ms, BARS_PER_ANSWER)
        span = {"startTime": begin_ms, "endTime": begin_ms + (count - 1) * step_ms, "limit": count}
        asked.append(Question(path=PATHS[stretch.table], params={**_of(stretch), **span}))
    return asked


def _of(stretch: Stretch) -> dict[str, str]:
    """Whose klines are asked for: an index price belongs to a pair."""
    return {"pair" if stretch.table == INDEX_KLINES.name else "symbol": stretch.symbol, "interval": stretch.interval}
