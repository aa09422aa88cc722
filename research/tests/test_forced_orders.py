"""Sums of liquidations: in which slot an order counts, and what of it."""

import numpy as np
import polars as pl
import pytest

from data.schema import FORCE_ORDERS, conform
from research.forced_orders import forced_sums

OPEN_MS = np.array([0, 1_000, 2_000])


def orders(*rows: tuple) -> pl.DataFrame:
    """Forced orders of (side, event_ms, recv_ns or None, average price, filled quantity)."""
    names = ("side", "event_time", "recv_time", "average_price", "filled_quantity")
    return conform(pl.DataFrame(dict(zip(names, zip(*rows, strict=True), strict=True))), FORCE_ORDERS)


def sold(*rows: tuple) -> list[float]:
    return forced_sums(orders(*rows), OPEN_MS, 1_000)["forced_sell_usdt"].to_list()


def test_each_side_is_summed_on_its_own_at_the_average_price_of_what_was_filled():
    sums = forced_sums(
        orders(
            ("SELL", 100, 200_000_000, 50.0, 2.0), ("SELL", 300, 900_000_000, 10.0, 3.0), ("BUY", 1_500, None, 7.0, 1.0)
        ),
        OPEN_MS,
        1_000,
    )
    assert sums.to_dict(as_series=False) == {"forced_sell_usdt": [130.0, 0.0, 0.0], "forced_buy_usdt": [0.0, 0.0, 7.0]}


@pytest.mark.parametrize(
    ("event_ms", "recv_ns", "slot"),
    [
        (10, 1_000_000_000, 0),  # at the close: known by then
        (10, 1_000_000_001, 1),  # a nanosecond later: with the next bar
        (1_200, 900_000_000, 1),  # before it happened, by a clock that lags
        (0, None, 0),  # nobody wrote down when: a second after it happened
        (1, None, 1),
    ],
)
def test_an_order_counts_in_the_slot_in_which_it_became_known(event_ms, recv_ns, slot):
    assert sold(("SELL", event_ms, recv_ns, 1.0, 5.0)) == [5.0 * (k == slot) for k in range(3)]


def test_what_was_not_filled_or_came_at_another_time_counts_nothing():
    outside = (("SELL", 0, 0, 1.0, 1.0), ("SELL", 0, 3_000_000_001, 1.0, 1.0))
    assert sold(("SELL", 100, 200_000_000, None, 2.0), ("SELL", 100, 200_000_001, 4.0, 0.0), *outside) == [0.0] * 3
    assert forced_sums(FORCE_ORDERS.empty(), OPEN_MS, 1_000)["forced_buy_usdt"].to_list() == [0.0] * 3
