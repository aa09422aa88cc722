"""What fills may cost, how deep a record could have fallen and what it hangs on, worked by hand."""

import math

import numpy as np
import polars as pl
import pytest

from research.robustness import break_even, drawdown_band, fewest_to_lose, left_out, robustness_finding
from research.surface import SURFACE
from research.trades import TRADES


def trades() -> pl.DataFrame:
    """A long from 100 to 103 that paid a funding of 1, and a short at 100 that is still held."""
    row = dict.fromkeys(TRADES) | {"quantity": 1.0, "entry_price": 100.0}
    closed = {"side": 1, "exit_price": 103.0, "reason": "target", "gross_pnl_usdt": 3.0, "fees_usdt": 0.2}
    held = {"side": -1, "exit_price": 99.0, "reason": "open", "gross_pnl_usdt": 1.0, "fees_usdt": 0.1}
    return pl.DataFrame([row | closed | {"funding_usdt": 1.0}, row | held | {"funding_usdt": 0.0}], schema=TRADES)


def surface(*net: float) -> pl.DataFrame:
    row = dict.fromkeys(SURFACE, 0)
    return pl.DataFrame([row | {"net_pnl_usdt": value, "is_own": False} for value in net], schema=SURFACE)


def test_the_break_even_fee_is_what_was_earned_over_what_was_traded():
    cost = break_even(trades())
    assert (cost.fills, cost.traded_usdt) == (3, 303.0)  # 100 + 103 + 100: what is held has not been sold
    assert cost.break_even_bps == pytest.approx(1e4 * 3.0 / 303.0)  # 3 + 1 - 1 of funding
    assert cost.charged_bps == pytest.approx(1e4 * 0.3 / 303.0)
    assert cost.margin_bps == pytest.approx(1e4 * 2.7 / 303.0)
    assert cost.round_trip_bps == 2.0 * cost.break_even_bps


def test_at_the_break_even_fee_nothing_is_left():
    cost = break_even(trades())
    earned = trades()["gross_pnl_usdt"].sum() - trades()["funding_usdt"].sum()
    assert earned - cost.break_even_bps / 1e4 * cost.traded_usdt == pytest.approx(0.0)


def test_without_a_fill_nothing_is_known_of_costs():
    cost = break_even(TRADES.to_frame())
    assert cost.fills == 0
    assert math.isnan(cost.break_even_bps)


def test_pnl_that_never_varies_falls_alike_however_it_is_drawn():
    band = drawdown_band(np.full(6, -2.0), block=3)
    for curve in (band.observed, band.low, band.median, band.high):
        assert curve.tolist() == [-2.0, -4.0, -6.0, -8.0, -10.0, -12.0]
    assert band.share_deeper == 1.0


def test_a_loss_at_the_end_is_as_deep_in_the_middle_and_two_of_them_are_deeper():
    pnl = np.array([1.0] * 30 + [-4.0] + [1.0] * 9)
    band = drawdown_band(pnl, block=1, draws=2_000)
    assert band.observed[-1] == -4.0
    assert (band.high[-1], band.median[-1]) == (0.0, -4.0)  # the loss is not drawn once in e times
    assert band.low[-1] <= -6.0
    assert band.share_deeper == pytest.approx(1.0 - math.exp(-1.0), abs=0.04)


def test_bands_follow_from_the_seed_and_need_two_blocks():
    pnl = np.random.default_rng(1).normal(0.0, 1.0, 48)
    one, same, other = (drawdown_band(pnl, block=6, seed=seed) for seed in (3, 3, 4))
    assert one.low.tolist() == same.low.tolist() != other.low.tolist()
    assert drawdown_band(pnl, block=25) is None


def test_the_record_is_told_without_each_of_its_parts_the_best_first():
    parts = left_out(["Mon", "Tue", "Wed"], [-1.0, 5.0, 2.0])
    assert parts["name"].to_list() == ["Tue", "Wed", "Mon"]
    assert parts["without_usdt"].to_list() == [1.0, 4.0, 7.0]
    assert parts["share_of_profit"].to_list() == pytest.approx([5 / 6, 2 / 6, -1 / 6])
    assert fewest_to_lose(parts) == 2  # 6 - 5 is 1, 6 - 5 - 2 is -1


def test_a_record_that_earned_nothing_has_no_profit_to_share():
    parts = left_out(["Mon", "Tue"], [1.0, -2.0])
    assert parts["share_of_profit"].to_list() == [None, None]
    assert fewest_to_lose(parts) is None
    assert left_out([], []).is_empty()


def test_all_parts_left_out_leave_nothing_whatever_their_rounding():
    assert fewest_to_lose(left_out(["a", "b", "c"], [0.1, 0.1, 0.1])) == 3


def test_the_finding_counts_what_earns_and_decides_nothing():
    days = left_out(["Mon", "Tue"], [5.0, -1.0])
    found = robustness_finding(surface(3.0, 1.0, -1.0), break_even(trades()), days)
    assert (found.value, found.passes, found.decides) == ("2 of 3", True, False)
    assert "at fees of 99.0 bps per fill, 9.9 were charged" in found.sentence
    assert found.sentence.endswith("without its best day the record is −1.00 USDT")
    assert robustness_finding(surface(3.0, -1.0), break_even(trades()), days).passes is False


def test_a_record_that_loses_free_of_fees_is_told_so():
    lost = trades().with_columns(pl.col("gross_pnl_usdt") - 10.0)
    found = robustness_finding(surface(-3.0), break_even(lost), left_out(["Mon"], [-3.0]))
    assert "free of fees it would lose 561.1 bps per fill, and 9.9 were charged" in found.sentence  # 3 - 20 over 303


def test_a_record_without_a_trade_is_not_measured():
    found = robustness_finding(surface(0.0), break_even(TRADES.to_frame()), left_out([], []))
    assert found.passes is None
    assert "nothing was traded" in found.sentence
