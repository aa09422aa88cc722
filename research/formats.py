"""Numbers as people read them: the same digits, spaces and signs in figures, reports and tables.

Thousands are parted by a narrow no-break space, minus is U+2212, a value nobody knows is an en dash and never a zero.
"""

import math
from datetime import datetime
from decimal import Decimal

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
UNKNOWN = "\u2013"


def number(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """A plain number with fixed decimals.

    Parameters
    ----------
    value : None and NaN print as unknown.
    signed : print ``+`` before a value above zero, as changes want it.
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return f"{MINUS if value < 0 else '+' if signed else ''}∞"
    digits = f"{abs(value):,.{decimals}f}".replace(",", NARROW_SPACE)
    # A value that rounds to zero has no sign: −0.0 would read as a loss.
    if not any(digit in "123456789" for digit in digits):
        return digits
    return f"{MINUS if value < 0 else '+' if signed else ''}{digits}"


def price(value: float | None, tick_size: float) -> str:
    """A price with the decimals of its tick: 77 665.9 for a tick of 0.1."""
    return number(value, decimals_of(tick_size))


def quantity(value: float | None, step_size: float) -> str:
    """A base quantity with the decimals of its step: 0.041 for a step of 0.001."""
    return number(value, decimals_of(step_size))


def usdt(value: float | None, *, signed: bool = False) -> str:
    """Money without its unit: 2 decimals, from 100 000 on in k or M."""
    if value is None or math.isnan(value) or abs(value) < 99_999.995:
        return number(value, 2, signed=signed)
    scale, letter = (1e6, "M") if abs(value) >= 999_950.0 else (1e3, "k")
    return f"{number(value / scale, 1 if letter == 'k' else 2, signed=signed)}{NARROW_SPACE}{letter}"


def bps(value: float | None, *, signed: bool = True) -> str:
    """Basis points without their unit, 1 decimal, signed unless asked otherwise."""
    return number(value, 1, signed=signed)


def percent(fraction: float | None, *, decimals: int = 1, signed: bool = False) -> str:
    """A fraction as percent with its sign of percent: 0.061 prints 6.1 %."""
    if fraction is None or math.isnan(fraction):
        return UNKNOWN
    return f"{number(fraction * 100.0, decimals, signed=signed)}{NARROW_SPACE}%"


def count(value: float | None) -> str:
    """How many: 6 561."""
    return number(value, 0)


def ratio(value: float | None) -> str:
    """A Sharpe ratio or another figure without a unit, 2 decimals."""
    return number(value, 2)


def setting(value: float | None) -> str:
    """A parameter's value as it was set, 2 000 000 or 1.5; four digits at least of one that a search drew."""
    if value is None or not math.isfinite(value) or value == round(value):
        return number(value, 0)
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = number(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def age(seconds: float | None) -> str:
    """How long: 0.4 s, 42 min, 3 h 08 min, 12 d 04 h."""
    if seconds is None or math.isnan(seconds):
        return UNKNOWN
    if seconds < 0:
        return f"{MINUS}{age(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours:02d} h"


def moment(time: datetime | None) -> str:
    """A UTC moment to the minute: 15 Feb 2026 14:03 UTC."""
    return UNKNOWN if time is None else f"{time:%d %b %Y %H:%M} UTC"


def decimals_of(step: float) -> int:
    """Decimals that a multiple of ``step`` needs: 1 for 0.1, 0 for 5, 3 for 0.025.

    Raises
    ------
    ValueError
        If ``step`` is not above zero.
    """
    if not step > 0.0:
        raise ValueError(f"a tick or step must be above zero, got {step}")
    return max(0, -Decimal(repr(float(step))).normalize().as_tuple().exponent)
