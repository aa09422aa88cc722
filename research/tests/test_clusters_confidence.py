from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from research.clusters.confidence import ConfidenceConfig, Scored, with_confidence
from research.clusters.liquidated import FEATURES, features, shrunk_chances
from research.clusters.outcomes import Question, marks_of, placed
from research.clusters.validation.calibration import calibration, score_card
from research.clusters.validation.liquidated_worlds import World, liquidated_world

HOUR = 3_600
DAYS = 36
CONFIG = ConfidenceConfig(
    question=Question(horizon_s=4 * HOUR, min_print_usdt=500.0), min_touches=100, min_days=10, refit_s=2 * 86_400
)


@lru_cache
def world(is_known: bool) -> World:
    return liquidated_world(DAYS, seed=2, is_known=is_known)


@lru_cache
def scored(is_known: bool) -> Scored:
    here = world(is_known)
    return with_confidence(here.clusters, here.marks, here.force_orders, CONFIG)


def card(is_known: bool) -> dict[str, dict]:
    _, metrics = calibration(scored(is_known).samples, CONFIG.question.horizon_s, draws=200)
    return {row["factor"]: row for row in score_card(metrics).to_dicts()}


def before(frame: pl.DataFrame, column: str, day: float) -> pl.DataFrame:
    return frame.filter(pl.col(column).dt.epoch("ms") < day * 86_400_000)


def test_a_map_that_knows_where_liquidations_are_passes_the_gate():
    assert card(True)["confidence"]["calibrated"]
    assert card(True)["confidence"]["brier_skill_low"] > 0.02
    assert card(True)["p_liq_touch"]["brier_skill_low"] > 0.1
    assert scored(True).clusters["calibrated"][-1]


def test_a_map_of_other_zones_fails_it():
    assert not card(False)["confidence"]["calibrated"]
    assert card(False)["p_liq_touch"]["brier_skill_low"] < 0.0
    assert not scored(False).clusters["calibrated"].any()


def test_the_touch_factor_is_right_for_both_because_it_knows_no_map():
    assert card(True)["p_touch"]["calibrated"]
    assert card(False)["p_touch"]["calibrated"]


def test_confidence_is_the_product_of_both_factors():
    rows = scored(True).clusters.filter(pl.col("confidence").is_finite())
    assert len(rows) > 10_000
    np.testing.assert_array_equal(rows["confidence"], rows["p_touch"] * rows["p_liq_touch"])


def test_confidence_is_nan_and_uncalibrated_until_there_are_enough_touches_and_days():
    early = before(scored(True).clusters, "avail_time", 10)
    assert early["confidence"].is_nan().all()
    assert early["p_touch"].is_finite().sum() > 1_000
    assert not early["calibrated"].any()
    assert early["calib_id"].null_count() == len(early)
    late = scored(True).clusters.filter(pl.col("confidence").is_finite())
    assert late["calib_id"].null_count() == 0


def test_the_house_defaults_wait_for_two_hundred_touches_and_twenty_days():
    config = ConfidenceConfig(question=Question(horizon_s=HOUR, min_print_usdt=0.0))
    assert (config.min_touches, config.min_days) == (200, 20)


def test_a_map_is_called_calibrated_only_after_its_predictions_have_been_judged():
    rows = scored(True).clusters.filter(pl.col("calibrated"))
    first_number = scored(True).clusters.filter(pl.col("confidence").is_finite())["avail_time"].min()
    assert rows["avail_time"].min() > first_number


def test_each_fit_is_named_and_its_name_holds_what_it_is():
    fits = scored(True).fits
    assert fits["calib_id"].n_unique() == len(fits)
    ready = fits.filter(pl.col("log_mass").is_not_null())
    assert ready["calib_id"].str.starts_with("logistic-14400-19700").all()
    assert (ready["log_mass"] > 0.3).all()


@pytest.mark.parametrize("day", [20, 25.3])
def test_nothing_before_a_moment_changes_when_the_future_comes_or_is_another_one(day):
    here, whole = world(True), scored(True)
    cut = with_confidence(
        before(here.clusters, "avail_time", day),
        before(here.marks, "ts", day),
        before(here.force_orders, "event_time", day),
        CONFIG,
    )
    assert cut.clusters.equals(before(whole.clusters, "avail_time", day), null_equal=True)
    assert cut.fits.equals(whole.fits.head(len(cut.fits)), null_equal=True)


def test_the_newest_fit_says_of_later_rows_what_one_call_for_all_says():
    here = world(True)
    history = with_confidence(before(here.clusters, "avail_time", 19), here.marks, here.force_orders, CONFIG)
    later = before(here.clusters, "avail_time", 20).filter(pl.col("avail_time").dt.epoch("ms") >= 19 * 86_400_000)
    near, liquidated = history.last.predict(placed(later, marks_of(before(here.marks, "ts", 20))))
    batch = scored(True).clusters.join(later, on=["ts", "cluster_id"], how="semi", maintain_order="left")
    np.testing.assert_array_equal(near, batch["p_touch"])
    np.testing.assert_allclose(liquidated, batch["p_liq_touch"], rtol=1e-12)


def test_a_scrambled_future_changes_nothing_before_it():
    here, day = world(True), 20
    later = pl.col("ts").dt.epoch("ms") >= day * 86_400_000
    marks = here.marks.with_columns(
        pl.when(later).then(pl.col(name) * 1.5).otherwise(pl.col(name))
        for name in ("mark_high", "mark_low", "mark_close")
    )
    orders = here.force_orders.with_columns(
        pl.when(pl.col("event_time").dt.epoch("ms") >= day * 86_400_000)
        .then(pl.lit("BUY"))
        .otherwise(pl.col("side"))
        .alias("side")
    )
    until = before(here.clusters, "avail_time", day + 1)
    other = with_confidence(until, before(marks, "ts", day + 2), orders, CONFIG)
    assert before(other.clusters, "avail_time", day).equals(before(scored(True).clusters, "avail_time", day))


def test_a_map_of_forced_orders_gets_rates_by_side_and_distance():
    here = world(True)
    clusters = before(here.clusters, "avail_time", 16).with_columns(source=pl.lit("force_orders"))
    result = with_confidence(clusters, here.marks, here.force_orders, CONFIG)
    assert result.last.regression is None
    assert result.last.chances.shape == (2, 7)
    assert result.clusters["p_liq_touch"][-1] == pytest.approx(result.last.liquidated_base, abs=0.15)
    assert result.last.calib_id.startswith("rate-14400-")


def test_without_recorded_orders_there_is_a_touch_factor_and_no_confidence():
    here = world(True)
    result = with_confidence(before(here.clusters, "avail_time", 12), here.marks, None, CONFIG)
    assert result.clusters["confidence"].is_nan().all()
    assert result.clusters["p_touch"].is_finite().any()


def test_rows_that_predict_nothing_stay_and_say_nothing():
    here = world(True)
    rows = before(here.clusters, "avail_time", 2).tail(4)
    rows = rows.with_columns(
        available=pl.Series([True, False, True, True]), state=pl.Series(["ACTIVE"] * 3 + ["BROKEN"])
    )
    result = with_confidence(rows, here.marks, here.force_orders, CONFIG)
    assert result.clusters["cluster_id"].to_list() == rows["cluster_id"].to_list()
    assert result.clusters["p_touch"].is_not_null().to_list() == [True, False, True, False]
    assert result.clusters["calibrated"].to_list() == [False] * 4


def test_an_empty_map_gives_an_empty_result():
    here = world(True)
    result = with_confidence(here.clusters.clear(), here.marks, here.force_orders, CONFIG)
    assert (len(result.clusters), len(result.fits), result.last) == (0, 0, None)


def test_a_missing_source_is_a_mask_and_not_a_number():
    rows = pl.DataFrame(
        {
            "side": ["long", "short"], "distance": [0.01, 0.02], "sigma": [1e-4, 1e-4],
            "open_interest": [None, 100.0], "mass_src_usd": [50.0, 70.0], "layers": ["binance+okx", None],
        },
    )  # fmt: skip
    by_name = dict(zip(FEATURES, features(rows, 10_000).T, strict=True))
    assert by_name["log_mass"].tolist() == pytest.approx(np.log([50.0, 100.0]))
    assert by_name["has_own_mass"].tolist() == [0.0, 1.0]
    assert np.isnan(by_name["log_reactive"]).all()
    assert by_name["has_reactive"].tolist() == [0.0, 0.0]
    assert by_name["has_okx"].tolist() == [1.0, 0.0]
    assert by_name["has_aster"].tolist() == [0.0, 0.0]
    assert by_name["log_deviations"].tolist() == pytest.approx(np.log([2.0, 3.0]))


def test_a_cell_without_touches_has_the_chance_of_all_cells_and_a_full_one_its_own():
    chances = shrunk_chances(np.array([0.0, 300.0, 900.0]), np.array([0.0, 1_000.0, 1_000.0]), 20.0)
    assert chances[0] == pytest.approx(0.6, abs=0.02)
    assert chances[1] == pytest.approx(0.3, abs=0.02)
    assert chances[2] == pytest.approx(0.9, abs=0.02)


def test_few_touches_are_drawn_halfway_to_the_mean():
    chances = shrunk_chances(np.array([0.0, 500.0]), np.array([20.0, 1_000.0]), 20.0)
    assert chances[0] == pytest.approx(0.28, abs=0.02)
