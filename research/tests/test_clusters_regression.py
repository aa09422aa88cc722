import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters.regression import clustered_errors, fit_isotonic, fit_ridge, poisson_deviance

optimize = pytest.importorskip("scipy.optimize", reason="scipy checks our Newton steps; it comes with vectorbt")


def test_two_samples_in_the_wrong_order_are_pooled_to_their_mean():
    fit = fit_isotonic(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]))
    assert fit.x.tolist() == [1.0, 2.5]
    assert fit.y.tolist() == [0.0, 0.5]


def test_an_isotonic_curve_is_straight_between_its_blocks_and_level_outside():
    fit = fit_isotonic(np.array([1.0, 3.0]), np.array([0.2, 0.6]))
    assert fit.predict(np.array([0.0, 2.0, 9.0])).tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert np.isnan(fit.predict(np.array([np.nan]))).all()


def test_equal_scores_are_one_block_whatever_their_order():
    fit = fit_isotonic(np.array([1.0, 1.0]), np.array([1.0, 0.0]), np.array([3.0, 1.0]))
    assert (fit.x.tolist(), fit.y.tolist()) == ([1.0], [0.75])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(1, 3)), min_size=1, max_size=12))
def test_pooling_is_the_minimax_formula_of_isotonic_regression(samples):
    # y_i = max over starts a <= i of min over ends b >= i of the weighted mean of outcomes in [a, b].
    score, outcome, weight = (np.array(column, float) for column in zip(*samples, strict=True))
    levels = np.unique(score)
    fitted = fit_isotonic(score, outcome, weight)
    for i, level in enumerate(levels):
        means = [
            [
                np.average(outcome[inside], weights=weight[inside])
                for end in levels[i:]
                for inside in [(score >= start) & (score <= end)]
            ]
            for start in levels[: i + 1]
        ]
        best = max(min(row) for row in means)
        block = np.searchsorted(fitted.x, level)
        around = fitted.y[max(block - 1, 0) : block + 2]
        assert np.isclose(around, best).any()
    assert (np.diff(fitted.y) > 0).all()


@pytest.fixture
def samples():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(400, 3)) * [1.0, 50.0, 0.01] + [0.0, 300.0, 1.0]
    logit = 0.4 + features[:, 0] - 0.02 * (features[:, 1] - 300.0)
    return features, logit, rng.uniform(0.5, 2.0, 400), rng


@pytest.mark.parametrize("family", ["logistic", "poisson"])
def test_newton_finds_what_an_independent_optimiser_finds(samples, family):
    features, logit, weight, rng = samples
    mean = 1 / (1 + np.exp(-logit)) if family == "logistic" else np.exp(0.3 * logit)
    outcome = (rng.random(400) < mean).astype(float) if family == "logistic" else rng.poisson(mean).astype(float)
    fit = fit_ridge(features, outcome, family=family, ridge=2.0, weight=weight)

    centre = np.average(features, axis=0, weights=weight)
    spread = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weight))
    scaled = (features - centre) / spread

    def loss(beta):
        linear = beta[0] + scaled @ beta[1:]
        normaliser = np.logaddexp(0, linear) if family == "logistic" else np.exp(linear)
        return weight @ (normaliser - outcome * linear) + beta[1:] @ beta[1:]

    other = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    assert fit.coefficients[1:] * spread == pytest.approx(other.x[1:], abs=1e-5)
    assert fit.coefficients[0] + fit.coefficients[1:] @ centre == pytest.approx(other.x[0], abs=1e-5)


def test_an_intercept_alone_predicts_the_mean():
    fit = fit_ridge(np.zeros((4, 0)), np.array([0.0, 0.0, 0.0, 1.0]), family="logistic", ridge=1.0)
    assert fit.predict(np.zeros((1, 0)))[0] == pytest.approx(0.25)


def test_a_feature_that_never_varies_gets_no_coefficient():
    features = np.column_stack([np.arange(8.0), np.full(8, 7.0)])
    fit = fit_ridge(features, np.array([0, 1, 0, 0, 1, 1, 0, 1.0]), family="logistic", ridge=0.1)
    assert fit.coefficients[2] == 0.0


def test_perfectly_separated_outcomes_keep_finite_coefficients_under_a_ridge():
    fit = fit_ridge(np.arange(10.0)[:, None], (np.arange(10) > 4).astype(float), family="logistic", ridge=1.0)
    assert 0.0 < fit.coefficients[1] < 5.0


def test_only_one_outcome_gives_a_probability_close_to_it():
    fit = fit_ridge(np.arange(6.0)[:, None], np.zeros(6), family="logistic", ridge=1.0)
    assert fit.predict(np.array([[3.0]]))[0] < 1e-3


def test_a_count_as_expected_has_no_deviance():
    assert poisson_deviance(np.array([2.0, 0.0]), np.array([2.0, 0.5])).tolist() == [0.0, 1.0]


def test_errors_by_group_are_wider_when_each_row_is_repeated_within_its_group(samples):
    features, logit, _, rng = samples
    outcome = (rng.random(400) < 1 / (1 + np.exp(-logit))).astype(float)
    once = fit_ridge(features, outcome, family="logistic", ridge=0.0)
    alone = clustered_errors(once, features, outcome, np.arange(400))
    twice, thrice = np.repeat(features, 4, axis=0), np.repeat(outcome, 4)
    repeated = fit_ridge(twice, thrice, family="logistic", ridge=0.0)
    by_group = clustered_errors(repeated, twice, thrice, np.repeat(np.arange(400), 4))
    assert by_group == pytest.approx(alone, rel=1e-6)
    ignoring = clustered_errors(repeated, twice, thrice, np.arange(1600))
    assert ignoring == pytest.approx(alone / 2, rel=1e-2)


def test_no_samples_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="wait for known outcomes"):
        fit_ridge(np.zeros((0, 2)), np.zeros(0), family="logistic", ridge=1.0)
