"""The SQL of the lake's views: explicit lists of files, so that no glob ever has to look for them."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from data.manifest import FileEntry
from data.schema import DEPTH, GAPS, SCHEMA_VERSION, TABLES
from data.table import Table


def rows(root: Path, table: Table, entries: Sequence[FileEntry], more: str | None = None) -> str:
    """A SELECT of every column of the table from these files, and from the relation ``more``; of none from neither."""
    if more is not None:
        cast = ", ".join(f'CAST("{name}" AS {_type(dtype)}) AS "{name}"' for name, dtype in table.columns.items())
        return f'SELECT * FROM ({rows(root, table, entries)} UNION ALL SELECT {cast} FROM "{more}")'
    if not entries:
        return f"SELECT * FROM ({_nothing(table)})"
    names = ", ".join(f'"{name}"' for name in table.columns)
    paths = ", ".join(_text(str(root / entry.path)) for entry in entries)
    if all(entry.schema_version == SCHEMA_VERSION for entry in entries):
        return f"SELECT {names} FROM read_parquet([{paths}])"
    # Older files lack the columns added since; looking into every footer costs time, so only then.
    older = f"SELECT * FROM read_parquet([{paths}], union_by_name = true)"
    return f"SELECT {names} FROM ({_nothing(table)} UNION ALL BY NAME {older})"


def empty(*, without: Collection[str]) -> list[str]:
    """Statements that make views without rows for all tables but these, and the views derived from those."""
    selects = {name: _nothing(table) for name, table in TABLES.items() if name not in without}
    selects |= {view: select for name in selects for view, select in derived(name).items()}
    return [f'CREATE VIEW IF NOT EXISTS "{view}" AS {select}' for view, select in selects.items()]


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


def derived(name: str) -> dict[str, str]:
    """The SELECT of each view that shows a table in another way: ``depth5`` of ``depth``, ``ledger`` of ``gaps``."""
    if name == DEPTH.name:
        deeper = {f"{side}_{what}_{level}" for side in ("bid", "ask") for what in ("price", "quantity")
                  for level in range(5, 20)}  # fmt: skip
        return {"depth5": f"SELECT {', '.join(name for name in DEPTH.columns if name not in deeper)} FROM depth"}
    if name == GAPS.name:  # the newest row speaks for its gap
        newest = "detected_time DESC, state DESC, cause DESC, rows_recovered DESC"
        number = f"row_number() OVER (PARTITION BY venue, gap_id ORDER BY {newest})"
        return {"ledger": f"SELECT * FROM gaps QUALIFY {number} = 1"}
    return {}


def _nothing(table: Table) -> str:
    nulls = ", ".join(f'CAST(NULL AS {_type(dtype)}) AS "{name}"' for name, dtype in table.columns.items())
    return f"SELECT {nulls} WHERE false"


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
