"""What becomes of one entry under every exit setting at once: the search behind ``research.factorised``.

The three exit orders and the liquidation stand side by side and none changes another, so each different one is searched
by itself: when every stop is hit, every target and liquidation, every pair of activation and callback. A trade ends at
the earliest of its own, and there ``exit_in_bar`` is asked once more with all of them. Settings whose trades end in one
bar by the same orders share one outcome. Each answer comes from ``research.fills``; an order that is not asked about is
NaN, which never triggers.
"""

import math
from typing import NamedTuple

import numpy as np

from research.factorised_plans import (
    ACTIVATION,
    CALLBACK,
    LIQUIDATION,
    STOP,
    TARGET,
    levels_of,
)
from research.fills import (
    OPEN,
    Levels,
    Trailing,
    exit_in_bar,
    fee_usdt,
    funding_paid_usdt,
    gross_pnl_usdt,
    quiet_band,
    still_open,
)
from research.jit import njit, njit_uncounted
from research.kernel import mark_equity
from research.outcomes import MOMENT, miss, write_outcome

_NEVER = np.int32(2**31 - 1)
_NONE = -1


class Work(NamedTuple):
    """Arrays for the search of one entry, filled anew for the next. Orders go by their numbers in ``Plans``."""

    hits: np.ndarray  # (5, n_exit_settings), first moment of each stop, target and liquidation
    trailing_hits: np.ndarray  # (activation, callback)
    armed_rows: np.ndarray  # row in which each activation is reached
    fired: np.ndarray  # per callback how many activations, the nearest, are done with
    doubtful_bars: np.ndarray  # per setting, before its trade ends: the trailing order may have triggered unseen
    moments: np.ndarray  # of ``MOMENT``
    newest: np.ndarray  # per moment its last outcome so far
    before: np.ndarray  # per outcome another of the same moment
    endings: np.ndarray  # per outcome what makes it another one than those


@njit(forceinline=False)
def new_work(n_exits: int) -> Work:
    """Room for the search of one entry under so many exit settings."""
    most_moments = n_exits * (n_exits + 3) + 1  # most of it is never touched
    return Work(
        np.empty((5, n_exits), np.int32),
        np.empty((n_exits, n_exits), np.int32),
        np.empty(n_exits, np.int64),
        np.empty(n_exits, np.int64),
        np.empty(n_exits, np.int32),
        np.empty(most_moments, MOMENT),
        np.empty(most_moments + 1, np.int32),
        np.empty(n_exits, np.int32),
        np.empty(n_exits, np.int64),
    )


@njit_uncounted(forceinline=False)
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


@njit_uncounted
def _keep_moment(moment, row, extreme, funding, path):
    moment.row = row
    moment.extreme = extreme
    moment.pnl, moment.bar_pnl_squared, moment.highest, moment.lowest, moment.drawdown = path
    moment.funding = funding


@njit_uncounted
def _nearest(values, n_values, k):
    return values[k] if k < n_values else math.nan


@njit_uncounted
def _trailing_only(activation, callback):
    return Levels(math.nan, math.nan, activation, callback, math.nan, math.nan)


@njit_uncounted
def _band(side, stop, target, activation, callback, liquidation, extreme):
    """Prices strictly between which a bar concerns none of the nearest orders; NaN where none is pending."""
    low, high = quiet_band(
        side, Levels(stop, target, activation, math.nan, liquidation, math.nan), Trailing(extreme, False)
    )
    if math.isnan(callback):
        return low, high
    low_armed, high_armed = quiet_band(side, _trailing_only(math.nan, callback), Trailing(extreme, True))
    return max(low, low_armed), min(high, high_armed)


@njit_uncounted
def _note_doubt(first, end, callback, plans, work):
    """This bar counts as doubtful for the settings with this callback and activations [first, end) that hold on."""
    number, hits = plans.number, work.hits
    for setting in range(number.shape[1]):
        if number[CALLBACK, setting] == callback and first <= number[ACTIVATION, setting] < end:
            is_held = hits[STOP, number[STOP, setting]] == _NEVER
            is_held &= hits[TARGET, number[TARGET, setting]] == _NEVER
            is_held &= hits[LIQUIDATION, number[LIQUIDATION, setting]] == _NEVER
            work.doubtful_bars[setting] += int(is_held)


@njit_uncounted(forceinline=False)
def _ask_trailing(side, activation, trailing, i, market, first, end, plans, work, moment):
    """Ask bar ``i`` about the trailing orders of activations [first, end), smallest callback first.

    Those that trigger get this ``moment``; those that may have triggered unseen are noted. A bar that leaves one
    callback alone leaves the wider ones alone. Returns whether any triggered.
    """
    has_hit = False
    for k in range(plans.n_orders[CALLBACK]):
        start = max(first, work.fired[k])
        if start >= end:
            continue
        levels = _trailing_only(activation, plans.levels[CALLBACK, k])
        result = exit_in_bar(side, levels, trailing, i, market)
        if result.reason != OPEN:
            for a in range(start, end):
                work.trailing_hits[a, k] = moment
            work.fired[k] = end
            has_hit = True
        elif result.is_ambiguous:
            _note_doubt(start, end, k, plans, work)
        else:
            break
    return has_hit


@njit_uncounted
def _mark_hits(side, levels, n_levels, kind, trailing, i, market, hit, hits, moment):
    """Give this ``moment`` to the stops, targets or liquidations from number ``hit`` on that bar ``i`` triggers.

    Returns the first number that it leaves alone.
    """
    while hit < n_levels:
        level = levels[hit]
        stop, target = level if kind == STOP else math.nan, level if kind == TARGET else math.nan
        liquidation = level if kind == LIQUIDATION else math.nan
        alone = Levels(stop, target, math.nan, math.nan, liquidation, math.nan)
        if exit_in_bar(side, alone, trailing, i, market).reason == OPEN:
            break
        hits[kind, hit] = moment
        hit += 1
    return hit


@njit_uncounted(forceinline=False)
def _find_moments(side, entry, row, last, market, quiet_low, quiet_high, terms, plans, work):
    """When each exit order of an entry first triggers, had it stood alone: fills ``hits`` and ``moments``.

    Returns
    -------
    Number of moments. One more stands behind them, the end of the range, for orders that never trigger.
    """
    stops, targets, activations, callbacks, liquidations = plans.levels
    n_stops, n_targets, n_activations, n_callbacks, n_liquidations = plans.n_orders
    hits = work.hits
    for kind in range(5):
        for k in range(plans.n_orders[kind]):
            hits[kind, k] = _NEVER
    for k in range(n_activations):
        work.armed_rows[k] = last
        for c in range(n_callbacks):
            work.trailing_hits[k, c] = _NEVER
    for c in range(n_callbacks):
        work.fired[c] = 0
    for setting in range(plans.number.shape[1]):
        work.doubtful_bars[setting] = 0
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
            n_stopped = _mark_hits(side, stops, n_stops, STOP, unarmed, i, market, n_stopped, hits, n_moments)
            n_reached = _mark_hits(side, targets, n_targets, TARGET, unarmed, i, market, n_reached, hits, n_moments)
            n_liquidated = _mark_hits(
                side, liquidations, n_liquidations, LIQUIDATION, unarmed, i, market, n_liquidated, hits, n_moments
            )
            has_hit = n_stopped + n_reached + n_liquidated > before
            has_hit |= _ask_trailing(side, math.nan, armed, i, market, 0, n_armed, plans, work, n_moments)
            while n_armed < n_activations:
                levels = _trailing_only(activations[n_armed], math.nan)
                if not exit_in_bar(side, levels, unarmed, i, market).trailing.armed:
                    break
                work.armed_rows[n_armed] = i
                has_hit |= _ask_trailing(
                    side, activations[n_armed], unarmed, i, market, n_armed, n_armed + 1, plans, work, n_moments
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


@njit_uncounted
def miss_all(row, outcomes, first, candidate, which):
    """``find_outcomes`` of an entry that no setting takes."""
    miss(outcomes[first], row)
    for setting in range(which.shape[0]):
        which[setting, candidate] = first
    return first + 1


@njit_uncounted(forceinline=False)
def find_outcomes(
    side, entry, row, last, market, quiet_low, quiet_high, terms, plans, work, outcomes, first, candidate, which
):
    """What becomes of one entry under every exit setting, each different outcome once.

    Parameters
    ----------
    entry : fill price.
    plans : placed for this entry, which some setting takes.
    outcomes : ``OUTCOME``, filled from place ``first`` on.
    which : shape (n_exit_settings, n_candidates), filled for this candidate: place of each setting's in ``outcomes``.

    Returns
    -------
    Place behind the last that was filled.
    """
    n_moments = _find_moments(side, entry, row, last, market, quiet_low, quiet_high, terms, plans, work)
    number, hits, newest, endings = plans.number, work.hits, work.newest, work.endings
    missed = n_moments + 1  # stands behind the moments
    for moment in range(missed + 1):
        newest[moment] = _NONE
    n_exits, end = number.shape[1], first
    is_sized_by_stop = not math.isnan(terms.risk_usdt)
    for setting in range(n_exits):
        stop, target, liquidation = number[STOP, setting], number[TARGET, setting], number[LIQUIDATION, setting]
        activation, callback = number[ACTIVATION, setting], number[CALLBACK, setting]
        against = min(hits[STOP, stop], hits[LIQUIDATION, liquidation])
        toward, trailed = hits[TARGET, target], work.trailing_hits[activation, callback]
        moment, ending = min(against, toward, trailed, n_moments), 0
        if not plans.quantities[stop] > 0.0:
            moment = missed
        else:
            # Of its orders only those count that trigger there.
            ending = work.doubtful_bars[setting]
            ending = ending * (n_exits + 1) + (stop + 1 if against == moment or is_sized_by_stop else 0)
            ending = ending * (n_exits + 1) + (target + 1 if toward == moment else 0)
            ending = ending * (n_exits * n_exits + 1)
            ending += activation * n_exits + callback + 1 if trailed == moment else 0
        k = newest[moment]
        while k != _NONE and endings[k - first] != ending:
            k = work.before[k - first]
        if k == _NONE:
            k = end
            end += 1
            endings[k - first], work.before[k - first], newest[moment] = ending, newest[moment], k
            if moment == missed:
                miss(outcomes[k], row)
            else:
                reached = work.moments[moment]
                result = still_open(Trailing(reached.extreme, work.armed_rows[activation] < reached.row))
                if reached.row < last:
                    levels = levels_of(plans, setting, side, entry, terms)
                    result = exit_in_bar(side, levels, result.trailing, reached.row, market)
                write_outcome(
                    outcomes[k], side, entry, plans.quantities[stop], row, last, result, reached,
                    work.doubtful_bars[setting], market, terms,
                )  # fmt: skip
        which[setting, candidate] = k
    return end
