"""The sweep benchmark's figures; how fast anything is, is never asserted."""

import numpy as np
import pytest

from research import kernel
from research.benchmarks import bench_sweep
from research.strategies import momentum


@pytest.fixture
def measured(monkeypatch):
    """Both sides measured: the baseline 1,000 config-bars in 2 s, the kernel 300,000 in 3 s."""
    sides = {
        "from_signals": {"configs": 250, "config_bars": 1_000, "seconds": 2.0, "peak_mib": 800.0},
        "kernel": {"configs": 6_561, "config_bars": 300_000, "seconds": 3.0, "peak_mib": 200.0},
    }
    monkeypatch.setattr(
        bench_sweep, "_measure", lambda side, folder, n_configs: sides[side] | {"cold_start_seconds": 6.0}
    )


def test_figures_stand_side_by_side_with_their_targets(measured):
    minutes = bench_sweep.Minutes(what="a few minutes", market=kernel.Market(*np.zeros((16, 3))), features={})
    speed, seconds, memory, cold_start = bench_sweep.bench_sweep(minutes)
    assert (speed["value"], speed["baseline_value"], speed["ratio"]) == (100_000.0, 500.0, 200.0)
    assert (speed["target"], speed["holds"]) == (100.0, True)
    assert (seconds["value"], seconds["holds"]) == (3.0, True)
    assert (memory["ratio"], memory["holds"]) == (0.25, True)
    assert (cold_start["target"], cold_start["holds"]) == (5.0, False)


def test_without_recordings_synthetic_minutes_have_every_feature_of_the_grid(tmp_path):
    minutes = bench_sweep.bench_minutes(tmp_path)
    assert minutes.what == "40,320 synthetic minutes"
    assert sorted(minutes.features) == sorted(kernel.feature_names(momentum, bench_sweep.momentum_grid()))
    assert np.isnan(minutes.market.exec_open[-1]) and not np.isnan(minutes.market.exec_open[:-2]).any()


def test_the_recorded_minutes_of_bnb_are_used_where_they_are(real_data):
    assert bench_sweep.bench_minutes(real_data).what == "16,450 recorded BNBUSDT minutes"
