"""The SQL of the lake's views: explicit lists of files, so that no glob ever has to look for them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from data.manifest import FileEntry
from data.schema import DEPTH, SCHEMA_VERSION
from data.table import Table


def rows(root: Path, table: Table, entries: Sequence[FileEntry]) -> str:
    """A SELECT of every column of the table from these files; of none from no files."""
    nulls = ", ".join(f'CAST(NULL AS {_type(dtype)}) AS "{name}"' for name, dtype in table.columns.items())
    nothing = f"SELECT {nulls} WHERE false"
    if not entries:
        return f"SELECT * FROM ({nothing})"
    names = ", ".join(f'"{name}"' for name in table.columns)
    paths = ", ".join(_text(str(root / entry.path)) for entry in entries)
    if all(entry.schema_version == SCHEMA_VERSION for entry in entries):
        return f"SELECT {names} FROM read_parquet([{paths}])"
    # Older files lack the columns added since; looking into every footer costs time, so only then.
    older = f"SELECT * FROM read_parquet([{paths}], union_by_name = true)"
    return f"SELECT {names} FROM ({nothing} UNION ALL BY NAME {older})"


def where(table: Table, symbols: Sequence[str] | None, start: datetime | None, end: datetime | None) -> str:
    """A WHERE clause for these symbols in [start, end), or nothing."""
    terms = []
    if symbols is not None and "symbol" in table.columns:
        terms.append(f"symbol IN ({', '.join(map(_text, symbols)) or 'NULL'})")
    if start is not None:
        terms.append(f"{table.time} >= TIMESTAMPTZ '{start.astimezone(UTC).isoformat()}'")
    if end is not None:
        terms.append(f"{table.time} < TIMESTAMPTZ '{end.astimezone(UTC).isoformat()}'")
    return f" WHERE {' AND '.join(terms)}" if terms else ""


def depth5() -> str:
    """A SELECT of ``depth`` with its first five levels."""
    deeper = {f"{side}_{what}_{level}" for side in ("bid", "ask") for what in ("price", "quantity")
              for level in range(5, 20)}  # fmt: skip
    return f"SELECT {', '.join(name for name in DEPTH.columns if name not in deeper)} FROM depth"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _type(dtype: pl.DataType) -> str:
    """DuckDB's name for a column's type."""
    if isinstance(dtype, pl.List):
        return f"{_type(dtype.inner)}[]"
    if isinstance(dtype, pl.Struct):
        return f"STRUCT({', '.join(f'{field.name} {_type(field.dtype)}' for field in dtype.fields)})"
    if isinstance(dtype, pl.Datetime):
        return {"ms": "TIMESTAMPTZ", "ns": "TIMESTAMPTZ_NS"}[dtype.time_unit]
    if isinstance(dtype, pl.Enum):
        return "VARCHAR"
    return {pl.String: "VARCHAR", pl.Int64: "BIGINT", pl.Float64: "DOUBLE", pl.Boolean: "BOOLEAN", pl.Binary: "BLOB"}[
        dtype
    ]
