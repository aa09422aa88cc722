"""What the lake's commands show: rows of tables for a terminal, from the frames and files of the lake."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from data.lake import Lake
from data.manifest import FileEntry
from data.schema import TABLES
from research import formats

_STREAM = ["table", "symbol", "interval"]
_STATES = ("complete", "unknown", "unrepairable", "missing", "open")  # a stream is in the worst of its days' states
FIGURES = ("rows", "missing", "beyond repair", "covered", "longest gap", "MB", "bytes/row")  # stand to the right


def stream_rows(covered: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per stream of ``data.coverage.COVERAGE``."""
    worst = pl.col("state").replace_strict({state: rank for rank, state in enumerate(_STATES)}, return_dtype=pl.Int64)
    streams = covered.group_by(_STREAM, maintain_order=True).agg(
        pl.len().alias("days"),
        pl.col("first_time").min(),
        pl.col("last_time").max(),
        pl.col("rows", "expected", "missing", "unrepairable").sum(),
        pl.col("expected").count().alias("counted"),
        pl.col("covered").mean(),
        pl.col("longest_gap_ms").max(),
        worst.max().alias("rank"),
    )
    return [
        {
            **_stream(row),
            "days": row["days"],
            "first": row["first_time"],
            "last": row["last_time"],
            "rows": formats.count(row["rows"]),
            "missing": formats.count(row["missing"]) if row["counted"] else formats.UNKNOWN,
            "beyond repair": formats.count(row["unrepairable"]) if row["counted"] else formats.UNKNOWN,
            "covered": _share(1.0 - row["missing"] / row["expected"] if row["expected"] else row["covered"]),
            "longest gap": _length(row["longest_gap_ms"]),
            "state": _STATES[row["rank"]],
        }
        for row in streams.iter_rows(named=True)
    ]


def day_rows(covered: pl.DataFrame) -> list[dict[str, Any]]:
    """One row per stream and day of ``data.coverage.COVERAGE``."""
    return [
        {
            **_stream(row),
            "date": row["date"],
            "rows": formats.count(row["rows"]),
            "missing": formats.UNKNOWN if row["missing"] is None else formats.count(row["missing"]),
            "covered": _share(row["covered"]),
            "longest gap": _length(row["longest_gap_ms"]),
            "state": row["state"],
        }
        for row in covered.iter_rows(named=True)
    ]


def size_rows(entries: Sequence[FileEntry], *, by_day: bool = False) -> list[dict[str, Any]]:
    """How large each table is, or each day of each: numbers, for scripts too."""
    order = list(TABLES)

    def place(entry: FileEntry) -> tuple:
        return (order.index(entry.table), *((entry.dt,) if by_day else ()))

    told = []
    for _, group in groupby(sorted(entries, key=place), key=place):
        files = list(group)
        rows, size = sum(entry.rows for entry in files), sum(entry.bytes for entry in files)
        told.append(
            {
                "table": files[0].table,
                **({"date": files[0].dt} if by_day else {}),
                "first": min(entry.min_time for entry in files),
                "last": max(entry.max_time for entry in files),
                "files": len(files),
                "rows": rows,
                "bytes": size,
                "bytes_per_row": round(size / rows, 2) if rows else None,
            }
        )
    return told


def shown_sizes(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """``size_rows`` for a terminal."""
    return [
        {
            **{name: row[name] for name in ("table", "date", "first", "last", "files") if name in row},
            "rows": formats.count(row["rows"]),
            "MB": formats.number(row["bytes"] / 1e6, 1),
            "bytes/row": formats.number(row["bytes_per_row"], 1),
        }
        for row in rows
    ]


def left_over(lake: Lake) -> dict[str, int]:
    """Bytes beside the lake's tables: the raw log that is not sealed yet, replaced files, files set aside."""
    folders = {
        "unsealed_log_bytes": lake.root.glob("wal/**/*.wal*"),
        "replaced_bytes": (lake.root / replaced.path for replaced in lake.replaced()),
        "set_aside_bytes": lake.root.glob("set_aside/*"),
    }
    return {name: sum(map(_disk_bytes, paths)) for name, paths in folders.items()}


def _disk_bytes(path: Path) -> int:
    """What a file takes on the disk, 0 when it is gone; a segment that grows is longer than what it holds."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _stream(row: dict[str, Any]) -> dict[str, str]:
    return {"table": " ".join(filter(None, (row["table"], row["interval"]))), "symbol": row["symbol"]}


def _share(fraction: float | None) -> str:
    """Never rounded up to all of it."""
    if fraction is None:
        return formats.UNKNOWN
    return formats.percent(min(fraction, 0.99999) if fraction < 1.0 else 1.0, decimals=3)


def _length(ms: int | None) -> str:
    return formats.UNKNOWN if not ms else formats.age(ms / 1_000)
