"""What a user's code leaves behind, as columns with one value per bar, and where two of them differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

TIME = "open_time"  # a frame that carries it is matched to the bars by it, whatever its height

# Where code sums in another order the last bits differ; that is no future. A window that starts later may carry the
# rounding of a running sum.
SAME, SAME_FROM_SHORT = 1e-9, 1e-6


def columns_of(value: Any, frame: pl.DataFrame) -> dict[str, pl.Series] | None:
    """The value as columns with a row per bar; None where it is nothing of that kind.

    Frames and series of polars, or of anything that looks like them (``to_numpy``, ``columns``), arrays of one or two
    dimensions, lists, mappings of those, and polars expressions, which are asked of the bars. A column without a name
    of its own is called "".

    Parameters
    ----------
    frame : the bars the value was made from.
    """
    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    if isinstance(value, pl.Expr):
        value = _asked(value, frame)
    if isinstance(value, pl.DataFrame):
        return _of_frame(value, frame)
    if isinstance(value, Mapping):
        found = {str(name): columns_of(column, frame) for name, column in value.items()}
        if not found or any(columns is None or set(columns) != {""} for columns in found.values()):
            return None
        return {name: columns[""] for name, columns in found.items()}
    if isinstance(value, str | tuple) or not hasattr(value, "__len__") or len(value) != frame.height:
        return None
    if hasattr(value, "columns"):
        return {str(name): pl.Series(np.asarray(value[name])) for name in value.columns}
    if isinstance(value, pl.Series):
        return {"": value}
    if not isinstance(value, list) and not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    if array.dtype.kind in "Oc" or array.ndim not in (1, 2):
        return None
    if array.ndim == 1:
        return {"": pl.Series(array)}
    return {str(column): pl.Series(array[:, column]) for column in range(array.shape[1])}


def own_columns(value: Any, frame: pl.DataFrame) -> dict[str, pl.Series] | None:
    """``columns_of`` without the columns of the bars that were only passed on."""
    columns = columns_of(value, frame)
    if columns is None:
        return None
    return {
        name: column
        for name, column in columns.items()
        if name not in frame.columns or first_difference(column, frame[name], frame.height) is not None
    }


def first_difference(one: pl.Series, other: pl.Series, n_rows: int, tolerance: float = SAME) -> int | None:
    """The first of ``n_rows`` rows in which two columns differ; None where they agree.

    Numbers agree within ``tolerance`` of their size; NaN, null and nothing else are "not known" and agree.
    """
    one, other = one.slice(0, n_rows), other.slice(0, n_rows)
    if one.equals(other):
        return None
    if _is_number(one.dtype) and _is_number(other.dtype):
        left, right = (column.to_numpy().astype(float) for column in (one, other))
        size = np.maximum(np.abs(left), np.abs(right))
        finite = size[np.isfinite(size)]
        # A number that is nearly nothing beside the others of its column is rounding.
        floor = 1e-3 * tolerance * (finite.max() if finite.size else 0.0)
        with np.errstate(invalid="ignore"):
            agrees = (left == right) | (np.abs(left - right) <= tolerance * size + floor)
        differs = ~(agrees | (np.isnan(left) & np.isnan(right)))
    else:
        differs = one.cast(pl.String).ne_missing(other.cast(pl.String)).to_numpy()
    return int(np.argmax(differs)) if differs.any() else None


def is_blank(column: pl.Series) -> bool:
    """Whether the column says nothing in any row."""
    return column.is_null().all() or (column.dtype.is_float() and (column.is_null() | column.is_nan()).all())


def shown(value: Any) -> str:
    """A cell as people read it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _of_frame(value: pl.DataFrame, frame: pl.DataFrame) -> dict[str, pl.Series] | None:
    if TIME in value.columns and value.schema[TIME] == frame.schema[TIME] and not value[TIME].equals(frame[TIME]):
        rows = value.unique(TIME, keep="first", maintain_order=True)
        value = frame.select(TIME).join(rows, on=TIME, how="left", maintain_order="left")
    elif value.height != frame.height:
        return None
    return {name: value[name] for name in value.columns if name != TIME}


def _asked(expression: pl.Expr, frame: pl.DataFrame) -> pl.DataFrame | None:
    """What an expression says of the bars; None where it is meant for another frame."""
    try:
        return frame.select(expression)
    except pl.exceptions.PolarsError:
        return None


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean
