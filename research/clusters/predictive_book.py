"""What a predictive map remembers, and what goes into and out of its kernels."""

from typing import NamedTuple

import numpy as np

from research.clusters.grid import BUCKETS

COLUMNS = 2_048  # of the book: prices from about a third to three times the mark
REMEMBERED_BARS = 512  # since the last value of open interest; of older ones nothing opens

BAR = np.dtype(
    [
        ("time_ms", np.int64),
        ("avail_ms", np.int64),
        ("mark_high", np.float64),
        ("mark_low", np.float64),
        ("mark_close", np.float64),
        ("volume_usdt", np.float64),
        ("open_interest", np.float64),
        ("is_new", np.bool_),
    ]
)  # a row of ``SourceBars``
SHOWN = np.dtype(
    [
        ("time_ms", np.int64),
        ("avail_ms", np.int64),
        ("first_bucket", np.int64),
        ("mark", np.float64),
        ("swept_usdt", np.float64, (2,)),
        ("open_interest_usdt", np.float64),
        ("placed_share", np.float64),
        ("is_stale", np.bool_),
    ]
)  # a row of ``Profiles`` without its buckets
NOW = np.dtype(
    [
        ("first_bucket", np.int64),  # absolute bucket of column 0
        ("has_grid", np.bool_),  # a mark was seen
        ("bars", np.int64),  # stepped so far
        ("time_ms", np.int64),
        ("avail_ms", np.int64),
        ("mark", np.float64),  # NaN when the last bar had none
        ("mark_bucket", np.int64),  # of the last mark seen
        ("open_interest", np.float64),  # base units, NaN before the first
        ("open_interest_ms", np.int64),  # when the last value arrived
        ("is_unused", np.bool_),  # it waits for a bar with a mark
        ("reconciled_ms", np.int64),  # until when positions were closed by the clock
        ("turnover", np.float64),  # base units traded since then
        ("remembered", np.int64),  # bars since the last value that was used
    ]
)
SIDE = np.dtype(
    [
        ("nearest", np.int64),  # highest column that may hold longs, lowest that may hold shorts
        ("missing", np.float64),  # base units the mark swept since the last value of open interest
        ("swept_usdt", np.float64),  # since the last snapshot
    ]
)
TIER_BOOK = np.dtype(
    [
        ("scale", np.float64),
        ("beyond", np.float64),  # times scale: base units that lie off the grid
        ("total", np.float64),  # base units, on and off the grid
    ]
)
REMEMBERED = np.dtype(
    [
        ("low", np.int64),  # absolute bucket
        ("high", np.int64),
        ("traded", np.float64),  # base units, NaN where unknown
    ]
)


class Book(NamedTuple):
    """All that a predictive map knows. A side's totals and what is missing are the open interest, on every bar.

    Parameters
    ----------
    columns : float64, shape (2, n_tiers, COLUMNS). Times the tier's scale: base units per bucket.
    tiers : ``TIER_BOOK``, shape (2, n_tiers)
    sides : ``SIDE``, shape (2,)
    prices : float64, shape (COLUMNS,). Middle of each column, USDT.
    ring : ``REMEMBERED``, shape (REMEMBERED_BARS,). Bar ``k`` since the last value is in row ``k % REMEMBERED_BARS``.
    now : ``NOW``, shape (1,)
    """

    columns: np.ndarray
    tiers: np.ndarray
    sides: np.ndarray
    prices: np.ndarray
    ring: np.ndarray
    now: np.ndarray


class Snapshots(NamedTuple):
    """``Profiles`` as the kernel writes them.

    Parameters
    ----------
    shown : ``SHOWN``, shape (n_snapshots,)
    mass_usdt, leverage : float32, shape (n_snapshots, 2, BUCKETS)
    """

    shown: np.ndarray
    mass_usdt: np.ndarray
    leverage: np.ndarray


def empty_book(n_tiers: int) -> Book:
    """A book that saw nothing."""
    now = np.zeros(1, NOW)
    now["mark"] = now["open_interest"] = np.nan
    tiers = np.zeros((2, n_tiers), TIER_BOOK)
    tiers["scale"] = 1.0
    sides = np.zeros(2, SIDE)
    sides["nearest"] = [-1, COLUMNS]
    return Book(
        columns=np.zeros((2, n_tiers, COLUMNS)),
        tiers=tiers,
        sides=sides,
        prices=np.zeros(COLUMNS),
        ring=np.zeros(REMEMBERED_BARS, REMEMBERED),
        now=now,
    )


def empty_snapshots(n_snapshots: int) -> Snapshots:
    """Room for snapshots, to be written whole."""
    return Snapshots(
        shown=np.empty(n_snapshots, SHOWN),
        mass_usdt=np.empty((n_snapshots, 2, BUCKETS), np.float32),
        leverage=np.empty((n_snapshots, 2, BUCKETS), np.float32),
    )
