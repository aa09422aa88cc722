"""From trade to trade: a config's statistics as a walk over the outcomes of the entries it wants."""

import numpy as np
from numba import prange

from research.fills import OPEN, STOP, TARGET, TRAILING
from research.jit import njit, njit_uncounted
from research.kernel import STATS
from research.outcomes import MISSED, OUTCOME

# Where a config's walk stands, so that it can go on with later rows.
WALK = np.dtype([*((name, np.float64) for name in STATS), ("peak_usdt", np.float64), ("next_row", np.int64)])

_ENTRIES_PER_TILE = 1_024


@njit(parallel=True)
def first_wanted(wanted, rows, sides, first_row):
    """Per entry setting and candidate the first candidate from there on that this setting wants.

    Parameters
    ----------
    wanted : int8, shape (n_entry_settings, n_rows), sides wanted from row ``first_row`` on.
    rows, sides : shape (n_candidates,)

    Returns
    -------
    uint16, shape (n_entry_settings, n_candidates + 1); n_candidates where there is none.
    """
    n_candidates = rows.size
    following = np.empty((wanted.shape[0], n_candidates + 1), np.uint16)
    for entry in prange(wanted.shape[0]):
        nearest = n_candidates
        following[entry, n_candidates] = n_candidates
        for k in range(n_candidates - 1, -1, -1):
            if wanted[entry, rows[k] - first_row] == sides[k]:
                nearest = k
            following[entry, k] = nearest
    return following


@njit(parallel=True)
def walk(outcomes, which, onward, following, first_candidate, first_row, config_at, walks):
    """Take every config's walk through these candidates, from where it stood.

    Parameters
    ----------
    outcomes : ``OUTCOME``, each different one of a candidate once.
    which : int32, shape (n_exit_settings, n_candidates), the place of each in ``outcomes``.
    onward : uint16 of that shape, the first candidate that is not before the outcome's ``next_row``.
    following : ``first_wanted``.
    first_candidate : shape (n_rows + 1,), the first candidate in or after each row from ``first_row`` on.
    config_at : shape (n_exit_settings, n_entry_settings), place of the config in ``walks``; -1 where there is none.
    """
    n_exits, n_entries = config_at.shape
    # Exit settings outside: their outcomes, side by side, stay in the cache while the entry settings go by.
    n_tiles = (n_entries + _ENTRIES_PER_TILE - 1) // _ENTRIES_PER_TILE
    for tile in prange(n_exits * n_tiles):
        setting, first = tile // n_tiles, tile % n_tiles * _ENTRIES_PER_TILE
        own = np.empty(which.shape[1], OUTCOME)
        for k in range(own.size):
            own[k] = outcomes[which[setting, k]]
        for entry in range(first, min(first + _ENTRIES_PER_TILE, n_entries)):
            if config_at[setting, entry] >= 0:
                _walk_one(own, onward[setting], following[entry], first_candidate, first_row,
                          walks[config_at[setting, entry]])  # fmt: skip


@njit_uncounted(forceinline=False)
def _walk_one(outcomes, onward, following, first_candidate, first_row, state):
    start = state.next_row - first_row
    if start >= first_candidate.size:
        return
    n_candidates = onward.size
    k = following[first_candidate[max(start, 0)]]
    if k == n_candidates:
        return
    equity, peak, drawdown = state.net_pnl_usdt, state.peak_usdt, state.max_drawdown_usdt
    gross, fees, funding = state.gross_pnl_usdt, state.fees_usdt, state.funding_usdt
    trade_squares, bar_squares = state.trade_pnl_squared, state.bar_pnl_squared
    trades = wins = stops = targets = trailings = missed = exposure = ambiguous = 0
    longest = np.int32(state.longest_hold_bars)
    while k < n_candidates:
        outcome = outcomes[k]
        net = outcome.gross_pnl_usdt - outcome.fees_usdt - outcome.funding_usdt
        drawdown = min(drawdown, outcome.drawdown_usdt, equity + outcome.lowest_usdt - peak)
        peak = max(peak, equity + outcome.highest_usdt)
        equity += net
        fees += outcome.fees_usdt
        funding += outcome.funding_usdt
        bar_squares += outcome.bar_pnl_squared
        exposure += outcome.held_bars
        longest = max(longest, outcome.held_bars)
        ambiguous += outcome.ambiguous_bars
        next_row = outcome.next_row
        if outcome.reason == OPEN:
            state.is_open = 1.0
            break
        gross += outcome.gross_pnl_usdt
        trade_squares += net * net
        trades += int(outcome.reason > OPEN)
        wins += int(net > 0.0)
        stops += int(outcome.reason == STOP)
        targets += int(outcome.reason == TARGET)
        trailings += int(outcome.reason == TRAILING)
        missed += int(outcome.reason == MISSED)
        k = following[onward[k]]
    state.net_pnl_usdt, state.peak_usdt, state.max_drawdown_usdt = equity, peak, drawdown
    state.gross_pnl_usdt, state.fees_usdt, state.funding_usdt = gross, fees, funding
    state.trade_pnl_squared, state.bar_pnl_squared = trade_squares, bar_squares
    state.trades += trades
    state.wins += wins
    state.stop_exits += stops
    state.target_exits += targets
    state.trailing_exits += trailings
    state.missed_entries += missed
    state.exposure_bars += exposure
    state.longest_hold_bars = longest
    state.ambiguous_bars += ambiguous
    state.next_row = next_row


def standing_start(n_configs: int, first: int) -> np.ndarray:
    """Walks before their first step, flat at row ``first``."""
    walks = np.zeros(n_configs, WALK)
    walks["next_row"] = first
    return walks


@njit_uncounted
def book(state, outcome) -> None:
    """Add one trade, or a missed entry, to a config's walk: one step of ``_walk_one``, which takes many."""
    equity, net = state.net_pnl_usdt, outcome.gross_pnl_usdt - outcome.fees_usdt - outcome.funding_usdt
    fall = equity + outcome.lowest_usdt - state.peak_usdt
    state.max_drawdown_usdt = min(state.max_drawdown_usdt, outcome.drawdown_usdt, fall)
    state.peak_usdt = max(state.peak_usdt, equity + outcome.highest_usdt)
    state.net_pnl_usdt = equity + net
    state.fees_usdt += outcome.fees_usdt
    state.funding_usdt += outcome.funding_usdt
    state.bar_pnl_squared += outcome.bar_pnl_squared
    state.exposure_bars += outcome.held_bars
    state.longest_hold_bars = max(state.longest_hold_bars, outcome.held_bars)
    state.ambiguous_bars += outcome.ambiguous_bars
    state.next_row = outcome.next_row
    if outcome.reason == OPEN:
        state.is_open = 1.0
        return
    state.gross_pnl_usdt += outcome.gross_pnl_usdt
    state.trade_pnl_squared += net * net
    state.trades += int(outcome.reason > OPEN)
    state.wins += int(net > 0.0)
    state.stop_exits += int(outcome.reason == STOP)
    state.target_exits += int(outcome.reason == TARGET)
    state.trailing_exits += int(outcome.reason == TRAILING)
    state.missed_entries += int(outcome.reason == MISSED)
