"""One Parquet file of the lake: written so that it can be proven, read so that damage cannot pass for data.

Parquet readers return a flipped bit as a value. So every page carries a checksum, which ``read`` checks, and the
manifest carries the file's sha256: it is compared whenever size or modification time differ from those of the commit.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from data.manifest import CorruptFile, FileEntry
from data.schema import SCHEMA_VERSION, conform
from data.table import Table

MAX_GROUP_ROWS = 122_880  # DuckDB's vector-friendly size; a dictionary of so many doubles still fits one page
MIN_GROUP_ROWS = 8_192  # smaller groups are slow to read: symbols with fewer rows share one
ZSTD_LEVEL = 3


def row_groups(runs: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(offset, rows) of each row group, for the number of rows of each symbol in file order.

    A symbol that fills a group has its own; smaller ones share a group, none is cut unless it exceeds the maximum.
    """
    offset = held = 0
    for run in runs:
        if held and (held >= MIN_GROUP_ROWS or held + run > MAX_GROUP_ROWS):
            yield offset, held
            offset, held = offset + held, 0
        pieces = -(-run // MAX_GROUP_ROWS)
        for piece in range(1, pieces):
            rows = run * piece // pieces - run * (piece - 1) // pieces
            yield offset, rows
            offset += rows
        held += run - run * (pieces - 1) // pieces
    if held:
        yield offset, held


def write(path: Path, frame: pl.DataFrame, table: Table) -> tuple[int, int, str]:
    """Write a sorted frame to ``path``, durable and proven by reading it back: (bytes, modified_ns, sha256).

    Raises
    ------
    OSError
        When the disk is full or not writable.
    CorruptFile
        When what comes back from the disk differs from the frame.
    """
    content = _encode(frame, table)
    sha256 = hashlib.sha256(content).hexdigest()
    new_folders = [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    with pq.ParquetFile(draft, page_checksum_verification=True) as written:
        back = conform(pl.from_arrow(written.read()), table)
    if _sha256(draft) != sha256 or not back.equals(frame):
        raise CorruptFile(f"{draft}: the disk returned other bytes than were written; check the disk")
    draft.replace(path)
    for folder in (path.parent, *(folder.parent for folder in new_folders)):
        _sync_folder(folder)
    return len(content), path.stat().st_mtime_ns, sha256


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


def _encode(frame: pl.DataFrame, table: Table) -> pa.Buffer:
    """The bytes of the file. Delta encoding on times and ids, dictionaries elsewhere: a tenth of the CSV's size."""
    enums = [name for name, dtype in table.columns.items() if isinstance(dtype, pl.Enum)]
    arrow = frame.with_columns(pl.col(enums).cast(pl.String)).to_arrow(compat_level=pl.CompatLevel.oldest())
    deltas = [name for name, dtype in table.columns.items() if dtype.is_integer() or dtype.is_temporal()]
    dictionaries = [name for name, dtype in table.columns.items() if dtype.is_float() or dtype == pl.String]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        arrow.schema,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=dictionaries + enums,
        column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        runs = frame["symbol"].rle().struct.field("len") if "symbol" in table.columns else [frame.height]
        for offset, rows in row_groups(runs):
            writer.write_table(arrow.slice(offset, rows), row_group_size=rows)
        writer.add_key_value_metadata({"table": table.name, "schema_version": str(SCHEMA_VERSION)})
    return sink.getvalue()


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
