"""The clusters benchmark's figures and its baselines; how fast anything is, is never asserted."""

import os

import numpy as np
import pytest

from research.benchmarks import bench_clusters
from research.benchmarks.clusters_numpy import numpy_map
from research.clusters.predictive import predictive_map
from research.clusters.tiers import MapConfig

if os.environ.get("ASTER_BASELINES"):  # twenty seconds for what the benchmark alone is measured beside

    def test_the_numpy_baseline_makes_the_same_map():
        bars = bench_clusters.minute_bars(0, 100)
        profiles, _ = predictive_map(bars, MapConfig(), every_bars=20)
        assert np.allclose(numpy_map(bars, MapConfig(), every_bars=20), profiles.mass_usdt, rtol=1e-5, atol=1.0)


@pytest.fixture
def small(monkeypatch):
    for name, value in {"DAY_MINUTES": 60, "NUMPY_BARS": 60, "LEVELS_WARM_BARS": 4, "LEVELS_BARS": 4}.items():
        monkeypatch.setattr(bench_clusters, name, value)


def test_every_target_is_a_figure_beside_its_baseline(small):
    figures = bench_clusters.bench_clusters(symbols=2, days=1, repeats=1)
    assert [figure["target"] for figure in figures] == [3.0, None, 10.0, 1_000.0, None, 20.0, None]
    assert figures[0]["what"] == "clusters every 5 min of 2 symbols, 1 d x 1 min x 500 buckets, 2 threads"
    for figure in figures[2:5]:
        assert figure["ratio"] == figure["value"] / figure["baseline_value"]
    assert all(figure["value"] > 0.0 for figure in figures)
