"""What is missing: holes in the stored rows, how complete each day is, and the rows of the gap ledger.

A hole lies between two stored rows: ``from_time`` is the last good one before it, ``to_time`` the first good one after.
Trades carry consecutive ids and klines a fixed step: their holes are exact. Mark prices come once a second: their holes
are estimates. Quotes, books and liquidations come when they come: how many are missing cannot be known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl

from data.lake import Lake
from data.schema import (
    GAPS,
    INDEX_KLINES,
    KLINES,
    MARK_KLINES,
    MARK_PRICE,
    TABLES,
    TRADES,
    conform,
    interval_ms,
)
from data.table import TIME_MS, Table

DAY_MS = 86_400_000
MARK_STEP_MS = 1_000
MARK_SILENCE_MS = 5_000

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
COVERAGE = pl.Schema(
    {
        "table": pl.String,
        "symbol": pl.String,
        "interval": pl.String,  # klines only: one row per interval and date
        "date": pl.Date,  # UTC
        "rows": pl.Int64,
        "first_time": TIME_MS,
        "last_time": TIME_MS,
        "expected": pl.Int64,  # null where it cannot be known
        "missing": pl.Int64,  # null where it cannot be known
        "is_estimate": pl.Boolean,
        "covered": pl.Float64,  # fraction of expected rows; null where it cannot be known
        "longest_gap_ms": pl.Int64,  # longest hole, of this day's share; where holes cannot be known, longest silence
        "state": pl.String,  # complete, open, unrepairable, missing (no row that day), unknown
    }
)
_COUNTED = (KLINES.name, MARK_KLINES.name, INDEX_KLINES.name, TRADES.name, MARK_PRICE.name)
LEDGERS = ("gaps", "quarantine", "conflicts", "instruments", "clock")


def trade_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Holes in ``agg_trade_id`` per venue and symbol, exact; ``HOLES`` in time order.

    Rows whose id is ambiguous are left out: they neither bound a hole nor fill one.

    Parameters
    ----------
    frame : rows of ``trades`` in any order; needs venue, symbol, agg_trade_id, event_time, is_ambiguous.
    """
    sure = frame.filter(~pl.col("is_ambiguous").fill_null(False), pl.col("agg_trade_id").is_not_null())
    before = pl.col("agg_trade_id").shift().over("venue", "symbol")
    return _holes(
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
    return _holes(table, bars, missing=_step(table) // interval_ms(interval) - 1).filter(pl.col("missing") > 0)


def mark_gaps(frame: pl.DataFrame) -> pl.DataFrame:
    """Silence of more than 5 s in mark prices per venue and symbol; ``missing`` is estimated at one a second."""
    holes = _holes(
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
    cause : reconnect, sequence, silence, crash, disk, exchange, corrupt or import.
    state : open, repaired, partial or unrepairable.
    repair_source : endpoint that was asked; None while open.
    rows_recovered : rows that the repair brought; a series has one number per hole.
    """
    rows = holes.with_columns(
        gap_id=_gap_id(),
        cause=pl.lit(cause),
        state=pl.lit(state),
        repair_source=pl.lit(repair_source, pl.String),
        rows_recovered=pl.lit(rows_recovered),
        detected_time=pl.lit(detected_time.astimezone(UTC)),
    )
    return conform(rows, GAPS)


def coverage(
    lake: Lake,
    *,
    tables: Sequence[str] | None = None,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    venue: str = "aster",
) -> pl.DataFrame:
    """How complete each day is: ``COVERAGE``, ordered by table, symbol, interval, date.

    Days run from ``start``, or the first stored row, to ``end``, or the last stored row; a day in between without rows
    has a row of its own. Klines and mark prices are counted against that whole range. Trades are counted by their ids,
    so what lies before the first and after the last stored id is unknown and not counted: look at ``first_time`` and
    ``last_time``. A hole over midnight is shared out by time, exact for klines and an estimate for trades.

    Parameters
    ----------
    lake : the lake.
    tables : names of tables; None for every table of market data with rows.
    symbols : None for every symbol with rows.
    start, end : UTC, [start, end).
    venue : whose rows.
    """
    start, end = (moment and moment.astimezone(UTC) for moment in (start, end))
    found = []
    for name in tables if tables is not None else [name for name in TABLES if name not in LEDGERS]:
        for symbol in symbols if symbols is not None else lake.symbols(name):
            asked = _Asked(table=TABLES[name], symbol=symbol, start=start, end=end, venue=venue)
            found.append(_symbol_coverage(lake, asked))
    days = pl.concat([COVERAGE.to_frame(), *found])
    return days.sort("table", "symbol", "interval", "date", nulls_last=True)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Whose completeness is asked for; ``interval`` is None for everything but klines."""

    table: Table
    symbol: str
    start: datetime | None
    end: datetime | None
    venue: str
    interval: str | None = None


def _symbol_coverage(lake: Lake, asked: _Asked) -> pl.DataFrame:
    """``COVERAGE`` of one symbol in one table."""
    table = asked.table
    wanted = ("venue", "symbol", "interval", table.time, "agg_trade_id", "is_ambiguous")
    rows = lake.scan(
        table.name,
        symbols=[asked.symbol],
        start=asked.start,
        end=asked.end,
        columns=[name for name in wanted if name in table.columns],
        venue=asked.venue,
    )
    if "interval" not in table.columns or table.name not in _COUNTED or rows.is_empty():
        return _days(lake, rows, asked)
    parts = []
    for (interval,), bars in rows.partition_by("interval", as_dict=True).items():
        parts.append(_days(lake, bars, replace(asked, interval=interval)))
    return pl.concat(parts)


def _days(lake: Lake, rows: pl.DataFrame, asked: _Asked) -> pl.DataFrame:
    """``COVERAGE`` of the rows of one symbol and interval."""
    table, symbol, interval, start, end = asked.table, asked.symbol, asked.interval, asked.start, asked.end
    times = rows[table.time]
    first = start or times.min()
    last = end - timedelta(milliseconds=1) if end else times.max()
    if first is None or last is None or last < first:
        return COVERAGE.to_frame()
    counted = (~pl.col("is_ambiguous").fill_null(False)).sum() if "is_ambiguous" in rows.columns else pl.len()
    present = rows.group_by(pl.col(table.time).dt.date().alias("date")).agg(
        rows=pl.len().cast(pl.Int64),
        first_time=pl.col(table.time).min(),
        last_time=pl.col(table.time).max(),
        counted=counted.cast(pl.Int64),
    )
    holes = pl.concat([_find(table, rows, interval), _edges(times, asked)])
    known = (
        lake.scan(GAPS.name, symbols=[symbol], venue=asked.venue).sort("detected_time").unique("gap_id", keep="last")
    )
    holes = holes.with_columns(gap_id=_gap_id()).join(
        known.select("gap_id", ledger="state"), on="gap_id", how="left", maintain_order="left"
    )
    dates = pl.DataFrame({"date": pl.date_range(first.date(), last.date(), eager=True)})
    days = (
        dates.join(present, on="date", how="left")
        .join(_shares(holes), on="date", how="left")
        .with_columns(pl.col("rows").fill_null(0), pl.col("longest_gap_ms").fill_null(0))
    )
    if table.name in _COUNTED:
        days = days.with_columns(pl.col("missing").fill_null(0), expected=pl.col("counted").fill_null(0))
        days = days.with_columns(expected=pl.col("expected") + pl.col("missing"))
    else:
        days = days.with_columns(missing=pl.lit(None, pl.Int64), expected=pl.lit(None, pl.Int64))
    is_empty = pl.col("rows") == 0
    is_known = pl.col("expected") > 0  # a day without rows and outside every hole expects nothing that can be counted
    return days.select(
        table=pl.lit(table.name),
        symbol=pl.lit(symbol),
        interval=pl.lit(interval, pl.String),
        date="date",
        rows="rows",
        first_time="first_time",
        last_time="last_time",
        expected=pl.when(is_known).then("expected"),
        missing=pl.when(is_known).then("missing"),
        is_estimate=pl.col("is_estimate").fill_null(table.name not in _COUNTED or table is MARK_PRICE),
        covered=pl.when(is_empty)
        .then(0.0)
        .when(is_known)
        .then((pl.col("expected") - pl.col("missing")) / pl.col("expected")),
        longest_gap_ms="longest_gap_ms",
        state=pl.when(is_empty)
        .then(pl.lit("missing"))
        .when(~is_known.fill_null(False))
        .then(pl.lit("unknown"))
        .when(pl.col("missing") == 0)
        .then(pl.lit("complete"))
        .when(pl.col("is_unrepairable"))
        .then(pl.lit("unrepairable"))
        .otherwise(pl.lit("open")),
    )


def _find(table: Table, rows: pl.DataFrame, interval: str | None) -> pl.DataFrame:
    """The holes of a table; where they cannot be known, each day's longest silence and those over midnight."""
    if table is TRADES:
        return trade_gaps(rows)
    if interval is not None:
        return kline_gaps(rows, interval, table)
    if table is MARK_PRICE:
        return mark_gaps(rows)
    silences = _holes(table, rows.sort(table.time), missing=pl.lit(None, pl.Int64), is_estimate=pl.lit(True))
    length = pl.col("to_time") - pl.col("from_time")
    day = pl.col("from_time").dt.date()
    over_midnight = day != pl.col("to_time").dt.date()
    return silences.filter(over_midnight | (length == length.max().over(day, over_midnight)))


def _edges(times: pl.Series, asked: _Asked) -> pl.DataFrame:
    """What is missing between the asked range and the stored rows, where the step is known."""
    table, interval, start, end = asked.table, asked.interval, asked.start, asked.end
    if interval is None and table is not MARK_PRICE:
        return HOLES.to_frame()
    step_ms = MARK_STEP_MS if interval is None else interval_ms(interval)
    step = timedelta(milliseconds=step_ms)
    silence = timedelta(milliseconds=MARK_SILENCE_MS) if interval is None else step
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    edges = []
    if start is not None:
        due = epoch + -(-(start - epoch) // step) * step  # the first step at or after the start
        edges.append((due - step, times.min() if len(times) else end))
    if end is not None and len(times):
        edges.append((times.max(), end))
    rows = [
        {
            "table": table.name,
            "venue": asked.venue,
            "symbol": asked.symbol,
            "interval": interval,
            "from_time": before,
            "to_time": after,
            "missing": -(-(after - before) // step) - 1,
            "is_estimate": interval is None,
        }
        for before, after in edges
        if after is not None and after - before > silence
    ]
    return pl.DataFrame(rows, schema=HOLES)


def _shares(holes: pl.DataFrame) -> pl.DataFrame:
    """Each date's part of the holes: date, missing, is_estimate, longest_gap_ms, is_unrepairable.

    Rows missing in a hole over several dates are taken as evenly spaced, which they are for klines.
    """
    day = pl.col("date").cast(TIME_MS).to_physical()
    begin, until = pl.col("from_time").to_physical(), pl.max_horizontal("from_time", "to_time").to_physical()
    reached = pl.min_horizontal(until, day + DAY_MS)
    entered = pl.max_horizontal(begin, day)

    def missed(moment: pl.Expr) -> pl.Expr:
        spaced = -((-(moment - begin) * (pl.col("missing") + 1)) // pl.max_horizontal(until - begin, 1)) - 1
        return pl.when(moment >= until).then(pl.col("missing")).otherwise(spaced.clip(lower_bound=0))

    crosses = pl.col("from_time").dt.date() != pl.col("to_time").dt.date()
    return (
        holes.with_columns(
            date=pl.date_ranges(pl.col("from_time").dt.date(), pl.max_horizontal("from_time", "to_time").dt.date())
        )
        .explode("date")
        .with_columns(
            share=missed(reached) - pl.when(entered > begin).then(missed(entered)).otherwise(0),
            length=reached - entered,
            is_estimate=pl.col("is_estimate") | (crosses & pl.col("from_id").is_not_null()),
        )
        .group_by("date")
        .agg(
            missing=pl.col("share").sum(),
            is_estimate=pl.col("is_estimate").any(),
            longest_gap_ms=pl.col("length").max(),
            is_unrepairable=(pl.col("ledger") == "unrepairable").fill_null(False).all(),
        )
    )


def _holes(table: Table, rows: pl.DataFrame, **found: pl.Expr) -> pl.DataFrame:
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


def _gap_id() -> pl.Expr:
    """table|symbol|from|to: ids where there are ids, else milliseconds since 1970; klines name their interval too."""
    ends = [
        pl.coalesce(number, time.to_physical()).cast(pl.String)
        for number, time in (("from_id", pl.col("from_time")), ("to_id", pl.col("to_time")))
    ]
    return pl.concat_str("table", "symbol", "interval", *ends, separator="|", ignore_nulls=True)
