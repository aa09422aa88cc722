"""The features benchmark's figures; how fast anything is, is never asserted."""

from research.benchmarks.bench_features import bench_features


def test_the_three_sides_agree_and_a_buffer_is_enough():
    against_pandas, against_polars, difference, live, alike = bench_features(rows=2_000, live_rows=20, repeats=1)
    assert difference["holds"] and alike["value"] == 1.0
    for each in (against_pandas, against_polars, live):
        assert each["ratio"] == each["value"] / each["baseline_value"] > 0.0
