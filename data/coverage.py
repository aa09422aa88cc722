"""How complete the lake is: per table, symbol, interval and UTC day."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from data.gaps import MARK_SILENCE_MS, MARK_STEP_MS
from data.lake_reader import LakeReader
from data.schema import GAPS, MARK_PRICE, TABLES, TRADES, interval_ms
from data.schema_clusters import DERIVED
from data.stored_days import BARS, COUNTED, STREAM, seams, stored_days
from data.table import TIME_MS

DAY_MS = 86_400_000

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
        "unrepairable": pl.Int64,  # of the missing, those that the ledger has given up; null where it cannot be known
        "is_estimate": pl.Boolean,
        "covered": pl.Float64,  # fraction of expected rows, of quotes and books of the time; null where nobody knows
        "longest_gap_ms": pl.Int64,  # longest hole, of this day's share; where holes cannot be known, longest silence
        "state": pl.String,  # complete, open, unrepairable, missing (no row that day), unknown
    }
)
LEDGERS = (  # tables that no completeness can be told of
    "gaps", "quarantine", "conflicts", "instruments", "clock", "raw", "announcements", "index_references",
    "trials", "holdouts", *DERIVED,
)  # fmt: skip
_HOLE = pl.Schema(
    {**{name: COVERAGE[name] for name in STREAM}, "from_time": TIME_MS, "to_time": TIME_MS, "missing": pl.Int64}
)


def coverage(
    lake: LakeReader,
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
    ``last_time``. A hole over midnight is shared out by time, exact for klines and an estimate for trades. Of quotes,
    books and liquidations nobody can count what is missing: they are covered as far as the ledger knows of no time in
    which nobody listened, and where it knows none, it is unknown.

    Parameters
    ----------
    lake : the lake.
    tables : names of tables; None for every table of market data with rows.
    symbols : None for every symbol with rows.
    start, end : UTC, [start, end).
    venue : whose rows.
    """
    start, end = (moment and moment.astimezone(UTC) for moment in (start, end))
    with lake.still() as (still, _):  # files may be merged meanwhile
        return _coverage(still, tables, symbols, start, end, venue)


def _coverage(
    lake: LakeReader,
    tables: Sequence[str] | None,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    venue: str,
) -> pl.DataFrame:
    names = list(tables) if tables is not None else [name for name in TABLES if name not in LEDGERS]
    wanted = {}
    for name in names:
        stored = lake.symbols(name)
        wanted[name] = stored if symbols is None else [each for each in symbols if tables is not None or each in stored]
    days = stored_days(lake, wanted, start, end, venue)
    if tables is None or symbols is None:  # not asked for by name: what has rows of this venue, if on other days
        present = set(days.select("table", "symbol").unique().iter_rows())
        wanted = {
            name: [each for each in those if (name, each) in present or lake.span(name, each, venue)]
            for name, those in wanted.items()
        }
    calendar = _calendar(days, wanted, start, end)
    holes = pl.concat([seams(days).select(_HOLE.names()), _edges(days, start, end)])
    known = _ledger(lake, list({symbol for each in wanted.values() for symbol in each}), venue)
    is_open = pl.col("state") == "open"
    lost, due = (_shares(known.filter(which)).select(*STREAM, "date", "share") for which in (~is_open, is_open))
    found = (
        calendar.join(days, on=[*STREAM, "date"], how="left", nulls_equal=True)
        .join(_shares(holes), on=[*STREAM, "date"], how="left", nulls_equal=True)
        .join(lost.rename({"share": "lost"}), on=[*STREAM, "date"], how="left", nulls_equal=True)
        .join(due.rename({"share": "still_open"}), on=[*STREAM, "date"], how="left", nulls_equal=True)
        .join(_unheard(known, start, end), on=[*STREAM, "date"], how="left", nulls_equal=True)
    )
    return _told(found).sort(*STREAM, "date", nulls_last=True)


def coverage_ratio(
    lake: LakeReader,
    table: str,
    symbol: str,
    start: datetime,
    end: datetime,
    interval: str | None = None,
    *,
    venue: str = "aster",
) -> float | None:
    """The fraction of what happened in [start, end) that the lake holds; None where that cannot be known.

    Trades are counted by id, from the last stored before the range to the first after it. Where there is none, what is
    missing at that end is taken from how often the symbol traded. Of quotes, books and liquidations it is the fraction
    of time in which somebody listened, as far as the ledger knows of a time in which nobody did.

    Parameters
    ----------
    interval : of klines; needed where several are stored.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    with lake.still() as (still, _):
        if table == TRADES.name:
            return _trades_ratio(still, symbol, start, end, venue)
        if table not in COUNTED:
            known = _ledger(still, [symbol], venue).filter(pl.col("table") == table)
            unheard = _unheard(known, start, end)
            return 1.0 - unheard["unheard_ms"].sum() / _ms(end - start) if len(unheard) else None
        days = _coverage(still, [table], [symbol], start, end, venue)
    if interval is not None:
        days = days.filter(pl.col("interval") == interval)
    if days["interval"].n_unique() > 1:
        stored = ", ".join(days["interval"].unique().sort())
        raise ValueError(f"{table} of {symbol}: expected one interval, {stored} are stored; name one of them")
    expected = days["expected"].sum()
    return 1.0 - days["missing"].sum() / expected if expected else 0.0


def _trades_ratio(lake: LakeReader, symbol: str, start: datetime, end: datetime, venue: str) -> float | None:
    """``coverage_ratio`` of trades."""
    before, inside, after = (
        stored_days(lake, {TRADES.name: [symbol]}, *side, venue).filter(pl.col("counted") > 0)
        for side in ((None, start), (start, end), (end, None))
    )
    between = seams(pl.concat([before.tail(1), inside, after.head(1)]))
    length_ms = (pl.col("to_time") - pl.col("from_time")).dt.total_milliseconds()
    in_range_ms = (pl.min_horizontal("to_time", pl.lit(end)) - pl.max_horizontal("from_time", pl.lit(start))).dt
    share = pl.col("missing") * in_range_ms.total_milliseconds() / pl.max_horizontal(length_ms, 1)
    counted = inside["counted"].sum()
    missing = inside["missing"].sum() + (between.select(share.sum()).item() or 0.0)
    if inside.is_empty() and (before.is_empty() or after.is_empty()):
        return 0.0
    first, last = inside["first_time"].min(), inside["last_time"].max()
    open_ms = (_ms(first - start) if before.is_empty() else 0) + (_ms(end - last) if after.is_empty() else 0)
    if open_ms and counted < 2:
        return None  # nobody knows how often it traded
    if open_ms:
        missing += open_ms // max(_ms(last - first) / (counted - 1), 1)
    return counted / (counted + missing) if counted + missing else 1.0


def _calendar(
    days: pl.DataFrame, wanted: dict[str, list[str]], start: datetime | None, end: datetime | None
) -> pl.DataFrame:
    """Every stream and date that is told of, with or without rows, and the part of it in the range, ms."""
    last_moment = None if end is None else end - timedelta(milliseconds=1)
    spans = days.group_by(STREAM).agg(
        first=pl.lit(start, TIME_MS) if start else pl.col("first_time").min(),
        last=pl.lit(last_moment, TIME_MS) if end else pl.col("last_time").max(),
    )
    if start is not None and end is not None:
        present = set(days.select("table", "symbol").unique().iter_rows())
        blank = [
            {"table": name, "symbol": symbol, "interval": None, "first": start, "last": last_moment}
            for name, symbols in wanted.items()
            for symbol in symbols
            if (name, symbol) not in present
        ]
        spans = pl.concat([spans, pl.DataFrame(blank, schema=spans.schema)])
    dated = spans.filter(pl.col("first") <= pl.col("last")).with_columns(
        date=pl.date_ranges(pl.col("first").dt.date(), pl.col("last").dt.date())
    )
    midnight = pl.col("date").cast(TIME_MS)
    inside = pl.min_horizontal(midnight + timedelta(milliseconds=DAY_MS - 1), "last") - pl.max_horizontal(
        midnight, "first"
    )
    return dated.explode("date").select(*STREAM, "date", asked_ms=inside.dt.total_milliseconds() + 1)


def _edges(days: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """``_HOLE`` between the asked range and the stored rows, where the step is known."""
    known = days.filter(pl.col("table").is_in([*BARS, MARK_PRICE.name]))
    spans = known.group_by(STREAM).agg(pl.col("first_time").min(), pl.col("last_time").max())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    edges = []
    for table, symbol, interval, first, last in spans.iter_rows():
        step_ms = MARK_STEP_MS if interval is None else interval_ms(interval)
        step = timedelta(milliseconds=step_ms)
        silence = timedelta(milliseconds=MARK_SILENCE_MS) if interval is None else step
        reaches = []
        if start is not None:
            whole = epoch if interval is None else first  # weeks open on no whole multiple of their length
            due = whole + -(-(start - whole) // step) * step  # the first step at or after the start
            reaches.append((due - step, first))
        if end is not None:
            reaches.append((last, end))
        edges += [
            (table, symbol, interval, before, after, -(-(after - before) // step) - 1)
            for before, after in reaches
            if after - before > silence
        ]
    return pl.DataFrame(edges, schema=_HOLE, orient="row")


def _ledger(lake: LakeReader, symbols: Sequence[str], venue: str) -> pl.DataFrame:
    """The newest word on each gap: ``_HOLE`` with what is still missing of it, and its state."""
    # mark prices are repaired in part only, by klines of another table
    recovered = pl.when(pl.col("table") != MARK_PRICE.name).then("rows_recovered").fill_null(0)
    told = lake.scan(GAPS.name, symbols=symbols, venue=venue).sort("detected_time").unique("gap_id", keep="last")
    return told.filter(pl.col("state") != "repaired").select(
        *STREAM,
        "from_time",
        "to_time",
        (pl.col("missing") - recovered).alias("missing"),
        "state",
    )


def _unheard(known: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    """Milliseconds per date in which the ledger says that nobody listened, of what cannot be counted."""
    begun, ended = pl.col("from_time"), pl.col("to_time")
    deaf = (
        known.filter(~pl.col("table").is_in(COUNTED))
        .sort("table", "symbol", "from_time")
        .with_columns(
            pl.lit(None, pl.String).alias("interval"),
            # gaps that overlap count once
            from_time=pl.max_horizontal(begun, ended.cum_max().shift().over("table", "symbol"), pl.lit(start, TIME_MS)),
            to_time=pl.min_horizontal(ended, pl.lit(end, TIME_MS)),
        )
    )
    dated = _dated(deaf.filter(pl.col("from_time") < pl.col("to_time")))
    return dated.group_by(*STREAM, "date").agg(
        unheard_ms=pl.col("length").sum(), is_open=(pl.col("state") == "open").any()
    )


def _dated(holes: pl.DataFrame) -> pl.DataFrame:
    """Each hole once per date that it touches; ``entered``, ``reached``, ``length``: that date's part of it, ms."""
    until = pl.max_horizontal("from_time", "to_time")
    day = pl.col("date").cast(TIME_MS).to_physical()
    return (
        holes.with_columns(
            date=pl.date_ranges(pl.col("from_time").dt.date(), until.dt.date()),
            begin=pl.col("from_time").to_physical(),
            until=until.to_physical(),
        )
        .explode("date")
        .with_columns(entered=pl.max_horizontal("begin", day), reached=pl.min_horizontal("until", day + DAY_MS))
        .with_columns(length=pl.col("reached") - pl.col("entered"))
    )


def _shares(holes: pl.DataFrame) -> pl.DataFrame:
    """Each date's part of the holes of each stream: share, the rows missing; hole_ms, the longest; is_shared.

    Rows missing in a hole over several dates are taken as evenly spaced, which they are for klines.
    """
    begin, until, missing = pl.col("begin"), pl.col("until"), pl.col("missing")

    def missed(moment: pl.Expr) -> pl.Expr:
        spaced = -((-(moment - begin) * (missing + 1)) // pl.max_horizontal(until - begin, 1)) - 1
        return pl.when(moment >= until).then(missing).otherwise(spaced.clip(lower_bound=0))

    entered = pl.when(pl.col("entered") > begin).then(missed(pl.col("entered"))).otherwise(0)
    dated = _dated(holes).with_columns(
        share=missed(pl.col("reached")) - entered,
        is_shared=(pl.col("table") == TRADES.name) & (pl.col("from_time").dt.date() != pl.col("to_time").dt.date()),
    )
    return dated.group_by(*STREAM, "date").agg(
        pl.col("share").sum(), pl.col("is_shared").any(), hole_ms=pl.col("length").max()
    )


def _told(found: pl.DataFrame) -> pl.DataFrame:
    """``COVERAGE`` from what is known of every date."""
    is_counted = pl.col("table").is_in(COUNTED)
    days = found.with_columns(
        pl.col("rows").fill_null(0),
        missing=pl.when(is_counted).then(pl.col("missing").fill_null(0) + pl.col("share").fill_null(0)),
        longest_gap_ms=pl.max_horizontal("longest_gap_ms", "hole_ms").fill_null(0),
        heard=1.0 - (pl.col("unheard_ms") / pl.col("asked_ms")).clip(upper_bound=1.0),
    ).with_columns(expected=pl.col("counted").fill_null(0) + pl.col("missing"))
    is_empty = pl.col("rows") == 0
    is_known = (pl.col("expected") > 0).fill_null(False)  # without rows and outside every hole nothing is expected
    # a bar that was given up may have come all the same: what the ledger has open is not given up
    given_up = pl.col("missing") - pl.col("still_open").fill_null(0)
    unrepairable = pl.min_horizontal(given_up.clip(lower_bound=0), pl.col("lost").fill_null(0))
    return days.select(
        *STREAM,
        "date",
        "rows",
        "first_time",
        "last_time",
        pl.when(is_known).then("expected").alias("expected"),
        pl.when(is_known).then("missing").alias("missing"),
        unrepairable=pl.when(is_known).then(unrepairable),
        is_estimate=~is_counted | (pl.col("table") == MARK_PRICE.name) | pl.col("is_shared").fill_null(False),
        covered=pl.when(is_empty)
        .then(0.0)
        .when(is_known)
        .then((pl.col("expected") - pl.col("missing")) / pl.col("expected"))
        .otherwise("heard"),
        longest_gap_ms="longest_gap_ms",
        state=pl.when(is_empty)
        .then(pl.lit("missing"))
        .when(is_known & (pl.col("missing") == 0))
        .then(pl.lit("complete"))
        .when(is_known)
        .then(pl.when(unrepairable >= pl.col("missing")).then(pl.lit("unrepairable")).otherwise(pl.lit("open")))
        .when(pl.col("heard").is_null())
        .then(pl.lit("unknown"))
        .otherwise(pl.when("is_open").then(pl.lit("open")).otherwise(pl.lit("unrepairable"))),
    ).cast(dict(COVERAGE))


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
