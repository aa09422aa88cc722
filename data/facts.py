"""What the manifest knows of a file's rows without reading them: ranges that find rows again, facts that count them.

Both are pure functions of a frame. A file too long for one frame is described piece by piece and then ``merged``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from data.gaps import MARK_SILENCE_MS, MARK_STEP_MS
from data.schema import INDEX_KLINES, KLINES, MARK_KLINES, MARK_PRICE, interval_ms
from data.table import Table

OWNER = ("venue", "symbol", "interval")

FACTS = pl.Schema(
    {
        "venue": pl.String,  # "" where the table has none
        "symbol": pl.String,  # "" where the table has none
        "interval": pl.String,  # null but for klines
        "rows": pl.Int64,
        "counted": pl.Int64,  # rows whose id is sure; all of them in a table without ids
        "first_ms": pl.Int64,  # by the table's time, ms since 1970
        "last_ms": pl.Int64,
        "first_id": pl.Int64,  # of the counted rows; null in a table without ids
        "last_id": pl.Int64,
        "missing": pl.Int64,  # rows missing between the first and the last; null where that cannot be known
        "longest_gap_ms": pl.Int64,  # longest hole between two rows, or silence where holes cannot be known
        "longest_gap_from_ms": pl.Int64,  # the last row before it; null without one
    }
)
_SPANS = pl.Schema({"venue": pl.String, "symbol": pl.String, "column": pl.String, "first": pl.Int64, "last": pl.Int64})


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the manifest keeps of a file's rows: ``spans`` as ``ranges`` returns them, ``facts`` as ``FACTS``."""

    spans: pl.DataFrame
    facts: pl.DataFrame


def describing(table: Table) -> list[str]:
    """The columns that ``described`` looks at, in the table's order."""
    wanted = {*OWNER, "is_ambiguous", *table.ranged}
    return [name for name in table.columns if name in wanted]


def described(frame: pl.DataFrame, table: Table) -> Described:
    """Spans and facts of rows; needs the columns ``describing(table)``, any order."""
    return Described(spans=ranges(frame, table), facts=facts(frame, table))


def merged(pieces: Sequence[Described], table: Table) -> Described:
    """Spans and facts of a file from those of its pieces, which follow each other as the rows in the file do."""
    spans = (
        pl.concat([_SPANS.to_frame(), *(piece.spans for piece in pieces)])
        .group_by("venue", "symbol", "column", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max())
    )
    return Described(spans=spans, facts=merged_facts([piece.facts for piece in pieces], table))


def ranges(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """First and last of every ranged column per venue and symbol: venue, symbol, column, first, last (int64)."""
    owner = [
        pl.col(name).fill_null("") if name in table.columns else pl.lit("").alias(name) for name in ("venue", "symbol")
    ]
    values = [pl.col(name).to_physical().cast(pl.Int64) for name in table.ranged]
    return (
        frame.select(*owner, *values)
        .group_by("venue", "symbol")
        .agg(
            *(pl.col(name).min().alias(f"first:{name}") for name in table.ranged),
            *(pl.col(name).max().alias(f"last:{name}") for name in table.ranged),
        )
        .unpivot(index=["venue", "symbol"])
        .drop_nulls("value")
        .with_columns(pl.col("variable").str.splitn(":", 2).struct.rename_fields(["end", "column"]))
        .unnest("variable")
        .pivot(on="end", on_columns=["first", "last"], index=["venue", "symbol", "column"], values="value")
    )


def facts(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """``FACTS`` of rows, one per venue, symbol and interval.

    A hole in ids lies between two counted rows whose ids are not consecutive, one in klines between two that are more
    than one step apart, one in mark prices is a silence of two seconds or more. Elsewhere the longest silence is told.
    """
    lean = frame.select(
        pl.col("venue").fill_null("") if "venue" in table.columns else pl.repeat("", pl.len()).alias("venue"),
        pl.col("symbol").fill_null("") if "symbol" in table.columns else pl.repeat("", pl.len()).alias("symbol"),
        pl.col("interval")
        if "interval" in table.columns
        else pl.repeat(None, pl.len(), dtype=pl.String).alias("interval"),
    )
    owners, codes = _numbered(lean)
    rows = frame.select(
        codes,
        ms=pl.col(table.time).to_physical(),
        id=pl.lit(None, pl.Int64) if table.ids is None else pl.col(table.ids),
        sure=pl.lit(True) if table.ids is None else is_sure(table),
    )
    counted = rows.filter("sure")
    known = rows.group_by("owner").agg(
        rows=pl.len().cast(pl.Int64), first_ms=pl.col("ms").min(), last_ms=pl.col("ms").max()
    )
    of_counted = counted.group_by("owner").agg(
        counted=pl.len().cast(pl.Int64), first_id=pl.col("id").min(), last_id=pl.col("id").max()
    )
    ordered = _ascending(counted, "ms" if table.ids is None else "id")
    pairs = ordered.select(
        "owner",
        "ms",
        before_ms=pl.col("ms").shift(),
        ids_apart=pl.col("id").diff(),
        is_pair=pl.col("owner") == pl.col("owner").shift(),
    ).filter("is_pair")
    steps = _steps(table, owners)
    longest = _longest(_holes(table, pairs.join(steps, on="owner") if steps["step_ms"].is_not_null().any() else pairs))
    return _complete(table, owners, known.join(of_counted, on="owner", how="left"), longest, steps)


def merged_facts(pieces: Sequence[pl.DataFrame], table: Table) -> pl.DataFrame:
    """``FACTS`` of a file from those of its pieces, in file order: what lies between two pieces counts too."""
    whole = pl.concat([FACTS.to_frame(), *pieces])
    owners, codes = _numbered(whole.select(OWNER))
    whole = whole.with_columns(codes)
    steps = _steps(table, owners)
    seams = (
        whole.filter(pl.col("counted") > 0)
        .select(
            "owner",
            ms="first_ms",
            before_ms=pl.col("last_ms").shift().over("owner"),
            ids_apart=pl.col("first_id") - pl.col("last_id").shift().over("owner"),
        )
        .filter(pl.col("before_ms").is_not_null())
    )
    between = _holes(table, seams.join(steps, on="owner"))
    inside = whole.select(
        "owner", length_ms="longest_gap_ms", before_ms="longest_gap_from_ms", estimated=pl.col("missing").fill_null(0)
    )
    known = whole.group_by("owner").agg(
        pl.col("rows").sum(),
        pl.col("counted").sum(),
        pl.col("first_ms").min(),
        pl.col("last_ms").max(),
        pl.col("first_id").min(),
        pl.col("last_id").max(),
    )
    return _complete(table, owners, known, _longest(pl.concat([inside, between.select(inside.columns)])), steps)


def is_sure(table: Table) -> pl.Expr:
    """True for rows of a table with ids whose id is known to be one of the exchange's."""
    return pl.col(table.ids).is_not_null() & ~pl.col("is_ambiguous").fill_null(False)


def _numbered(lean: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The owners with a number each, and each row's number; text is looked at only where it changes."""
    changes = lean.select(
        pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in OWNER).alias("changes")
    )["changes"]
    changes[0] = True
    runs = lean.filter(changes)
    owners = runs.unique(maintain_order=True).with_row_index("owner")
    of_runs = runs.join(owners, on=OWNER, how="left", nulls_equal=True, maintain_order="left")["owner"]
    return owners, of_runs.gather(changes.cum_sum() - 1).alias("owner")


def _ascending(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Rows by owner and this column; files hold them so already."""
    step, same = pl.col(column).diff(), pl.col("owner") == pl.col("owner").shift()
    is_back = (pl.col("owner") < pl.col("owner").shift()) | (same & (step < 0))
    return rows.sort("owner", column) if rows.select(is_back.any()).item() else rows


def _steps(table: Table, owners: pl.DataFrame) -> pl.DataFrame:
    """Milliseconds from one row to the next where that is fixed, per owner: ``step_ms``, else null."""
    lengths: list[int | None] = []
    for interval in owners["interval"]:
        fixed = table in (KLINES, MARK_KLINES, INDEX_KLINES) and not interval.endswith("M")  # months differ in length
        lengths.append(interval_ms(interval) if fixed else MARK_STEP_MS if table is MARK_PRICE else None)
    return owners.select("owner", step_ms=pl.Series(lengths, dtype=pl.Int64))


def _holes(table: Table, pairs: pl.DataFrame) -> pl.DataFrame:
    """Those neighbours between which something is missing, or may be: with length_ms and the estimate of how many."""
    apart = pl.col("ms") - pl.col("before_ms")
    is_hole = pl.lit(True)
    if table.ids is not None:
        is_hole = pl.col("ids_apart") > 1
    elif table is MARK_PRICE:
        is_hole = apart > MARK_SILENCE_MS
    elif "step_ms" in pairs.columns:
        is_hole = pl.col("step_ms").is_null() | (apart // pl.col("step_ms") > 1)
    missed = (apart + MARK_STEP_MS // 2) // MARK_STEP_MS - 1 if table is MARK_PRICE else pl.lit(0, pl.Int64)
    return pairs.filter(is_hole).with_columns(length_ms=pl.max_horizontal(apart, 0), estimated=missed)


def _longest(holes: pl.DataFrame) -> pl.DataFrame:
    """Per owner the longest hole, the first of several, and how many rows are thought to be missing in all."""
    longest = pl.col("length_ms").max()
    return holes.group_by("owner").agg(
        longest_gap_ms=longest,
        longest_gap_from_ms=pl.col("before_ms").filter(pl.col("length_ms") == longest).min(),
        estimated=pl.col("estimated").sum(),
    )


def _complete(
    table: Table, owners: pl.DataFrame, known: pl.DataFrame, longest: pl.DataFrame, steps: pl.DataFrame
) -> pl.DataFrame:
    """The rows of ``FACTS``, with how many rows are missing."""
    counted = pl.col("counted").fill_null(0)
    if table.ids is not None:
        missing = pl.col("last_id") - pl.col("first_id") + 1 - counted
    elif table is MARK_PRICE:
        missing = pl.col("estimated").fill_null(0)
    else:
        missing = (pl.col("last_ms") - pl.col("first_ms")) // pl.col("step_ms") + 1 - counted
    found = owners
    for more in (known, longest, steps):
        found = found.join(more, on="owner", how="left")
    complete = found.with_columns(
        missing=missing, counted=counted, longest_gap_ms=pl.col("longest_gap_ms").fill_null(0)
    )
    return complete.select(FACTS.names()).cast(FACTS).sort(OWNER)
