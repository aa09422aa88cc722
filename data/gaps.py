"""What is missing: holes in the stored rows, and the rows of the gap ledger.

A hole lies between two stored rows: ``from_time`` is the last good one before it, ``to_time`` the first good one after.
Trades carry consecutive ids and klines a fixed step: their holes are exact. Mark prices come once a second: their holes
are estimates. Quotes, books and liquidations come when they come: how many are missing cannot be known.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from data.schema import (
    GAPS,
    INDEX_KLINES,
    KLINES,
    MARK_KLINES,
    MARK_PRICE,
    TRADES,
    conform,
    interval_ms,
)
from data.table import TIME_MS, Table

MARK_STEP_MS = 1_000
MARK_SILENCE_MS = 1_999  # two steps apart, one is missing; their seconds are not whole to the millisecond
MARK_REPAIRED_MS = 5_000  # shorter silences stay: all that REST has of them is the bar of their minute

BARS = (KLINES.name, MARK_KLINES.name, INDEX_KLINES.name)

HOLES = pl.Schema(
    {
        "table": pl.String,
        "venue": pl.String,
        "symbol": pl.String,
        "interval": pl.String,  # klines only
        "from_id": pl.Int64,  # first missing id; trades only
        "to_id": pl.Int64,  # last missing id; trades only
        "from_time": TIME_MS,  # last good row before
        "to_time": TIME_MS,  # first good row after
        "missing": pl.Int64,
        "is_estimate": pl.Boolean,
    }
)


def trade_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Holes in ``agg_trade_id`` per venue and symbol, exact; ``HOLES`` in time order.

    Rows whose id is ambiguous are left out: they neither bound a hole nor fill one.

    Parameters
    ----------
    frame : rows of ``trades`` in any order; needs venue, symbol, agg_trade_id, event_time, is_ambiguous.
    """
    sure = frame.filter(~pl.col("is_ambiguous").fill_null(False), pl.col("agg_trade_id").is_not_null())
    before = pl.col("agg_trade_id").shift().over("venue", "symbol")
    return holes_between(
        TRADES,
        sure.sort("agg_trade_id"),
        missing=pl.col("agg_trade_id") - before - 1,
        from_id=before + 1,
        to_id=pl.col("agg_trade_id") - 1,
    ).filter(pl.col("missing") > 0)


def kline_gaps(frame: pl.DataFrame, interval: str, table: Table = KLINES) -> pl.DataFrame:
    """Missing bars between stored ones per venue and symbol, exact; ``HOLES`` in time order.

    Parameters
    ----------
    frame : rows of ``klines``, ``mark_klines`` or ``index_klines`` in any order; other intervals are left out.
    """
    bars = frame.filter(pl.col("interval") == interval).sort("open_time")
    return holes_between(table, bars, missing=_step(table) // interval_ms(interval) - 1).filter(pl.col("missing") > 0)


def mark_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Silence of two seconds or more in mark prices per venue and symbol; ``missing`` is estimated at one a second."""
    holes = holes_between(
        MARK_PRICE,
        frame.sort("event_time"),
        missing=(_step(MARK_PRICE) + MARK_STEP_MS // 2) // MARK_STEP_MS - 1,
        is_estimate=pl.lit(True),
    )
    return holes.filter(pl.col("to_time") - pl.col("from_time") > timedelta(milliseconds=MARK_SILENCE_MS))


def gap_rows(
    holes: pl.DataFrame,
    *,
    cause: str,
    detected_time: datetime,
    state: str = "open",
    repair_source: str | None = None,
    rows_recovered: int | pl.Series = 0,
) -> pl.DataFrame:
    """Rows for the gap ledger. A hole has the same ``gap_id`` whenever it is found: appending it again adds nothing.

    Parameters
    ----------
    holes : ``HOLES``.
    cause : reconnect, sequence, silence, crash, stopped, disk, exchange, corrupt or import.
    state : open, repaired, partial or unrepairable.
    repair_source : endpoint that was asked; None while open.
    rows_recovered : rows that the repair brought; a series has one number per hole.
    """
    rows = holes.with_columns(
        gap_id=gap_id(),
        cause=pl.lit(cause),
        state=pl.lit(state),
        repair_source=pl.lit(repair_source, pl.String),
        rows_recovered=pl.lit(rows_recovered),
        detected_time=pl.lit(detected_time.astimezone(UTC)),
    )
    return conform(rows, GAPS)


def holes_between(table: Table, rows: pl.DataFrame, **found: pl.Expr) -> pl.DataFrame:
    """One candidate per pair of neighbours; ``rows`` are in the order in which they should follow each other."""
    candidates = rows.select(
        "venue",
        "symbol",
        table=pl.lit(table.name),
        interval="interval" if "interval" in rows.columns else pl.lit(None, pl.String),
        from_id=found.get("from_id", pl.lit(None, pl.Int64)),
        to_id=found.get("to_id", pl.lit(None, pl.Int64)),
        from_time=pl.col(table.time).shift().over("venue", "symbol"),
        to_time=table.time,
        missing=found["missing"],
        is_estimate=found.get("is_estimate", pl.lit(False)),
    )
    return candidates.filter(pl.col("from_time").is_not_null()).select(HOLES.names()).sort("from_time", "symbol")


def _step(table: Table) -> pl.Expr:
    """Milliseconds since the row before, per venue and symbol."""
    return pl.col(table.time).diff().over("venue", "symbol").dt.total_milliseconds()


def gap_id() -> pl.Expr:
    """table|symbol|from|to: ids where there are ids, else milliseconds since 1970; klines name their interval too."""
    ends = [
        pl.coalesce(number, time.to_physical()).cast(pl.String)
        for number, time in (("from_id", pl.col("from_time")), ("to_id", pl.col("to_time")))
    ]
    return pl.concat_str("table", "symbol", "interval", *ends, separator="|", ignore_nulls=True)


Owner = tuple[str, str, str | None]  # venue, symbol, interval


class Run(NamedTuple):
    """Rows that follow each other without a hole.

    ``first`` and ``last`` are positions: the id of a trade, the number of a bar since 1970, the millisecond of a mark
    price. ``is_new`` tells rows that are about to be stored from those that are.
    """

    first: int
    last: int
    first_ms: int
    last_ms: int
    is_new: bool = False


def runs_of(table: Table, frame: pl.DataFrame, *, is_new: bool = False) -> dict[Owner, list[Run]]:
    """The runs in rows of ``trades``, ``mark_price`` or a table of bars, in order, per venue, symbol and interval.

    Rows whose id is ambiguous are left out, and bars of a month, which differ in length.
    """
    if table is TRADES:
        frame = frame.filter(~pl.col("is_ambiguous").fill_null(False), pl.col("agg_trade_id").is_not_null())
    elif table.name in BARS:
        frame = frame.filter(~pl.col("interval").str.ends_with("M"))
    if frame.is_empty():
        return {}
    owner = ("venue", "symbol", "interval")
    interval = pl.col("interval") if table.name in BARS else pl.lit(None, pl.String)
    ms = pl.col(table.time).to_physical()
    rows = frame.select(
        "venue",
        "symbol",
        interval.alias("interval"),
        position="agg_trade_id" if table is TRADES else ms // _steps(table, frame),
        ms=ms,
    ).sort(*owner, "position", "ms")
    begins = (pl.col("position").diff().over(owner) > reach(table)).fill_null(True)
    runs = rows.group_by(begins.cum_sum().alias("run"), maintain_order=True).agg(
        *(pl.col(name).first() for name in owner),
        first=pl.col("position").first(),
        last=pl.col("position").last(),
        first_ms=pl.col("ms").first(),
        last_ms=pl.col("ms").last(),
    )
    found: dict[Owner, list[Run]] = {}
    for _, venue, symbol, length, *run in runs.iter_rows():
        found.setdefault((venue, symbol, length), []).append(Run(*run, is_new))
    return found


def _steps(table: Table, frame: pl.DataFrame) -> pl.Expr:
    """Milliseconds per position of each row."""
    if table.name not in BARS:
        return pl.lit(1)
    lengths = {interval: step_ms(table, interval) for interval in frame["interval"].unique()}
    return pl.col("interval").replace_strict(lengths, return_dtype=pl.Int64)


def step_ms(table: Table, interval: str | None) -> int:
    """Milliseconds per position of a table; 1 where positions are no times of steps."""
    return interval_ms(interval) if table.name in BARS else 1


def reach(table: Table) -> int:
    """How far apart two positions may be with nothing missing between them."""
    return MARK_SILENCE_MS if table is MARK_PRICE else 1


def apart(runs: Iterable[Run], furthest: int = 1) -> Iterator[tuple[Run, Run]]:
    """(run before, run after) of every hole between runs that may overlap, in order."""
    before: Run | None = None
    for run in sorted(runs):
        if before is not None and run.first - before.last > furthest:
            yield before, run
        if before is None or run.last > before.last:
            before = run


def missing_in(first: int, last: int, present: Iterable[Run]) -> list[tuple[int, int]]:
    """The positions of [first, last] that no run has: (first, last) of each piece, in order."""
    left = []
    due = first
    for run in sorted(present):
        if due > last:
            break
        if run.first > due:
            left.append((due, min(run.first - 1, last)))
        due = max(due, run.last + 1)
    if due <= last:
        left.append((due, last))
    return left


def hole(table: Table, owner: Owner, before: Run, after: Run) -> dict[str, Any]:
    """The row of ``HOLES`` for what lies between two runs."""
    venue, symbol, interval = owner
    distance = after.first - before.last
    is_trade = table is TRADES
    return {
        "table": table.name,
        "venue": venue,
        "symbol": symbol,
        "interval": interval,
        "from_id": before.last + 1 if is_trade else None,
        "to_id": after.first - 1 if is_trade else None,
        "from_time": moment(before.last_ms),
        "to_time": moment(after.first_ms),
        "missing": (distance + MARK_STEP_MS // 2) // MARK_STEP_MS - 1 if table is MARK_PRICE else distance - 1,
        "is_estimate": table is MARK_PRICE,
    }


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
