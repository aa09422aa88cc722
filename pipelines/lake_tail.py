"""``aster tail``: rows of a table as they arrive, sealed or still in the raw log, each once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from data.lake import Lake
from data.schema import TABLES
from data.table import Table

_LATE = timedelta(seconds=90)  # rows that are older when they arrive are not shown: they are history
_SHOWN = {  # a screen is narrow
    "trades": ("event_time", "symbol", "price", "quantity", "is_buyer_maker", "agg_trade_id", "recv_time"),
    "book_ticker": ("event_time", "symbol", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "recv_time"),
    "depth": ("event_time", "symbol", "bid_price_0", "bid_quantity_0", "ask_price_0", "ask_quantity_0", "update_id"),
    "klines": ("open_time", "symbol", "interval", "open", "high", "low", "close", "volume", "trade_count"),
}


def shown_columns(table: str, columns: Sequence[str] | None) -> list[str]:
    """The columns to print: those named, or the telling ones of the table."""
    contract = TABLES[table]
    if columns is not None:
        unknown = [name for name in columns if name not in contract.columns]
        if unknown:
            raise ValueError(f"{table} has no column {', '.join(unknown)}; it has {', '.join(contract.columns)}")
        return list(columns)
    hidden = {"venue", "sent_time", "recv2_time", "socket", "source", "clock"}
    return list(_SHOWN.get(table) or [name for name in contract.columns if name not in hidden][:9])


def fresh_rows(
    lake: Lake,
    table: str,
    *,
    symbols: Sequence[str] | None,
    venue: str = "aster",
    last: int = 10,
    every_s: float = 0.5,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[pl.DataFrame]:
    """The last rows there are, then whatever arrives, oldest first; looks again every ``every_s`` until it is over.

    Parameters
    ----------
    lake : one that is kept: it decodes only what is new.
    last : how many rows to begin with.
    """
    contract = TABLES[table]
    key = list(dict.fromkeys((contract.time, *contract.key, *contract.fallback_key)))
    begin = _last_time(lake, contract)
    seen: pl.DataFrame | None = None
    while True:
        since = None if begin is None else begin - _LATE
        rows = lake.scan(table, symbols=symbols, start=since, venue=venue, tail=True)
        rows = rows.sort(contract.time, maintain_order=True)
        new = rows if seen is None else rows.join(seen, on=key, how="anti", nulls_equal=True, maintain_order="left")
        if seen is None:
            new = new.tail(last)
        seen = rows.select(key)
        begin = rows[contract.time].max() or begin
        if not new.is_empty():
            yield new
        if is_over():
            return
        time.sleep(every_s)


class Lines:
    """Rows as lines of text whose columns keep their places; the first comes with the names."""

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}

    def line(self, row: Mapping[str, Any]) -> str:
        """The row; columns grow with what they have to show."""
        told = {name: _cell(value) for name, value in row.items()}
        head = "" if self._widths else "{names}\n"
        for name, text in told.items():
            self._widths[name] = max(self._widths.get(name, len(name)), len(text))
        names = "  ".join(name.rjust(self._widths[name]) for name in told)
        return head.format(names=names) + "  ".join(text.rjust(self._widths[name]) for name, text in told.items())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _last_time(lake: Lake, table: Table) -> datetime | None:
    """Time of the latest sealed row; None in an empty table."""
    return max((entry.max_time for entry in lake.files(table.name)), default=None)
