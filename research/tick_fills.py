"""Exits at tick resolution: what one trade or one mark does to a position, and what its market order then gets.

The part of the fill model (``research.fills``) that the scan of ``research.ticks`` and the paper broker share, tick by
tick and bit for bit.
"""

import math

from research.fills import LIQUIDATION, OPEN, STOP, TARGET, TRAILING, Levels, Trailing, taker_price
from research.jit import njit
from research.strategies.gates import MAX_QUOTE_AGE_MS

# The mark is published every 1 or 3 s; a longer silence means we did not listen.
MARK_SILENCE_MS = 10_000


@njit
def stop_watches_last(mark_age_ms: float) -> bool:
    """True when a stop is watched on the last price: no mark for ``MARK_SILENCE_MS``, or never one (NaN)."""
    return not mark_age_ms <= MARK_SILENCE_MS


@njit
def exit_on_mark(side: int, levels: Levels, mark: float) -> int:
    """What one mark does to a position: LIQUIDATION, STOP or OPEN."""
    if side * (mark - levels.liquidation) <= 0.0:
        return LIQUIDATION
    return STOP if side * (mark - levels.stop) <= 0.0 else OPEN


@njit
def exit_on_trade(
    side: int, levels: Levels, trailing: Trailing, price: float, watch_stop: bool
) -> tuple[int, Trailing]:
    """What one trade does to a position: the reason it ends, OPEN when it goes on, and the trailing order afterwards.

    The trailing order is met as the trades before left it. Before the first one its extreme is NaN.
    """
    if watch_stop:
        reason = exit_on_mark(side, levels, price)
        if reason != OPEN:
            return reason, trailing
    if trailing.armed and side * (price - trailing.extreme * (1.0 - side * levels.callback_bps / 1e4)) <= 0.0:
        return TRAILING, trailing
    if side * (price - levels.target) >= 0.0:
        return TARGET, trailing
    extreme = trailing.extreme
    if math.isnan(extreme) or side * (price - extreme) > 0.0:
        extreme = price
    return OPEN, Trailing(extreme, trailing.armed or side * (price - levels.activation) >= 0.0)


@njit
def exit_price_at_tick(
    side: int,
    reason: int,
    levels: Levels,
    bid: float,
    ask: float,
    quote_age_ms: float,
    last_price: float,
    half_spread_bps: float,
    slippage_bps: float,
) -> float:
    """Fill of the market order that closes a position of ``side``: the touch it meets and slippage.

    A liquidation gets the exchange's own price. Without a fresh quote (NaN, or older than ``MAX_QUOTE_AGE_MS``): the
    last price, worse by half the modelled spread.
    """
    if reason == LIQUIDATION:
        return levels.bankruptcy
    touch = bid if side > 0 else ask
    if quote_age_ms <= MAX_QUOTE_AGE_MS and not math.isnan(touch):
        return touch * (1.0 - side * (slippage_bps / 1e4))
    return taker_price(-side, last_price, half_spread_bps, slippage_bps)
