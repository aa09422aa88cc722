"""What the strategies on liquidation clusters share: trend filter, gates, and orders that stand behind a cluster.

``row`` and ``params`` are any strategy's that have the fields named here. Everything is written as "allowed when", so
that a NaN keeps out.
"""

import numpy as np

from research.clusters.columns import CLEAR_BPS
from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.gates import breakeven_bps, gates_open


def trend_columns(params) -> dict[str, str]:
    """Features behind ``fast_ema`` and ``slow_ema``: those of the windows, the close twice where the filter is off."""
    windows = {"fast_ema": params.trend_fast_window_bars, "slow_ema": params.trend_slow_window_bars}
    if params.trend_slow_window_bars == 0:
        return dict.fromkeys(windows, "close")
    return {field: f"ema_{int(window)}" for field, window in windows.items()}


@njit
def is_with_trend(side, row, params) -> bool:
    """True when the fast mean is beyond the slow one on this side; always while ``trend_slow_window_bars`` is 0."""
    return params.trend_slow_window_bars == 0.0 or side * (row.fast_ema - row.slow_ema) > 0.0


@njit
def is_strong(strength, usdt, confidence, params) -> bool:
    """True when a cluster is strong, large and, unless ``min_confidence`` is 0, sure enough."""
    return (
        strength >= params.min_strength
        and usdt >= params.min_usdt
        and (params.min_confidence == 0.0 or confidence >= params.min_confidence)
    )


@njit
def bracket(side, row, params, stop_edge, target) -> Decision:
    """Enter now, the stop behind ``stop_edge``, the target at a price; or stay out.

    Stays out when a gate is closed, the trend is against it, the stop would be further than ``max_stop_bps``, reward
    over risk, counted from the three prices, is under ``min_reward_risk``, or the target does not pay for a round trip.

    Parameters
    ----------
    stop_edge : far edge of what the stop hides behind; nothing else stands within ``CLEAR_BPS`` behind it.
    """
    entry = row.ask_price if side > 0 else row.bid_price
    # A stop is rounded toward the entry by less than a tick: with one tick more it stays behind the edge.
    room_bps = params.stop_buffer_bps + 1e4 * row.tick_size / stop_edge
    stop = stop_edge * (1.0 - side * room_bps / 1e4)
    risk, reward = side * (entry - stop), side * (target - entry)
    is_worth_it = (
        room_bps < CLEAR_BPS
        and side * (row.mark_price - stop) > 0.0
        and 0.0 < risk <= entry * params.max_stop_bps / 1e4
        and reward >= params.min_reward_risk * risk
        and reward >= entry * breakeven_bps(side, row) / 1e4
        and is_with_trend(side, row, params)
    )
    if not is_worth_it or not gates_open(side, row, params):
        return stay_out()
    return Decision(side, np.nan, np.nan, np.nan, np.nan, stop, target)
