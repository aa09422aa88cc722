"""Report sections on the recorded market: prices, realised liquidations, and what is missing."""

from datetime import datetime

import polars as pl

from data.coverage import coverage
from data.lake import Lake
from data.schema import GAPS, INDEX_KLINES, MARK_KLINES, MARK_PRICE
from pipelines.report import Section, Table
from research import formats, plots
from research.bars import Bars

SHOWN_GAPS = 20
LOWER_BOUND = (
    "The feed tells at most one liquidation per symbol and second, the last of that second: every count and sum here "
    "is a lower bound."
)
_CLOSED = {"SELL": "▼ longs closed (forced sell)", "BUY": "△ shorts closed (forced buy)"}


def covered_days(
    lake: Lake, symbols: tuple[str, ...], start: datetime, end: datetime, *, venue: str = "aster"
) -> pl.DataFrame:
    """``data.coverage.COVERAGE`` of what bars are built from and of everything else that was recorded.

    A table that was never recorded is left out, which is not a gap; so are mark and index klines where mark prices
    stream: a recorder asks for them once, as history.
    """
    covered = coverage(lake, symbols=list(symbols), start=start, end=end, venue=venue)
    covered = covered.filter(pl.col("rows").sum().over("table", "symbol") > 0)
    has_marks = (pl.col("table") == MARK_PRICE.name).any().over("symbol")
    return covered.filter(~(has_marks & pl.col("table").is_in([MARK_KLINES.name, INDEX_KLINES.name])))


def market_section(bars: Bars, covered: pl.DataFrame) -> Section:
    """Candles of the swept symbol and how much was recorded.

    Parameters
    ----------
    covered : ``covered_days``.
    """
    seen = covered.group_by("table", "symbol", maintain_order=True).agg(
        pl.col("rows").sum(), pl.col("first_time").min(), pl.col("last_time").max()
    )
    names = seen["symbol"].unique(maintain_order=True).to_list()
    first, last = formats.moment(seen["first_time"].min()), formats.moment(seen["last_time"].max())
    cells = {(table, symbol): rows for table, symbol, rows in seen.select("table", "symbol", "rows").iter_rows()}
    rows = tuple(
        (table, *(formats.count(cells.get((table, name))) for name in names))
        for table in seen["table"].unique(maintain_order=True)
    )
    return Section(
        title="The market",
        intro=f"{formats.count(seen['rows'].sum())} rows of {', '.join(names)}, from {first} to {last}.",
        figures=(plots.plot_candles(bars.frame, symbol=bars.symbol, tick_size=float(bars.instrument["tick_size"])),),
        tables=(Table(title="Recorded rows", columns=("table", *names), align="l" + "r" * len(names), rows=rows),),
    )


def liquidations_section(bars: Bars, forced: pl.DataFrame) -> Section:
    """Where positions were closed by force, and how much by side.

    Parameters
    ----------
    forced : rows of ``force_orders`` of the report's symbols and range.
    """
    own = forced.filter(pl.col("symbol") == bars.symbol)
    sides = (
        forced.with_columns(
            pl.col("side").cast(pl.String),
            pl.col("event_time").dt.truncate("1h").alias("hour"),
            (pl.col("average_price") * pl.col("filled_quantity")).alias("usdt"),
        )
        .group_by("symbol", "side", "hour")
        .agg(pl.len().alias("prints"), pl.col("usdt").sum(), pl.col("usdt").max().alias("largest"))
        .group_by("symbol", "side")
        .agg(
            pl.col("prints").sum(),
            pl.col("usdt").sum(),
            pl.col("largest").max(),
            pl.col("usdt").max().alias("busiest_usdt"),
            pl.col("hour").get(pl.col("usdt").arg_max()).alias("busiest_hour"),
        )
        .sort("symbol", "side", descending=[False, True])
    )
    rows = tuple(
        (
            row["symbol"],
            _CLOSED[row["side"]],
            formats.count(row["prints"]),
            formats.usdt(row["usdt"]),
            formats.usdt(row["largest"]),
            f"{formats.usdt(row['busiest_usdt'])} on {row['busiest_hour']:%d %b %H:00}",
        )
        for row in sides.iter_rows(named=True)
    )
    if not rows:
        return Section(title="Liquidations", intro="None was recorded.")
    tick = float(bars.instrument["tick_size"])
    return Section(
        title="Liquidations",
        intro=LOWER_BOUND,
        figures=(plots.plot_liquidations(bars.frame, own, symbol=bars.symbol, tick_size=tick),),
        tables=(
            Table(
                title="Realised liquidations, at least",
                columns=("symbol", "side", "prints", "sum, USDT", "largest, USDT", "busiest hour, USDT and UTC"),
                align="llrrrr",
                rows=rows,
            ),
        ),
    )


def gaps_section(
    lake: Lake,
    covered: pl.DataFrame,
    symbols: tuple[str, ...],
    start: datetime,
    end: datetime,
    *,
    venue: str = "aster",
) -> Section:
    """What is missing from the record of [start, end): in words when nothing is, else the ledger's rows.

    Parameters
    ----------
    covered : ``covered_days``.
    """
    streams = covered.group_by("table", "symbol", maintain_order=True).agg(
        # The sum of nothing known is not zero.
        pl.when(pl.col("missing").is_not_null().any()).then(pl.col("missing").sum()).alias("missing"),
        pl.col("is_estimate").any(),
        pl.col("covered").mean(),
        pl.col("longest_gap_ms").max(),
    )
    ledger = _ledger(lake, symbols, start, end, venue)
    rows = tuple(
        (
            f"{row['table']} {row['symbol']}",
            f"{'about ' if row['is_estimate'] and row['missing'] else ''}{formats.count(row['missing'])}",
            formats.percent(row["covered"], decimals=2),
            formats.age(row["longest_gap_ms"] / 1000) if row["longest_gap_ms"] else "none",
        )
        for row in streams.iter_rows(named=True)
    )
    tables = [
        Table(
            title="What is missing, by stream",
            columns=("stream", "rows missing", "complete", "longest gap or silence"),
            align="lrrr",
            rows=rows,
            note=f"{formats.UNKNOWN} where rows come when they come: how many should have come cannot be known, and "
            "the last column is the longest silence."
            if streams["missing"].has_nulls()
            else "",
        )
    ]
    if not ledger.is_empty():
        tables.append(_ledger_table(ledger))
    return Section(
        title="Gaps",
        intro=_gaps_in_words(int(streams["missing"].sum() or 0), ledger),
        figures=(plots.plot_gap_calendar(covered),),
        tables=tuple(tables),
    )


def _ledger(lake: Lake, symbols: tuple[str, ...], start: datetime, end: datetime, venue: str) -> pl.DataFrame:
    """The newest word on every gap of the ledger that touches [start, end)."""
    known = lake.scan(GAPS.name, symbols=list(symbols), venue=venue).sort("detected_time").unique("gap_id", keep="last")
    return known.filter(pl.col("from_time") < end, pl.col("to_time") > start).sort("from_time", "table", "symbol")


def _gaps_in_words(missing: int, ledger: pl.DataFrame) -> str:
    if not missing and ledger.is_empty():
        return "None: no row that can be counted is missing, and the ledger of gaps is empty."
    entered = "the ledger of gaps is empty"
    if not ledger.is_empty():
        states = ledger["state"].value_counts(sort=True).iter_rows()
        entered = "the ledger has " + ", ".join(f"{formats.count(count)} {state}" for state, count in states)
    return f"{formats.count(missing)} rows that can be counted are missing; {entered}."


def _ledger_table(ledger: pl.DataFrame) -> Table:
    largest = ledger.sort("missing", descending=True, nulls_last=True).head(SHOWN_GAPS)
    rows = tuple(
        (
            row["table"],
            row["symbol"],
            f"{row['from_time']:%d %b %H:%M:%S}",
            f"{row['to_time']:%d %b %H:%M:%S}",
            formats.count(row["missing"]),
            row["cause"],
            row["state"],
        )
        for row in largest.sort("from_time").iter_rows(named=True)
    )
    return Table(
        title=f"Largest {len(rows)} of {formats.count(ledger.height)} gaps in the ledger",
        columns=("table", "symbol", "last before, UTC", "first after, UTC", "rows missing", "cause", "state"),
        align="llllrll",
        rows=rows,
    )
