"""A stand-in for a runner: it holds a journal and an input log as one does, and writes there what it is told to."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from data import wal
from data.wal import Kind, Log
from live.journal import Journal, Record, feed_folder, read_journal


class StandIn:
    """Writes a journal of its own, event by event, from those of a finished one.

    Parameters
    ----------
    path : of its journal.
    events : what it may play, in order.
    """

    def __init__(self, path: Path, events: Iterable[Record] = ()) -> None:
        self.path = path
        self.left = list(events)
        self._log = Log(feed_folder(path))
        self._journal = Journal(path, self._log.sync)
        self._heard_ns = 0
        self.hear(0, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def play(self, count: int) -> list[Record]:
        """Write the next events; those it wrote."""
        played, self.left = self.left[:count], self.left[count:]
        self._journal.append(played)
        return played

    def write(self, record: Record) -> None:
        """Write one event."""
        self._journal.append([record])

    def hear(self, time_ms: int, marks: Mapping[str, float]) -> None:
        """Mark prices arrive at a time of the runner's clock."""
        for symbol, price in marks.items():
            told = {"e": "markPriceUpdate", "E": time_ms, "s": symbol, "p": f"{price:.8f}"}
            self._record(time_ms, Kind.FRAME, json.dumps(told).encode())
        if not marks:
            self._record(time_ms, Kind.NOTE, wal.note("ready"))
        self._log.flush()

    def _record(self, time_ms: int, kind: Kind, payload: bytes) -> None:
        self._heard_ns = max(self._heard_ns + 1, time_ms * 1_000_000)
        self._log.write(self._heard_ns, kind, 0, payload)

    def close(self) -> None:
        """End as a killed runner does: without a word."""
        self._journal.close()
        self._log.close()


def events_of(path: Path) -> list[Record]:
    """The events of a finished journal."""
    columns = ("ts_ms", "kind", "config_hash", "symbol", "trade_id", "client_order_id", "body")
    return [
        Record(**{**row, "body": json.loads(row["body"])})
        for row in read_journal(path).select(columns).iter_rows(named=True)
    ]
