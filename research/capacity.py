"""What a record would have earned at dearer costs, and how much larger its orders could have been."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from research.bars import Bars
from research.order_settings import Costs
from research.stage import Picks, traded_again
from research.sweep import SweepConfig

COST_MULTIPLES = (1.0, 1.5, 2.0)
SIZE_MULTIPLES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


def dearer(costs: Costs, multiple: float) -> Costs:
    """The costs with fees and slippage that many times as high, a rebate as small; spreads are the market's own."""
    return replace(
        costs,
        taker_fee_bps=costs.taker_fee_bps * multiple,
        maker_fee_bps=dearer_maker_bps(costs, multiple),
        slippage_bps=costs.slippage_bps * multiple,
    )


def dearer_maker_bps(costs: Costs, multiple: float) -> float:
    """The maker fee that many times as high; a rebate that many times as small: more of it would be cheaper."""
    return costs.maker_fee_bps * multiple if costs.maker_fee_bps >= 0.0 else costs.maker_fee_bps / multiple


def at_cost_multiples(
    config: SweepConfig, bars: Bars, picks: Picks, *, period_bars: int, multiples: Sequence[float] = COST_MULTIPLES
) -> list[dict[str, float]]:
    """The record of the same picks at multiples of fees and slippage: multiple, net_pnl_usdt, trades and sharpe
    (per period)."""
    return [
        {
            "multiple": multiple,
            **traded_again(replace(config, costs=dearer(config.costs, multiple)), bars, picks, period_bars=period_bars),
        }
        for multiple in multiples
    ]


def capacity(trades: pl.DataFrame, bars: Bars) -> list[dict[str, Any]]:
    """How orders of a multiple of the size would have stood to the market at each entry.

    Returns
    -------
    A row per multiple of ``SIZE_MULTIPLES``: multiple, notional_usdt (median), within_touch (share of the entries whose
    notional was offered at the best price when they were decided; None where no quantities were recorded) and
    volume_share (median notional over the quote volume of the bar of the decision; None where none was recorded).
    """
    rows = bars.frame.select("open_time", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "quote_volume")
    entries = trades.join(rows, left_on="entry_row_time", right_on="open_time", how="inner")
    notional = (entries["quantity"] * entries["entry_price"]).to_numpy()
    offered = entries.select(
        pl.when(pl.col("side") > 0)
        .then(pl.col("ask_price") * pl.col("ask_quantity"))
        .otherwise(pl.col("bid_price") * pl.col("bid_quantity"))
    ).to_series().to_numpy()  # fmt: skip
    volume = entries["quote_volume"].to_numpy()
    has_depth, has_volume = ~np.isnan(offered), volume > 0.0
    return [
        {
            "multiple": multiple,
            "notional_usdt": float(np.median(notional) * multiple) if len(notional) else None,
            "within_touch": float(np.mean(multiple * notional[has_depth] <= offered[has_depth]))
            if has_depth.any()
            else None,
            "volume_share": float(np.median(multiple * notional[has_volume] / volume[has_volume]))
            if has_volume.any()
            else None,
        }
        for multiple in SIZE_MULTIPLES
    ]
