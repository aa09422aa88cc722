"""Bars against ticks on markets without an edge; ``aster bench fills`` takes longer ones."""

from research.benchmarks.bench_fills import bench_fills


def test_bars_flatter_a_tight_callback_and_not_one_as_wide_as_a_bar():
    tight, *_, wide = bench_fills(bars=1_500)
    assert tight["value"] > 1.0 > abs(wide["value"])
