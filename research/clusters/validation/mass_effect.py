"""Does more mass mean more forced orders: a regression that distance, volatility and the path cannot answer for it."""

import numpy as np
import polars as pl

from research.clusters.grid import SHORT, bucket_of
from research.clusters.outcomes import BANDS, Marks, marks_of, orders_of
from research.clusters.profiles import Profiles
from research.clusters.regression import clustered_errors, fit_ridge, poisson_deviance
from research.clusters.validation.bootstrap import DRAWS, METRICS, day_of, mean, measured
from research.clusters.validation.location import STEPS, Windows, large, windows_of
from research.clusters.validation.visits import AGE_CLASSES, age_class

HOUR_S = 3_600
RIDGE = 1.0

REACHED = pl.Schema(
    {
        "symbol": pl.String,
        "start_ms": pl.Int64,  # of the hour
        "orders": pl.Float64,  # forced orders in the bucket
        "log_away": pl.Float64,  # ln of the log distance from the mark to the middle of the bucket
        "band": pl.Int64,  # of that distance
        "age_class": pl.Int64,  # of the time since the mark was there
        "log_sigma": pl.Float64,
        "is_short": pl.Boolean,
        "log_mass": pl.Float64,  # floored at a hundredth of its side's mean
    }
)


def reached_buckets(
    profiles: Profiles, marks: pl.DataFrame, force_orders: pl.DataFrame, *, min_print_usdt: float = 0.0
) -> pl.DataFrame:
    """One row per hour and bucket that was reached in it, on a side with mass; frame of ``REACHED``.

    Parameters
    ----------
    profiles, marks, force_orders : as in ``location_samples``.
    """
    bars = marks_of(marks)
    windows = windows_of(profiles, bars, large(orders_of(force_orders), min_print_usdt), HOUR_S)
    is_reached = (np.arange(1, STEPS + 1) <= windows.reach[..., None]) & np.isfinite(windows.sigma)[:, None, None]
    window, side, step = np.nonzero(is_reached)
    floor = 0.01 * windows.mass.mean(axis=2)[window, side]
    is_there = floor > 0.0
    window, side, step, floor = (each[is_there] for each in (window, side, step, floor))
    away = (step + 0.5) / 1e3
    return pl.DataFrame(
        {
            "symbol": pl.repeat(profiles.symbol, len(window), eager=True, dtype=pl.String),
            "start_ms": windows.start_ms[window],
            "orders": windows.prints[window, side, step].astype(np.float64),
            "log_away": np.log(away),
            "band": np.searchsorted(BANDS[1:], away, side="right"),
            "age_class": _age_class(windows, bars, window, side, step),
            "log_sigma": np.log(windows.sigma[window]),
            "is_short": side == SHORT,
            "log_mass": np.log(np.maximum(windows.mass[window, side, step], floor)),
        },
        schema=REACHED,
    )


def mass_effect(samples: pl.DataFrame, *, draws: int = DRAWS, seed: int = 0) -> pl.DataFrame:
    """Does more mass mean more forced orders: Poisson regression of orders per reached bucket and hour.

    ``log rate = symbol + distance + time since the mark was there + log sigma + side + beta * log mass``. Without the
    third term zones at random pass, if only the price has swept them. A symbol has its own level: how many of its
    orders are seen, and how much of its mass is placed, says nothing of the others.

    Parameters
    ----------
    samples : frame of ``REACHED``, of one symbol or several.

    Returns
    -------
    Frame of ``METRICS``; a sample is a reached bucket in an hour. Empty values where no order was seen.

    mass_beta : elasticity; interval of 1.96 standard errors by days. The gate: above 0 with its whole interval.
    mass_t : beta over its standard error by days.
    deviance_gain : share of the deviance of the model without mass that mass explains, on days it was not fitted on.
    """
    start_ms, counts = samples["start_ms"].to_numpy(), samples["orders"].to_numpy()
    day = day_of(start_ms)
    nothing = {"band": "all", "horizon_s": HOUR_S, "value": np.nan, "low": np.nan, "high": np.nan}
    size = {"n": len(counts), "n_days": len(np.unique(day))}
    if counts.sum() == 0.0 or size["n_days"] < 2:
        names = ("mass_beta", "mass_t", "deviance_gain")
        return pl.DataFrame([{"metric": name, **nothing, **size} for name in names], schema=METRICS)

    plain = np.column_stack(
        [
            samples["log_away"],
            samples["band"].to_numpy()[:, None] == np.arange(1, len(BANDS)),
            samples["age_class"].to_numpy()[:, None] == np.arange(1, AGE_CLASSES),
            samples["log_sigma"],
            samples["is_short"],
            samples["symbol"].to_numpy()[:, None] == samples["symbol"].unique().sort().to_numpy()[1:],
        ]
    ).astype(np.float64)
    full = np.column_stack([plain, samples["log_mass"]])
    fit = fit_ridge(full, counts, family="poisson", ridge=RIDGE)
    beta, error = fit.coefficients[-1], clustered_errors(fit, full, counts, day)[-1]
    deviances = np.column_stack([_held_out(full, counts, day), _held_out(plain, counts, day)])
    settings = {"horizon_s": HOUR_S, "draws": draws, "seed": seed}
    low, high = beta - 1.96 * error, beta + 1.96 * error
    rows = [
        {"metric": "mass_beta", **nothing, **size, "value": beta, "low": low, "high": high},
        {"metric": "mass_t", **nothing, **size, "value": beta / error if error > 0.0 else np.nan},
        measured("deviance_gain", start_ms, deviances, lambda totals: 1.0 - mean(totals), **settings),
    ]
    return pl.DataFrame(rows, schema=METRICS)


def _age_class(windows: Windows, bars: Marks, window, side, step) -> np.ndarray:
    """Class of the time since the mark was in each bucket, as known at the window's start."""
    steps = np.arange(1, STEPS + 1)
    own = bucket_of(bars.close[bars.last_known(windows.start_ms)])
    ahead = own[:, None, None] + np.array([-1, 1])[:, None] * steps
    classes = age_class(bars, windows.start_ms, ahead.reshape(len(own), 2 * STEPS)).reshape(ahead.shape)
    return classes[window, side, step]


def _held_out(features: np.ndarray, counts: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Deviance of each row under the fit on the days of the other parity."""
    out = np.full(len(counts), np.nan)
    for parity in (0, 1):
        here = day % 2 == parity
        if here.any() and not here.all() and counts[~here].sum() > 0.0:
            fit = fit_ridge(features[~here], counts[~here], family="poisson", ridge=RIDGE)
            out[here] = poisson_deviance(counts[here], fit.predict(features[here]))
    return out
