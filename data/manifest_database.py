"""The manifest's SQLite file: its layout, and how it is opened whatever the disk allows.

It is kept in SQLite's write-ahead mode: a reader, even one stopped in the middle, never holds up a writer, and sees the
lake of the moment it began. That mode wants two small files beside the manifest, also to read. Where they cannot be
made (a full or read-only disk), readers go without: nobody writes there, and that is checked after every read.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

FORMAT_VERSION = 3
BUSY_WAIT_SECONDS = 60
_ATTEMPTS = 50  # of a read without the files beside the manifest, while somebody writes after all

_LAYOUT_1 = """
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
CREATE INDEX spans_by_file ON spans (file);
CREATE TABLE pending (path TEXT PRIMARY KEY);
"""
# From each format to the next. A new manifest is made in format 1 and brought forward too: the way is walked every day.
_FORWARD_1 = """
ALTER TABLE files ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pending ADD COLUMN owner TEXT NOT NULL DEFAULT '';
DROP INDEX IF EXISTS spans_by_symbol;
DROP INDEX spans_by_file;
CREATE INDEX spans_by_file ON spans (file, symbol);
CREATE INDEX files_by_time ON files (max_time, min_time);
CREATE INDEX spans_by_last ON spans ("table", "column", symbol, venue, last, first, file);
CREATE TABLE facts (
    file INTEGER NOT NULL REFERENCES files (id), venue TEXT NOT NULL, symbol TEXT NOT NULL, interval TEXT,
    rows INTEGER NOT NULL, counted INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    first_id INTEGER, last_id INTEGER, missing INTEGER,
    longest_gap_ms INTEGER NOT NULL, longest_gap_from_ms INTEGER
);
CREATE INDEX facts_by_file ON facts (file);
CREATE TABLE replaced (
    path TEXT PRIMARY KEY, "table" TEXT NOT NULL, replaced_ms INTEGER NOT NULL, "by" TEXT NOT NULL
);
CREATE TABLE segments (
    name TEXT PRIMARY KEY, records INTEGER NOT NULL, is_whole INTEGER NOT NULL, sealed_ms INTEGER NOT NULL
);
CREATE TABLE listened (
    venue TEXT NOT NULL, stream TEXT NOT NULL, until_ns INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (venue, stream)
);
"""
_FORWARD_2 = """
ALTER TABLE listened ADD COLUMN since_ns INTEGER;
"""
_FORWARD = (_FORWARD_1, _FORWARD_2)
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}
_NO_SIDE_FILES = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)

_Found = TypeVar("_Found")


class _Disturbed(Exception):
    """What was read may be neither the manifest of one moment nor that of another."""


class CorruptFile(ValueError):
    """A file of the lake is not what was stored. The message names it and says what to do."""


def create(path: Path) -> None:
    """Build an empty manifest aside and put it in place whole: another process may be looking for it."""
    aside = path.with_suffix(".new")
    for leftover in (aside, *(aside.with_name(aside.name + end) for end in ("-journal", "-wal", "-shm"))):
        leftover.unlink(missing_ok=True)
    aside.touch()
    with _told(aside), closing(_connect(aside, "mode=rw")) as database:
        database.executescript(
            f"BEGIN IMMEDIATE; {_LAYOUT_1} {' '.join(_FORWARD)} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
        _go_write_ahead(database)
    aside.replace(path)


def bring_forward(path: Path) -> None:
    """Make a manifest of an older format one of this format, in one transaction. Its files stay as they are."""
    with _told(path), closing(_connect(path, "mode=rw")) as database:
        _go_write_ahead(database)  # first: while others read this cannot be done, and then all stays as it was
        database.execute("BEGIN IMMEDIATE")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        for statements in _FORWARD[found - 1 :]:  # none where another process was faster
            for statement in statements.split(";")[:-1]:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        database.execute("COMMIT")


def read(path: Path, ask: Callable[[sqlite3.Connection], _Found]) -> _Found:
    """What ``ask`` finds, all of it in the manifest of one moment; it may be called again.

    Raises
    ------
    OSError
        When the manifest cannot be opened.
    CorruptFile
        When it is no manifest.
    """
    for _ in range(_ATTEMPTS):
        try:
            with reading(path) as database:
                return ask(database)
        except OSError as error:
            if error.errno != errno.EBUSY or not isinstance(error.__cause__, _Disturbed):
                raise
            disturbed = error
    raise disturbed


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees the manifest of this moment; errors as ``read``.

    Where the files beside the manifest cannot be made, a process that writes after all is noticed at the end: EBUSY.
    """
    with _told(path), ExitStack() as opened:
        before = None
        try:
            database = opened.enter_context(closing(_connect(path, "mode=ro")))
            database.execute("BEGIN")
            database.execute("SELECT 1 FROM sqlite_master").fetchone()  # the moment is now, not at the first question
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_SIDE_FILES or not path.exists():
                raise
            before = _stamps(path)
            # unix-none takes no locks; the log is then read from memory of our own, in SQLite's exclusive mode
            how = "mode=ro&vfs=unix-none" if before[1] else "immutable=1"
            database = opened.enter_context(closing(_connect(path, how)))
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN")
        try:
            yield database
        except sqlite3.DatabaseError as error:
            if before is not None and _stamps(path) != before:
                raise _Disturbed(str(error)) from error
            raise
        if before is not None and _stamps(path) != before:
            raise _Disturbed("written to by a process that this one cannot take turns with")


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for several reads and transactions: opening and closing one takes longer than most of them."""
    with _told(path), closing(_connect(path, "mode=rw")) as database:  # rw never creates one where the lake is gone
        database.execute("PRAGMA synchronous = FULL")
        yield database


@contextmanager
def write(path: Path, database: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
    """One transaction: a block that raises is rolled back. Its errors are OSErrors that name the manifest."""
    with _told(path), nullcontext(database) if database else connected(path) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.rollback()
            raise
        database.execute("COMMIT")


def copy(path: Path, place: Path) -> None:
    """A consistent copy of the manifest in one file, without any beside it."""
    place.unlink(missing_ok=True)
    with _told(place), closing(_connect(place, "mode=rwc")) as target:
        read(path, lambda database: database.backup(target))
        target.execute("PRAGMA journal_mode = DELETE")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    where = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(where, uri=True, timeout=BUSY_WAIT_SECONDS, isolation_level=None)


def _go_write_ahead(database: sqlite3.Connection) -> None:
    """Leave the rollback journal. A file system that cannot stays with it: all works, but readers hold up writers."""
    database.execute("PRAGMA journal_mode = WAL")


def _stamps(path: Path) -> tuple[object, ...]:
    """Modification and size of the manifest, and of its log; None for a log that is missing or empty."""
    found = path.stat()
    try:
        log = path.with_name(f"{path.name}-wal").stat()
    except FileNotFoundError:
        log = None
    return (found.st_mtime_ns, found.st_size), (log.st_mtime_ns, log.st_size) if log and log.st_size else None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as OSErrors that name the manifest, with the number that the disk would have given."""
    try:
        yield
    except sqlite3.OperationalError as error:
        code = _ERRNO.get(error.sqlite_errorcode & 0xFF, errno.EIO)
        raise OSError(_reason(path, code), f"manifest: {error}", str(path)) from error
    except _Disturbed as error:
        raise OSError(errno.EBUSY, f"manifest: {error}", str(path)) from error
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise CorruptFile(f"{path}: not a readable manifest ({error}); restore it from a backup") from error


def _reason(path: Path, code: int) -> int:
    """What the disk itself says, where SQLite only knows that it could not."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return code
    if disk.f_flag & os.ST_RDONLY:
        return errno.EROFS
    return errno.ENOSPC if code in (errno.EIO, errno.EACCES) and disk.f_bavail == 0 else code
