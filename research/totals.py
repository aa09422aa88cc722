"""The statistics of one config: their names, and the numbers in that order."""

from typing import NamedTuple

STATS = (
    "trades",  # closed
    "wins",  # closed with a positive net PnL
    "gross_pnl_usdt",  # closed trades, before fees and funding
    "fees_usdt",  # all fills
    "funding_usdt",  # paid when positive
    "net_pnl_usdt",  # final equity: everything above, open position marked to the last price
    "trade_pnl_squared",  # sum over closed trades of net PnL squared
    "bar_pnl_squared",  # sum over rows of the bar's PnL squared
    "max_drawdown_usdt",  # deepest fall below the running peak, <= 0
    "exposure_bars",  # rows with a position
    "longest_hold_bars",
    "stop_exits",
    "target_exits",
    "trailing_exits",
    "missed_entries",  # wanted, but not filled
    "ambiguous_bars",
    "is_open",  # 1 when a position is open at the end
)


class Totals(NamedTuple):
    """One config's statistics, in the order of ``STATS``; counts are floats so that one array holds them all."""

    trades: float
    wins: float
    gross_pnl_usdt: float
    fees_usdt: float
    funding_usdt: float
    net_pnl_usdt: float
    trade_pnl_squared: float
    bar_pnl_squared: float
    max_drawdown_usdt: float
    exposure_bars: float
    longest_hold_bars: float
    stop_exits: float
    target_exits: float
    trailing_exits: float
    missed_entries: float
    ambiguous_bars: float
    is_open: float
