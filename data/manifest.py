"""The lake's manifest: which Parquet files belong to the lake, kept in SQLite.

A file that is not listed here does not exist for any reader, so an append becomes visible all at once, when its one
transaction commits. Before an append writes, it lists its paths as pending; whatever is still pending when the next
append starts was left by a crash and is removed.
"""

import errno
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import filelock
import polars as pl

from data.table import Table

FORMAT_VERSION = 1
LOCK_WAIT_SECONDS = 600
BUSY_WAIT_SECONDS = 60

_LAYOUT = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY, "table" TEXT NOT NULL, dt TEXT NOT NULL, path TEXT NOT NULL UNIQUE,
    rows INTEGER NOT NULL, min_time INTEGER NOT NULL, max_time INTEGER NOT NULL,
    bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
    schema_version INTEGER NOT NULL, origin TEXT NOT NULL
);
CREATE INDEX files_by_table ON files ("table", min_time);
CREATE TABLE spans (
    file INTEGER NOT NULL REFERENCES files (id), "table" TEXT NOT NULL, venue TEXT NOT NULL, symbol TEXT NOT NULL,
    "column" TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
);
CREATE INDEX spans_by_symbol ON spans ("table", "column", symbol, venue, first, last, file);
CREATE INDEX spans_by_file ON spans (file);
CREATE TABLE pending (path TEXT PRIMARY KEY);
"""
_COLUMNS = '"table", dt, path, rows, min_time, max_time, bytes, modified_ns, sha256, schema_version, origin'
_OWNED = '"table" = ? AND "column" = ? AND symbol = ? AND venue = ?'
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}
_REMEDIES = {
    errno.ENOSPC: "free space on this disk",
    errno.EACCES: "give this user write permission",
    errno.EPERM: "give this user write permission",
    errno.EROFS: "mount it writable, or name another lake with --lake",
}


class CorruptFile(ValueError):
    """A file of the lake is not what was stored. The message names it and says what to do."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the lake: ``path`` relative to it, times of its first and last row by the table's time column."""

    table: str
    dt: date
    path: str
    rows: int
    min_time: datetime
    max_time: datetime
    bytes: int
    modified_ns: int
    sha256: str
    schema_version: int
    origin: str


def ranges(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    """First and last of every ranged column per venue and symbol: venue, symbol, column, first, last (int64)."""
    owner = [
        pl.col(name).fill_null("") if name in table.columns else pl.lit("").alias(name) for name in ("venue", "symbol")
    ]
    values = [pl.col(name).to_physical().cast(pl.Int64) for name in table.ranged]
    return (
        frame.select(*owner, *values)
        .group_by("venue", "symbol")
        .agg(
            *(pl.col(name).min().alias(f"first:{name}") for name in table.ranged),
            *(pl.col(name).max().alias(f"last:{name}") for name in table.ranged),
        )
        .unpivot(index=["venue", "symbol"])
        .drop_nulls("value")
        .with_columns(pl.col("variable").str.splitn(":", 2).struct.rename_fields(["end", "column"]))
        .unnest("variable")
        .pivot(on="end", on_columns=["first", "last"], index=["venue", "symbol", "column"], values="value")
    )


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, exact; raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its zone: got {moment.isoformat()}; data.config.parse_utc reads it as UTC")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Say which lake, that nothing was lost, and what to do, when the disk refuses."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno, "see the path")
        message = f"{error.strerror or error}; the lake {root} is as it was before, nothing was added: {remedy}"
        raise OSError(error.errno, message, error.filename or str(root)) from error


class Manifest:
    """The list of files of the lake at ``root``; every method is one transaction on its own connection."""

    def __init__(self, root: Path, *, create: bool = False):
        self.root = root
        self.path = root / "manifest.sqlite"
        if create and not self.path.exists():
            root.mkdir(parents=True, exist_ok=True)
            with self.write_lock():
                self._create()
        if not self.path.exists():
            raise LookupError(
                f"no lake at {root}: expected {self.path.name} there; run `aster record` or `aster import` to "
                "make one, or name another with --lake or ASTER_LAKE"
            )
        with self._open() as database:
            found = database.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT_VERSION:
            raise ValueError(f"{self.path}: format {found}, this program reads format {FORMAT_VERSION}; update it")

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        """One writer at a time, across threads and processes; the system frees it when a process dies."""
        lock = filelock.FileLock(self.root / "write.lock", timeout=LOCK_WAIT_SECONDS, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            message = f"another process has been writing for {LOCK_WAIT_SECONDS} s; wait for it or end it"
            raise TimeoutError(errno.ETIMEDOUT, message, str(self.root)) from None
        try:
            yield
        finally:
            lock.release()

    def _create(self) -> None:
        """Build the empty manifest aside and put it in place whole: another process may be looking for it."""
        if self.path.exists():
            return
        aside = self.path.with_suffix(".new")
        for leftover in (aside, aside.with_name(f"{aside.name}-journal")):
            leftover.unlink(missing_ok=True)
        aside.touch()
        with self._open(aside) as database:
            database.executescript(f"BEGIN IMMEDIATE; {_LAYOUT} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;")
        aside.replace(self.path)

    @contextmanager
    def _open(self, path: Path | None = None) -> Iterator[sqlite3.Connection]:
        """A connection whose errors are OSErrors that name the manifest; a block that raises is rolled back."""
        # The rollback journal, not the write-ahead log: that one needs to write to be read, and a lake on a full or
        # read-only disk must stay readable. Transactions here last milliseconds, so nobody waits for long.
        where = f"{(path or self.path).absolute().as_uri()}?mode=rw"  # never creates one where the lake has vanished
        try:
            with closing(sqlite3.connect(where, uri=True, timeout=BUSY_WAIT_SECONDS, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.OperationalError as error:
            code = _ERRNO.get(error.sqlite_errorcode & 0xFF, errno.EIO)
            raise OSError(code, f"manifest: {error}", str(self.path)) from error
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            raise CorruptFile(f"{self.path}: not a readable manifest ({error}); restore it from a backup") from error

    def files(
        self,
        table: Table | None = None,
        *,
        venue: str | None = None,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[FileEntry]:
        """Files in time order; with a table, only those that may hold these symbols in [start, end)."""
        where, values = ["1"], []
        if table is not None:
            spans, values = ['"table" = ?', '"column" = ?'], [table.name, table.time]
            for clause, value in (
                ("venue = ?", venue),
                ("last >= ?", None if start is None else to_ms(start)),
                ("first <= ?", None if end is None else to_ms(end)),
            ):
                if value is not None:
                    spans.append(clause)
                    values.append(value)
            if symbols is not None:
                spans.append(f"symbol IN ({', '.join('?' * len(symbols))})")
                values.extend(symbols)
            where = [f"id IN (SELECT file FROM spans WHERE {' AND '.join(spans)})"]
        return self._select(f"WHERE {' AND '.join(where)}", values)

    def overlapping(self, table: Table, key: Sequence[str], wanted: pl.DataFrame) -> list[FileEntry]:
        """Files that may hold rows with the keys of a frame whose ``ranges`` are ``wanted``."""
        columns = [name for name in table.ranged if name in key]
        within = " AND first <= ? AND last >= ?" if columns else ""  # text keys only: any file of the symbol may do
        columns = columns or [table.time]
        found: set[int] = set()
        with self._open() as database:
            for _, owned in wanted.filter(pl.col("column").is_in(columns)).group_by("venue", "symbol"):
                hits = []
                for venue, symbol, column, first, last in owned.iter_rows():
                    rows = database.execute(
                        f"SELECT file FROM spans WHERE {_OWNED}{within}",
                        (table.name, column, symbol, venue, *((last, first) if within else ())),
                    )
                    hits.append({row[0] for row in rows})
                found |= set.intersection(*hits)
        return self._select(f"WHERE id IN ({', '.join(map(str, sorted(found)))})", [])

    def symbols(self, table: Table) -> list[str]:
        """Symbols with rows in the table, sorted."""
        query = """SELECT DISTINCT symbol FROM spans WHERE "table" = ? AND "column" = ? AND symbol <> '' ORDER BY 1"""
        with self._open() as database:
            return [row[0] for row in database.execute(query, (table.name, table.time))]

    def span(self, table: Table, symbol: str, venue: str) -> tuple[datetime, datetime] | None:
        """First and last time of a symbol's rows; None without rows."""
        query = f"SELECT min(first), max(last) FROM spans WHERE {_OWNED}"
        with self._open() as database:
            first, last = database.execute(query, (table.name, table.time, symbol, venue)).fetchone()
        return None if first is None else (_to_time(first), _to_time(last))

    def announce(self, paths: Sequence[str]) -> None:
        """List paths as pending, before anything is written there."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR IGNORE INTO pending VALUES (?)", [(path,) for path in paths])
            database.execute("COMMIT")

    def abandoned(self) -> list[str]:
        """Pending paths that never became part of the lake. Only meaningful under the write lock."""
        with self._open() as database:
            return [row[0] for row in database.execute("SELECT path FROM pending EXCEPT SELECT path FROM files")]

    def forget_pending(self) -> None:
        """Drop the pending list, once its files are gone."""
        with self._open() as database:
            database.execute("DELETE FROM pending")

    def commit(self, entries: Sequence[FileEntry], spans: Sequence[pl.DataFrame]) -> None:
        """Make the files part of the lake, all or none. ``spans`` holds each file's ``ranges``."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            for entry, owned in zip(entries, spans, strict=True):
                marks = ", ".join("?" * 11)
                file = database.execute(f"INSERT INTO files ({_COLUMNS}) VALUES ({marks})", _to_row(entry)).lastrowid
                database.executemany(
                    "INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(file, entry.table, *row) for row in owned.iter_rows()],
                )
            database.execute("DELETE FROM pending")
            database.execute("COMMIT")

    def remove(self, path: str) -> None:
        """Take a file out of the lake; the file itself stays where it is."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM spans WHERE file IN (SELECT id FROM files WHERE path = ?)", (path,))
            database.execute("DELETE FROM files WHERE path = ?", (path,))
            database.execute("COMMIT")

    def trust(self, path: str, modified_ns: int) -> None:
        """Remember a file's new modification time, after its content was proven unchanged."""
        with self._open() as database:
            database.execute("UPDATE files SET modified_ns = ? WHERE path = ?", (modified_ns, path))

    def _select(self, where: str, values: Sequence[object]) -> list[FileEntry]:
        with self._open() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM files {where} ORDER BY min_time, path", values).fetchall()
        return [_to_entry(row) for row in rows]


def _to_row(entry: FileEntry) -> tuple[object, ...]:
    dated = (entry.table, entry.dt.isoformat(), entry.path, entry.rows, to_ms(entry.min_time), to_ms(entry.max_time))
    return (*dated, entry.bytes, entry.modified_ns, entry.sha256, entry.schema_version, entry.origin)


def _to_entry(row: tuple) -> FileEntry:
    table, dt, path, rows, min_time, max_time, size, modified_ns, sha256, schema_version, origin = row
    return FileEntry(
        table=table,
        dt=date.fromisoformat(dt),
        path=path,
        rows=rows,
        min_time=_to_time(min_time),
        max_time=_to_time(max_time),
        bytes=size,
        modified_ns=modified_ns,
        sha256=sha256,
        schema_version=schema_version,
        origin=origin,
    )


def _to_time(ms: int) -> datetime:
    """A UTC time that keeps every millisecond: a float of seconds would round."""
    return datetime.fromtimestamp(ms // 1_000, UTC).replace(microsecond=ms % 1_000 * 1_000)
