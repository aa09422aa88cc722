"""The reference's rounding and sizes, on exact fractions of the decimals that are meant."""

import math
from fractions import Fraction

from research.fills import Decision, Terms

# Part of the rule: a price closer than this to a grid line, in ticks or steps, lies on it.
ON_GRID = Fraction(1, 10**6)


def quantity_of(price: float, decision: Decision, multiple: float, terms: Terms) -> float:
    """Base quantity to order at a price; 0.0 when the limits leave none.

    By notional: the smallest multiple of the step worth it, the exchange's minima included. By risk: the largest that
    loses no more at the stop. If that is beyond a maximum, the largest multiple of the step within it. Never one that
    the minima forbid.
    """
    if math.isnan(multiple):
        return 0.0
    at, step, scale = exact(price), exact(terms.step_size), exact(multiple)
    if math.isnan(terms.risk_usdt):
        wanted_usdt = max(exact(terms.notional_usdt) * scale, exact(terms.min_notional_usdt))
        asked = max(_whole(wanted_usdt / at / step, up=True) * step, exact(terms.min_quantity))
    else:
        loss = _loss_at_stop(at, decision)
        if loss is None or loss <= 0:
            return 0.0
        asked = _whole(exact(terms.risk_usdt) * scale / loss / step, up=False) * step
    most = _whole(min(exact(terms.max_notional_usdt) / at, exact(terms.max_quantity)) / step, up=False) * step
    quantity = min(asked, most)
    if quantity < exact(terms.min_quantity) or quantity * at < exact(terms.min_notional_usdt):
        return 0.0
    return float(quantity)


def _loss_at_stop(price: Fraction, decision: Decision) -> Fraction | None:
    """What one unit entered at a price loses when the stop is where it was planned; None without a stop."""
    if not math.isnan(decision.stop_price):
        return (price - exact(decision.stop_price)) * decision.side
    if not math.isnan(decision.stop_bps):
        return price * exact(decision.stop_bps) / 10_000
    return None


def exact(number: float) -> Fraction:
    """The decimal number a float stands for: 0.1 is one tenth."""
    return Fraction(repr(number))


def _whole(count: Fraction, *, up: bool) -> int:
    """Round to a whole number in the given direction; one that is whole but for noise stays what it is."""
    nearest = round(count)
    if abs(count - nearest) <= ON_GRID:
        return nearest
    return math.ceil(count) if up else math.floor(count)


def on_grid(price: float, tick_size: float, *, up: bool) -> float:
    """Price rounded to the tick; an absent price stays absent."""
    if math.isnan(price):
        return math.nan
    return float(_whole(exact(price) / exact(tick_size), up=up) * exact(tick_size))
