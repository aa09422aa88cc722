"""Import of the prior collectors' files into the lake, and export back into their layouts.

Every row of an input file ends in exactly one place: its table, ``conflicts`` or ``quarantine``. What the lake holds
already changes nothing, so an import may be repeated, and one that was killed is finished by running it again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from data import convert_collector, convert_force_orders, convert_klines, convert_midfreq, convert_okx
from data.convert_report import Batch, ExportReport, FileCount, ImportReport, Skipped, TableCount, summed
from data.exchange_info import instruments, read_exchange_info
from data.lake import Lake

FORMATS = ("collector", "midfreq", "klines", "okx", "force-orders", "exchange-info")
EXPORT_FORMATS = ("collector", "midfreq", "klines")
_MODULES = {
    "collector": convert_collector,
    "midfreq": convert_midfreq,
    "klines": convert_klines,
    "okx": convert_okx,
    "force-orders": convert_force_orders,
}


def import_path(
    lake: Lake,
    path: Path,
    *,
    format: str,
    symbol: str | None = None,
    effective: datetime | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ImportReport:
    """Land a file or a folder of a prior collector's files.

    Parameters
    ----------
    format : one of ``FORMATS``.
    symbol : only this symbol; for a kline file with another name, the symbol it holds.
    effective : for exchange-info, when its rows come into force (aware); without it the file's ``serverTime``.
    progress : called with the file at hand, how many files have landed (it may be in part) and how many
        there are.

    Raises
    ------
    LookupError
        If there is no such path, or nothing of this format in it.
    ValueError
        If the format is unknown or a file's header is another format's. Headers are checked before anything lands.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"unknown format '{format}'; expected one of {', '.join(FORMATS)}")
    if not path.exists():
        raise LookupError(f"nothing to import at {path}: no such file or folder")
    if effective is not None and format != "exchange-info":
        raise ValueError(f"an effective time is for exchange-info; format {format} dates its own rows")
    batches, file_count, skipped = _batches(path, format, symbol, effective)
    counts: list[TableCount] = []
    files: list[FileCount] = []
    trades = []
    for batch in batches:
        counts += _land(lake, batch)
        files += batch.files
        if progress is not None:
            progress(batch.origin, len(files), file_count)
        if batch.trades is not None:
            trades.append(batch.trades)
    return ImportReport(
        format=format,
        path=path,
        counts=summed(counts),
        files=tuple(files),
        trades=tuple(trades),
        skipped=tuple(skipped),
    )


def _batches(
    path: Path, format: str, symbol: str | None, effective: datetime | None
) -> tuple[Iterator[Batch], int, list[Skipped]]:
    """What to land, how many files that is, and what is left alone."""
    if format == "exchange-info":
        return iter([_exchange_info_batch(path, symbol, effective)]), 1, []
    module = _MODULES[format]
    paths = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.is_file()]
    found, skipped = module.sources(paths, symbol)
    if not found and not any(each.reason == "empty file" for each in skipped):
        raise LookupError(f"no {format} files at {path}: expected {module.FILE_NAMES}")
    return module.batches(found), len(found), skipped


def _exchange_info_batch(path: Path, symbol: str | None, effective: datetime | None) -> Batch:
    rows, unreadable = instruments(read_exchange_info(path), source="import", effective=effective)
    if symbol is not None:
        rows = rows.filter(pl.col("symbol") == symbol)
    bad = pl.DataFrame(
        {
            "file": f"{path.resolve().parent.name}/{path.name}",
            "line": 1,
            "symbol": entry.get("symbol"),
            "table": "instruments",
            "reason": "expected symbol, status, PRICE_FILTER, LOT_SIZE and numbers where they are due in every entry",
            "raw": json.dumps(entry, sort_keys=True, ensure_ascii=False),
        }
        for entry in unreadable
    )
    count = FileCount(file=path.name, rows=rows.height + bad.height, quarantined=bad.height, duplicates=0)
    return Batch(table="instruments", symbol=None, frame=rows, origin=path.name, bad=bad, files=(count,))


def _land(lake: Lake, batch: Batch) -> list[TableCount]:
    """Put a batch into its table and its bad lines into quarantine."""
    counts = []
    if not batch.frame.is_empty():
        landed = lake.append(batch.table, batch.frame, origin=batch.origin)
        count = TableCount(
            table=batch.table,
            symbol=batch.symbol,
            landed=landed.landed,
            already_present=landed.already_present + batch.duplicates,
            conflicts=landed.conflicts,
        )
        counts.append(count)
    if batch.bad is not None and batch.bad.height:
        lake.append("quarantine", batch.bad.with_columns(quarantined_time=datetime.now(UTC)), origin=batch.origin)
        counts += [
            TableCount(table=batch.table, symbol=symbol, quarantined=rows.height)
            for (symbol,), rows in batch.bad.group_by("symbol", maintain_order=True)
        ]
    return counts


def export_path(
    lake: Lake,
    folder: Path,
    *,
    format: str,
    symbols: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    levels: int = 10,
) -> ExportReport:
    """Write the lake's rows of [start, end) in a prior collector's layout.

    The values are those that were imported. Derived columns are computed again. Rows come in order of time (trades: one
    id space after the other, in order of id), and a row that the source repeated comes once.

    Parameters
    ----------
    folder : created if missing; files of the same name are replaced.
    format : one of ``EXPORT_FORMATS``.
    symbols : all that the lake holds if None; their order is that of the rows of one poll (midfreq).
    levels : 5, 10 or 20 levels of the collector's books.

    Raises
    ------
    ValueError
        On a format that cannot be written or a number of levels the collector does not know.
    LookupError
        If nothing was found to write.
    """
    if format not in EXPORT_FORMATS:
        raise ValueError(f"cannot export format '{format}'; expected one of {', '.join(EXPORT_FORMATS)}")
    if levels not in convert_collector.BOOK_LEVELS:
        raise ValueError(f"levels: expected one of {convert_collector.BOOK_LEVELS}, got {levels}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = _MODULES[format].TABLES
    known = symbols if symbols is not None else sorted({symbol for table in tables for symbol in lake.symbols(table)})
    written: list[tuple[str, int]] = []
    if format == "midfreq":
        written += convert_midfreq.export_logs(lake, folder, known, start=start, end=end)
    else:
        for symbol in known:
            if format == "collector":
                written += convert_collector.export_symbol(lake, folder, symbol, start=start, end=end, levels=levels)
            else:
                written += convert_klines.export_symbol(lake, folder, symbol, start=start, end=end)
    if not written:
        raise LookupError(
            f"nothing to export as {format}: the lake has no rows of {', '.join(tables)} for "
            f"{', '.join(known) or 'any symbol'} in that range; record or import some, or widen the range"
        )
    return ExportReport(format=format, folder=folder, files=tuple(written))
