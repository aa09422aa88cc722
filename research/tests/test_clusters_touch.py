import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters import touch

HOUR = 3_600
MINUTE_MS = 60_000


def random_walk(days: int, seed: int, per_minute: float = 4e-4, tails: float | None = None):
    """Marks per minute of a walk: times, highs, lows, closes."""
    rng = np.random.default_rng(seed)
    n = days * 1_440
    time_ms = MINUTE_MS * np.arange(1, n + 1)
    step = rng.normal(size=n) if tails is None else rng.standard_t(tails, size=n) / np.sqrt(tails / (tails - 2))
    close = 100.0 * np.exp(np.cumsum(per_minute * step))
    before = np.concatenate([[100.0], close[:-1]])
    return time_ms, np.maximum(close, before), np.minimum(close, before), close


def test_a_level_one_deviation_away_is_touched_with_the_probability_of_the_reflection_principle():
    # sigma * sqrt(H) = 0.01: 2 * Phi(-1) = 0.3173.
    assert touch.p_touch_walk(np.array([0.01]), np.array([0.01 / 60]), HOUR)[0] == pytest.approx(0.31731, abs=1e-5)


def test_a_level_at_the_mark_or_behind_it_is_touched_already():
    assert touch.p_touch(np.array([0.0, -0.01]), np.array([1e-4, 1e-4]), HOUR).tolist() == [1.0, 1.0]


def test_without_volatility_there_is_no_probability():
    assert np.isnan(touch.p_touch(np.array([0.01]), np.array([np.nan]), HOUR)[0])


def test_volatility_of_a_price_that_swings_by_one_percent_a_minute_is_one_percent_over_a_minute():
    close = np.exp(0.01 * (np.arange(600) % 2))
    sigma, _ = touch.volatility(MINUTE_MS * np.arange(600), close, half_life_s=HOUR)
    assert sigma[-1] * np.sqrt(60) == pytest.approx(0.01)


def test_volatility_is_unknown_until_a_half_life_has_been_seen():
    time_ms, _, _, close = random_walk(1, seed=1)
    sigma, _ = touch.volatility(time_ms, close, half_life_s=HOUR)
    assert np.isnan(sigma[:60]).all()
    assert np.isfinite(sigma[60:]).all()


def test_a_price_that_never_moves_has_no_volatility_to_speak_of():
    sigma, _ = touch.volatility(MINUTE_MS * np.arange(600), np.full(600, 5.0), half_life_s=HOUR)
    assert np.isnan(sigma).all()


def test_a_jump_over_a_hole_of_an_hour_does_not_enter_the_volatility():
    time_ms = MINUTE_MS * np.concatenate([np.arange(300), np.arange(360, 660)])
    close = np.exp(0.001 * (np.arange(600) % 2)) * np.where(np.arange(600) < 300, 1.0, 2.0)
    sigma, _ = touch.volatility(time_ms, close, half_life_s=HOUR)
    assert np.nanmax(sigma) * np.sqrt(60) == pytest.approx(0.001)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 400), max_size=4), st.integers(0, 5))
def test_volatility_step_by_step_is_volatility_at_once(cuts, seed):
    time_ms, _, _, close = random_walk(1, seed)
    time_ms, close = time_ms[:400], np.where(np.arange(400) % 7 == seed, np.nan, close[:400])
    at_once, _ = touch.volatility(time_ms, close, half_life_s=HOUR)
    pieces, state = [], None
    for piece in np.split(np.arange(400), sorted(cuts)):
        sigma, state = touch.volatility(time_ms[piece], close[piece], half_life_s=HOUR, state=state)
        pieces.append(sigma)
    np.testing.assert_array_equal(np.concatenate(pieces), at_once)


def test_extremes_are_those_of_the_bars_after_the_question_up_to_the_horizon():
    time_ms = MINUTE_MS * np.arange(1, 7)
    high, low = np.array([1.0, 5, 2, 3, 9, 9]), np.array([1.0, 1, 0.5, 1, 1, 1])
    highest, lowest, known = touch.future_extremes(time_ms, high, low, np.array([2 * MINUTE_MS]), 120)
    assert (highest[0], lowest[0], known[0]) == (3.0, 0.5, 4 * MINUTE_MS + 1_000)


def test_an_outcome_with_holes_is_unknown_and_one_that_is_not_over_is_not_known_yet():
    time_ms = MINUTE_MS * np.arange(1, 5)
    high = np.array([1.0, np.nan, 1.0, 1.0])
    highest, _, known = touch.future_extremes(time_ms, high, high, np.array([0, 3 * MINUTE_MS]), 120)
    assert np.isnan(highest).all()
    assert known[1] == np.iinfo(np.int64).max


def test_the_correction_brings_a_wrong_volatility_back_to_what_happened():
    time_ms, high, low, close = random_walk(30, seed=3)
    sigma, _ = touch.volatility(time_ms, close)
    samples = touch.touch_samples(time_ms, high, low, close, 2.0 * sigma, HOUR)
    correction = touch.fit_touch(samples, int(time_ms[-1]), min_days=20)
    held_out = random_walk(30, seed=4)
    sigma, _ = touch.volatility(held_out[0], held_out[3])
    asked = touch.touch_samples(*held_out, 2.0 * sigma, HOUR)
    raw = np.abs(asked.walk.mean() - asked.is_touched.mean())
    corrected = np.abs(correction.predict(asked.walk).mean() - asked.is_touched.mean())
    assert raw > 0.05
    assert corrected < 0.01


def test_the_correction_waits_for_enough_days():
    time_ms, high, low, close = random_walk(22, seed=3)
    sigma, _ = touch.volatility(time_ms, close)
    samples = touch.touch_samples(time_ms, high, low, close, sigma, HOUR)
    assert touch.fit_touch(samples, 19 * 86_400_000, min_days=20) is None
    assert touch.fit_touch(samples, 21 * 86_400_000, min_days=20) is not None


def test_a_correction_of_the_past_is_the_same_whatever_the_future_brings():
    time_ms, high, low, close = random_walk(12, seed=5, tails=3.0)
    now_ms, fits = 10 * 86_400_000, []
    for n in (10 * 1_440, 11 * 1_440, 12 * 1_440):
        scrambled = np.where(time_ms > 11 * 86_400_000, 7.0, 1.0)
        sigma, _ = touch.volatility(time_ms[:n], (close * scrambled)[:n])
        samples = touch.touch_samples(
            time_ms[:n], (high * scrambled)[:n], (low * scrambled)[:n], (close * scrambled)[:n], sigma, 4 * HOUR
        )
        fits.append(touch.fit_touch(samples, now_ms, min_days=5))
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.x, fits[0].x)
        np.testing.assert_array_equal(fit.y, fits[0].y)


def test_probabilities_fall_with_distance_after_the_correction_too():
    time_ms, high, low, close = random_walk(22, seed=6, tails=3.0)
    sigma, _ = touch.volatility(time_ms, close)
    correction = touch.fit_touch(touch.touch_samples(time_ms, high, low, close, sigma, HOUR), int(time_ms[-1]), 20)
    chances = touch.p_touch(np.linspace(0.0, 0.2, 50), np.full(50, 5e-5), HOUR, correction)
    assert chances[0] == 1.0
    assert (np.diff(chances) <= 0.0).all()
