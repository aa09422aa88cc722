"""What becomes of open gaps: which of their rows came back, which the exchange does not have."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from data.gaps import Owner, Run, missing_in, runs_of, step_ms
from data.lake import Lake
from data.listening import Listening
from data.messages_rest import Answer
from data.schema import GAPS, KLINES, MARK_KLINES, MARK_PRICE, TRADES, conform
from data.stored_runs import MS, present, to_ms
from data.table import Table

MARK_BARS = "1m"  # what a hole in mark prices is filled with, approximately
MARK_SOURCE = "markPriceKlines 1m, indexPriceKlines 1m, fundingRate: approximate"
_PATHS = {TRADES.name: "aggTrades", KLINES.name: "klines", MARK_KLINES.name: "markPriceKlines"}
_SETTLED_MS = 300_000  # that a younger row is not in an answer proves nothing
_LAST = 2**62


class Wanted(NamedTuple):
    """The rows that fill a gap: positions ``first`` to ``last`` of a table."""

    table: Table
    owner: Owner
    first: int
    last: int

    @property
    def step_ms(self) -> int:
        """Milliseconds per position; 1 for ids."""
        return step_ms(self.table, self.owner[2])


def wanted(gap: Mapping[str, Any]) -> Wanted:
    """What fills an open gap, a row of ``gaps``; for mark prices the minutes that it touches."""
    contract = (gap["venue"], gap["symbol"])
    if gap["table"] == TRADES.name:
        return Wanted(TRADES, (*contract, None), gap["from_id"], gap["to_id"])
    from_ms, until_ms = to_ms(gap["from_time"]), to_ms(gap["to_time"])
    if gap["table"] == MARK_PRICE.name:
        minute = step_ms(MARK_KLINES, MARK_BARS)
        return Wanted(MARK_KLINES, (*contract, MARK_BARS), from_ms // minute, (until_ms - 1) // minute)
    step = step_ms(KLINES, gap["interval"])
    return Wanted(KLINES, (*contract, gap["interval"]), from_ms // step + 1, until_ms // step - 1)


def settle(
    lake: Lake,
    tables: Mapping[str, pl.DataFrame],
    answers: Sequence[tuple[int, Answer]] = (),
    told: Listening | None = None,
    now: datetime | None = None,
) -> pl.DataFrame:
    """Rows of ``gaps`` for the open ones that are over: filled by these or by stored rows, or never to be filled.

    A gap whose answers come page by page stays open until they cover it. It is over too when the exchange itself does
    not have what is missing: the answers leave it out, or the question was refused.

    Parameters
    ----------
    tables : rows that are about to be stored.
    answers : (received, answer) of those that were asked for a gap.
    told : knows which questions were refused.
    now : when it is settled; None for the time of the last record.
    """
    known = newest(lake, tables.get(GAPS.name)).filter(pl.col("state") == "open")
    if known.is_empty():
        return GAPS.empty()
    refused = told.refused if told is not None else {}
    if now is None:
        now = told.now if told is not None else datetime.now(UTC)
    asked: defaultdict[str | None, list[tuple[int, Answer]]] = defaultdict(list)
    for recv_ns, answer in answers:
        asked[answer.gap_id].append((recv_ns, answer))
    over = []
    for gap, rows, runs in _with_present(lake, known, tables):
        left = missing_in(rows.first, rows.last, runs)
        recovered = rows.last - rows.first + 1 - sum(last - first + 1 for first, last in left)
        is_refused = gap["gap_id"] in refused
        if left and not is_refused and not _is_proven_absent(rows, to_ms(gap["to_time"]), left, asked[gap["gap_id"]]):
            continue
        over.append(
            gap
            | {
                "state": _state(gap, left, recovered),
                "cause": "exchange" if left and not is_refused else gap["cause"],
                "repair_source": _source(gap, rows, asked[gap["gap_id"]], tables),
                "rows_recovered": recovered,
                "detected_time": max(now, gap["detected_time"] + MS),  # the newest row speaks for a gap
            }
        )
    return conform(pl.DataFrame(over, schema=GAPS.columns), GAPS)


def open_gaps(
    lake: Lake, *, tables: Sequence[str] | None = None, symbols: Sequence[str] | None = None, venue: str | None = None
) -> list[dict[str, Any]]:
    """The gaps that may still be filled, smallest first; those that meanwhile were are left out.

    Each is a row of ``gaps`` with its times in ms since 1970, and ``remaining``: [first, last] of each missing piece,
    ids of trades or opening times of bars in ms; those of one-minute bars of the mark price for mark prices.
    """
    known = newest(lake).filter(pl.col("state") == "open")
    for name, among in (("table", tables), ("symbol", symbols), ("venue", None if venue is None else [venue])):
        if among is not None:
            known = known.filter(pl.col(name).is_in(list(among)))
    found = []
    for gap, rows, runs in _with_present(lake, known, {}):
        left = missing_in(rows.first, rows.last, runs)
        times = {name: to_ms(gap[name]) for name in ("from_time", "to_time", "detected_time")}
        remaining = [[first * rows.step_ms, last * rows.step_ms] for first, last in left]
        if left:
            found.append((sum(last - first + 1 for first, last in left), gap | times | {"remaining": remaining}))
    return [gap for _, gap in sorted(found, key=lambda each: (each[0], each[1]["gap_id"]))]


def newest(lake: Lake, coming: pl.DataFrame | None = None) -> pl.DataFrame:
    """The row of ``gaps`` that speaks for each gap; ``coming`` are rows that are about to be stored."""
    rows = lake.scan(GAPS.name, venue=None)
    if coming is not None:
        rows = pl.concat([rows, coming])
    return rows.sort("detected_time", maintain_order=True).unique(["venue", "gap_id"], keep="last", maintain_order=True)


def _with_present(
    lake: Lake, known: pl.DataFrame, tables: Mapping[str, pl.DataFrame]
) -> Iterator[tuple[dict[str, Any], Wanted, list[Run]]]:
    """Every gap with what fills it, and which runs of that there are: stored and about to be."""
    new = {
        table.name: runs_of(table, tables[table.name])
        for table in (TRADES, KLINES, MARK_KLINES)
        if table.name in tables and not known.is_empty()
    }
    gaps = [(gap, wanted(gap)) for gap in known.iter_rows(named=True)]
    for table in (TRADES, KLINES, MARK_KLINES):
        of_table = [(gap, rows) for gap, rows in gaps if rows.table is table]
        edges = [(rows.owner, *_edges(gap, rows)) for gap, rows in of_table]
        for (gap, rows), stored in zip(of_table, present(lake, table, edges), strict=True):
            yield gap, rows, stored + new.get(table.name, {}).get(rows.owner, [])


def _edges(gap: Mapping[str, Any], rows: Wanted) -> tuple[Run, Run]:
    """First and last position of what fills a gap, with the times between which such rows lie."""
    begin_ms, end_ms = sorted((to_ms(gap["from_time"]), to_ms(gap["to_time"])))  # ids and times may disagree
    if rows.table is MARK_KLINES:  # its bars begin before the hole
        begin_ms = rows.first * rows.step_ms
    return Run(rows.first, rows.first, begin_ms, begin_ms), Run(rows.last, rows.last, end_ms, end_ms)


def _state(gap: Mapping[str, Any], left: Sequence[tuple[int, int]], recovered: int) -> str:
    if not recovered:
        return "unrepairable"
    return "partial" if left or gap["table"] == MARK_PRICE.name else "repaired"


def _source(
    gap: Mapping[str, Any], rows: Wanted, asked: Sequence[tuple[int, Answer]], tables: Mapping[str, pl.DataFrame]
) -> str:
    """Where the rows came from that settle a gap."""
    if gap["table"] == MARK_PRICE.name:
        return MARK_SOURCE
    if asked:
        return asked[-1][1].path
    time = pl.col(rows.table.time)
    arrived = tables.get(rows.table.name, rows.table.empty()).filter(
        pl.col("symbol") == gap["symbol"],
        time.is_between(gap["from_time"], gap["to_time"]),
        pl.col("venue") == gap["venue"],
    )
    return "stream" if (arrived["source"] == "ws").any() else f"REST {_PATHS[rows.table.name]}"


def _is_proven_absent(
    rows: Wanted, to_time_ms: int, left: Sequence[tuple[int, int]], asked: Sequence[tuple[int, Answer]]
) -> bool:
    """Whether the answers cover every piece that is left: the exchange has no such rows, or none that can be read."""
    covered = []
    for recv_ns, answer in asked:
        with suppress(
            LookupError, TypeError, ValueError, OverflowError
        ):  # what cannot be read is told in the quarantine
            covered += _covered(rows, to_time_ms, recv_ns // 10**6, answer)
    return bool(covered) and not any(missing_in(first, last, covered) for first, last in left)


def _covered(rows: Wanted, to_time_ms: int, recv_ms: int, answer: Answer) -> list[Run]:
    """The positions of which an answer says whether the exchange has them; none when it is no such answer."""
    body = json.loads(bytes(answer.body))
    if answer.name != _PATHS[rows.table.name] or not isinstance(body, list):
        return []
    is_full = len(body) >= int(answer.params.get("limit", 500))
    is_settled = recv_ms >= to_time_ms + rows.step_ms + _SETTLED_MS
    if rows.table is TRADES:
        first = int(answer.params["fromId"])
        listed = max((int(each["a"]) for each in body), default=first - 1)
        last = _LAST if is_settled and not is_full else listed
    else:
        first = -(-int(answer.params["startTime"]) // rows.step_ms)
        asked_last = int(answer.params["endTime"]) // rows.step_ms
        listed = max((int(each[0]) // rows.step_ms for each in body), default=first - 1)
        last = listed if is_full or not is_settled else asked_last
    return [Run(first, last, 0, 0)] if last >= first else []
