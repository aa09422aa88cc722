"""Identity of a trade, the same in backtest, paper and live, and the columns of a trade list."""

import base64
import hashlib

import polars as pl

from data.schema import TIME_MS

TRADES = pl.Schema(
    {
        "trade_id": pl.String,  # joins backtest, journal and lake row
        "symbol": pl.String,
        "side": pl.Int64,  # 1 long, -1 short
        "entry_row_time": TIME_MS,  # open_time of the bar that decided
        "entry_time": TIME_MS,  # of the fill; at bar resolution an entry that rested is told at the end of its bar
        "exit_time": TIME_MS,
        "quantity": pl.Float64,  # base
        "entry_price": pl.Float64,
        "exit_price": pl.Float64,
        "stop_price": pl.Float64,
        "target_price": pl.Float64,
        "activation_price": pl.Float64,
        "callback_bps": pl.Float64,
        "reason": pl.String,  # an exit order, liquidation, or live operator, risk; open: still held, at the last price
        "gross_pnl_usdt": pl.Float64,
        "fees_usdt": pl.Float64,
        "funding_usdt": pl.Float64,  # paid when positive
        "net_pnl_usdt": pl.Float64,
        "is_ambiguous": pl.Boolean,  # a bar could not tell which exit came first
    }
)


def trade_id(config_hash: str, symbol: str, close_time_ms: int, side: int) -> str:
    """Ten characters that name one decision: the same after a crash, in a backtest and in live."""
    digest = hashlib.blake2s(f"{config_hash}|{symbol}|{close_time_ms}|{side}".encode()).digest()
    return base64.b32encode(digest).decode()[:10].lower()
