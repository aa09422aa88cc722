"""Trades of the project's own engine."""

import polars as pl

from research.bars import Bars
from research.engine import TradingConfig, backtest
from research.order_settings import Costs, Orders
from research.strategies import momentum

COSTS = Costs(taker_fee_bps=4.0, maker_fee_bps=2.0, slippage_bps=0.5, latency_ms=250)
ORDERS = Orders(notional_usdt=500.0, max_notional_usdt=600.0, entry_limit_ticks=50, cooldown_bars=5)


def momentum_trades(bars: Bars) -> pl.DataFrame:
    params = {name: values[0] for name, values in momentum.GRID.items()}
    config = TradingConfig(
        strategy="momentum", symbol=bars.symbol, params=params, costs=COSTS, orders=ORDERS, interval=bars.interval
    )
    return backtest(config, bars, min_coverage=0.0).trades


def next_open(bars: pl.DataFrame) -> pl.DataFrame:
    """By hand: bought at the open of the next bar when the order is there, sold five bars later."""
    move = (bars["close"] / bars["open"] - 1.0).fill_nan(0.0)
    rows = [i for i in range(bars.height - 7) if move[i] > 2e-3 and bars["exec_open"][i] > 0.0]
    rows = [i for i in rows if bars["exec_open"][i + 5] > 0.0]
    return pl.DataFrame(
        {
            "side": [1] * len(rows),
            "entry_row_time": [bars["open_time"][i] for i in rows],
            "entry_time": [bars["exec_time"][i] for i in rows],
            "entry_price": [bars["open"][i + 1] * 1.0001 for i in rows],
            "exit_time": [bars["exec_time"][i + 5] for i in rows],
            "exit_price": [bars["exec_open"][i + 5] * 0.9999 for i in rows],
        }
    )
