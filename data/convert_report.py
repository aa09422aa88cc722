"""What an import or export did, counted: for the terminal and for ``--json``."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that was left alone, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class FileCount:
    """One input file.

    Parameters
    ----------
    rows : lines below the header that are not blank.
    quarantined : rows that could not be read.
    duplicates : readable rows that repeat an earlier row of this import word for word.
    derived_differs : rows whose computed columns (mid, spread, ...) disagree with the columns they come from; they
        land, and an export gives the recomputed value.
    """

    file: str
    rows: int
    quarantined: int
    duplicates: int
    derived_differs: int = 0


def file_count(path: Path, frame: pl.DataFrame, bad: pl.DataFrame, derived_differs: int = 0) -> FileCount:
    """Of a file of which every line is either a row of ``frame`` or one of ``bad``."""
    return FileCount(
        file=path.name,
        rows=frame.height + bad.height,
        quarantined=bad.height,
        duplicates=frame.height - frame.n_unique(),
        derived_differs=derived_differs,
    )


@dataclass(frozen=True, kw_only=True)
class TradeCount:
    """How one symbol's trade rows were told apart. ``aggregates`` + ``raw`` is every distinct readable row.

    Parameters
    ----------
    repeats : raw trades that are the whole of a recorded aggregate; stored, never counted in volume.
    ambiguous : rows whose id space is not proven, among the aggregates and the raw trades.
    switches : how often the id space changes from one line to the next.
    """

    symbol: str
    aggregates: int
    raw: int
    repeats: int
    ambiguous: int
    switches: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What an importer hands over to be landed: rows of one table, and what it found on the way.

    Parameters
    ----------
    symbol : None for a table that one file fills for many symbols.
    duplicates : readable rows that are not in ``frame`` because they repeat one that is.
    bad : columns ``file, line, symbol, table, reason, raw``, for the quarantine.
    """

    table: str
    symbol: str | None
    frame: pl.DataFrame
    origin: str
    duplicates: int = 0
    bad: pl.DataFrame | None = None
    files: tuple[FileCount, ...] = ()
    trades: TradeCount | None = None


@dataclass(frozen=True, kw_only=True)
class TableCount:
    """Rows of one table and symbol. The four counts add up to the rows that were meant for it."""

    table: str
    symbol: str | None
    landed: int = 0
    already_present: int = 0
    conflicts: int = 0
    quarantined: int = 0


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What ``import_path`` did."""

    format: str
    path: Path
    counts: tuple[TableCount, ...]
    files: tuple[FileCount, ...]
    trades: tuple[TradeCount, ...]
    skipped: tuple[Skipped, ...]

    def total(self, what: str) -> int:
        """Sum of ``landed``, ``already_present``, ``conflicts`` or ``quarantined`` over all tables and symbols."""
        return sum(getattr(count, what) for count in self.counts)

    def as_json(self) -> dict:
        """The report as plain dicts, lists, strings and numbers."""
        return {**asdict(self), "path": str(self.path)}

    def table(self) -> list[dict[str, str | int]]:
        """One row per table and symbol, for the terminal."""
        return [{**asdict(count), "symbol": count.symbol or "(all)"} for count in self.counts]

    def notes(self) -> list[str]:
        """What the table does not say, one sentence each."""
        notes = []
        for trades in self.trades:
            if trades.raw or trades.ambiguous:
                notes.append(
                    f"{trades.symbol} trades: {trades.aggregates} aggregate ids, {trades.raw} raw trade ids "
                    f"({trades.repeats} repeat a recorded aggregate), {trades.switches} id-space switches, "
                    f"{trades.ambiguous} ambiguous"
                )
        for file in self.files:
            if file.duplicates:
                notes.append(f"{file.file}: {file.duplicates} of {file.rows} rows repeat earlier rows")
            if file.derived_differs:
                notes.append(f"{file.file}: computed columns of {file.derived_differs} rows disagree with their inputs")
            if file.quarantined:
                notes.append(f"{file.file}: {file.quarantined} of {file.rows} rows in quarantine")
        notes += [f"{skipped.file}: skipped, {skipped.reason}" for skipped in self.skipped]
        return notes


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What ``export_path`` wrote: rows per file."""

    format: str
    folder: Path
    files: tuple[tuple[str, int], ...]

    def as_json(self) -> dict:
        """The report as plain dicts, lists, strings and numbers."""
        return {"format": self.format, "folder": str(self.folder), "files": self.table()}

    def table(self) -> list[dict[str, str | int]]:
        """One row per file, for the terminal."""
        return [{"file": file, "rows": rows} for file, rows in self.files]


def summed(counts: Iterable[TableCount]) -> tuple[TableCount, ...]:
    """One count per table and symbol, in order of first appearance."""
    sums: dict[tuple[str, str | None], TableCount] = {}
    for count in counts:
        key = (count.table, count.symbol)
        known = sums.get(key, TableCount(table=count.table, symbol=count.symbol))
        sums[key] = TableCount(
            table=count.table,
            symbol=count.symbol,
            landed=known.landed + count.landed,
            already_present=known.already_present + count.already_present,
            conflicts=known.conflicts + count.conflicts,
            quarantined=known.quarantined + count.quarantined,
        )
    return tuple(sums.values())
