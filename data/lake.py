"""The lake: every table as Parquet files by UTC date, found through the manifest, read as polars or SQL.

Rows are only ever added. An append is all or nothing, and appending the same rows again adds none. Files lie at
``<lake>/<table>/dt=YYYY-MM-DD/<id>.parquet``; only those the manifest lists are part of the lake.
"""

import difflib
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from data import parquet, views
from data.dedupe import has_identity, sift
from data.manifest import CorruptFile, FileEntry, Manifest, ranges, storage_errors, to_ms
from data.schema import CONFLICTS, INSTRUMENTS, SCHEMA_VERSION, TABLES, conform, is_test_symbol
from data.table import Table, by_date, in_order

_BEFORE_ALL = -(2**62)  # ms


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What became of appended rows. ``conflicts``: same key, other content; kept in the table ``conflicts``."""

    landed: int
    already_present: int
    conflicts: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing ``verify`` found. ``path`` is relative to the lake."""

    path: str
    table: str | None
    message: str


def default_lake() -> Path:
    """``ASTER_LAKE`` or ``data/lake`` in the checkout."""
    return Path(os.environ.get("ASTER_LAKE") or Path(__file__).parent / "lake")


class Lake:
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

    def __init__(self, root: Path, *, create: bool = False, allow_test_symbols: bool = False):
        self.root = Path(root)
        self._allow_test_symbols = allow_test_symbols
        with storage_errors(self.root):
            self._manifest = Manifest(self.root, create=create)
        self._proven: set[tuple[str, int, int]] = set()

    def append(self, table: str, frame: pl.DataFrame, *, origin: str) -> Landed:
        """Store the rows that are new; all of them or, when anything fails, none.

        Parameters
        ----------
        table : name of the table.
        frame : rows in any order; absent columns become null. What makes two rows the same fact: ``dedupe.sift``.
        origin : where the rows come from (a file, an endpoint); goes to the manifest and to ``conflicts``.

        Raises
        ------
        ValueError
            On unknown columns, rows without time or identity, and ``TEST*`` symbols. Nothing is stored.
        OSError
            When the disk is full or not writable. Nothing is stored and nothing stored before is touched.
        CorruptFile
            When a stored file that may hold the same keys is damaged.
        """
        contract = _table(table)
        frame = conform(frame, contract)
        self._check(contract, frame)
        if frame.is_empty():
            return Landed(landed=0, already_present=0, conflicts=0)
        with storage_errors(self.root), self._manifest.write_lock():
            self._clear_leftovers()
            sifted = sift(contract, frame, self._rivals(contract, frame))
            parts = by_date(sifted.fresh, contract)
            if not sifted.disputed.is_empty():
                now = datetime.now(UTC)
                told = sifted.disputed.with_columns(table=pl.lit(table), source_file=pl.lit(origin), conflict_time=now)
                told = conform(told, CONFLICTS)
                parts += by_date(sift(CONFLICTS, told, self._rivals(CONFLICTS, told)).fresh, CONFLICTS)
            if parts:
                self._store(parts, origin)
        return Landed(
            landed=sifted.fresh.height,
            already_present=sifted.already_present,
            conflicts=sifted.disputed.height,
        )

    def scan(
        self,
        table: str,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        columns: Sequence[str] | None = None,
        venue: str = "aster",
    ) -> pl.DataFrame:
        """Rows of [start, end) by the table's time, ordered by symbol, time and key; keys are unique.

        Parameters
        ----------
        table : name of the table.
        symbols : only these; None for all.
        start, end : UTC; None leaves that side open.
        columns : only these, in this order; None for all.
        venue : ignored by tables without a venue.

        Raises
        ------
        CorruptFile
            When a file that may hold such rows is missing or damaged: rows are never silently absent or wrong.
        """
        contract = _table(table)
        _check_symbols(symbols)
        if symbols is not None and "symbol" not in contract.columns:
            raise ValueError(f"table {table} has no symbols; leave them out")
        columns = contract.columns.names() if columns is None else list(columns)
        for name in columns:
            _known(name, contract.columns.names(), f"column of {table}")
        ordering = [name for name in contract.sort if name != "venue"]
        only_venue = venue if "venue" in contract.columns else None
        entries = self._manifest.files(contract, venue=only_venue, symbols=symbols, start=start, end=end)
        among = {} if only_venue is None else {"venue": [only_venue]}
        if symbols is not None:
            among["symbol"] = symbols
        first = _BEFORE_ALL if start is None else _first_ms(start)
        last = -_BEFORE_ALL if end is None else _first_ms(end) - 1
        within = {} if start is None and end is None else {contract.time: (first, last)}
        rows = self._read(entries, contract, list(dict.fromkeys((*ordering, *columns))), among, within)
        return in_order(rows, ordering).select(columns)

    def span(self, table: str, symbol: str, venue: str = "aster") -> tuple[datetime, datetime] | None:
        """First and last time of a symbol's rows; None without rows."""
        contract = _table(table)
        return self._manifest.span(contract, symbol, venue if "venue" in contract.columns else "")

    def symbols(self, table: str) -> list[str]:
        """Symbols with rows in the table, sorted."""
        return self._manifest.symbols(_table(table))

    def instrument(self, symbol: str, at: datetime, venue: str = "aster") -> dict:
        """The ``instruments`` row in force at ``at``: the last with ``event_time <= at``.

        Raises
        ------
        LookupError
            When there is none, naming the first time that is known: a contract's rules of later do not hold earlier.
        """
        rows = self.scan(INSTRUMENTS.name, symbols=[symbol], venue=venue)
        in_force = rows.filter(pl.col("event_time") <= at)
        if not in_force.is_empty():
            return in_force.row(-1, named=True)
        known = "has none" if rows.is_empty() else f"knows it from {rows['event_time'][0]:%Y-%m-%d %H:%M:%S} UTC on"
        raise LookupError(
            f"no instruments row of {symbol} ({venue}) in force at {at:%Y-%m-%d %H:%M:%S}: the lake {known}; run "
            "`aster import FILE --format exchange-info --effective DATE` on an exchangeInfo answer, or start later"
        )

    def connect(
        self, *, symbols: Sequence[str] | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB with one view per table and ``depth5``, the first five levels of ``depth``.

        The views show the files of this moment: later appends do not disturb the connection. With ``symbols``,
        ``start`` or ``end`` they hold only those rows, and DuckDB opens only the files that may have them: on a long
        lake that is many times faster than the same condition in the query. Times are in UTC.

        Raises
        ------
        CorruptFile
            When a file behind a view is missing or changed.
        """
        _check_symbols(symbols)
        statements = []
        for table in TABLES.values():
            of_symbols = symbols if "symbol" in table.columns else None
            entries = self._manifest.files(table, symbols=of_symbols, start=start, end=end)
            self._trust(entries)
            where = views.where(table, symbols, start, end)
            statements.append(f'CREATE VIEW "{table.name}" AS {views.rows(self.root, table, entries)}{where}')
        database = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",  # a query never reaches for the network
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",  # names in a query are tables, never variables of this program
            }
        )
        depth5 = f"CREATE VIEW depth5 AS {views.depth5()}"
        footers = "SET parquet_metadata_cache = true"  # files never change: reading a footer once will do
        for statement in ("SET TimeZone = 'UTC'", footers, *statements, depth5):
            database.execute(statement)
        return database

    def sql(
        self,
        query: str,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pl.DataFrame:
        """The query's result over the views of ``connect``.

        Raises
        ------
        ValueError
            When DuckDB refuses the query, with its reason.
        """
        with self.connect(symbols=symbols, start=start, end=end) as database:
            try:
                result = database.sql(query)
                return pl.DataFrame() if result is None else result.pl()
            except duckdb.Error as error:
                raise ValueError(f"the query failed: {error}") from error

    def files(self, table: str | None = None) -> list[FileEntry]:
        """The files of the lake, or of one table, in time order."""
        return self._manifest.files(None if table is None else _table(table))

    def verify(self) -> list[Problem]:
        """Prove every file: sha256, page checksums, row count, first and last time; and look for strays.

        A file whose content is right but whose modification time is not (a copied lake) is trusted from now on.
        """
        entries = self.files()
        problems = []
        for entry in entries:
            try:
                modified_ns = parquet.prove(self.root, entry)
                message = self._miscounted(entry)
            except CorruptFile as error:
                problems.append(Problem(path=entry.path, table=entry.table, message=str(error)))
                continue
            if message:
                problems.append(Problem(path=entry.path, table=entry.table, message=message))
            elif modified_ns != entry.modified_ns:
                self._manifest.trust(entry.path, modified_ns)
        listed = {entry.path for entry in entries}
        for path in sorted(self.root.glob("*/dt=*/*")):
            name = path.relative_to(self.root).as_posix()
            if name not in listed:
                message = "not in the manifest: left by an append that did not finish, or put there by hand"
                problems.append(Problem(path=name, table=None, message=message))
        return problems

    def set_aside(self, path: str) -> Path:
        """Take a damaged file out of the lake and move it to ``<lake>/set_aside``; returns where it lies now."""
        with storage_errors(self.root), self._manifest.write_lock():
            self._manifest.remove(path)
            place = self.root / "set_aside" / path.replace("/", "_")
            place.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                (self.root / path).replace(place)
        return place

    def _check(self, table: Table, frame: pl.DataFrame) -> None:
        """Refuse rows that have no place in the lake."""
        if "symbol" in table.columns and not self._allow_test_symbols:
            refused = [name for name in frame["symbol"].unique().drop_nulls().sort() if is_test_symbol(name)]
            if refused:
                raise ValueError(
                    f"table {table.name}: {', '.join(refused)} are the exchange's test contracts, not a market; leave "
                    "them out, or open the lake with allow_test_symbols=True"
                )
        nameless = frame.filter(~has_identity(table))
        if not nameless.is_empty():
            either = f" or {list(table.fallback_key)}" if table.fallback_key else ""
            raise ValueError(
                f"table {table.name}: a row needs {table.time} and {list(table.key)}{either}; {nameless.height} of "
                f"{frame.height} rows have a null there, the first is {nameless.row(0, named=True)}"
            )

    def _rivals(self, table: Table, frame: pl.DataFrame) -> pl.DataFrame:
        """Stored rows among which those with the keys of ``frame`` are."""
        wanted = ranges(frame, table)
        entries = self._manifest.overlapping(table, table.key, wanted)
        if table.fallback_key:
            entries = {*entries, *self._manifest.overlapping(table, table.fallback_key, wanted)}
        within = {}
        for name in table.ranged:
            if name in table.key and name in (table.fallback_key or table.key):
                values = frame[name].to_physical()
                within[name] = (values.min(), values.max())
        among = {"symbol": frame["symbol"].unique().to_list()} if "symbol" in table.key else {}
        by_path = sorted(entries, key=lambda entry: entry.path)
        return self._read(by_path, table, table.columns.names(), among, within)

    def _read(
        self,
        entries: Sequence[FileEntry],
        table: Table,
        columns: Sequence[str],
        among: Mapping[str, Sequence[str]],
        within: Mapping[str, tuple[int, int]],
    ) -> pl.DataFrame:
        """Rows of files that are as committed."""
        self._trust(entries)
        return parquet.read(self.root, entries, table, columns, among=among, within=within)

    def _trust(self, entries: Sequence[FileEntry]) -> None:
        """Raise CorruptFile unless every file is as committed; one that looks touched is compared to the last bit."""
        for entry in entries:
            found = parquet.stamp(self.root, entry)
            if found != (entry.bytes, entry.modified_ns) and (entry.path, *found) not in self._proven:
                parquet.prove(self.root, entry)
                self._proven.add((entry.path, *found))

    def _store(self, parts: Sequence[tuple[Table, date, pl.DataFrame]], origin: str) -> None:
        """Write one file per part and make them part of the lake in one transaction."""
        paths = [f"{table.name}/dt={day}/{uuid.uuid4().hex}.parquet" for table, day, _ in parts]
        entries = []
        try:
            self._manifest.announce(paths)
            for path, (table, day, rows) in zip(paths, parts, strict=True):
                size, modified_ns, sha256 = parquet.write(self.root / path, rows, table)
                entries.append(
                    FileEntry(
                        table=table.name,
                        dt=day,
                        path=path,
                        rows=rows.height,
                        min_time=rows[table.time].min(),
                        max_time=rows[table.time].max(),
                        bytes=size,
                        modified_ns=modified_ns,
                        sha256=sha256,
                        schema_version=SCHEMA_VERSION,
                        origin=origin,
                    )
                )
            self._manifest.commit(entries, [ranges(rows, table) for table, _, rows in parts])
        except (OSError, CorruptFile):
            with suppress(OSError):  # what cannot be removed now is removed by the next append
                self._clear_leftovers()
            raise

    def _clear_leftovers(self) -> None:
        """Remove what an append left that never reached its commit."""
        abandoned = self._manifest.abandoned()
        for path in abandoned:
            (self.root / path).unlink(missing_ok=True)
            (self.root / f"{path}.tmp").unlink(missing_ok=True)
        if abandoned:
            self._manifest.forget_pending()

    def _miscounted(self, entry: FileEntry) -> str | None:
        """What the manifest says wrongly about a file's rows; reads every page against its checksum."""
        table = TABLES[entry.table]
        times = parquet.read(self.root, [entry], table, table.columns.names(), among={}, within={})[table.time]
        found = (len(times), times.min(), times.max())
        told = (entry.rows, entry.min_time, entry.max_time)
        return None if found == told else f"the manifest says {told} (rows, first, last), the file has {found}"


def _table(name: str) -> Table:
    _known(name, list(TABLES), "table")
    return TABLES[name]


def _first_ms(moment: datetime) -> int:
    """The first whole millisecond not before ``moment``."""
    return to_ms(moment + timedelta(microseconds=999))


def _check_symbols(symbols: Sequence[str] | None) -> None:
    if isinstance(symbols, str):
        raise ValueError(f"symbols: expected a list of symbols, got the text {symbols!r}; write [{symbols!r}]")


def _known(name: str, names: Sequence[str], what: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {names}"
        raise ValueError(f"unknown {what} {name!r}; {hint}")
