"""The mass of a liquidation map as a picture: price rows, time columns, and colour classes that no view can move."""

from dataclasses import dataclass, replace

import numpy as np

from research.clusters.grid import BUCKETS, bucket_of, lower_edge
from research.clusters.profiles import Profiles
from research.thin import CANDLE_INTERVALS_MS

MAX_ROWS = 300
MAX_COLUMNS = 1_440
QUANTILES = (0.30, 0.60, 0.80, 0.92, 0.975, 0.995)
Z_EDGES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)

_ROW = 1e-3  # fraction of the price that a row is near
_HALF_HOUR_MS = 1_800_000
_SNAPSHOTS_AT_ONCE = 1_000
_LADDER = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class MassScale:
    """What the colours of a map mean, frozen on snapshots from before the range that is drawn.

    Attributes
    ----------
    row_usdt : height of a price row, USDT.
    edges_usdt : six lower edges of the colours, USDT at risk per row, ascending.
    typical_usdt, spread_usdt : float64, shape (n_buckets,). Mean and standard deviation of a bucket's mass by its place
        relative to the mark; NaN where nothing was ever seen. What a z-score is measured against.
    start_ms, end_ms, snapshots : what it was frozen on.
    """

    row_usdt: float
    edges_usdt: tuple[float, ...]
    typical_usdt: np.ndarray
    spread_usdt: np.ndarray
    start_ms: int
    end_ms: int
    snapshots: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Raster:
    """A map in equal rows of price and equal columns of time.

    Attributes
    ----------
    values : float32, shape (n_rows, n_columns). USDT at risk, or z-scores. NaN where no fresh snapshot was.
    low_usdt, row_usdt : lower edge of row 0 and height of a row, USDT.
    start_ms, column_ms : start of column 0 and width of a column.
    """

    values: np.ndarray
    low_usdt: float
    row_usdt: float
    start_ms: int
    column_ms: int

    @property
    def seen(self) -> np.ndarray:
        """Columns that hold a fresh snapshot; bool, shape (n_columns,)."""
        return ~np.isnan(self.values).all(axis=0)


def mass_scale(profiles: Profiles) -> MassScale:
    """Colour classes: quantiles of the mass per row and half hour, rounded to 1, 2 or 5 times a power of ten.

    Parameters
    ----------
    profiles : the snapshots of the 30 days before the range that will be drawn.

    Raises
    ------
    ValueError
        When no snapshot is fresh or none carries mass: nothing can be frozen.
    """
    fresh = is_fresh(profiles)
    if not fresh.any() or not (mass := both_sides(profiles)[fresh]).any():
        raise ValueError(
            f"colour classes of {profiles.symbol}, {profiles.source}: expected a fresh snapshot with mass, got none of "
            f"{len(profiles.time_ms)}; start earlier, or draw another source"
        )
    row = round_125(_ROW * float(np.median(profiles.mark[fresh])))
    low, high = window(profiles)
    first = max(1.0, np.floor(low / row))
    rows = int(np.ceil(high / row - first))
    cells = raster(profiles, low_usdt=row * first, rows=rows, row_usdt=row, column_ms=_HALF_HOUR_MS).values
    edges = []
    for edge in np.quantile(cells[cells > 0.0], QUANTILES):
        rounded = round_125(float(edge))
        edges.append(rounded if not edges or rounded > edges[-1] else _next_125(edges[-1]))
    seen = mass.any(axis=0)
    return MassScale(
        row_usdt=row,
        edges_usdt=tuple(edges),
        typical_usdt=np.where(seen, mass.mean(axis=0, dtype=np.float64), np.nan),
        spread_usdt=np.where(seen, mass.std(axis=0, dtype=np.float64), np.nan),
        start_ms=int(profiles.time_ms[fresh][0]),
        end_ms=int(profiles.time_ms[fresh][-1]),
        snapshots=int(fresh.sum()),
    )


def coarser(scale: MassScale) -> MassScale:
    """The same classes for the next larger row: what a row holds grows as its height does."""
    row = _next_125(scale.row_usdt)
    edges = tuple(edge * row / scale.row_usdt for edge in scale.edges_usdt)
    return replace(scale, row_usdt=row, edges_usdt=edges)


def z_scores(profiles: Profiles, scale: MassScale) -> np.ndarray:
    """How unusual a bucket's mass is at its distance from the mark: float32, shape (n_snapshots, n_buckets).

    Standard deviations from the frozen mean; NaN where the frozen range never held mass.
    """
    spread = np.where(scale.spread_usdt > 0.0, scale.spread_usdt, np.nan)
    return ((both_sides(profiles) - scale.typical_usdt) / spread).astype(np.float32)


def both_sides(profiles: Profiles) -> np.ndarray:
    """USDT at risk per bucket, float32, shape (n_snapshots, n_buckets): longs below the mark, shorts above it."""
    return profiles.mass_usdt.sum(axis=1)


def raster(
    profiles: Profiles,
    *,
    low_usdt: float,
    rows: int,
    row_usdt: float,
    column_ms: int,
    z: np.ndarray | None = None,
) -> Raster:
    """A map in rows and columns: mass is summed over price, then the largest over time is kept.

    Parameters
    ----------
    z : float, shape (n_snapshots, n_buckets), averaged over price instead of summing the mass.
    """
    fresh = np.flatnonzero(is_fresh(profiles))
    start = int(profiles.time_ms[0] // column_ms * column_ms)
    columns = int((profiles.time_ms[-1] - start) // column_ms) + 1
    values = np.full((rows, columns), np.nan, dtype=np.float32)
    if len(fresh):
        in_rows = _rows_of(profiles, fresh, low_usdt, rows, row_usdt, z)
        of = (profiles.time_ms[fresh] - start) // column_ms
        firsts = np.flatnonzero(np.diff(of, prepend=-1))
        values[:, of[firsts]] = np.maximum.reduceat(in_rows, firsts, axis=0).T
    return Raster(values=values, low_usdt=low_usdt, row_usdt=row_usdt, start_ms=start, column_ms=column_ms)


def _rows_of(
    profiles: Profiles, fresh: np.ndarray, low_usdt: float, rows: int, row_usdt: float, z: np.ndarray | None
) -> np.ndarray:
    """Mass (or mean z) per row of every fresh snapshot, float32, shape (n_fresh, n_rows)."""
    first, last = int(bucket_of(low_usdt)), int(bucket_of(low_usdt + rows * row_usdt)) + 1
    edges = lower_edge(np.arange(first, last + 1))
    row_edges = low_usdt + row_usdt * np.arange(rows + 1)
    bucket = bucket_of(row_edges) - first
    part = (row_edges - edges[bucket]) / np.diff(edges)[bucket]
    found = [np.zeros((0, rows), dtype=np.float32)]
    for some in np.array_split(fresh, max(1, len(fresh) // _SNAPSHOTS_AT_ONCE)):
        held = np.zeros((len(some), last - first))
        source = both_sides(profiles.rows(some)) if z is None else np.nan_to_num(z[some])
        for index, own in enumerate(profiles.first_bucket[some]):
            # The window of a snapshot follows its mark; the picture's does not.
            a, b = max(int(own), first), min(int(own) + BUCKETS, last)
            if a < b:
                held[index, a - first : b - first] = source[index, a - own : b - own]
        if z is not None:
            held *= np.diff(edges) / row_usdt
        below = np.cumsum(held, axis=1) - held
        found.append(np.diff(below[:, bucket] + part * held[:, bucket], axis=1).astype(np.float32))
    return np.concatenate(found)


def now_in_rows(profiles: Profiles, picture: Raster) -> np.ndarray:
    """USDT at risk per row of the last fresh snapshot; zeros where none is fresh. Shape (n_rows,)."""
    fresh = np.flatnonzero(is_fresh(profiles))
    rows = len(picture.values)
    if not len(fresh):
        return np.zeros(rows, dtype=np.float32)
    return _rows_of(profiles, fresh[-1:], picture.low_usdt, rows, picture.row_usdt, None)[0]


def window(profiles: Profiles) -> tuple[float, float]:
    """Lowest and highest price that any fresh snapshot says something about, USDT."""
    first = profiles.first_bucket[is_fresh(profiles)]
    return float(lower_edge(first.min())), float(lower_edge(first.max() + BUCKETS))


def is_fresh(profiles: Profiles) -> np.ndarray:
    """Snapshots whose inputs were all there; bool, shape (n_snapshots,)."""
    return ~profiles.is_stale & np.isfinite(profiles.mark)


def column_width_ms(profiles: Profiles) -> int:
    """The shortest usual interval that leaves at most ``MAX_COLUMNS`` columns and none without a snapshot."""
    times = profiles.time_ms
    spacing = int(np.median(np.diff(times))) if len(times) > 1 else CANDLE_INTERVALS_MS[0]
    span = int(times[-1] - times[0])
    return next(
        (one for one in CANDLE_INTERVALS_MS if one >= spacing and span / one <= MAX_COLUMNS),
        CANDLE_INTERVALS_MS[-1],
    )


def round_125(value: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, by ratio."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(f"{power * min(_LADDER, key=lambda step: abs(np.log(value / power / step))):.3g}")


def _next_125(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(value * 1.0001))
    return float(f"{power * next(step for step in _LADDER if step > value / power * 1.0001):.3g}")


def as_counts(values: np.ndarray, finest: float) -> tuple[np.ndarray, float]:
    """Mass in multiples of 1, 1 000 or 1 000 000 USDT, and that unit: uint16 where ``finest`` survives the rounding.

    That is half the bytes of float32: a month of a map is 1.2 MB of a page.
    """
    largest = float(np.nanmax(values, initial=0.0))
    unit = next((one for one in (1.0, 1e3, 1e6) if largest / one <= np.iinfo(np.uint16).max), 1e9)
    scaled = np.nan_to_num(values) / unit
    return (np.rint(scaled).astype(np.uint16) if finest >= unit else scaled.astype(np.float32)), unit
