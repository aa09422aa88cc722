"""Entries that rest, at bar resolution: what bars tell of a price that was passed within an order's life.

Bars tell less than trades, and what they leave open is decided against us:

- The price is that of ``resting.resting_price``, from the book of the row; without one there is no entry.
- As it arrives the order is refused where the quote, without one the last price before, could trade with it, or where
  its first bar opens beyond its price.
- It is filled, at its price, in the first execution bar that lies wholly within its life and whose range goes through
  that price; of the bar in which its life ends nobody knows what came in time.
- The bar of the fill is not checked like others, for its range may be of before the fill: a stop or a liquidation in
  the range counts, at the order's price or the open where those are worse; a target counts where the close proves it,
  and the trailing order begins at the close. Funding of that bar is paid, never received.

In that bar everything that the range reached is counted as ambiguous, but for a target that the close proves.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from data.schema import interval_ms
from research.fills import (
    LIQUIDATION,
    OPEN,
    STOP,
    TARGET,
    Exit,
    Levels,
    Market,
    Terms,
    Trailing,
    exit_in_bar,
    funding_paid_usdt,
)
from research.jit import njit
from research.resting import is_passed, rests, would_take

if TYPE_CHECKING:
    from research.order_settings import Orders

TAKES = np.empty(0, np.int64)  # the lives of entries that take
TOGETHER = (
    "orders.resting: what several symbols hold together is only told of entries that take; trade one symbol at a time, "
    "or leave [orders.resting] out"
)


def refuse_short_life(orders: "Orders", interval: str) -> None:
    """Raise where no bar could ever fill an entry that rests.

    Raises
    ------
    ValueError
        When its life is shorter than a bar.
    """
    length_ms = interval_ms(interval)
    if orders.resting is not None and orders.resting.lifetime_ms < length_ms:
        raise ValueError(
            f"orders.resting: no bar of {interval} lies within lifetime_ms {orders.resting.lifetime_ms}, so nothing "
            f"would ever be filled; write {length_ms} and some seconds for bars that come late, choose a shorter "
            "interval, or use tick resolution (aster-live --mode paper --resolution tick)"
        )


def require_taking(terms: Terms) -> None:
    """Raise where an outcome is thought to begin on the row that decides.

    Raises
    ------
    ValueError
        When entries rest.
    """
    if rests(terms):
        raise ValueError("entries that rest are filled bars after their decision; use kernel.sweep")


def refuse_together(terms: Terms) -> None:
    """Raise where several symbols trade on one account.

    Raises
    ------
    ValueError
        When entries rest.
    """
    if rests(terms):
        raise ValueError(TOGETHER)


def lives_of(exec_ms: np.ndarray, terms: Terms) -> np.ndarray:
    """Per row the one whose execution bar is the first that does not lie wholly within the life of its entry.

    Parameters
    ----------
    exec_ms : int64, ``t_i`` of every row, never decreasing. The last bar has no end, so it lies within no life.

    Returns
    -------
    int64, shape (n_rows,); ``TAKES`` where entries take.
    """
    if not rests(terms):
        return TAKES
    return np.searchsorted(exec_ms, exec_ms + terms.rest_ms, side="right") - 1


def known_lives(terms: Terms, lives: np.ndarray | None) -> np.ndarray:
    """The lives as compiled code takes them.

    Raises
    ------
    ValueError
        When entries rest and nobody says for how long.
    """
    if not rests(terms):
        return TAKES
    if lives is None:
        raise ValueError("entries rest: give their lives, `resting_bars.lives_of` the rows' exec_time")
    return np.ascontiguousarray(lives, np.int64)


@njit(forceinline=False)
def rested_in_bars(
    side: int, limit: float, i: int, last: int, market: Market, lives: np.ndarray, tick_size: float
) -> tuple[int, int]:
    """Row of the execution bar before ``last`` that fills an entry of row ``i``, -1 without one; the first row to
    decide then, which knows that the order is gone."""
    opposite = market.exec_ask[i] if side > 0 else market.exec_bid[i]
    before, open_ = market.exec_close[i - 1] if i > 0 else math.nan, market.exec_open[i]
    is_refused = would_take(side, limit, opposite, before, tick_size) or is_passed(side, limit, open_, tick_size)
    if math.isnan(open_) or is_refused:
        return -1, i + 1
    for row in range(i, min(lives[i], last)):
        worst = market.exec_low[row] if side > 0 else market.exec_high[row]
        if is_passed(side, limit, worst, tick_size):
            return row, row + 1
    return -1, lives[i] + 2


@njit
def exit_in_held_bar(
    side: int, entry: float, levels: Levels, trailing: Trailing, i: int, market: Market, is_fill_bar: bool
) -> Exit:
    """What execution bar ``i`` does to a position; ``is_fill_bar`` where an entry that rested was filled in it."""
    if is_fill_bar:
        return exit_in_fill_bar(side, entry, levels, i, market)
    return exit_in_bar(side, levels, trailing, i, market)


@njit
def funding_in_held_bar_usdt(side: int, quantity: float, per_unit: float, is_fill_bar: bool) -> float:
    """Cash a position pays at the funding of a bar, negative when received; see ``exit_in_held_bar``."""
    paid = funding_paid_usdt(side, quantity, per_unit)
    return max(paid, 0.0) if is_fill_bar else paid


@njit(forceinline=False)
def exit_in_fill_bar(side: int, limit: float, levels: Levels, i: int, market: Market) -> Exit:
    """What execution bar ``i`` does to a position that an order at ``limit`` became somewhere in it."""
    open_, close = market.exec_open[i], market.exec_close[i]
    if side > 0:
        best, worst, mark_worst = market.exec_high[i], market.exec_low[i], market.mark_low[i]
    else:
        best, worst, mark_worst = market.exec_low[i], market.exec_high[i], market.mark_high[i]
    ratio = market.last_mark_ratio[i]
    if math.isnan(market.mark_open[i]):
        mark_worst, ratio = worst, 1.0  # no mark was seen: the stop is watched on the last price
    is_liquidated = side * (mark_worst - levels.liquidation) <= 0.0
    stop_hit = side * (mark_worst - levels.stop) <= 0.0
    target_hit, is_proven = side * (best - levels.target) >= 0.0, side * (close - levels.target) >= 0.0
    trail = best * (1.0 - side * levels.callback_bps / 1e4)
    trail_hit = (side * (best - levels.activation) >= 0.0) & (side * (worst - trail) <= 0.0)
    is_ambiguous = is_liquidated | stop_hit | trail_hit | (target_hit and not is_proven)
    trailing = Trailing(close, side * (close - levels.activation) >= 0.0)
    if is_liquidated and not (stop_hit and side * (levels.stop - levels.liquidation) > 0.0):
        return Exit(LIQUIDATION, levels.bankruptcy, False, is_ambiguous, trailing)
    if stop_hit:
        price = levels.stop * ratio
        for born in (limit, open_):
            price = born if side * (born - price) < 0.0 else price
        return Exit(STOP, price, False, is_ambiguous, trailing)
    if is_proven:
        return Exit(TARGET, levels.target, False, is_ambiguous, trailing)
    return Exit(OPEN, math.nan, False, is_ambiguous, trailing)
