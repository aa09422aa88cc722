"""What the manifest says of a file, a segment of the raw log, a stream: values, and the rows they are kept as."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from data.facts import FACTS, Described, described
from data.schema import SCHEMA_VERSION
from data.table import Table

FILE_COLUMNS = '"table", dt, path, rows, min_time, max_time, bytes, modified_ns, sha256, schema_version, origin, level'


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the lake: ``path`` relative to it, times of its first and last row by the table's time column.

    ``level`` tells how it came about: 0 as appended, 1 merged from an hour's files, 2 merged from a day's.
    """

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
    level: int = 0


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file that lies on the disk and is to become part of the lake, with what the manifest keeps of its rows."""

    entry: FileEntry
    described: Described

    @classmethod
    def of(
        cls,
        table: Table,
        day: date,
        path: str,
        rows: pl.DataFrame | Described,
        *,
        written: tuple[int, int, str],
        origin: str,
        level: int = 0,
    ) -> "NewFile":
        """The file at ``path``, a place given by the lake.

        Parameters
        ----------
        rows : the rows of the file, or what ``facts.merged`` says of its pieces.
        written : bytes, modified_ns and sha256, as ``parquet.write`` returns them.
        """
        about = rows if isinstance(rows, Described) else described(rows, table)
        size, modified_ns, sha256 = written
        entry = FileEntry(
            table=table.name,
            dt=day,
            path=path,
            rows=about.facts["rows"].sum(),
            min_time=to_time(about.facts["first_ms"].min()),
            max_time=to_time(about.facts["last_ms"].max()),
            bytes=size,
            modified_ns=modified_ns,
            sha256=sha256,
            schema_version=SCHEMA_VERSION,
            origin=origin,
            level=level,
        )
        return cls(entry=entry, described=about)


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """A file that a merge has put others in place of; it stays on the disk for those who still read it."""

    path: str
    table: str
    replaced_time: datetime
    by: str


@dataclass(frozen=True, kw_only=True)
class SegmentDone:
    """How far a segment of the raw log is in the lake: up to its record number ``records``, or wholly."""

    name: str
    records: int
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class Listened:
    """Until when a stream was listened to, as far as it is sealed, and why it ended there.

    ``since_ns`` is when listening to it began, as long as it is not known what its first row follows; else None.
    """

    venue: str
    stream: str
    until_ns: int
    why: str
    since_ns: int | None = None


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, exact; raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time needs its zone: got {moment.isoformat()}; data.config.parse_utc reads it as UTC")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def first_ms(moment: datetime) -> int:
    """The first whole millisecond not before ``moment``."""
    return to_ms(moment + timedelta(microseconds=999))


def to_time(ms: int) -> datetime:
    """A UTC time that keeps every millisecond: a float of seconds would round."""
    return datetime.fromtimestamp(ms // 1_000, UTC).replace(microsecond=ms % 1_000 * 1_000)


def to_row(entry: FileEntry) -> tuple[object, ...]:
    """The values of ``FILE_COLUMNS``."""
    dated = (entry.table, entry.dt.isoformat(), entry.path, entry.rows, to_ms(entry.min_time), to_ms(entry.max_time))
    return (*dated, entry.bytes, entry.modified_ns, entry.sha256, entry.schema_version, entry.origin, entry.level)


def to_entries(rows: Sequence[tuple]) -> list[FileEntry]:
    """Files from their values of ``FILE_COLUMNS``."""
    return [
        FileEntry(
            table=table,
            dt=date.fromisoformat(dt),
            path=path,
            rows=count,
            min_time=to_time(min_time),
            max_time=to_time(max_time),
            bytes=size,
            modified_ns=modified_ns,
            sha256=sha256,
            schema_version=schema_version,
            origin=origin,
            level=level,
        )
        for table, dt, path, count, min_time, max_time, size, modified_ns, sha256, schema_version, origin, level in rows
    ]


def add(database: sqlite3.Connection, file: NewFile) -> None:
    """Put a file and what is known of its rows into the manifest."""
    row = to_row(file.entry)
    number = database.execute(f"INSERT INTO files ({FILE_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row).lastrowid
    database.executemany(
        "INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(number, file.entry.table, *span) for span in file.described.spans.iter_rows()],
    )
    add_facts(database, number, file.described.facts)


def add_facts(database: sqlite3.Connection, number: int, facts: pl.DataFrame) -> None:
    """Put the facts of the file with this number into the manifest."""
    marks = ", ".join("?" * (1 + len(FACTS)))
    database.executemany(f"INSERT INTO facts VALUES ({marks})", [(number, *fact) for fact in facts.iter_rows()])


def forget(database: sqlite3.Connection, number: int) -> None:
    """Take the file with this number out of the manifest."""
    for statement in ("facts WHERE file", "spans WHERE file", "files WHERE id"):
        database.execute(f"DELETE FROM {statement} = ?", (number,))
