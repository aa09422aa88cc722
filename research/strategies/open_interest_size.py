"""How large an entry is, from open interest and the crowd (prior-art 002, strategy 4). No strategy of its own.

A strategy says which side; this says how much of ``Orders.notional_usdt``. More open interest is taken for more
liquidity; against a crowded side a position is larger.
"""

import math
from typing import NamedTuple

from research.fills import Terms, entry_quantity
from research.jit import njit


class OpenInterestSize(NamedTuple):
    """Thresholds and multiples of the notional; those of prior-art 002 unless given."""

    large_usdt: float = 5e9  # open interest, one-sided, above which a market is large
    medium_usdt: float = 1e9
    large_multiple: float = 1.5
    medium_multiple: float = 1.0
    small_multiple: float = 0.5
    crowded_long_ratio: float = 1.2  # long / short above which longs are the crowd
    crowded_short_ratio: float = 0.8  # under which shorts are
    against_crowd_multiple: float = 1.2


@njit
def size_multiple(side: int, open_interest_usdt: float, long_short_ratio: float, size: OpenInterestSize) -> float:
    """Multiple of the notional for an entry on this side (1 long, -1 short).

    NaN where the open interest is not known: no size, no entry. Without a ratio there is no crowd.
    """
    if open_interest_usdt > size.large_usdt:
        multiple = size.large_multiple
    elif open_interest_usdt > size.medium_usdt:
        multiple = size.medium_multiple
    elif open_interest_usdt >= 0.0:
        multiple = size.small_multiple
    else:
        return math.nan
    crowd = int(long_short_ratio > size.crowded_long_ratio) - int(long_short_ratio < size.crowded_short_ratio)
    return multiple * size.against_crowd_multiple if side * crowd < 0 else multiple


@njit
def sized_quantity(price: float, multiple: float, terms: Terms) -> float:
    """Base quantity of an entry of ``multiple`` times the notional; 0.0 when the limits or an unknown size leave none.

    The cap stays where it is: ``max_notional_usdt`` is not multiplied.
    """
    if not multiple > 0.0:
        return 0.0
    return entry_quantity(
        price,
        Terms(
            terms.taker_fee_bps,
            terms.slippage_bps,
            terms.notional_usdt * multiple,
            terms.max_notional_usdt,
            terms.min_notional_usdt,
            terms.tick_size,
            terms.step_size,
            terms.min_quantity,
            terms.max_quantity,
            terms.entry_limit_ticks,
            terms.cooldown_bars,
        ),
    )
