"""Notebook 01, is the lake complete: what it holds, how complete each stream is, where the gaps are."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl
from IPython.display import HTML, Markdown

from data.config import parse_utc
from data.coverage import COVERAGE, LEDGERS, coverage
from data.gaps import HOLES, kline_gaps, mark_gaps, trade_gaps
from data.lake import Lake, default_lake
from data.schema import MARK_PRICE, TABLES, TRADES, interval_ms
from data.synthetic import fill_lake
from pipelines.demo import MARKET
from pipelines.notebook_views import NOTHING, named, progress, show
from pipelines.report import Table
from pipelines.runs import default_runs
from research import formats, plots
from research.plots.style import Figure

SHOWN_GAPS = 12
SHOWN_SYMBOLS = 12
COMPLETE = 0.999  # fraction of expected rows from which a day counts as complete


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a lake holds of some symbols in a range.

    Attributes
    ----------
    lake : None where there is none yet.
    symbols : those looked at; none where the lake has no market data.
    elsewhere : how many more the lake has rows of, none of them from aster.
    coverage : ``data.coverage.COVERAGE``.
    holes : ``data.gaps.HOLES`` and their ``cause`` from the ledger (null where it knows none), longest first.
    """

    folder: Path
    lake: Lake | None = None
    symbols: tuple[str, ...] = ()
    elsewhere: int = 0
    start: datetime | None = None
    end: datetime | None = None
    coverage: pl.DataFrame = field(default_factory=COVERAGE.to_frame)
    holes: pl.DataFrame = field(default_factory=HOLES.to_frame)


def symbols_in(lake: Lake) -> list[str]:
    """Every symbol that a lake has a row of."""
    return sorted({symbol for name in TABLES if name not in LEDGERS for symbol in lake.symbols(name)})


def look_into(lake: str, symbols: str, start: str, end: str) -> Contents:
    """Read how complete a lake is; where there is none, or an empty one, so are its contents.

    Raises
    ------
    LookupError
        On a symbol that the lake has no row of.
    """
    folder = named(lake, default_lake())
    try:
        opened = Lake(folder)
    except LookupError:
        return Contents(folder=folder)
    there = symbols_in(opened)
    if not there:
        return Contents(folder=folder, lake=opened)
    named_ones = [symbol.strip().upper() for symbol in symbols.split(",") if symbol.strip()]
    chosen = named_ones or _from_aster(opened) or there
    for symbol in chosen:
        if symbol not in there:
            near = difflib.get_close_matches(symbol, there, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(there)}"
            raise LookupError(f"no rows of {symbol} in {folder}; {hint}")
    span = {"start": _utc(start), "end": _utc(end)}
    tell = progress()
    covered = []
    for done, symbol in enumerate(chosen):
        tell(f"coverage, {symbol}", done, len(chosen))
        covered.append(coverage(opened, symbols=[symbol], **span))
    table = pl.concat(covered).sort("table", "symbol", "interval", "date", nulls_last=True)
    holes = _holes(opened, table, span, tell)
    tell("symbols read", len(chosen), len(chosen))
    elsewhere = 0 if named_ones else len(there) - len(chosen)
    return Contents(
        folder=folder, lake=opened, symbols=tuple(chosen), elsewhere=elsewhere, coverage=table, holes=holes, **span
    )


def synthetic_lake() -> str:
    """Fill the demo's own lake with its synthetic market; returns its folder, a value for the parameter ``lake``."""
    lake = Lake(default_runs() / "demo" / "lake", create=True)
    tell = progress()
    fill_lake(lake, MARKET, lambda done, total: tell("symbol-days", done, total))
    return str(lake.root)


def whereabouts(contents: Contents) -> Markdown:
    """Which rows are looked at, or what to run where there are none."""
    if not contents.symbols:
        state = "There is no lake" if contents.lake is None else "The lake holds no market data"
        return Markdown(
            f"{state} at `{contents.folder}`. Fill it with `aster record` or `aster import`, or look "
            "around in a seeded synthetic market: run `lake = views.synthetic_lake()` in a cell of its own, then the "
            "cells from here on again."
        )
    first, last = contents.coverage["first_time"].min(), contents.coverage["last_time"].max()
    more = len(contents.symbols) - SHOWN_SYMBOLS
    return Markdown(
        f"`{contents.folder}`: {', '.join(contents.symbols[:SHOWN_SYMBOLS])}"
        + (f" and {formats.count(more)} more" if more > 0 else "")
        + f", {formats.moment(first)} to {formats.moment(last)}."
        + (
            f" Of {formats.count(contents.elsewhere)} more it has only other venues' rows."
            if contents.elsewhere
            else ""
        )
    )


def tables_held(contents: Contents) -> HTML | Markdown:
    """Every table of the whole lake: rows, files, size, first and last time."""
    files = contents.lake.files() if contents.lake else []
    rows = []
    for name in TABLES:
        own = [entry for entry in files if entry.table == name]
        if own:
            rows.append(
                (
                    name,
                    formats.count(sum(entry.rows for entry in own)),
                    formats.count(len(own)),
                    formats.number(sum(entry.bytes for entry in own) / 1e6, 1),
                    formats.moment(min(entry.min_time for entry in own)),
                    formats.moment(max(entry.max_time for entry in own)),
                )
            )
    columns = ("table", "rows", "files", "size, MB", "first", "last")
    return show(Table(title="What the lake holds", columns=columns, align="lrrrll", rows=tuple(rows)))


def completeness(contents: Contents) -> HTML | Markdown:
    """A row per stream of the symbols and range looked at."""
    streams = contents.coverage.group_by("table", "symbol", "interval", maintain_order=True).agg(
        pl.len().alias("days"),
        (pl.col("rows") == 0).sum().alias("empty_days"),
        pl.col("rows").sum(),
        pl.col("expected").sum(),
        pl.col("missing").sum(),
        pl.col("expected").count().alias("counted_days"),
        pl.col("longest_gap_ms").max(),
    )
    rows = []
    for row in streams.iter_rows(named=True):
        is_counted = row["counted_days"] > 0
        rows.append(
            (
                _stream(row),
                row["symbol"],
                formats.count(row["days"]),
                formats.count(row["empty_days"]),
                formats.count(row["rows"]),
                formats.count(row["missing"] if is_counted else None),
                formats.percent(1.0 - row["missing"] / row["expected"] if is_counted else None, decimals=2),
                formats.age(row["longest_gap_ms"] / 1000) if row["longest_gap_ms"] else "none",
            )
        )
    return show(
        Table(
            title="How complete each stream is",
            columns=("stream", "symbol", "days", "empty days", "rows", "missing", "complete", "longest silence"),
            align="llrrrrrr",
            rows=tuple(rows),
            note=(
                "– where rows come when they come, so nobody can count what is missing. The longest silence is that of "
                "one UTC day; where rows can be counted only a hole is a silence."
            ),
        )
    )


def gap_calendar(contents: Contents) -> Figure | Markdown:
    """Streams against days, most damaged first."""
    return NOTHING if contents.coverage.is_empty() else plots.plot_gap_calendar(contents.coverage)


def worst_gaps(contents: Contents) -> HTML | Markdown:
    """The longest holes between stored rows."""
    if contents.coverage.is_empty():
        return NOTHING
    if contents.holes.is_empty():
        return Markdown("No gap between the stored rows of any stream whose rows can be counted.")
    rows = tuple(
        (
            _stream(row),
            row["symbol"],
            formats.moment(row["from_time"]),
            formats.moment(row["to_time"]),
            formats.age((row["to_time"] - row["from_time"]).total_seconds()),
            f"{'about ' if row['is_estimate'] else ''}{formats.count(row['missing'])}",
            row["cause"] or formats.UNKNOWN,
        )
        for row in contents.holes.head(SHOWN_GAPS).iter_rows(named=True)
    )
    return show(
        Table(
            title=f"The longest {len(rows)} of {formats.count(contents.holes.height)} gaps between stored rows",
            columns=("stream", "symbol", "last row before", "first row after", "length", "missing rows", "cause"),
            align="llllrrl",
            rows=rows,
        )
    )


def candles(contents: Contents) -> Figure | Markdown:
    """The shortest klines of the symbol that misses most of them; what is missing stays grey."""
    held = contents.coverage.filter(pl.col("table") == "klines", pl.col("rows") > 0)
    if held.is_empty():
        return NOTHING
    missed = held.group_by("symbol").agg(pl.col("missing").sum()).sort("missing", "symbol", descending=[True, False])
    symbol = missed["symbol"][0]
    interval = min(held.filter(pl.col("symbol") == symbol)["interval"], key=interval_ms)
    bars = (
        contents.lake.scan("klines", symbols=[symbol], start=contents.start, end=contents.end)
        .filter(pl.col("interval") == interval)
        .select("open_time", "open", "high", "low", "close")
        .upsample("open_time", every=interval)
    )
    instruments = contents.lake.scan("instruments", symbols=[symbol])
    tick_size = instruments["tick_size"][-1] if len(instruments) else _least_step(bars["close"])
    return plots.plot_candles(bars, symbol=symbol, tick_size=tick_size)


def lake_sentence(contents: Contents) -> Markdown:
    """Whether the lake is complete."""
    days = contents.coverage
    if days.is_empty():
        return Markdown(f"**Nothing that was asked for is recorded in `{contents.folder}`.**")
    counted = days.filter(pl.col("expected").is_not_null())
    complete, missing = int((counted["covered"] >= COMPLETE).sum()), counted["missing"].sum()
    empty, silent = int((days["state"] == "missing").sum()), int((days["state"] == "unknown").sum())
    parts = [f"{formats.count(complete)} of {formats.count(counted.height)} stream-days are complete"]
    parts.append(f"{formats.count(missing)} rows are missing" if missing else "not one row is missing")
    if contents.holes.height:
        worst = contents.holes.row(0, named=True)
        length = formats.age((worst["to_time"] - worst["from_time"]).total_seconds())
        place = f"{_stream(worst)} {worst['symbol']} on {worst['from_time']:%d %b %Y}"
        parts.append(f"the longest gap is {length} in {place}")
    if empty:
        parts.append(f"{formats.count(empty)} stream-day{'' if empty == 1 else 's'} without a row")
    verdict = "No" if empty or missing else "Yes"
    unknown = f"; of {formats.count(silent)} more only the silences are known" if silent else ""
    return Markdown(f"**{verdict}, as far as rows can be counted: {', '.join(parts)}{unknown}.**")


def _from_aster(lake: Lake) -> list[str]:
    """Symbols of which something of aster's own was recorded: of other venues nothing is counted."""
    tables = [name for name in TABLES if name not in LEDGERS]
    return lake.facts(tables=tables, venue="aster")["symbol"].unique().sort().to_list()


def _holes(lake: Lake, covered: pl.DataFrame, span: dict, tell: Callable[[str, int, int], None]) -> pl.DataFrame:
    """Holes of the streams that miss rows, longest first."""
    damaged = covered.filter(pl.col("missing") > 0).select("table", "symbol", "interval").unique(maintain_order=True)
    found = []
    for done, (name, symbol, interval) in enumerate(damaged.iter_rows()):
        tell(f"gaps, {name} {symbol}", done, damaged.height)
        table = TABLES[name]
        wanted = ("venue", "symbol", "interval", table.time, "agg_trade_id", "is_ambiguous")
        columns = [column for column in wanted if column in table.columns]
        rows = lake.scan(name, symbols=[symbol], columns=columns, **span)
        if table is TRADES:
            found.append(trade_gaps(rows))
        elif table is MARK_PRICE:
            found.append(mark_gaps(rows))
        else:
            found.append(kline_gaps(rows, interval, table))
    keys = ["table", "symbol", "interval", "from_time", "to_time"]
    told = lake.scan("gaps").sort("detected_time").unique(keys, keep="last").select(*keys, "cause")
    holes = pl.concat([HOLES.to_frame(), *found]).join(told, on=keys, how="left", nulls_equal=True)
    return holes.sort(pl.col("to_time") - pl.col("from_time"), descending=True)


def _stream(row: dict) -> str:
    return " ".join(part for part in (row["table"], row["interval"]) if part)


def _utc(text: str) -> datetime | None:
    return parse_utc(text) if text else None


def _least_step(prices: pl.Series) -> float:
    """The grid that these prices lie on, for a contract whose rules nobody recorded."""
    return 10.0 ** -max(formats.decimals_of(price) for price in prices.drop_nulls().unique())
