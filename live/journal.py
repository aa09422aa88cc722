"""The journal: every decision, order and fill, append-only, each event chained to the one before it by its hash.

SQLite in WAL mode, one writer. An intent is on the disk before its order leaves; what is only observed may be lost in a
power cut and is observed again, and waits a moment for others to be written with. The intent of an entry announces the
exits of whatever fills of it, by name: a stop is intended before there is anything to protect, and waits for no disk
when there is. Readers open the file read-only, also while it is written.
"""

import hashlib
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from data.config import canonical_json

GENESIS = "0" * 64  # prev_hash of the first event
_PAGES_AHEAD = 1_000  # of the WAL, before they are copied into the file: milliseconds, and several waits for the disk

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    ts_ms INTEGER NOT NULL,        -- when it became known; in replay the recorded time
    kind TEXT NOT NULL,
    config_hash TEXT NOT NULL,
    symbol TEXT NOT NULL,
    trade_id TEXT,
    client_order_id TEXT,
    body TEXT NOT NULL,            -- JSON
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
_COLUMNS = "seq, ts_ms, kind, config_hash, symbol, trade_id, client_order_id, body, prev_hash, hash"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One event before it has its place in the chain.

    Attributes
    ----------
    kind : start, map, decision, intent, missed, fill, cancelled, funding, ambiguous, held, end; of the run as a whole,
        with config_hash and symbol empty: command, answer, risk.
    body : JSON values; NaN is written as null. Names the lake row it comes from: interval and open_time_ms.
    """

    ts_ms: int
    kind: str
    config_hash: str
    symbol: str
    trade_id: str | None
    client_order_id: str | None
    body: dict[str, Any]

    def columns(self) -> tuple:
        """ts_ms to body, as stored."""
        body = canonical_json(_without_nan(self.body)).decode()
        return (self.ts_ms, self.kind, self.config_hash, self.symbol, self.trade_id, self.client_order_id, body)


class Damaged(ValueError):
    """A journal, or the log it rests on, is not what was written."""


class Journal:
    """The one writer of a journal file.

    Parameters
    ----------
    path : created with its folder where missing.
    before_write : called before events are written: it puts on the disk what they rest on, so that no power cut leaves
        the journal ahead of it.
    is_derived : it follows from a log and no order rests on it: it is made anew, and its intents wait for no disk.

    Attributes
    ----------
    when_refused : called when the disk refuses events; raises, unless somebody put another there. They wait in memory.
    when_observed : called when events wait that no order waits for; whoever is called sees to it that ``flush`` or
        ``flush_until`` is soon. None: they are written at once.

    A journal that already holds events is walked over first: ``append`` expects the same events again and writes only
    what comes after the last one. So a replay that was cut off goes on where it stopped, a finished one proves
    itself, and nothing is written twice.

    Raises
    ------
    Damaged
        When the file is damaged or its chain is broken.
    ValueError
        When another process writes it.
    OSError
        When it cannot be opened or written.
    """

    def __init__(
        self, path: Path, before_write: Callable[[], None] = lambda: None, *, is_derived: bool = False
    ) -> None:
        self.path = path
        self.when_refused: Callable[[OSError], None] = _raised
        self.when_observed: Callable[[], None] | None = None
        self._before_write, self._is_derived = before_write, is_derived
        self._waiting: list[tuple] = []
        self._is_urgent = False  # an order waits for what waits
        self._announced: dict[tuple[str, str], frozenset[str]] = {}  # by config and symbol: exits of the newest entry
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{path}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"{path}: another process writes this journal; wait for it or give another file") from None
        self._connection: sqlite3.Connection | None = None
        if is_derived:
            for old in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                old.unlink(missing_ok=True)
        try:
            self._connection = _connected(path)
            self._stored = sum(1 for _ in _checked(path, self._connection))
        except (ValueError, OSError):
            self.close()
            raise
        self._walked = 0
        self._head = GENESIS

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            self._connection.close()
        self._lock.release()

    @property
    def last_ms(self) -> int:
        """``ts_ms`` of the last event that the file holds; 0 of an empty one."""
        return self._connection.execute("SELECT max(ts_ms) FROM events").fetchone()[0] or 0

    @property
    def head(self) -> str:
        """Hash of the last event written or walked over."""
        return self._head

    @property
    def is_ahead(self) -> bool:
        """It holds events that nobody has made again yet."""
        return self._walked < self._stored

    @property
    def last_seq(self) -> int:
        """Of the newest event that was taken in."""
        return self._walked

    def append(self, records: Iterable[Record]) -> None:
        """Take in events; with an intent among them that was not announced all of them are on the disk afterwards."""
        new = []
        for record in records:
            columns, is_news = record.columns(), record.kind == "intent" and not self._is_announced(record)
            if self._walked < self._stored:
                self._walk(columns)
                continue
            self._walked = self._stored = self._stored + 1
            row = (self._stored, *columns, self._head)
            self._head = _hash(row)
            new.append((*row, self._head))
            self._is_urgent |= is_news and not self._is_derived
        if not new:
            return
        self._waiting += new
        if self.when_observed is None or self._is_urgent:
            self.flush()
        else:
            self.when_observed()

    def flush(self) -> None:
        """Write what waits, in one transaction."""
        if not self._waiting:
            return
        try:
            self._before_write()
            self._write(self._waiting)
        except OSError as error:
            self.when_refused(error)
            with suppress(OSError):  # told already
                self._before_write()
                self._write(self._waiting)

    def flush_until(self, seq: int) -> None:
        """Write what waits up to that event, by whoever has put on the disk what it rests on.

        Raises
        ------
        OSError
            When the disk refuses it.
        """
        ready = [row for row in self._waiting if row[0] <= seq]
        if ready:
            self._write(ready)

    def _write(self, rows: list[tuple]) -> None:
        """Write the first of those that wait."""
        try:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_urgent else 'NORMAL'}")
            # An order that waits for its intent does not wait for the copying too.
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {0 if self._is_urgent else _PAGES_AHEAD}")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(f"INSERT INTO events ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise OSError(f"{self.path} cannot be written: {error}; no entry goes out without its intent") from error
        self._waiting = self._waiting[len(rows) :]
        self._is_urgent = self._is_urgent and bool(self._waiting)

    def _is_announced(self, intent: Record) -> bool:
        """The intent of its entry named it."""
        desk = intent.config_hash, intent.symbol
        if "exits" in intent.body:
            self._announced[desk] = frozenset(intent.body["exits"])
        return intent.client_order_id in self._announced.get(desk, ())

    def _walk(self, columns: tuple) -> None:
        """Step over one stored event."""
        seq = self._walked + 1
        stored = self._connection.execute(f"SELECT {_COLUMNS} FROM events WHERE seq = ?", (seq,)).fetchone()
        if stored[1:8] != columns:
            raise Damaged(
                f"{self.path} holds another run: its event {seq} is {_short(stored[1:8])}, this run makes it "
                f"{_short(columns)}; give another journal file"
            )
        self._walked, self._head = seq, stored[-1]


def feed_folder(journal: Path) -> Path:
    """Where the input log of a journal is."""
    return journal.with_name(f"{journal.name}.feed")


def set_aside(path: Path, word: str) -> Path:
    """Give a journal that nobody writes another name, with its input log: evidence. Returns where it is now."""
    aside = path.with_name(f"{path.name}.{word}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(f"{path.name}{suffix}")
        if part.exists():
            part.rename(aside.with_name(f"{aside.name}{suffix}"))
    if feed_folder(path).exists():
        feed_folder(path).rename(feed_folder(aside))
    return aside


def read_journal(path: Path) -> pl.DataFrame:
    """All events, read-only, chain checked.

    Returns
    -------
    Columns as stored: seq, ts_ms, kind, config_hash, symbol, trade_id, client_order_id, body (JSON), prev_hash, hash.

    Raises
    ------
    LookupError
        When there is no such file.
    ValueError
        When the file is damaged or its chain is broken.
    """
    if not path.exists():
        raise LookupError(f"no journal at {path}")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        rows = list(_checked(path, connection))
    finally:
        connection.close()
    text = dict.fromkeys(_COLUMNS.split(", "), pl.String)
    return pl.DataFrame(rows, schema={**text, "seq": pl.Int64, "ts_ms": pl.Int64}, orient="row")


def _connected(path: Path) -> sqlite3.Connection:
    """Open for writing; what is not there is created."""
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, str(error)) from error
    return connection


def _checked(path: Path, connection: sqlite3.Connection) -> Iterator[tuple]:
    """The events in order, each proven: the file is sound and every hash follows from the one before."""
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(path, verdict)
        head = GENESIS
        for place, row in enumerate(connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq"), start=1):
            *written, hash_ = row
            if row[0] != place:
                raise _damaged(path, f"event {place} is missing, event {row[0]} follows")
            if row[8] != head or _hash(written) != hash_:
                raise _damaged(path, f"the hash chain breaks at event {place} ({_short(row[1:8])})")
            head = hash_
            yield row
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> Damaged:
    return Damaged(f"{path} is not a sound journal: {what}; keep it as evidence and give another file")


def _raised(error: OSError) -> None:
    raise error


def _hash(row: Iterable) -> str:
    """Sha256 over seq to prev_hash."""
    return hashlib.sha256(canonical_json(list(row))).hexdigest()


def _short(columns: Iterable) -> str:
    text = " ".join(str(value) for value in columns)
    return text if len(text) <= 200 else text[:197] + "..."


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
