"""What a map is made of and what it is: the bars of one source, and snapshots of mass over price buckets."""

from dataclasses import dataclass, fields, replace

import numpy as np

from research.clusters.grid import BUCKETS

SOURCES = ("aster", "binance", "hyperliquid", "okx")  # whose open interest a predictive map is made of


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceBars:
    """One symbol's bars on one venue: all that a predictive map reads.

    Parameters
    ----------
    symbol, source : the contract and whose numbers these are, one of ``SOURCES``.
    time_ms, avail_ms : int64, shape (n_bars,)
        Close of the bar and the earliest moment at which a decision may use it, UTC. Both ascend; times are distinct.
    mark_high, mark_low, mark_close : float64, shape (n_bars,)
        Mark prices of the source, USDT. All NaN in a bar nobody saw.
    volume_usdt : float64, shape (n_bars,)
        Traded notional, one-sided. NaN where unknown: positions then turn over by the clock alone.
    open_interest : float64, shape (n_bars,)
        Base units, one-sided (a contract has one long and one short), the last one known at ``avail_ms``; NaN before
        the first.
    is_new : bool, shape (n_bars,)
        A value of open interest arrived in this bar.

    Raises
    ------
    ValueError
        If lengths differ, times do not ascend, or a value is negative.
    """

    symbol: str
    source: str
    time_ms: np.ndarray
    avail_ms: np.ndarray
    mark_high: np.ndarray
    mark_low: np.ndarray
    mark_close: np.ndarray
    volume_usdt: np.ndarray
    open_interest: np.ndarray
    is_new: np.ndarray

    def __post_init__(self) -> None:
        _check_lengths(self, len(self.time_ms))
        if (np.diff(self.time_ms) <= 0).any():
            raise ValueError(f"{self.symbol} {self.source}: expected ascending bar times; sort the bars, keep one each")
        if (np.diff(self.avail_ms) < 0).any() or (self.avail_ms < self.time_ms).any():
            raise ValueError(f"{self.symbol} {self.source}: expected avail_ms to ascend and never to precede time_ms")
        for name in ("mark_low", "open_interest", "volume_usdt"):
            if (getattr(self, name) < 0.0).any():
                raise ValueError(f"{self.symbol} {self.source}: expected {name} of 0 or more; drop those rows")

    def __len__(self) -> int:
        return len(self.time_ms)

    def rows(self, index: slice) -> "SourceBars":
        """The bars of a slice."""
        return _at(self, index)


@dataclass(frozen=True, kw_only=True, eq=False)
class Profiles:
    """Snapshots of one map: how much notional would be liquidated in which bucket of log price.

    Predictive, anchored, reactive and hybrid maps are all this. On every snapshot longs lie in buckets below the
    mark's own and shorts above it: the highest long price < ``mark`` < the lowest short price.

    Parameters
    ----------
    symbol, source : contract and origin: one of ``SOURCES`` for predictive maps, "force_orders" for reactive ones,
        "hybrid".
    time_ms, avail_ms : int64, shape (n_snapshots,)
        What moment a snapshot describes, and the earliest one at which a decision may use it, UTC.
    first_bucket : int64, shape (n_snapshots,)
        Absolute bucket of column 0 (``grid.first_bucket`` of the mark). Where the mark is missing it is that of the
        last mark seen, 0 before the first.
    mass_usdt : float32, shape (n_snapshots, 2, BUCKETS)
        One-sided notional at the bucket's price; side 0 is long, 1 is short. Never NaN.
    mark : float64, shape (n_snapshots,)
        The price the window is centred on; NaN where it is missing, and the profile is empty then.
    swept_usdt : float64, shape (n_snapshots, 2)
        Notional that the mark swept since the snapshot before, at the buckets' prices.
    open_interest_usdt : float64, shape (n_snapshots,)
        One-sided, at ``mark``; NaN where there is none.
    placed_share : float64, shape (n_snapshots,)
        Part of the open interest that lies inside the window, mean of both sides; NaN where there is none.
    is_stale : bool, shape (n_snapshots,)
        Input is missing: the mark, or open interest that is recent enough.
    leverage : float32, shape (n_snapshots, 2, BUCKETS), or None
        Mean leverage per bucket, weighted by mass; NaN in empty buckets. Predictive maps only.
    basis_bps, basis_deviation_bps : float64, shape (n_snapshots,), or None
        Where an anchored map moved its mass, and how uncertain that is.
    masked_usdt : float64, shape (n_snapshots,), or None
        Mass that anchoring took across the mark and that is therefore not shown.

    Raises
    ------
    ValueError
        If a shape is another one.
    """

    symbol: str
    source: str
    time_ms: np.ndarray
    avail_ms: np.ndarray
    first_bucket: np.ndarray
    mass_usdt: np.ndarray
    mark: np.ndarray
    swept_usdt: np.ndarray
    open_interest_usdt: np.ndarray
    placed_share: np.ndarray
    is_stale: np.ndarray
    leverage: np.ndarray | None = None
    basis_bps: np.ndarray | None = None
    basis_deviation_bps: np.ndarray | None = None
    masked_usdt: np.ndarray | None = None

    def __post_init__(self) -> None:
        n_snapshots = len(self.time_ms)
        _check_lengths(self, n_snapshots)
        for name, shape in (("mass_usdt", (2, BUCKETS)), ("leverage", (2, BUCKETS)), ("swept_usdt", (2,))):
            values = getattr(self, name)
            if values is not None and values.shape != (n_snapshots, *shape):
                expected = (n_snapshots, *shape)
                raise ValueError(
                    f"{self.symbol} {self.source}: expected {name} of shape {expected}, got {values.shape}"
                )

    def __len__(self) -> int:
        return len(self.time_ms)

    def rows(self, index: slice | np.ndarray) -> "Profiles":
        """The snapshots of a slice, of a boolean mask or of row numbers."""
        return _at(self, index)


def _arrays(record: SourceBars | Profiles) -> dict[str, np.ndarray]:
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _check_lengths(record: SourceBars | Profiles, length: int) -> None:
    for name, values in _arrays(record).items():
        if len(values) != length:
            raise ValueError(f"{record.symbol} {record.source}: expected {length} values of {name}, got {len(values)}")


def _at(record, index):
    return replace(record, **{name: values[index] for name, values in _arrays(record).items()})
