"""Trades as a table for people, the same in reports and notebooks."""

from collections.abc import Mapping

import polars as pl

from pipelines.report import Table
from research import formats

SHOWN_TRADES = 20


def largest_trades(trades: pl.DataFrame, instrument: Mapping, origin: str) -> Table:
    """The trades that made most of the result, in order of entry.

    Parameters
    ----------
    trades : frame of ``research.trades.TRADES``.
    instrument : the symbol's row in force; gives prices and quantities their decimals.
    origin : where the trades come from, for the title: backtest, replay, ...
    """
    tick, step = float(instrument["tick_size"]), float(instrument["step_size"])
    largest = trades.sort(pl.col("net_pnl_usdt").abs(), descending=True, nulls_last=True).head(SHOWN_TRADES)
    rows = tuple(
        (
            f"{row['entry_time']:%d %b %H:%M:%S}",
            formats.UNKNOWN if row["exit_time"] is None else f"{row['exit_time']:%d %b %H:%M:%S}",
            "▲ long" if row["side"] > 0 else "▼ short",
            formats.quantity(row["quantity"], step),
            formats.price(row["entry_price"], tick),
            formats.price(row["exit_price"], tick),
            row["reason"],
            formats.usdt(row["fees_usdt"]),
            formats.usdt(row["funding_usdt"], signed=True),
            formats.usdt(row["net_pnl_usdt"], signed=True),
        )
        for row in largest.sort("entry_time").iter_rows(named=True)
    )
    return Table(
        title=f"Largest {len(rows)} of {formats.count(trades.height)} trades by net PnL ({origin})",
        columns=("entry, UTC", "exit, UTC", "side", "quantity", "entry", "exit", "reason", "fees, USDT",
                 "funding, USDT", "net, USDT"),
        align="lllrrrlrrr",
        rows=rows,
    )  # fmt: skip
