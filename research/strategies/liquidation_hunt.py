"""Liquidation hunt (prior-art 002, strategy 1): go toward a strong cluster nearby, whose liquidations would carry on.

Long toward a short cluster above, short toward a long cluster below; where both qualify the stronger one is hunted. The
target is the cluster, the stop stands behind the nearest clusters on the other side of the price.
"""

from typing import NamedTuple

from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.cluster_orders import bracket, is_strong, trend_columns

NAME = "liquidation_hunt"


class Params(NamedTuple):
    """One configuration. Distances are bps of price."""

    min_strength: float  # 0-1, rank of the cluster's mass
    min_usdt: float  # mass of the cluster on the source venue
    min_confidence: float  # of the calibrated model; 0: not asked for
    max_distance_bps: float  # of the cluster from the mark; none beyond clusters.columns.STRONG_WITHIN_BPS is seen
    target_beyond_bps: float  # target this far beyond the cluster's peak; negative: before it
    stop_buffer_bps: float  # behind the cluster the stop hides behind; with a tick under clusters.columns.CLEAR_BPS
    max_stop_bps: float
    min_reward_risk: float
    trend_fast_window_bars: float
    trend_slow_window_bars: float  # 0: no trend filter
    max_spread_ticks: float
    max_funding_bps: float


class Row(NamedTuple):
    """What the decision may look at, all known at the bar's ``avail_time``. NaN keeps us out."""

    strong_long_price_bps: float
    strong_long_price: float
    strong_long_strength: float
    strong_long_usdt: float
    strong_long_confidence: float
    strong_short_price_bps: float
    strong_short_price: float
    strong_short_strength: float
    strong_short_usdt: float
    strong_short_confidence: float
    near_long_far: float
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
    "min_strength": (0.6, 0.7, 0.8),
    "min_usdt": (500_000, 2_000_000),
    "min_confidence": (0,),
    "max_distance_bps": (200, 100),
    "target_beyond_bps": (0, -10),
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
    is_above = 0.0 < row.strong_short_price_bps <= params.max_distance_bps and is_strong(
        row.strong_short_strength, row.strong_short_usdt, row.strong_short_confidence, params
    )
    is_below = 0.0 < -row.strong_long_price_bps <= params.max_distance_bps and is_strong(
        row.strong_long_strength, row.strong_long_usdt, row.strong_long_confidence, params
    )
    if position != 0 or not (is_above or is_below):
        return stay_out()
    side = 1 if is_above else -1
    if is_above and is_below:
        stronger = row.strong_short_strength - row.strong_long_strength
        if stronger == 0.0:
            stronger = row.strong_short_usdt - row.strong_long_usdt
        if stronger == 0.0:
            return stay_out()
        side = 1 if stronger > 0.0 else -1
    peak = row.strong_short_price if side > 0 else row.strong_long_price
    stop_edge = row.near_long_far if side > 0 else row.near_short_far
    return bracket(side, row, params, stop_edge, peak * (1.0 + side * params.target_beyond_bps / 1e4))
