"""The hot tail: rows of the raw log that are not yet in the lake's files.

Whoever asks again pays only for what arrived since: decoded records are kept until they are sealed.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from data import wal
from data.dedupe import near, only, sift
from data.landing import Lander
from data.schema import TABLES

if TYPE_CHECKING:  # the lake itself has a tail
    from data.lake_reader import LakeReader

SLICE_RECORDS = 200_000  # turned into rows at once: bounds the memory


class Tail:
    """What the logs of a lake hold beyond its files, see ``rows``; ``logs`` is the lake's folder ``wal``."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._segments: dict[str, _Segment] = {}
        self._rows: dict[str, pl.DataFrame] = {}
        self._compared: object = None  # the state of the files that the rows were compared with
        self._guard = threading.Lock()

    def segments(self) -> list[Path]:
        """The segments there are now, oldest first; ask before the lake is held still, so that none is overlooked."""
        return wal.all_segments(self._logs)

    def rows(self, lake: "LakeReader", segments: Sequence[Path]) -> dict[str, pl.DataFrame]:
        """Rows per table that these segments have and the lake has not, in the order they arrived.

        What makes two rows the same fact: ``dedupe.sift``, as when they are sealed. The tables ``raw`` and
        ``quarantine`` have no tail.

        Parameters
        ----------
        lake : held still, so that its files and what it says of segments are those of one moment.

        Raises
        ------
        FileNotFoundError
            When a segment was sealed and removed since that moment: hold the lake still again and ask again.
        """
        with self._guard:
            paths = {path.relative_to(self._logs).as_posix(): path for path in segments}
            sealed = lake.sealed(list(paths))
            whole = {name for name, done in sealed.items() if done.is_whole}
            self._segments = {
                name: self._segments.get(name) or _Segment(path, name)
                for name, path in paths.items()
                if name not in whole
            }
            state = lake.state()
            arrived = []
            for name, segment in self._segments.items():
                arrived += segment.read_on(sealed[name].records if name in sealed else 0)
            if state != self._compared:
                self._rows = {}
                arrived = [rows for segment in self._segments.values() for rows in segment.rows()]
            for table, frame in _together(arrived).items():
                self._add(lake, table, frame)
            self._compared = state
            return dict(self._rows)

    def _add(self, lake: "LakeReader", name: str, frame: pl.DataFrame) -> None:
        """Take in the rows that neither the lake nor the tail has."""
        table = TABLES[name]
        known = self._rows.get(name, table.empty())
        stored = pl.concat([lake.rivals(table, frame), only(known, *near(table, frame))])
        self._rows[name] = pl.concat([known, sift(table, frame, stored).fresh])


class _Segment:
    """One segment, decoded as far as it was written when last looked at."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._lander = Lander(segment=name)
        self._bytes = 0
        self._records = 0
        self._taken: list[tuple[int, Mapping[str, pl.DataFrame]]] = []  # up to which record, and the rows

    def read_on(self, sealed: int) -> list[Mapping[str, pl.DataFrame]]:
        """The rows of what was written since the last time; what is sealed, up to that record, is forgotten."""
        self._taken = [(last, rows) for last, rows in self._taken if last > sealed]
        before = len(self._taken)
        records = self._read()
        if sealed > self._records:
            self._lander.pass_over(islice(records, sealed - self._records))
        while self._lander.add(islice(records, SLICE_RECORDS)):
            self._taken.append((self._records, self._lander.take().tables))
        return [rows for _, rows in self._taken[before:]]

    def rows(self) -> list[Mapping[str, pl.DataFrame]]:
        """The rows of all that is not sealed."""
        return [rows for _, rows in self._taken]

    def _read(self) -> Iterator[wal.Record]:
        for record in wal.read(self._path, self._bytes):
            self._bytes += wal.size(record)
            self._records += 1
            yield record


def _together(parts: Sequence[Mapping[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pl.concat([part[name] for part in parts if name in part]) for name in names}
