"""Does the map know where, given how far the price went: the question that distance cannot answer for it.

Reach is taken from the future on purpose: whatever moved the price there is nobody's claim here. Of the prices that
were reached, did forced orders fall where the map had mass? A map that only knows that near levels are reached first
scores nothing: it is held against its own mean profile by distance, as known at the time.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, bucket_of
from research.clusters.outcomes import Marks, Orders, marks_of, orders_of
from research.clusters.profiles import Profiles
from research.clusters.touch import future_extremes
from research.clusters.validation.bootstrap import DRAWS, METRICS, mean, measured

STEPS = HALF_WINDOW - 1  # buckets away from the mark, 1 to this, on either side
DISTANCE_SHARE = 0.1  # of the distance-only map in the one that is scored: an order in an empty bucket costs ln 10
QUANTILE_BINS = 50
MAX_AGE_S = 3_600


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Windows that do not overlap, each with the map known at its start and what was reached by its end.

    Parameters
    ----------
    start_ms : int64, shape (n,)
    mass : float64, shape (n, 2, STEPS), by side and buckets away from the mark, the nearest first.
    usual : the same of the distance-only map: the mean share at each distance in the windows so far, sums to 1.
    reach : int64, shape (n, 2), buckets that the mark or a forced order came to; 0 where none.
    prints : int64, shape (n, 2, STEPS), forced orders by bucket.
    sigma : float64, shape (n,), volatility known at the start.
    """

    start_ms: np.ndarray
    mass: np.ndarray
    usual: np.ndarray
    reach: np.ndarray
    prints: np.ndarray
    sigma: np.ndarray


LOCATED = pl.Schema(
    {
        "symbol": pl.String,
        "start_ms": pl.Int64,  # of its window
        "quantile": pl.Float64,  # share of the reached mass that lies nearer than the order; NaN where none was reached
        "usual_quantile": pl.Float64,  # the same of the distance-only map
        "log_gain": pl.Float64,  # nats over the distance-only map
    }
)


def location_samples(
    profiles: Profiles,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame,
    *,
    horizon_s: int,
    min_print_usdt: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per forced order ahead of the mark: where it fell inside the reached part of the map.

    Parameters
    ----------
    profiles : a map on the prices of ``marks``.
    marks : minute bars: ts, mark_high, mark_low, mark_close. force_orders : rows of ``FORCE_ORDERS``, one symbol.

    Returns
    -------
    Frame of ``LOCATED``; those of several symbols may be put together.
    """
    windows = windows_of(profiles, marks_of(marks), large(orders_of(force_orders), min_print_usdt), horizon_s)
    window, side, step = np.nonzero(windows.prints)
    copies = windows.prints[window, side, step]
    window, side, step = (np.repeat(index, copies) for index in (window, side, step))
    reach = windows.reach[window, side]
    # Somewhere inside the bucket: without it the shares of a perfect map are not uniform.
    place = np.random.default_rng(seed).random(len(window))
    return pl.DataFrame(
        {
            "symbol": pl.repeat(profiles.symbol, len(window), eager=True, dtype=pl.String),
            "start_ms": windows.start_ms[window],
            "quantile": _quantile(windows.mass[window, side], step, reach, place),
            "usual_quantile": _quantile(windows.usual[window, side], step, reach, place),
            "log_gain": _log_gain(windows, window, side, step, reach),
        },
        schema=LOCATED,
    )


def location(samples: pl.DataFrame, *, horizon_s: int, draws: int = DRAWS, seed: int = 0) -> pl.DataFrame:
    """Where forced orders fell inside the reached part of the map, over all symbols of ``samples``.

    The symbols of a day are one block: when one is liquidated, so are the others.

    Returns
    -------
    Frame of ``METRICS``; a sample is a forced order.

    location_quantile : mean share of the reached mass that lies nearer than the order; 0.5 where the map fits.
    location_ks : largest distance of these shares from a uniform distribution; location_ks_distance: the same of the
        distance-only map.
    location_log_gain : nats per order over the distance-only map. The gate: above 0 with its whole interval.
    location_unplaced : share of the orders in windows whose reached part of the map was empty.
    """
    start_ms, own, usual, gain = (samples[name].to_numpy() for name in LOCATED.names()[1:])
    is_placed = np.isfinite(own)
    ones, settings = np.ones(len(own)), {"horizon_s": horizon_s, "draws": draws, "seed": seed}
    placed_ms, placed = start_ms[is_placed], own[is_placed]
    rows = [
        measured("location_quantile", placed_ms, np.column_stack([placed, ones[is_placed]]), mean, **settings),
        measured("location_ks", placed_ms, _histogram(placed), _ks, **settings),
        measured("location_ks_distance", placed_ms, _histogram(usual[is_placed]), _ks, **settings),
        measured("location_log_gain", start_ms, np.column_stack([gain, ones]), mean, **settings),
        measured("location_unplaced", start_ms, np.column_stack([~is_placed, ones]), mean, **settings),
    ]
    return pl.DataFrame(rows, schema=METRICS)


def windows_of(profiles: Profiles, marks: Marks, orders: Orders, horizon_s: int) -> Windows:
    """Windows at whole multiples of the horizon for which there is a map, a mark, and marks until the end.

    Windows before the first forced order are left out: nobody may have listened.
    """
    step_ms = 1_000 * horizon_s
    first_order = orders.time_ms[0] if len(orders.time_ms) else np.iinfo(np.int64).max
    if len(marks.time_ms) == 0 or len(profiles) == 0 or first_order > marks.time_ms[-1]:
        return _no_windows()
    start_ms = np.arange(-(-max(marks.time_ms[0], first_order) // step_ms), marks.time_ms[-1] // step_ms + 1) * step_ms
    row = np.searchsorted(profiles.avail_ms, start_ms, side="right") - 1
    bar = marks.last_known(start_ms)
    highest, lowest, _ = future_extremes(marks.time_ms, marks.high, marks.low, start_ms, horizon_s)
    close = np.where(bar >= 0, marks.close[bar], np.nan)
    age_ms = start_ms - profiles.avail_ms[np.maximum(row, 0)]
    usable = (row >= 0) & ~profiles.is_stale[np.maximum(row, 0)] & (age_ms <= 1_000 * MAX_AGE_S)
    usable &= np.isfinite(close) & np.isfinite(highest) & np.isfinite(lowest)
    start_ms, row, close, highest, lowest = (each[usable] for each in (start_ms, row, close, highest, lowest))
    if len(start_ms) == 0:
        return _no_windows()

    own = bucket_of(close)
    mass = _by_steps(profiles, row, own)
    reach = np.stack([own - bucket_of(lowest), bucket_of(highest) - own], axis=1)
    prints, furthest = _prints(orders, start_ms, own, step_ms)
    share = mass / np.maximum(mass.sum(axis=2, keepdims=True), 1e-300)
    usual = np.cumsum(share, axis=0)
    # A hundredth spread evenly, so that no reached bucket is impossible to the distance-only map.
    usual = 0.99 * usual / np.maximum(usual.sum(axis=2, keepdims=True), 1e-300) + 0.01 / STEPS
    return Windows(
        start_ms=start_ms,
        mass=mass,
        usual=usual,
        reach=np.clip(np.maximum(reach, furthest), 0, STEPS),
        prints=prints,
        sigma=marks.sigma[marks.last_known(start_ms)],
    )


def _no_windows() -> Windows:
    shape = (0, 2, STEPS)
    return Windows(
        start_ms=np.zeros(0, np.int64), mass=np.zeros(shape), usual=np.zeros(shape), reach=np.zeros((0, 2), np.int64),
        prints=np.zeros(shape, np.int64), sigma=np.zeros(0),
    )  # fmt: skip


def _by_steps(profiles: Profiles, row: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Mass by side and steps away from the mark's bucket at the window's start, shape (n, 2, STEPS)."""
    steps = np.arange(1, STEPS + 1)
    out = np.zeros((len(row), 2, STEPS))
    for side, direction in ((LONG, -1), (SHORT, 1)):
        column = (own - profiles.first_bucket[row])[:, None] + direction * steps
        is_inside = (column >= 0) & (column < BUCKETS)
        taken = profiles.mass_usdt[row[:, None], side, np.clip(column, 0, BUCKETS - 1)]
        out[:, side] = np.where(is_inside, taken, 0.0)
    return out


def _prints(orders: Orders, start_ms: np.ndarray, own: np.ndarray, step_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders by window, side and step, and the furthest step of each; those on the wrong side of the mark are left."""
    prints = np.zeros((len(start_ms), 2, STEPS), np.int64)
    furthest = np.zeros((len(start_ms), 2), np.int64)
    window = np.searchsorted(start_ms, orders.time_ms, side="left") - 1
    is_inside = (window >= 0) & (orders.time_ms <= start_ms[np.maximum(window, 0)] + step_ms)
    window, side = window[is_inside], orders.side[is_inside]
    step = np.where(side == LONG, -1, 1) * (bucket_of(orders.price[is_inside]) - own[window])
    is_ahead = (step >= 1) & (step <= STEPS)
    window, side, step = window[is_ahead], side[is_ahead], step[is_ahead]
    np.add.at(prints, (window, side, step - 1), 1)
    np.maximum.at(furthest, (window, side), step)
    return prints, furthest


def _quantile(mass: np.ndarray, step: np.ndarray, reach: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Share of the reached mass nearer than each order; NaN where none was reached. ``step`` counts from 0."""
    if len(step) == 0:
        return np.zeros(0)
    until = np.concatenate([np.zeros((len(step), 1)), np.cumsum(mass, axis=1)], axis=1)
    each = np.arange(len(step))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (until[each, step] + place * mass[each, step]) / until[each, reach]


def _log_gain(windows: Windows, window, side, step, reach) -> np.ndarray:
    """Log density of the map over that of the distance-only map at each order, within the reach."""
    is_reached = np.arange(1, STEPS + 1) <= reach[:, None]
    own, usual = (np.where(is_reached, mass[window, side], 0.0) for mass in (windows.mass, windows.usual))
    each = np.arange(len(window))
    expected = usual[each, step] / np.maximum(usual.sum(axis=1), 1e-300)
    total = own.sum(axis=1)
    shown = np.where(total > 0.0, own[each, step] / np.maximum(total, 1e-300), expected)
    return np.log((1.0 - DISTANCE_SHARE) * shown / np.maximum(expected, 1e-300) + DISTANCE_SHARE)


def _histogram(quantile: np.ndarray) -> np.ndarray:
    bins = np.minimum((quantile * QUANTILE_BINS).astype(np.int64), QUANTILE_BINS - 1)
    return (bins[:, None] == np.arange(QUANTILE_BINS)).astype(np.float64)


def _ks(totals: np.ndarray) -> np.ndarray:
    """Kolmogorov's distance from uniform, at the edges of the histogram's bins."""
    below = np.cumsum(totals, axis=-1) / totals.sum(axis=-1, keepdims=True)
    return np.abs(below - np.arange(1, QUANTILE_BINS + 1) / QUANTILE_BINS).max(axis=-1)


def large(orders: Orders, min_print_usdt: float) -> Orders:
    """The orders of this notional or more."""
    kept = orders.usdt >= min_print_usdt
    return Orders(
        time_ms=orders.time_ms[kept], side=orders.side[kept], price=orders.price[kept], usdt=orders.usdt[kept]
    )
