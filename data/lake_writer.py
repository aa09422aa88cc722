"""Adding to the lake: appends that are all or nothing, and merges that put a file in the place of others."""

import copy
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from data import parquet
from data.dedupe import Sifted, has_identity, sift
from data.lake_reader import SET_ASIDE, LakeReader, table_named
from data.manifest import CorruptFile, FileEntry, Listened, NewFile, SegmentDone, storage_errors
from data.schema import CONFLICTS, conform, is_test_symbol
from data.table import Table, by_date

_MERGING = "merging"  # the lock of whoever merges files


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What became of appended rows. ``conflicts``: same key, other content; kept in the table ``conflicts``."""

    landed: int
    already_present: int
    conflicts: int


class LakeWriter(LakeReader):
    """What can be done to the lake at ``root``; ``Lake`` is the whole of it."""

    def __init__(self, root: Path, *, create: bool = False, allow_test_symbols: bool = False):
        super().__init__(root, create=create)
        self._allow_test_symbols = allow_test_symbols

    def append(self, table: str, frame: pl.DataFrame, *, origin: str) -> Landed:
        """Store the rows that are new; all of them or, when anything fails, none. See ``append_all``."""
        return self.append_all({table: frame}, origin=origin)[table]

    def append_all(
        self,
        tables: Mapping[str, pl.DataFrame],
        *,
        origin: str,
        segment: SegmentDone | None = None,
        listened: Sequence[Listened] = (),
    ) -> dict[str, Landed]:
        """Store the new rows of several tables in one transaction; all of them or, when anything fails, none.

        Parameters
        ----------
        tables : rows in any order per table; absent columns become null. What makes two rows the same fact:
            ``dedupe.sift``.
        origin : where the rows come from (a file, an endpoint); goes to the manifest and to ``conflicts``.
        segment : how far a segment of the raw log is in the lake with these rows.
        listened : until when streams were listened to, as far as the lake has rows with these.

        Raises
        ------
        ValueError
            On unknown columns, rows without time or identity, and ``TEST*`` symbols. Nothing is stored.
        OSError
            When the disk is full or not writable. Nothing is stored and nothing stored before is touched.
        CorruptFile
            When a stored file that may hold the same keys is damaged.
        """
        frames = {name: conform(frame, table_named(name)) for name, frame in tables.items()}
        for name, frame in frames.items():
            self._check(table_named(name), frame)
        filled = [name for name, frame in frames.items() if not frame.is_empty()]
        with storage_errors(self.root), ExitStack() as held:
            held.enter_context(self._manifest.locked(*filled))
            lake = copy.copy(self)
            lake._manifest = held.enter_context(self._manifest.connected())
            lake._clear_leftovers(*filled)
            sifted = {name: lake._sift(table_named(name), frames[name]) for name in filled}
            parts = [part for name in filled for part in by_date(sifted[name].fresh, table_named(name))]
            told = _told(sifted, origin)
            if not told.is_empty():
                if CONFLICTS.name not in filled:
                    held.enter_context(self._manifest.locked(CONFLICTS.name))
                    lake._clear_leftovers(CONFLICTS.name)
                parts += by_date(lake._sift(CONFLICTS, told).fresh, CONFLICTS)
            lake._store(parts, origin, segment, listened)
        return {name: _landed(sifted.get(name)) for name in frames}

    @contextmanager
    def merging(self) -> Iterator[None]:
        """Held while files are merged, by one at a time; what a merge that died left is removed first.

        Appends and readers go on meanwhile. Files that are written get their path from ``place``.
        """
        with storage_errors(self.root), self._manifest.locked(_MERGING):
            self._clear_leftovers(_MERGING)
            yield

    def place(self, table: str, day: date) -> str:
        """A path, relative to the lake, for a file of one UTC date; ask for it while ``merging``."""
        path = _path(table_named(table), day)
        self._manifest.announce({path: _MERGING})
        return path

    def replace(self, old: Sequence[FileEntry], new: Sequence[NewFile]) -> bool:
        """Put files in the place of others that hold the same rows, in one transaction; ask while ``merging``.

        False when an old one is no longer part of the lake: nothing has changed then, and the next ``merging`` removes
        the new ones. The old ones stay on the disk until ``drop_replaced``: whoever reads them now can go on. Without
        new ones the old rows leave the lake.

        Raises
        ------
        ValueError
            When the new files have not as many rows as the old ones. Nothing has changed then.
        """
        before, after = (sum(entry.rows for entry in files) for files in (old, [file.entry for file in new]))
        if old and new and before != after:
            raise ValueError(
                f"a merge keeps every row: the {len(old)} files from {old[0].path} on have {before}, those to take "
                f"their place {after}; the lake is as it was, run `aster verify`"
            )
        with storage_errors(self.root):
            return self._manifest.commit(new, old=old)

    def drop_replaced(self, before: datetime) -> list[str]:
        """Remove the files that were replaced before this time; returns their paths."""
        with storage_errors(self.root):
            paths = [each.path for each in self._manifest.replaced() if each.replaced_time < before]
            for path in paths:
                (self.root / path).unlink(missing_ok=True)
            self._manifest.forget_replaced(paths)
        return paths

    def set_aside(self, path: str) -> Path:
        """Take a damaged file out of the lake and move it to ``<lake>/set_aside``; returns where it lies now."""
        with storage_errors(self.root):
            self._manifest.remove(path)
            place = self.root / SET_ASIDE / path.replace("/", "_")
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

    def _sift(self, table: Table, frame: pl.DataFrame) -> Sifted:
        return sift(table, frame, self.rivals(table, frame))

    def _store(
        self,
        parts: Sequence[tuple[Table, date, pl.DataFrame]],
        origin: str,
        segment: SegmentDone | None,
        listened: Sequence[Listened],
    ) -> None:
        """Write one file per part and make them part of the lake in one transaction."""
        if not parts:
            if segment is not None or listened:
                self._manifest.commit([], segment=segment, listened=listened)
            return
        places = [(table, _path(table, day)) for table, day, _ in parts]
        try:
            self._manifest.announce({path: table.name for table, path in places})
            new = []
            for (_, path), (table, day, rows) in zip(places, parts, strict=True):
                written = parquet.write(self.root / path, rows, table)
                new.append(NewFile.of(table, day, path, rows, written=written, origin=origin))
            self._manifest.commit(new, segment=segment, listened=listened)
        except (OSError, CorruptFile):
            with suppress(OSError):  # what cannot be removed now is removed by the next append
                self._clear_leftovers(*{table.name for table, _ in places})
            raise

    def _clear_leftovers(self, *owners: str) -> None:
        """Remove what was written under these locks and never reached its commit."""
        for owner in owners:
            abandoned = self._manifest.abandoned(owner)
            for path in abandoned:
                (self.root / path).unlink(missing_ok=True)
                (self.root / f"{path}.tmp").unlink(missing_ok=True)
            if abandoned:
                self._manifest.forget_pending(owner)


def _path(table: Table, day: date) -> str:
    return f"{table.name}/dt={day}/{uuid.uuid4().hex}.parquet"


def _told(sifted: Mapping[str, Sifted], origin: str) -> pl.DataFrame:
    """The rows of ``conflicts``."""
    now = datetime.now(UTC)
    told = [
        conform(
            each.disputed.with_columns(table=pl.lit(name), source_file=pl.lit(origin), conflict_time=now), CONFLICTS
        )
        for name, each in sifted.items()
        if not each.disputed.is_empty()
    ]
    return pl.concat([CONFLICTS.empty(), *told])


def _landed(sifted: Sifted | None) -> Landed:
    if sifted is None:
        return Landed(landed=0, already_present=0, conflicts=0)
    return Landed(landed=sifted.fresh.height, already_present=sifted.already_present, conflicts=sifted.disputed.height)
