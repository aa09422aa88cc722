"""What the lifecycle kernel keeps and writes: the words for what a cluster is, its record, and the arrays of a run."""

from typing import NamedTuple

import numpy as np

# States, ends and events share one numbering; the first four are lives, the next four are ends.
# Typed numbers, not literals: a kernel that takes one is compiled once.
CANDIDATE, ACTIVE, TOUCHED, STALE, BROKEN, FADED, MERGED, CONSUMED, SPLIT, RESUMED = np.arange(10)
NAMES = (
    "CANDIDATE", "ACTIVE", "TOUCHED", "STALE", "BROKEN", "FADED", "MERGED", "CONSUMED", "SPLIT", "RESUMED",
)  # fmt: skip

CAPACITY = 128  # clusters of a side that are followed at once; the lightest one out of sight makes room
NOBODY = np.int64(-1)

LIVE = np.dtype(
    [
        ("id", np.int64),
        ("state", np.int64),
        ("is_stale", np.bool_),
        ("peak", np.int64),  # buckets, as last found
        ("lo", np.int64),
        ("hi", np.int64),
        ("left_lo", np.int64),  # what the mark has not passed since
        ("left_hi", np.int64),
        ("mass_usdt", np.float64),
        ("most_usdt", np.float64),  # largest mass it was found with
        ("swept_usdt", np.float64),  # since the cluster was first found
        ("leverage", np.float64),
        ("strength", np.float64),
        ("zscore", np.float64),
        ("basis_bps", np.float64),  # when it was last found
        ("heavy_slots", np.int64),  # in a row at or above the upper quantile
        ("weak_slots", np.int64),  # in a row out of sight or below the lower quantile
        ("first_ms", np.int64),
        ("seen_ms", np.int64),
        ("seen_avail_ms", np.int64),
    ]
)
ROW = np.dtype([("snapshot", np.int64), ("side", np.int64)])
EVENT = np.dtype(
    [
        ("event_id", np.int64),
        ("event", np.int64),
        ("time_ms", np.int64),
        ("avail_ms", np.int64),
        ("from_ms", np.int64),  # start of the bar in which it happened
        ("side", np.int64),
        ("left_usdt", np.float64),  # mass that the mark has not passed
        ("mark", np.float64),
        ("parent_id", np.int64),
    ]
)
CLOCK = np.dtype(
    [
        ("next_id", np.int64),
        ("next_event_id", np.int64),
        ("now_ms", np.int64),  # of the last bar or snapshot
        ("price_ms", np.int64),  # when the mark was last seen
        ("snapshot_ms", np.int64),  # last snapshot that was not stale; NOBODY before the first
    ]
)


class Rules(NamedTuple):
    """``Lifecycle`` as numbers."""

    overlap: float
    peak_buckets: int
    active_slots: int
    fade_slots: int
    stale_after_ms: int
    mark_gap_ms: int
    bar_ms: int


class Book(NamedTuple):
    """The clusters that live, and the map they were last seen in; changed in place."""

    clock: np.ndarray  # CLOCK, shape (1,)
    live: np.ndarray  # LIVE, shape (2, CAPACITY), in order of id
    n_live: np.ndarray  # int64, shape (2,)
    mass_usdt: np.ndarray  # float32, shape (2, BUCKETS): the last profile that was not stale
    first_bucket: np.ndarray  # int64, shape (1,): its first column


class Output(NamedTuple):
    """Rows and events written so far, ``n[0]`` and ``n[1]`` of them, each beside its cluster at that moment."""

    rows: np.ndarray
    row_clusters: np.ndarray
    events: np.ndarray
    event_clusters: np.ndarray
    n: np.ndarray


class Walked(NamedTuple):
    """The rows and events of one call, each beside its cluster at that moment."""

    rows: np.ndarray
    row_clusters: np.ndarray
    events: np.ndarray
    event_clusters: np.ndarray


class Snapshots(NamedTuple):
    """The part of ``Profiles`` that is looked at."""

    first_bucket: np.ndarray
    mass_usdt: np.ndarray
    mark: np.ndarray
    is_stale: np.ndarray
    basis_bps: np.ndarray


class Clusters(NamedTuple):
    """``Found`` as arrays."""

    time_ms: np.ndarray
    avail_ms: np.ndarray
    n: np.ndarray
    peak: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    mass_usdt: np.ndarray
    leverage: np.ndarray


class Marks(NamedTuple):
    """Bars of the mark."""

    time_ms: np.ndarray
    avail_ms: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
