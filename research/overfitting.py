"""How much of a result luck explains: deflated Sharpe ratio, probability of backtest overfitting, Hansen's test.

Sharpe ratios here are per period and not annualised. Bailey, D. and López de Prado, M. (2012), "The Sharpe Ratio
Efficient Frontier" (probabilistic Sharpe ratio, minimum track record); (2014), "The Deflated Sharpe Ratio: Correcting
for Selection Bias, Backtest Overfitting and Non-Normality"; Bailey, Borwein, López de Prado and Zhu (2015), "The
Probability of Backtest Overfitting"; Hansen, P. R. (2005), "A Test for Superior Predictive Ability".
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()
EULER_GAMMA = 0.5772156649015329
BLOCKS = 12  # of CSCV: 924 ways to part them in halves


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What the probabilistic Sharpe ratio needs of a return series.

    Parameters
    ----------
    sharpe : mean over deviation per period; NaN where the returns never vary.
    kurtosis : 3 for normal returns.
    """

    n_periods: int
    sharpe: float
    skewness: float
    kurtosis: float

    @property
    def spread(self) -> float:
        """Deviation of the Sharpe estimate times the root of the periods; 1 for small Sharpes of normal returns."""
        return math.sqrt(1.0 - self.skewness * self.sharpe + (self.kurtosis - 1.0) / 4.0 * self.sharpe**2)


def moments(returns: np.ndarray) -> Moments:
    """Moments of equally spaced returns, float64 of shape (n_periods,)."""
    deviation = float(np.std(returns)) if len(returns) else 0.0
    if deviation == 0.0:
        return Moments(n_periods=len(returns), sharpe=math.nan, skewness=0.0, kurtosis=3.0)
    standard = (returns - np.mean(returns)) / deviation
    return Moments(
        n_periods=len(returns),
        sharpe=float(np.mean(returns)) / deviation,
        skewness=float(np.mean(standard**3)),
        kurtosis=float(np.mean(standard**4)),
    )


def probabilistic_sharpe(of: Moments, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe is above ``benchmark`` (per period); NaN where the returns never vary."""
    if math.isnan(of.sharpe) or of.n_periods < 2:
        return math.nan
    return NORMAL.cdf((of.sharpe - benchmark) * math.sqrt(of.n_periods - 1) / of.spread)


def periods_needed(of: Moments, level: float = 0.95) -> float:
    """Periods after which this Sharpe would be above zero with probability ``level``; infinite when it is not above."""
    if not of.sharpe > 0.0:
        return math.inf
    return 1.0 + (of.spread * NORMAL.inv_cdf(level) / of.sharpe) ** 2


def expected_best(n_trials: int, mean: float, variance: float) -> float:
    """Expected highest Sharpe of that many independent trials without skill; ``mean`` for a single one.

    Bailey and López de Prado (2014), equation 1, with the mean of the trials that they take as zero.
    """
    if n_trials < 2:
        return mean
    first = NORMAL.inv_cdf(1.0 - 1.0 / n_trials)
    second = NORMAL.inv_cdf(1.0 - 1.0 / (n_trials * math.e))
    return mean + math.sqrt(variance) * ((1.0 - EULER_GAMMA) * first + EULER_GAMMA * second)


def deflated_sharpe(of: Moments, *, n_trials: int, mean: float = 0.0, variance: float) -> float:
    """Probability that the true Sharpe is above what the best of ``n_trials`` without skill would show.

    Parameters
    ----------
    mean, variance : of the trials' Sharpes per period.
    """
    return probabilistic_sharpe(of, expected_best(n_trials, mean, variance))


@dataclass(frozen=True, kw_only=True)
class Overfitting:
    """Combinatorially symmetric cross-validation of a selection.

    Parameters
    ----------
    probability : share of the splits in which the pick of one half is not above the median of the other half.
    loss : share of the splits in which the pick loses in the other half.
    n_splits : how many there were.
    """

    probability: float
    loss: float
    n_splits: int


def overfitting(
    pnl: np.ndarray, *, n_blocks: int = BLOCKS, score: Callable[[np.ndarray], np.ndarray] = lambda sharpes: sharpes
) -> Overfitting:
    """Part the periods in halves in every symmetric way, pick on one, look where the pick stands in the other.

    Where every config is as good as any other the probability is near one half, edge or not: it says whether choosing
    mattered, not whether anything was earned.

    Parameters
    ----------
    pnl : float64, shape (n_periods, n_configs). PnL of each config; at least ``n_blocks`` periods, two configs.
    score : from the Sharpes of a half, NaN where nothing was traded, to what the selection goes by.
    """
    n_periods, n_configs = pnl.shape
    if n_periods < n_blocks or n_configs < 2 or n_blocks % 2:
        raise ValueError(
            f"cross-validation needs an even number of blocks, as many periods and two configs; got {n_blocks} blocks, "
            f"{n_periods} periods, {n_configs} configs"
        )
    edges = np.linspace(0, n_periods, n_blocks + 1).astype(int)[:-1]
    counts = np.diff([*edges, n_periods])
    sums, squares = (np.add.reduceat(values, edges, axis=0) for values in (pnl, np.square(pnl)))
    halves = list(itertools.combinations(range(n_blocks), n_blocks // 2))
    below = lost = 0
    for half in halves:
        inside = np.isin(np.arange(n_blocks), half)
        sharpes = _sharpes(sums, squares, counts, inside)
        # What did not trade cannot be picked, whatever its neighbours earn.
        chosen = np.where(np.isnan(sharpes), -np.inf, score(sharpes))
        pick = int(np.argmax(chosen))
        outside = np.nan_to_num(_sharpes(sums, squares, counts, ~inside))  # staying out earns a Sharpe of zero
        rank = np.sum(outside < outside[pick]) + 0.5 * (np.sum(outside == outside[pick]) + 1)
        below += rank / (n_configs + 1) <= 0.5
        lost += sums[~inside, pick].sum() < 0.0
    return Overfitting(probability=below / len(halves), loss=lost / len(halves), n_splits=len(halves))


def _sharpes(sums: np.ndarray, squares: np.ndarray, counts: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Sharpe per config over the taken blocks; NaN where the PnL never varies."""
    n_periods = counts[taken].sum()
    mean = sums[taken].sum(axis=0) / n_periods
    variance = squares[taken].sum(axis=0) / n_periods - mean * mean
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 0.0, mean / np.sqrt(variance), np.nan)


def superior_ability(pnl: np.ndarray, *, block: int, draws: int = 500, seed: int = 0) -> float:
    """p-value of Hansen's test: does the best config earn more than staying out, given that it is the best of so many?

    The consistent p-value, studentised, with the stationary bootstrap. Small speaks for the best config; NaN when no
    config traded.

    Parameters
    ----------
    pnl : float64, shape (n_periods, n_configs).
    block : mean length of the bootstrap's blocks, periods.
    """
    from arch.bootstrap import SPA  # pandas and statsmodels come with it: only when it is needed

    traded = pnl[:, np.std(pnl, axis=0) > 0.0]
    if traded.shape[1] == 0:
        return math.nan
    # The test compares losses: staying out loses nothing, and what a config earns is a negative loss.
    test = SPA(np.zeros(len(pnl)), -traded, block_size=block, reps=draws, seed=seed)
    test.compute()
    return float(test.pvalues["consistent"])
