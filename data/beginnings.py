"""What was lost before the first row of a stream.

Between two rows it shows what is missing, before the first one it does not. So the lake keeps when listening to a
stream began until it is known what its first row follows. A row from before listening began tells it, and so does one
that is the first that was due; otherwise the exchange is asked what it has since then. Where no row has come nothing is
asked.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from data.beginning_questions import Beginning
from data.gaps import Owner, Run, hole, moment, reach, runs_of, step_ms
from data.lake import Lake, Listened
from data.ledger_heard import SEEN, Carried, carried
from data.listening import Key, Listening
from data.schema import MARK_PRICE, TABLES, TRADES
from data.stored_runs import extents
from data.table import Table

_DAY_MS = 86_400_000


def due(lake: Lake) -> list[Beginning]:
    """The streams about which the exchange is to be asked what came before their first row."""
    told = _beginnings(lake, lake.listened().values(), {})
    return [beginning for beginning in told.values() if beginning is not None]


def begun(lake: Lake, tables: Mapping[str, pl.DataFrame], told: Listening) -> list[dict[str, Any]]:
    """Holes before first rows, as far as the exchange was asked; ``told`` learns which streams need no further look.

    Parameters
    ----------
    tables : rows that are about to be stored.
    """
    found = []
    for key, beginning in _beginnings(lake, told.listened(), tables).items():
        if beginning is not None and key in told.firsts:
            found += before(beginning, told.firsts[key])
        if beginning is None or key in told.firsts:
            told.join(key)
    return found


def before(beginning: Beginning, first: int | None) -> list[dict[str, Any]]:
    """The hole before a first row, where there is one: ``first`` is what ``first_position`` found."""
    table, owner = TABLES[beginning.table], (beginning.venue, beginning.symbol, beginning.interval)
    if first is None:
        return []
    edge = first if table is MARK_PRICE else first - 1
    edge_ms = beginning.since_ms if table is TRADES else edge * step_ms(table, beginning.interval)
    runs = Run(edge, edge, edge_ms, edge_ms), Run(*2 * [beginning.first], *2 * [beginning.first_ms])
    return [hole(table, owner, *runs)] if beginning.first - edge > reach(table) else []


def is_recent(run: Run, since_ms: int) -> bool:
    """Whether stored rows are no mere history where listening began at that time: they reach into the day before."""
    return run.last_ms >= since_ms - _DAY_MS


def _beginnings(
    lake: Lake, listened: Iterable[Listened], tables: Mapping[str, pl.DataFrame]
) -> dict[Key, Beginning | None]:
    """The first row of each stream whose beginning is to be looked at, None where it shows that nothing is missing."""
    found: dict[Key, Beginning | None] = {}
    asked: defaultdict[str, list[tuple[Listened, Carried]]] = defaultdict(list)
    for each in listened:
        if each.since_ns is None:
            continue
        seen = [carries for carries in carried(each.stream) if carries.table in SEEN]
        for carries in seen:
            asked[carries.table.name].append((each, carries))
        if not seen:
            found[each.venue, each.stream] = None
    for name, streams in asked.items():
        table, rows = TABLES[name], tables.get(name)
        since_ms = min(each.since_ns for each, _ in streams) // 10**6
        symbols = sorted({carries.symbol for _, carries in streams})
        facts = lake.facts([name], symbols=symbols, start=moment(since_ms - _DAY_MS))
        stored = extents(table, facts)
        new = {} if rows is None or rows.is_empty() else runs_of(table, rows)
        for each, carries in streams:
            owner: Owner = (each.venue, carries.symbol, carries.interval)
            earliest = _earliest(each.since_ns // 10**6, [*stored.get(owner, ()), *new.get(owner, ())])
            if earliest is not None:
                found[each.venue, each.stream] = _judged(each, carries, earliest)
    return found


def _earliest(since_ms: int, runs: Iterable[Run]) -> Run | None:
    """The first of the runs that reach into the day before listening began, or follow."""
    return min((run for run in runs if is_recent(run, since_ms)), default=None)


def _judged(each: Listened, carries: Carried, earliest: Run) -> Beginning | None:
    table, symbol, interval = carries
    since_ms = each.since_ns // 10**6
    if earliest.first_ms <= since_ms or earliest.first - _last_undue(table, interval, since_ms) <= reach(table):
        return None
    return Beginning(each.venue, each.stream, table.name, symbol, interval, since_ms, earliest.first, earliest.first_ms)


def _last_undue(table: Table, interval: str | None, since_ms: int) -> int:
    """The last position that listening did not have to bring; of trades only that there is none before the first id."""
    if table is TRADES:
        return -1
    return since_ms if table is MARK_PRICE else since_ms // step_ms(table, interval) - 1
