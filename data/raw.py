"""The raw log after sealing: every record as a row of the table ``raw``, and back again.

A segment goes when its rows are stored, so these rows are what everything else can be made from once more: after a bug
in the decoding, or when a file is damaged.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from data.lake import Lake
from data.manifest import CorruptFile
from data.schema import RAW, conform
from data.table import TIME_MS, TIME_NS
from data.wal import Kind, Record

_ROWS_AT_ONCE = 250_000  # bounds the memory while reading back
_NS_PER_MS = 1_000_000
_KINDS = tuple(Kind)


def segment_name(path: Path) -> str:
    """A segment's name in the lake: with the number of its folder, where recorders of one lake have one each."""
    folder = path.parent.name
    return f"{folder}/{path.name}" if folder.isdecimal() else path.name


def as_rows(records: Sequence[Record], *, segment: str, first_line: int) -> pl.DataFrame:
    """Rows of ``raw`` for records that follow each other in a segment.

    Parameters
    ----------
    segment : its name, see ``segment_name``.
    first_line : place of the first of them in the segment; 1 is the segment's first record.
    """
    recv_ns = pl.Series([record.recv_ns for record in records], dtype=pl.Int64)
    columns = {
        "segment": pl.repeat(segment, len(records), eager=True),
        "line": pl.int_range(first_line, first_line + len(records), eager=True),
        "recv_time": recv_ns.cast(TIME_NS),
        "event_time": (recv_ns // _NS_PER_MS).cast(TIME_MS),
        "kind": pl.Series([record.kind for record in records], dtype=pl.Int64),
        "connection": pl.Series([record.connection for record in records], dtype=pl.Int64),
        "payload": pl.Series([record.payload for record in records], dtype=pl.Binary),
    }
    return conform(pl.DataFrame(columns), RAW)


def as_records(rows: pl.DataFrame) -> list[Record]:
    """Records of the raw log, in the order of the rows; the opposite of ``as_rows``."""
    told = rows.select(pl.col("recv_time").to_physical(), "kind", "connection", "payload")
    return [
        Record(recv_ns, _KINDS[kind], connection, payload) for recv_ns, kind, connection, payload in told.iter_rows()
    ]


def read(
    lake: Lake,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    kinds: Collection[Kind] | None = None,
    skip_damaged: bool = False,
) -> Iterator[pl.DataFrame]:
    """Stored raw rows of [start, end) by time of receipt, a piece at a time and in order.

    Parameters
    ----------
    kinds : only records of these kinds; None for all.
    skip_damaged : leave out a piece that a damaged file has rows in.

    Raises
    ------
    CorruptFile
        When a file of ``raw`` is damaged, unless such are skipped.
    """
    files = lake.files(RAW.name)
    if not files:
        return
    millisecond = timedelta(milliseconds=1)
    first = max(filter(None, (start and start.astimezone(UTC), min(file.min_time for file in files))))
    until = min(filter(None, (end and end.astimezone(UTC), max(file.max_time for file in files) + millisecond)))
    rows = sum(file.rows for file in files if file.max_time >= first and file.min_time < until)
    step = max((until - first) / max(1, -(-rows // _ROWS_AT_ONCE)), timedelta(seconds=1))
    while first < until:
        with suppress(CorruptFile) if skip_damaged else nullcontext():
            piece = lake.scan(RAW.name, start=first, end=min(first + step, until))
            if kinds is not None:
                piece = piece.filter(pl.col("kind").is_in([int(kind) for kind in kinds]))
            if not piece.is_empty():
                yield piece
        first += step
