"""A position of the reference and what one execution bar does to it, slow and in plain Python."""

import math
from dataclasses import dataclass

from research.fills import LIQUIDATION, OPEN, STOP, TARGET, TRAILING


@dataclass
class Position:
    """An open position and its three exit orders. Prices are of the last trade, the stop alone watches the mark."""

    side: int
    quantity: float
    entry_price: float
    entry_row: int  # that decided
    fill_row: int
    stop: float
    target: float
    activation: float
    callback_bps: float
    extreme: float  # best price since entry
    liquidation: float  # mark at which the exchange ends the position; NaN where that is not known
    bankruptcy: float  # price at which its margin is gone
    armed: bool = False  # is the trailing order live
    fees_usdt: float = 0.0
    funding_usdt: float = 0.0
    is_ambiguous: bool = False
    has_rested: bool = False  # before it was filled

    def reached(self, price: float, level: float) -> bool:
        """Has the price come to a level on the side we like (target, activation)?"""
        return price >= level if self.side > 0 else price <= level

    def fell_to(self, price: float, level: float) -> bool:
        """Has the price come to a level on the side we fear (stop, trailing)?"""
        return price <= level if self.side > 0 else price >= level

    def better(self, one: float, other: float) -> float:
        """The price that suits the position more."""
        return max(one, other) if self.side > 0 else min(one, other)

    def trailing_level(self) -> float:
        """Where the trailing order triggers: the callback away from the best price."""
        if self.side > 0:
            return self.extreme * (1.0 - self.callback_bps / 1e4)
        return self.extreme * (1.0 + self.callback_bps / 1e4)


def exit_check(position: Position, bar: dict) -> tuple[int, float, bool, bool]:
    """What one execution bar does to a position: reason, trigger price, was it at the open, is it ambiguous.

    Moves the position's trailing order along with the bar.
    """
    long = position.side > 0
    open_, close = bar["exec_open"], bar["exec_close"]
    best = bar["exec_high"] if long else bar["exec_low"]
    worst = bar["exec_low"] if long else bar["exec_high"]
    mark_open, mark_worst = bar["mark_open"], bar["mark_low"] if long else bar["mark_high"]
    last_mark_ratio = bar["last_mark_ratio"]
    if math.isnan(mark_open):  # no mark known: the stop watches the last price, and that is what it fills at
        mark_open, mark_worst, last_mark_ratio = open_, worst, 1.0

    # 1. The open may lie beyond a liquidation or an order already: the order fills there.
    if position.fell_to(mark_open, position.liquidation):
        return LIQUIDATION, position.bankruptcy, True, False
    if position.fell_to(mark_open, position.stop):
        return STOP, open_, True, False
    if position.armed and position.fell_to(open_, position.trailing_level()):
        return TRAILING, open_, True, False
    if position.reached(open_, position.target):
        return TARGET, open_, True, False
    position.extreme = position.better(position.extreme, open_)
    position.armed = position.armed or position.reached(open_, position.activation)

    # 2. to 4. The range, the worst outcome first.
    stop_in_range = position.fell_to(mark_worst, position.stop)
    trailing_in_range = position.armed and position.fell_to(worst, position.trailing_level())
    target_in_range = position.reached(best, position.target)
    liquidated_in_range = position.fell_to(mark_worst, position.liquidation)
    is_ambiguous = [stop_in_range or liquidated_in_range, trailing_in_range, target_in_range].count(True) >= 2
    is_stop_nearer = position.fell_to(position.liquidation, position.stop) and position.liquidation != position.stop
    if liquidated_in_range and not is_stop_nearer:
        return LIQUIDATION, position.bankruptcy, False, is_ambiguous
    if stop_in_range:
        return STOP, position.stop * last_mark_ratio, False, is_ambiguous
    if trailing_in_range:
        return TRAILING, position.trailing_level(), False, is_ambiguous
    if target_in_range:
        return TARGET, position.target, False, is_ambiguous

    # 5. The bar's own extreme moves the trailing order, and the close may already be beyond where it moved to.
    position.extreme = position.better(position.extreme, best)
    position.armed = position.armed or position.reached(best, position.activation)
    if position.armed and position.fell_to(close, position.trailing_level()):
        return TRAILING, position.trailing_level(), False, True
    may_have_triggered = position.armed and position.fell_to(worst, position.trailing_level())
    return OPEN, math.nan, False, may_have_triggered


def exit_check_of_fill(position: Position, bar: dict) -> tuple[int, float, bool]:
    """What a bar does to a position whose resting entry was filled somewhere in it: reason, price, is it ambiguous.

    Only the close is known to come after the fill. What the range reached may have come before: of that the worst is
    believed, the rest is not. The trailing order begins at the close.
    """
    long, limit = position.side > 0, position.entry_price
    open_, close = bar["exec_open"], bar["exec_close"]
    best, worst = (bar["exec_high"], bar["exec_low"]) if long else (bar["exec_low"], bar["exec_high"])
    watched, last_mark_ratio = bar["mark_low"] if long else bar["mark_high"], bar["last_mark_ratio"]
    if math.isnan(bar["mark_open"]):
        watched, last_mark_ratio = worst, 1.0

    may_be_stopped = position.fell_to(watched, position.stop)
    may_be_liquidated = position.fell_to(watched, position.liquidation)
    may_have_reached_target = position.reached(best, position.target)
    has_reached_target = position.reached(close, position.target)
    position.extreme = best
    may_have_armed = position.reached(best, position.activation)
    may_have_trailed = may_have_armed and position.fell_to(worst, position.trailing_level())
    position.extreme = close
    position.armed = position.reached(close, position.activation)

    is_told = has_reached_target or not may_have_reached_target
    is_ambiguous = may_be_stopped or may_be_liquidated or may_have_trailed or not is_told
    is_stop_nearer = position.fell_to(position.liquidation, position.stop) and position.liquidation != position.stop
    if may_be_liquidated and not (may_be_stopped and is_stop_nearer):
        return LIQUIDATION, position.bankruptcy, is_ambiguous
    if may_be_stopped:
        prices = [position.stop * last_mark_ratio, limit, open_]  # it was never better than where the position began
        return STOP, min(prices) if long else max(prices), is_ambiguous
    if has_reached_target:
        return TARGET, position.target, is_ambiguous
    return OPEN, math.nan, is_ambiguous
