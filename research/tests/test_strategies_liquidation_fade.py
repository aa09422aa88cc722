"""The liquidation fade: worked by hand, from the forced orders of a recording to its trades."""

import math

import pytest

from research.fills import Decision
from research.strategies import liquidation_fade

PARAMS = liquidation_fade.Params(
    min_usdt=20_000.0,
    forced_window_bars=3.0,
    vwap_window_bars=60.0,
    min_vwap_distance_bps=10.0,
    target_bps=60.0,
    stop_bps=50.0,
    max_spread_ticks=2.0,
    max_funding_bps=1.5,
)
# Longs were liquidated and the price lies under its average; every gate is open.
ROW = {
    "forced_sell_usdt": 25_000.0,
    "forced_buy_usdt": 1_000.0,
    "vwap_distance_bps": -12.0,
    "spread_ticks": 1.0,
    "spread_bps": 1.0,
    "funding_bps": 1.0,
    "funding_interval_hours": 8.0,
    "opening_loss_long_bps": 1.0,
    "opening_loss_short_bps": 2.0,
    "quote_age_ms": 100.0,
    "mark_age_ms": 100.0,
    "taker_fee_bps": 4.0,
}
SHORTS = {"forced_sell_usdt": 0.0, "forced_buy_usdt": 20_000.0, "vwap_distance_bps": 10.0}


def decided(params=PARAMS, position: int = 0, **changes) -> Decision:
    return Decision(*liquidation_fade.decide(liquidation_fade.Row(**ROW | changes), position, params))


def test_what_longs_were_forced_to_sell_is_bought_and_what_shorts_were_forced_to_buy_is_sold():
    assert decided()[:3] == (1, 50.0, 60.0)
    assert decided(**SHORTS)[:3] == (-1, 50.0, 60.0)
    assert all(math.isnan(level) for level in decided()[3:])  # no trailing order, no prices


def test_a_target_that_would_not_pay_for_the_round_trip_is_moved_up_to_what_does():
    near = PARAMS._replace(target_bps=5.0)
    assert decided(near).target_bps == 9.125  # two fees of 4, 1 lost at opening, an eighth of the funding
    assert decided(near, **SHORTS).target_bps == 10.125


@pytest.mark.parametrize(
    "change",
    [
        {"forced_sell_usdt": 19_999.0},
        {"forced_buy_usdt": 25_000.0},  # as much on both sides
        {"vwap_distance_bps": -9.9},
        {"vwap_distance_bps": 12.0},
        {"spread_ticks": 3.0},
        {"funding_bps": -2.0},
        {"opening_loss_long_bps": 5.1},
        {"quote_age_ms": 2_001.0},
        {"mark_age_ms": 3_001.0},
        *({name: math.nan} for name in ROW if name != "opening_loss_short_bps"),
    ],
    ids=lambda change: "-".join(f"{name} {value:g}" for name, value in change.items()),
)
def test_too_little_or_too_dear_or_not_known_keeps_out(change):
    assert decided(**change).side == 0


def test_in_a_position_nothing_is_asked_for():
    assert decided(position=1).side == decided(position=-1).side == 0


def test_without_a_window_nobody_asks_where_the_average_price_is():
    free = PARAMS._replace(vwap_window_bars=0.0)
    assert decided(free, vwap_distance_bps=math.nan).side == 1
    assert liquidation_fade.columns(free).vwap_distance_bps == "close"
    names = liquidation_fade.columns(PARAMS)
    assert names[:3] == ("forced_sell_usdt_3", "forced_buy_usdt_3", "vwap_distance_bps_60")


def test_of_both_sides_the_larger_is_faded():
    assert decided(forced_buy_usdt=24_999.0).side == 1
    assert decided(forced_buy_usdt=25_001.0, vwap_distance_bps=10.0).side == -1
