"""Will the price get there: the probability of being touched, from volatility alone.

A driftless random walk with ``sigma`` per square root of a second reaches a level at log distance ``d`` within ``H``
seconds with probability 2 * Phi(-d / (sigma * sqrt(H))), by the reflection principle (Bachelier, 1900). Real prices
have fat tails and changing volatility, so a rising curve maps that number to what happened in the past. No map and no
cluster enters here: what a map knows beyond distance must show in the other factor.
"""

import math
from dataclasses import dataclass

import numpy as np

from research.clusters.regression import Isotonic, fit_isotonic
from research.jit import njit

BAR_MS = 60_000
BAR_LAG_MS = 1_000  # from the close of a bar until a decision may use it
LONGEST_STEP_MS = 15 * 60_000  # a return over a longer hole says nothing about the minutes after it
VOLATILITY_HALF_LIFE_S = 4 * 3_600
MIN_COVERAGE = 0.98  # share of an outcome's bars that must have been seen
SAMPLE_EVERY_S = 3_600
SAMPLE_DISTANCES = np.geomspace(1e-3, 1e-1, 13)  # log distances, both ways, at which the past is asked

_complementary_error = np.frompyfunc(math.erfc, 1, 1)


@njit
def _variance_step(sums, row_ms, close, half_life_ms):
    """Take in one close; ``sums`` are squares, seconds, the last close and its time. Returns the variance a second."""
    if close > 0.0:
        step_ms = row_ms - sums[3]
        if sums[2] > 0.0 and step_ms > 0.0:
            fade = 0.5 ** (step_ms / half_life_ms)
            sums[0] *= fade
            sums[1] *= fade
            if step_ms <= LONGEST_STEP_MS:
                move = math.log(close / sums[2])
                sums[0] += move * move
                sums[1] += step_ms / 1_000.0
        sums[2] = close
        sums[3] = row_ms
    # Half of the weight that an endless past would have: one half-life has been seen.
    is_ready = sums[1] >= 0.5 * half_life_ms / 1_000.0 / math.log(2.0)
    return sums[0] / sums[1] if is_ready and sums[0] > 0.0 else np.nan


@njit
def _variances(time_ms, close, half_life_ms, sums):
    out = np.empty(len(close))
    for i in range(len(close)):
        out[i] = _variance_step(sums, time_ms[i], close[i], half_life_ms)
    return out


def volatility(
    time_ms: np.ndarray,
    mark_close: np.ndarray,
    *,
    half_life_s: float = VOLATILITY_HALF_LIFE_S,
    state: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of the log price per square root of a second, after each bar, from that bar and those before it.

    Parameters
    ----------
    time_ms : int64, shape (n,), ascending closes of bars.
    mark_close : float64, shape (n,); NaN where nobody saw it. Returns over holes of more than 15 minutes are left out.
    half_life_s : age at which a squared return counts half.
    state : what the call before returned, to go on from there.

    Returns
    -------
    sigma : float64, shape (n,); NaN until a half-life has been seen, and where the price has not moved at all.
    state : float64, shape (4,); the numbers are the same however the bars are cut into calls.
    """
    sums = np.zeros(4) if state is None else state.copy()
    closes = np.ascontiguousarray(mark_close, np.float64)
    variance = _variances(np.ascontiguousarray(time_ms, np.int64), closes, half_life_s * 1_000.0, sums)
    return np.sqrt(variance), sums


def p_touch_walk(distance: np.ndarray, sigma: np.ndarray, horizon_s: float) -> np.ndarray:
    """Chance that a random walk reaches a level, without any correction.

    Parameters
    ----------
    distance : log distance to the near edge; 0 or less is there already.
    sigma : per square root of a second, as ``volatility`` gives it. NaN gives NaN.
    """
    reach = np.asarray(sigma, np.float64) * math.sqrt(horizon_s)
    deviations = np.maximum(np.asarray(distance, np.float64), 0.0) / reach
    return _two_tails(deviations)


def _two_tails(deviations: np.ndarray) -> np.ndarray:
    """Chance of a normal variable more than so many deviations away from its mean: 2 * Phi(-deviations)."""
    return _complementary_error(deviations / math.sqrt(2.0)).astype(np.float64)


def p_touch(
    distance: np.ndarray, sigma: np.ndarray, horizon_s: float, correction: Isotonic | None = None
) -> np.ndarray:
    """Chance that the mark reaches a level within the horizon, corrected by the past where there is a correction.

    It is 1 at the level itself and goes to 0 with the random walk's own; NaN where sigma is NaN.
    """
    walk = p_touch_walk(distance, sigma, horizon_s)
    if correction is None:
        return walk
    ends = Isotonic(x=np.concatenate([[0.0], correction.x, [1.0]]), y=np.concatenate([[0.0], correction.y, [1.0]]))
    return np.where(np.asarray(distance) <= 0.0, walk, ends.predict(walk))


def future_extremes(
    time_ms: np.ndarray, mark_high: np.ndarray, mark_low: np.ndarray, from_ms: np.ndarray, horizon_s: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest and lowest mark of the bars that close in (from, from + horizon], and when that was known. Looks ahead.

    Returns
    -------
    highest, lowest : float64; NaN where fewer than ``MIN_COVERAGE`` of the window's bars were seen.
    known_ms : int64; close of the first bar at or after the window's end, and the lag; the largest int64 before that.
    """
    end_ms = from_ms + horizon_s * 1_000
    first = np.searchsorted(time_ms, from_ms, side="right")
    last = np.searchsorted(time_ms, end_ms, side="right")
    seen = np.concatenate([[0], np.cumsum(np.isfinite(mark_high) & np.isfinite(mark_low))])
    is_covered = seen[last] - seen[first] >= MIN_COVERAGE * horizon_s * 1_000 / BAR_MS
    close = np.append(time_ms, np.iinfo(np.int64).max - BAR_LAG_MS)
    known_ms = close[np.searchsorted(time_ms, end_ms, side="left")] + BAR_LAG_MS
    pairs = np.stack([first, last], axis=1).ravel()
    if len(pairs) == 0:
        return np.zeros(0), np.zeros(0), known_ms
    highest = np.fmax.reduceat(np.append(mark_high, np.nan), pairs)[::2]
    lowest = np.fmin.reduceat(np.append(mark_low, np.nan), pairs)[::2]
    return np.where(is_covered, highest, np.nan), np.where(is_covered, lowest, np.nan), known_ms


@dataclass(frozen=True, kw_only=True, eq=False)
class TouchSamples:
    """What the random walk said of levels in the past and whether they were touched, in the order of ``known_ms``.

    Parameters
    ----------
    time_ms, known_ms : int64, shape (n,); when the question was asked and when its answer was known.
    walk : float64, shape (n,); ``p_touch_walk``.
    is_touched : bool, shape (n,)
    """

    horizon_s: int
    time_ms: np.ndarray
    known_ms: np.ndarray
    walk: np.ndarray
    is_touched: np.ndarray


def touch_samples(
    time_ms: np.ndarray,
    mark_high: np.ndarray,
    mark_low: np.ndarray,
    mark_close: np.ndarray,
    sigma: np.ndarray,
    horizon_s: int,
) -> TouchSamples:
    """Ask about fixed distances above and below the mark once an hour, at every whole hour that has a bar.

    The distances are the same everywhere, so that nothing about any map can enter.
    """
    asked = np.flatnonzero((time_ms % (SAMPLE_EVERY_S * 1_000) == 0) & np.isfinite(sigma) & (mark_close > 0.0))
    highest, lowest, known_ms = future_extremes(time_ms, mark_high, mark_low, time_ms[asked], horizon_s)
    known = np.isfinite(highest) & (known_ms < np.iinfo(np.int64).max)
    asked, highest, lowest, known_ms = asked[known], highest[known], lowest[known], known_ms[known]
    # Deviations by the hundredth, up to five: equal levels are pooled at once, and the fit costs a hundredth.
    deviations = np.minimum(SAMPLE_DISTANCES / (sigma[asked][:, None] * math.sqrt(horizon_s)), 5.0).round(2)
    walk = _two_tails(deviations)
    ups = np.log(highest / mark_close[asked])[:, None] >= SAMPLE_DISTANCES
    downs = np.log(mark_close[asked] / lowest)[:, None] >= SAMPLE_DISTANCES
    n_each = 2 * len(SAMPLE_DISTANCES)
    order = np.argsort(known_ms, kind="stable")
    return TouchSamples(
        horizon_s=horizon_s,
        time_ms=np.repeat(time_ms[asked][order], n_each),
        known_ms=np.repeat(known_ms[order], n_each),
        walk=np.concatenate([walk, walk], axis=1)[order].ravel(),
        is_touched=np.concatenate([ups, downs], axis=1)[order].ravel(),
    )


def fit_touch(samples: TouchSamples, at_ms: int, min_days: int) -> Isotonic | None:
    """The correction that was known at a moment; None while the samples known by then come from too few UTC days."""
    n_known = int(np.searchsorted(samples.known_ms, at_ms, side="right"))
    if len(np.unique(samples.time_ms[:n_known] // 86_400_000)) < min_days:
        return None
    return fit_isotonic(samples.walk[:n_known], samples.is_touched[:n_known].astype(np.float64))
