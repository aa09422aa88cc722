"""What luck explains: the papers' own numbers, and cases small enough to count."""

import math

import numpy as np
import pytest

from research.overfitting import (
    Moments,
    deflated_sharpe,
    expected_best,
    moments,
    overfitting,
    periods_needed,
    probabilistic_sharpe,
    superior_ability,
)
from research.plateau import neighbour_scores

# Bailey and López de Prado (2014), numerical example: five years of days, 250 a year, a hundred trials.
PAPER = Moments(n_periods=1_250, sharpe=2.5 / math.sqrt(250.0), skewness=-3.0, kurtosis=10.0)


def test_the_paper_s_example_is_deflated_to_90_percent():
    assert expected_best(100, 0.0, 0.5 / 250.0) == pytest.approx(0.1132, abs=1e-4)
    assert deflated_sharpe(PAPER, n_trials=100, variance=0.5 / 250.0) == pytest.approx(0.9004, abs=1e-4)


def test_a_single_trial_is_compared_with_the_mean_of_luck_and_dear_trials_lower_the_bar():
    assert expected_best(1, -0.2, 0.01) == -0.2
    assert expected_best(100, -0.2, 0.01) == pytest.approx(expected_best(100, 0.0, 0.01) - 0.2)


def test_moments_are_those_of_the_returns():
    found = moments(np.array([-1.0, 1.0, -1.0, 3.0]))
    assert found.sharpe == pytest.approx(0.5 / math.sqrt(2.75))
    assert found.skewness == pytest.approx(np.mean(np.array([-1.5, 0.5, -1.5, 2.5]) ** 3) / 2.75**1.5)
    assert math.isnan(moments(np.zeros(5)).sharpe)


def test_half_of_the_time_a_sharpe_of_zero_is_above_zero():
    normal = Moments(n_periods=101, sharpe=0.0, skewness=0.0, kurtosis=3.0)
    assert probabilistic_sharpe(normal) == 0.5
    assert math.isinf(periods_needed(normal))


def test_as_many_periods_as_needed_give_the_level():
    short = Moments(n_periods=10, sharpe=0.2, skewness=0.5, kurtosis=4.0)
    enough = round(periods_needed(short))
    long = Moments(n_periods=enough, sharpe=0.2, skewness=0.5, kurtosis=4.0)
    assert probabilistic_sharpe(long) == pytest.approx(0.95, abs=0.01)


def test_a_config_that_is_better_on_every_day_is_never_overfitted():
    good, bad = np.tile([1.0, 2.0], 6), np.tile([-1.0, -2.0], 6)
    found = overfitting(np.stack([good, bad], axis=1), n_blocks=4)
    assert (found.probability, found.loss, found.n_splits) == (0.0, 0.0, 6)


def test_configs_that_take_turns_are_always_overfitted():
    # Each config wins its own half of the blocks and loses the other: the pick of a half is the loser of the rest.
    first = np.array([3.0, 2.0, -3.0, -2.0])
    found = overfitting(np.stack([first, -first], axis=1), n_blocks=2)
    assert (found.probability, found.loss) == (1.0, 1.0)


def test_the_selection_s_own_score_picks():
    good, bad = np.tile([1.0, 2.0], 6), np.tile([-1.0, -2.0], 6)
    worst = overfitting(np.stack([good, bad], axis=1), n_blocks=4, score=lambda sharpes: -sharpes)
    assert (worst.probability, worst.loss) == (1.0, 1.0)


def test_too_few_periods_are_refused():
    with pytest.raises(ValueError, match="12 blocks, 3 periods, 2 configs"):
        overfitting(np.ones((3, 2)))


def test_superior_ability_tells_earning_from_losing():
    noise = np.random.default_rng(5).normal(0.0, 1.0, (60, 3))
    earning = noise + np.array([0.0, 0.0, 1.5])
    assert superior_ability(earning, block=3, draws=200) < 0.01
    assert superior_ability(noise - 1.0, block=3, draws=200) > 0.5
    assert math.isnan(superior_ability(np.zeros((60, 2)), block=3))


def test_what_never_traded_in_a_half_is_not_its_pick_however_its_neighbours_shine():
    swing = np.where(np.arange(24) % 2, 0.5, -0.5)
    pnl = np.column_stack([swing - 1.0] * 9)  # corners of a grid of three by three lose
    pnl[:, [1, 3, 5, 7]] += 2.0
    pnl[:, 4] = 0.0
    found = overfitting(pnl, score=lambda sharpes: neighbour_scores(sharpes, (3, 3)))
    assert found.loss == 1.0  # with the middle out of the question, so are those beside it
