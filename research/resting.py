"""Entries that rest in the book: their price, and what a trade does to them (prior-art 001's offset orders).

A resting entry is post-only: it never takes. It is filled, all of it and at its price, by the first trade that goes
through its price within its life; one at its price may have been somebody else's, who stood before us. What bars tell
of that: ``research.resting_bars``. A real one may be filled in parts, and by trades at its price once its turn has
come: what is found here is rather less than what the exchange gives.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from research.jit import njit
from research.rounding import ON_GRID_TICKS, ceil_to, floor_to

if TYPE_CHECKING:
    from research.fills import Terms


@dataclass(frozen=True, kw_only=True)
class RestingEntry:
    """Where an entry rests, and for how long."""

    offset_bps: float  # behind the touch of its own side seen at decision; negative: before it, by a tick at least
    lifetime_ms: int  # between its arrival and that of its cancellation

    def __post_init__(self) -> None:
        if not self.lifetime_ms > 0:
            raise ValueError(f"lifetime_ms {self.lifetime_ms} lets no trade meet the order: write more than 0")
        if not math.isfinite(self.offset_bps):
            raise ValueError(f"offset_bps {self.offset_bps:g} is no distance; write bps of the touch")


@njit
def rests(terms: "Terms") -> bool:
    """Whether entries rest, in place of taking."""
    return not math.isnan(terms.rest_offset_bps)


@njit
def resting_price(side: int, bid: float, ask: float, terms: "Terms") -> float:
    """Price of an entry that rests, from the book seen at decision; NaN without one.

    Rounded away from the market, and at least a tick short of the other side.
    """
    own, other = (bid, ask) if side > 0 else (ask, bid)
    behind = own * terms.rest_offset_bps / 1e4
    if behind < 0.0:
        behind = min(behind, -terms.tick_size)
    price = own - side * behind
    last = other - side * terms.tick_size
    price = last if side * (price - last) > 0.0 else price
    if math.isnan(price) or math.isnan(last):
        return math.nan
    return floor_to(price, terms.tick_size) if side > 0 else ceil_to(price, terms.tick_size)


@njit
def would_take(side: int, limit: float, opposite: float, last: float, tick_size: float) -> bool:
    """Whether an order that arrives now could trade at once, which ends it; by the last price without a quote (NaN)."""
    met = last if math.isnan(opposite) else opposite
    return side * (limit - met) >= -ON_GRID_TICKS * tick_size


@njit
def is_passed(side: int, limit: float, price: float, tick_size: float) -> bool:
    """Whether a trade at ``price`` went through the price of an order that rests."""
    return side * (limit - price) > ON_GRID_TICKS * tick_size
