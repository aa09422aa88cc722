"""What one snapshot's clusters tell a strategy: the picks of ``columns``, without tables, the same to the last bit.

Tables cost more time than a runner has. That both definitions agree is shown in ``test_clusters_live_map``.
"""

import math
from typing import NamedTuple

import numpy as np

from research.clusters.columns import CLEAR_BPS, LEAST_STRENGTH, STRONG_WITHIN_BPS
from research.clusters.grid import LONG, SIDES, centre, lower_edge
from research.clusters.lifecycle_book import TOUCHED


class _Cluster(NamedTuple):
    """A living cluster; ``starts`` and ``ends`` are its edges' way outward in bps of log price."""

    starts: float
    ends: float
    far: float
    price: float
    lo: float
    hi: float
    strength: float
    usdt: float
    dist_bps: float


def picked(sides: np.ndarray, clusters: np.ndarray, mark: float) -> dict[str, float]:
    """Values by name of ``CLUSTER_COLUMNS`` of the clusters that a snapshot shows; absent where there is none.

    Parameters
    ----------
    sides, clusters : int64 and ``LIVE``, shape (n_clusters,). Those that ended are left out.
    mark : of the snapshot.
    """
    found: dict[str, float] = {}
    is_living = clusters["state"] <= TOUCHED
    for side, name in enumerate(SIDES):
        living = _living(side, clusters[is_living & (sides == side)], mark)
        counted = [cluster for cluster in living if LEAST_STRENGTH <= cluster.strength <= 1.0]
        if not counted:
            continue
        nearest = min(counted, key=lambda cluster: (cluster.starts, cluster.ends))
        within = [cluster for cluster in counted if abs(cluster.dist_bps) <= STRONG_WITHIN_BPS]
        picks = {"near": nearest}
        if within:
            picks["strong"] = min(within, key=lambda cluster: (-cluster.strength, cluster.starts))
        for pick, cluster in picks.items():
            for value in ("price", "lo", "hi", "strength", "usdt"):
                found[f"{pick}_{name}_{value}"] = getattr(cluster, value)
        found[f"near_{name}_far"] = _far_edge_of_wall(living, nearest)
    return found


def _living(side: int, clusters: np.ndarray, mark: float) -> list[_Cluster]:
    price, lo, hi = centre(clusters["peak"]), lower_edge(clusters["lo"]), lower_edge(clusters["hi"] + 1)
    dist_bps = 1e4 * (price / mark - 1.0)
    outward, near, far = (-1e4, hi, lo) if side == LONG else (1e4, lo, hi)
    columns = (near, far, price, lo, hi, clusters["strength"], clusters["mass_usdt"], dist_bps)
    return [
        _Cluster(outward * math.log(near_edge), outward * math.log(far_edge), far_edge, *values)
        for near_edge, far_edge, *values in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _far_edge_of_wall(living: list[_Cluster], nearest: _Cluster) -> float:
    """Far edge of the nearest cluster and of everything that lives behind it without a gap of ``CLEAR_BPS``."""
    behind = sorted(cluster for cluster in living if cluster.ends >= nearest.starts)
    last = behind[0]
    for cluster in behind[1:]:
        if cluster.starts - last.ends > CLEAR_BPS:
            break
        last = max(last, cluster, key=lambda one: one.ends)
    return last.far
