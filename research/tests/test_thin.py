import numpy as np

from research.thin import MAX_LINE_POINTS, runs, thin_line


def test_a_thinned_line_keeps_its_extremes_and_its_holes():
    y = np.zeros(100_000)
    y[12_345], y[67_890] = 9.0, -9.0
    y[40_000:41_000] = np.nan
    x, thin = thin_line(np.arange(100_000.0), y)
    assert len(thin) <= MAX_LINE_POINTS
    assert (np.nanmax(thin), np.nanmin(thin)) == (9.0, -9.0)
    assert (x[0], x[-1]) == (0.0, 99_999.0)
    assert x[np.isnan(thin)].tolist() == [40_000.0]


def test_a_short_line_is_drawn_as_it_is():
    x, y = thin_line(np.arange(3.0), np.array([1.0, np.nan, 2.0]))
    assert x.tolist() == [0.0, 1.0, 2.0]
    assert y[[0, 2]].tolist() == [1.0, 2.0]


def test_a_run_ends_one_step_after_its_last_point():
    held = np.array([True, True, False, True])
    assert runs(np.arange(4.0) * 10.0, held, 10.0) == [(0.0, 20.0), (30.0, 40.0)]
