"""What was liquidated, slot by slot: the notional of forced orders, by when each became known and not when it happened.

A slot holds what arrived after it opened and until it closed, as a bar holds what traded then: so a sum over rows is a
rolling window on receive time, and a row knows nothing later than its own close. The exchange tells at most the last
liquidation of a symbol and second, and what nobody heard is not in it either: every sum is a lower bound.
"""

import numpy as np
import polars as pl

from research.recorded import event_ms, known_ns, received_ms

PRINT_DELAY_MS = 1_000  # of an order whose receipt nobody wrote down: it is told at most a second after it happened
FORCED_SIDES = {"SELL": "forced_sell_usdt", "BUY": "forced_buy_usdt"}  # a forced SELL closes a long


def forced_sums(force_orders: pl.DataFrame, open_ms: np.ndarray, length_ms: int) -> pl.DataFrame:
    """USDT of forced orders per slot and side, columns ``FORCED_SIDES``; 0.0 where none became known.

    Parameters
    ----------
    force_orders : rows of ``data.schema.FORCE_ORDERS``, one symbol. What was not filled, or at no known price, is 0.
    open_ms : int64, contiguous slots, ms.
    """
    # A clock that lags receives an order before it happened.
    known = pl.max_horizontal(received_ms().fill_null(event_ms() + PRINT_DELAY_MS), event_ms())
    usdt = pl.col("average_price") * pl.col("filled_quantity")
    orders = force_orders.sort(known_ns(), maintain_order=True).select(
        "side", slot=(known - 1 - open_ms[0]) // length_ms, usdt=usdt.fill_null(0.0)
    )
    orders = orders.filter(pl.col("slot").is_between(0, len(open_ms) - 1))
    sums = {}
    for side, name in FORCED_SIDES.items():
        own = orders.filter(pl.col("side") == side)
        sums[name] = np.zeros(len(open_ms))
        # One after the other in the order of arrival: a runner that listens adds them up to the same bits.
        np.add.at(sums[name], own["slot"].to_numpy(), own["usdt"].to_numpy())
    return pl.DataFrame(sums)
