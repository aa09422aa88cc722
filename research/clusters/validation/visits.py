"""When was the price last here: what anybody knows of a level without a map.

Positions open where the price is and are swept when it comes back, so there is little to liquidate at a level that was
just visited. A map that draws anything but such levels looks clever without knowing where positions are: it must be
compared with levels that have waited as long.
"""

import numpy as np

from research.clusters.grid import bucket_of
from research.clusters.outcomes import Marks
from research.jit import njit

AGE_EDGES_H = (1.0, 4.0, 24.0, 168.0)
AGE_CLASSES = len(AGE_EDGES_H) + 1


def age_class(marks: Marks, avail_ms: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """How long ago the mark was in each bucket, by bars known at each moment.

    Parameters
    ----------
    avail_ms : int64, shape (n,)
    buckets : int64, shape (n, m), absolute.

    Returns
    -------
    int64, shape (n, m): class by ``AGE_EDGES_H``; the last one also where it never was there.
    """
    seen = np.flatnonzero((marks.low > 0.0) & (marks.high > 0.0))
    lowest, highest = bucket_of(marks.low[seen]), bucket_of(marks.high[seen])
    if len(seen) == 0:
        return np.full(buckets.shape, AGE_CLASSES - 1)
    bottom = lowest.min()
    last_ms = np.full(highest.max() - bottom + 1, -(2**62))
    known = np.searchsorted(seen, marks.last_known(avail_ms), side="right")
    order = np.argsort(known, kind="stable")
    at_ms = np.empty(buckets.shape, np.int64)
    paths = (lowest - bottom, highest - bottom, marks.time_ms[seen])
    _last_visits(*paths, known[order], order, buckets - bottom, last_ms, at_ms)
    return np.searchsorted(AGE_EDGES_H, (avail_ms[:, None] - at_ms) / 3.6e6, side="right")


@njit
def _last_visits(lowest, highest, time_ms, known, order, wanted, last_ms, at_ms):
    bar = 0
    for i in range(len(order)):
        while bar < known[i]:
            for bucket in range(lowest[bar], highest[bar] + 1):
                last_ms[bucket] = time_ms[bar]
            bar += 1
        row = order[i]
        for j in range(wanted.shape[1]):
            is_known = 0 <= wanted[row, j] < len(last_ms)
            at_ms[row, j] = last_ms[wanted[row, j]] if is_known else -(2**62)
