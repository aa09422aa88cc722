"""The runner's journal as it grows, read-only."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COLUMNS = "seq, ts_ms, kind, config_hash, symbol, trade_id, client_order_id, body"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of the journal; ``seq`` counts from 1 without a hole."""

    seq: int
    time_ms: int
    kind: str
    config_hash: str
    symbol: str
    trade_id: str | None
    client_order_id: str | None
    body: dict[str, Any]


class JournalReader:
    """Reads what is new in a journal file, which may not be there yet and may be replaced by another one.

    The hash chain is not checked here: ``live.journal.read_journal`` does, and ``/api/parity`` asks it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def is_replaced(self) -> bool:
        """Whether another file lies there than at the last call; the first file is none."""
        try:
            told = self.path.stat()
        except FileNotFoundError:
            return False
        before, self._file = self._file, (told.st_dev, told.st_ino)
        if before in (None, self._file):
            return False
        self.close()
        return True

    def after(self, seq: int, limit: int) -> list[Event]:
        """At most ``limit`` events that follow ``seq``, in order; none where there is no journal yet.

        Raises
        ------
        ValueError
            When the file is no sound journal.
        """
        try:
            rows = self._connected().execute(
                f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
            ).fetchall()  # fmt: skip
        except sqlite3.OperationalError:  # not there yet, or its table is not
            self.close()
            return []
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f"{self.path} is not a sound journal: {error}; keep it as evidence") from error
        return [_event(row) for row in rows]

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
        return self._connection


def _event(row: tuple) -> Event:
    seq, time_ms, kind, config_hash, symbol, trade_id, client_order_id, body = row
    return Event(
        seq=seq,
        time_ms=time_ms,
        kind=kind,
        config_hash=config_hash,
        symbol=symbol,
        trade_id=trade_id,
        client_order_id=client_order_id,
        body=json.loads(body),
    )
