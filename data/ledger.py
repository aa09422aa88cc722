"""The gap ledger: what is missing in the lake, since when, why, and whether it came back.

Trades, klines and mark prices are found by their rows: an id, a bar or a second is missing between two of them; before
the first one missing is what the exchange has since listening began. Quotes, books, single fills, running bars and
liquidations come when they come: missing is the time in which no socket listened, and a book whose predecessor never
came. Nothing brings those back, so they are unrepairable from the start.

The ledger is only added to. The newest row of a gap speaks for it: open, then repaired, partial or unrepairable.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from data.beginnings import begun
from data.gaps import (
    HOLES,
    MARK_REPAIRED_MS,
    MARK_STEP_MS,
    Owner,
    Run,
    apart,
    gap_id,
    hole,
    missing_in,
    moment,
    reach,
    runs_of,
    step_ms,
)
from data.lake import Lake
from data.ledger_heard import HEARD, SEEN, Causes, default_cause, rechained, refilled, sources, unchained, unheard
from data.listening import REMEMBERED_NS, Listening
from data.schema import DEPTH, GAPS, MARK_PRICE, TABLES, TRADES, conform
from data.schema_clusters import DERIVED
from data.settling import newest, open_gaps, settle
from data.stored_runs import around, extent_of, extents, present, to_ms
from data.table import Table

__all__ = [
    "SEEN", "Listening", "corrupt", "found", "known_cause", "newest", "open_gaps", "scan_day", "settle", "unknown",
]  # fmt: skip

_DAY = timedelta(days=1)
_OWNER = ["venue", "symbol", "table", "interval"]


def found(lake: Lake, tables: Mapping[str, pl.DataFrame], told: Listening, now: datetime | None = None) -> pl.DataFrame:
    """Rows of ``gaps`` for what these rows and notes show to be missing and the ledger does not know.

    And for books and mark prices that it knows to be missing and that are among these rows.

    What lies before the first day of listening is history, and its holes are no gaps of the recording.

    Parameters
    ----------
    tables : rows that are about to be stored, those of the ledger itself among them: a bar that was given up is known.
    told : who listened; has taken the records that the rows are from. Learns of which streams it is known now what
        their first row follows.
    now : when it is found; None for the time of the last record.
    """
    heard = told.holes()
    causes = Causes.heard(heard)
    holes = unheard(lake, heard, told.streams())
    since = {source: told.began_ns(key) for source, key in sources(told)}
    known = newest(lake, tables.get(GAPS.name))
    forgotten, now = told.now - timedelta(microseconds=REMEMBERED_NS // 1_000), now or told.now
    for table in SEEN:
        rows = tables.get(table.name)
        if rows is None or rows.is_empty():
            continue
        for lost in _unseen(lake, table, rows, since):
            cause = causes.of(lost)
            if cause == default_cause(table) and lost["from_time"] < forgotten:  # a symbol that is seldom traded
                cause = known_cause(known, lost)
            holes.append(lost | {"cause": cause})
    came = []
    books, marks = tables.get(DEPTH.name), tables.get(MARK_PRICE.name)
    if books is not None and not books.is_empty():
        holes += unchained(lake, books, causes)
        came.append(rechained(lake, books, known, now))
    if marks is not None and not marks.is_empty():
        came.append(refilled(lake, marks, known, now))
    for lost in begun(lake, tables, told):
        cause = causes.of(lost)
        if cause == default_cause(TABLES[lost["table"]]):  # long ago, for a symbol that is seldom traded
            cause = known_cause(known, lost)
        holes.append(lost | {"cause": cause})
    return pl.concat([unknown(known, holes, now), *came])


def scan_day(lake: Lake, table: str, day: date, now: datetime | None = None) -> pl.DataFrame:
    """Rows of ``gaps`` for every hole that the stored rows of a UTC day have and the ledger does not know.

    The row before the first of the day is looked for on the day before. Tables whose rows show no holes have none.
    """
    contract = TABLES[table]
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if contract not in SEEN:
        return GAPS.empty()
    facts = lake.facts([table], start=start - _DAY, end=start + _DAY)
    first_ms, last_ms = to_ms(start), to_ms(start + _DAY) - 1
    wanted = []
    for owner, stored in extents(contract, facts).items():
        first, last = min(stored), max(stored, key=lambda run: run.last)
        wanted.append((owner, first._replace(first_ms=to_ms(start - _DAY)), last._replace(last_ms=last_ms)))
    holes = [
        hole(contract, owner, before, after)
        for (owner, _, _), runs in zip(wanted, present(lake, contract, wanted), strict=True)
        for before, after in apart(runs, reach(contract))
        if first_ms <= after.first_ms <= last_ms
    ]
    known = newest(lake)
    causes = _causes(known, contract, {each["interval"] for each in holes})
    explained = [each | {"cause": causes.of(each)} for each in holes]
    return unknown(known, explained, now or datetime.now(UTC))


def known_cause(known: pl.DataFrame, lost: Mapping[str, Any]) -> str:
    """The cause that the ledger's rows of the time in which nobody listened give a hole."""
    return _causes(known, TABLES[lost["table"]], {lost["interval"]}).of(lost)


def corrupt(lake: Lake, lost: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rows of ``gaps`` for what a damaged file held and no other file has.

    Parameters
    ----------
    lost : the file's rows of ``Lake.facts``, taken while the lake still had it; it has been set aside since.
    """
    holes = []
    for fact in lost.iter_rows(named=True):
        table = TABLES[fact["table"]]
        if not {"venue", "symbol"} <= set(table.columns) or table is GAPS or table.name in DERIVED:
            continue
        owner: Owner = (fact["venue"], fact["symbol"], fact["interval"])
        edges = [
            Run(at, at, ms, ms) for at, ms in ((0, to_ms(fact["first_time"]) - 1), (1, to_ms(fact["last_time"]) + 1))
        ]
        extent = extent_of(table, fact) if table in SEEN else None
        if extent is None:
            told = {"from_id": None, "to_id": None, "missing": fact["rows"], "is_estimate": False}
            holes.append(hole(table, owner, *edges) | told)
            continue
        (runs,) = present(lake, table, [(owner, extent, extent)])
        holes += [_piece(table, owner, extent, *piece) for piece in missing_in(extent.first, extent.last, runs)]
    return _rows([each | {"cause": "corrupt"} for each in holes], now)


def _unseen(
    lake: Lake, table: Table, rows: pl.DataFrame, since: Mapping[tuple[str, str, str, str | None], int | None]
) -> list[dict[str, Any]]:
    """Holes among new rows, and between them and the stored ones before them."""
    new = runs_of(table, rows, is_new=True)
    found = []
    for owner, stored in around(lake, table, new).items():
        venue, symbol, interval = owner
        began_ns = since.get((venue, table.name, symbol, interval))
        for before, after in apart([*stored, *new[owner]], reach(table)):
            is_seam = not before.is_new
            if not after.is_new or (is_seam and began_ns is None):
                continue
            began = moment((began_ns or 0) // 10**6)
            if moment(after.first_ms) > began and not (is_seam and moment(before.last_ms) < began - _DAY):
                found.append(hole(table, owner, before, after))
    return found


def unknown(known: pl.DataFrame, holes: Sequence[Mapping[str, Any]], now: datetime) -> pl.DataFrame:
    """Rows of ``gaps`` for the holes that do not lie inside ones that are known and not repaired."""
    rows = _rows(holes, now)
    if rows.is_empty():
        return rows
    return outside(rows, known)


def outside(holes: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The holes that do not lie inside gaps which are known and not repaired; both with the columns of ``gaps``."""
    places = _between_edges(holes).with_row_index("place").sort("before")
    # Runs lie apart: only the last one that begins before a hole can hold it. Pairs of all would fill the memory.
    runs = _joined(known).rename({"after": "reaches"}).sort("before")
    held = places.join_asof(runs.drop("run"), on="before", by=_OWNER, check_sortedness=False)
    return holes[held.filter((pl.col("after") <= pl.col("reaches")).not_().fill_null(True))["place"].sort()]


def _joined(known: pl.DataFrame) -> pl.DataFrame:
    """What the gaps that are not repaired leave out together: two bars given up one by one are one hole."""
    gaps = _between_edges(known.filter(pl.col("state") != "repaired")).sort(*_OWNER, "before")
    reached = pl.col("after").cum_max().shift().over(_OWNER)
    begins = (pl.col("before") >= reached).fill_null(True)
    return gaps.group_by(*_OWNER, begins.cum_sum().alias("run")).agg(pl.col("before").min(), pl.col("after").max())


def _between_edges(gaps: pl.DataFrame) -> pl.DataFrame:
    """``before`` and ``after``: the last position before each gap and the first after it, ids of trades, else ms."""
    return gaps.with_columns(
        pl.col("interval").fill_null(""),  # no join as of a position takes null for equal
        before=pl.coalesce(pl.col("from_id") - 1, pl.col("from_time").to_physical()),
        after=pl.coalesce(pl.col("to_id") + 1, pl.col("to_time").to_physical()),
    )


def _rows(holes: Sequence[Mapping[str, Any]], now: datetime) -> pl.DataFrame:
    """Rows of ``gaps``: open where REST can help, else unrepairable, as is a silence of a few mark prices."""
    frame = pl.DataFrame(holes, schema={**HOLES, "cause": pl.String})
    seen = pl.col("table").is_in([table.name for table in SEEN]) & pl.col("missing").is_not_null()
    is_brief = (pl.col("table") == MARK_PRICE.name) & (
        pl.col("to_time") - pl.col("from_time") <= timedelta(milliseconds=MARK_REPAIRED_MS)
    )
    is_hole = pl.col("from_id").is_not_null() | (pl.col("from_time") < pl.col("to_time"))  # trades may share a moment
    rows = frame.filter(is_hole).with_columns(
        gap_id=gap_id(),
        state=pl.when(seen & ~is_brief).then(pl.lit("open")).otherwise(pl.lit("unrepairable")),
        rows_recovered=0,
        detected_time=pl.lit(now.astimezone(UTC)),
    )
    return conform(rows, GAPS).unique(["venue", "gap_id"], keep="first", maintain_order=True)


def _piece(table: Table, owner: Owner, extent: Run, first: int, last: int) -> dict[str, Any]:
    """The hole that positions ``first`` to ``last`` of a file leave."""
    step = step_ms(table, owner[2])
    times = (extent.first_ms - 1, extent.last_ms + 1) if table is TRADES else ((first - 1) * step, (last + 1) * step)
    edges = (Run(first - 1, first - 1, times[0], times[0]), Run(last + 1, last + 1, times[1], times[1]))
    counted = {"missing": (last - first) // MARK_STEP_MS + 1} if table is MARK_PRICE else {}
    return hole(table, owner, *edges) | counted


def _causes(known: pl.DataFrame, table: Table, intervals: set[str | None]) -> Causes:
    """Why rows of a table may be missing, from the ledger's rows of the time in which nobody listened."""
    lost = known.filter(pl.col("table").is_in([each.name for each in HEARD]), pl.col("from_id").is_null())
    spans = lost.select("venue", "symbol", pl.col("from_time", "to_time").to_physical(), "cause").iter_rows()
    return Causes(
        (venue, table.name, symbol, interval, from_ms, to_ms, cause)
        for venue, symbol, from_ms, to_ms, cause in spans
        for interval in intervals
    )
