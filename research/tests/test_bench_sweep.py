"""The sweep benchmark's figures; how fast anything is, is never asserted."""

import os
import subprocess
import sys

import numpy as np
import pytest

from research import kernel
from research.benchmarks import bench_sweep, from_signals
from research.outcomes import OUTCOME
from research.strategies import momentum
from research.worlds import momentum_world


@pytest.fixture
def measured(monkeypatch):
    """All sides measured: the baseline 1,000 config-bars in 2 s, the kernel 300,000 in 3 s."""
    sides = {
        "from_signals": {"configs": 250, "config_bars": 1_000, "seconds": 2.0, "peak_mib": 800.0},
        "callback": {"configs": 250, "config_bars": 1_000, "seconds": 1.0, "peak_mib": 300.0},
        "callback_orders": {"configs": 250, "config_bars": 1_000, "seconds": 0.5, "peak_mib": 300.0},
        "kernel": {"configs": 6_561, "config_bars": 300_000, "seconds": 6.0, "peak_mib": 200.0},
        "listed": {"configs": 6_561, "config_bars": 300_000, "seconds": 3.0, "peak_mib": 200.0},
        "factorised": {"configs": 6_561, "config_bars": 300_000, "seconds": 0.2, "peak_mib": 200.0},
        "bytes": {"bytes_per_second": 3_000_000.0},
        "limit": {"configs": 6_561, "config_bars": 300_000, "seconds": 0.1, "peak_mib": 200.0},
        "million": {"configs": 1_008_000, "config_bars": 0, "seconds": 14.0, "peak_mib": 3_000.0},
        "listed_million": {"configs": 1_000_000, "config_bars": 0, "seconds": 190.0, "peak_mib": 700.0},
        "seconds": {"configs": 1_000, "config_bars": 0, "seconds": 5.0, "peak_mib": 900.0},
    }
    for side in ("kernel", "listed", "factorised"):
        sides[side] |= {"exposure": 0.25, "trades": 1_000.0}
    monkeypatch.setattr(bench_sweep, "bench_seconds", bench_sweep.bench_minutes)
    monkeypatch.setattr(
        bench_sweep, "_measure", lambda side, folder, n_configs: sides[side] | {"cold_start_seconds": 6.0}
    )


def test_figures_stand_side_by_side_with_their_targets(measured):
    minutes = bench_sweep.Minutes(what="a few minutes", market=kernel.Market(*np.zeros((16, 3))), features={})
    figures = bench_sweep.bench_sweep(minutes)
    speeds, limits, seconds, memories, (cold_start,) = (
        figures[:8], figures[8:12], figures[12:15], figures[15:21], figures[21:]
    )  # fmt: skip
    assert [(speed["value"], speed["ratio"], speed["target"], speed["holds"]) for speed in speeds] == [
        (1_500_000.0, 3_000.0, 2_000.0, True),
        (100_000.0, 200.0, 300.0, False),
        (100_000.0, 100.0, 150.0, False),
        (100_000.0, 50.0, None, True),
        (50_000.0, 100.0, None, True),
        (1_500_000.0, 0.5, None, True),
        (100_000.0, pytest.approx(1 / 30), None, True),
        (50_000.0, pytest.approx(1 / 60), None, True),
    ]
    assert limits[0]["value"] == 3_000_000.0
    assert [figure["baseline_value"] for figure in limits[1:]] == [60.0, 30.0, 2.0]  # that could be moved in the time
    a_look_up = 1_000 * OUTCOME.itemsize / 300_000
    assert [figure["value"] for figure in limits[1:]] == pytest.approx(
        [0.75 * 33 + 0.25 * 24, 33 / 4_096 + a_look_up, 81 * 33 / 6_561 + a_look_up]
    )
    assert [(figure["value"], figure["holds"]) for figure in seconds] == [(14.0, True), (190.0, False), (5.0, True)]
    assert [memory["holds"] for memory in memories] == [True, True, True, False, True, True]
    assert (cold_start["target"], cold_start["holds"]) == (5.0, False)


def test_the_peak_of_a_process_is_its_own_and_not_that_of_the_one_that_started_it():
    held = np.ones(30_000_000)
    command = [sys.executable, "-c", "from data.benchmarks.figures import peak_mib; print(peak_mib())"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert 1.0 < float(told) < held.nbytes / 2**20 / 2


def test_random_configs_are_no_product_and_lie_in_their_ranges():
    configs = bench_sweep.random_configs(500)
    for name, (low, high) in bench_sweep.RANGES.items():
        column = configs[:, momentum.Params._fields.index(name)]
        assert len(np.unique(column)) == 500 and low <= column.min() < column.max() <= high


def test_seconds_have_every_feature_too():
    seconds = bench_sweep.bench_seconds(2_000)
    assert seconds.what == "2,000 synthetic seconds"
    assert sorted(seconds.features) == sorted(kernel.feature_names(momentum, bench_sweep.momentum_grid()))


if os.environ.get("ASTER_BASELINES"):  # minutes of compiling, for what the benchmark alone is measured beside

    def test_both_baselines_of_vectorbt_trade_the_same(tmp_path):
        minutes = bench_sweep.bench_minutes(tmp_path)
        market = kernel.Market(*(column[:1_500] for column in minutes.market))
        features = {name: column[:1_500] for name, column in minutes.features.items()}
        over = (market, features, bench_sweep.momentum_grid()[::800], bench_sweep.TERMS)
        matrices = from_signals.from_signals_sweep(*over, chunk_configs=5)
        callbacks = from_signals.callback_sweep(*over, chunk_configs=5)
        assert matrices["trades"].min() > 10
        for name, values in matrices.items():
            np.testing.assert_allclose(callbacks[name], values, rtol=1e-9, err_msg=name)

    def test_the_baseline_sweep_gives_the_same_figures_whatever_the_chunk():
        world = momentum_world(13)
        configs = [world.params._replace(stop_bps=stop_bps) for stop_bps in (20.0, 40.0, 80.0)]
        whole, halves = (
            from_signals.from_signals_sweep(world.market, world.features, configs, world.terms, chunk_configs=chunk)
            for chunk in (3, 2)
        )
        assert whole["trades"].shape == (3,) and whole["trades"].min() > 0
        for name, values in whole.items():
            np.testing.assert_array_equal(values, halves[name])


def test_the_million_is_a_million_over_features_that_the_minutes_have():
    assert bench_sweep._size(bench_sweep.MILLION_GRID) == 1_008_000
    windows = {name: values for name, values in momentum.GRID.items() if name.endswith("_window_bars")}
    assert windows.items() <= bench_sweep.MILLION_GRID.items()


def test_without_recordings_synthetic_minutes_have_every_feature_of_the_grid(tmp_path):
    minutes = bench_sweep.bench_minutes(tmp_path)
    assert minutes.what == "40,320 synthetic minutes"
    assert sorted(minutes.features) == sorted(kernel.feature_names(momentum, bench_sweep.momentum_grid()))
    assert np.isnan(minutes.market.exec_open[-1]) and not np.isnan(minutes.market.exec_open[:-2]).any()


def test_the_recorded_minutes_of_bnb_are_used_where_they_are(real_data):
    assert bench_sweep.bench_minutes(real_data).what == "16,450 recorded BNBUSDT minutes"
