"""Liquidation of the own position: isolated margin of one trade, brackets of the instrument, triggered by the mark.

The exchange takes a position over when its margin has fallen to the maintenance margin, and the margin is lost: the
trade ends at its bankruptcy price, wherever the market is. The taker fee stands for what the exchange charges for it.
Left out: funding, which the exchange takes from the margin too, and margin added later.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.fills import LIQUIDATION, Exit, Levels, Terms, taker_price
from research.jit import njit
from research.order_settings import Orders


@njit
def liquidation_price(side: int, entry: float, quantity: float, terms: Terms) -> float:
    """Mark price at which the margin left is the maintenance margin; NaN where no bracket is known.

    A bracket's margin is ``notional * rate - amount``, and the amounts join the brackets: what a position must keep is
    the largest of all of them, so that the first to be reached counts, whatever the notional is by then.

    Source
    ------
    Aster futures API, "Notional and Leverage Brackets": maintMarginRatio, cum. Margin left equals maintenance margin:
    ``E/L - side * (E - P) = P * rate - amount / quantity``.
    """
    nearest = math.nan
    for k in range(terms.brackets.shape[0]):
        rate, amount = terms.brackets[k, 0], terms.brackets[k, 1] / quantity
        price = (entry * (1.0 - side / terms.leverage) - side * amount) / (1.0 - side * rate)
        if math.isnan(nearest) or side * (price - nearest) > 0.0:
            nearest = price
    return nearest


@njit
def with_liquidation(levels: Levels, side: int, entry: float, quantity: float, terms: Terms) -> Levels:
    """The exit orders of a position, with where the exchange ends it and what it gets then."""
    return Levels(
        levels.stop,
        levels.target,
        levels.activation,
        levels.callback_bps,
        liquidation_price(side, entry, quantity, terms),
        entry * (1.0 - side / terms.leverage),
    )


@njit
def exit_price(side: int, result: Exit, half_spread_bps: float, slippage_bps: float) -> float:
    """Fill of what ended a position of ``side``: a market order, or the exchange's own price for a liquidation."""
    if result.reason == LIQUIDATION:
        return result.price
    return taker_price(-side, result.price, half_spread_bps, slippage_bps)


def brackets_of(instrument: Mapping[str, Any]) -> np.ndarray:
    """Maintenance margin rate and amount per bracket, float64, shape (n_brackets, 2); none where they are not known."""
    steps = instrument.get("brackets") or []
    rows = [(step["maintenance_margin_rate"], step["maintenance_amount_usdt"]) for step in steps]
    return np.array(rows, np.float64).reshape(-1, 2)


def refusal(orders: Orders, instrument: Mapping[str, Any]) -> str | None:
    """Why the exchange would not open a trade of this size with this leverage; None where it would or does not tell."""
    for step in instrument.get("brackets") or []:
        if step["notional_floor_usdt"] < orders.max_notional_usdt and step["max_leverage"] < orders.leverage:
            return (
                f"leverage {orders.leverage:g} is above {step['max_leverage']:g}, the most from "
                f"{step['notional_floor_usdt']:g} USDT of notional on; lower it or max_notional_usdt"
            )
    return None
