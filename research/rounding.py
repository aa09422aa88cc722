"""Multiples of a tick or a step, as the floats nearest to the decimals that are meant."""

import numpy as np

from research.jit import njit

# A price within this many ticks of a grid line lies on it: binary noise, not a price.
ON_GRID_TICKS = 1e-6


@njit
def per_unit(size: float) -> float:
    """Ticks or steps in one unit where that is a whole number, else 0.0."""
    count = np.floor(1.0 / size + 0.5)
    return count if count >= 1.0 and abs(count * size - 1.0) < 1e-9 else 0.0


@njit
def _on_grid(count: float, size: float, whole: float) -> float:
    """``count`` ticks or steps as the float nearest to the decimal: 7 of 0.01 is 0.07, not 0.07000000000000001."""
    return count / whole if whole > 0.0 else count * size


@njit
def floor_on(value: float, size: float, whole: float) -> float:
    """``floor_to`` where ``per_unit(size)`` is known already."""
    return _on_grid(np.floor(value / size + ON_GRID_TICKS), size, whole)


@njit
def ceil_on(value: float, size: float, whole: float) -> float:
    """``ceil_to`` where ``per_unit(size)`` is known already."""
    return _on_grid(np.ceil(value / size - ON_GRID_TICKS), size, whole)


@njit
def floor_to(value: float, size: float) -> float:
    """Largest multiple of ``size`` not above ``value``, as the float nearest to the decimal number."""
    return floor_on(value, size, per_unit(size))


@njit
def ceil_to(value: float, size: float) -> float:
    """Smallest multiple of ``size`` not below ``value``, as the float nearest to the decimal number."""
    return ceil_on(value, size, per_unit(size))
