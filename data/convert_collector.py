"""The prior data collector's CSV files: ``trades_*``, ``prices_*`` and ``orderbook_*``, one symbol each.

The collector kept one clock per file: the exchange's ``T`` for trades, its own receipt time for prices and books. It
wrote raw and aggregate trade ids into one column; ``id_spaces`` tells them apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from data.convert_report import Batch, FileCount, Skipped, TradeCount
from data.convert_rows import (
    ID,
    NS_PER_MS,
    OPTIONAL_AMOUNT,
    OPTIONAL_PRICE,
    PRICE,
    SIDE,
    TIME_MS,
    TIME_S,
    Layout,
    Rows,
    decimal_seconds,
    header_layout,
    quarantine_rows,
    read_rows,
    shortest,
    six_decimals,
    write_rows,
)
from data.id_spaces import id_space_switches, id_spaces, repeated_aggregates
from data.lake import Lake
from data.table import TIME_NS

VENUE = "aster"
BOOK_LEVELS = (5, 10, 20)
FILE_NAMES = "trades_<SYMBOL>.csv, prices_<SYMBOL>.csv, orderbook_<SYMBOL>.csv"
TABLES = ("trades", "raw_trades", "book_ticker", "depth")
_NAME = re.compile(r"(?P<kind>trades|prices|orderbook)_(?P<symbol>[^_.]+)(?:_[^.]*)?\.csv")
# the collector changed its clock column from float seconds to whole milliseconds in November 2025
_CLOCKS = {"unix_timestamp": TIME_S, "unix_timestamp_ms": TIME_MS}


def _book_columns(levels: int) -> list[str]:
    return [f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(levels) for what in ("price", "qty")]


TRADES = Layout(
    name="trades",
    columns={"id": ID, "unix_timestamp_ms": TIME_MS, "side": SIDE, "price": PRICE, "quantity": PRICE},
)
PRICES = tuple(
    Layout(
        name="prices",
        columns={clock: kind, "bid": PRICE, "ask": PRICE, "mid": PRICE},
        derived={"mid": (pl.col("bid") + pl.col("ask")) / 2},
    )
    for clock, kind in _CLOCKS.items()
)
ORDERBOOK = tuple(
    Layout(
        name="orderbook",
        columns={
            clock: kind,
            "lastUpdateId": ID,
            **{name: OPTIONAL_PRICE if "price" in name else OPTIONAL_AMOUNT for name in _book_columns(levels)},
        },
    )
    for levels in BOOK_LEVELS
    for clock, kind in _CLOCKS.items()
)
LAYOUTS = {"trades": (TRADES,), "prices": PRICES, "orderbook": ORDERBOOK}
TABLE_OF = {"trades": "trades", "prices": "book_ticker", "orderbook": "depth"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import, its kind (trades, prices, orderbook) and its symbol."""

    path: Path
    kind: str
    symbol: str


def sources(paths: Sequence[Path], symbol: str | None) -> tuple[list[Source], list[Skipped]]:
    """The collector's files among ``paths``, trades first, and those left alone.

    Raises
    ------
    ValueError
        If a file of the collector has another header: nothing has landed yet.
    """
    found, skipped = [], []
    for path in sorted(paths):
        name = _NAME.fullmatch(path.name)
        if name is None:
            skipped.append(Skipped(file=path.name, reason=f"not one of {FILE_NAMES}"))
        elif symbol is not None and name["symbol"] != symbol:
            skipped.append(Skipped(file=path.name, reason=f"holds {name['symbol']}, asked for {symbol}"))
        elif header_layout(path, LAYOUTS[name["kind"]]) is None:
            skipped.append(Skipped(file=path.name, reason="empty file"))
        else:
            found.append(Source(path=path, kind=name["kind"], symbol=name["symbol"]))
    return sorted(found, key=lambda source: (source.symbol, list(LAYOUTS).index(source.kind))), skipped


def batches(found: Sequence[Source]) -> Iterator[Batch]:
    """Rows for the lake, symbol by symbol.

    All trade files of a symbol are judged together: what one file proves about an id space holds in the next.
    """
    for symbol in dict.fromkeys(source.symbol for source in found):
        trades = [source for source in found if source.symbol == symbol and source.kind == "trades"]
        if trades:
            yield from _trade_batches(trades, symbol)
        for source in found:
            if source.symbol == symbol and source.kind != "trades":
                yield _quote_batch(source)


def _trade_batches(found: Sequence[Source], symbol: str) -> Iterator[Batch]:
    """Aggregates with everything that was counted, then the raw trades."""
    read = {source.path: read_rows(source.path, LAYOUTS["trades"]) for source in found}
    rows = pl.concat(
        rows.good.select(
            "id",
            "price",
            "quantity",
            event_ms="unix_timestamp_ms",
            is_buyer_maker=pl.col("side") == "sell",  # the side is the taker's
            file=pl.lit(path.name),
        )
        for path, rows in read.items()
    )
    spaces = id_spaces(rows).with_columns(
        is_duplicate=~pl.struct("id", "event_ms", "price", "quantity", "is_buyer_maker", "space").is_first_distinct()
    )
    distinct = spaces.filter(~pl.col("is_duplicate"))
    distinct = distinct.with_columns(repeats_agg_trade_id=repeated_aggregates(distinct))
    is_raw = distinct["space"] == "raw"
    repeated = spaces.filter("is_duplicate")["space"]
    yield Batch(
        table="trades",
        symbol=symbol,
        frame=_trade_frame(distinct.filter(~is_raw), symbol, id_name="agg_trade_id").drop("repeats_agg_trade_id"),
        origin=", ".join(path.name for path in read),
        duplicates=int((repeated == "aggregate").sum()),
        bad=pl.concat(quarantine_rows(path, rows, symbol=symbol, table="trades") for path, rows in read.items()),
        files=tuple(
            _file_count(path, rows, duplicates=spaces.filter(pl.col("file") == path.name)["is_duplicate"].sum())
            for path, rows in read.items()
        ),
        trades=TradeCount(
            symbol=symbol,
            aggregates=int((~is_raw).sum()),
            raw=int(is_raw.sum()),
            repeats=distinct["repeats_agg_trade_id"].count(),
            ambiguous=int(distinct["is_ambiguous"].sum()),
            switches=id_space_switches(spaces),
        ),
    )
    if is_raw.any():
        yield Batch(
            table="raw_trades",
            symbol=symbol,
            frame=_trade_frame(distinct.filter(is_raw), symbol, id_name="trade_id"),
            origin=", ".join(path.name for path in read),
            duplicates=int((repeated == "raw").sum()),
        )


def _trade_frame(rows: pl.DataFrame, symbol: str, *, id_name: str) -> pl.DataFrame:
    return rows.select(
        pl.lit(VENUE).alias("venue"),
        pl.lit(symbol).alias("symbol"),
        pl.col("id").alias(id_name),
        pl.from_epoch("event_ms", "ms").dt.replace_time_zone("UTC").alias("event_time"),
        "price",
        "quantity",
        "is_buyer_maker",
        "repeats_agg_trade_id",
        "is_ambiguous",
        pl.lit("import").alias("source"),
    )


def _quote_batch(source: Source) -> Batch:
    """Prices or books of one file."""
    rows = read_rows(source.path, LAYOUTS[source.kind])
    clock = next(iter(rows.layout.columns))
    received_ns = pl.col(clock) * (NS_PER_MS if rows.layout.columns[clock] is TIME_MS else 1)
    common = {
        "venue": pl.lit(VENUE),
        "symbol": pl.lit(source.symbol),
        "event_time": pl.from_epoch(received_ns // NS_PER_MS, "ms").dt.replace_time_zone("UTC"),
        "clock": pl.lit("receive"),
        "recv_time": pl.from_epoch(received_ns, "ns").dt.replace_time_zone("UTC"),
        "source": pl.lit("import"),
    }
    if source.kind == "prices":
        columns = {"bid_price": pl.col("bid"), "ask_price": pl.col("ask")}
    else:
        books = _book_columns((len(rows.layout.columns) - 2) // 4)
        columns = {
            "levels": pl.lit(len(books) // 4),
            "update_id": pl.col("lastUpdateId"),
            **{_lake_name(name): pl.col(name) for name in books},
        }
    frame = rows.good.select(**common, **columns)
    return Batch(
        table=TABLE_OF[source.kind],
        symbol=source.symbol,
        frame=frame,
        origin=source.path.name,
        bad=quarantine_rows(source.path, rows, symbol=source.symbol, table=TABLE_OF[source.kind]),
        files=(_file_count(source.path, rows, duplicates=frame.height - frame.n_unique()),),
    )


def _lake_name(column: str) -> str:
    """``bid_qty_0`` in the file is ``bid_quantity_0`` in the lake."""
    return column.replace("_qty_", "_quantity_")


def _file_count(path: Path, rows: Rows, *, duplicates: int) -> FileCount:
    return FileCount(
        file=path.name,
        rows=rows.good.height + rows.bad.height,
        quarantined=rows.bad.height,
        duplicates=int(duplicates),
        derived_differs=rows.derived_differs,
    )


def export_symbol(
    lake: Lake, folder: Path, symbol: str, *, start: datetime | None, end: datetime | None, levels: int
) -> list[tuple[str, int]]:
    """Write a symbol's trades, prices and books; returns file names and their rows. Tables without rows write no file.

    Each id space of the trades comes in one piece, raw trades first, as after a start of the collector: so an import
    of the export can tell them apart as well as the first import could. The clock column is milliseconds where every
    time is a whole millisecond, else seconds. Books are those with an update id and at least ``levels`` levels.
    """

    def scan(table: str) -> pl.DataFrame:
        return lake.scan(table, symbols=[symbol], start=start, end=end, venue=VENUE)

    texts = {
        "trades": _trade_texts(scan("raw_trades"), scan("trades")),
        "prices": _price_texts(scan("book_ticker")),
        "orderbook": _book_texts(scan("depth"), levels),
    }
    return [
        (f"{kind}_{symbol}.csv", write_rows(folder / f"{kind}_{symbol}.csv", columns))
        for kind, columns in texts.items()
        if any(columns.values())
    ]


def _trade_texts(raw: pl.DataFrame, aggregates: pl.DataFrame) -> dict[str, list[str]]:
    wire = ["event_time", "price", "quantity", "is_buyer_maker"]
    rows = pl.concat(
        [raw.select(*wire, id="trade_id").sort("id"), aggregates.select(*wire, id="agg_trade_id").sort("id")]
    )
    return {
        "id": shortest(rows["id"]),
        "unix_timestamp_ms": shortest(rows["event_time"].dt.epoch("ms")),
        "side": ["sell" if is_buyer_maker else "buy" for is_buyer_maker in rows["is_buyer_maker"]],
        "price": six_decimals(rows["price"]),
        "quantity": six_decimals(rows["quantity"]),
    }


def _price_texts(quotes: pl.DataFrame) -> dict[str, list[str]]:
    rows = quotes.with_columns(_received_ns()).sort("received_ns")
    # twelve digits, so that the noise of the division does not read as a value that needs more than six decimals
    mid = rows.select(((pl.col("bid_price") + pl.col("ask_price")) / 2).round_sig_figs(12)).to_series()
    return {
        **_clock_texts(rows["received_ns"]),
        "bid": shortest(rows["bid_price"]),
        "ask": shortest(rows["ask_price"]),
        "mid": six_decimals(mid),
    }


def _book_texts(books: pl.DataFrame, levels: int) -> dict[str, list[str]]:
    rows = (
        books.filter((pl.col("levels") >= levels) & pl.col("update_id").is_not_null())
        .with_columns(_received_ns())
        .sort("received_ns", "update_id")
    )
    return {
        **_clock_texts(rows["received_ns"]),
        "lastUpdateId": shortest(rows["update_id"]),
        **{name: six_decimals(rows[_lake_name(name)]) for name in _book_columns(levels)},
    }


def _received_ns() -> pl.Expr:
    """Our clock; the exchange's for rows fetched later by REST."""
    event_time = pl.col("event_time").cast(TIME_NS)
    return pl.coalesce("recv_time", event_time).dt.epoch("ns").alias("received_ns")


def _clock_texts(received_ns: pl.Series) -> dict[str, list[str]]:
    if (received_ns % NS_PER_MS == 0).all():
        return {"unix_timestamp_ms": shortest(received_ns // NS_PER_MS)}
    return {"unix_timestamp": decimal_seconds(received_ns)}
