"""Whether the runner lives, how late it is by its own clock, and the last mark prices it heard: from its input log.

The log is read from near its end and never as a whole: what was said an hour ago proves nothing now.
"""

import time
from collections.abc import Callable
from pathlib import Path

from data import wal
from data.messages import MarkPrice, decode
from data.wal import Kind
from live.readings import NS_PER_MS, mark_of

_NEAR_END_BYTES = 500_000
_MARK = b"markPriceUpdate"


class Pulse:
    """The end of a runner's input log, see ``look``.

    Attributes
    ----------
    marks : last mark price by symbol, USDT.
    is_alive : a living process writes the log.
    heard_age_s : how long ago it wrote last, by this machine's clock; None while there is no log.
    clock_ms : the runner's own time of the last record; 0 before.
    looks : how often it was looked at.
    began_s : when the process that writes began, by this machine's clock, seconds since 1970; None before.
    """

    def __init__(self, folder: Path, now_s: Callable[[], float] = time.time) -> None:
        self.marks: dict[str, float] = {}
        self.is_alive = False
        self.heard_age_s: float | None = None
        self.clock_ms = 0
        self.began_s: float | None = None
        self.looks = 0
        self._folder, self._now_s = folder, now_s
        self._segment: Path | None = None
        self._offset = 0

    def look(self) -> None:
        """Read what was written since the last time."""
        self.looks += 1
        segment = next(iter(reversed(wal.segments(self._folder))), None)
        try:
            if segment is not None:
                self._look_at(segment)
                return
        except FileNotFoundError:  # a runner has just set the log aside
            pass
        self.is_alive, self.heard_age_s, self._segment = False, None, None

    def _look_at(self, segment: Path) -> None:
        if segment != self._segment:
            self._segment = segment
            self._offset = wal.next_record(segment, max(0, segment.stat().st_size - _NEAR_END_BYTES))
            self.began_s = wal.started_ns(segment) / 1e9
        self.is_alive = wal.is_growing(segment)
        self.heard_age_s = max(0.0, self._now_s() - segment.stat().st_mtime)
        for record in wal.read(segment, self._offset):
            self._offset += wal.size(record)
            self.clock_ms = record.recv_ns // NS_PER_MS
            if record.kind is Kind.FRAME and _MARK in record.payload:
                self._hear(record)

    def _hear(self, record: wal.Record) -> None:
        for message in decode(record.payload):
            if isinstance(message, MarkPrice):
                mark = mark_of(record.recv_ns, message)
                if mark is not None:
                    self.marks[message.symbol] = mark.price
