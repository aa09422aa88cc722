"""What becomes of one entry under every exit setting at once: the search behind ``research.factorised``.

The three exit orders and the liquidation stand side by side and none changes another, so each is searched by itself:
when every distinct stop is hit, every distinct target and liquidation, every pair of activation and callback. A trade
ends at the earliest of its own, and there ``exit_in_bar`` is asked once more with all of them. Each answer comes from
``research.fills``; an order that is not asked about is NaN, which never triggers.
"""

import math
from typing import NamedTuple

import numpy as np

from research.fills import (
    OPEN,
    Levels,
    Trailing,
    exit_in_bar,
    fee_usdt,
    funding_paid_usdt,
    gross_pnl_usdt,
    next_entry_row,
    quiet_band,
)
from research.jit import njit, njit_uncounted
from research.kernel import mark_equity
from research.liquidation import exit_price
from research.resting_bars import exit_in_held_bar, funding_in_held_bar_usdt

MISSED = -1  # stands beside fills.REASONS: wanted, but not filled

# What a walk adds per trade. Path figures are relative to the equity before the entry; net PnL is gross - fees -
# funding, for an open trade marked to the last price.
OUTCOME = np.dtype(
    [
        ("gross_pnl_usdt", np.float64),
        ("fees_usdt", np.float64),
        ("funding_usdt", np.float64),
        ("bar_pnl_squared", np.float64),
        ("highest_usdt", np.float64),  # of the equity at the end of a row
        ("lowest_usdt", np.float64),
        ("drawdown_usdt", np.float64),  # deepest fall inside the trade, <= 0
        ("next_row", np.int32),  # first row that may enter again
        ("held_bars", np.int32),
        ("ambiguous_bars", np.int32),
        ("reason", np.int32),
    ],
    align=True,
)

# A bar in which some order triggers first, and the path before it, per unit of quantity.
MOMENT = np.dtype(
    [
        ("row", np.int64),
        ("extreme", np.float64),
        ("pnl", np.float64),
        ("bar_pnl_squared", np.float64),
        ("highest", np.float64),
        ("lowest", np.float64),
        ("drawdown", np.float64),
        ("funding", np.float64),
    ]
)
_NEVER = np.int32(2**31 - 1)
_STOPS, _TARGETS, _LIQUIDATIONS = 0, 1, 2


class Work(NamedTuple):
    """Arrays for the search of one entry, filled anew for the next. Rows are as in ``fills.Levels``."""

    levels: np.ndarray  # (6, n_exit_settings), of this entry
    quantities: np.ndarray  # (n_exit_settings,), 0 where the entry is missed
    distinct: np.ndarray  # (5, n_exit_settings), levels without repetition, nearest first, NaN last
    n_distinct: np.ndarray  # (5,)
    ranks: np.ndarray  # (5, n_exit_settings), place of each setting's level in ``distinct``
    orders: np.ndarray  # (5, n_exit_settings), what sorts the levels: from entry to entry mostly the same
    keys: np.ndarray  # (n_exit_settings,)
    hits: np.ndarray  # (3, n_exit_settings), first moment of each distinct stop, target and liquidation
    trailing_hits: np.ndarray  # (activation, callback)
    armed_rows: np.ndarray  # row in which each distinct activation is reached
    fired: np.ndarray  # per callback how many activations, the nearest, are done with
    moments: np.ndarray  # of ``MOMENT``


@njit(forceinline=False)
def new_work(n_exits: int) -> Work:
    """Room for the search of one entry under so many exit settings."""
    orders = np.empty((5, n_exits), np.int64)
    for k in range(5):
        for setting in range(n_exits):
            orders[k, setting] = setting
    return Work(
        np.empty((6, n_exits)),
        np.empty(n_exits),
        np.empty((5, n_exits)),
        np.empty(5, np.int64),
        np.empty((5, n_exits), np.int32),
        orders,
        np.empty(n_exits),
        np.empty((3, n_exits), np.int32),
        np.empty((n_exits, n_exits), np.int32),
        np.empty(n_exits, np.int64),
        np.empty(n_exits, np.int64),
        np.empty(n_exits * (n_exits + 3) + 1, MOMENT),  # most of it is never touched
    )


@njit(forceinline=False)
def _rank_levels(values, direction, keys, order, distinct, rank):
    """Fill distinct values, nearest first and NaN last, and the place of each value among them; returns how many.

    ``direction`` is 1 where small values are near, -1 where large ones are. Sorted by insertion, since the order of the
    last entry mostly still holds.
    """
    for k in range(values.size):
        keys[k] = math.inf if math.isnan(values[k]) else direction * values[k]
    for k in range(1, values.size):
        place, at = order[k], k
        while at > 0 and keys[order[at - 1]] > keys[place]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place
    n_distinct = 0
    for k in range(values.size):
        place = order[k]
        if k == 0 or keys[place] != keys[order[k - 1]]:
            distinct[n_distinct] = values[place]
            n_distinct += 1
        rank[place] = n_distinct - 1
    return n_distinct


@njit(forceinline=False)
def _ride(quiet_low, quiet_high, exec_close, start, last, low, high, side, entry, costs, open_pnl, path):
    """Carry one unit through the bars that concern no order; returns the first row that needs a look, and the path."""
    pnl, squares, highest, lowest, drawdown = path
    for i in range(start, last):
        if not (quiet_low[i] > low and quiet_high[i] < high):
            return i, open_pnl, (pnl, squares, highest, lowest, drawdown)
        open_pnl = gross_pnl_usdt(side, 1.0, entry, exec_close[i])
        change, pnl, highest, drawdown = mark_equity(open_pnl - costs, pnl, highest, drawdown)
        lowest = min(lowest, pnl)
        squares += change * change
    return last, open_pnl, (pnl, squares, highest, lowest, drawdown)


@njit
def _keep_moment(moment, row, extreme, funding, path):
    moment.row = row
    moment.extreme = extreme
    moment.pnl, moment.bar_pnl_squared, moment.highest, moment.lowest, moment.drawdown = path
    moment.funding = funding


@njit
def _nearest(values, n_values, k):
    return values[k] if k < n_values else math.nan


@njit
def _trailing_only(activation, callback):
    return Levels(math.nan, math.nan, activation, callback, math.nan, math.nan)


@njit
def _band(side, stop, target, activation, callback, liquidation, extreme):
    """Prices strictly between which a bar concerns none of the nearest orders; NaN where none is pending."""
    low, high = quiet_band(
        side, Levels(stop, target, activation, math.nan, liquidation, math.nan), Trailing(extreme, False)
    )
    if math.isnan(callback):
        return low, high
    low_armed, high_armed = quiet_band(side, _trailing_only(math.nan, callback), Trailing(extreme, True))
    return max(low, low_armed), min(high, high_armed)


@njit(forceinline=False)
def _ask_trailing(side, activation, trailing, i, market, first, end, work, doubts, moment):
    """Ask bar ``i`` about the trailing orders of activations [first, end), smallest callback first.

    Those that trigger get this ``moment``; those that may have triggered unseen are noted in ``doubts``. A bar that
    leaves one callback alone leaves the wider ones alone. Returns whether any triggered.
    """
    has_hit = False
    for k in range(work.n_distinct[3]):
        start = max(first, work.fired[k])
        if start >= end:
            continue
        levels = _trailing_only(activation, work.distinct[3, k])
        result = exit_in_bar(side, levels, trailing, i, market)
        if result.reason != OPEN:
            for a in range(start, end):
                work.trailing_hits[a, k] = moment
            work.fired[k] = end
            has_hit = True
        elif result.is_ambiguous:
            doubts.append((i, start, end, k))
        else:
            break
    return has_hit


@njit
def _mark_hits(side, distinct, n_distinct, kind, trailing, i, market, hit, hits, moment):
    """Give this ``moment`` to the stops, targets or liquidations from place ``hit`` on that bar ``i`` triggers.

    ``kind`` is the place in ``hits``. Returns the first place that it leaves alone.
    """
    while hit < n_distinct:
        level = distinct[hit]
        stop, target = level if kind == _STOPS else math.nan, level if kind == _TARGETS else math.nan
        liquidation = level if kind == _LIQUIDATIONS else math.nan
        levels = Levels(stop, target, math.nan, math.nan, liquidation, math.nan)
        if exit_in_bar(side, levels, trailing, i, market).reason == OPEN:
            break
        hits[kind, hit] = moment
        hit += 1
    return hit


@njit(forceinline=False)
def _find_moments(side, entry, row, last, market, quiet_low, quiet_high, terms, work, doubts):
    """When each distinct exit order of an entry first triggers, had it stood alone: fills ``hits`` and ``moments``.

    Returns
    -------
    Number of moments. One more stands behind them, the end of the range, for orders that never trigger.
    """
    stops, targets, activations, callbacks, liquidations = work.distinct
    n_stops, n_targets, n_activations, n_callbacks, n_liquidations = work.n_distinct
    hits = work.hits
    for k in range(max(n_stops, n_targets, n_liquidations)):
        hits[_STOPS, k] = hits[_TARGETS, k] = hits[_LIQUIDATIONS, k] = _NEVER
    for k in range(n_activations):
        work.armed_rows[k] = last
        for c in range(n_callbacks):
            work.trailing_hits[k, c] = _NEVER
    for c in range(n_callbacks):
        work.fired[c] = 0
    doubts.clear()
    n_stopped = n_reached = n_liquidated = n_armed = n_moments = 0
    funding = open_pnl = 0.0
    costs = fee_usdt(entry, 1.0, terms.taker_fee_bps)
    path = (0.0, 0.0, -math.inf, math.inf, 0.0)
    extreme = market.exec_open[row]

    i = row
    while i < last:
        pending = 0
        while pending < n_callbacks and work.fired[pending] == n_armed:
            pending += 1
        low, high = _band(
            side, _nearest(stops, n_stops, n_stopped), _nearest(targets, n_targets, n_reached),
            _nearest(activations, n_activations, n_armed), _nearest(callbacks, n_callbacks, pending),
            _nearest(liquidations, n_liquidations, n_liquidated), extreme,
        )  # fmt: skip
        i, open_pnl, path = _ride(
            quiet_low, quiet_high, market.exec_close, i, last, low, high, side, entry, costs, open_pnl, path
        )
        if i >= last:
            break
        if not math.isnan(market.exec_open[i]):
            unarmed, armed = Trailing(extreme, False), Trailing(extreme, True)
            before = n_stopped + n_reached + n_liquidated
            n_stopped = _mark_hits(side, stops, n_stops, _STOPS, unarmed, i, market, n_stopped, hits, n_moments)
            n_reached = _mark_hits(side, targets, n_targets, _TARGETS, unarmed, i, market, n_reached, hits, n_moments)
            n_liquidated = _mark_hits(
                side, liquidations, n_liquidations, _LIQUIDATIONS, unarmed, i, market, n_liquidated, hits, n_moments
            )
            has_hit = n_stopped + n_reached + n_liquidated > before
            has_hit |= _ask_trailing(side, math.nan, armed, i, market, 0, n_armed, work, doubts, n_moments)
            while n_armed < n_activations:
                levels = _trailing_only(activations[n_armed], math.nan)
                if not exit_in_bar(side, levels, unarmed, i, market).trailing.armed:
                    break
                work.armed_rows[n_armed] = i
                has_hit |= _ask_trailing(
                    side, activations[n_armed], unarmed, i, market, n_armed, n_armed + 1, work, doubts, n_moments
                )
                n_armed += 1
            if has_hit:
                _keep_moment(work.moments[n_moments], i, extreme, funding, path)
                n_moments += 1
                is_trailing_over = work.fired[n_callbacks - 1] == n_activations
                is_against_over = n_stopped == n_stops or n_liquidated == n_liquidations
                if is_against_over or n_reached == n_targets or is_trailing_over:
                    return n_moments
            extreme = exit_in_bar(side, _trailing_only(math.nan, math.nan), unarmed, i, market).trailing.extreme
            open_pnl = gross_pnl_usdt(side, 1.0, entry, market.exec_close[i])
        if market.funding_per_unit[i] != 0.0:
            paid = funding_paid_usdt(side, 1.0, market.funding_per_unit[i])
            funding += paid
            costs += paid
        pnl, squares, highest, lowest, drawdown = path
        change, pnl, highest, drawdown = mark_equity(open_pnl - costs, pnl, highest, drawdown)
        path = (pnl, squares + change * change, highest, min(lowest, pnl), drawdown)
        i += 1
    _keep_moment(work.moments[n_moments], last, extreme, funding, path)
    return n_moments


@njit(forceinline=False)
def find_outcomes(side, entry, row, last, market, quiet_low, quiet_high, terms, work, doubts, outcomes) -> None:
    """What becomes of one entry under every exit setting.

    Parameters
    ----------
    entry : fill price.
    work : its ``levels`` and ``quantities`` are those of this entry.
    doubts : a list of (row, first activation, end of activations, callback), filled anew.
    outcomes : ``OUTCOME``, shape (n_exit_settings,), filled.
    """
    is_wanted = False
    for quantity in work.quantities:
        is_wanted |= quantity > 0.0
    if not is_wanted:
        for setting in range(outcomes.size):
            miss(outcomes[setting], row)
        return
    for k in range(5):
        direction = (-side, side, side, 1, -side)[k]
        work.n_distinct[k] = _rank_levels(
            work.levels[k], direction, work.keys, work.orders[k], work.distinct[k], work.ranks[k]
        )
    n_moments = _find_moments(side, entry, row, last, market, quiet_low, quiet_high, terms, work, doubts)
    levels, quantities, ranks, armed_rows = work.levels, work.quantities, work.ranks, work.armed_rows
    moments, hits, trailing_hits = work.moments, work.hits, work.trailing_hits
    n_doubts = len(doubts)
    for setting in range(outcomes.size):
        quantity = quantities[setting]
        if not quantity > 0.0:
            miss(outcomes[setting], row)
            continue
        activation, callback = ranks[2, setting], ranks[3, setting]
        hit = min(
            hits[_STOPS, ranks[0, setting]],
            hits[_TARGETS, ranks[1, setting]],
            hits[_LIQUIDATIONS, ranks[4, setting]],
            trailing_hits[activation, callback],
        )
        moment = moments[min(hit, n_moments)]
        doubtful_bars = 0
        for k in range(n_doubts):
            i, start, end, at = doubts[k]
            doubtful_bars += int(i < moment.row and start <= activation < end and at == callback)
        place = Levels(
            levels[0, setting], levels[1, setting], levels[2, setting], levels[3, setting], levels[4, setting],
            levels[5, setting],
        )  # fmt: skip
        write_outcome(
            outcomes[setting], side, entry, quantity, row, last, place, moment,
            Trailing(moment.extreme, armed_rows[activation] < moment.row), doubtful_bars, market, terms,
        )  # fmt: skip


@njit_uncounted
def miss(outcome, row):
    """The outcome of an entry that is not filled: nothing, and the next row may enter."""
    outcome.gross_pnl_usdt = outcome.fees_usdt = outcome.funding_usdt = outcome.bar_pnl_squared = 0.0
    outcome.highest_usdt, outcome.lowest_usdt, outcome.drawdown_usdt = -math.inf, math.inf, 0.0
    outcome.held_bars = outcome.ambiguous_bars = 0
    outcome.reason = MISSED
    outcome.next_row = row + 1


@njit_uncounted
def write_outcome(
    outcome, side, entry, quantity, row, last, levels, moment, trailing, doubtful_bars, market, terms, has_rested=False
):  # fmt: skip
    """The outcome of an entry filled in ``row`` whose first order triggers at ``moment``, or still open at ``last``."""
    i = moment.row
    is_fill_bar = has_rested and i == row
    fees = fee_usdt(entry, quantity, terms.maker_fee_bps if has_rested else terms.taker_fee_bps)
    funding = quantity * moment.funding
    highest, lowest = quantity * moment.highest, quantity * moment.lowest
    drawdown, squares = quantity * moment.drawdown, quantity * quantity * moment.bar_pnl_squared
    if i == last:
        gross = quantity * moment.pnl + fees + funding
        reason, held_bars, next_row = OPEN, last - row, last
    else:
        result = exit_in_held_bar(side, entry, levels, trailing, i, market, is_fill_bar)
        reason, held_bars, next_row = result.reason, i - row + 1, next_entry_row(i, terms)
        doubtful_bars += int(result.is_ambiguous)
        if not result.at_open:
            funding += funding_in_held_bar_usdt(side, quantity, market.funding_per_unit[i], is_fill_bar)
        exit_ = exit_price(side, result, market.half_spread_bps[i], terms.slippage_bps)
        fees += fee_usdt(exit_, quantity, terms.taker_fee_bps)
        gross = gross_pnl_usdt(side, quantity, entry, exit_)
        net = gross - fees - funding
        change, net, highest, drawdown = mark_equity(net, quantity * moment.pnl, highest, drawdown)
        lowest = min(lowest, net)
        squares += change * change
    outcome.gross_pnl_usdt, outcome.fees_usdt, outcome.funding_usdt = gross, fees, funding
    outcome.highest_usdt, outcome.lowest_usdt, outcome.drawdown_usdt = highest, lowest, drawdown
    outcome.bar_pnl_squared = squares
    outcome.reason, outcome.held_bars, outcome.next_row = reason, held_bars, next_row
    outcome.ambiguous_bars = doubtful_bars
