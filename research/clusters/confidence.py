"""How likely a cluster is touched and liquidated: two factors, each fitted on the past alone.

``confidence = p_touch * p_liq_touch``. The first comes from volatility and knows nothing of maps (touch.py). The second
is a ridge logistic regression on what the map says of the cluster, or for maps that are made of forced orders only, the
rate at which touches of that side and distance were liquidated, drawn to the symbol's mean where there were few.

Fits are made at whole days of UTC, from outcomes known by then: an outcome is known a horizon after its prediction, so
that training and use never overlap. Below ``min_touches`` touches on ``min_days`` days the second factor is NaN, and so
is confidence. ``calibrated`` says that the predictions made so far passed the gate of validation/calibration.py.
"""

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.liquidated import FEATURES, cells, features, means, rates
from research.clusters.outcomes import Orders, Question, marks_of, orders_of, outcomes
from research.clusters.regression import Fit, Isotonic, fit_ridge
from research.clusters.touch import TouchSamples, fit_touch, p_touch, touch_samples
from research.clusters.validation.calibration import GATE, passes, scores

GATE_DRAWS = 400
GATE_LEVEL = 0.99  # the gate is asked again at every fit: at 95 % one of the many answers would be luck


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """How confidence is fitted.

    Parameters
    ----------
    question : horizon, and what counts as a liquidation.
    min_touches, min_days : touches and distinct UTC days with a touch below which nothing is said.
    refit_s : fits stand at multiples of this.
    ridge : penalty of the logistic regression, in touches.
    prior_touches : how many touches the symbol's mean rate counts for in every side and band.
    rows_per_horizon : at most so many rows of a cluster in a horizon are trained on; those of one touch share its
        weight.
    """

    question: Question
    min_touches: int = 200
    min_days: int = 20
    refit_s: int = 86_400
    ridge: float = 2.0
    prior_touches: float = 20.0
    rows_per_horizon: int = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class ConfidenceFit:
    """What was known at one moment.

    Parameters
    ----------
    calib_id : kind, horizon, UTC day and a hash of the numbers below.
    fitted_ms : the moment; everything it is made of was known by then.
    correction : of p_touch; None while the past is too short.
    fill : float64, shape (n_features,), taken where a feature is missing.
    regression : of p_liq_touch, for maps of positions; None too early.
    chances : float64, shape (2, n_bands), p_liq_touch of maps of forced orders; None too early.
    touch_base, liquidated_base : shares of the clusters touched, and of the touches liquidated, so far.
    is_calibrated : the predictions made before, whose outcomes are known, passed the gate.
    """

    calib_id: str
    fitted_ms: int
    horizon_s: int
    n_touches: int
    n_days: int
    correction: Isotonic | None
    fill: np.ndarray
    regression: Fit | None
    chances: np.ndarray | None
    touch_base: float
    liquidated_base: float
    is_calibrated: bool = False

    def predict(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Both factors of rows that have ``outcomes``' distance, sigma and band; NaN where unknown."""
        near = touch_factor(rows, self.horizon_s, self.correction)
        if self.regression is not None:
            values = features(rows, self.horizon_s)
            is_known = np.isfinite(values[:, FEATURES.index("log_deviations")])
            liquidated = self.regression.predict(np.where(np.isfinite(values), values, self.fill))
            return near, np.where(is_known, liquidated, np.nan)
        if self.chances is not None:
            side, band, is_known = cells(rows)
            return near, np.where(is_known, self.chances[side, band], np.nan)
        return near, np.full(len(rows), np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Clusters with their confidence, and what it takes to judge it.

    Parameters
    ----------
    clusters : the frame given, with dist_sigma, p_touch, p_liq_touch, confidence, horizon_s, calibrated, calib_id.
    samples : one row per cluster and horizon, with predictions, outcomes, touch_base and liquidated_base: what
        ``validation.calibration.calibration`` takes.
    fits : a row per fit: calib_id, fitted_time, n_touches, n_days, touch_base, liquidated_base, calibrated and the
        coefficients by name, per unit of the feature.
    last : the newest fit, for rows that come later; None before the first.
    """

    clusters: pl.DataFrame
    samples: pl.DataFrame
    fits: pl.DataFrame
    last: ConfidenceFit | None


def with_confidence(
    clusters: pl.DataFrame, marks: pl.DataFrame, force_orders: pl.DataFrame | None, config: ConfidenceConfig
) -> Scored:
    """Predict every living row with the fit that was known at its ``avail_time``.

    Parameters
    ----------
    clusters : CLUSTERS of one symbol and map, optionally with the columns of ``hybrid.cluster_inputs``.
    marks : minute bars of Aster's mark: ts, mark_high, mark_low, mark_close.
    force_orders : FORCE_ORDERS of the same symbol; None where nobody recorded them.
    """
    numbered = clusters.drop("row_number", strict=False).with_row_index("row_number")
    bars = marks_of(marks)
    orders: Orders | None = None if force_orders is None else orders_of(force_orders)
    horizon_s = config.question.horizon_s
    rows = outcomes(numbered, bars, orders, config.question)
    asked = touch_samples(bars.time_ms, bars.high, bars.low, bars.close, bars.sigma, horizon_s)
    row_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
    judged = _first_of(rows, ["cluster_id"], horizon_s)
    touches = _touches(rows, config)

    columns = {name: np.full(len(rows), np.nan) for name in _PREDICTED}
    columns["p_touch"] = touch_factor(rows, horizon_s, None)
    calibrated, calib_id = np.zeros(len(rows), bool), np.full(len(rows), None, object)
    fits = []
    for fit_ms in _fit_times(row_ms, config.refit_s):
        fit = fit_at(int(fit_ms), rows, judged, touches, asked, columns, config)
        here = slice(*np.searchsorted(row_ms, [fit_ms, fit_ms + 1_000 * config.refit_s]))
        columns["p_touch"][here], columns["p_liq_touch"][here] = fit.predict(rows[here])
        columns["touch_base"][here], columns["liquidated_base"][here] = fit.touch_base, fit.liquidated_base
        columns["confidence"][here] = columns["p_touch"][here] * columns["p_liq_touch"][here]
        is_ready = fit.regression is not None or fit.chances is not None
        calibrated[here], calib_id[here] = fit.is_calibrated, fit.calib_id if is_ready else None
        fits.append(fit)
    predicted = rows.with_columns(
        (pl.col("distance") / (pl.col("sigma") * math.sqrt(horizon_s))).alias("dist_sigma"),
        *(pl.Series(name, values) for name, values in columns.items()),
        pl.lit(horizon_s, pl.Int64).alias("horizon_s"),
        pl.Series("calibrated", calibrated),
        pl.Series("calib_id", calib_id.tolist(), dtype=pl.String),
    )
    return Scored(
        clusters=_joined(numbered, predicted),
        samples=predicted[judged].drop("row_number"),
        fits=_fits_frame(fits),
        last=fits[-1] if fits else None,
    )


_PREDICTED = ("p_touch", "p_liq_touch", "confidence", "touch_base", "liquidated_base")
_EMITTED = ("dist_sigma", "p_touch", "p_liq_touch", "confidence", "horizon_s", "calibrated", "calib_id")


def fit_at(
    at_ms: int,
    rows: pl.DataFrame,
    judged: np.ndarray,
    touches: np.ndarray,
    asked: TouchSamples,
    predicted: dict[str, np.ndarray],
    config: ConfidenceConfig,
) -> ConfidenceFit:
    """The fit of what was known at a moment.

    Parameters
    ----------
    rows : ``outcomes``, by avail_time; judged, touches : indices of the rows that are counted and trained on.
    predicted : p_touch, confidence and liquidated_base of the rows so far, NaN where not predicted: for the gate.
    """
    known_ms = rows["known_time"].dt.epoch("ms").fill_null(np.iinfo(np.int64).max).to_numpy()
    known = touches[known_ms[touches] <= at_ms]
    trained = rows[known]
    weight, n_touches, n_days = _weights(trained)
    outcome = trained["is_liquidated"].cast(pl.Float64).to_numpy()
    counted = rows[judged[known_ms[judged] <= at_ms]]["is_touched"].drop_nulls()
    horizon_s = config.question.horizon_s
    correction = fit_touch(asked, at_ms, config.min_days)
    fill, regression, chances = np.zeros(len(FEATURES)), None, None
    if n_touches >= config.min_touches and n_days >= config.min_days:
        if _is_reactive(rows):
            chances = rates(trained, outcome, weight, config.prior_touches)
        else:
            values = features(trained, horizon_s)
            fill = means(values, weight)
            full = np.where(np.isfinite(values), values, fill)
            regression = fit_ridge(full, outcome, family="logistic", ridge=config.ridge, weight=weight)
    numbers = [fill, *([] if correction is None else [correction.x, correction.y])]
    numbers += [] if regression is None else [regression.coefficients]
    numbers += [] if chances is None else [chances]
    kind = "rate" if chances is not None else "logistic" if regression is not None else "touch"
    return ConfidenceFit(
        calib_id=_calib_id(kind, at_ms, config, numbers),
        fitted_ms=at_ms,
        horizon_s=horizon_s,
        n_touches=n_touches,
        n_days=n_days,
        correction=correction,
        fill=fill,
        regression=regression,
        chances=chances,
        touch_base=float(counted.mean()) if len(counted) else float("nan"),
        liquidated_base=float(weight @ outcome / weight.sum()) if n_touches else float("nan"),
        is_calibrated=_gate(rows, judged[known_ms[judged] <= at_ms], predicted, config),
    )


def touch_factor(rows: pl.DataFrame, horizon_s: int, correction: Isotonic | None) -> np.ndarray:
    """p_touch of rows with distance and sigma; NaN where one is missing."""
    distance, sigma = (rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("distance", "sigma"))
    return p_touch(distance, sigma, horizon_s, correction)


def _touches(rows: pl.DataFrame, config: ConfidenceConfig) -> np.ndarray:
    """Indices of the rows before touches that are trained on: a few per cluster and horizon."""
    every_s = max(1, config.question.horizon_s // config.rows_per_horizon)
    first = _first_of(rows, ["cluster_id", "touch_time"], every_s)
    is_usable = (rows["is_touched"] & rows["is_liquidated"].is_not_null() & rows["distance"].is_not_null()).fill_null(
        False
    )
    return first[(is_usable & rows["sigma"].is_not_null()).to_numpy()[first]]


def _first_of(rows: pl.DataFrame, by: list[str], every_s: int) -> np.ndarray:
    """Index of the first row of every group in every slot of the clock."""
    slot = (pl.col("avail_time").dt.epoch("ms") // (1_000 * every_s)).alias("slot")
    first = rows.select(*by, slot).with_row_index("index").unique([*by, "slot"], keep="first", maintain_order=True)
    return first["index"].to_numpy().astype(np.int64)


def _weights(trained: pl.DataFrame) -> tuple[np.ndarray, int, int]:
    """One over the rows of the same touch; how many touches, and their UTC days."""
    if len(trained) == 0:
        return np.zeros(0), 0, 0
    weight = trained.select(1.0 / pl.len().over("cluster_id", "touch_time")).to_series().to_numpy()
    n_touches = trained.select("cluster_id", "touch_time").n_unique()
    return weight, n_touches, trained["touch_time"].dt.date().n_unique()


def _gate(rows: pl.DataFrame, counted: np.ndarray, predicted: dict[str, np.ndarray], config: ConfidenceConfig) -> bool:
    counted = counted[np.isfinite(predicted["confidence"][counted])]
    seen = rows[counted].select(
        pl.col("avail_time"),
        pl.when(pl.col("is_touched")).then(pl.col("is_liquidated")).otherwise(pl.col("is_touched")).alias("outcome"),
    )
    is_known = seen["outcome"].is_not_null().to_numpy()
    kept = counted[is_known]
    if seen.filter(is_known)["avail_time"].dt.date().n_unique() < config.min_days:
        return False
    metrics = scores(
        predicted["confidence"][kept],
        seen.filter(is_known)["outcome"].cast(pl.Float64).to_numpy(),
        (predicted["p_touch"] * predicted["liquidated_base"])[kept],
        seen.filter(is_known)["avail_time"].dt.epoch("ms").to_numpy(),
        factor="confidence",
        horizon_s=config.question.horizon_s,
        names=GATE,
        draws=GATE_DRAWS,
        level=GATE_LEVEL,
    )
    return passes(metrics, "confidence")


def _is_reactive(rows: pl.DataFrame) -> bool:
    return "source" in rows.columns and len(rows) > 0 and rows["source"][0] == "force_orders"


def _fit_times(row_ms: np.ndarray, refit_s: int) -> np.ndarray:
    if len(row_ms) == 0:
        return np.zeros(0, np.int64)
    step_ms = 1_000 * refit_s
    return np.arange(row_ms[0] // step_ms * step_ms, row_ms[-1] + 1, step_ms)


def _calib_id(kind: str, at_ms: int, config: ConfidenceConfig, numbers: list[np.ndarray]) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for values in numbers:
        digest.update(np.ascontiguousarray(values).tobytes())
    day = datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y%m%dT%H%M")
    return f"{kind}-{config.question.horizon_s}-{day}-{digest.hexdigest()[:8]}"


def _joined(numbered: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """The rows as they came; those that predict nothing have nulls."""
    new = predicted.select("row_number", *_EMITTED)
    kept = numbered.drop(*_EMITTED, strict=False)
    order = [*numbered.columns, *(name for name in _EMITTED if name not in numbered.columns)]
    joined = kept.join(new, on="row_number", how="left", maintain_order="left").select(order)
    return joined.with_columns(pl.col("calibrated").fill_null(False)).drop("row_number")


def _fits_frame(fits: list[ConfidenceFit]) -> pl.DataFrame:
    schema = {
        "calib_id": pl.String, "fitted_time": TIME_MS, "n_touches": pl.Int64, "n_days": pl.Int64,
        "touch_base": pl.Float64, "liquidated_base": pl.Float64, "calibrated": pl.Boolean, "intercept": pl.Float64,
        **dict.fromkeys(FEATURES, pl.Float64),
    }  # fmt: skip
    rows = []
    for fit in fits:
        names = ("intercept", *FEATURES)
        values = [None] * len(names) if fit.regression is None else fit.regression.coefficients.tolist()
        rows.append(
            {
                "calib_id": fit.calib_id,
                "fitted_time": datetime.fromtimestamp(fit.fitted_ms / 1_000, UTC),
                "n_touches": fit.n_touches,
                "n_days": fit.n_days,
                "touch_base": fit.touch_base,
                "liquidated_base": fit.liquidated_base,
                "calibrated": fit.is_calibrated,
                **dict(zip(names, values, strict=True)),
            }
        )
    return pl.DataFrame(rows, schema=schema)
