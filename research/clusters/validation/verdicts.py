"""What may be said of a map: one row per question, in plain words, and nothing before there is enough to say it.

A result is a figure with an interval whose blocks are days. A gate says which side of a limit it must lie on to be
evidence. Below twenty days with events or five symbols no result is called one way or the other: 56,000 samples of one
symbol-month are some thirty observations.

Every row is judged by itself at its own level, so many rows are many tests: ``by_chance`` says how many of them a map
that knows nothing passes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from research.clusters.validation.bootstrap import LEVEL

MIN_DAYS = 20
MIN_SYMBOLS = 5

EVIDENCE, NO_EVIDENCE, TOO_LITTLE = "evidence", "no evidence", "too little data"

RESULTS = pl.Schema(
    {
        "metric": pl.String,  # key of GATES
        "band": pl.String,  # part of the samples: "all", a distance band, a side, a kind of placebo map
        "horizon_s": pl.Int64,
        "value": pl.Float64,
        "low": pl.Float64,  # interval by days; NaN where the figure has none
        "high": pl.Float64,
        "n": pl.Int64,  # samples
        "n_days": pl.Int64,  # distinct UTC days with samples
        "n_symbols": pl.Int64,  # null where the caller gave no number
    }
)

VERDICTS = pl.Schema(
    {
        "question": pl.String,
        **RESULTS,
        "gate": pl.String,  # what would be evidence
        "verdict": pl.String,  # EVIDENCE, NO_EVIDENCE, TOO_LITTLE
        "sentence": pl.String,
    }
)

Rule = Literal["low above", "high below", "interval excludes", "value at most", "value at least"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """How one metric is judged.

    Parameters
    ----------
    rule, limit : "low above" wants the whole interval above the limit, "interval excludes" the limit outside of it,
        "value at most" looks at the figure alone.
    evidence, below : what evidence says; ``below`` where it says another thing under the limit than above it.
    nothing : what is said without evidence.
    unit, scale, decimals : how the figure is told; ``scale`` multiplies it.
    is_p_value : the figure is the share of maps that know nothing which do as well.
    """

    question: str
    rule: Rule
    limit: float
    evidence: str
    nothing: str
    below: str = ""
    unit: str = ""
    scale: float = 1.0
    decimals: int = 2
    is_p_value: bool = False

    @property
    def by_chance(self) -> float:
        """Share of maps that know nothing which pass; 0 for a gate that is no test against chance."""
        if self.rule.startswith("value"):
            return self.limit if self.is_p_value else 0.0
        return (1.0 - LEVEL) / (1 if self.rule == "interval excludes" else 2)

    def says(self) -> str:
        """The gate in words: "interval above 0 bps"."""
        limit = self._told(self.limit)
        return {
            "low above": f"interval above {limit}",
            "high below": f"interval below {limit}",
            "interval excludes": f"interval without {limit}",
            "value at most": f"at most {limit}",
            "value at least": f"at least {limit}",
        }[self.rule]

    def holds(self, value: float, low: float, high: float) -> bool:
        """Whether the figure is evidence; a NaN never is."""
        return {
            "low above": low > self.limit,
            "high below": high < self.limit,
            "interval excludes": low > self.limit or high < self.limit,
            "value at most": value <= self.limit,
            "value at least": value >= self.limit,
        }[self.rule]

    def is_known(self, value: float, low: float, high: float) -> bool:
        """Whether the numbers that the rule looks at are there."""
        looked_at = (value,) if self.rule.startswith("value") else (low, high)
        return not any(math.isnan(number) for number in looked_at)

    def figure(self, value: float, low: float, high: float, *, with_unit: bool = True) -> str:
        """The figure and its interval, with their unit."""
        told = self._told(value) if with_unit else self._number(value)
        if math.isnan(low) or math.isnan(high):
            return told
        return f"{told} ({self._number(low)} to {self._number(high)})"

    def _number(self, value: float) -> str:
        number = f"{value * self.scale:.{self.decimals}f}".replace("-", "\u2212")
        return "0" if value == 0.0 else number

    def _told(self, value: float) -> str:
        return f"{self._number(value)} {self.unit}".rstrip()


GATES: dict[str, Gate] = {
    "magnet_excess": Gate(
        question="Does the price reach these walls more often than levels beside them?",
        rule="low above",
        limit=0.0,
        evidence="The price just reaches these walls more often than levels beside them",
        nothing="These walls are reached no more often than levels beside them",
        unit="per 100 walls",
        scale=100.0,
    ),
    "reaction_touched": Gate(
        question="Does the price go another way after it touches a cluster than after any touch like it?",
        rule="interval excludes",
        limit=0.0,
        evidence="After a touch the price goes on through more than after touches like it",
        below="After a touch the price turns back more than after touches like it",
        nothing="After a touch the price does what it does after any touch like it",
        unit="bps",
        decimals=1,
    ),
    "reaction_broken": Gate(
        question="Does the price run on after it breaks a cluster, more than after any move like it?",
        rule="interval excludes",
        limit=0.0,
        evidence="After a break the price runs on more than after moves like it",
        below="After a break the price turns back more than after moves like it",
        nothing="After a break the price does what it does after any move like it",
        unit="bps",
        decimals=1,
    ),
    "location_log_gain": Gate(
        question="Does the map say better than distance alone where liquidations happen?",
        rule="low above",
        limit=0.0,
        evidence="Liquidations lie where the map puts them, beyond what their distance explains",
        nothing="Distance alone tells as well where liquidations happen",
        unit="nats per liquidation",
        decimals=3,
    ),
    "mass_beta": Gate(
        question="Are there more liquidations where the map is heavier?",
        rule="low above",
        limit=0.0,
        evidence="Heavier places see more liquidations, at the same distance, volatility and side",
        nothing="Heavier places see no more liquidations than light ones at the same distance",
        unit="per unit of log mass",
        decimals=3,
    ),
    "reach_lift": Gate(
        question="When the price comes there, are more liquidations in clusters than in buckets like them?",
        rule="low above",
        limit=1.0,
        evidence="Clusters that the price reaches see more liquidations than buckets like them",
        nothing="Clusters that the price reaches see no more liquidations than buckets like them",
        unit="times",
    ),
    "precision_lift": Gate(
        question="Are clusters hit by liquidations more often than buckets like them?",
        rule="low above",
        limit=1.0,
        evidence="Clusters are hit by liquidations more often than buckets like them",
        nothing="Clusters are hit by liquidations no more often than buckets like them",
        unit="times",
    ),
    "brier_skill": Gate(
        question="Are the probabilities better than the base rate, on days they were not fitted on?",
        rule="low above",
        limit=0.0,
        evidence="The probabilities beat the base rate out of sample",
        nothing="The base rate is as good as the probabilities",
        unit="Brier skill",
        decimals=3,
    ),
    "ece": Gate(
        question="Does 0.3 mean 30 %?",
        rule="value at most",
        limit=0.05,
        evidence="The probabilities mean what they say",
        nothing="The probabilities do not mean what they say: the column is uncalibrated",
        unit="mean calibration error",
        decimals=3,
    ),
    "placebo_rank": Gate(
        question="Does the strategy earn more on this map than on maps that know nothing?",
        rule="value at most",
        limit=0.05,
        evidence="The strategy earns more on this map than on nearly all maps that know nothing; rank p",
        nothing="Maps that know nothing earn the strategy as much; rank p",
        decimals=3,
        is_p_value=True,
    ),
}


def verdicts(
    results: pl.DataFrame,
    *,
    n_symbols: int | None = None,
    gates: Mapping[str, Gate] = GATES,
    min_days: int = MIN_DAYS,
    min_symbols: int = MIN_SYMBOLS,
) -> pl.DataFrame:
    """Judge results; frame of ``VERDICTS``, rows in the order given.

    Parameters
    ----------
    results : columns of ``RESULTS``; n_symbols may be absent or null, others are ignored.
    n_symbols : how many symbols stand behind rows that do not say; unknown counts as too few.

    Raises
    ------
    ValueError
        For a metric without a gate or a column that is missing.
    """
    needed = [name for name in RESULTS if name != "n_symbols"]
    missing = [name for name in needed if name not in results.columns]
    if missing:
        raise ValueError(f"results: expected columns {needed}, {missing} are missing")
    strange = sorted(set(results["metric"]) - set(gates))
    if strange:
        raise ValueError(f"no gate for {strange}: there are gates for {sorted(gates)}; pass one in gates")
    if "n_symbols" not in results.columns:
        results = results.with_columns(n_symbols=pl.lit(None, pl.Int64))
    symbols = pl.col("n_symbols").fill_null(n_symbols) if n_symbols is not None else pl.col("n_symbols")
    rows = results.select(*needed, symbols).cast(RESULTS)
    judged = [_judged(row, gates[row["metric"]], min_days, min_symbols) for row in rows.iter_rows(named=True)]
    return pl.DataFrame(judged, schema=VERDICTS)


def by_chance(metrics: Iterable[str], gates: Mapping[str, Gate] = GATES) -> float:
    """How many of these figures would lie past their gates if the map knew nothing: the levels of all tests, summed."""
    return sum(gates[metric].by_chance for metric in metrics)


def _judged(row: dict, gate: Gate, min_days: int, min_symbols: int) -> dict:
    value, low, high = (math.nan if row[name] is None else row[name] for name in ("value", "low", "high"))
    n_days, n_symbols = row["n_days"] or 0, row["n_symbols"] or 0
    reasons = []
    if n_days < min_days:
        reasons.append(f"{n_days} of {min_days} days with events")
    if n_symbols < min_symbols:
        reasons.append(f"{n_symbols} of {min_symbols} symbols")
    if not reasons and not gate.is_known(value, low, high):
        reasons.append("the figure cannot be computed")
    if reasons:
        verdict, sentence = TOO_LITTLE, f"Too little data to say: {', '.join(reasons)}."
    else:
        is_evidence = gate.holds(value, low, high)
        verdict = EVIDENCE if is_evidence else NO_EVIDENCE
        words = gate.nothing if not is_evidence else gate.below if gate.below and value < gate.limit else gate.evidence
        sentence = f"{words}: {gate.figure(value, low, high)}, {row['n']:,} samples on {n_days} days."
    return {
        "question": gate.question,
        **row,
        "gate": gate.says(),
        "verdict": verdict,
        "sentence": sentence,
    }
