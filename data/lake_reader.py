"""Reading the lake as polars: rows, the rules in force, and what the manifest knows without reading rows."""

import copy
import difflib
import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import polars as pl

from data import parquet
from data.dedupe import near, only
from data.facts import FACTS, described, describing, ranges
from data.manifest import FileEntry, Listened, Manifest, Replaced, SegmentDone, first_ms, storage_errors
from data.schema import INSTRUMENTS, TABLES, is_test_symbol
from data.table import TIME_MS, Table, in_order
from data.tail import Tail

SET_ASIDE = "set_aside"  # folder of a lake: damaged files, never deleted
_BEFORE_ALL = -(2**62)  # ms
_ATTEMPTS = 50  # to find the raw log and the files of one moment, while segments are sealed


class LakeReader:
    """What can be read from the lake at ``root``; ``Lake`` is the whole of it."""

    def __init__(self, root: Path, *, create: bool = False):
        self.root = Path(root)
        with storage_errors(self.root):
            self._manifest = Manifest(self.root, create=create)
        self._tail = Tail(self.root / "wal")
        self._proven: set[tuple[str, int, int]] = set()

    def scan(
        self,
        table: str,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        columns: Sequence[str] | None = None,
        venue: str | None = "aster",
        tail: bool = False,
    ) -> pl.DataFrame:
        """Rows of [start, end) by the table's time, ordered by symbol, time and key; keys are unique.

        Parameters
        ----------
        table : name of the table.
        symbols : only these; None for all.
        start, end : UTC; None leaves that side open.
        columns : only these, in this order; None for all.
        venue : only this one's, None for all; ignored by tables without a venue.
        tail : with the rows of the raw log that are not sealed yet.

        Raises
        ------
        CorruptFile
            When a file that may hold such rows is missing or damaged: rows are never silently absent or wrong.
        """
        contract = table_named(table)
        check_symbols(symbols)
        if symbols is not None and "symbol" not in contract.columns:
            raise ValueError(f"table {table} has no symbols; leave them out")
        columns = contract.columns.names() if columns is None else list(columns)
        for name in columns:
            known(name, contract.columns.names(), f"column of {table}")
        ordering = [name for name in contract.sort if name != "venue"]
        only_venue = venue if "venue" in contract.columns else None
        among = {} if only_venue is None else {"venue": [only_venue]}
        if symbols is not None:
            among["symbol"] = symbols
        first = _BEFORE_ALL if start is None else first_ms(start)
        last = -_BEFORE_ALL if end is None else first_ms(end) - 1
        within = {} if start is None and end is None else {contract.time: (first, last)}
        needed = list(dict.fromkeys((*ordering, *columns)))
        with self.still(tail=tail) as (lake, fresh):
            entries = lake._manifest.files(contract, venue=only_venue, symbols=symbols, start=start, end=end)
            rows = lake._read(entries, contract, needed, among, within)
        if table in fresh:
            rows = pl.concat([rows, only(fresh[table], among, within).select(needed)])
        return in_order(rows, ordering).select(columns)

    def span(self, table: str, symbol: str, venue: str = "aster") -> tuple[datetime, datetime] | None:
        """First and last time of a symbol's rows; None without rows."""
        contract = table_named(table)
        return self._manifest.span(contract, symbol, venue if "venue" in contract.columns else "")

    def symbols(self, table: str) -> list[str]:
        """Symbols with rows in the table, sorted."""
        return self._manifest.symbols(table_named(table))

    def instrument(self, symbol: str, at: datetime, venue: str = "aster") -> dict:
        """The ``instruments`` row in force at ``at``: the last with ``event_time <= at``.

        Raises
        ------
        LookupError
            When there is none, naming the first time that is known: a contract's rules of later do not hold earlier.
        """
        rows = self.scan(INSTRUMENTS.name, symbols=[symbol], venue=venue)
        in_force = rows.filter(pl.col("event_time") <= at)
        if not in_force.is_empty():
            return in_force.row(-1, named=True)
        since = "has none" if rows.is_empty() else f"knows it from {rows['event_time'][0]:%Y-%m-%d %H:%M:%S} UTC on"
        raise LookupError(
            f"no instruments row of {symbol} ({venue}) in force at {at:%Y-%m-%d %H:%M:%S}: the lake {since}; run "
            "`aster import FILE --format exchange-info --effective DATE` on an exchangeInfo answer, or start later"
        )

    def universe(self, at: datetime, venue: str = "aster") -> list[str]:
        """Symbols that were trading at ``at``, by the ``instruments`` row in force then; sorted, no test contracts."""
        rows = self.scan(
            INSTRUMENTS.name,
            end=at + timedelta(milliseconds=1),
            columns=["symbol", "event_time", "status"],
            venue=venue,
        )
        in_force = rows.group_by("symbol").agg(pl.col("status").sort_by("event_time").last())
        trading = in_force.filter(pl.col("status") == "TRADING")["symbol"].sort()
        return [symbol for symbol in trading if not is_test_symbol(symbol)]

    def facts(
        self,
        tables: Sequence[str] | None = None,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        venue: str | None = None,
    ) -> pl.DataFrame:
        """What the manifest knows of the rows of each file, without reading them; ordered by table, owner and time.

        One row per file and venue, symbol and interval (null but for klines): table, dt, path, level, rows, counted
        (rows whose id is sure), first_time and last_time, first_id and last_id (of counted rows; null in tables without
        ids), missing (between the file's first and last row; null where it cannot be known), longest_gap_ms and
        longest_gap_from. Keys are unique in the lake, so counts of files that overlap still add up.

        Parameters
        ----------
        tables, symbols, venue : only these; None for all.
        start, end : only files that may have rows of [start, end); they are told of whole.
        """
        check_symbols(symbols)
        found = [_FACTS.to_frame()]
        asked = {name: table_named(name) for name in (TABLES if tables is None else tables)}
        self._describe_older(asked)
        for name, table in asked.items():
            only_venue = venue if "venue" in table.columns else None
            rows = self._manifest.facts(table, venue=only_venue, symbols=symbols, start=start, end=end)
            times = {"first_time": "first_ms", "last_time": "last_ms", "longest_gap_from": "longest_gap_from_ms"}
            told = rows.with_columns(
                pl.lit(name).alias("table"),
                pl.col("dt").str.to_date("%Y-%m-%d"),
                *(pl.col(ms).cast(TIME_MS).alias(time) for time, ms in times.items()),
            )
            found.append(told.select(_FACTS.names()))
        order = ["table", "venue", "symbol", "interval", "first_time", "path"]
        return pl.concat(found).sort(order)

    def files(self, table: str | None = None) -> list[FileEntry]:
        """The files of the lake, or of one table, in time order."""
        return self._manifest.files(None if table is None else table_named(table))

    def sealed_records(self, name: str) -> int:
        """How many records of a segment of the raw log are in the lake, from its first on; 0 for one not begun."""
        done = self.sealed([name])
        return done[name].records if done else 0

    def listened(self) -> dict[tuple[str, str], Listened]:
        """Until when each (venue, stream) was listened to, as far as the raw log is sealed."""
        return self._manifest.listened()

    def replaced(self) -> list[Replaced]:
        """Files that a merge replaced and that still lie on the disk for those who read them, oldest first."""
        return self._manifest.replaced()

    def snapshot(self, path: Path) -> None:
        """Write a consistent copy of the manifest to ``path``, as one file."""
        self._manifest.snapshot(path)

    def trust(self, path: str, modified_ns: int) -> None:
        """Remember the new modification time of a file whose content was proven, unless the disk takes nothing."""
        with suppress(OSError):
            self._manifest.trust(path, modified_ns)

    def strays(self) -> list[str]:
        """Paths of files in the tables' folders that are none of the lake's and that nobody is writing, sorted."""
        present = {path.relative_to(self.root).as_posix() for path in self.root.glob("*/dt=*/*")}
        return sorted(present - self._manifest.paths())

    def rivals(self, table: Table, frame: pl.DataFrame) -> pl.DataFrame:
        """Stored rows among which those with the keys of ``frame`` are."""
        wanted = ranges(frame, table)
        entries = self._manifest.overlapping(table, table.key, wanted)
        if table.fallback_key:
            entries = {*entries, *self._manifest.overlapping(table, table.fallback_key, wanted)}
        among, within = near(table, frame)
        by_path = sorted(entries, key=lambda entry: entry.path)
        return self._read(by_path, table, table.columns.names(), among, within)

    @contextmanager
    def still(self, *, tail: bool = False) -> Iterator[tuple[Self, Mapping[str, pl.DataFrame]]]:
        """The lake as it is now, whatever is appended or merged meanwhile; for questions that belong together.

        With ``tail`` comes what the raw log has beyond it: rows per table, none of them in the lake held still.
        """
        for _ in range(_ATTEMPTS):
            segments = self._tail.segments() if tail else []  # before the moment, so that none is overlooked
            still = copy.copy(self)
            with self._manifest.still() as still._manifest:
                try:
                    fresh = self._tail.rows(still, segments) if tail else {}
                except FileNotFoundError:  # sealed and removed since the moment
                    continue
                yield still, fresh
                return
        raise OSError(errno.EBUSY, f"the raw log was sealed {_ATTEMPTS} times while it was read", str(self.root))

    def narrowed(
        self, *, symbols: Sequence[str] | None, start: datetime | None, end: datetime | None
    ) -> dict[str, list[FileEntry]]:
        """Per table with any, the files that may hold these symbols in [start, end); all of them are as committed."""
        found = self._manifest.narrowed(symbols=symbols, start=start, end=end)
        for entries in found.values():
            self._trust(entries)
        return found

    def state(self) -> tuple[int, int]:
        """Something that differs when rows were added since."""
        return self._manifest.state()

    def sealed(self, names: Sequence[str]) -> dict[str, SegmentDone]:
        """How far these segments of the raw log are in the lake, by name; those not begun are absent."""
        return self._manifest.sealed(names)

    def _describe_older(self, tables: Collection[str]) -> None:
        """Find out the facts of files that were stored before the manifest kept any."""
        for entry in self._manifest.undescribed():
            if entry.table in tables:
                table = TABLES[entry.table]
                rows = self._read([entry], table, describing(table), {}, {})
                with suppress(OSError):  # on a disk that takes nothing they are found out again next time
                    self._manifest.describe(entry.path, described(rows, table).facts)

    def _read(
        self,
        entries: Sequence[FileEntry],
        table: Table,
        columns: Sequence[str],
        among: Mapping[str, Sequence[str]],
        within: Mapping[str, tuple[int, int]],
    ) -> pl.DataFrame:
        """Rows of files that are as committed."""
        self._trust(entries)
        return parquet.read(self.root, entries, table, columns, among=among, within=within)

    def _trust(self, entries: Sequence[FileEntry]) -> None:
        """Raise CorruptFile unless every file is as committed; one that looks touched is compared to the last bit.

        Everything that opens files of the lake comes through here first.
        """
        for entry in entries:
            found = parquet.stamp(self.root, entry)
            if found != (entry.bytes, entry.modified_ns) and (entry.path, *found) not in self._proven:
                parquet.prove(self.root, entry)
                self._proven.add((entry.path, *found))


_FACTS = pl.Schema(
    {
        "table": pl.String,
        "dt": pl.Date,
        "path": pl.String,
        "level": pl.Int64,
        **{name: dtype for name, dtype in FACTS.items() if not name.endswith("_ms") or name == "longest_gap_ms"},
        "first_time": TIME_MS,
        "last_time": TIME_MS,
        "longest_gap_from": TIME_MS,
    }
)


def table_named(name: str) -> Table:
    """The table of this name; raises ValueError with the nearest name."""
    known(name, list(TABLES), "table")
    return TABLES[name]


def known(name: str, names: Sequence[str], what: str) -> None:
    """Refuse a name that is not among these, with the nearest that is."""
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {names}"
        raise ValueError(f"unknown {what} {name!r}; {hint}")


def check_symbols(symbols: Sequence[str] | None) -> None:
    """Refuse a text where a list of symbols is meant."""
    if isinstance(symbols, str):
        raise ValueError(f"symbols: expected a list of symbols, got the text {symbols!r}; write [{symbols!r}]")
