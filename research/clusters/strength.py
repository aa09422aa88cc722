"""How heavy a cluster is by its own past: ranks, quantiles and z-scores over the trailing days, before the moment.

The past is what was found on the same side, per band of distance from the mark, and over all bands. It is sampled once
per slot of five minutes, however often one looks, so that a live map compares like a historical one. Masses are kept as
whole steps of their logarithm: counts and sums are integers, and what leaves the window leaves no rounding behind.
"""

import math
from typing import NamedTuple

import numpy as np

from research.jit import njit

STEPS_PER_E = 128  # a step is 0.8 % of mass
LOG_STEPS = 1 << 13  # up to e^64 USDT; a mass of 1 USDT or less is step 0

BAND_EDGES = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0)  # per cent of the mark; the last band is everything beyond
BANDS = len(BAND_EDGES) + 1
ALL_BANDS = np.int64(BANDS)  # the row over all distances

SMALLEST_SAMPLE = 30  # values in a band below which rank and z-score are NaN

_EDGES = np.array(BAND_EDGES)
_ONE_MORE, _ONE_LESS = np.int64(1), np.int64(-1)  # typed, so that each kernel is compiled once


class Standing(NamedTuple):
    """How each found cluster compares with the past of its side before its snapshot.

    strength : float64, shape (n_snapshots, 2, top)
        Share of the band's past that is lighter, its equals counted half. NaN with fewer than ``SMALLEST_SAMPLE``.
    zscore : float64, same shape
        Of the log mass in the band. NaN like the strength, and where that past is constant.
    is_heavy, is_weak : bool, same shape
        At or above the upper quantile of the band's past; below the lower one. Of the side's where the band's is small,
        and neither before the past is long enough.
    is_sampled : bool, shape (n_snapshots,)
        The first snapshot of its slot: it joins the past, for those after it.
    """

    strength: np.ndarray
    zscore: np.ndarray
    is_heavy: np.ndarray
    is_weak: np.ndarray
    is_sampled: np.ndarray


class History(NamedTuple):
    """What was found in the trailing window; changed in place.

    slot : the last one that was sampled.
    ring_time_ms, ring_n, ring_step, ring_band : the sampled snapshots, oldest at ``head[0]``, ``head[1]`` of them.
    tree : int32, shape (2, BANDS + 1, LOG_STEPS + 1)
        Fenwick trees of how many values lie at each step, per side and band, the last over all bands.
    n, total, squares : int64, shape (2, BANDS + 1)
        Count, sum and sum of squares of the steps.
    """

    slot: np.ndarray
    head: np.ndarray
    ring_time_ms: np.ndarray
    ring_n: np.ndarray
    ring_step: np.ndarray
    ring_band: np.ndarray
    tree: np.ndarray
    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray


def empty_history(slots: int, top: int) -> History:
    """A past in which nothing was seen.

    Parameters
    ----------
    slots : most snapshots that the window can hold.
    top : most clusters per side and snapshot.
    """
    per_band = (2, BANDS + 1)
    return History(
        slot=np.full(1, -1, np.int64),
        head=np.zeros(2, np.int64),
        ring_time_ms=np.zeros(slots, np.int64),
        ring_n=np.zeros((slots, 2), np.int64),
        ring_step=np.zeros((slots, 2, top), np.int16),
        ring_band=np.zeros((slots, 2, top), np.int8),
        tree=np.zeros((*per_band, LOG_STEPS + 1), np.int32),
        n=np.zeros(per_band, np.int64),
        total=np.zeros(per_band, np.int64),
        squares=np.zeros(per_band, np.int64),
    )


@njit
def log_step(mass_usdt):
    """The step of a mass: whole 128ths of its natural logarithm."""
    if not mass_usdt > 1.0:
        return 0
    return min(int(math.log(mass_usdt) * STEPS_PER_E), LOG_STEPS - 1)


@njit
def distance_band(distance):
    """The band of a distance from the mark, a fraction; an edge belongs to the band beyond it."""
    band = 0
    while band < BANDS - 1 and 100.0 * distance >= _EDGES[band]:
        band += 1
    return band


@njit(forceinline=False)
def _count(history, side, band, step, sign):
    history.n[side, band] += sign
    history.total[side, band] += sign * step
    history.squares[side, band] += sign * step * step
    node = step + 1
    while node <= LOG_STEPS:
        history.tree[side, band, node] += sign
        node += node & -node


@njit(forceinline=False)
def _forget(history, before_ms):
    """Drop what was found before a moment."""
    head, slots = history.head, len(history.ring_time_ms)
    while head[1] and history.ring_time_ms[head[0]] < before_ms:
        row = head[0]
        for side in range(2):
            for rank in range(history.ring_n[row, side]):
                step = np.int64(history.ring_step[row, side, rank])
                _count(history, side, np.int64(history.ring_band[row, side, rank]), step, _ONE_LESS)
                _count(history, side, ALL_BANDS, step, _ONE_LESS)
        head[0] = (row + 1) % slots
        head[1] -= 1


@njit(forceinline=False)
def _remember(history, time_ms, n, step, band):
    """Add one snapshot's values; ``step`` and ``band`` have shape (2, top), of which ``n`` per side count."""
    head, slots = history.head, len(history.ring_time_ms)
    row = (head[0] + head[1]) % slots
    head[1] += 1
    history.ring_time_ms[row] = time_ms
    for side in range(2):
        history.ring_n[row, side] = n[side]
        for rank in range(n[side]):
            history.ring_step[row, side, rank] = step[side, rank]
            history.ring_band[row, side, rank] = band[side, rank]
            _count(history, side, band[side, rank], step[side, rank], _ONE_MORE)
            _count(history, side, ALL_BANDS, step[side, rank], _ONE_MORE)


@njit(forceinline=False)
def _quantile_step(history, side, band, share):
    """The lowest step that at least this share of the band's past lies at or below.

    Of the whole side's where the band's is smaller than ``SMALLEST_SAMPLE``; -1 without a past.
    """
    if history.n[side, band] < SMALLEST_SAMPLE:
        band = ALL_BANDS
    n = history.n[side, band]
    if n == 0:
        return -1
    wanted = max(math.ceil(share * n - 1e-9), 1)
    node, jump = 0, LOG_STEPS
    while jump:
        if node + jump <= LOG_STEPS and history.tree[side, band, node + jump] < wanted:
            node += jump
            wanted -= history.tree[side, band, node]
        jump >>= 1
    return min(node, LOG_STEPS - 1)


@njit(forceinline=False)
def _rank_and_zscore(history, side, band, step):
    """Share of the band's past below this step, its equals counted half, and the z-score of the log mass.

    NaN where the band's past is smaller than ``SMALLEST_SAMPLE``; the z-score also where that past is constant.
    """
    n = history.n[side, band]
    if n < SMALLEST_SAMPLE:
        return np.nan, np.nan
    tree = history.tree[side, band]
    below, node = 0, step
    while node:
        below += tree[node]
        node &= node - 1
    upto, node = 0, step + 1
    while node:
        upto += tree[node]
        node &= node - 1
    rank = 0.5 * (below + upto) / n
    spread = n * history.squares[side, band] - history.total[side, band] ** 2  # n^2 times the variance, exact
    if spread <= 0:
        return rank, np.nan
    return rank, (n * step - history.total[side, band]) / math.sqrt(spread)


@njit(forceinline=False)
def standing(
    history, time_ms, n, distance, mass_usdt, is_blind, history_ms, slot_ms, smallest_history, upper, lower
):  # fmt: skip
    """Compare the clusters of each snapshot with the past before it, then let them join it; ``history`` moves on.

    Parameters
    ----------
    time_ms, n, mass_usdt : of ``Found``.
    distance : float64, shape (n_snapshots, 2, top)
        Of the peak from the mark, a fraction, never negative.
    is_blind : bool, shape (n_snapshots,)
        Snapshots to leave out: they are compared with nothing and join nothing.
    history_ms, slot_ms, smallest_history, upper, lower : as in ``Lifecycle``.
    """
    shape = mass_usdt.shape
    strength, zscore = np.full(shape, np.nan), np.full(shape, np.nan)
    is_heavy, is_weak = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    is_sampled = np.zeros(shape[0], np.bool_)
    step, band = np.zeros(shape[1:], np.int64), np.zeros(shape[1:], np.int64)
    heavy, weak = np.empty(BANDS, np.int64), np.empty(BANDS, np.int64)
    for s in range(shape[0]):
        if is_blind[s]:
            continue
        _forget(history, time_ms[s] - history_ms)
        is_ready = history.head[1] >= smallest_history
        for side in range(2):
            for each in range(BANDS):
                heavy[each] = _quantile_step(history, side, np.int64(each), upper)
                weak[each] = _quantile_step(history, side, np.int64(each), lower)
            for k in range(n[s, side]):
                step[side, k], band[side, k] = log_step(mass_usdt[s, side, k]), distance_band(distance[s, side, k])
                ranked = _rank_and_zscore(history, side, band[side, k], step[side, k])
                strength[s, side, k], zscore[s, side, k] = ranked
                is_heavy[s, side, k] = is_ready and step[side, k] >= heavy[band[side, k]]
                is_weak[s, side, k] = is_ready and step[side, k] < weak[band[side, k]]
        slot = time_ms[s] // slot_ms
        is_sampled[s] = slot != history.slot[0]
        if is_sampled[s]:
            history.slot[0] = slot
            _remember(history, time_ms[s], n[s], step, band)
    return Standing(strength, zscore, is_heavy, is_weak, is_sampled)
