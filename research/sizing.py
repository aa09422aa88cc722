"""How large an entry is wanted: what open interest and the crowd make of it (prior-art 002, strategy 4).

A strategy says which side, this says how much of what ``Orders`` ask for, and ``fills.entry_quantity`` what the
exchange takes of it. More open interest is taken for more liquidity; against a crowded side a position is larger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, kw_only=True)
class OpenInterestSize:
    """Thresholds and multiples; those of prior-art 002 unless given."""

    large_usdt: float = 5e9  # open interest, one-sided, above which a market is large
    medium_usdt: float = 1e9
    large_multiple: float = 1.5
    medium_multiple: float = 1.0
    small_multiple: float = 0.5
    crowded_long_ratio: float = 1.2  # long / short above which longs are the crowd
    crowded_short_ratio: float = 0.8  # under which shorts are
    against_crowd_multiple: float = 1.2

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name):g} must be above 0")
        if not self.medium_usdt <= self.large_usdt:
            raise ValueError(f"medium_usdt {self.medium_usdt:g} is above large_usdt {self.large_usdt:g}; swap them")
        if not self.crowded_short_ratio <= self.crowded_long_ratio:
            raise ValueError(
                f"crowded_short_ratio {self.crowded_short_ratio:g} is above crowded_long_ratio "
                f"{self.crowded_long_ratio:g}: both sides would be the crowd; swap them"
            )


def size_features(size: OpenInterestSize | None) -> tuple[str, ...]:
    """Names of the features that ``size_multiples`` reads; none for a size that is always the same."""
    return () if size is None else ("open_interest_usdt", "long_short_ratio")


def unscaled(n_rows: int) -> np.ndarray:
    """Multiples of a size that is always the same: ones, shape (2, n_rows)."""
    return np.ones((2, n_rows))


def size_multiples(size: OpenInterestSize | None, features: Mapping[str, np.ndarray], n_rows: int) -> np.ndarray:
    """How many times the size in ``Orders`` an entry on each row has.

    Parameters
    ----------
    size : None for the same size always.
    features : array of shape (n_rows,) per name of ``size_features``.

    Returns
    -------
    float64, shape (2, n_rows)
        Of a long and of a short. NaN where the open interest is not known: no size, no entry. Without a ratio there is
        no crowd.
    """
    if size is None:
        return unscaled(n_rows)
    usdt, ratio = (features[name] for name in size_features(size))
    multiple = np.where(usdt > size.medium_usdt, size.medium_multiple, size.small_multiple)
    multiple = np.where(usdt > size.large_usdt, size.large_multiple, multiple)
    multiple = np.where(usdt >= 0.0, multiple, np.nan)
    against = multiple * size.against_crowd_multiple
    is_against = np.stack([ratio < size.crowded_short_ratio, ratio > size.crowded_long_ratio])
    return np.where(is_against, against, multiple)
