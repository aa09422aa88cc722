"""Gathers from the parts of a recorder what it says about itself."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from data.clock import Clock
from data.recorder_asking import Asking
from data.recorder_inbox import Inbox
from data.recorder_locks import LOGS, Place, finished_segments
from data.recorder_repair import Repair
from data.recorder_sealer import Sealing
from data.recorder_status import SocketStatus, Status
from data.recorder_upkeep import Compaction, Disk
from data.venues.aster import Venue
from data.wal import origin_of

_RATE_S = 0.4  # the shortest time over which a rate is measured


class Report:
    """What a recorder says about itself.

    Parameters
    ----------
    connections : how many there should be, as far as that is known before they are made.

    Attributes
    ----------
    state : as in ``Status``. failure : what ended the run. since_ms : when listening began.
    is_room_short : sealing waits for room on the disk.
    absent : why another venue's streams are not recorded, by venue.
    """

    def __init__(
        self,
        root: Path,
        venue: Venue,
        symbols: tuple[str, ...],
        streams: Sequence[str],
        clock: Clock,
        place: Place,
        *,
        inbox: Inbox,
        sealing: Sealing,
        disk: Disk,
        connections: int,
    ) -> None:
        self.state = "starting"
        self.failure: str | None = None
        self.since_ms = clock.now_ms()
        self.is_room_short = False
        self.absent: dict[str, str] = {}
        self._root = root
        self._venue = venue
        self._symbols = symbols
        self._streams = tuple(streams)
        self._clock = clock
        self._place = place
        self._inbox = inbox
        self._sealing = sealing
        self._disk = disk
        self._connections = connections
        self._reported = (time.monotonic(), 0)  # when, and how many frames there were
        self._rate = 0.0  # frames per second, since then

    def began(self) -> None:
        """The run, or listening, begins now."""
        self.since_ms = self._clock.now_ms()

    def status(
        self, askings: Sequence[Asking], repairs: Sequence[Repair], notices: Sequence[str], compaction: Compaction
    ) -> Status:
        """How it is now."""
        inbox, sealing, log = self._inbox, self._sealing, self._place.log
        if self.state == "starting" and inbox.is_listening.is_set():
            self.state = "recording"
        messages = inbox.messages()
        now_ns = self._clock.now_ns()
        lag_ms, lag_p99_ms = inbox.watch.lag_ms() or (None, None)
        unsealed_bytes, seal_lag_s = self._unsealed()
        free_bytes = self._disk.free_bytes
        room = f"only {free_bytes / 1e6:,.0f} MB free: sealing waits, the log goes on" if self.is_room_short else None
        troubles = (
            self.failure, inbox.disk_trouble, room, sealing.trouble, *(asking.trouble for asking in askings),
            *(repair.trouble for repair in repairs), compaction.trouble, *self.absent.values(),
        )  # fmt: skip
        refused = [sentence for asking in askings for sentence in asking.refused.values()]
        return Status(
            number=self._place.number,
            pid=os.getpid(),
            state="disk full" if inbox.disk_trouble and self.state == "recording" else self.state,
            venue=self._venue.name,
            lake=str(self._root),
            symbols=self._symbols,
            streams=self._streams,
            started=_utc(self.since_ms * 10**6),
            now=_utc(now_ns),
            seconds=(now_ns // 10**6 - self.since_ms) / 1_000,
            connected=inbox.connected,
            connections=max(self._connections, inbox.connections),
            reconnects=inbox.reconnects,
            rotations=inbox.rotations,
            messages=messages,
            messages_per_second=self._rate_of(sum(messages.values())),
            last_message=_utc(inbox.last_ns) if inbox.last_ns else None,
            lag_ms=lag_ms,
            lag_p99_ms=lag_p99_ms,
            sockets=self._sockets(now_ns),
            unknown=inbox.watch.unknown.total(),
            drifted=inbox.watch.drift.total(),
            unsealed_bytes=unsealed_bytes,
            unsynced_bytes=log.unsynced_bytes,
            seal_lag_s=seal_lag_s,
            landed={table: rows for table, rows in sorted(sealing.landed.items()) if rows},
            already_present=sealing.already_present,
            conflicts=sealing.conflicts,
            quarantined=sealing.quarantined,
            cut_bytes=sealing.cut_bytes,
            dropped=inbox.dropped,
            gaps_open=sum(repair.gaps_open for repair in repairs),
            repair_answers=sum(repair.answers for repair in repairs),
            rest_weight=sum(asking.used_weight for asking in askings),
            free_bytes=free_bytes,
            disk_full_in_s=self._disk.full_in_s(),
            trouble=tuple(trouble for trouble in troubles if trouble),
            notices=(*notices, *refused),
        )

    def _rate_of(self, messages: int) -> float:
        """Frames per second of the machine; whoever looks more often than that is told the same again."""
        now_s = time.monotonic()
        told_s, told = self._reported
        if now_s - told_s >= _RATE_S:
            self._reported, self._rate = (now_s, messages), (messages - told) / (now_s - told_s)
        return self._rate

    def _sockets(self, now_ns: int) -> tuple[SocketStatus, ...]:
        ages_s = self._inbox.watch.age_s(now_ns)
        found = []
        for connection, socket in sorted(self._inbox.watch.sockets.items()):
            venue, shard, place = origin_of(connection)
            lag_ms, lag_p99_ms = self._inbox.watch.lag_ms(connection) or (None, None)
            found.append(
                SocketStatus(
                    connection=connection,
                    venue=venue,
                    shard=shard,
                    socket=place,
                    age_s=ages_s.get(connection),
                    messages=socket.frames,
                    first=socket.first,
                    second=socket.second,
                    only=socket.only,
                    lag_ms=lag_ms,
                    lag_p99_ms=lag_p99_ms,
                )
            )
        return tuple(found)

    def _unsealed(self) -> tuple[int, float]:
        """Bytes of the log that are not in the lake yet, and for how long the oldest closed segment waits."""
        log = self._place.log
        now_s = time.time()
        total, oldest_s = log.buffered_bytes + log.segment_bytes, now_s
        for name in finished_segments(self._root, log.folder):
            try:
                told = (self._root / LOGS / name).stat()
            except FileNotFoundError:  # sealed and removed a moment ago
                continue
            total += told.st_size
            oldest_s = min(oldest_s, told.st_mtime)
        return total, max(now_s - oldest_s, 0.0)


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**6 / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
