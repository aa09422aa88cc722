"""The lake's manifest: which Parquet files belong to the lake, and how far the raw log is sealed into it.

A file that is not listed here does not exist for any reader, so an append becomes visible all at once, when its one
transaction commits. Before anything is written, its paths are listed as pending under the name of a lock; whoever holds
that lock next removes what is still pending there: a crash left it.
"""

import copy
import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import polars as pl

from data import manifest_database
from data.facts import FACTS
from data.locks import is_locked
from data.manifest_database import FORMAT_VERSION
from data.manifest_database import CorruptFile as CorruptFile  # the manifest's door: importers need one module only
from data.manifest_entries import FILE_COLUMNS, Replaced, add, add_facts, forget, to_entries
from data.manifest_entries import FileEntry as FileEntry
from data.manifest_entries import Listened as Listened
from data.manifest_entries import NewFile as NewFile
from data.manifest_entries import SegmentDone as SegmentDone
from data.manifest_entries import first_ms as first_ms
from data.manifest_entries import to_ms as to_ms
from data.manifest_entries import to_time as to_time
from data.table import Table

LOCK_WAIT_SECONDS = 600
SEGMENTS_KEPT_DAYS = 30  # that a segment is sealed matters until it is removed, which follows at once

_OWNED = '"table" = ? AND "column" = ? AND symbol = ? AND venue = ?'
_REMEDIES = {
    errno.ENOSPC: "free space on this disk",
    errno.EACCES: "give this user write permission",
    errno.EPERM: "give this user write permission",
    errno.EROFS: "mount it writable, or name another lake with --lake",
}


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
    """The list of files of the lake at ``root``; every method is one transaction."""

    def __init__(self, root: Path, *, create: bool = False):
        self.root = root
        self.path = root / "manifest.sqlite"
        self._moment: sqlite3.Connection | None = None  # of which all is read; None: of now
        self._connection: sqlite3.Connection | None = None  # for all that is done; None: each time a new one
        if create and not self.path.exists():
            root.mkdir(parents=True, exist_ok=True)
            with self._making_lock():
                if not self.path.exists():
                    manifest_database.create(self.path)
        if not self.path.exists():
            raise LookupError(
                f"no lake at {root}: expected {self.path.name} there; run `aster record` or `aster import` to "
                "make one, or name another with --lake or ASTER_LAKE"
            )
        ((found,),) = self._ask("PRAGMA user_version")
        if 1 <= found < FORMAT_VERSION:
            with self._making_lock():
                manifest_database.bring_forward(self.path)
        elif found != FORMAT_VERSION:
            raise ValueError(f"{self.path}: format {found}, this program reads format {FORMAT_VERSION}; update it")

    @contextmanager
    def locked(self, *names: str) -> Iterator[None]:
        """Hold the locks of these names, each by one at a time across threads and processes; ``conflicts`` comes last.

        Everybody takes them in that order, so nobody waits in a circle. The system frees them when a process dies.
        """
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with ExitStack() as held:
            for name in sorted(names, key=lambda name: (name == "conflicts", name)):
                held.enter_context(self._lock(folder / f"{name}.lock"))
            yield

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        lock = filelock.FileLock(path, timeout=LOCK_WAIT_SECONDS, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            message = f"another process has been writing for {LOCK_WAIT_SECONDS} s; wait for it or end it"
            raise TimeoutError(errno.ETIMEDOUT, message, str(path)) from None
        try:
            yield
        finally:
            lock.release()

    def _making_lock(self) -> Any:
        """Held while the manifest is made or brought forward; programs of format 1 write under it."""
        return self._lock(self.root / "write.lock")

    # --- files -------------------------------------------------------------------------------------------------------

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
        if table is None:
            return to_entries(self._ask(f"SELECT {FILE_COLUMNS} FROM files ORDER BY min_time, path"))
        where, values = _holding(table, venue, symbols, start, end)
        return to_entries(self._ask(f"SELECT {FILE_COLUMNS} FROM files WHERE {where} ORDER BY min_time, path", values))

    def narrowed(
        self, *, symbols: Sequence[str] | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> dict[str, list[FileEntry]]:
        """Per table with any, files in time order that may hold these symbols, or rows of none, in [start, end)."""
        terms, values = ["1"], []
        for term, moment in (("max_time >= ?", start), ("min_time < ?", end)):
            if moment is not None:
                terms.append(term)
                values.append(first_ms(moment))
        if symbols is not None:
            marks = ", ".join("?" * len(symbols))
            terms.append(f"EXISTS (SELECT 1 FROM spans WHERE file = files.id AND symbol IN ('', {marks}))")
            values.extend(symbols)
        where = " AND ".join(terms)
        found: dict[str, list[FileEntry]] = {}
        for entry in to_entries(
            self._ask(f"SELECT {FILE_COLUMNS} FROM files WHERE {where} ORDER BY min_time, path", values)
        ):
            found.setdefault(entry.table, []).append(entry)
        return found

    def overlapping(self, table: Table, key: Sequence[str], wanted: pl.DataFrame) -> list[FileEntry]:
        """Files that may hold rows with the keys of a frame whose ``ranges`` are ``wanted``."""
        columns = [name for name in table.ranged if name in key]
        within = " AND last >= ? AND first <= ?" if columns else ""  # text keys only: any file of the symbol may do
        columns = columns or [table.time]
        owners = wanted.filter(pl.col("column").is_in(columns)).partition_by("venue", "symbol")

        def ask(database: sqlite3.Connection) -> list[tuple]:
            found: set[int] = set()
            for owned in owners:
                hits = []
                for venue, symbol, column, first, last in owned.iter_rows():
                    values = (table.name, column, symbol, venue, *((first, last) if within else ()))
                    rows = database.execute(f"SELECT file FROM spans WHERE {_OWNED}{within}", values)
                    hits.append({row[0] for row in rows})
                found |= set.intersection(*hits)
            where = f"id IN ({', '.join(map(str, sorted(found)))})"
            return database.execute(
                f"SELECT {FILE_COLUMNS} FROM files WHERE {where} ORDER BY min_time, path"
            ).fetchall()

        return to_entries(self._read(ask))

    def state(self) -> tuple[int, int]:
        """Number of the newest file and rows of all: they differ when rows were added."""
        ((newest, rows),) = self._ask("SELECT coalesce(max(id), 0), coalesce(sum(rows), 0) FROM files")
        return newest, rows

    def symbols(self, table: Table) -> list[str]:
        """Symbols with rows in the table, sorted."""
        query = """SELECT DISTINCT symbol FROM spans WHERE "table" = ? AND "column" = ? AND symbol <> '' ORDER BY 1"""
        return [symbol for (symbol,) in self._ask(query, (table.name, table.time))]

    def span(self, table: Table, symbol: str, venue: str) -> tuple[datetime, datetime] | None:
        """First and last time of a symbol's rows; None without rows."""
        query = f"SELECT min(first), max(last) FROM spans WHERE {_OWNED}"
        ((first, last),) = self._ask(query, (table.name, table.time, symbol, venue))
        return None if first is None else (to_time(first), to_time(last))

    def facts(
        self,
        table: Table,
        *,
        venue: str | None = None,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pl.DataFrame:
        """``FACTS`` per file that may hold such rows, with path, dt and level."""
        where, values = _holding(table, None, symbols, start, end)
        terms = ["1"]
        for name, allowed in (("venue", None if venue is None else [venue]), ("symbol", symbols)):
            if allowed is not None:
                terms.append(f"facts.{name} IN ({', '.join('?' * len(allowed))})")
                values = [*values, *allowed]
        names = ", ".join(f"facts.{name}" for name in FACTS)
        query = (
            f"SELECT path, dt, level, {names} FROM facts JOIN files ON files.id = facts.file "
            f"WHERE facts.file IN (SELECT id FROM files WHERE {where}) AND {' AND '.join(terms)}"
        )
        schema = {"path": pl.String, "dt": pl.String, "level": pl.Int64, **FACTS}
        return pl.DataFrame(self._ask(query, values), schema=schema, orient="row")

    def undescribed(self) -> list[FileEntry]:
        """Files without facts: those that were stored before facts were kept."""
        none = "NOT EXISTS (SELECT 1 FROM facts WHERE file = files.id)"
        return to_entries(self._ask(f"SELECT {FILE_COLUMNS} FROM files WHERE {none}"))

    # --- changes -----------------------------------------------------------------------------------------------------

    def announce(self, places: Mapping[str, str]) -> None:
        """List paths as pending, before anything is written there, each with the lock that is held meanwhile."""
        with self._write() as database:
            database.executemany("INSERT OR IGNORE INTO pending VALUES (?, ?)", places.items())

    def abandoned(self, owner: str) -> list[str]:
        """Pending paths that never became part of the lake. Only meaningful under the owner's lock."""
        query = "SELECT path FROM pending WHERE owner = ? AND path NOT IN (SELECT path FROM files)"
        return [path for (path,) in self._ask(query, (owner,))]

    def forget_pending(self, owner: str) -> None:
        """Drop the owner's pending list, once its files are gone."""
        with self._write() as database:
            database.execute("DELETE FROM pending WHERE owner = ?", (owner,))

    def commit(
        self,
        new: Sequence[NewFile],
        *,
        old: Sequence[FileEntry] = (),
        segment: SegmentDone | None = None,
        listened: Sequence[Listened] = (),
    ) -> bool:
        """Make the new files part of the lake, in place of the old ones, all or none.

        False when an old file is no longer part of the lake; nothing has changed then.
        """
        now_ms = to_ms(datetime.now(UTC))
        with self._write() as database:
            ids = [
                row[0]
                for entry in old
                for row in database.execute("SELECT id FROM files WHERE path = ?", (entry.path,)).fetchall()
            ]
            if len(ids) < len(old):
                return False
            for number, entry in zip(ids, old, strict=True):
                forget(database, number)
                by = new[0].entry.path if new else ""
                database.execute("INSERT INTO replaced VALUES (?, ?, ?, ?)", (entry.path, entry.table, now_ms, by))
            for file in new:
                add(database, file)
                database.execute("DELETE FROM pending WHERE path = ?", (file.entry.path,))
            if segment is not None:
                done = (segment.name, segment.records, segment.is_whole, now_ms)
                database.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?)", done)
                past = now_ms - SEGMENTS_KEPT_DAYS * 86_400_000
                database.execute("DELETE FROM segments WHERE is_whole AND sealed_ms < ?", (past,))
            database.executemany(
                "INSERT INTO listened VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET until_ns = excluded.until_ns, "
                "why = excluded.why, since_ns = excluded.since_ns WHERE excluded.until_ns >= until_ns",
                [(each.venue, each.stream, each.until_ns, each.why, each.since_ns) for each in listened],
            )
        return True

    def remove(self, path: str) -> None:
        """Take a file out of the lake; the file itself stays where it is."""
        with self._write() as database:
            for (number,) in database.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchall():
                forget(database, number)

    def trust(self, path: str, modified_ns: int) -> None:
        """Remember a file's new modification time, after its content was proven unchanged."""
        with self._write() as database:
            database.execute("UPDATE files SET modified_ns = ? WHERE path = ?", (modified_ns, path))

    def describe(self, path: str, facts: pl.DataFrame) -> None:
        """Add the facts of a file that has none."""
        with self._write() as database:
            for (number,) in database.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchall():
                database.execute("DELETE FROM facts WHERE file = ?", (number,))
                add_facts(database, number, facts)

    # --- the raw log, and files that were replaced -------------------------------------------------------------------

    def sealed(self, names: Sequence[str]) -> dict[str, SegmentDone]:
        """How far these segments are sealed, by name; those that are not begun are absent."""
        marks = ", ".join("?" * len(names))
        rows = self._ask(f"SELECT name, records, is_whole FROM segments WHERE name IN ({marks})", names)
        return {row[0]: SegmentDone(name=row[0], records=row[1], is_whole=bool(row[2])) for row in rows}

    def listened(self) -> dict[tuple[str, str], Listened]:
        """Until when each stream of each venue was listened to."""
        rows = self._ask("SELECT venue, stream, until_ns, why, since_ns FROM listened")
        return {
            (venue, stream): Listened(venue=venue, stream=stream, until_ns=until_ns, why=why, since_ns=since_ns)
            for venue, stream, until_ns, why, since_ns in rows
        }

    def replaced(self) -> list[Replaced]:
        """Files that were replaced and not yet dropped, oldest first."""
        rows = self._ask('SELECT path, "table", replaced_ms, "by" FROM replaced ORDER BY replaced_ms, path')
        return [Replaced(path=path, table=table, replaced_time=to_time(ms), by=by) for path, table, ms, by in rows]

    def paths(self) -> set[str]:
        """Every path that has a reason to be there: files, replaced ones, and those that are being written."""
        with self.still() as still:
            known = still._ask("SELECT path FROM files UNION SELECT path FROM replaced")
            pending = still._ask("SELECT path, owner FROM pending")
        written = [path for path, owner in pending if is_locked(self.root / "locks" / f"{owner}.lock")]
        return {path for (path,) in known} | {path + end for path in written for end in ("", ".tmp")}

    def forget_replaced(self, paths: Sequence[str]) -> None:
        """Drop replaced files from the list, once they are gone from the disk."""
        with self._write() as database:
            database.executemany("DELETE FROM replaced WHERE path = ?", [(path,) for path in paths])

    @contextmanager
    def still(self) -> Iterator["Manifest"]:
        """This manifest as it is now, whatever is written meanwhile; for questions that belong together."""
        if self._moment is not None:
            yield self
            return
        still = copy.copy(self)
        with manifest_database.reading(self.path) as still._moment:
            yield still

    @contextmanager
    def connected(self) -> Iterator["Manifest"]:
        """This manifest with one connection for all that is done in the block, by this thread."""
        connected = copy.copy(self)
        with manifest_database.connected(self.path) as connected._connection:
            yield connected

    def snapshot(self, path: Path) -> None:
        """A consistent copy of the manifest in one file at ``path``."""
        manifest_database.copy(self.path, path)

    def _ask(self, query: str, values: Sequence[object] = ()) -> list[tuple]:
        return self._read(lambda database: database.execute(query, values).fetchall())

    def _read(self, ask: Callable[[sqlite3.Connection], list[tuple]]) -> list[tuple]:
        held = self._moment or self._connection
        return manifest_database.read(self.path, ask) if held is None else ask(held)

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        return manifest_database.write(self.path, self._connection)


def _holding(
    table: Table,
    venue: str | None,
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
) -> tuple[str, list[object]]:
    """The condition on a file that it may hold such rows, and the condition's values."""
    terms, values = ['"table" = ?'], [table.name]
    if venue is None and symbols is None:
        within = (("max_time >= ?", start), ("min_time < ?", end))
    else:
        within = (("last >= ?", start), ("first < ?", end))
        terms.append('"column" = ?')
        values.append(table.time)
    for name, allowed in (("symbol", symbols), ("venue", None if venue is None else [venue])):
        if allowed is not None:
            terms.append(f"{name} IN ({', '.join('?' * len(allowed))})")
            values.extend(allowed)
    for term, moment in within:
        if moment is not None:
            terms.append(term)
            values.append(first_ms(moment))
    where = " AND ".join(terms)
    return (where if venue is None and symbols is None else f"id IN (SELECT file FROM spans WHERE {where})"), values
