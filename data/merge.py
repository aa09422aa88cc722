"""Files of one UTC date become one file with the same rows, in the table's order.

The same rows give the same bytes, whatever files they lay in before. They pass through memory slice by slice, so a day
may be longer than memory. A slice may lie in every file, so a day that is short enough is read once and cut in memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from data import parquet
from data.decimals import by_symbol
from data.facts import Described, described, merged
from data.lake import Lake
from data.manifest import CorruptFile, FileEntry, NewFile
from data.schema import DEPTH, RAW, conform
from data.table import Table

_SLICE_BYTES = 160 << 20  # in memory; some four of them are there at a time
_HELD_BYTES = 3 * _SLICE_BYTES  # days up to here are held whole, while smaller slices pass
_SLICE_OF_HELD_BYTES = _SLICE_BYTES // 2
_PAYLOAD_BYTES = 250  # of a raw message
_MAX_FILE_BYTES = 2 << 30
_STORED_ROW_BYTES = {RAW.name: 40, DEPTH.name: 60}  # on the disk, about; other tables take less than the next number
_OTHER_ROW_BYTES = 20
_STEP = "10s"  # the finest cut within a symbol


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Files that hold the rows of others. ``duplicates``: rows whose key another row has too, which must not be."""

    files: list[NewFile]
    duplicates: int


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Rows that are read at once: all of these symbols, or one symbol's in [start, end). None leaves a side open."""

    symbols: tuple[str, str] | None = None  # first and last; "" for rows without one
    start: datetime | None = None
    end: datetime | None = None


def merge(lake: Lake, table: Table, day: date, entries: Sequence[FileEntry], *, level: int) -> Merge:
    """Write the rows of these files of one date anew; ask for it while ``lake.merging()``.

    The new files are not part of the lake yet: ``lake.replace`` makes them so.

    Parameters
    ----------
    entries : files of this table and date.
    level : of the new files, see ``FileEntry``.

    Raises
    ------
    CorruptFile
        When one of the files is damaged, naming it. The lake is as it was.
    OSError
        When the disk is full.
    """
    for entry in entries:
        parquet.prove(lake.root, entry)
    counts = _counts(lake, table, day, entries)
    stored = _Stored(lake.root, table, entries)
    pieces = _Pieces(_ahead(stored.read, list(_slices(stored, counts, _rows_at_once(stored)))))
    files, duplicates = [], 0
    for rows in file_rows(list(counts.values()), _max_file_rows(table)):
        path = lake.place(table.name, day)
        about: list[Described] = []
        with parquet.Writer(lake.root / path, table, level=parquet.MERGED_LEVEL) as writer:
            for piece in pieces.take(rows):
                writer.add(piece)
                about.append(described(piece, table))
                duplicates += _duplicates(piece, table)
            written = writer.close()
        origin = f"merged from {len(entries)} files"
        files.append(NewFile.of(table, day, path, merged(about, table), written=written, origin=origin, level=level))
    found = sum(file.entry.rows for file in files) + sum(piece.height for piece in pieces.rest())
    if found != (told := sum(entry.rows for entry in entries)):
        raise CorruptFile(f"{table.name} of {day}: the manifest tells of {told} rows, its files hold {found}")
    return Merge(files=files, duplicates=duplicates)


def file_rows(runs: Sequence[int], most: int) -> list[int]:
    """Rows of each file, for the number of rows of each symbol: a symbol is cut only when it exceeds ``most``."""
    files, held = [], 0
    for run in runs:
        if held and held + run > most:
            files.append(held)
            held = 0
        while run > most:
            files.append(most)
            run -= most
        held += run
    return [*files, held] if held else files


class _Stored:
    """The rows of the files; files that look alike but for their columns read as one. ``is_held``: they are read."""

    def __init__(self, root: Path, table: Table, entries: Sequence[FileEntry]) -> None:
        self.table = table
        by_time = sorted(entries, key=lambda entry: (entry.min_time, entry.path))  # nearly in order already
        self._frame = pl.scan_parquet(
            [root / entry.path for entry in by_time],
            schema={name: _stored_dtype(dtype) for name, dtype in table.columns.items()},
            missing_columns="insert",
            hive_partitioning=False,
            glob=False,
        )
        self.is_held = sum(entry.rows for entry in entries) * _row_bytes(table) <= _HELD_BYTES
        if self.is_held:
            self._frame = self._frame.collect().lazy()

    def times(self, symbol: str) -> list[tuple[datetime, int]]:
        """How many rows of a symbol there are, by time: in order."""
        time = pl.col(self.table.time).dt.truncate(_STEP).alias("time")
        own = self._of_symbols(self._frame, symbol, symbol) if "symbol" in self.table.columns else self._frame
        return own.group_by(time).agg(pl.len()).collect(engine="streaming").sort("time").rows()

    def read(self, part: _Slice) -> pl.DataFrame:
        """The rows of a slice, in the table's order."""
        rows = self._frame
        if part.symbols is not None:
            rows = self._of_symbols(rows, *part.symbols)
        if part.start is not None:
            rows = rows.filter(pl.col(self.table.time) >= part.start)
        if part.end is not None:
            rows = rows.filter(pl.col(self.table.time) < part.end)
        return _in_order(conform(rows.collect().rechunk(), self.table), self.table)

    @staticmethod
    def _of_symbols(rows: pl.LazyFrame, first: str, last: str) -> pl.LazyFrame:
        """Rows of the symbols from the first to the last; "" stands for rows without one."""
        wanted = (pl.col("symbol") >= first) & (pl.col("symbol") <= last)
        return rows.filter(wanted | pl.col("symbol").is_null() if first == "" else wanted)


class _Pieces:
    """A sequence of frames, taken by numbers of rows."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames
        self._left: pl.DataFrame | None = None

    def take(self, rows: int) -> Iterator[pl.DataFrame]:
        """The next rows; fewer when there are no more."""
        while rows:
            frame = self._left if self._left is not None else next(self._frames, None)
            if frame is None:
                return
            piece, rest = frame.head(rows), frame.slice(rows)
            self._left = None if rest.is_empty() else rest
            rows -= piece.height
            if not piece.is_empty():
                yield piece

    def rest(self) -> Iterator[pl.DataFrame]:
        """What nobody took."""
        if self._left is not None:
            yield self._left
        yield from self._frames


def _counts(lake: Lake, table: Table, day: date, entries: Sequence[FileEntry]) -> dict[str, int]:
    """Rows of these files per symbol, in order; "" for rows without one."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    facts = lake.facts([table.name], start=midnight, end=midnight + timedelta(days=1))
    own = facts.filter(pl.col("path").is_in([entry.path for entry in entries]))
    return dict(own.group_by("symbol").agg(pl.col("rows").sum()).sort("symbol").iter_rows())


def _slices(stored: _Stored, counts: Mapping[str, int], most: int) -> Iterator[_Slice]:
    """Cut everything into slices of so many rows at most, as far as the finest cut allows; in order."""
    if sum(counts.values()) <= most:
        yield _Slice()
        return
    has_symbols = "symbol" in stored.table.columns
    held: list[str] = []
    held_rows = 0
    for symbol, rows in counts.items():
        if held and held_rows + rows > most:
            yield _Slice(symbols=(held[0], held[-1]))
            held, held_rows = [], 0
        if rows <= most:
            held.append(symbol)
            held_rows += rows
            continue
        symbols = (symbol, symbol) if has_symbols else None
        start, taken = None, 0
        for time, here in stored.times(symbol):
            if taken and taken + here > most:
                yield _Slice(symbols=symbols, start=start, end=time)
                start, taken = time, 0
            taken += here
        yield _Slice(symbols=symbols, start=start)
    if held:
        yield _Slice(symbols=(held[0], held[-1]))


def _ahead(read: Callable[[_Slice], pl.DataFrame], slices: Sequence[_Slice]) -> Iterator[pl.DataFrame]:
    """Read each slice while the one before is being written."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(read, part) for part in slices[:1]]
        for part in [*slices[1:], None]:
            rows = waiting.pop().result()
            if part is not None:
                waiting.append(pool.submit(read, part))
            yield rows


def _in_order(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Sorted by the table's order; rows that come from files one after the other mostly are, symbol by symbol."""
    ordering = list(table.sort)
    if ordering[0] == "symbol" and not rows.is_empty():
        names = rows["symbol"].unique().drop_nulls().sort()
        coded = rows.with_columns(pl.col("symbol").cast(pl.Enum(names))).sort("symbol", maintain_order=True)
        if not _is_ordered(coded, ordering):
            coded = coded.sort(ordering, maintain_order=True)
        return coded.with_columns(pl.col("symbol").cast(pl.String))
    return rows if _is_ordered(rows, ordering) else rows.sort(ordering, maintain_order=True)


def _is_ordered(rows: pl.DataFrame, ordering: Sequence[str]) -> bool:
    """Whether rows are in order for certain; text and nulls are not looked at, so they leave it open."""
    tied = np.ones(max(rows.height - 1, 0), dtype=bool)
    for name in ordering:
        column = rows[name].to_physical()
        if column.null_count():
            return False
        if column.dtype == pl.String:
            if column.n_unique() > 1:
                return False
            continue
        values = column.to_numpy()
        if (tied & (values[1:] < values[:-1])).any():
            return False
        tied &= values[1:] == values[:-1]
        if not tied.any():
            return True
    return True


def _duplicates(rows: pl.DataFrame, table: Table) -> int:
    """Rows too many for their keys, among these rows."""
    if "is_ambiguous" in table.columns:
        rows = rows.filter(~pl.col("is_ambiguous").fill_null(False))
    total = 0
    for _, own in by_symbol(rows.select({*table.key, "symbol"} & set(rows.columns))):
        keyed = own.drop_nulls(table.key)
        telling = [name for name in table.key if keyed[name].dtype != pl.String or keyed[name].n_unique() > 1]
        if len(telling) == 1 and _is_ascending(keyed[telling[0]]):
            continue
        total += keyed.height - (keyed.n_unique(telling) if telling else min(keyed.height, 1))
    return total


def _is_ascending(column: pl.Series) -> bool:
    """Whether each is more than the one before; text is not looked at."""
    values = column.to_physical()
    return values.dtype.is_integer() and bool((values[1:] > values[:-1]).all())


def _rows_at_once(stored: _Stored) -> int:
    return (_SLICE_OF_HELD_BYTES if stored.is_held else _SLICE_BYTES) // _row_bytes(stored.table)


def _row_bytes(table: Table) -> int:
    """Of a row in memory, about."""
    return sum(
        _PAYLOAD_BYTES if dtype == pl.Binary else 16 if dtype == pl.String else 8 for dtype in table.columns.dtypes()
    )


def _max_file_rows(table: Table) -> int:
    return _MAX_FILE_BYTES // _STORED_ROW_BYTES.get(table.name, _OTHER_ROW_BYTES)


def _stored_dtype(dtype: pl.DataType) -> pl.DataType:
    """How a column is read from the file; enumerations are text there."""
    return pl.String() if isinstance(dtype, pl.Enum) else dtype
