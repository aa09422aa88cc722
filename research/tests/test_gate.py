"""From numbers to a verdict, and how far any test could see."""

import dataclasses
import math

import numpy as np
import pytest

from research.gate import Evidence, best_power, deciding, holdout_finding, judge, least_size, passes, verdict
from research.overfitting import Moments
from research.placebos import SIGNS, TIMES, Placebo

DAY = 1.0 / math.sqrt(365.0)


def evidence(**changed) -> Evidence:
    """A record of 75 days with a Sharpe of 3 among placebos that pay a Sharpe of 4 for trading."""
    lucky = -4.0 * DAY + 2.2 * DAY * np.linspace(-2.0, 2.0, 200)
    given = Evidence(
        period="day",
        periods_per_year=365.0,
        record=Moments(n_periods=75, sharpe=3.0 * DAY, skewness=0.0, kurtosis=3.0),
        net_pnl_usdt=400.0,
        trades=500,
        placebos=tuple(Placebo(kind=kind, sharpe=3.0 * DAY, sharpes=lucky) for kind in (SIGNS, TIMES)),
        earlier_trials=0,
        searched=Moments(n_periods=90, sharpe=3.0 * DAY, skewness=0.0, kurtosis=3.0),
        trials=24,
        trial_variance=4.0 / 365.0,
    )
    return dataclasses.replace(given, **changed)


def test_an_edge_that_pays_its_costs_passes():
    found = judge(evidence())
    assert passes(found)
    assert verdict(found).startswith("passes the statistical gate")


def test_what_decides_comes_first_and_is_four_findings():
    found = judge(evidence())
    assert [one.decides for one in found[:4]] == [True] * 4
    assert not any(one.decides for one in found[4:])


def test_a_record_that_earned_nothing_fails_and_says_with_which_probability():
    flat = evidence(record=Moments(n_periods=75, sharpe=0.0, skewness=0.0, kurtosis=3.0))
    assert "above zero with probability 0.50" in verdict(judge(flat))


def test_a_record_among_its_placebos_fails():
    lucky = np.linspace(0.0, 6.0, 200) * DAY
    among = tuple(Placebo(kind=kind, sharpe=3.0 * DAY, sharpes=lucky) for kind in (SIGNS, TIMES))
    found = judge(evidence(placebos=among))
    assert not passes(found)
    assert "the record ranks 101 among 201 on sign-shuffled data" in verdict(found)


def test_configs_that_were_tried_before_on_these_days_raise_the_bar():
    few, many = (deciding(evidence(earlier_trials=count))[1] for count in (0, 100_000))
    assert (few.passes, many.passes) == (True, False)
    assert "100\u202f000 configs tried before" in many.sentence


def test_a_record_of_a_few_days_is_not_measured_and_that_is_no_pass():
    short = evidence(record=Moments(n_periods=5, sharpe=0.9, skewness=0.0, kurtosis=3.0))
    found = judge(short)
    assert not passes(found)
    assert "5 days of record are too few to tell, 20 are needed" in verdict(found)


def test_a_loss_is_told_with_a_real_minus_and_no_length_of_it_is_enough():
    lost = judge(evidence(record=Moments(n_periods=75, sharpe=-3.0 * DAY, skewness=0.0, kurtosis=3.0)))
    assert "the record's Sharpe of −3.00 after costs, of 75 days, is above zero with probability 0." in verdict(lost)
    lasts = {one.name: one for one in lost}["record needed for 95 %"]
    assert (lasts.value, lasts.passes) == ("none is enough", False)


def test_what_is_known_of_the_best_config_is_unknown_where_none_is_ranked():
    nothing = Moments(n_periods=0, sharpe=math.nan, skewness=0.0, kurtosis=3.0)
    found = {one.name: one for one in judge(evidence(record=nothing, searched=nothing, stands_alone=None))}
    for name in (
        "deflated Sharpe of the best config, in sample",
        "neighbours of the best config",
        "record needed for 95 %",
    ):
        assert (found[name].value, found[name].passes) == ("–", None)


def test_without_a_pick_nothing_passes():
    why = "momentum enters only with a quote no older than 2 s, which 0.10% of the bars have: record bookTicker"
    found = judge(evidence(placebos=(), starved=(why,)))
    assert not passes(found)
    assert f"nothing was picked, so there is no record to compare; {why}" in verdict(found)


def test_a_holdout_that_looks_like_the_record_passes_once():
    record = [1.0, 3.0] * 30
    assert holdout_finding(record, 10.0, 5, opening=1).passes
    assert not holdout_finding(record, 10.0, 5, opening=2).passes
    assert not holdout_finding(record, 10.0, 5, opening=1, searches=1).passes
    # five periods of mean 2 and deviation 1: 10 expected, spread sqrt(5 + 25 / 60) = 2.33
    low = holdout_finding(record, 10.0 - 2.0 * 2.327, 5, opening=1)
    assert (low.passes, low.value) == (False, "0.02")


def test_ninety_days_of_a_sharpe_of_three_are_seen_in_44_percent_by_the_best_test():
    assert best_power(3.0, 90.0, 0.05) == pytest.approx(0.438, abs=0.001)
    assert least_size(3.0, 90.0, 0.80) == pytest.approx(0.259, abs=0.001)
    assert best_power(3.0, 90.0, least_size(3.0, 90.0, 0.80)) == pytest.approx(0.80)


def test_entries_that_rest_must_earn_trade_by_trade():
    assert not any(one.name == "entries that rest" for one in deciding(evidence(tick_net_pnl_usdt=-1.0)))
    by_net = {net: deciding(evidence(rests=True, tick_net_pnl_usdt=net))[-1] for net in (None, -1.0, 0.0, 1.0)}
    assert {net: one.passes for net, one in by_net.items()} == {None: None, -1.0: False, 0.0: False, 1.0: True}
    assert not passes(judge(evidence(rests=True))) and passes(judge(evidence(rests=True, tick_net_pnl_usdt=1.0)))
    assert "no trades were recorded" in verdict(judge(evidence(rests=True)))
