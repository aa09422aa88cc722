"""The three fits of the calibration: isotonic regression, ridge logistic regression, Poisson regression.

Small, exact and without another library. Isotonic: pool adjacent violators, Barlow et al. (1972). The others are
Newton's method on the penalised likelihood; McCullagh and Nelder (1989), "Generalized Linear Models". Standard errors
by groups: Liang and Zeger (1986), "Longitudinal data analysis using generalized linear models".
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

STEPS = 100
TOLERANCE = 1e-10  # of the gradient, per unit of weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Isotonic:
    """A rising curve through blocks of samples.

    Parameters
    ----------
    x, y : float64, shape (n_blocks,)
        Mean score and mean outcome of each block; both ascend.
    """

    x: np.ndarray
    y: np.ndarray

    def predict(self, score: np.ndarray) -> np.ndarray:
        """Outcome at each score: straight between blocks, level beyond the outer ones; NaN stays NaN."""
        return np.interp(score, self.x, self.y)


def fit_isotonic(score: np.ndarray, outcome: np.ndarray, weight: np.ndarray | None = None) -> Isotonic:
    """The rising curve with the least squared error.

    Parameters
    ----------
    score, outcome, weight : float64, shape (n,), finite, n >= 1; equal scores are one block from the start.

    Raises
    ------
    ValueError
        Without a sample.
    """
    if len(score) == 0:
        raise ValueError("expected at least one sample for an isotonic fit, got none; wait for known outcomes")
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    distinct, block = np.unique(score, return_inverse=True)
    mass = np.bincount(block, weights)
    level = np.bincount(block, weights * outcome) / mass
    # Blocks on a stack: [sum of weight, weighted score, weighted outcome]; a new one swallows those it falls below.
    stack: list[list[float]] = []
    for weight_sum, at, value in zip(mass, distinct, level, strict=True):
        stack.append([weight_sum, weight_sum * at, weight_sum * value])
        while len(stack) > 1 and stack[-2][2] * stack[-1][0] >= stack[-1][2] * stack[-2][0]:
            above = stack.pop()
            stack[-1] = [low + high for low, high in zip(stack[-1], above, strict=True)]
    blocks = np.array(stack)
    return Isotonic(x=blocks[:, 1] / blocks[:, 0], y=blocks[:, 2] / blocks[:, 0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A fitted regression.

    Parameters
    ----------
    family : "logistic" or "poisson".
    coefficients : float64, shape (n_features + 1,)
        Of the features as given; the first is the intercept.
    hessian : float64, shape (n_features + 1, n_features + 1)
        Of the penalised negative log likelihood.
    deviance : twice the log likelihood that the saturated model has more.
    """

    family: str
    coefficients: np.ndarray
    hessian: np.ndarray
    deviance: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Expected outcome per row of features, shape (n, n_features); a NaN feature gives NaN."""
        return _expected(self.family, self.coefficients[0] + features @ self.coefficients[1:])


def fit_ridge(
    features: np.ndarray,
    outcome: np.ndarray,
    *,
    family: Literal["logistic", "poisson"],
    ridge: float,
    weight: np.ndarray | None = None,
) -> Fit:
    """Maximum likelihood with a penalty of ``ridge / 2`` times the squared coefficients per standard deviation.

    Parameters
    ----------
    features : float64, shape (n, n_features), finite. A column that never varies gets the coefficient 0.
    outcome : float64, shape (n,): 0 to 1 (logistic) or counts (poisson).
    ridge : >= 0; the intercept is not penalised.
    weight : float64, shape (n,), > 0; ones if None.

    Raises
    ------
    ValueError
        Without a sample, or when Newton's method finds no optimum.
    """
    n_rows = len(outcome)
    if n_rows == 0:
        raise ValueError("expected at least one sample for a regression, got none; wait for known outcomes")
    weights = np.ones(n_rows) if weight is None else np.asarray(weight, np.float64)
    centre = weights @ features / weights.sum()
    spread = np.sqrt(weights @ np.square(features - centre) / weights.sum())
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(centre))
    design = np.column_stack([np.ones(n_rows), (features[:, varies] - centre[varies]) / spread[varies]])
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0

    beta = np.zeros(design.shape[1])
    beta[0] = _start(family, weights @ outcome / weights.sum())
    loss = _loss(family, design, outcome, weights, penalty, beta)
    for _ in range(STEPS):
        expected = _expected(family, design @ beta)
        gradient = design.T @ (weights * (expected - outcome)) + penalty * beta
        if np.abs(gradient).max() <= TOLERANCE * weights.sum():
            break
        curvature = expected * (1.0 - expected) if family == "logistic" else expected
        hessian = design.T @ (design * (weights * curvature)[:, None]) + np.diag(penalty)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        beta, loss, is_better = _walked(family, design, outcome, weights, penalty, beta, loss, step)
        if not is_better:
            break
    if not np.isfinite(loss):
        raise ValueError(f"expected a finite {family} likelihood, got {loss}; look for infinite features")
    return _unscaled(family, design, outcome, weights, penalty, beta, centre, spread, varies)


def clustered_errors(
    fit: Fit, features: np.ndarray, outcome: np.ndarray, group: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Standard errors of the coefficients when rows of one group (a day) are not independent; the intercept first.

    NaN with fewer than two groups.
    """
    weights = np.ones(len(outcome)) if weight is None else weight
    design = np.column_stack([np.ones(len(outcome)), features])
    groups, row_group = np.unique(group, return_inverse=True)
    if len(groups) < 2:
        return np.full(design.shape[1], np.nan)
    scores = design * (weights * (outcome - fit.predict(features)))[:, None]
    sums = np.stack([np.bincount(row_group, column, minlength=len(groups)) for column in scores.T], axis=1)
    bread = np.linalg.pinv(fit.hessian)
    variance = bread @ (sums.T @ sums) @ bread * len(groups) / (len(groups) - 1)
    return np.sqrt(np.maximum(np.diag(variance), 0.0))


def poisson_deviance(outcome: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Deviance of each count, shape as given."""
    counts = np.where(outcome > 0.0, outcome, 1.0)
    return 2.0 * (np.where(outcome > 0.0, outcome * np.log(counts / expected), 0.0) - (outcome - expected))


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Probability of a logit, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logit))


def _start(family: str, mean: float) -> float:
    if family == "poisson":
        return float(np.log(max(mean, 1e-6)))
    kept = min(max(mean, 1e-6), 1.0 - 1e-6)
    return float(np.log(kept / (1.0 - kept)))


def _expected(family: str, linear: np.ndarray) -> np.ndarray:
    return sigmoid(linear) if family == "logistic" else np.exp(np.minimum(linear, 50.0))


def _loss(family, design, outcome, weights, penalty, beta) -> float:
    linear = design @ beta
    normaliser = np.logaddexp(0.0, linear) if family == "logistic" else np.exp(np.minimum(linear, 50.0))
    return float(weights @ (normaliser - outcome * linear) + 0.5 * penalty @ np.square(beta))


def _walked(family, design, outcome, weights, penalty, beta, loss, step):
    """The longest of the halved steps that lowers the loss; unchanged where none does."""
    for halvings in range(30):
        moved = beta - step * 0.5**halvings
        reached = _loss(family, design, outcome, weights, penalty, moved)
        if reached < loss:
            return moved, reached, True
    return beta, loss, False


def _unscaled(family, design, outcome, weights, penalty, beta, centre, spread, varies) -> Fit:
    """The fit in the units of the features."""
    expected = _expected(family, design @ beta)
    curvature = expected * (1.0 - expected) if family == "logistic" else expected
    scaled = design.T @ (design * (weights * curvature)[:, None]) + np.diag(penalty)
    n_all = len(centre) + 1
    kept = np.concatenate([[0], 1 + np.flatnonzero(varies)])
    coefficients = np.zeros(n_all)
    coefficients[kept[1:]] = beta[1:] / spread[varies]
    coefficients[0] = beta[0] - coefficients[1:] @ centre
    # design = [1, features] @ turn, so the Hessian in features is turn^-T scaled turn^-1.
    turn = np.eye(len(kept))
    turn[0, 1:] = -centre[varies] / spread[varies]
    turn[np.arange(1, len(kept)), np.arange(1, len(kept))] = 1.0 / spread[varies]
    back = np.linalg.inv(turn)
    hessian = np.zeros((n_all, n_all))
    hessian[np.ix_(kept, kept)] = back.T @ scaled @ back
    if family == "poisson":
        deviance = float(weights @ poisson_deviance(outcome, expected))
    else:
        kept_p = np.clip(expected, 1e-300, 1.0 - 1e-16)
        deviance = float(-2.0 * weights @ (outcome * np.log(kept_p) + (1.0 - outcome) * np.log1p(-kept_p)))
    return Fit(family=family, coefficients=coefficients, hessian=hessian, deviance=deviance)
