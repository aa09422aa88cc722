"""Files of liquidation orders gathered from public recordings: one Parquet with the wire's fields ``q p ap l z T``.

Each row names its venue. Binance's recordings kept the contract's base asset only; what the lake calls it is that and
USDT. When a row was received nobody wrote down.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from data.convert_report import Batch, Skipped, file_count
from data.convert_rows import (
    AMOUNT,
    ID,
    OPTIONAL_AMOUNT,
    OPTIONAL_PRICE,
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
from data.dedupe import has_identity
from data.schema import FORCE_ORDERS, conform

FILE_NAMES = "force_orders.parquet"
_ORDER_SIDE = Kind(
    read=lambda cell: cell, holds=lambda value: value.is_in(["BUY", "SELL"]), expected="BUY or SELL, the order's side"
)
_KNOWN_VENUE = Kind(
    read=lambda cell: cell, holds=lambda value: value.is_in(["aster", "binance"]), expected="aster or binance"
)
LAYOUT = Layout(
    name="force orders",
    columns={
        "venue": _KNOWN_VENUE,
        "file": TEXT,  # the recording it was found in, and the line there
        "source_line": ID,
        "symbol": TEXT,
        "side": _ORDER_SIDE,
        "q": AMOUNT,
        "p": OPTIONAL_PRICE,
        "ap": OPTIONAL_PRICE,
        "l": OPTIONAL_AMOUNT,
        "z": AMOUNT,
        "T": TIME_MS,
        "usd": AMOUNT,  # by the limit price at Binance and by the average one at Aster: not comparable, so not kept
    },
)
TABLES = ("force_orders",)
_CUT = r"^(.+?)(_\d{6})?$"
_WHOLE = r"^.+USD[TC](_\d{6})?$"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import, and whose rows of it (None: all symbols)."""

    path: Path
    symbol: str | None


def sources(paths: Sequence[Path], symbol: str | None) -> tuple[list[Source], list[Skipped]]:
    """The files of liquidations among ``paths`` and those left alone; a single Parquet file may have any name.

    Raises ValueError on other columns.
    """
    found, skipped = [], []
    for path in sorted(paths):
        if path.name != FILE_NAMES and not (len(paths) == 1 and path.suffix == ".parquet"):
            skipped.append(Skipped(file=path.name, reason=f"not {FILE_NAMES}"))
            continue
        expected, got = _file_columns(), parquet_columns(path)
        if got != expected:
            raise ValueError(f"{path}: expected the columns {','.join(expected)}, got {','.join(got)}")
        found.append(Source(path=path, symbol=symbol))
    return found, skipped


def batches(found: Sequence[Source]) -> Iterator[Batch]:
    """Rows of ``force_orders``, file by file."""
    for source in found:
        rows = _read(source.path)
        if source.symbol is not None:
            mine = pl.col("symbol") == source.symbol
            rows = replace(rows, good=rows.good.filter(mine), bad=rows.bad.filter(mine))
        frame = rows.good.select(FORCE_ORDERS.columns.names())
        yield Batch(
            table="force_orders",
            symbol=source.symbol,
            frame=frame,
            origin=source.path.name,
            bad=quarantine_rows(source.path, rows, symbol=None, table="force_orders"),
            files=(file_count(source.path, frame, rows.bad),),
        )


def _file_columns() -> list[str]:
    """The file calls its line what the reader calls its own."""
    return ["line" if name == "source_line" else name for name in LAYOUT.columns]


def _read(path: Path) -> Rows:
    """The file's rows with the lake's columns; those that nothing identifies are bad ones."""
    file = read_parquet(path).rename({"line": "source_line"})
    rows = read_frame_rows(file, LAYOUT, path)
    landing = rows.good.select(
        "venue",
        "side",
        symbol=_contract(),
        event_time=pl.from_epoch("T", "ms").dt.replace_time_zone("UTC"),
        quantity="q",
        price="p",
        average_price="ap",
        last_filled_quantity="l",
        filled_quantity="z",
        source=pl.lit("import"),
    )
    good = conform(landing, FORCE_ORDERS).with_columns(line=rows.good["line"])
    texts = file.select(
        line=pl.int_range(2, pl.len() + 2, dtype=pl.Int64),
        raw=pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator=","),
    )
    nameless = good.filter(~has_identity(FORCE_ORDERS)).join(texts, on="line")
    reason = pl.lit("expected p or ap, the limit or the average price, to tell the row from others; got neither")
    bad = pl.concat([rows.bad, nameless.select("line", "raw", "symbol", reason=reason).select(rows.bad.columns)])
    return replace(
        rows,
        good=good.filter(has_identity(FORCE_ORDERS)),
        bad=bad.with_columns(symbol=_contract()).sort("line"),
    )


def _contract() -> pl.Expr:
    """The contract's name in the lake: RARE is RAREUSDT, BTC_250627 is BTCUSDT_250627, SOLUSDC stays."""
    symbol = pl.col("symbol")
    cut = pl.concat_str(symbol.str.extract(_CUT, 1), pl.lit("USDT"), symbol.str.extract(_CUT, 2).fill_null(""))
    return pl.when(symbol.str.contains(_WHOLE)).then(symbol).otherwise(cut)
