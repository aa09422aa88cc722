"""The prior mid-frequency bot's CSV logs: one file per stream, all symbols in it, one row per symbol and poll.

Every second the bot wrote the last state it had seen, stamped with its own clock: all tables get ``clock`` receive. The
trade file holds sums over the last second of a poll that took longer than a second, so it misses trades; it goes to
``trade_samples`` and never to ``trades``.

Funding: the rates land in ``mark_price``. No row of ``funding`` is derived from them, not even where a funding time
passes inside the log: the rate seen before it is the running estimate, and the settled one is known only from REST
``fundingRate``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import add
from pathlib import Path

import polars as pl

from data.convert_report import Batch, Skipped, file_count
from data.convert_rows import (
    AMOUNT,
    FLAG,
    ID,
    NUMBER,
    OPTIONAL_AMOUNT,
    OPTIONAL_NUMBER,
    OPTIONAL_PRICE,
    PRICE,
    TEXT,
    TIME_MS,
    Layout,
    header_layout,
    quarantine_rows,
    read_rows,
    shortest,
    write_rows,
)
from data.lake import Lake

VENUE = "aster"
INTERVAL = "1m"
LEVELS = range(1, 6)

_LEAD = {"ts_unix_ms": TIME_MS, "ts_dt_utc": TEXT, "symbol": TEXT}
_TIME_TEXT = {"ts_dt_utc": pl.from_epoch("ts_unix_ms", "ms").dt.strftime("%Y-%m-%d %H:%M:%S%.6f")}


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """``part / whole``; null where the whole is 0."""
    return (part / whole).fill_nan(None)


def _depth_quantity(side: str) -> pl.Expr:
    return reduce(add, (pl.col(f"{side}{level}_qty").fill_null(0.0) for level in LEVELS))


_BID_QUANTITY, _ASK_QUANTITY = pl.col("bid_qty"), pl.col("ask_qty")
_DEPTH_COLUMNS = {
    f"{side}{level}_{what}": kind
    for side in ("bid", "ask")
    for what, kind in (("px", OPTIONAL_PRICE), ("qty", OPTIONAL_AMOUNT))
    for level in LEVELS
}


@dataclass(frozen=True, kw_only=True)
class Log:
    """One file of the bot: its layout, its table, and the lake's name of each column that is not derived."""

    layout: Layout
    table: str
    names: Mapping[str, str]


LOGS = {
    log.layout.name: log
    for log in (
        Log(
            table="kline_updates",
            layout=Layout(
                name="kline",
                columns={
                    **_LEAD,
                    "k1_start_ms": TIME_MS,
                    "k1_close_ms": TIME_MS,
                    **dict.fromkeys(("k1_open", "k1_high", "k1_low", "k1_close"), PRICE),
                    **dict.fromkeys(("k1_base_vol", "k1_quote_vol"), AMOUNT),
                    "k1_trades": ID,
                    "k1_closed": FLAG,
                },
                derived={**_TIME_TEXT, "k1_close_ms": pl.col("k1_start_ms") + 59_999},
            ),
            names={
                "k1_start_ms": "open_time",
                "k1_open": "open",
                "k1_high": "high",
                "k1_low": "low",
                "k1_close": "close",
                "k1_base_vol": "volume",
                "k1_quote_vol": "quote_volume",
                "k1_trades": "trade_count",
                "k1_closed": "is_final",
            },
        ),
        Log(
            table="book_ticker",
            layout=Layout(
                name="bookTicker",
                columns={
                    **_LEAD,
                    "bid_px": PRICE,
                    "bid_qty": AMOUNT,
                    "ask_px": PRICE,
                    "ask_qty": AMOUNT,
                    "spread": NUMBER,
                    "mid": PRICE,
                    "imbalance": OPTIONAL_NUMBER,
                    "weighted_mid": OPTIONAL_PRICE,
                },
                derived={
                    **_TIME_TEXT,
                    "spread": pl.col("ask_px") - pl.col("bid_px"),
                    "mid": (pl.col("bid_px") + pl.col("ask_px")) / 2,
                    "imbalance": _share(_BID_QUANTITY - _ASK_QUANTITY, _BID_QUANTITY + _ASK_QUANTITY),
                    "weighted_mid": _share(
                        pl.col("ask_px") * _BID_QUANTITY + pl.col("bid_px") * _ASK_QUANTITY,
                        _BID_QUANTITY + _ASK_QUANTITY,
                    ),
                },
            ),
            names={
                "bid_px": "bid_price",
                "bid_qty": "bid_quantity",
                "ask_px": "ask_price",
                "ask_qty": "ask_quantity",
            },
        ),
        Log(
            table="mark_price",
            layout=Layout(
                name="markPrice",
                columns={
                    **_LEAD,
                    "mark_px": PRICE,
                    "index_px": PRICE,
                    "funding_rate": NUMBER,
                    "next_funding_time_ms": TIME_MS,
                    "mark_index_bps": NUMBER,
                },
                derived={**_TIME_TEXT, "mark_index_bps": (pl.col("mark_px") / pl.col("index_px") - 1) * 1e4},
            ),
            names={
                "mark_px": "mark_price",
                "index_px": "index_price",
                "funding_rate": "funding_rate",
                "next_funding_time_ms": "next_funding_time",
            },
        ),
        Log(
            table="trade_samples",
            layout=Layout(
                name="aggTrade_1s",
                columns={
                    **_LEAD,
                    "n_trades_1s": ID,
                    "sum_qty_1s": AMOUNT,
                    "vwap_1s": OPTIONAL_PRICE,
                    **dict.fromkeys(("buy_qty_1s", "sell_qty_1s", "buy_notional_1s", "sell_notional_1s"), AMOUNT),
                },
                derived=_TIME_TEXT,
            ),
            names={
                "n_trades_1s": "trade_count",
                "sum_qty_1s": "quantity",
                "vwap_1s": "vwap",
                "buy_qty_1s": "buy_quantity",
                "sell_qty_1s": "sell_quantity",
                "buy_notional_1s": "buy_notional_usdt",
                "sell_notional_1s": "sell_notional_usdt",
            },
        ),
        Log(
            table="depth",
            layout=Layout(
                name="depth5",
                columns={**_LEAD, **_DEPTH_COLUMNS, "obi5": OPTIONAL_NUMBER},
                derived={
                    **_TIME_TEXT,
                    "obi5": _share(
                        _depth_quantity("bid") - _depth_quantity("ask"),
                        _depth_quantity("bid") + _depth_quantity("ask"),
                    ),
                },
            ),
            names={
                f"{side}{level}_{short}": f"{side}_{long}_{level - 1}"
                for side in ("bid", "ask")
                for short, long in (("px", "price"), ("qty", "quantity"))
                for level in LEVELS
            },
        ),
    )
}
FILE_NAMES = ", ".join(f"{name}.csv" for name in LOGS)
TABLES = tuple(log.table for log in LOGS.values())
_NAME = re.compile(rf"(?P<log>{'|'.join(LOGS)})(?:[_-].*)?\.csv")
_TIMES = ("open_time", "next_funding_time")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import, and whose rows of it (None: all symbols)."""

    path: Path
    log: Log
    symbol: str | None


def sources(paths: Sequence[Path], symbol: str | None) -> tuple[list[Source], list[Skipped]]:
    """The bot's logs among ``paths`` and the files left alone. Raises ValueError on a header that is not the log's."""
    found, skipped = [], []
    for path in sorted(paths):
        name = _NAME.fullmatch(path.name)
        if name is None:
            skipped.append(Skipped(file=path.name, reason=f"not one of {FILE_NAMES}"))
            continue
        log = LOGS[name["log"]]
        if header_layout(path, [log.layout]) is None:
            skipped.append(Skipped(file=path.name, reason="empty file"))
        else:
            found.append(Source(path=path, log=log, symbol=symbol))
    return found, skipped


def batches(found: Sequence[Source]) -> Iterator[Batch]:
    """Rows for the lake, file by file and symbol by symbol; the final bars of a kline log go to ``klines`` as well."""
    for source in found:
        rows = read_rows(source.path, [source.log.layout])
        bad = quarantine_rows(source.path, rows, symbol=None, table=source.log.table)
        good = rows.good
        if source.symbol is not None:
            good = good.filter(pl.col("symbol") == source.symbol)
            bad = bad.filter(pl.col("symbol").fill_null(source.symbol) == source.symbol)
        frame = _lake_frame(good, source.log)
        count = file_count(source.path, frame, bad, rows.derived_differs)
        yield Batch(
            table=source.log.table, symbol=None, frame=frame.clear(), origin=source.path.name, bad=bad, files=(count,)
        )
        for (symbol,), own in frame.group_by("symbol", maintain_order=True):
            yield Batch(table=source.log.table, symbol=symbol, frame=own, origin=source.path.name)
            if source.log.table == "kline_updates":
                yield Batch(table="klines", symbol=symbol, frame=_final_bars(own), origin=source.path.name)


def _lake_frame(good: pl.DataFrame, log: Log) -> pl.DataFrame:
    polled = pl.from_epoch("ts_unix_ms", "ms").dt.replace_time_zone("UTC")
    columns = {lake_name: pl.col(name) for name, lake_name in log.names.items()}
    for name in _TIMES:
        if name in columns:
            columns[name] = columns[name].cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    if log.table == "kline_updates":
        columns["interval"] = pl.lit(INTERVAL)
    else:
        columns |= {"event_time": polled, "clock": pl.lit("receive")}
    if log.table == "depth":
        columns["levels"] = pl.lit(len(LEVELS))
    return good.select(
        "symbol",
        venue=pl.lit(VENUE),
        recv_time=polled.cast(pl.Datetime("ns", "UTC")),
        source=pl.lit("import"),
        **columns,
    )


def _final_bars(updates: pl.DataFrame) -> pl.DataFrame:
    """The closed bars, each as of the poll that first saw it closed."""
    facts = [name for name in updates.columns if name not in ("recv_time", "is_final")]
    return (
        updates.filter(pl.col("is_final"))
        .group_by(facts, maintain_order=True)
        .agg(pl.col("recv_time").min())
        .sort("open_time")
    )


def export_logs(
    lake: Lake, folder: Path, symbols: Sequence[str], *, start: datetime | None, end: datetime | None
) -> list[tuple[str, int]]:
    """Write the five logs; returns file names and their rows. Tables without rows write no file.

    Rows are in order of time; within a poll in the order of ``symbols``. Rows that lack what a log always held (quotes
    without quantities, books without five levels) are left out. Times are rounded down to the log's milliseconds.
    """
    written = []
    for name, log in LOGS.items():
        stored = lake.scan(log.table, symbols=list(symbols), start=start, end=end, venue=VENUE)
        rows = _log_rows(stored, log, symbols)
        if rows.height:
            texts = {column: shortest(rows[column]) for column in log.layout.columns}
            written.append((f"{name}.csv", write_rows(folder / f"{name}.csv", texts)))
    return written


def _log_rows(stored: pl.DataFrame, log: Log, symbols: Sequence[str]) -> pl.DataFrame:
    """A log's columns, the derived ones computed."""
    columns = {name: pl.col(lake_name) for name, lake_name in log.names.items()}
    for name, lake_name in log.names.items():
        if lake_name in _TIMES:
            columns[name] = columns[name].dt.epoch("ms")
    required = [
        log.names[name] for name, kind in log.layout.columns.items() if name in log.names and not kind.may_be_blank
    ]
    if log.table == "kline_updates":
        stored = stored.filter(pl.col("interval") == INTERVAL)
        event_time = pl.coalesce("sent_time", "open_time")
    else:
        event_time = pl.col("event_time")
    if log.table == "depth":
        stored = stored.filter(pl.col("levels") >= len(LEVELS))
    polled = pl.coalesce(pl.col("recv_time").dt.cast_time_unit("ms"), event_time).dt.epoch("ms")
    return (
        stored.drop_nulls(required)
        .sort(polled, pl.col("symbol").replace_strict(list(symbols), range(len(symbols)), return_dtype=pl.Int64))
        .select("symbol", ts_unix_ms=polled, **columns)
        .with_columns(**log.layout.derived)
    )
