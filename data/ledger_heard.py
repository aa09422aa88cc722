"""What was lost because nobody listened, and why other things are missing: holes of listening as holes of tables."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl

from data.gaps import MARK_SILENCE_MS, Run, hole, step_ms
from data.lake import Lake
from data.listening import Hole, Key, Listening
from data.schema import (
    BOOK_TICKER,
    DEPTH,
    FORCE_ORDERS,
    GAPS,
    KLINE_UPDATES,
    KLINES,
    MARK_PRICE,
    RAW_TRADES,
    TABLES,
    TRADES,
    conform,
)
from data.stored_runs import MS, to_ms
from data.table import Table

SEEN = (TRADES, KLINES, MARK_PRICE)  # whose rows show what is missing between them
HEARD = (BOOK_TICKER, DEPTH, RAW_TRADES, KLINE_UPDATES, FORCE_ORDERS)  # their rows do not show what is missing
ALL_LIQUIDATIONS = "!forceOrder@arr"
_TABLES = {
    "aggTrade": TRADES, "trade": RAW_TRADES, "bookTicker": BOOK_TICKER, "markPrice": MARK_PRICE,
    "forceOrder": FORCE_ORDERS, "depth5": DEPTH, "depth10": DEPTH, "depth20": DEPTH,
}  # fmt: skip
_LATE_MS = 2_000  # clocks differ, and messages are on their way: a cause is looked for so far around a hole
_CHAINED = 0.5  # of the books; where they name their predecessors at all, nearly every one does
_OWNER = ("venue", "symbol", "levels")  # of a chain of books
_FEWEST_BOOKS = 10  # to say whether they do
_CHAIN_SILENCE = timedelta(seconds=5)


class Carried(NamedTuple):
    """What a stream brings; ``symbol`` is None for the liquidations of all of them."""

    table: Table
    symbol: str | None
    interval: str | None = None


def carried(stream: str) -> tuple[Carried, ...]:
    """The tables that a stream fills, such as btcusdt@kline_1m: the closed bars and their running states."""
    if stream == ALL_LIQUIDATIONS:
        return (Carried(FORCE_ORDERS, None),)
    symbol, _, kind = stream.partition("@")
    kind = kind.partition("@")[0]
    if kind.startswith("kline_"):
        interval = kind.removeprefix("kline_")
        return Carried(KLINES, symbol.upper(), interval), Carried(KLINE_UPDATES, symbol.upper(), interval)
    table = _TABLES.get(kind)
    return () if table is None else (Carried(table, symbol.upper()),)


def unheard(lake: Lake, holes: Sequence[Hole], streams: Sequence[Key]) -> list[dict[str, Any]]:
    """Holes, with their causes, of the tables that only listening brings; one per symbol.

    They lie between two moments of our own clock: the last in which somebody listened, and the first again. Mark prices
    are among them where their rows would not show the hole, because it is too short.

    Parameters
    ----------
    streams : that are recorded: the liquidations of all symbols are missing of theirs.
    """
    found = []
    for lost in holes:
        before_ms, after_ms = lost.from_ns // 10**6, -(-lost.to_ns // 10**6)
        for table, symbol, interval in carried(lost.stream):
            is_short = table is MARK_PRICE and after_ms - before_ms <= MARK_SILENCE_MS
            if table not in HEARD and not is_short:
                continue
            symbols = _all_symbols(lake, lost.venue, streams) if symbol is None else [symbol]
            found += [
                _without_count(table, (lost.venue, each, interval), before_ms, after_ms, lost.cause) for each in symbols
            ]
    return found


def unchained(lake: Lake, rows: pl.DataFrame, causes: "Causes") -> list[dict[str, Any]]:
    """Holes between books of which the later one names a predecessor that was never seen while somebody listened.

    Judged only where books name their predecessors at all, which the exchange documents for changes, not for books.
    """
    # Symbols share moments: a book may be stored that is younger than the first new one of another symbol.
    pairs = _pairs(lake, rows, rows["event_time"].min() - _CHAIN_SILENCE, rows["event_time"].max())
    follows = pl.col("previous_update_id") == pl.col("before")
    chained = (pl.len().over(_OWNER) >= _FEWEST_BOOKS) & (follows.mean().over(_OWNER) >= _CHAINED)
    broken = pairs.filter(chained, pl.col("previous_update_id") > pl.col("before"), "is_new")
    found = []
    for book in broken.iter_rows(named=True):
        lost_ms = [to_ms(book[name]) for name in ("from_time", "event_time")]
        lost = _without_count(DEPTH, (book["venue"], book["symbol"], None), *lost_ms, "sequence")
        if lost["from_time"] < lost["to_time"] and causes.of(lost) == "sequence":
            found.append(lost)
    return found


def rechained(lake: Lake, rows: pl.DataFrame, known: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rows of ``gaps`` for broken chains that these books make whole: the socket that brought them was read later.

    Parameters
    ----------
    known : the row of ``gaps`` that speaks for each gap.
    """
    told = (pl.col("table") == DEPTH.name) & (pl.col("cause") == "sequence") & (pl.col("state") == "unrepairable")
    first, last = rows["event_time"].min(), rows["event_time"].max()
    found = []
    for gap in known.filter(told, pl.col("from_time") < last, pl.col("to_time") > first).iter_rows(named=True):
        same = rows.filter(pl.col("venue") == gap["venue"], pl.col("symbol") == gap["symbol"])
        within = pl.col("from_time").is_between(gap["from_time"], gap["to_time"], "left")
        pairs = _pairs(lake, same, gap["from_time"], gap["to_time"]).filter(within)
        is_whole = pl.col("previous_update_id") == pl.col("before")
        if pairs["is_new"].any() and pairs.select(is_whole.all()).item():
            told_time = max(now, gap["detected_time"] + MS)  # the newest row speaks for a gap
            came = {"state": "repaired", "repair_source": "stream", "rows_recovered": pairs.height - 1}
            found.append(gap | came | {"detected_time": told_time})
    return conform(pl.DataFrame(found, schema=GAPS.columns), GAPS)


def refilled(lake: Lake, rows: pl.DataFrame, known: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rows of ``gaps`` for silences of mark prices in which these bring the last that was missing, as in ``rechained``.

    Parameters
    ----------
    known : the row of ``gaps`` that speaks for each gap.
    """
    told = (pl.col("table") == MARK_PRICE.name) & (pl.col("state") != "repaired") & pl.col("missing").is_not_null()
    time, step = pl.col("event_time"), timedelta(milliseconds=MARK_SILENCE_MS)
    first, last = rows["event_time"].min(), rows["event_time"].max()
    found = []
    for gap in known.filter(told, pl.col("from_time") < last, pl.col("to_time") > first).iter_rows(named=True):
        begin, end = gap["from_time"], gap["to_time"]
        of_it = (pl.col("venue") == gap["venue"]) & (pl.col("symbol") == gap["symbol"])
        new = rows.filter(of_it, time > begin, time < end)["event_time"]
        if new.is_empty():
            continue
        asked = {"symbols": [gap["symbol"]], "start": begin + MS, "end": end, "venue": gap["venue"]}
        stored = lake.scan(MARK_PRICE.name, columns=["event_time"], **asked)["event_time"]
        times = sorted({*new, *stored})
        if all(after - before <= step for before, after in pairwise([begin, *times, end])):
            told_time = max(now, gap["detected_time"] + MS)  # the newest row speaks for a gap
            came = {"state": "repaired", "repair_source": "stream", "rows_recovered": len(times)}
            found.append(gap | came | {"detected_time": told_time})
    return conform(pl.DataFrame(found, schema=GAPS.columns), GAPS)


def _pairs(lake: Lake, rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Books with the one ``before`` (its id, and ``from_time``) among stored and new ones; ``is_new`` if not stored.

    Parameters
    ----------
    start, end : the stored ones of [start, end].
    """
    columns = [*_OWNER, "update_id", "previous_update_id", "event_time"]
    stored = lake.scan(DEPTH.name, start=start, end=end + MS, columns=columns, venue=None).with_columns(is_new=False)
    books = pl.concat([stored, rows.select(*columns, is_new=True)]).unique([*_OWNER, "update_id"], keep="first")
    pairs = books.sort(*_OWNER, "update_id").with_columns(
        before=pl.col("update_id").shift().over(_OWNER), from_time=pl.col("event_time").shift().over(_OWNER)
    )
    return pairs.filter(pl.col("before").is_not_null() & pl.col("previous_update_id").is_not_null())


class Causes:
    """Why something is missing: what happened to its stream at the time.

    Parameters
    ----------
    lost : (venue, table, symbol, interval, from_ms, to_ms, cause) of every time in which nobody listened.
    """

    def __init__(self, lost: Iterable[tuple[str, str, str | None, str | None, int, int, str]]) -> None:
        self._lost: defaultdict[tuple[str, str, str | None, str | None], list[tuple[int, int, str]]] = defaultdict(list)
        for venue, table, symbol, interval, *span in lost:
            self._lost[venue, table, symbol, interval].append(tuple(span))

    @classmethod
    def heard(cls, holes: Iterable[Hole]) -> "Causes":
        """From the holes of listening."""
        return cls(
            (lost.venue, table.name, symbol, interval, lost.from_ns // 10**6, -(-lost.to_ns // 10**6), lost.cause)
            for lost in holes
            for table, symbol, interval in carried(lost.stream)
        )

    def of(self, missing: Mapping[str, Any]) -> str:
        """The cause that explains most of a hole; ``sequence`` (``silence`` for mark prices) when none does."""
        table = TABLES[missing["table"]]
        step = step_ms(table, missing["interval"])  # a bar comes when it has closed
        begin = to_ms(missing["from_time"]) + step - _LATE_MS
        end = to_ms(missing["to_time"]) + step + _LATE_MS
        key = missing["venue"], table.name, missing["symbol"], missing["interval"]
        shared = [(min(until, end) - max(since, begin), cause) for since, until, cause in self._lost.get(key, ())]
        shared = [each for each in shared if each[0] > 0]
        return max(shared)[1] if shared else default_cause(table)


def default_cause(table: Table) -> str:
    """Why something is missing that was listened to all the time."""
    return "silence" if table is MARK_PRICE else "sequence"


def sources(told: Listening) -> Iterator[tuple[tuple[str, str, str | None, str | None], Key]]:
    """((venue, table, symbol, interval), (venue, stream)) of every stream that was ever listened to."""
    for venue, stream in told.streams():
        for table, symbol, interval in carried(stream):
            yield (venue, table.name, symbol, interval), (venue, stream)


def _all_symbols(lake: Lake, venue: str, streams: Sequence[Key]) -> list[str]:
    """Whose liquidations the stream of all brings: those that are recorded and those that ever had one."""
    recorded = {each.symbol for of, stream in streams if of == venue for each in carried(stream)} - {None}
    stored = {each for each in lake.symbols(FORCE_ORDERS.name) if lake.span(FORCE_ORDERS.name, each, venue)}
    return sorted(recorded | stored)


def _without_count(
    table: Table, owner: tuple[str, str, str | None], before_ms: int, after_ms: int, cause: str
) -> dict[str, Any]:
    """A hole in which nobody knows how much is missing."""
    edges = (Run(0, 0, before_ms, before_ms), Run(1, 1, after_ms, after_ms))
    return hole(table, owner, *edges) | {"missing": None, "is_estimate": True, "cause": cause}
