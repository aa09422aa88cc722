"""What several symbols may hold together: the limits of one account, and whether one more position stays within them.

Nothing here counts up and down: what is held is added up anew before every decision.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from research.jit import njit


class Exposure(NamedTuple):
    """What is held and on the way."""

    positions: int
    notional_usdt: float  # as ordered: what prices did since does not count


NOTHING_HELD = Exposure(0, 0.0)


class SharedTerms(NamedTuple):
    """The limits as scalars for compiled code; infinite where there is none."""

    max_open_positions: float = math.inf
    max_total_notional_usdt: float = math.inf
    max_daily_loss_usdt: float = math.inf


@dataclass(frozen=True, kw_only=True)
class SharedLimits:
    """Limits over all symbols of a run, ``[portfolio]`` of its TOML; None for none.

    Parameters
    ----------
    max_total_notional_usdt : of all positions and the entry itself, as ordered; a notional is rounded up to the step.
    max_daily_loss_usdt : once all symbols together lost so much in a UTC day, none enters for the rest of it.
    """

    max_open_positions: int | None = None
    max_total_notional_usdt: float | None = None
    max_daily_loss_usdt: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise ValueError(f"[portfolio] limits nothing: give one of {', '.join(vars(self))}, or leave it out")
        for name, value in given.items():
            if not value > 0:
                raise ValueError(f"[portfolio] {name} {value:g} must be above 0; leave it out for no limit")

    def terms(self) -> SharedTerms:
        """As scalars."""
        return SharedTerms(**{name: float(value) for name, value in vars(self).items() if value is not None})


@njit
def with_one_more(held: Exposure, notional_usdt: float) -> Exposure:
    """What is held and one position beside it."""
    return Exposure(held.positions + 1, held.notional_usdt + notional_usdt)


@njit
def is_within(held: Exposure, limits: SharedTerms) -> bool:
    """May so much be held? What is not known is not within."""
    return held.positions <= limits.max_open_positions and held.notional_usdt <= limits.max_total_notional_usdt
