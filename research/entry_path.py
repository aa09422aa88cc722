"""What follows one entry, held so that every exit plan finds its end there: the search behind ``research.listed``.

Until it is closed a trade is the same whatever its exit orders are. So the bars after an entry are passed once, as far
as any plan asks, and each bar leaves the worst and the best price so far and the PnL of one unit. The first bar that
touches an order is then looked up, and ``fills.exit_in_bar`` says what happened in it. Only a trailing order that is
armed is followed bar by bar. A caller with many entries takes each step for all of them before the next: ``want``,
``begin`` for the first of a side, ``place_exits``, ``find_touch``, ``settle``.

Prices here are times the side, so that greater is better for a trade; arrays have the longs first, then the shorts.
Selecting one of two arrays would count references in every trade: a place in one array is free.
"""

import math
from typing import NamedTuple

import numpy as np

from research.fills import (
    OPEN,
    Decision,
    Levels,
    Market,
    Trailing,
    decision_price,
    entry_price,
    entry_quantity,
    exit_in_bar,
    exit_levels,
    fee_usdt,
    gross_pnl_usdt,
    size_multiple,
    still_open,
)
from research.jit import njit, njit_uncounted
from research.kernel import mark_equity, quiet_rows
from research.liquidation import with_liquidation
from research.outcomes import MOMENT, miss, write_outcome
from research.resting import resting_price
from research.resting_bars import exit_in_fill_bar, exit_in_held_bar, funding_in_held_bar_usdt, rested_in_bars

_FIRST_BARS = 64  # passed at once; twice as many when that does not do
_COUNTED, _SEARCHED = 64, 256  # values that are compared one by one, and those of which every 64th is looked at before

# What one config wants on a row, then the position that it gets with its exit orders.
ENTRY = np.dtype(
    [
        ("config", np.int64),
        ("side", np.int64),
        ("stop", np.float64),  # bps, once placed a price; the next two likewise
        ("target", np.float64),
        ("activation", np.float64),
        ("callback_bps", np.float64),
        ("stop_price", np.float64),  # of the decision, like the next
        ("target_price", np.float64),
        ("quantity", np.float64),
        ("liquidation", np.float64),
        ("bankruptcy", np.float64),
        ("touch", np.int64),  # ``find_touch``
    ]
)


class Seen(NamedTuple):
    """The rows as a position sees them, float64 of shape (2, n_rows)."""

    worst: np.ndarray  # of last price and mark; NaN where more than prices matters (``kernel.quiet_rows``)
    best: np.ndarray
    last_best: np.ndarray  # of the last price
    watched_worst: np.ndarray  # of what stops are watched on: the mark, the last price where there is none


class EntryPath(NamedTuple):
    """Bars after the entries of one row, filled anew for the next."""

    fallen: np.ndarray  # (2, n_rows + _SEARCHED): how low ``watched_worst`` came so far, times -1; then infinite
    risen: np.ndarray  # of that shape: how high ``last_best`` came so far; then infinite
    moments: np.ndarray  # of ``MOMENT``, (2, n_rows + 1): [k] stands before bar k, its extreme is the price itself
    n_bars: np.ndarray  # (2,): how many are passed
    decided: np.ndarray  # (2,): price at which the order is sized
    multiple: np.ndarray  # (2,): of the size
    quantity: np.ndarray  # (2,): of the entry it began with, and of all where stops do not size them
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
        np.empty((2, n_rows + _SEARCHED)),
        np.empty((2, n_rows + _SEARCHED)),
        np.empty((2, n_rows + 1), MOMENT),
        np.zeros(2, np.int64),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.empty(2),
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
    )


@njit_uncounted(forceinline=False)
def begin(path, wanted, row, last, market, multiples, lives, terms) -> None:
    """Entries decided on ``row`` on the side of this one, before the first bar in which they are held."""
    side, s = wanted.side, place_of(wanted.side)
    path.multiple[s], path.free_row[s], path.n_bars[s] = size_multiple(side, row, multiples), row + 1, 0
    if lives.shape[0] > 0:
        entry, fee_bps = resting_price(side, market.bid[row], market.ask[row], terms), terms.maker_fee_bps
        path.decided[s] = entry
        row, path.free_row[s] = rested_in_bars(side, entry, row, last, market, lives, terms.tick_size)
        entry = entry if row >= 0 else math.nan
    else:
        entry, fee_bps = entry_price(side, row, market, terms), terms.taker_fee_bps
        path.decided[s] = decision_price(side, row, market)
    path.quantity[s] = entry_quantity(path.decided[s], _decision(wanted), path.multiple[s], terms)
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
    for k in range(end, end + -end % _SEARCHED):
        path.fallen[s, k] = path.risen[s, k] = math.inf
    path.n_bars[s], path.open_pnl[s], path.costs[s] = end, open_pnl, costs


@njit_uncounted
def _first_at(rising, s, n_values, level):
    """Place of the first of so many rising values that reaches the level; a place behind them where none does.

    Those below it are counted, and not searched by halves: a processor that never guesses never guesses wrong, and it
    compares neighbours together.
    """
    start, n_whole = 0, 0
    while start + _SEARCHED < n_values and rising[s, start + _SEARCHED - 1] < level:
        start += _SEARCHED
    for end in range(_COUNTED, _SEARCHED, _COUNTED):
        n_whole += int(rising[s, np.uint64(start + end - 1)] < level)
    start += n_whole * _COUNTED
    place = start
    for k in range(_COUNTED):
        place += int(rising[s, np.uint64(start + k)] < level)
    return place


@njit_uncounted
def want(entry, config, decision) -> None:
    """Write down what a config decided."""
    entry.config, entry.side = config, decision.side
    entry.stop, entry.target, entry.activation = decision.stop_bps, decision.target_bps, decision.activation_bps
    entry.callback_bps = decision.callback_bps
    entry.stop_price, entry.target_price = decision.stop_price, decision.target_price


@njit_uncounted
def _decision(entry):
    return Decision(
        entry.side, entry.stop, entry.target, entry.activation, entry.callback_bps, entry.stop_price, entry.target_price
    )


@njit_uncounted
def place_exits(entry, path, terms) -> None:
    """Turn what is wanted into a quantity and exit orders, once the path has begun."""
    s = place_of(entry.side)
    decision, price = _decision(entry), path.entry[s]
    entry.quantity = path.quantity[s]
    if not math.isnan(terms.risk_usdt):
        entry.quantity = entry_quantity(path.decided[s], decision, path.multiple[s], terms)
    levels = exit_levels(entry.side, price, decision, terms.tick_size)
    levels = with_liquidation(levels, entry.side, price, entry.quantity, terms)
    entry.stop, entry.target, entry.activation = levels.stop, levels.target, levels.activation
    entry.liquidation, entry.bankruptcy = levels.liquidation, levels.bankruptcy


@njit_uncounted
def _nearest(entry):
    """Prices, times the side, at which a bar concerns the position: against it, its target and its activation."""
    against, target, activation = entry.side * entry.stop, entry.side * entry.target, entry.side * entry.activation
    liquidation = entry.side * entry.liquidation
    if math.isnan(against) or liquidation > against:
        against = liquidation
    against = -math.inf if math.isnan(against) else against
    target = math.inf if math.isnan(target) else target
    if math.isnan(activation) or math.isnan(entry.callback_bps):
        activation = math.inf
    return against, target, activation


@njit_uncounted
def find_touch(entry, path, last, market, seen, has_rested) -> None:
    """Find the first bar that touches one of its orders, as a place after the entry: behind the last if none does."""
    s = place_of(entry.side)
    row = path.row[s]
    against, target, activation = _nearest(entry)
    toward, entry.touch = min(target, activation), 0
    if math.isnan(path.entry[s]) or not entry.quantity > 0.0:
        return
    while True:
        n_bars = path.n_bars[s]
        touch = min(_first_at(path.fallen, s, n_bars, -against), _first_at(path.risen, s, n_bars, toward))
        if touch < n_bars or row + n_bars >= last:
            break
        _extend(path, entry.side, row, last, market, seen, has_rested)
    entry.touch = min(touch, n_bars)


@njit_uncounted
def settle(entry, outcome, path, decided_row, last, market, seen, terms, has_rested) -> None:
    """Write the outcome of an entry that was decided on this row."""
    s = place_of(entry.side)
    if math.isnan(path.entry[s]) or not entry.quantity > 0.0:
        miss(outcome, decided_row)
        outcome.next_row = path.free_row[s] if entry.quantity > 0.0 else decided_row + 1
        return
    end, result, doubtful_bars = _find_exit(entry, path, last, market, seen, has_rested)
    write_outcome(
        outcome, entry.side, path.entry[s], entry.quantity, path.row[s], last, result, path.moments[s, end],
        doubtful_bars, market, terms, has_rested,
    )  # fmt: skip


@njit_uncounted
def _find_exit(entry, path, last, market, seen, has_rested):
    """The bar in which a trade ends.

    Parameters
    ----------
    entry : with its ``touch``.

    Returns
    -------
    The bar's place after the entry (``last - row``: the trade is open at the end), what it does, and how many bars
    before it may have triggered an order unseen.
    """
    side, k = entry.side, entry.touch
    s = place_of(side)
    row = path.row[s]
    against, target, activation = _nearest(entry)
    levels = Levels(entry.stop, entry.target, entry.activation, entry.callback_bps, entry.liquidation, entry.bankruptcy)
    doubtful_bars, armed_row = 0, row + k
    trailing = Trailing(path.moments[s, k].extreme if k > 0 else market.exec_open[row], False)
    if has_rested:
        result = exit_in_fill_bar(side, path.entry[s], levels, row, market)
        if result.reason != OPEN:
            return 0, result, 0
        doubtful_bars = int(result.is_ambiguous)
        if result.trailing.armed:
            trailing, armed_row = result.trailing, row + 1
    if not trailing.armed:
        if row + k >= last:
            return k, still_open(trailing), doubtful_bars
        if path.risen[s, k] < activation:
            is_fill_bar = has_rested and k == 0
            result = exit_in_held_bar(side, path.entry[s], levels, trailing, row + k, market, is_fill_bar)
            return k, result, doubtful_bars
    end, result, more = _follow(side, levels, trailing, against, target, armed_row, last, market, seen)
    while row + path.n_bars[s] < end:
        _extend(path, side, row, last, market, seen, has_rested)
    return end - row, result, doubtful_bars + more


@njit_uncounted
def _follow(side, levels, trailing, against, target, start, last, market, seen):
    """The row in which a trade ends whose trailing order arms in row ``start``; what it does, and doubts before it.

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
                return i, result, doubtful_bars
            extreme, armed = side * result.trailing.extreme, result.trailing.armed
            doubtful_bars += int(result.is_ambiguous)
    return last, still_open(Trailing(side * extreme, armed)), doubtful_bars
