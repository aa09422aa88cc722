"""A folder of OKX history, one symbol each: 1m bars, hourly open interest, ratios, taker volume and funding as Parquet.

OKX tells open interest in USD: base quantity is that divided by the price of the stamp, so the bars must lie beside it.
Every hourly value describes its stamp or the hour before it, taker volume too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from data.convert_report import Batch, Skipped, file_count
from data.convert_rows import (
    AMOUNT,
    MINUTE_MS,
    NUMBER,
    PRICE,
    TEXT,
    TIME_MS,
    Kind,
    Layout,
    Rows,
    parquet_columns,
    quarantine_rows,
    read_frame_rows,
    read_parquet,
)
from data.schema import interval_ms

VENUE = "okx"
INTERVAL = "1m"
FUNDING_HOURS = 8.0
OLDEST_PRICE_MS = 300_000  # an older price does not turn USD into base units
BARS_FILE = "ohlcv_1m.parquet"
_LOCAL_TIME = pl.from_epoch("ts", "ms").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Shanghai")
_TIME_TEXT = {"dt": _LOCAL_TIME.dt.strftime("%Y-%m-%d %H:%M:%S%:z")}


def _layout(name: str, columns: Mapping[str, Kind], **derived: pl.Expr) -> Layout:
    return Layout(name=name, columns={**columns, "dt": TEXT}, derived={**_TIME_TEXT, **derived})


@dataclass(frozen=True, kw_only=True)
class File:
    """One of the folder's files: the table it fills, and how."""

    table: str
    layout: Layout
    columns: Mapping[str, pl.Expr]


_EVENT_TIME = pl.from_epoch("ts", "ms").dt.replace_time_zone("UTC")
FILES = {
    BARS_FILE: File(
        table="klines",
        layout=_layout(
            "bars",
            {"ts": MINUTE_MS, **dict.fromkeys(("open", "high", "low", "close"), PRICE), "volume": AMOUNT},
        ),
        columns={
            "interval": pl.lit(INTERVAL),
            "open_time": _EVENT_TIME,
            **{name: pl.col(name) for name in ("open", "high", "low", "close", "volume")},
        },
    ),
    "open_interest.parquet": File(
        table="open_interest",
        layout=_layout("open interest", {"ts": TIME_MS, "oi": AMOUNT, "oi_value": AMOUNT}, oi=pl.col("oi_value")),
        columns={
            "event_time": _EVENT_TIME,
            "open_interest": pl.col("oi_value") / pl.col("price"),
            "open_interest_usdt": pl.col("oi_value"),
            "is_documented": pl.lit(True),
        },
    ),
    "long_short_ratio.parquet": File(
        table="ratios",
        layout=_layout("long/short ratio", {"ts": TIME_MS, "ratio": AMOUNT}),
        columns={"event_time": _EVENT_TIME, "kind": pl.lit("long_short_accounts"), "value": pl.col("ratio")},
    ),
    "taker_volume.parquet": File(
        table="ratios",
        layout=_layout("taker volume", {"ts": TIME_MS, "sellVol": PRICE, "buyVol": AMOUNT}),
        columns={
            "event_time": _EVENT_TIME,
            "kind": pl.lit("taker_buy_sell"),
            "value": pl.col("buyVol") / pl.col("sellVol"),
        },
    ),
    "funding_rate.parquet": File(
        table="funding",
        layout=_layout("funding", {"ts": TIME_MS, "fundingRate": NUMBER}),
        columns={
            "event_time": _EVENT_TIME,
            "funding_rate": pl.col("fundingRate"),
            "interval_hours": pl.lit(FUNDING_HOURS),
        },
    ),
}
FILE_NAMES = f"{', '.join(FILES)} in a folder okx-<SYMBOL>"
TABLES = tuple(dict.fromkeys(file.table for file in FILES.values()))
_FOLDER = re.compile(r"okx-(?P<symbol>.+)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import and its symbol."""

    path: Path
    symbol: str


def sources(paths: Sequence[Path], symbol: str | None) -> tuple[list[Source], list[Skipped]]:
    """The folder's files among ``paths`` and those left alone; the folder's name tells the symbol, or ``symbol`` does.

    Raises
    ------
    ValueError
        If a file has other columns, or open interest has no bars beside it.
    """
    found, skipped = [], []
    for path in sorted(paths):
        named = _FOLDER.fullmatch(path.resolve().parent.name)
        own = named["symbol"] if named else symbol
        if path.name not in FILES:
            skipped.append(Skipped(file=path.name, reason=f"not one of {FILE_NAMES}"))
        elif own is None:
            skipped.append(Skipped(file=path.name, reason="no symbol: name the folder okx-<SYMBOL> or pass --symbol"))
        elif symbol not in (None, own):
            skipped.append(Skipped(file=path.name, reason=f"holds {own}, asked for {symbol}"))
        else:
            _check_columns(path)
            found.append(Source(path=path, symbol=own))
    return found, skipped


def batches(found: Sequence[Source]) -> Iterator[Batch]:
    """Rows for the lake, file by file."""
    for source in found:
        file = FILES[source.path.name]
        rows = read_frame_rows(read_parquet(source.path), file.layout, source.path)
        if file.table == "open_interest":
            rows = _priced(rows, source)
        frame = rows.good.select(
            venue=pl.lit(VENUE), symbol=pl.lit(source.symbol), source=pl.lit("import"), **file.columns
        )
        yield Batch(
            table=file.table,
            symbol=source.symbol,
            frame=frame,
            origin=source.path.name,
            bad=quarantine_rows(source.path, rows, symbol=source.symbol, table=file.table),
            files=(file_count(source.path, frame, rows.bad, rows.derived_differs),),
        )


def _check_columns(path: Path) -> None:
    expected, got = FILES[path.name].layout.columns, parquet_columns(path)
    if got != list(expected):
        raise ValueError(f"{path}: expected the columns {','.join(expected)}, got {','.join(got)}")
    if path.name == "open_interest.parquet" and not (path.parent / BARS_FILE).exists():
        raise ValueError(
            f"{path}: open interest is in USD here and needs prices to become base units; put {BARS_FILE} beside it"
        )


def _priced(rows: Rows, source: Source) -> Rows:
    """The rows with the ``price`` of their stamp: the close of the last bar that had ended by then."""
    path = source.path.parent / BARS_FILE
    bars = read_frame_rows(read_parquet(path), FILES[BARS_FILE].layout, path).good
    closes = bars.select(ts=pl.col("ts") + interval_ms(INTERVAL), price="close").sort("ts")
    priced = (
        rows.good.sort("ts").join_asof(closes, on="ts", strategy="backward", tolerance=OLDEST_PRICE_MS).sort("line")
    )
    columns = list(FILES[source.path.name].layout.columns)
    unpriced = priced.filter(pl.col("price").is_null()).select(
        "line",
        reason=pl.lit("expected a bar that closed in the five minutes before, to turn USD into base units; got none"),
        raw=pl.concat_str(pl.col(columns).cast(pl.String), separator=","),
    )
    return replace(rows, good=priced.drop_nulls("price"), bad=pl.concat([rows.bad, unpriced]).sort("line"))
