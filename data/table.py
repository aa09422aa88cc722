"""What a table of the lake is: columns, identity, order. The tables themselves are in schema.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

TIME_MS = pl.Datetime("ms", "UTC")
TIME_NS = pl.Datetime("ns", "UTC")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table's contract.

    Parameters
    ----------
    name : table, folder and view name.
    columns : dtype per column, in order.
    time : the column that dates a row: its UTC date is the partition.
    key : columns that identify a row; a second row with the same key is the same fact.
    fallback_key : the identity of rows whose ``key`` holds a null (old files without ids) or whose id is ambiguous.
    ids : the column of consecutive exchange ids, where the exchange guarantees them; a hole in it is a gap.
    arrival : columns that say how and when a row reached us; rows that differ only there hold the same fact.
    """

    name: str
    columns: pl.Schema
    time: str
    key: tuple[str, ...]
    fallback_key: tuple[str, ...] = ()
    ids: str | None = None
    arrival: tuple[str, ...] = ("sent_time", "recv_time", "recv2_time", "socket", "source")

    @property
    def sort(self) -> tuple[str, ...]:
        """Order inside a file: symbol, time, then the rest of the key."""
        lead = [name for name in ("symbol", self.time) if name in self.columns]
        return tuple(dict.fromkeys((*lead, *self.key, *self.fallback_key)))

    @property
    def ranged(self) -> tuple[str, ...]:
        """The time, and the ids and times of the keys: their range per file finds rows again."""
        names = dict.fromkeys((self.time, *self.key, *self.fallback_key))
        return tuple(name for name in names if self.columns[name].is_integer() or self.columns[name].is_temporal())

    def empty(self) -> pl.DataFrame:
        """A frame with no rows and this table's columns."""
        return pl.DataFrame(schema=self.columns)


def conform(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The frame with exactly the table's columns, order and dtypes; absent columns become null.

    Raises
    ------
    ValueError
        On a column the table does not know, naming it and the columns it could be; on a value that does not fit the
        column's dtype, a fraction in a column of whole numbers included.
    """
    unknown = [name for name in frame.columns if name not in table.columns]
    if unknown:
        raise ValueError(f"table {table.name}: unknown columns {unknown}; it has {list(table.columns)}")
    for name in frame.columns:
        if table.columns[name].is_integer() and frame.schema[name].is_float() and (frame[name] % 1 != 0).any():
            raise ValueError(f"table {table.name}: column {name} takes whole numbers, got fractions")
    present = [pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
               for name, dtype in table.columns.items()]  # fmt: skip
    try:
        return frame.select(present) if frame.width else table.empty()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"table {table.name}: {error}") from error


def by_date(rows: pl.DataFrame, table: Table) -> list[tuple[Table, date, pl.DataFrame]]:
    """One frame per UTC date of the table's time, each in the table's order."""
    if rows.is_empty():
        return []
    dated = rows.sort(table.sort).with_columns(pl.col(table.time).dt.date().alias("dt"))
    days = dated.partition_by("dt", as_dict=True, include_key=False)
    return [(table, day, part) for (day,), part in sorted(days.items())]


def in_order(rows: pl.DataFrame, ordering: Sequence[str]) -> pl.DataFrame:
    """Sorted; symbol by symbol, as files hold each symbol in order already and text is slow to sort by."""
    if ordering[0] != "symbol" or rows.is_empty():
        return rows.sort(ordering)
    parts = rows.partition_by("symbol", as_dict=True)
    sorted_parts = sorted(parts.items(), key=lambda part: (part[0][0] is not None, part[0][0]))
    return pl.concat([part.sort(ordering[1:]) for _, part in sorted_parts])


_INTERVAL_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def interval_ms(interval: str) -> int:
    """Length of a kline interval such as ``1m``, ``4h`` or ``1d``.

    Raises
    ------
    ValueError
        On anything else, ``1M`` included: months differ in length.
    """
    number, unit = interval[:-1], interval[-1:]
    if not number.isdecimal() or int(number) == 0 or unit not in _INTERVAL_UNITS_MS:
        raise ValueError(f"interval: expected a number and one of s m h d w, such as 1m or 4h, got {interval!r}")
    return int(number) * _INTERVAL_UNITS_MS[unit]
