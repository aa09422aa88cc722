"""The fast map beside the slow and obvious one, on random markets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters.grid import LONG, SHORT
from research.clusters.predictive import predictive_map
from research.clusters.reference import LevelsByHand
from research.clusters.tiers import MapConfig
from research.tests.random_source_bars import random_config, random_source_bars

FIELDS = ("time_ms", "mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest", "is_new")


def slow_map(bars, config, every_bars):
    """What ``predictive_map`` shows, by hand: masses, mean leverages and swept notional per snapshot."""
    by_hand = LevelsByHand(config)
    shown = []
    for bar, row in enumerate(zip(*(getattr(bars, name).tolist() for name in FIELDS), strict=True), start=1):
        by_hand.bar(*row)
        if bar % every_bars == 0:
            shown.append(by_hand.snapshot())
    return [np.array(values) for values in zip(*shown, strict=True)]


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_the_fast_map_is_the_slow_one(seed):
    bars = random_source_bars(seed, 60)
    config = random_config(seed, bars)
    profiles, _ = predictive_map(bars, config, every_bars=15)
    mass, leverage, swept = slow_map(bars, config, 15)
    assert np.allclose(profiles.mass_usdt, mass, rtol=2e-6, atol=1e-9 * mass.max())
    assert np.allclose(profiles.swept_usdt, swept, rtol=1e-9, atol=1e-9 * mass.sum())
    heavy = mass > 1e-6 * mass.max()
    assert np.allclose(profiles.leverage[heavy], leverage[heavy], rtol=1e-5)
    assert np.array_equal(np.isnan(profiles.leverage), mass == 0.0)


def test_a_single_long_is_liquidated_where_the_formula_says():
    config = MapConfig(
        leverages=(10.0,), shares=(1.0,), half_life_hours=(1e12,), half_life_turnovers=(1e12,), smear=0.0
    )
    bars = random_source_bars(0, 20).rows(slice(0, 1))
    one = {"mark_high": [100.02], "mark_low": [100.02], "mark_close": [100.02], "volume_usdt": [0.0]}
    bars = type(bars)(
        symbol="BTCUSDT", source="aster", time_ms=bars.time_ms, avail_ms=bars.avail_ms, open_interest=np.array([7.0]),
        is_new=np.array([True]), **{name: np.array(value) for name, value in one.items()},
    )  # fmt: skip
    profiles, _ = predictive_map(bars, config, every_bars=1)
    prices = np.exp(1e-3 * (profiles.first_bucket[0] + np.arange(500) + 0.5))
    for side, level in ((LONG, 100.02 * 0.9 / 0.995), (SHORT, 100.02 * 1.1 / 1.005)):
        mass = profiles.mass_usdt[0, side].astype(float)
        assert prices[mass.argmax()] == pytest.approx(level, rel=1e-3)
        assert (mass / prices).sum() == pytest.approx(7.0)
        assert np.flatnonzero(mass).size <= 6
