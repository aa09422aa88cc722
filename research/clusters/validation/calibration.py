"""Does 0.3 mean 30 %: reliability, Brier score and its parts, skill over distance alone, and the gate.

Brier, G. (1950); Murphy, A. (1973), "A new vector partition of the probability score"; the two parts within bins that
make Murphy's identity exact for forecasts that differ inside a bin: Stephenson, Coelho and Jolliffe (2008).
"""

from collections.abc import Collection

import numpy as np
import polars as pl

from research.clusters.validation.bootstrap import DRAWS, LEVEL, METRICS, block_days, day_sums, interval, mean

BINS = 10
MAX_ECE = 0.05
GATE = ("brier_skill", "ece")
SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1 in the log score

# What each factor foretells, and the forecast that it is held against.
FACTORS = {
    "p_touch": (pl.col("is_touched"), pl.col("touch_base")),
    "p_liq_touch": (pl.col("is_liquidated"), pl.col("liquidated_base")),
    "confidence": (
        pl.when(pl.col("is_touched")).then(pl.col("is_liquidated")).otherwise(pl.col("is_touched")),
        pl.col("p_touch") * pl.col("liquidated_base"),
    ),
}

RELIABILITY = pl.Schema(
    {
        "factor": pl.String,  # p_touch, p_liq_touch, confidence
        "predicted_low": pl.Float64,
        "predicted_high": pl.Float64,
        "predicted": pl.Float64,  # mean in the bin
        "observed": pl.Float64,  # frequency in the bin
        "low": pl.Float64,  # interval of the frequency by days
        "high": pl.Float64,
        "n": pl.Int64,
        "n_days": pl.Int64,
    }
)
SCORES = pl.Schema(
    {
        "factor": pl.String,
        "ece": pl.Float64,
        "brier_skill": pl.Float64,
        "brier_skill_low": pl.Float64,
        "brier_skill_high": pl.Float64,
        "n": pl.Int64,
        "n_days": pl.Int64,
        "calibrated": pl.Boolean,  # the gate holds
    }
)


def bins_of(predicted: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Number of the equal-mass bin of each prediction, from 0 without holes; equal predictions share one bin."""
    if len(predicted) == 0:
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(predicted, np.arange(1, bins) / bins))
    return np.unique(np.searchsorted(edges, predicted, side="left"), return_inverse=True)[1]


def brier_parts(predicted: np.ndarray, outcome: np.ndarray, bins: int = BINS) -> dict[str, float]:
    """Brier score and its parts: ``brier = reliability - resolution + uncertainty + within_bin``, exactly.

    Parameters
    ----------
    predicted : float64, shape (n,), 0 to 1.
    outcome : 0 or 1, shape (n,).

    Returns
    -------
    within_bin : what predictions that differ inside a bin add; 0 where each bin holds one prediction.
    """
    number = bins_of(predicted, bins)
    weight = np.bincount(number) / len(outcome)
    mean_predicted = np.bincount(number, predicted) / np.bincount(number)
    observed = np.bincount(number, outcome) / np.bincount(number)
    base = np.mean(outcome)
    inside = predicted - mean_predicted[number]
    return {
        "brier": float(np.mean(np.square(predicted - outcome))),
        "reliability": float(weight @ np.square(mean_predicted - observed)),
        "resolution": float(weight @ np.square(observed - base)),
        "uncertainty": float(base * (1.0 - base)),
        "within_bin": float(np.mean(np.square(inside) - 2.0 * inside * (outcome - observed[number]))),
    }


def reliability(
    predicted: np.ndarray,
    outcome: np.ndarray,
    time_ms: np.ndarray,
    *,
    factor: str,
    horizon_s: int,
    bins: int = BINS,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Frequency against prediction in equal-mass bins, with intervals by days.

    Parameters
    ----------
    predicted, outcome : shape (n,), finite.
    time_ms : int64, when each prediction was made.

    Returns
    -------
    Frame of ``RELIABILITY``, a row per bin, rising; empty without samples.
    """
    number = bins_of(predicted, bins)
    rows = []
    for bin_number in range(number.max(initial=-1) + 1):
        inside = number == bin_number
        days, sums = day_sums(time_ms[inside], np.column_stack([outcome[inside], np.ones(inside.sum())]))
        low, high = interval(sums, mean, block_days=block_days(horizon_s), draws=draws, seed=seed)
        rows.append(
            {
                "factor": factor,
                "predicted_low": predicted[inside].min(),
                "predicted_high": predicted[inside].max(),
                "predicted": predicted[inside].mean(),
                "observed": float(outcome[inside].mean()),
                "low": low,
                "high": high,
                "n": int(inside.sum()),
                "n_days": len(days),
            }
        )
    return pl.DataFrame(rows, schema=RELIABILITY)


def scores(
    predicted: np.ndarray,
    outcome: np.ndarray,
    reference: np.ndarray,
    time_ms: np.ndarray,
    *,
    factor: str,
    horizon_s: int,
    names: Collection[str] | None = None,
    bins: int = BINS,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> pl.DataFrame:
    """Brier score and parts, its skill over a reference forecast, expected calibration error, log score and its skill.

    Skill is 1 less the score over the reference's: 0 adds nothing to it, below 0 harms.

    Parameters
    ----------
    predicted, outcome, reference : float64, shape (n,), finite; time_ms : int64.
    names : metrics to compute; all if None.

    Returns
    -------
    Frame of ``METRICS`` with the factor as band: brier, reliability, resolution, uncertainty, within_bin, brier_skill,
    ece, log_score, log_skill. All NaN without samples.
    """
    statistics = {name: each for name, each in _STATISTICS.items() if names is None or name in names}
    if len(outcome) == 0:
        nothing = {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0, "n_days": 0}
        rows = [{"metric": name, "band": factor, "horizon_s": horizon_s, **nothing} for name in statistics]
        return pl.DataFrame(rows, schema=METRICS)
    number = bins_of(predicted, bins)
    in_bin = np.eye(number.max() + 1)[number]
    inside = predicted - (np.bincount(number, predicted) / np.bincount(number))[number]
    observed = (np.bincount(number, outcome) / np.bincount(number))[number]
    columns = np.column_stack(
        [
            np.ones(len(outcome)),
            outcome,
            np.square(predicted - outcome),
            np.square(reference - outcome),
            _log_loss(predicted, outcome),
            _log_loss(reference, outcome),
            np.square(inside) - 2.0 * inside * (outcome - observed),
            in_bin,
            in_bin * predicted[:, None],
            in_bin * outcome[:, None],
        ]
    )
    days, sums = day_sums(time_ms, columns)
    rows = []
    for name, statistic in statistics.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(statistic(sums.sum(axis=0)))
        low, high = interval(sums, statistic, block_days=block_days(horizon_s), draws=draws, level=level, seed=seed)
        rows.append(
            {"metric": name, "band": factor, "horizon_s": horizon_s, "value": value, "low": low, "high": high,
             "n": len(outcome), "n_days": len(days)}
        )  # fmt: skip
    return pl.DataFrame(rows, schema=METRICS)


def passes(metrics: pl.DataFrame, factor: str) -> bool:
    """The gate: Brier skill is above 0 with its whole interval, and the expected calibration error is small."""
    rows = metrics.filter(pl.col("band") == factor)
    skill = rows.filter(pl.col("metric") == "brier_skill")
    error = rows.filter(pl.col("metric") == "ece")
    return len(skill) == 1 and len(error) == 1 and bool(skill["low"][0] > 0.0 and error["value"][0] <= MAX_ECE)


def calibration(
    samples: pl.DataFrame, horizon_s: int, *, bins: int = BINS, draws: int = DRAWS, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judge both factors and their product on predictions that were made before their outcomes.

    Parameters
    ----------
    samples : rows of ``confidence.Scored.samples`` (avail_time, p_touch, p_liq_touch, confidence, touch_base,
        liquidated_base, is_touched, is_liquidated), one horizon, one or several symbols. Rows whose prediction or
        outcome is missing are left out.

    Returns
    -------
    bins : frame of ``RELIABILITY``.
    metrics : frame of ``METRICS``, the factor as band. p_touch is held against the share that was touched so far,
        p_liq_touch (touched rows only) against the share liquidated so far, confidence against p_touch times that.
    """
    tables, metrics = [], []
    for factor in FACTORS:
        rows = judged_rows(samples, factor)
        predicted, outcomes, references = (rows[name].to_numpy() for name in ("predicted", "outcome", "reference"))
        time_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
        settings = {"factor": factor, "horizon_s": horizon_s, "bins": bins, "draws": draws, "seed": seed}
        tables.append(reliability(predicted, outcomes, time_ms, **settings))
        metrics.append(scores(predicted, outcomes, references, time_ms, **settings))
    return pl.concat(tables), pl.concat(metrics)


def judged_rows(samples: pl.DataFrame, factor: str) -> pl.DataFrame:
    """The rows by which a factor is judged: avail_time, predicted, outcome, reference, and symbol where it is given."""
    outcome, reference = FACTORS[factor]
    columns = {"predicted": pl.col(factor), "outcome": outcome.cast(pl.Float64), "reference": reference}
    return samples.select("avail_time", pl.col("^symbol$"), **columns).fill_nan(None).drop_nulls()


def score_card(metrics: pl.DataFrame) -> pl.DataFrame:
    """One row of ``SCORES`` per factor, with the gate's answer."""
    rows = []
    for factor in metrics["band"].unique(maintain_order=True):
        by_name = {row["metric"]: row for row in metrics.filter(pl.col("band") == factor).to_dicts()}
        skill = by_name["brier_skill"]
        rows.append(
            {
                "factor": factor,
                "ece": by_name["ece"]["value"],
                "brier_skill": skill["value"],
                "brier_skill_low": skill["low"],
                "brier_skill_high": skill["high"],
                "n": skill["n"],
                "n_days": skill["n_days"],
                "calibrated": passes(metrics, factor),
            }
        )
    return pl.DataFrame(rows, schema=SCORES)


def _log_loss(predicted: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    kept = np.clip(predicted, SMALLEST, 1.0 - SMALLEST)
    return -(outcome * np.log(kept) + (1.0 - outcome) * np.log1p(-kept))


def _in_bins(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of the samples, mean prediction and frequency per bin; a bin that no drawn day has counts nothing."""
    count, predicted, outcome = np.split(totals[..., 7:], 3, axis=-1)
    filled = np.maximum(count, 1.0)
    return count / totals[..., :1], predicted / filled, outcome / filled


def _reliability(totals: np.ndarray) -> np.ndarray:
    share, predicted, observed = _in_bins(totals)
    return (share * np.square(predicted - observed)).sum(axis=-1)


def _resolution(totals: np.ndarray) -> np.ndarray:
    share, _, observed = _in_bins(totals)
    return (share * np.square(observed - totals[..., 1:2] / totals[..., :1])).sum(axis=-1)


def _ece(totals: np.ndarray) -> np.ndarray:
    share, predicted, observed = _in_bins(totals)
    return (share * np.abs(predicted - observed)).sum(axis=-1)


_STATISTICS = {
    "brier": lambda totals: totals[..., 2] / totals[..., 0],
    "reliability": _reliability,
    "resolution": _resolution,
    "uncertainty": lambda totals: totals[..., 1] / totals[..., 0] * (1.0 - totals[..., 1] / totals[..., 0]),
    "within_bin": lambda totals: totals[..., 6] / totals[..., 0],
    "brier_skill": lambda totals: 1.0 - totals[..., 2] / totals[..., 3],
    "ece": _ece,
    "log_score": lambda totals: totals[..., 4] / totals[..., 0],
    "log_skill": lambda totals: 1.0 - totals[..., 4] / totals[..., 5],
}
