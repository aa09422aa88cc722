"""Does the map know where, given how far the price went: the question that distance cannot answer for it.

Reach is taken from the future on purpose: whatever moved the price there is nobody's claim here. Of the prices that
were reached, did forced orders fall where the map had mass? A map that only knows that near levels are reached first
scores nothing: it is held against its own mean profile by distance, as known at the time.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, bucket_of
from research.clusters.outcomes import BANDS, Marks, Orders, marks_of, orders_of
from research.clusters.profiles import Profiles
from research.clusters.regression import clustered_errors, fit_ridge, poisson_deviance
from research.clusters.touch import future_extremes
from research.clusters.validation.bootstrap import DRAWS, METRICS, day_of, mean, measured
from research.clusters.validation.visits import AGE_CLASSES, age_class

STEPS = HALF_WINDOW - 1  # buckets away from the mark, 1 to this, on either side
DISTANCE_SHARE = 0.1  # of the distance-only map in the one that is scored: an order in an empty bucket costs ln 10
QUANTILE_BINS = 50
RIDGE = 1.0
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


def location(
    profiles: Profiles,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame,
    *,
    horizon_s: int,
    min_print_usdt: float = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Where forced orders fell inside the reached part of the map.

    Parameters
    ----------
    profiles : a map on the prices of ``marks``.
    marks : minute bars: ts, mark_high, mark_low, mark_close. force_orders : rows of ``FORCE_ORDERS``, one symbol.

    Returns
    -------
    Frame of ``METRICS``; a sample is a forced order.

    location_quantile : mean share of the reached mass that lies nearer than the order; 0.5 where the map fits.
    location_ks : largest distance of these shares from a uniform distribution; location_ks_distance: the same of the
        distance-only map.
    location_log_gain : nats per order over the distance-only map. The gate: above 0 with its whole interval.
    location_unplaced : share of the orders in windows whose reached part of the map was empty.
    """
    windows = windows_of(profiles, marks_of(marks), _large(orders_of(force_orders), min_print_usdt), horizon_s)
    window, side, step = np.nonzero(windows.prints)
    copies = windows.prints[window, side, step]
    window, side, step = (np.repeat(index, copies) for index in (window, side, step))
    reach = windows.reach[window, side]
    rng = np.random.default_rng(seed)
    place = rng.random(len(window))  # inside the bucket: without it the shares of a perfect map are not uniform
    own = _quantile(windows.mass[window, side], step, reach, place)
    usual = _quantile(windows.usual[window, side], step, reach, place)
    gain = _log_gain(windows, window, side, step, reach)
    is_placed = np.isfinite(own)
    ones, settings = np.ones(len(window)), {"horizon_s": horizon_s, "draws": draws, "seed": seed}
    start_ms = windows.start_ms[window]
    placed_ms, placed = start_ms[is_placed], own[is_placed]
    rows = [
        measured("location_quantile", placed_ms, np.column_stack([placed, ones[is_placed]]), mean, **settings),
        measured("location_ks", placed_ms, _histogram(placed), _ks, **settings),
        measured("location_ks_distance", placed_ms, _histogram(usual[is_placed]), _ks, **settings),
        measured("location_log_gain", start_ms, np.column_stack([gain, ones]), mean, **settings),
        measured("location_unplaced", start_ms, np.column_stack([~is_placed, ones]), mean, **settings),
    ]
    return pl.DataFrame(rows, schema=METRICS)


def mass_effect(
    profiles: Profiles,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame,
    *,
    min_print_usdt: float = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Does more mass mean more forced orders: Poisson regression of orders per reached bucket and hour.

    ``log rate = distance + time since the mark was there + log sigma + side + beta * log mass``. Mass is floored at a
    hundredth of its side's mean. Without the second term zones at random pass, if only the price has swept them.

    Returns
    -------
    Frame of ``METRICS``; a sample is a reached bucket in an hour. Empty values where no order was seen.

    mass_beta : elasticity; interval of 1.96 standard errors by days. The gate: above 0 with its whole interval.
    mass_t : beta over its standard error by days.
    deviance_gain : share of the deviance of the model without mass that mass explains, on days it was not fitted on.
    """
    orders = _large(orders_of(force_orders), min_print_usdt)
    bars = marks_of(marks)
    windows = windows_of(profiles, bars, orders, 3_600)
    steps = np.arange(1, STEPS + 1)
    is_reached = (steps <= windows.reach[..., None]) & np.isfinite(windows.sigma)[:, None, None]
    window, side, step = np.nonzero(is_reached)
    counts = windows.prints[is_reached].astype(np.float64)
    floor = 0.01 * windows.mass.mean(axis=2)[window, side]
    is_there = floor > 0.0
    window, side, step, counts, floor = (each[is_there] for each in (window, side, step, counts, floor))
    start_ms = windows.start_ms[window]
    nothing = {"band": "all", "horizon_s": 3_600, "value": np.nan, "low": np.nan, "high": np.nan}
    size = {"n": len(counts), "n_days": len(np.unique(day_of(start_ms)))}
    if counts.sum() == 0.0 or size["n_days"] < 2:
        names = ("mass_beta", "mass_t", "deviance_gain")
        return pl.DataFrame([{"metric": name, **nothing, **size} for name in names], schema=METRICS)

    # Distance from the mark to the middle of the bucket, in bands and within them.
    away = (step + 0.5) / 1e3
    in_band = np.searchsorted(BANDS[1:], away, side="right")[:, None] == np.arange(1, len(BANDS))
    waited = _waited(windows, bars, window, side, step)[:, None] == np.arange(1, AGE_CLASSES)
    state = np.column_stack([np.log(windows.sigma[window]), side == SHORT])
    plain = np.column_stack([np.log(away), in_band, waited, state]).astype(np.float64)
    log_mass = np.log(np.maximum(windows.mass[window, side, step], floor))
    full = np.column_stack([plain, log_mass])
    day = day_of(start_ms)
    fit = fit_ridge(full, counts, family="poisson", ridge=RIDGE)
    beta, error = fit.coefficients[-1], clustered_errors(fit, full, counts, day)[-1]
    deviances = np.column_stack([_held_out(full, counts, day), _held_out(plain, counts, day)])
    settings = {"horizon_s": 3_600, "draws": draws, "seed": seed}
    low, high = beta - 1.96 * error, beta + 1.96 * error
    rows = [
        {"metric": "mass_beta", **nothing, **size, "value": beta, "low": low, "high": high},
        {"metric": "mass_t", **nothing, **size, "value": beta / error if error > 0.0 else np.nan},
        measured("deviance_gain", start_ms, deviances, lambda totals: 1.0 - mean(totals), **settings),
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


def _waited(windows: Windows, bars: Marks, window, side, step) -> np.ndarray:
    """Class of the time since the mark was in each bucket, as known at the window's start."""
    steps = np.arange(1, STEPS + 1)
    own = bucket_of(bars.close[bars.last_known(windows.start_ms)])
    ahead = own[:, None, None] + np.array([-1, 1])[:, None] * steps
    classes = age_class(bars, windows.start_ms, ahead.reshape(len(own), -1)).reshape(ahead.shape)
    return classes[window, side, step]


def _histogram(quantile: np.ndarray) -> np.ndarray:
    bins = np.minimum((quantile * QUANTILE_BINS).astype(np.int64), QUANTILE_BINS - 1)
    return (bins[:, None] == np.arange(QUANTILE_BINS)).astype(np.float64)


def _ks(totals: np.ndarray) -> np.ndarray:
    """Kolmogorov's distance from uniform, at the edges of the histogram's bins."""
    below = np.cumsum(totals, axis=-1) / totals.sum(axis=-1, keepdims=True)
    return np.abs(below - np.arange(1, QUANTILE_BINS + 1) / QUANTILE_BINS).max(axis=-1)


def _held_out(features: np.ndarray, counts: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Deviance of each row under the fit on the days of the other parity."""
    out = np.full(len(counts), np.nan)
    for parity in (0, 1):
        here = day % 2 == parity
        if here.any() and not here.all() and counts[~here].sum() > 0.0:
            fit = fit_ridge(features[~here], counts[~here], family="poisson", ridge=RIDGE)
            out[here] = poisson_deviance(counts[here], fit.predict(features[here]))
    return out


def _large(orders: Orders, min_print_usdt: float) -> Orders:
    kept = orders.usdt >= min_print_usdt
    return Orders(
        time_ms=orders.time_ms[kept], side=orders.side[kept], price=orders.price[kept], usdt=orders.usdt[kept]
    )
