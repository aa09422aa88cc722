"""Features as compiled loops read them: rows of one matrix.

``features.compute`` makes them so, and none is held twice.
"""

from collections.abc import Sequence

import numpy as np


def feature_matrix(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A matrix that has these features among its rows, and the place of each of them.

    Parameters
    ----------
    columns : shape (n_rows,), at least one. Where all are whole rows of one matrix, it is that matrix; else a copy.

    Returns
    -------
    float64, C-contiguous, shape (n_features, n_rows), and uint64, shape (n_columns,)
    """
    whole = columns[0].base
    if not all(_is_row(column, whole) for column in columns):
        matrix = np.ascontiguousarray(np.stack(columns), dtype=np.float64)
        return matrix, np.arange(len(columns), dtype=np.uint64)
    starts = [column.ctypes.data - whole.ctypes.data for column in columns]
    return whole, np.array(starts, np.uint64) // np.uint64(whole.strides[0])


def _is_row(column: np.ndarray, whole: object) -> bool:
    """Whether this is a whole row of that: of a matrix that compiled code takes as it takes a copy."""
    return (
        column.base is whole
        and isinstance(whole, np.ndarray)
        and whole.ndim == 2
        and whole.dtype == column.dtype == np.float64
        and whole.flags.c_contiguous
        and whole.flags.writeable  # Numba compiles anew for what is not
        and column.shape == whole.shape[1:]
        and column.strides == whole.strides[1:]
        and (column.ctypes.data - whole.ctypes.data) % max(whole.strides[0], 1) == 0
    )
