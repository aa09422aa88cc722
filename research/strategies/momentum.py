"""Momentum (prior-art 003): follow a bar that is large for its volatility and heavy for its volume.

Long when the bar's return exceeds ``momentum_multiple`` times the realised volatility of the window and its volume
exceeds ``volume_multiple`` times the mean volume of the window; short mirrored. Stop, target and trailing order are
placed at once; activation never lies under the break-even floor, the target never under activation plus a gap.
"""

from typing import NamedTuple

import numpy as np

from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.gates import breakeven_bps, gates_open

NAME = "momentum"


class Params(NamedTuple):
    """One configuration. Windows count signal bars; distances are bps of price."""

    momentum_multiple: float  # of realised volatility, prior-art 003's k
    volatility_window_bars: float  # T
    volume_multiple: float  # of mean volume, n
    volume_window_bars: float  # V
    target_bps: float
    stop_bps: float
    activation_bps: float
    activation_buffer_bps: float  # above the break-even floor
    callback_bps: float
    target_gap_bps: float  # target at least this far beyond activation
    max_spread_ticks: float
    max_funding_bps: float


class Row(NamedTuple):
    """What the decision may look at, all known at the bar's ``avail_time``. NaN keeps us out."""

    return_bps: float
    volatility_bps: float
    volume: float
    mean_volume: float
    spread_ticks: float
    spread_bps: float
    funding_bps: float
    funding_interval_hours: float
    opening_loss_long_bps: float
    opening_loss_short_bps: float
    quote_age_ms: float
    mark_age_ms: float
    taker_fee_bps: float


# For research.factorised: these alone make the exit plan, and never the side.
EXIT_PARAMS = (
    "target_bps",
    "stop_bps",
    "activation_bps",
    "activation_buffer_bps",
    "callback_bps",
    "target_gap_bps",
)

# For research.strictness: raising one of these (1) or lowering it (-1) never adds an entry and never turns one.
STRICTER = {"momentum_multiple": 1, "volume_multiple": 1, "max_spread_ticks": -1, "max_funding_bps": -1}

# Prior-art 003's grid with callbacks the exchange can execute: 3^8 = 6,561 configurations.
GRID: dict[str, tuple[float, ...]] = {
    "momentum_multiple": (1.2, 1.6, 2.0),
    "volatility_window_bars": (10, 30, 60),
    "volume_multiple": (1.2, 1.6, 2.0),
    "volume_window_bars": (10, 30, 60),
    "target_bps": (150, 200, 250),
    "stop_bps": (25, 50, 75),
    "activation_bps": (50, 75, 100),
    "activation_buffer_bps": (0.5,),
    "callback_bps": (10, 15, 20),
    "target_gap_bps": (4,),
    "max_spread_ticks": (2,),
    "max_funding_bps": (1.5,),
}


def columns(params: Params) -> Row:
    """Feature name behind each field of ``Row`` for these parameters (see ``research.features``)."""
    return Row(
        return_bps="return_bps",
        volatility_bps=f"volatility_bps_{int(params.volatility_window_bars)}",
        volume="volume",
        mean_volume=f"mean_volume_{int(params.volume_window_bars)}",
        spread_ticks="spread_ticks",
        spread_bps="spread_bps",
        funding_bps="funding_bps",
        funding_interval_hours="funding_interval_hours",
        opening_loss_long_bps="opening_loss_long_bps",
        opening_loss_short_bps="opening_loss_short_bps",
        quote_age_ms="quote_age_ms",
        mark_age_ms="mark_age_ms",
        taker_fee_bps="taker_fee_bps",
    )


@njit
def decide(row: Row, position: int, params: Params) -> Decision:
    """Side wanted and exit plan for one closed bar. Pure: no clock, no state; in a position it asks for nothing."""
    threshold_bps = params.momentum_multiple * row.volatility_bps
    is_heavy = row.volume > params.volume_multiple * row.mean_volume
    is_up, is_down = row.return_bps > threshold_bps, row.return_bps < -threshold_bps
    # One test, not three: most bars fail it, and a processor guesses the joint outcome better than its parts.
    if position != 0 or not (is_heavy & (is_up | is_down)):
        return stay_out()
    side = 1 if is_up else -1
    if not gates_open(side, row, params):
        return stay_out()
    floor_bps = breakeven_bps(side, row)
    if not floor_bps >= 0.0:  # a fee or funding interval is not known
        return stay_out()
    activation_bps = max(params.activation_bps, floor_bps + params.activation_buffer_bps)
    target_bps = max(params.target_bps, activation_bps + params.target_gap_bps)
    return Decision(side, params.stop_bps, target_bps, activation_bps, params.callback_bps, np.nan, np.nan)
