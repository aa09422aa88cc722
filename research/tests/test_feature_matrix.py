import numpy as np
import pytest

from research import kernel
from research.feature_matrix import feature_matrix
from research.features import compute
from research.strategies import momentum

FOUR = np.arange(20.0).reshape(4, 5).copy()
READ_ONLY = FOUR.copy()
READ_ONLY.flags.writeable = False


def test_rows_of_one_matrix_are_held_once():
    matrix, places = feature_matrix([FOUR[2], FOUR[0]])
    assert matrix is FOUR
    assert (places.tolist(), places.dtype) == ([2, 0], np.uint64)


@pytest.mark.parametrize(
    "columns",
    [
        [FOUR[2], FOUR[0].copy()],
        [FOUR[2], np.ones((4, 5))[1]],
        [FOUR[2, :4], FOUR[0, :4]],
        [FOUR[2, ::-1], FOUR[0, ::-1]],
        [FOUR.ravel()[3:8]],
        [FOUR.astype(np.int64)[1]],
        [np.asfortranarray(FOUR)[1]],
        [READ_ONLY[1]],
    ],
    ids=["some", "two", "cut", "backwards", "across", "whole_numbers", "columns", "read_only"],
)
def test_what_is_no_row_of_one_matrix_is_copied(columns):
    matrix, places = feature_matrix(columns)
    assert matrix.dtype == np.float64 and matrix.flags.c_contiguous and matrix.flags.writeable
    assert not any(np.shares_memory(matrix, column) for column in columns)
    np.testing.assert_array_equal(matrix[places], columns)


def test_computed_features_are_the_rows_that_a_sweep_reads():
    params = momentum.Params(*(float(values[0]) for values in momentum.GRID.values()))
    names = sorted(kernel.feature_names(momentum, [params]))
    bars = {name: np.full(9, 100.0) for name in ("open", "high", "low", "close", "volume", "bid_price", "ask_price")}
    bars |= {name: np.full(9, 8.0) for name in ("mark_price", "funding_rate", "funding_interval_hours")}
    bars |= {name: np.zeros(9) for name in ("quote_age_ms", "mark_age_ms")}
    features = compute(bars, names, constants={"tick_size": 0.1, "taker_fee_bps": 4.0})
    _, matrix, columns = kernel.sweep_inputs(momentum, features, [params])
    assert all(np.shares_memory(matrix, column) for column in features.values())
    np.testing.assert_array_equal(matrix[columns[0]], [features[name] for name in momentum.columns(params)])
