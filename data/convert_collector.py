"""The prior data collector's CSV files: ``trades_*``, ``prices_*`` and ``orderbook_*``, one symbol each.

The collector kept one clock per file: the exchange's ``T`` for trades, its own receipt time for prices and books. It
wrote raw and aggregate trade ids into one column; ``id_spaces`` tells them apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
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
    read_pieces,
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
PIECE_BYTES = 16 * 2**20  # of a file, read and checked at once
PIECE_ROWS = 500_000  # trades that land at once
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
_TRADE_TABLES = {"agg_trade_id": "trades", "trade_id": "raw_trades"}
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
    """Rows for the lake, symbol by symbol, in pieces that fit in memory; a file is told of behind its last piece.

    All trade files of a symbol are judged together: what one file proves about an id space holds in the next.
    """
    for symbol in dict.fromkeys(source.symbol for source in found):
        trades = [source for source in found if source.symbol == symbol and source.kind == "trades"]
        if trades:
            yield from _trade_batches(trades, symbol)
        for source in found:
            if source.symbol == symbol and source.kind != "trades":
                yield from _quote_batches(source)


def _trade_batches(found: Sequence[Source], symbol: str) -> Iterator[Batch]:
    """Bad lines as they are met, then the aggregates, then the raw trades, then everything that was counted."""
    origin = ", ".join(source.path.name for source in found)
    read, lines, quarantined = [], [0] * len(found), [0] * len(found)
    for number, source in enumerate(found):
        for rows in read_pieces(source.path, LAYOUTS["trades"], piece_bytes=PIECE_BYTES):
            lines[number] += rows.good.height + rows.bad.height
            quarantined[number] += rows.bad.height
            read.append(_wire(rows.good, number))
            bad = quarantine_rows(source.path, rows, symbol=symbol, table="trades")
            yield Batch(table="trades", symbol=symbol, frame=pl.DataFrame(), origin=origin, bad=bad)
    trades = pl.concat(read, rechunk=True)
    read.clear()
    trades = trades.hstack(id_spaces(trades.select("id", "event_ms", "file")).select("space", "is_ambiguous"))
    trades = trades.with_columns(_is_duplicate(trades))
    is_raw, is_duplicate = pl.col("space") == "raw", pl.col("is_duplicate")
    counted = trades.select(
        aggregates=(~is_raw & ~is_duplicate).sum(),
        raw=(is_raw & ~is_duplicate).sum(),
        ambiguous=(pl.col("is_ambiguous") & ~is_duplicate).sum(),
        repeated_aggregates=(~is_raw & is_duplicate).sum(),
        repeated_raw=(is_raw & is_duplicate).sum(),
    ).row(0, named=True)
    yield from _landing(
        trades, ~is_raw, symbol, id_name="agg_trade_id", origin=origin, duplicates=counted["repeated_aggregates"]
    )
    raw = _raw_trades(trades)
    yield from _landing(raw, is_raw, symbol, id_name="trade_id", origin=origin, duplicates=counted["repeated_raw"])
    duplicates = [
        trades.select((is_duplicate & (pl.col("file") == number)).sum()).item() for number in range(len(found))
    ]
    yield Batch(
        table="trades",
        symbol=symbol,
        frame=pl.DataFrame(),
        origin=origin,
        files=tuple(
            FileCount(file=source.path.name, rows=rows, quarantined=bad, duplicates=repeated)
            for source, rows, bad, repeated in zip(found, lines, quarantined, duplicates, strict=True)
        ),
        trades=TradeCount(
            symbol=symbol,
            aggregates=counted["aggregates"],
            raw=counted["raw"],
            repeats=raw["repeats_agg_trade_id"].count(),
            ambiguous=counted["ambiguous"],
            switches=id_space_switches(trades),
        ),
    )


def _wire(good: pl.DataFrame, number: int) -> pl.DataFrame:
    """What is kept of every trade of all files while they are judged: it must fit in memory."""
    return good.select(
        "id",
        "price",
        "quantity",
        event_ms="unix_timestamp_ms",
        is_buyer_maker=pl.col("side") == "sell",  # the side is the taker's
        file=pl.lit(number, pl.UInt16),
    )


def _is_duplicate(trades: pl.DataFrame) -> pl.Series:
    """True where an earlier row of the same id space says the same."""
    ids = trades["id"].sort()
    twice = ids.filter(ids == ids.shift()).unique()
    # only these are compared in full: for all rows that would take more memory than the rows
    again = trades.with_row_index("row").filter(pl.col("id").is_in(twice.implode()))
    content = pl.struct("id", "event_ms", "price", "quantity", "is_buyer_maker", "space")
    rows = again.filter(~content.is_first_distinct())["row"]
    is_duplicate = np.zeros(trades.height, bool)
    is_duplicate[rows.to_numpy()] = True
    return pl.Series("is_duplicate", is_duplicate)


def _raw_trades(trades: pl.DataFrame) -> pl.DataFrame:
    """The distinct raw trades, with the aggregate that each repeats."""
    is_raw = pl.col("space") == "raw"
    distinct = trades.lazy().filter(~pl.col("is_duplicate"))
    # a raw trade and the aggregate it repeats have the same time
    at_raw = distinct.join(distinct.filter(is_raw), on="event_ms", how="semi", maintain_order="left").collect()
    return at_raw.with_columns(repeats_agg_trade_id=repeated_aggregates(at_raw)).filter(is_raw)


def _landing(
    trades: pl.DataFrame, wanted: pl.Expr, symbol: str, *, id_name: str, origin: str, duplicates: int
) -> Iterator[Batch]:
    """The wanted distinct trades, a piece after the other; the first one tells of the duplicates."""
    for piece in trades.iter_slices(PIECE_ROWS):
        rows = piece.filter(wanted & ~pl.col("is_duplicate"))
        if not rows.is_empty():
            yield Batch(
                table=_TRADE_TABLES[id_name],
                symbol=symbol,
                frame=_trade_frame(rows, symbol, id_name=id_name),
                origin=origin,
                duplicates=duplicates,
            )
            duplicates = 0


def _trade_frame(rows: pl.DataFrame, symbol: str, *, id_name: str) -> pl.DataFrame:
    return rows.select(
        pl.lit(VENUE).alias("venue"),
        pl.lit(symbol).alias("symbol"),
        pl.col("id").alias(id_name),
        pl.from_epoch("event_ms", "ms").dt.replace_time_zone("UTC").alias("event_time"),
        "price",
        "quantity",
        "is_buyer_maker",
        *(["repeats_agg_trade_id"] if id_name == "trade_id" else []),
        "is_ambiguous",
        pl.lit("import").alias("source"),
    )


def _quote_batches(source: Source) -> Iterator[Batch]:
    """Prices or books of one file, then what was counted."""
    table = TABLE_OF[source.kind]
    line_count = quarantined = derived_differs = 0
    seen = []
    for rows in read_pieces(source.path, LAYOUTS[source.kind], piece_bytes=PIECE_BYTES):
        frame = _quote_frame(rows, source)
        line_count += rows.good.height + rows.bad.height
        quarantined += rows.bad.height
        derived_differs += rows.derived_differs
        seen.append(frame.hash_rows())  # 8 bytes for each row of the file
        yield Batch(
            table=table,
            symbol=source.symbol,
            frame=frame,
            origin=source.path.name,
            bad=quarantine_rows(source.path, rows, symbol=source.symbol, table=table),
        )
    hashes = pl.concat(seen)
    count = FileCount(
        file=source.path.name,
        rows=line_count,
        quarantined=quarantined,
        duplicates=len(hashes) - hashes.n_unique(),
        derived_differs=derived_differs,
    )
    yield Batch(table=table, symbol=source.symbol, frame=pl.DataFrame(), origin=source.path.name, files=(count,))


def _quote_frame(rows: Rows, source: Source) -> pl.DataFrame:
    """Rows of ``book_ticker`` or ``depth``."""
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
    return rows.good.select(**common, **columns)


def _lake_name(column: str) -> str:
    """``bid_qty_0`` in the file is ``bid_quantity_0`` in the lake."""
    return column.replace("_qty_", "_quantity_")


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
