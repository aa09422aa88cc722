"""Will a touched cluster be liquidated: what a map says of it, and how often it happened at that side and distance."""

import math

import numpy as np
import polars as pl

from research.clusters.grid import SIDES
from research.clusters.outcomes import BAND_NAMES
from research.clusters.profiles import SOURCES

FEATURES = (
    "log_mass",  # notional at risk inside it; Aster's, or the source's where only that is known
    "log_reactive",  # notional of forced orders of the past inside it, faded
    "log_deviations",  # of one and the distance in standard deviations over the horizon
    "is_short",
    "basis_deviation_bps",  # how far the level may be off on Aster
    "has_mass",
    "has_own_mass",
    "has_reactive",
    *(f"has_{source}" for source in SOURCES),
)


def features(rows: pl.DataFrame, horizon_s: int) -> np.ndarray:
    """What the regression looks at, shape (n_rows, n_features) in the order of ``FEATURES``; NaN where missing.

    Columns a map does not have (``reactive_usdt``, ``basis_deviation_bps``, ``layers``) are missing in every row.
    """
    own, foreign = _positive(rows, "open_interest"), _positive(rows, "mass_src_usd")
    mass, reactive = np.where(np.isfinite(own), own, foreign), _positive(rows, "reactive_usdt")
    distance, sigma = _column(rows, "distance"), _column(rows, "sigma")
    by_name = {
        "log_mass": np.log(mass),
        "log_reactive": np.log(reactive),
        "log_deviations": np.log1p(distance / (sigma * math.sqrt(horizon_s))),
        "is_short": (rows["side"].cast(pl.String) == "short").cast(pl.Float64).to_numpy(),
        "basis_deviation_bps": _column(rows, "basis_deviation_bps"),
        "has_mass": np.isfinite(mass).astype(np.float64),
        "has_own_mass": np.isfinite(own).astype(np.float64),
        "has_reactive": np.isfinite(reactive).astype(np.float64),
    }
    layers = rows["layers"].fill_null("").str.split("+") if "layers" in rows.columns else None
    for source in SOURCES:
        is_fresh = np.zeros(len(rows)) if layers is None else layers.list.contains(source).cast(pl.Float64).to_numpy()
        by_name[f"has_{source}"] = is_fresh
    return np.column_stack([by_name[name] for name in FEATURES])


def cells(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Side and distance band of rows as numbers, and where both are known."""
    side = rows["side"].cast(pl.Enum(SIDES)).to_physical().to_numpy().astype(np.int64)
    band = rows["band"].cast(pl.Enum(BAND_NAMES)).to_physical()
    return side, band.fill_null(0).to_numpy().astype(np.int64), band.is_not_null().to_numpy()


def shrunk_chances(liquidated: np.ndarray, touched: np.ndarray, prior_touches: float) -> np.ndarray:
    """Chance of a liquidation per touch in every cell, drawn to the mean of all where touches are few.

    Liquidations come as Poisson events whose rate per touch has a Gamma prior: the rate of all cells, worth
    ``prior_touches``. A touch shows at most one event, so k of n touches mean -n ln(1 - k / n) of them.

    Parameters
    ----------
    liquidated, touched : float64, any shape, at least one touch in all.

    Source
    ------
    Gelman et al., "Bayesian Data Analysis", 3rd edition, section 2.6: the Gamma-Poisson model and its prediction.
    """
    mean_rate = _events(liquidated.sum(), touched.sum()) / touched.sum()
    shape = _events(liquidated, touched) + prior_touches * mean_rate
    exposure = touched + prior_touches
    return 1.0 - (exposure / (exposure + 1.0)) ** shape


def _events(liquidated: np.ndarray, touched: np.ndarray) -> np.ndarray:
    seen = np.minimum(liquidated, np.maximum(touched - 0.5, 0.0))
    return -touched * np.log1p(-seen / np.maximum(touched, 1e-9))


def rates(trained: pl.DataFrame, outcome: np.ndarray, weight: np.ndarray, prior_touches: float) -> np.ndarray:
    """``shrunk_chances`` of every side and distance band, shape (2, n_bands), from rows before touches."""
    side, band, is_known = cells(trained)
    shape = (len(SIDES), len(BAND_NAMES))
    cell = np.ravel_multi_index((side, band), shape)
    size = shape[0] * shape[1]
    touched = np.bincount(cell, weight * is_known, minlength=size)
    liquidated = np.bincount(cell, weight * outcome * is_known, minlength=size)
    return shrunk_chances(liquidated, touched, prior_touches).reshape(shape)


def means(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean of each feature over the rows that have it; 0 where none does."""
    is_there = np.isfinite(values)
    total = weight @ is_there
    return np.where(total > 0.0, weight @ np.where(is_there, values, 0.0) / np.maximum(total, 1e-12), 0.0)


def _column(rows: pl.DataFrame, name: str) -> np.ndarray:
    if name not in rows.columns:
        return np.full(len(rows), np.nan)
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _positive(rows: pl.DataFrame, name: str) -> np.ndarray:
    values = _column(rows, name)
    return np.where(values > 0.0, values, np.nan)
