"""What the lake holds of each stream on each UTC date: how many rows, from when to when, and what is missing between.

A stream is a table, a symbol and, of klines, an interval. The manifest knows it of every file; rows are read only where
the range cuts a day, and where several files of a day together do not tell.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl

from data.facts import facts as facts_of
from data.gaps import HOLES, MARK_SILENCE_MS, MARK_STEP_MS, kline_gaps, mark_gaps, trade_gaps
from data.lake_reader import LakeReader
from data.schema import INDEX_KLINES, KLINES, MARK_KLINES, MARK_PRICE, TABLES, TRADES, interval_ms
from data.table import TIME_MS

BARS = (KLINES.name, MARK_KLINES.name, INDEX_KLINES.name)
COUNTED = (*BARS, TRADES.name, MARK_PRICE.name)  # tables of which it can be known how many rows are missing
STREAM = ["table", "symbol", "interval"]

DAYS = pl.Schema(
    {
        "table": pl.String,
        "symbol": pl.String,
        "interval": pl.String,  # klines only
        "date": pl.Date,  # UTC
        "rows": pl.Int64,
        "counted": pl.Int64,  # rows whose id is sure
        "first_time": TIME_MS,
        "last_time": TIME_MS,
        "first_id": pl.Int64,  # trades only
        "last_id": pl.Int64,
        "missing": pl.Int64,  # between the first and the last row; null where it cannot be known
        "longest_gap_ms": pl.Int64,  # longest hole between two rows; where holes cannot be known, longest silence
    }
)
_COLUMNS = ("venue", "symbol", "interval", "agg_trade_id", "is_ambiguous")  # and the table's time


def stored_days(
    lake: LakeReader, wanted: Mapping[str, Sequence[str]], start: datetime | None, end: datetime | None, venue: str
) -> pl.DataFrame:
    """``DAYS`` of every stream and date with rows in [start, end), ordered by stream and date.

    Parameters
    ----------
    wanted : symbols by table.
    start, end : UTC; None leaves that side open.
    """
    parts = [DAYS.to_frame()]
    for name, symbols in wanted.items():
        if not symbols:
            continue
        facts = lake.facts(tables=[name], symbols=symbols, start=start, end=end, venue=venue)
        days = _by_day(facts, name)
        is_cut = pl.lit(False)
        if start is not None:
            is_cut |= pl.col("first_time") < start
        if end is not None:
            is_cut |= pl.col("last_time") >= end
        is_told = pl.col("is_told") & ~is_cut
        parts.append(days.filter(is_told).select(DAYS.names()))
        for symbol, interval, day in days.filter(~is_told).select("symbol", "interval", "date").iter_rows():
            rows = _rows(lake, name, symbol, interval, _day_span(day, start, end), venue)
            parts.append(_of_rows(rows, name, symbol, interval, day))
    return pl.concat(parts).sort(*STREAM, "date", nulls_last=True)


def seams(days: pl.DataFrame) -> pl.DataFrame:
    """``HOLES`` (venue null) between the last row of a date and the first of the next date with rows.

    Of a table in which nothing can be counted it is every silence over midnight, ``missing`` null.

    Parameters
    ----------
    days : ``DAYS`` in order.
    """
    before = days.with_columns(
        from_time=pl.col("last_time").shift().over(STREAM), before_id=pl.col("last_id").shift().over(STREAM)
    )
    is_trades, is_marks = pl.col("table") == TRADES.name, pl.col("table") == MARK_PRICE.name
    between_ms = (pl.col("first_time") - pl.col("from_time")).dt.total_milliseconds()
    found = before.filter(pl.col("from_time").is_not_null()).select(
        "table",
        pl.lit(None, pl.String).alias("venue"),
        "symbol",
        "interval",
        from_id=pl.when(is_trades).then(pl.col("before_id") + 1),
        to_id=pl.when(is_trades).then(pl.col("first_id") - 1),
        from_time="from_time",
        to_time="first_time",
        missing=pl.when(is_trades)
        .then(pl.col("first_id") - pl.col("before_id") - 1)
        .when(pl.col("table").is_in(BARS))
        .then(between_ms // _step_ms(days["interval"]) - 1)
        .when(is_marks)
        .then(_silent_marks(between_ms)),
        is_estimate=~pl.col("table").is_in(COUNTED) | is_marks,
    )
    return found.filter(~pl.col("table").is_in(COUNTED) | (pl.col("missing") > 0)).select(HOLES.names())


def holes(
    lake: LakeReader,
    table: str,
    symbol: str,
    start: datetime | None,
    end: datetime | None,
    *,
    interval: str | None = None,
    venue: str = "aster",
) -> pl.DataFrame:
    """The holes between stored rows of [start, end): ``HOLES`` in time order; of a table whose holes can be known.

    Reads the rows of those days only in which some are missing.
    """
    with lake.still() as (still, _):  # files may be merged meanwhile
        days = stored_days(still, {table: [symbol]}, start, end, venue)
        if interval is not None:
            days = days.filter(pl.col("interval") == interval)
        found = [seams(days).with_columns(venue=pl.lit(venue))]
        for each, day in days.filter(pl.col("missing") > 0).select("interval", "date").iter_rows():
            rows = _rows(still, table, symbol, each, _day_span(day, start, end), venue)
            if table == TRADES.name:
                found.append(trade_gaps(rows))
            elif table in BARS:
                found.append(kline_gaps(rows, each, TABLES[table]))
            else:
                found.append(mark_gaps(rows))
    return pl.concat(found).sort("from_time", "interval")


def _by_day(facts: pl.DataFrame, name: str) -> pl.DataFrame:
    """``DAYS`` from the facts of files, and ``is_told``: false where only the rows can tell.

    Keys are unique in the lake, so counts add up over the files of a day, and what is missing follows from the first,
    the last and how many there are. Silences add up only where the files follow each other.
    """
    key = ["symbol", "interval", "date"]
    files = facts.filter(pl.col("rows") > 0).select(
        "symbol",
        (pl.col("interval") if name in BARS else pl.lit(None, pl.String)).alias("interval"),
        pl.col("dt").cast(pl.Date).alias("date"),
        pl.exclude("symbol", "interval", "dt"),
    )
    files = files.sort(*key, "first_time").with_columns(
        silence_ms=(pl.col("first_time") - pl.col("last_time").cum_max().shift().over(key)).dt.total_milliseconds()
    )
    is_alone = pl.len() == 1
    if name == TRADES.name:
        missing = pl.col("last_id").max() - pl.col("first_id").min() + 1 - pl.col("counted").sum()
    elif name in BARS:
        spanned_ms = (pl.col("last_time").max() - pl.col("first_time").min()).dt.total_milliseconds()
        missing = spanned_ms // _step_ms(files["interval"]).first() + 1 - pl.col("counted").sum()
    elif name == MARK_PRICE.name:
        missing = pl.col("missing").sum() + _silent_marks(pl.col("silence_ms")).sum()
    else:
        missing = pl.lit(None, pl.Int64)
    silence_ms = pl.col("silence_ms").fill_null(0)
    if name in (TRADES.name, *BARS):
        is_told = is_alone | (missing.fill_null(0) == 0)
        longest = pl.when(is_alone).then(pl.col("longest_gap_ms").first()).otherwise(0)
    else:
        is_told = (silence_ms >= 0).all()
        least_ms = MARK_SILENCE_MS if name == MARK_PRICE.name else 0
        between = pl.when(silence_ms > least_ms).then(silence_ms).otherwise(0)
        longest = pl.max_horizontal(pl.col("longest_gap_ms").max(), between.max())
    days = files.group_by(key).agg(
        pl.col("rows", "counted").sum(),
        pl.col("first_time", "first_id").min(),
        pl.col("last_time", "last_id").max(),
        missing=missing,
        longest_gap_ms=longest,
        is_told=is_told,
    )
    if name in COUNTED:
        days = days.with_columns(
            pl.col("missing").fill_null(0)
        )  # not one trade whose id is sure: none is known to miss
    return days.with_columns(table=pl.lit(name)).select(*DAYS.names(), "is_told").cast(dict(DAYS))


def _rows(
    lake: LakeReader, name: str, symbol: str, interval: str | None, span: tuple[datetime, datetime], venue: str
) -> pl.DataFrame:
    """What of a stream's rows of [first, last) tells holes."""
    table = TABLES[name]
    columns = [column for column in (*_COLUMNS, table.time) if column in table.columns]
    rows = lake.scan(name, symbols=[symbol], start=span[0], end=span[1], columns=columns, venue=venue)
    return rows if interval is None else rows.filter(pl.col("interval") == interval)


def _day_span(day: date, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """[midnight, midnight) of a UTC date, but not beyond [start, end)."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    last = first + timedelta(days=1)
    return first if start is None else max(first, start), last if end is None else min(last, end)


def _of_rows(rows: pl.DataFrame, name: str, symbol: str, interval: str | None, day: date) -> pl.DataFrame:
    """``DAYS`` of one date from its rows; empty without rows."""
    if rows.is_empty():
        return DAYS.to_frame()
    if name not in BARS and "interval" in rows.columns:
        rows = rows.with_columns(interval=pl.lit(None, pl.String))  # of every interval together
    return (
        facts_of(rows, TABLES[name])
        .with_columns(
            pl.col("first_ms", "last_ms").cast(TIME_MS).name.replace("_ms$", "_time"),
            table=pl.lit(name),
            symbol=pl.lit(symbol),
            interval=pl.lit(interval, pl.String),
            date=pl.lit(day),
        )
        .select(DAYS.names())
    )


def _silent_marks(silence_ms: pl.Expr) -> pl.Expr:
    """How many mark prices a silence swallowed, at one a second; none in a short one."""
    swallowed = (silence_ms + MARK_STEP_MS // 2) // MARK_STEP_MS - 1
    return pl.when(silence_ms > MARK_SILENCE_MS).then(swallowed).otherwise(0)


def _step_ms(intervals: pl.Series) -> pl.Expr:
    """Length of each row's interval, ms; null where it has none."""
    lengths = {each: interval_ms(each) for each in intervals.unique().drop_nulls()}
    return pl.col("interval").replace_strict(lengths, default=None, return_dtype=pl.Int64)
