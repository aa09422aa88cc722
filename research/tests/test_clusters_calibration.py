import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.table import TIME_MS
from research.clusters.validation.bootstrap import DAY_MS, METRICS, day_counts, day_sums, interval, mean, measured
from research.clusters.validation.calibration import (
    bins_of,
    brier_parts,
    calibration,
    passes,
    reliability,
    score_card,
    scores,
)

HOUR = 3_600


def value(metrics: pl.DataFrame, name: str, factor: str = "p", column: str = "value") -> float:
    return metrics.filter(pl.col("metric") == name, pl.col("band") == factor)[column][0]


def forecasts(days: int, per_day: int = 60, seed: int = 0):
    """Chances that differ, outcomes that follow them, their times."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.02, 0.7, days * per_day)
    outcome = (rng.random(len(chance)) < chance).astype(float)
    return chance, outcome, np.arange(len(chance)) * (DAY_MS // per_day), rng


def test_sums_per_day_keep_days_apart():
    days, sums = day_sums(np.array([0, DAY_MS - 1, DAY_MS]), np.array([1.0, 2.0, 4.0]))
    assert (days.tolist(), sums.tolist()) == ([0, 1], [[3.0], [4.0]])


def test_every_draw_takes_as_many_days_as_there_are_and_blocks_are_neighbours():
    counts = day_counts(5, block_days=2, draws=50, seed=1)
    assert counts.sum(axis=1).tolist() == [5] * 50
    assert (day_counts(5, block_days=5, draws=50, seed=1) == 1).all()


def test_the_same_seed_gives_the_same_interval_and_one_day_gives_none():
    sums = np.column_stack([np.arange(10.0), np.ones(10)])
    assert interval(sums, mean, seed=3) == interval(sums, mean, seed=3)
    assert interval(sums, mean, seed=3) != interval(sums, mean, seed=4)
    assert np.isnan(interval(sums[:1], mean)).all()
    assert np.isnan(interval(sums[:3], mean, block_days=2)).all()


def test_repeating_the_rows_of_a_day_does_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    time_ms, values = DAY_MS * np.arange(30), rng.normal(size=30)
    once = measured("m", time_ms, np.column_stack([values, np.ones(30)]), mean, horizon_s=HOUR)
    often = measured(
        "m", np.repeat(time_ms, 50), np.column_stack([np.repeat(values, 50), np.ones(1500)]), mean, horizon_s=HOUR
    )
    assert (once["low"], once["high"]) == pytest.approx((often["low"], often["high"]))
    assert (often["n"], often["n_days"]) == (1500, 30)


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        sums = np.column_stack([rng.normal(size=40), np.ones(40)])
        low, high = interval(sums, mean, draws=300, level=0.9, seed=trial)
        covered += low <= 0.0 <= high
    assert 0.83 <= covered / 200 <= 0.95


def test_equal_predictions_share_a_bin_and_bins_have_no_holes():
    number = bins_of(np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.9]), bins=4)
    assert number.tolist() == [0, 0, 0, 0, 0, 1]
    assert bins_of(np.zeros(0)).tolist() == []


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=40), st.integers(1, 12))
def test_the_parts_of_the_brier_score_add_up(samples, bins):
    predicted, outcome = (np.array(column, float) for column in zip(*samples, strict=True))
    parts = brier_parts(predicted, outcome, bins)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bin"]
    assert parts["brier"] == pytest.approx(total, abs=1e-12)


def test_the_classic_identity_holds_when_each_bin_holds_one_prediction():
    predicted = np.repeat([0.2, 0.6], 5)
    parts = brier_parts(predicted, np.array([0, 0, 1, 0, 0, 1, 1, 0, 1, 1.0]))
    # Bin 0.2 was right a fifth of the time, bin 0.6 four fifths: REL .02, RES .09, UNC .25.
    assert parts["reliability"] == pytest.approx(0.02)
    assert parts["resolution"] == pytest.approx(0.09)
    assert parts["uncertainty"] == pytest.approx(0.25)
    assert parts["within_bin"] == pytest.approx(0.0)
    assert parts["brier"] == pytest.approx(0.18)


def test_scores_hold_the_same_parts():
    chance, outcome, time_ms, _ = forecasts(10)
    metrics = scores(chance, outcome, np.full(len(chance), 0.36), time_ms, factor="p", horizon_s=HOUR, draws=50)
    assert metrics.schema == METRICS
    for name, part in brier_parts(chance, outcome).items():
        assert value(metrics, name) == pytest.approx(part)


def test_forecasts_that_mean_what_they_say_pass_the_gate():
    chance, outcome, time_ms, _ = forecasts(30, per_day=200)
    base = np.full(len(chance), outcome.mean())
    metrics = scores(chance, outcome, base, time_ms, factor="p", horizon_s=HOUR, draws=200)
    assert value(metrics, "ece") < 0.03
    assert value(metrics, "brier_skill", column="low") > 0.1
    assert value(metrics, "log_skill", column="low") > 0.05
    assert passes(metrics, "p")


def test_forecasts_that_know_nothing_fail_it():
    chance, outcome, time_ms, rng = forecasts(30)
    base = np.full(len(chance), outcome.mean())
    shuffled = scores(rng.permutation(chance), outcome, base, time_ms, factor="p", horizon_s=HOUR, draws=200)
    assert value(shuffled, "brier_skill", column="high") < 0.0
    assert not passes(shuffled, "p")


def test_forecasts_that_rank_well_but_exaggerate_fail_it():
    chance, outcome, time_ms, _ = forecasts(30)
    base = np.full(len(chance), outcome.mean())
    bold = scores(np.minimum(1.0, 1.3 * chance), outcome, base, time_ms, factor="p", horizon_s=HOUR, draws=200)
    assert value(bold, "brier_skill", column="low") > 0.0
    assert value(bold, "ece") > 0.05
    assert not passes(bold, "p")


def test_two_days_of_forecasts_cannot_pass_by_luck_of_a_day():
    chance, outcome, time_ms, _ = forecasts(1)
    metrics = scores(chance, outcome, np.full(len(chance), 0.36), time_ms, factor="p", horizon_s=HOUR, draws=50)
    assert np.isnan(value(metrics, "brier_skill", column="low"))
    assert not passes(metrics, "p")


def test_the_reliability_of_honest_forecasts_contains_the_diagonal_in_most_bins():
    chance, outcome, time_ms, _ = forecasts(30)
    bins = reliability(chance, outcome, time_ms, factor="p", horizon_s=HOUR, draws=200)
    assert bins["n"].to_list() == [180] * 10
    inside = (bins["low"] <= bins["predicted"]) & (bins["predicted"] <= bins["high"])
    assert inside.sum() >= 8


def test_both_factors_and_their_product_are_judged_apart():
    chance, touched, time_ms, rng = forecasts(20, per_day=400)
    given_touch = rng.uniform(0.1, 0.9, len(chance))
    liquidated = rng.random(len(chance)) < given_touch
    samples = pl.DataFrame(
        {
            "avail_time": pl.Series(time_ms).cast(TIME_MS),
            "p_touch": chance,
            "p_liq_touch": given_touch,
            "confidence": chance * given_touch,
            "touch_base": np.full(len(chance), 0.36),
            "liquidated_base": np.full(len(chance), 0.5),
            "is_touched": touched == 1.0,
            "is_liquidated": np.where(touched == 1.0, liquidated, None).tolist(),
        }
    )
    bins, metrics = calibration(samples, HOUR, draws=100)
    card = score_card(metrics)
    assert card["factor"].to_list() == ["p_touch", "p_liq_touch", "confidence"]
    assert card["n"].to_list() == [8000, int(touched.sum()), 8000]
    assert card["calibrated"].to_list() == [True, True, True]
    assert bins["factor"].unique(maintain_order=True).to_list() == ["p_touch", "p_liq_touch", "confidence"]


def test_without_samples_every_score_is_unknown_and_the_gate_is_shut():
    empty = pl.DataFrame(
        schema={
            "avail_time": TIME_MS, "p_touch": pl.Float64, "p_liq_touch": pl.Float64, "confidence": pl.Float64,
            "touch_base": pl.Float64, "liquidated_base": pl.Float64, "is_touched": pl.Boolean,
            "is_liquidated": pl.Boolean,
        }
    )  # fmt: skip
    bins, metrics = calibration(empty, HOUR)
    assert len(bins) == 0
    assert metrics["value"].is_nan().all()
    assert score_card(metrics)["calibrated"].to_list() == [False] * 3
