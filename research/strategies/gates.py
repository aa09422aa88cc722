"""Conditions every strategy shares: no entry on a bad quote, an old mark or dear funding.

Written as "allowed when", so that a NaN closes the gate.
"""

from research.jit import njit

MAX_QUOTE_AGE_MS = 2_000.0
MAX_MARK_AGE_MS = 3_000.0


@njit
def opening_loss_limit_bps(spread_bps: float) -> float:
    """Largest loss against the mark accepted at opening, from the spread (prior-art 003's live rule)."""
    return min(10.0, max(5.0, 2.0 * spread_bps))


@njit
def gates_open(
    spread_ticks: float,
    max_spread_ticks: float,
    funding_bps: float,
    max_funding_bps: float,
    opening_loss_bps: float,
    spread_bps: float,
    quote_age_ms: float,
    mark_age_ms: float,
) -> bool:
    """True when an entry may be sent: spread in whole ticks, funding, opening loss, fresh quote, fresh mark."""
    return (
        spread_ticks <= max_spread_ticks
        and spread_bps >= 0.0  # known: min and max in the limit below would swallow a NaN
        and abs(funding_bps) <= max_funding_bps
        and opening_loss_bps <= opening_loss_limit_bps(spread_bps)
        and quote_age_ms <= MAX_QUOTE_AGE_MS
        and mark_age_ms <= MAX_MARK_AGE_MS
    )
