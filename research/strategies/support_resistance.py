"""Support and resistance (prior-art 002, strategy 2): expect the price to turn at a cluster, the opposite of the hunt.

Long just above a long cluster, short just under a short cluster; between two the nearer one counts. The stop stands
behind the cluster, the target is the near edge of the nearest cluster on the other side of the price.
"""

from typing import NamedTuple

from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.cluster_orders import bracket, is_strong, trend_columns

NAME = "support_resistance"


class Params(NamedTuple):
    """One configuration. Distances are bps of price."""

    min_strength: float  # 0-1, rank of the cluster's mass
    min_usdt: float  # mass of the cluster on the source venue
    min_confidence: float  # of the calibrated model; 0: not asked for
    max_distance_bps: float  # from the mark to the cluster's near edge; inside the cluster it is negative
    stop_buffer_bps: float  # behind the cluster; with a tick under clusters.columns.CLEAR_BPS
    max_stop_bps: float
    min_reward_risk: float
    trend_fast_window_bars: float
    trend_slow_window_bars: float  # 0: no trend filter
    max_spread_ticks: float
    max_funding_bps: float


class Row(NamedTuple):
    """What the decision may look at, all known at the bar's ``avail_time``. NaN keeps us out."""

    near_long_hi_bps: float
    near_long_hi: float
    near_long_far: float
    near_long_strength: float
    near_long_usdt: float
    near_long_confidence: float
    near_short_lo_bps: float
    near_short_lo: float
    near_short_far: float
    near_short_strength: float
    near_short_usdt: float
    near_short_confidence: float
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
    "min_strength": (0.5, 0.6, 0.7),
    "min_usdt": (500_000, 2_000_000),
    "min_confidence": (0,),
    "max_distance_bps": (100, 50, 25),
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
    to_support_bps, to_resistance_bps = -row.near_long_hi_bps, row.near_short_lo_bps
    is_at_support = to_support_bps <= params.max_distance_bps and is_strong(
        row.near_long_strength, row.near_long_usdt, row.near_long_confidence, params
    )
    is_at_resistance = to_resistance_bps <= params.max_distance_bps and is_strong(
        row.near_short_strength, row.near_short_usdt, row.near_short_confidence, params
    )
    if position != 0 or not (is_at_support or is_at_resistance):
        return stay_out()
    if is_at_support and is_at_resistance and to_support_bps == to_resistance_bps:
        return stay_out()
    if is_at_support and not (is_at_resistance and to_resistance_bps < to_support_bps):
        return bracket(1, row, params, row.near_long_far, row.near_short_lo)
    return bracket(-1, row, params, row.near_short_far, row.near_long_hi)
