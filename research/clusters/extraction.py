"""Clusters of one snapshot: the hills of its profile, each with a peak and the buckets that belong to it.

A side is walked outward from the mark, smoothed over three buckets. A hill's prominence is how far it rises above the
higher of the two lowest points on its sides, looked for as far as higher ground and no farther than ``WINDOW``: it is
a concentration against its own neighbourhood, not the flank of a map. A cluster takes the buckets around its peak down
to half of its prominence, and lower hills inside are part of it. Clusters of a side never overlap.
"""

from dataclasses import dataclass

import numpy as np

from research.clusters.grid import BUCKETS, LONG, SHORT, highest_long_bucket, lowest_short_bucket
from research.clusters.profiles import Profiles
from research.jit import njit

WINDOW = 10  # buckets on either side of a peak that it is compared with, and may take: one per cent of the price
SMALLEST_RISE = 0.03  # prominence over height below which a bump is a ripple of what it stands on


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The clusters of each snapshot, heaviest first; among equals the one nearest to the mark.

    Parameters
    ----------
    symbol, source : of the map.
    time_ms, avail_ms : int64, shape (n_snapshots,)
        Of the map's snapshots, UTC.
    n : int64, shape (n_snapshots, 2)
        Clusters of the side (0 is long, 1 is short); the arrays below hold nothing from there on: 0 and NaN.
    peak, lo, hi : int64, shape (n_snapshots, 2, top)
        Absolute buckets, ``lo <= peak <= hi``, both ends inside the cluster.
    mass_usdt : float64, shape (n_snapshots, 2, top)
        Notional in [lo, hi], not smoothed.
    leverage : float64, shape (n_snapshots, 2, top)
        Mean leverage in [lo, hi] by mass; NaN where the map knows none.
    """

    symbol: str
    source: str
    time_ms: np.ndarray
    avail_ms: np.ndarray
    n: np.ndarray
    peak: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    mass_usdt: np.ndarray
    leverage: np.ndarray

    def __len__(self) -> int:
        return len(self.time_ms)


def find(profiles: Profiles, top: int = 20) -> Found:
    """The heaviest clusters of every snapshot and side; none in a snapshot without a mark.

    A snapshot is looked at by itself: nothing depends on another one.

    Parameters
    ----------
    profiles : the map.
    top : clusters kept per side.

    Raises
    ------
    ValueError
        If ``top`` is below 1.

    Source
    ------
    Topographic prominence within a window, on smoothing weights 1, 2, 1: mass in one bucket peaks there and nowhere
    else. Measured against the whole side instead, half of a smooth map was one cluster of ten per cent's width.

    Of the crowds planted in 24 synthetic markets (``validation.planted``: ten clusters a side, one look each, margins
    never changed, as is so there) 87 % lay within 20 bps of a cluster; of another day's clusters at the same distances
    69 %. With the default ``MapConfig.smear``, where clusters are wider and a third as many, it was 53 %.
    """
    if top < 1:
        raise ValueError(f"top: expected at least one cluster per side, got {top}")
    n_snapshots = len(profiles)
    first_column = np.zeros((n_snapshots, 2), np.int64)
    length = np.zeros((n_snapshots, 2), np.int64)
    seen = np.isfinite(profiles.mark)
    base = profiles.first_bucket[seen]
    first_column[seen, LONG] = highest_long_bucket(profiles.mark[seen]) - base
    first_column[seen, SHORT] = lowest_short_bucket(profiles.mark[seen]) - base
    length[seen, LONG] = first_column[seen, LONG] + 1
    length[seen, SHORT] = BUCKETS - first_column[seen, SHORT]
    leverage = profiles.leverage
    if leverage is None:
        leverage = np.empty((0, 2, 0), np.float32)
    mass_usdt, leverage, first_bucket = (plain(part) for part in (profiles.mass_usdt, leverage, profiles.first_bucket))
    n, peak, lo, hi, mass, mean_leverage = _find(mass_usdt, leverage, first_bucket, first_column, length, top)
    return Found(
        symbol=profiles.symbol,
        source=profiles.source,
        time_ms=profiles.time_ms,
        avail_ms=profiles.avail_ms,
        n=n,
        peak=peak,
        lo=lo,
        hi=hi,
        mass_usdt=mass,
        leverage=mean_leverage,
    )


def plain(values: np.ndarray) -> np.ndarray:
    """The values in writable memory, one after the other; a copy only of what is not.

    Arrays out of frames and stored files are read-only, which to the compiler is another type: it would compile the
    kernels once more.
    """
    return np.require(values, requirements=["C", "W"])


@njit(forceinline=False, nogil=True)
def _find(mass_usdt, leverage, first_bucket, first_column, length, top):
    n_snapshots = len(mass_usdt)
    shape = (n_snapshots, 2, top)
    n = np.zeros((n_snapshots, 2), np.int64)
    peak, lo, hi = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    mass, mean_leverage = np.full(shape, np.nan), np.full(shape, np.nan)
    raw, smooth = np.empty(BUCKETS), np.empty(BUCKETS)
    hill = np.empty((BUCKETS, 3), np.int64)  # peak, nearest and farthest step from the mark
    weight = np.empty(BUCKETS)
    for s in range(n_snapshots):
        for side in range(2):
            steps, column, outward = length[s, side], first_column[s, side], 2 * side - 1
            if steps < 1:
                continue
            for step in range(steps):
                raw[step] = mass_usdt[s, side, column + outward * step]
            _smoothed(raw[:steps], smooth)
            n_hills = _hills(smooth[:steps], hill)
            for h in range(n_hills):
                weight[h] = raw[hill[h, 1] : hill[h, 2] + 1].sum()
            for rank in range(min(n_hills, top)):
                best = 0
                for h in range(1, n_hills):  # hills stand in order of distance: the nearer wins a tie
                    if weight[h] > weight[best]:
                        best = h
                near, far = column + outward * hill[best, 1], column + outward * hill[best, 2]
                low, high = min(near, far), max(near, far)
                peak[s, side, rank] = first_bucket[s] + column + outward * hill[best, 0]
                lo[s, side, rank] = first_bucket[s] + low
                hi[s, side, rank] = first_bucket[s] + high
                mass[s, side, rank] = weight[best]
                if len(leverage):
                    mean_leverage[s, side, rank] = _mean_leverage(mass_usdt[s, side], leverage[s, side], low, high)
                weight[best] = -1.0
            n[s, side] = min(n_hills, top)
    return n, peak, lo, hi, mass, mean_leverage


@njit
def _smoothed(raw, smooth):
    """Weights 1, 2, 1; nothing lies beyond either end."""
    last = len(raw) - 1
    for step in range(last + 1):
        before = raw[step - 1] if step > 0 else 0.0
        after = raw[step + 1] if step < last else 0.0
        smooth[step] = 0.25 * before + 0.5 * raw[step] + 0.25 * after


@njit(forceinline=False)
def _hills(height, hill):
    """Peaks and their extents in order of distance, without peaks inside the extent of a higher one.

    Of two equal heights the one nearer to the mark counts as the higher. Where two extents meet, the lower hill yields.
    """
    n_steps, n_hills = len(height), 0
    for step in range(n_steps):
        is_flank = (step > 0 and height[step - 1] >= height[step]) or (
            step < n_steps - 1 and height[step + 1] > height[step]
        )
        if is_flank or height[step] <= 0.0 or (n_hills and step <= hill[n_hills - 1, 2]):
            continue
        base = max(_lowest_inward(height, step), _lowest_outward(height, step))
        if height[step] - base <= SMALLEST_RISE * height[step]:
            continue
        level = 0.5 * (height[step] + base)
        near, far = step, step
        while near > 0 and step - near < WINDOW and height[near - 1] >= level:
            near -= 1
        while far < n_steps - 1 and far - step < WINDOW and height[far + 1] >= level:
            far += 1
        while n_hills and near <= hill[n_hills - 1, 0]:
            n_hills -= 1
        if n_hills and near <= hill[n_hills - 1, 2]:
            if height[step] > height[hill[n_hills - 1, 0]]:
                hill[n_hills - 1, 2] = near - 1
            else:
                near = hill[n_hills - 1, 2] + 1
        hill[n_hills, 0], hill[n_hills, 1], hill[n_hills, 2] = step, near, far
        n_hills += 1
    return n_hills


@njit
def _lowest_inward(height, peak):
    """The lowest point between a peak and higher ground towards the mark, or the end of the window; 0 at the mark."""
    lowest = height[peak]
    for step in range(peak - 1, peak - WINDOW - 1, -1):
        if step < 0:
            return 0.0
        if height[step] >= height[peak]:
            break
        lowest = min(lowest, height[step])
    return lowest


@njit
def _lowest_outward(height, peak):
    """The same away from the mark."""
    lowest = height[peak]
    for step in range(peak + 1, peak + WINDOW + 1):
        if step >= len(height):
            return 0.0
        if height[step] > height[peak]:
            break
        lowest = min(lowest, height[step])
    return lowest


@njit
def _mean_leverage(mass, leverage, low, high):
    total, weighted = 0.0, 0.0
    for column in range(low, high + 1):
        if mass[column] > 0.0 and not np.isnan(leverage[column]):
            total += mass[column]
            weighted += mass[column] * leverage[column]
    return weighted / total if total > 0.0 else np.nan
