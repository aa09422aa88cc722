"""Conditions every strategy shares: no entry on a bad quote, an old mark or dear funding.

``row`` and ``params`` are any strategy's that have the fields named here. Written as "allowed when", so that a NaN
closes the gate.
"""

from research.fills import breakeven_floor_bps
from research.jit import njit

MAX_QUOTE_AGE_MS = 2_000.0
MAX_MARK_AGE_MS = 3_000.0


@njit
def opening_loss_limit_bps(spread_bps: float) -> float:
    """Largest loss against the mark accepted at opening, from the spread (prior-art 003's live rule)."""
    return min(10.0, max(5.0, 2.0 * spread_bps))


@njit
def opening_loss_bps(side, row) -> float:
    """What an entry on this side loses against the mark."""
    return row.opening_loss_long_bps if side > 0 else row.opening_loss_short_bps


@njit
def breakeven_bps(side, row) -> float:
    """``fills.breakeven_floor_bps`` of an entry on this side; NaN where an input is."""
    return breakeven_floor_bps(
        row.taker_fee_bps, opening_loss_bps(side, row), row.funding_bps, row.funding_interval_hours
    )


@njit
def gates_open(side, row, params) -> bool:
    """True when an entry may be sent: spread in whole ticks, funding, opening loss, fresh quote, fresh mark."""
    return (
        row.spread_ticks <= params.max_spread_ticks
        and row.spread_bps >= 0.0  # known: min and max in the limit below would swallow a NaN
        and abs(row.funding_bps) <= params.max_funding_bps
        and opening_loss_bps(side, row) <= opening_loss_limit_bps(row.spread_bps)
        and row.quote_age_ms <= MAX_QUOTE_AGE_MS
        and row.mark_age_ms <= MAX_MARK_AGE_MS
    )
