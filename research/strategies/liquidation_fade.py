"""Liquidation fade (prior-art 001): against forced orders that are large, once they have pushed the price away.

Forced orders are added up per side over a window on receive time. Long when forced sales reach ``min_usdt`` and exceed
forced purchases; short mirrored. The close must lie ``min_vwap_distance_bps`` beyond the window's volume-weighted price
on the side they pushed it to, so that there is something to come back to.

``stop_bps`` and ``target_bps`` are measured from the fill; a target under the break-even floor is moved up to it. There
is no trailing order. The entry takes the touch of the book seen at the decision, at most ``entry_limit_ticks`` worse
(``research.fills``), or rests in the book as 001's offset orders do (``research.resting``). 001's words ask for a
counter-trend trade, its example sells after longs were liquidated: the words are followed.

The feed tells at most one liquidation per symbol and second, so ``min_usdt`` is a threshold on what is told: take it
from recorded data, not from an exchange's totals.
"""

from typing import NamedTuple

import numpy as np

from research.fills import Decision, stay_out
from research.jit import njit
from research.strategies.gates import breakeven_bps, gates_open

NAME = "liquidation_fade"


class Params(NamedTuple):
    """One configuration. Windows count signal bars; distances are bps of price."""

    min_usdt: float  # of forced orders on one side within the window, prior-art 001's volume_threshold
    forced_window_bars: float  # 001's volume_window_sec: 60 bars of 1s, 1 bar of 1m
    vwap_window_bars: float  # 0: no asking where the volume-weighted price is
    min_vwap_distance_bps: float
    target_bps: float
    stop_bps: float
    max_spread_ticks: float
    max_funding_bps: float


class Row(NamedTuple):
    """What the decision may look at, all known at the bar's ``avail_time``. NaN keeps us out."""

    forced_sell_usdt: float
    forced_buy_usdt: float
    vwap_distance_bps: float
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
EXIT_PARAMS = ("target_bps", "stop_bps")

# For research.strictness: raising one of these (1) or lowering it (-1) never adds an entry and never turns one.
STRICTER = {"min_usdt": 1, "min_vwap_distance_bps": 1, "max_spread_ticks": -1, "max_funding_bps": -1}

# For 1m bars; prior-art 001 asks 20,000 USDT in 60 s of BTCUSDT, a target of 2 % and a stop of 1 %.
GRID: dict[str, tuple[float, ...]] = {
    "min_usdt": (5_000, 20_000, 80_000),
    "forced_window_bars": (1, 3, 10),
    "vwap_window_bars": (0, 60),
    "min_vwap_distance_bps": (0, 10, 30),
    "target_bps": (30, 60, 100, 200),
    "stop_bps": (30, 50, 100),
    "max_spread_ticks": (2,),
    "max_funding_bps": (1.5,),
}


def columns(params: Params) -> Row:
    """Feature name behind each field of ``Row`` for these parameters (see ``research.features``)."""
    window = int(params.vwap_window_bars)
    return Row(*Row._fields)._replace(
        forced_sell_usdt=f"forced_sell_usdt_{int(params.forced_window_bars)}",
        forced_buy_usdt=f"forced_buy_usdt_{int(params.forced_window_bars)}",
        vwap_distance_bps=f"vwap_distance_bps_{window}" if window else "close",
    )


@njit
def decide(row: Row, position: int, params: Params) -> Decision:
    """Side wanted and exit plan for one closed bar. Pure: no clock, no state; in a position it asks for nothing."""
    is_sold = row.forced_sell_usdt >= params.min_usdt and row.forced_sell_usdt > row.forced_buy_usdt
    is_bought = row.forced_buy_usdt >= params.min_usdt and row.forced_buy_usdt > row.forced_sell_usdt
    if position != 0 or not (is_sold or is_bought):
        return stay_out()
    side = 1 if is_sold else -1
    is_pushed = params.vwap_window_bars == 0.0 or -side * row.vwap_distance_bps >= params.min_vwap_distance_bps
    if not is_pushed or not gates_open(side, row, params):
        return stay_out()
    floor_bps = breakeven_bps(side, row)
    if not floor_bps >= 0.0:  # a fee or funding interval is not known
        return stay_out()
    return Decision(side, params.stop_bps, max(params.target_bps, floor_bps), np.nan, np.nan, np.nan, np.nan)
