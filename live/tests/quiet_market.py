"""A market that stands still but for what is planted in it, so that every number of a trade can be checked by eye.

Up to the heavy bar everything is at 99.50, from then on at 100.00, bid 99.99 and ask 100.01; a short's market comes
down from 100.50. The heavy bar asks for an entry; the market its order meets is the row's own execution bar.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from live.tests.conftest import FIRST_MS, MINUTE_MS, SYMBOL, a_config
from research.bars import BARS, Bars
from research.engine import TradingConfig

ROWS, HEAVY = 40, 15
QUIET, LOUD = 10.0, 30.0  # volume of a bar, base
INSTRUMENT = {
    "status": "TRADING", "tick_size": 0.01, "step_size": 0.01, "min_quantity": 0.01, "max_quantity": 1_000.0,
    "market_max_quantity": None, "min_notional_usdt": 5.0,
}  # fmt: skip


def plain_config(**changes) -> TradingConfig:
    """Enters on a bar that is heavy and large; market orders slip by nothing beyond half the spread of 2 bps."""
    told = {
        "momentum_multiple": 1.0, "volume_multiple": 1.5, "slippage_bps": 0.0, "max_spread_ticks": 5.0, "symbol": SYMBOL
    }  # fmt: skip
    return a_config(**{**told, **changes})


def quiet_bars(
    planted: Mapping[int, Mapping[str, float]] | None = None, *, side: int = 1, symbol: str = SYMBOL
) -> Bars:
    """The market with other values planted.

    Parameters
    ----------
    planted : values by column of ``BARS``, by row.
    side : that the heavy bar asks for.
    """
    row = np.arange(ROWS)
    price = np.where(row < HEAVY, 100.0 - side * 0.5, 100.0)
    open_ = np.append(price[:1], price[:-1])
    open_ms = FIRST_MS + MINUTE_MS * row
    columns = {
        "open_time": open_ms,
        "close_time": open_ms + MINUTE_MS,
        "avail_time": open_ms + MINUTE_MS + 300,
        "is_gap": row < 0,
        "open": open_,
        "high": np.maximum(open_, price) + np.where(row == HEAVY, 0.0, 0.05),
        "low": np.minimum(open_, price) - np.where(row == HEAVY, 0.0, 0.05),
        "close": price,
        "volume": np.where(row == HEAVY, LOUD, QUIET),
        "bid_price": price - 0.01,
        "ask_price": price + 0.01,
        "quote_age_ms": 100.0,
        "mark_price": price,
        "index_price": price,
        "mark_age_ms": 100.0,
        "funding_rate": 1e-4,
        "funding_interval_hours": 8.0,
        "half_spread_bps": 1.0,
        "last_mark_ratio": 1.0,
        "can_enter": row >= 0,
        "exec_time": open_ms + MINUTE_MS + 450,
        **{f"exec_{name}": price for name in ("open", "high", "low", "close")},
        **{f"exec_mark_{name}": price for name in ("open", "high", "low", "close")},
        "exec_bid": price - 0.01,
        "exec_ask": price + 0.01,
        "funding_per_unit": 0.0,
    }
    rest = {name: np.nan for name in BARS if name not in columns}
    arrays = {name: np.array(np.broadcast_to(values, ROWS)) for name, values in (columns | rest).items()}
    for at, changes in (planted or {}).items():
        for name, value in changes.items():
            arrays[name][at] = value
    frame = pl.DataFrame(arrays).select(list(BARS)).cast(BARS)
    return Bars(symbol=symbol, interval="1m", frame=frame, instrument=INSTRUMENT)


def moved(price: float) -> dict[str, float]:
    """An execution bar that is all at one price, last and mark."""
    names = ("open", "high", "low", "close")
    return {f"exec_{name}": price for name in names} | {f"exec_mark_{name}": price for name in names}


def a_gap() -> dict[str, float]:
    """A slot whose bar nobody saw; quotes and marks go on."""
    unseen = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume")
    return {"is_gap": True, "can_enter": False} | dict.fromkeys(unseen, np.nan)
