"""Which positions of a table the lake holds: from the facts of its files, from rows only where those do not tell."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from data.gaps import Owner, Run, moment, runs_of, step_ms
from data.lake import Lake
from data.schema import TRADES
from data.table import Table

MS = timedelta(milliseconds=1)
_NEAR_MS = 600_000  # gaps so close to each other are looked up together
_BACK = (timedelta(minutes=10), timedelta(days=2), None)  # how far back the last stored row is looked for


def extents(table: Table, facts: pl.DataFrame) -> dict[Owner, list[Run]]:
    """First to last position of each file's rows, per venue, symbol and interval, whatever is missing inside."""
    found: defaultdict[Owner, list[Run]] = defaultdict(list)
    for fact in facts.iter_rows(named=True):
        extent = extent_of(table, fact)
        if extent is not None:
            found[fact["venue"], fact["symbol"], fact["interval"]].append(extent)
    return found


def extent_of(table: Table, fact: Mapping[str, Any]) -> Run | None:
    """First to last position of the rows that a row of ``Lake.facts`` tells of; None where they have none."""
    first_ms, last_ms = to_ms(fact["first_time"]), to_ms(fact["last_time"])
    if table is TRADES:
        return None if fact["first_id"] is None else Run(fact["first_id"], fact["last_id"], first_ms, last_ms)
    if (fact["interval"] or "").endswith("M"):  # months differ in length
        return None
    step = step_ms(table, fact["interval"])
    return Run(first_ms // step, last_ms // step, first_ms, last_ms)


def around(lake: Lake, table: Table, new: Mapping[Owner, Sequence[Run]]) -> dict[Owner, list[Run]]:
    """Extents of the files that lie beside or among new runs: each owner's last one before them at least."""
    found: dict[Owner, list[Run]] = {}
    wanted = dict(new)
    for back in _BACK:
        if not wanted:
            break
        first, last = (
            min(runs[0].first_ms for runs in wanted.values()),
            max(runs[-1].last_ms for runs in wanted.values()),
        )
        facts = lake.facts(
            [table.name],
            symbols=sorted({symbol for _, symbol, _ in wanted}),
            start=None if back is None else moment(first) - back,
            end=moment(last) + MS,
        )
        stored = extents(table, facts)
        found |= {owner: stored.get(owner, []) for owner in wanted}
        wanted = {
            owner: runs
            for owner, runs in wanted.items()
            if not any(extent.first <= runs[0].first for extent in found[owner])
        }
    return found


def present(lake: Lake, table: Table, wanted: Sequence[tuple[Owner, Run, Run]]) -> list[list[Run]]:
    """For each (owner, first, last) the stored runs that reach into the positions from one to the other, exactly.

    The rows of these positions lie between ``first_ms`` of the first and ``last_ms`` of the last.
    """
    found: list[list[Run]] = [[] for _ in wanted]
    for together in _near_each_other(wanted):
        runs = _stored(lake, table, [wanted[place] for place in together])
        for place in together:
            owner, first, last = wanted[place]
            found[place] = [run for run in runs[owner] if run.last >= first.first and run.first <= last.last]
    return found


def _near_each_other(wanted: Sequence[tuple[Owner, Run, Run]]) -> list[list[int]]:
    """Places in ``wanted``, those together that the same files may hold."""
    groups: list[list[int]] = []
    reached_ms = 0
    for place in sorted(range(len(wanted)), key=lambda place: wanted[place][1].first_ms):
        _, first, last = wanted[place]
        if not groups or first.first_ms > reached_ms + _NEAR_MS:
            groups.append([])
        groups[-1].append(place)
        reached_ms = max(reached_ms, last.last_ms)
    return groups


def _stored(lake: Lake, table: Table, wanted: Sequence[tuple[Owner, Run, Run]]) -> dict[Owner, list[Run]]:
    """The runs of every owner; exact where wanted, and all of one file's rows one run where none is missing."""
    start = moment(min(first.first_ms for _, first, _ in wanted))
    end = moment(max(last.last_ms for _, _, last in wanted)) + MS
    asked = {"symbols": sorted({owner[1] for owner, _, _ in wanted}), "venue": None}
    spans: defaultdict[Owner, list[tuple[int, int]]] = defaultdict(list)
    for owner, first, last in wanted:
        spans[owner].append((first.first, last.last))
    runs: defaultdict[Owner, list[Run]] = defaultdict(list)
    doubtful: dict[str, tuple[datetime, datetime]] = {}  # by file: rows are missing, and the facts do not say which
    for fact in lake.facts([table.name], start=start, end=end, **asked).iter_rows(named=True):
        owner = (fact["venue"], fact["symbol"], fact["interval"])
        extent = extent_of(table, fact)
        if extent is None or not any(extent.last >= first and extent.first <= last for first, last in spans[owner]):
            continue
        if fact["missing"] == 0:
            runs[owner].append(extent)
            continue
        first, last = doubtful.get(fact["path"], (fact["first_time"], fact["last_time"]))
        doubtful[fact["path"]] = min(first, fact["first_time"]), max(last, fact["last_time"])
    columns = ["venue", "symbol", "interval", table.time, "agg_trade_id", "is_ambiguous"]
    asked["columns"] = [name for name in columns if name in table.columns]
    for first, last in set(doubtful.values()):
        rows = lake.scan(table.name, start=max(start, first), end=min(end, last + MS), **asked)
        for owner, found in runs_of(table, rows).items():
            runs[owner] += found
    return runs


def to_ms(time: Any) -> int:
    """A stored time as ms since 1970, exact."""
    return (time - moment(0)) // MS
