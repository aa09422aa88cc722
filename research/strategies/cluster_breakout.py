"""Cluster breakout (prior-art 002, strategy 3): go on in the direction in which the price went through a cluster.

Only an event BROKEN is a break: a cluster that faded, merged or went stale gives no signal. Long after a short cluster
broke upward, short after a long cluster broke downward. The stop stands behind the broken cluster, and behind the
clusters that have grown around that place since.
"""

from typing import NamedTuple

from research.clusters.columns import CLEAR_BPS
from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.cluster_orders import bracket, trend_columns

NAME = "cluster_breakout"


class Params(NamedTuple):
    """One configuration. Distances are bps of price."""

    min_usdt: float  # mass of the cluster on the source venue when it broke
    max_age_bars: float  # since the break became known
    target_bps: float  # from the quote at the decision
    stop_buffer_bps: float  # behind the broken cluster; with a tick under clusters.columns.CLEAR_BPS
    max_stop_bps: float
    min_reward_risk: float
    trend_fast_window_bars: float
    trend_slow_window_bars: float  # 0: no trend filter
    max_spread_ticks: float
    max_funding_bps: float


class Row(NamedTuple):
    """What the decision may look at, all known at the bar's ``avail_time``. NaN keeps us out."""

    break_direction: float
    break_age_bars: float
    break_lo: float
    break_hi: float
    break_usdt: float
    near_long_hi: float
    near_long_far: float
    near_short_lo: float
    near_short_far: float
    bid_price: float
    ask_price: float
    mark_price: float
    tick_size: float
    fast_ema: float
    slow_ema: float
    spread_ticks: float
    spread_bps: float
    funding_bps: float
    funding_interval_hours: float
    opening_loss_long_bps: float
    opening_loss_short_bps: float
    quote_age_ms: float
    mark_age_ms: float
    taker_fee_bps: float


GRID: dict[str, tuple[float, ...]] = {
    "min_usdt": (500_000, 2_000_000),
    "max_age_bars": (2, 5),
    "target_bps": (200, 100, 50),
    "stop_buffer_bps": (5, 10),
    "max_stop_bps": (200, 100),
    "min_reward_risk": (1.0, 1.5, 2.0),
    "trend_fast_window_bars": (9,),
    "trend_slow_window_bars": (0, 21),
    "max_spread_ticks": (2,),
    "max_funding_bps": (1.5,),
}


def columns(params: Params) -> Row:
    """Feature name behind each field of ``Row`` for these parameters (see ``research.features``)."""
    return Row(*Row._fields)._replace(**trend_columns(params))


@njit
def decide(row: Row, position: int, params: Params) -> Decision:
    """Side wanted and exit plan for one closed bar. Pure: no clock, no state; in a position it asks for nothing."""
    is_fresh = row.break_age_bars <= params.max_age_bars and row.break_usdt >= params.min_usdt
    if position != 0 or not (is_fresh and abs(row.break_direction) == 1.0):
        return stay_out()
    side = 1 if row.break_direction > 0.0 else -1
    entry = row.ask_price if side > 0 else row.bid_price
    # Prices times the side: greater is better for the position, whichever it is.
    broken_near, broken_far = (row.break_hi, row.break_lo) if side > 0 else (row.break_lo, row.break_hi)
    near_edge, far_edge = (row.near_long_hi, row.near_long_far) if side > 0 else (row.near_short_lo, row.near_short_far)
    if not side * (row.mark_price - broken_near) > 0.0:  # back inside what it broke through
        return stay_out()
    stop_edge = broken_far
    if side * (near_edge - broken_far * (1.0 - side * CLEAR_BPS / 1e4)) > 0.0:  # a wall stands where the stop would
        if side * (broken_far - far_edge) < 0.0:  # all of it in front: what is behind it is not known
            return stay_out()
        stop_edge = far_edge
    return bracket(side, row, params, stop_edge, entry * (1.0 + side * params.target_bps / 1e4))
