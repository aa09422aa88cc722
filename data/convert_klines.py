"""Files of 1m klines as REST gives them: Parquet or CSV, one symbol each, named ``aster_<SYMBOL>_1m``.

REST answers the running bar as well, and the bars of the last minutes before a fetch may still change. A file does not
say when it was fetched, so take its last few bars with care or fetch them again.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from data.convert_report import Batch, Skipped, file_count
from data.convert_rows import (
    AMOUNT,
    COUNT,
    MINUTE_MS,
    PRICE,
    Layout,
    check_columns,
    header_layout,
    parquet_columns,
    quarantine_rows,
    read_frame_rows,
    read_parquet,
    read_rows,
)
from data.lake import Lake

VENUE = "aster"
INTERVAL = "1m"
FILE_NAMES = "aster_<SYMBOL>_1m.parquet, aster_<SYMBOL>_1m.csv"
LAYOUT = Layout(
    name="klines",
    columns={
        "open_time": MINUTE_MS,
        **dict.fromkeys(("open", "high", "low", "close"), PRICE),
        **dict.fromkeys(("volume", "quote_volume"), AMOUNT),
        "trades": COUNT,
        **dict.fromkeys(("taker_buy_base", "taker_buy_quote"), AMOUNT),
    },
)
_LAKE_NAMES = {
    "trades": "trade_count",
    "taker_buy_base": "taker_buy_volume",
    "taker_buy_quote": "taker_buy_quote_volume",
}
TABLES = ("klines",)
_NAME = re.compile(r"aster_(?P<symbol>.+)_1m\.(parquet|csv)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import and its symbol."""

    path: Path
    symbol: str


def sources(paths: Sequence[Path], symbol: str | None) -> tuple[list[Source], list[Skipped]]:
    """The kline files among ``paths`` and those left alone.

    A single file may have any name if ``symbol`` is given. Raises ValueError on other columns.
    """
    found, skipped = [], []
    for path in sorted(paths):
        name = _NAME.fullmatch(path.name)
        if name is None and not (symbol and len(paths) == 1 and path.suffix in (".parquet", ".csv")):
            skipped.append(Skipped(file=path.name, reason=f"not one of {FILE_NAMES}"))
        elif name is not None and len(paths) > 1 and symbol not in (None, name["symbol"]):
            skipped.append(Skipped(file=path.name, reason=f"holds {name['symbol']}, asked for {symbol}"))
        elif path.suffix == ".csv" and header_layout(path, [LAYOUT]) is None:
            skipped.append(Skipped(file=path.name, reason="empty file"))
        else:
            if path.suffix == ".parquet":
                check_columns(path, parquet_columns(path), LAYOUT)
            found.append(Source(path=path, symbol=symbol or name["symbol"]))
    return found, skipped


def batches(found: Sequence[Source]) -> Iterator[Batch]:
    """Rows of ``klines``, file by file."""
    for source in found:
        if source.path.suffix == ".parquet":
            rows = read_frame_rows(read_parquet(source.path), LAYOUT, source.path)
        else:
            rows = read_rows(source.path, [LAYOUT])
        frame = rows.good.select(
            venue=pl.lit(VENUE),
            symbol=pl.lit(source.symbol),
            interval=pl.lit(INTERVAL),
            source=pl.lit("rest"),
            **{_LAKE_NAMES.get(name, name): pl.col(name) for name in LAYOUT.columns if name != "open_time"},
            open_time=pl.from_epoch("open_time", "ms").dt.replace_time_zone("UTC"),
        )
        yield Batch(
            table="klines",
            symbol=source.symbol,
            frame=frame,
            origin=source.path.name,
            bad=quarantine_rows(source.path, rows, symbol=source.symbol, table="klines"),
            files=(file_count(source.path, frame, rows.bad),),
        )


def export_symbol(
    lake: Lake, folder: Path, symbol: str, *, start: datetime | None, end: datetime | None
) -> list[tuple[str, int]]:
    """Write a symbol's 1m bars as Parquet; returns the file's name and rows, or nothing where the lake has none."""
    stored = lake.scan("klines", symbols=[symbol], start=start, end=end, venue=VENUE)
    rows = stored.filter(pl.col("interval") == INTERVAL).select(
        pl.col("open_time").dt.epoch("ms"),
        # the files this comes from count trades in floats
        *(pl.col(_LAKE_NAMES.get(name, name)).cast(pl.Float64).alias(name) for name in list(LAYOUT.columns)[1:]),
    )
    if rows.is_empty():
        return []
    name = f"aster_{symbol}_1m.parquet"
    partial = folder / f"{name}.part"
    rows.write_parquet(partial)
    partial.replace(folder / name)
    return [(name, rows.height)]
