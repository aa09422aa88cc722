"""Entries that rest in the reference: where, whether they are refused, and which prices fill them."""

import math
from dataclasses import dataclass

from research.fills import Decision, Terms
from research.reference_sizes import ON_GRID, exact, on_grid


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An entry in the book.

    Parameters
    ----------
    row : that decided.
    until_ms : when its cancellation arrives.
    """

    decision: Decision
    limit: float
    quantity: float
    row: int
    until_ms: int


def resting_limit(side: int, bar: dict, terms: Terms) -> float:
    """Some bps behind the touch of the own side, on the grid, at least a tick short of the other; NaN without a book.

    A negative distance is before the touch, by a tick at least.
    """
    if math.isnan(bar["bid"]) or math.isnan(bar["ask"]):
        return math.nan
    own, other = (bar["bid"], bar["ask"]) if side > 0 else (bar["ask"], bar["bid"])
    away = own * terms.rest_offset_bps / 1e4
    if terms.rest_offset_bps < 0.0 and abs(away) < terms.tick_size:
        away = -terms.tick_size
    if side > 0:
        return on_grid(min(own - away, other - terms.tick_size), terms.tick_size, up=False)
    return on_grid(max(own + away, other + terms.tick_size), terms.tick_size, up=True)


def is_refused(side: int, limit: float, bar: dict, price_before: float, terms: Terms) -> bool:
    """Would it trade as it arrives, or is that not known?

    The other side's quote says so, the last price before where there is none; and a bar that opens beyond the limit.
    """
    if math.isnan(bar["exec_open"]):
        return True
    quote = bar["exec_ask"] if side > 0 else bar["exec_bid"]
    met = price_before if math.isnan(quote) else quote
    meets = not math.isnan(met) and not is_through(-side, limit, met, terms)
    return meets or is_through(side, limit, bar["exec_open"], terms)


def is_through(side: int, limit: float, price: float, terms: Terms) -> bool:
    """Does a trade at this price go through the limit of an order of that side? One at the limit does not."""
    if math.isnan(price):
        return False
    return side * (exact(limit) - exact(price)) > ON_GRID * exact(terms.tick_size)
