"""The lake: every table as Parquet files by UTC date, found through the manifest, read as polars or SQL.

Rows are only ever added. An append is all or nothing, and appending the same rows again adds none. Files lie at
``<lake>/<table>/dt=YYYY-MM-DD/<id>.parquet``; only those the manifest lists are part of the lake.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import duckdb
import polars as pl

from data import views
from data.lake_reader import check_symbols
from data.lake_writer import LakeWriter
from data.lake_writer import Landed as Landed  # the lake's door: importers need one module only
from data.manifest import CorruptFile as CorruptFile
from data.manifest import FileEntry as FileEntry
from data.manifest import Listened as Listened
from data.manifest import NewFile as NewFile
from data.manifest import Replaced as Replaced
from data.manifest import SegmentDone as SegmentDone
from data.schema import TABLES
from data.verify import Problem as Problem
from data.verify import verify

_CONFIG = {
    "autoinstall_known_extensions": "false",  # a query never reaches for the network
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # names in a query are tables, never variables of this program
}
_GUARD = threading.Lock()  # over what is made once per process


def default_lake() -> Path:
    """``ASTER_LAKE`` or ``data/lake`` in the checkout."""
    return Path(os.environ.get("ASTER_LAKE") or Path(__file__).parent / "lake")


class Lake(LakeWriter):
    """The lake at ``root``.

    Parameters
    ----------
    root : folder of the lake.
    create : make an empty lake where there is none.
    allow_test_symbols : take the exchange's ``TEST*`` contracts too.

    Raises
    ------
    LookupError
        When there is no lake at ``root``, saying what to run.
    """

    def connect(
        self,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        tail: bool = False,
    ) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB with one view per table; ``depth5`` shows the first five levels of ``depth``, ``ledger``
        the row of ``gaps`` that speaks for each gap.

        The views show the files of this moment: later appends do not disturb the connection. With ``symbols``,
        ``start`` or ``end`` they hold only those rows, and DuckDB opens only the files that may have them: on a long
        lake that is many times faster than the same condition in the query. Times are in UTC.

        Parameters
        ----------
        symbols, start, end : narrow the views to these rows of [start, end); None for all.
        tail : with the rows of the raw log that are not sealed yet.

        Raises
        ------
        CorruptFile
            When a file behind a view is missing or changed.
        """
        database = _start()
        filled = self._filled(symbols, start, end, tail)
        _fill(database, filled, views.empty(without=filled))
        return database

    def sql(
        self,
        query: str,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        tail: bool = False,
    ) -> pl.DataFrame:
        """The query's result over the views of ``connect``; what it makes besides, such as a table, goes with it.

        Raises
        ------
        ValueError
            When DuckDB refuses the query, with its reason.
        """
        filled = self._filled(symbols, start, end, tail)
        with _GUARD:
            database = _engine(os.getpid()).cursor()
            blank = _blank(os.getpid(), frozenset(filled))
        with database:
            _fill(database, filled, ["BEGIN", f"SET search_path = '{blank}'"])  # never committed
            try:
                result = database.sql(query)
                return pl.DataFrame() if result is None else result.pl()
            except duckdb.Error as error:
                raise ValueError(f"the query failed: {error}") from error

    def _filled(
        self, symbols: Sequence[str] | None, start: datetime | None, end: datetime | None, tail: bool
    ) -> dict[str, "_Filled"]:
        """What stands behind the view of each table that has rows."""
        check_symbols(symbols)
        with self.still(tail=tail) as (lake, fresh):
            entries = lake.narrowed(symbols=symbols, start=start, end=end)
        filled = {}
        for name, table in TABLES.items():
            if name in entries or name in fresh:
                more = f"{name}_tail" if name in fresh else None
                rows = views.rows(self.root, table, entries.get(name, []), more)
                select = rows + views.where(table, symbols, start, end)
                filled[name] = _Filled(select=select, tail=fresh.get(name))
        return filled

    def verify(self) -> list[Problem]:
        """Prove every file to the last bit and count its rows, and look for strays, see ``data.verify``."""
        return verify(self)


@dataclass(frozen=True, kw_only=True)
class _Filled:
    """A view's rows: a SELECT, and the rows of the raw log that it names as ``<table>_tail``."""

    select: str
    tail: pl.DataFrame | None


def _start() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(config=_CONFIG)
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute("SET GLOBAL parquet_metadata_cache = true")  # files never change: reading a footer once will do
    return database


@cache
def _engine(process: int) -> duckdb.DuckDBPyConnection:
    """One DuckDB per process, to run queries in: it takes longer to start than most of them, and it knows footers."""
    return _start()


@cache
def _blank(process: int, filled: frozenset[str]) -> str:
    """A schema with empty views for all tables but these. Making them takes longer than most queries."""
    schema = f"without_{'_'.join(sorted(filled))}"
    with _engine(process).cursor() as database:
        make = (f"CREATE SCHEMA {schema}", f"SET search_path = '{schema}'", *views.empty(without=filled))
        database.execute("; ".join(make))
    return schema


def _fill(database: duckdb.DuckDBPyConnection, filled: Mapping[str, _Filled], before: Sequence[str]) -> None:
    """Make the views of the tables that have rows, which only this connection sees, after these statements."""
    statements = [*before]
    for name, rows in filled.items():
        if rows.tail is not None:
            database.register(f"{name}_tail", rows.tail.to_arrow())
        selects = {name: rows.select, **views.derived(name)}
        statements += [f'CREATE TEMP VIEW "{view}" AS {select}' for view, select in selects.items()]
    if statements:
        database.execute("; ".join(statements))  # at once: handing over a statement can take longer than the statement
