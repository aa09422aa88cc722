"""One Parquet file of the lake: written so that it can be proven, read so that damage cannot pass for data.

Parquet readers return a flipped bit as a value. So every page carries a checksum, which ``read`` checks, and the
manifest carries the file's sha256: it is compared whenever size or modification time differ from those of the commit.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data.decimals import Decimals, by_symbol
from data.manifest import CorruptFile, FileEntry
from data.schema import RAW, SCHEMA_VERSION, conform
from data.table import Table

MAX_GROUP_ROWS = 122_880  # DuckDB's vector-friendly size; a dictionary of so many doubles still fits one page
MIN_GROUP_ROWS = 4_096  # two vectors of DuckDB; smaller groups are slow to read: symbols with fewer rows share one
SEALED_LEVEL = 3  # of zstd: fast, as the file is merged within the hour
MERGED_LEVEL = 6
_RAW_LEVEL = 9  # raw messages repeat themselves: a fifth smaller than at 3
_GROUPS_AT_ONCE = 8
_RAW_REPEATS = ("kind", "connection")


class Written(NamedTuple):
    """A file that was written and read back."""

    bytes: int
    modified_ns: int
    sha256: str


def row_groups(runs: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(offset, rows) of each row group, for the number of rows of each symbol in file order.

    A symbol that fills a group has its own; smaller ones share a group, none is cut unless it exceeds the maximum: then
    its first groups are full and the rest of it is treated as a smaller symbol.
    """
    offset = held = 0
    for run in runs:
        if held and (held >= MIN_GROUP_ROWS or held + run > MAX_GROUP_ROWS):
            yield offset, held
            offset, held = offset + held, 0
        while run > MAX_GROUP_ROWS:
            yield offset, MAX_GROUP_ROWS
            offset, run = offset + MAX_GROUP_ROWS, run - MAX_GROUP_ROWS
        held += run
    if held:
        yield offset, held


def write(path: Path, frame: pl.DataFrame, table: Table, *, level: int = SEALED_LEVEL) -> Written:
    """Write a sorted frame to ``path``, durable and proven by reading it back.

    Raises
    ------
    OSError
        When the disk is full or not writable.
    CorruptFile
        When what comes back from the disk differs from the frame.
    """
    with Writer(path, table, level=level) as writer:
        writer.add(frame)
        return writer.close()


class Writer:
    """Writes one file piece by piece, so that it may be longer than memory; as a context it leaves no draft behind.

    The same rows give the same bytes, however they are cut into pieces.

    Parameters
    ----------
    path : where the file will be once it is closed; its folder is made where missing.
    table : what the rows are.
    level : of zstd; the raw log has its own.
    """

    def __init__(self, path: Path, table: Table, *, level: int = SEALED_LEVEL) -> None:
        self._path = path
        self._table = table
        self._level = _RAW_LEVEL if table is RAW else level
        self._draft = path.with_name(path.name + ".tmp")
        self._new_folders = [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _Hashed(self._draft)
        self._sink = pa.PythonFile(self._file, mode="w")
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pl.DataFrame] = []  # whole symbols of the next group
        self._run: list[pl.DataFrame] = []  # the symbol at hand
        self._symbol: str | None = None
        self._decimals = Decimals(table)
        self._digests: list[int] = []  # of each group
        self._encoder = ThreadPoolExecutor(1)
        self._encoding: Future | None = None  # of the group before

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._encoder.shutdown()
        self._file.close()
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):  # of a file that is given up
                self._writer.close()
        self._draft.unlink(missing_ok=True)

    def add(self, piece: pl.DataFrame) -> None:
        """The next rows: they conform to the table and go on in its order."""
        for symbol, rows in by_symbol(piece):
            if symbol != self._symbol:
                self._end_run()
                self._symbol = symbol
            self._go_on(rows)

    def close(self) -> Written:
        """Finish the file, read it back, give it its name."""
        self._end_run()
        self._flush(self._held)
        if self._writer is None:
            self._begin(self._table.empty())
        self._wait()
        told = {"table": self._table.name, "schema_version": str(SCHEMA_VERSION)}
        self._writer.add_key_value_metadata(told | self._decimals.told())
        self._writer.close()
        sha256 = self._file.sync()
        self._prove(sha256)
        self._draft.replace(self._path)
        for folder in (self._path.parent, *(folder.parent for folder in self._new_folders)):
            _sync_folder(folder)
        found = self._path.stat()
        return Written(found.st_size, found.st_mtime_ns, sha256)

    def _go_on(self, rows: pl.DataFrame) -> None:
        """More rows of the symbol at hand; the same cuts as ``row_groups``."""
        self._run.append(rows)
        held, run = _height(self._held), _height(self._run)
        if held and (held >= MIN_GROUP_ROWS or held + run > MAX_GROUP_ROWS):
            self._flush(self._held)
            self._held = []
        if run > MAX_GROUP_ROWS:
            whole = pl.concat(self._run)
            full = (run - 1) // MAX_GROUP_ROWS * MAX_GROUP_ROWS
            for offset in range(0, full, MAX_GROUP_ROWS):
                self._flush([whole.slice(offset, MAX_GROUP_ROWS)])
            self._run = [whole.slice(full)]

    def _end_run(self) -> None:
        self._held += self._run
        self._run = []

    def _flush(self, parts: Sequence[pl.DataFrame]) -> None:
        """Write one row group, while the next one is made ready."""
        if not parts:
            return
        rows = pl.concat(parts)
        if self._writer is None:
            self._begin(rows)
        self._decimals.look(rows)
        self._digests.append(_digest(rows))
        arrow = _to_arrow(rows, self._table)
        self._wait()
        self._encoding = self._encoder.submit(self._writer.write_table, arrow, row_group_size=rows.height)

    def _wait(self) -> None:
        """Until the group before is written; raises what went wrong with it."""
        if self._encoding is not None:
            self._encoding.result()

    def _begin(self, rows: pl.DataFrame) -> None:
        schema = _to_arrow(rows.clear(), self._table).schema
        self._writer = pq.ParquetWriter(self._sink, schema, compression_level=self._level, **_settings(self._table))

    def _prove(self, sha256: str) -> None:
        """Raise CorruptFile unless the draft holds what was written."""
        refusal = f"{self._draft}: the disk returned other bytes than were written; check the disk"
        if _sha256(self._draft) != sha256:
            raise CorruptFile(refusal)
        with pq.ParquetFile(self._draft, page_checksum_verification=True) as written:
            for group, digest in enumerate(self._digests):
                if _digest(conform(pl.from_arrow(written.read_row_group(group)), self._table)) != digest:
                    raise CorruptFile(refusal)


def read(
    root: Path,
    entries: Sequence[FileEntry],
    table: Table,
    columns: Sequence[str],
    *,
    among: Mapping[str, Collection[str]],
    within: Mapping[str, tuple[int, int]],
) -> pl.DataFrame:
    """Rows of these files, in no promised order.

    Parameters
    ----------
    columns : names of the columns to return; those that an older file lacks are null.
    among : text columns and the values they may have.
    within : columns of ids or times and their first and last allowed value, in the column's own unit.

    Raises
    ------
    CorruptFile
        When a file is missing, changed, or a page's checksum is wrong.
    """
    if not entries:
        return table.empty().select(columns)
    needed = list(dict.fromkeys((*columns, *among, *within)))
    bounds = within | {name: (min(values), max(values)) for name, values in among.items() if values}
    repetitive = [name for name in needed if name in among or isinstance(table.columns[name], pl.Enum)]
    workers = os.cpu_count() or 1

    def load(entry: FileEntry) -> pa.Table:
        try:
            with pq.ParquetFile(
                root / entry.path, page_checksum_verification=True, pre_buffer=False, read_dictionary=repetitive
            ) as file:
                groups = _groups_in(file.metadata, bounds)
                return file.read_row_groups(groups, needed, use_threads=len(entries) < workers)
        except (OSError, pa.ArrowException):
            prove(root, entry)
            raise

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(load, entries))
    rows = pl.from_arrow(pa.concat_tables(parts, promote_options="default").unify_dictionaries())
    for name, values in among.items():
        rows = rows.filter(pl.col(name).cast(pl.String).is_in(list(values)))
    for name, (first, last) in within.items():
        rows = rows.filter(pl.col(name).to_physical().is_between(first, last))
    return conform(rows, table).select(columns)


def pieces(root: Path, entry: FileEntry, table: Table, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """All rows of a file in its order, about a million at a time, each page compared with its checksum.

    Raises
    ------
    CorruptFile
        When the file is missing, changed, or a page's checksum is wrong.
    """
    try:
        with pq.ParquetFile(root / entry.path, page_checksum_verification=True, pre_buffer=False) as file:
            for first in range(0, file.num_row_groups, _GROUPS_AT_ONCE):
                groups = range(first, min(first + _GROUPS_AT_ONCE, file.num_row_groups))
                rows = pl.from_arrow(file.read_row_groups(list(groups), list(columns), use_threads=False))
                yield conform(rows, table).select(columns)
    except (OSError, pa.ArrowException):
        prove(root, entry)
        raise


def prove(root: Path, entry: FileEntry) -> int:
    """Compare a file with its manifest entry to the last bit; returns its modification time, ns.

    Raises
    ------
    CorruptFile
        Naming the file and what to do.
    """
    path = root / entry.path
    advice = f"run `aster verify --set-aside`, then import or repair {entry.table} of {entry.dt} again"
    if not path.is_file():
        raise CorruptFile(f"{path}: the file is missing; {advice}")
    try:
        found = _sha256(path)
    except OSError as error:
        raise CorruptFile(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    if found != entry.sha256:
        raise CorruptFile(f"{path}: expected sha256 {entry.sha256[:12]}…, got {found[:12]}…; {advice}")
    return path.stat().st_mtime_ns


def stamp(root: Path, entry: FileEntry) -> tuple[int, int]:
    """(bytes, modification time in ns) of a file now; (0, 0) when it is missing."""
    try:
        found = (root / entry.path).stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _groups_in(metadata: pq.FileMetaData, bounds: Mapping[str, tuple]) -> list[int]:
    """Row groups that may hold values within all the bounds, by the statistics in the footer."""
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            known = column.statistics
            if column.path_in_schema in bounds and known is not None and known.has_min_max:
                first, last = bounds[column.path_in_schema]
                low, high = (known.min, known.max) if isinstance(first, str) else (known.min_raw, known.max_raw)
                if high < first or low > last:
                    break
        else:
            found.append(number)
    return found


def _settings(table: Table) -> dict[str, Any]:
    """How a table's columns are encoded: delta on times and ids, dictionaries elsewhere, a tenth of the CSV's size."""
    columns = table.columns
    coded = {
        name: "DELTA_BINARY_PACKED" for name, dtype in columns.items() if dtype.is_integer() or dtype.is_temporal()
    }
    coded |= {name: "DELTA_LENGTH_BYTE_ARRAY" for name, dtype in columns.items() if dtype == pl.Binary}
    if table is RAW:
        coded = {name: coding for name, coding in coded.items() if name not in _RAW_REPEATS}
    dictionaries = [name for name, dtype in columns.items() if dtype.is_float() or dtype in (pl.String, pl.Enum)]
    if table is RAW:
        dictionaries += _RAW_REPEATS
    return {
        "compression": "zstd",
        "use_dictionary": dictionaries,
        "column_encoding": coded,
        "write_page_checksum": True,
        "write_statistics": [name for name in columns if columns[name] != pl.Binary],
        "store_schema": False,
    }


def _to_arrow(rows: pl.DataFrame, table: Table) -> pa.Table:
    enums = [name for name, dtype in table.columns.items() if isinstance(dtype, pl.Enum)]
    return rows.with_columns(pl.col(enums).cast(pl.String)).to_arrow(compat_level=pl.CompatLevel.oldest())


def _digest(rows: pl.DataFrame) -> int:
    """A number that stands for these rows in whatever order, within this process."""
    return int(rows.hash_rows(seed=0).to_numpy().sum(dtype=np.uint64))


def _height(parts: Sequence[pl.DataFrame]) -> int:
    return sum(part.height for part in parts)


class _Hashed:
    """The file being written, and the sha256 of what was written."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()

    def write(self, content: bytes) -> int:
        if self._file.closed:  # given up; a ParquetWriter insists on writing its footer
            return len(content)
        self._sha256.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def sync(self) -> str:
        """Force it onto the disk; returns the sha256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._sha256.hexdigest()

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, which has refused it before
            self._file.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename or a new folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
