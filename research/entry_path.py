"""What follows one entry, held so that every exit plan finds its end there: the search behind ``research.listed``.

Until it is closed a trade is the same whatever its exit orders are. So the bars after an entry are passed once, as far
as any plan asks, and each bar leaves the worst and the best price so far and the PnL of one unit. The first bar that
touches an order is then looked up, and ``fills.exit_in_bar`` says what happened in it. Only a trailing order that is
armed is followed bar by bar.

Prices here are times the side, so that greater is better for a trade; arrays have the longs first, then the shorts.
Selecting one of two arrays would count references in every trade: a place in one array is free.
"""

import math
from typing import NamedTuple

import numpy as np

from research.fills import (
    OPEN,
    Market,
    Trailing,
    decision_price,
    entry_price,
    exit_in_bar,
    fee_usdt,
    gross_pnl_usdt,
    size_multiple,
)
from research.jit import njit, njit_uncounted
from research.kernel import mark_equity, quiet_rows
from research.outcomes import MOMENT
from research.resting import resting_price
from research.resting_bars import exit_in_fill_bar, funding_in_held_bar_usdt, rested_in_bars

_FIRST_BARS = 64  # passed at once; twice as many when that does not do


class Seen(NamedTuple):
    """The rows as a position sees them, float64 of shape (2, n_rows)."""

    worst: np.ndarray  # of last price and mark; NaN where more than prices matters (``kernel.quiet_rows``)
    best: np.ndarray
    last_best: np.ndarray  # of the last price
    watched_worst: np.ndarray  # of what stops are watched on: the mark, the last price where there is none


class EntryPath(NamedTuple):
    """Bars after the entries of one row, filled anew for the next."""

    fallen: np.ndarray  # (2, n_rows): how low ``watched_worst`` came so far, times -1
    risen: np.ndarray  # (2, n_rows): how high ``last_best`` came so far
    moments: np.ndarray  # of ``MOMENT``, (2, n_rows + 1): [k] stands before bar k, its extreme is the price itself
    n_bars: np.ndarray  # (2,): how many are passed
    decided: np.ndarray  # (2,): price at which the order is sized
    multiple: np.ndarray  # (2,): of the size
    entry: np.ndarray  # (2,): fill price, NaN where the entry is missed
    open_pnl: np.ndarray  # (2,): of one unit, after those bars
    costs: np.ndarray  # (2,): fee and funding of one unit until then
    row: np.ndarray  # (2,): in whose bar it is filled
    free_row: np.ndarray  # (2,): the first to decide where it is missed


def seen_rows(market: Market) -> Seen:
    """What the search looks at."""
    low, high = quiet_rows(market)
    has_mark = ~np.isnan(market.mark_open)
    watched_low = np.where(has_mark, np.fmin(market.mark_open, market.mark_low), market.exec_low)
    watched_high = np.where(has_mark, np.fmax(market.mark_open, market.mark_high), market.exec_high)
    return Seen(
        np.stack([low, -high]),
        np.stack([high, -low]),
        np.stack([market.exec_high, -market.exec_low]),
        np.stack([watched_low, -watched_high]),
    )


@njit(forceinline=False)
def new_path(n_rows: int) -> EntryPath:
    """Room for the entries of one row, with so many rows behind it; what is never reached is never touched."""
    return EntryPath(
        np.empty((2, n_rows)),
        np.empty((2, n_rows)),
        np.empty((2, n_rows + 1), MOMENT),
        np.zeros(2, np.int64),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
    )


@njit_uncounted(forceinline=False)
def begin(path, side, row, last, market, multiples, lives, terms) -> None:
    """An entry decided on ``row``, before the first bar in which it is held."""
    s = place_of(side)
    path.multiple[s], path.free_row[s], path.n_bars[s] = size_multiple(side, row, multiples), row + 1, 0
    if lives.shape[0] > 0:
        entry, fee_bps = resting_price(side, market.bid[row], market.ask[row], terms), terms.maker_fee_bps
        path.decided[s] = entry
        row, path.free_row[s] = rested_in_bars(side, entry, row, last, market, lives, terms.tick_size)
        entry = entry if row >= 0 else math.nan
    else:
        entry, fee_bps = entry_price(side, row, market, terms), terms.taker_fee_bps
        path.decided[s] = decision_price(side, row, market)
    path.row[s], path.entry[s], path.open_pnl[s], path.costs[s] = row, entry, 0.0, fee_usdt(entry, 1.0, fee_bps)
    moment = path.moments[s, 0]
    moment.row, moment.extreme, moment.funding = row, math.nan, 0.0
    moment.pnl, moment.bar_pnl_squared, moment.drawdown = 0.0, 0.0, 0.0
    moment.highest, moment.lowest = -math.inf, math.inf


@njit_uncounted
def place_of(side: int) -> int:
    """Place of a side in the arrays."""
    return 0 if side > 0 else 1


@njit_uncounted(forceinline=False)
def _extend(path, side, row, last, market, seen, has_rested) -> None:
    """Pass more bars, up to row ``last``. Of the bar that filled an entry which rested its close alone came after."""
    s = place_of(side)
    passed, entry, open_pnl, costs = path.n_bars[s], path.entry[s], path.open_pnl[s], path.costs[s]
    end = min(max(_FIRST_BARS, 2 * passed), last - row)
    fallen = risen = -math.inf
    if passed > 0:
        fallen, risen = path.fallen[s, passed - 1], path.risen[s, passed - 1]
    before = path.moments[s, passed]
    pnl, squares, funding = before.pnl, before.bar_pnl_squared, before.funding
    highest, lowest, drawdown = before.highest, before.lowest, before.drawdown
    for k in range(passed, end):
        i = row + k
        if not math.isnan(market.exec_open[i]):
            low, high = -seen.watched_worst[s, i], seen.last_best[s, i]
            high = side * market.exec_close[i] if has_rested and k == 0 else high
            fallen = low if low > fallen else fallen
            risen = high if high > risen else risen
            open_pnl = gross_pnl_usdt(side, 1.0, entry, market.exec_close[i])
        if market.funding_per_unit[i] != 0.0:
            paid = funding_in_held_bar_usdt(side, 1.0, market.funding_per_unit[i], has_rested and k == 0)
            funding += paid
            costs += paid
        change, pnl, highest, drawdown = mark_equity(open_pnl - costs, pnl, highest, drawdown)
        squares += change * change
        lowest = min(lowest, pnl)
        path.fallen[s, k], path.risen[s, k] = fallen, risen
        moment = path.moments[s, k + 1]
        moment.row, moment.extreme, moment.funding = i + 1, side * risen, funding
        moment.pnl, moment.bar_pnl_squared = pnl, squares
        moment.highest, moment.lowest, moment.drawdown = highest, lowest, drawdown
    path.n_bars[s], path.open_pnl[s], path.costs[s] = end, open_pnl, costs


@njit_uncounted
def _first_at(rising, s, n_values, level):
    """Place of the first of ``n_values`` rising values that reaches the level; n_values where none does."""
    start, left = 0, n_values
    while left > 0:  # as many steps whatever is found: a processor that never guesses never guesses wrong
        half = (left + 1) >> 1
        start += half if rising[s, start + half - 1] < level else 0
        left -= half
    return start


@njit_uncounted
def find_exit(path, side, row, last, market, seen, levels, has_rested):
    """The bar in which a trade with these exit orders ends.

    Parameters
    ----------
    path : begun for this entry.
    row : in whose bar it is filled; somewhere in that bar where it has rested.

    Returns
    -------
    Its place after the entry (``last - row``: the trade is open at the end), the trailing order before that bar, and
    how many bars before it may have triggered an order unseen.
    """
    s = place_of(side)
    against, target, activation = side * levels.stop, side * levels.target, side * levels.activation
    liquidation = side * levels.liquidation
    if math.isnan(against) or liquidation > against:
        against = liquidation
    against = -math.inf if math.isnan(against) else against
    target = math.inf if math.isnan(target) else target
    if math.isnan(activation) or math.isnan(levels.callback_bps):
        activation = math.inf
    toward, doubtful_bars = min(target, activation), 0
    if has_rested:
        result = exit_in_fill_bar(side, path.entry[s], levels, row, market)
        if result.reason != OPEN:
            return 0, result.trailing, 0
        doubtful_bars = int(result.is_ambiguous)
        if result.trailing.armed:
            end, trailing, more = _follow(side, levels, result.trailing, against, target, row + 1, last, market, seen)
            while row + path.n_bars[s] < end:
                _extend(path, side, row, last, market, seen, has_rested)
            return end - row, trailing, doubtful_bars + more
    while True:
        n_bars = path.n_bars[s]
        k = min(_first_at(path.fallen, s, n_bars, -against), _first_at(path.risen, s, n_bars, toward))
        if k < n_bars or row + n_bars >= last:
            break
        _extend(path, side, row, last, market, seen, has_rested)
    trailing = Trailing(path.moments[s, k].extreme if k > 0 else market.exec_open[row], False)
    if row + k >= last or path.risen[s, k] < activation:
        return k, trailing, doubtful_bars
    end, trailing, more = _follow(side, levels, trailing, against, target, row + k, last, market, seen)
    while row + path.n_bars[s] < end:
        _extend(path, side, row, last, market, seen, has_rested)
    return end - row, trailing, doubtful_bars + more


@njit_uncounted
def _follow(side, levels, trailing, against, target, start, last, market, seen):
    """The row in which a trade ends whose trailing order arms in row ``start``; the order before it, and doubts.

    A bar is quiet that stays above all orders even when its best price has moved the trailing one first.
    """
    s = place_of(side)
    extreme, armed, keep = side * trailing.extreme, trailing.armed, 1.0 - side * levels.callback_bps / 1e4
    doubtful_bars = 0
    for i in range(start, last):
        moved = seen.last_best[s, i]
        moved = moved if moved > extreme else extreme
        if armed & (seen.worst[s, i] > max(against, moved * keep)) & (seen.best[s, i] < target):
            extreme = moved
        elif not math.isnan(market.exec_open[i]):
            result = exit_in_bar(side, levels, Trailing(side * extreme, armed), i, market)
            if result.reason != OPEN:
                return i, Trailing(side * extreme, armed), doubtful_bars
            extreme, armed = side * result.trailing.extreme, result.trailing.armed
            doubtful_bars += int(result.is_ambiguous)
    return last, Trailing(side * extreme, armed), doubtful_bars
