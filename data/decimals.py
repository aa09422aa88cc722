"""How many digits after the point a table's numbers were written with, found out from the floats themselves."""

import json
import re
from collections.abc import Iterator

import numpy as np
import polars as pl

from data.table import Table

_MOST = 15  # digits after the point that are tried
_WHOLE = 2.0**53  # up to here every whole number is a float
_LEVEL = re.compile(r"_\d+$")


class Decimals:
    """How many digits after the point write each symbol's floats exactly; the levels of a book count as one column."""

    def __init__(self, table: Table) -> None:
        self._columns: dict[str, list[str]] = {}
        for name, dtype in table.columns.items():
            if dtype.is_float():
                self._columns.setdefault(_LEVEL.sub("", name), []).append(name)
        self._found: dict[str, dict[str, int | None]] = {column: {} for column in self._columns}

    def look(self, rows: pl.DataFrame) -> None:
        """Take rows into account."""
        for symbol, part in by_symbol(rows):
            for column, names in self._columns.items():
                digits = self._found[column].get(symbol or "", 0)
                if digits is not None:
                    self._found[column][symbol or ""] = _digits_of(part.select(names).to_numpy().ravel(), digits)

    def told(self) -> dict[str, str]:
        """For the footer: digits per column and symbol as JSON, null where a value needs more than 15 of them."""
        return {"decimals": json.dumps(self._found)} if self._found else {}


def _digits_of(floats: np.ndarray, known: int) -> int | None:
    """Digits after the point that write every one of them, at least ``known``; None when that takes more than 15."""
    left = floats[np.isfinite(floats)]
    for digits in (known, *range(_MOST + 1)):
        if not left.size:
            break
        with np.errstate(over="ignore"):
            counts = np.rint(left * 10.0**digits)
        # both are exact below 2^53, so their quotient is what reading the decimal text gives
        fits = (np.abs(counts) < _WHOLE) & (counts / 10.0**digits == left)
        if fits.all():  # as nearly always
            return max(known, digits)
        if fits.any():
            known = max(known, digits)
            left = left[~fits]
    return None if left.size else known


def by_symbol(rows: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    """Each run of one symbol; all rows where the table has no symbols."""
    if "symbol" not in rows.columns:
        yield None, rows
        return
    offset = 0
    for run in rows["symbol"].rle().struct.unnest().rows():
        yield run[1], rows.slice(offset, run[0])
        offset += run[0]
