"""The price grid of every map: buckets of ten basis points of log price, the same for every symbol and every day.

Bucket ``j`` holds the prices from ``exp(j * DELTA)`` up to, not including, ``exp((j + 1) * DELTA)``. It is absolute,
never derived from a sample's range, so that the future cannot move an edge.
"""

import numpy as np

DELTA = 1e-3  # width of a bucket in log price
BUCKETS = 500  # shown around the mark
HALF_WINDOW = BUCKETS // 2

LONG = 0  # longs get liquidated: forced SELL orders, below the mark
SHORT = 1  # shorts get liquidated: forced BUY orders, above the mark
SIDES = ("long", "short")

ON_THE_EDGE = 1e-9  # in buckets: a price computed to lie on an edge belongs to the bucket above it, rounding or not


def bucket_of(price: np.ndarray | float) -> np.ndarray:
    """The bucket that holds a price.

    Parameters
    ----------
    price : positive, any shape.

    Returns
    -------
    int64, same shape.

    Raises
    ------
    ValueError
        If a price is NaN, infinite or not positive: there is no bucket for it.
    """
    prices = np.asarray(price, np.float64)
    bad = prices[~(np.isfinite(prices) & (prices > 0.0))]
    if bad.size:
        raise ValueError(f"expected positive prices, got {bad[0]}; leave out the rows without a price first")
    return np.floor(np.log(prices) / DELTA + ON_THE_EDGE).astype(np.int64)


def lower_edge(bucket: np.ndarray | int) -> np.ndarray:
    """The lowest price of a bucket; its upper edge is the lower edge of the next one."""
    return np.exp(np.asarray(bucket, np.float64) * DELTA)


def centre(bucket: np.ndarray | int) -> np.ndarray:
    """The middle of a bucket in log price."""
    return np.exp((np.asarray(bucket, np.float64) + 0.5) * DELTA)


def first_bucket(mark: np.ndarray | float) -> np.ndarray:
    """The bucket of column 0 of the window centred on this mark; column ``HALF_WINDOW`` is the mark's own."""
    return bucket_of(mark) - HALF_WINDOW


def highest_long_bucket(mark: np.ndarray | float) -> np.ndarray:
    """The highest bucket that may show longs: all of it lies below the mark, its upper edge too."""
    own = bucket_of(mark)
    return np.where(lower_edge(own) < np.asarray(mark), own - 1, own - 2)


def lowest_short_bucket(mark: np.ndarray | float) -> np.ndarray:
    """The lowest bucket that may show shorts: all of it lies above the mark."""
    return bucket_of(mark) + 1
