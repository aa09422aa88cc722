"""The raw log: what arrived, byte for byte and in order, in files that are only ever added to.

A log is a folder of segments; each is written by one process, once, and read by whoever wants to know. A record is a
header of 20 bytes, little endian, and its payload:

=========== ====== ===========================================================
crc32       u32    of everything after it, the payload included
recv_ns     u64    when it arrived, nanoseconds since 1970
length      u32    bytes of payload
connection  u16    where it came from, see ``connection_of``
kind        u16    see ``Kind``
=========== ====== ===========================================================

What ``write`` returned for is with the kernel and survives the death of this process, what ``sync`` returned for
survives a power cut. A record that a kill cut off is shorter than it says, or fails its checksum; a power cut may also
leave zeros at the end.
"""

import fcntl
import json
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from filelock import FileLock, Timeout

from data.locks import is_locked

SUFFIX = ".wal"
_CRC = struct.Struct("<I")
_REST = struct.Struct("<QIHH")  # recv_ns, length, connection, kind
HEADER_BYTES = _CRC.size + _REST.size
_READ_BYTES = 1 << 20


class Kind(IntEnum):
    """What a payload is."""

    FRAME = 0  # a WebSocket message as received
    ANSWER = 1  # a REST answer with its question, see ``answer``
    NOTE = 2  # what happened to the connection or the process, see ``note``


VENUES = ("aster", "binance", "hyperliquid")  # their places are stored in every record: only ever add at the end


class Origin(NamedTuple):
    """Where a record came from, packed into its ``connection``: venue, shard of its streams, socket of the pair."""

    venue: str
    shard: int
    socket: int


def connection_of(venue: str, shard: int = 0, socket: int = 0) -> int:
    """The number of a connection; that of REST answers and notes of a venue is its first."""
    assert shard < 2_048 and socket < 2
    return VENUES.index(venue) << 12 | shard << 1 | socket


def origin_of(connection: int) -> Origin:
    """Venue, shard and socket of a connection's number."""
    return Origin(VENUES[connection >> 12], (connection >> 1) & 0x7FF, connection & 1)


_KINDS = tuple(Kind)  # looking one up is much faster than calling Kind


class Record(NamedTuple):
    """One thing that arrived. ``recv_ns`` is our clock, nanoseconds since 1970."""

    recv_ns: int
    kind: Kind
    connection: int
    payload: bytes


def answer(
    path: str,
    params: Mapping[str, Any],
    since_ms: int,
    body: bytes,
    *,
    effective_ms: int | None = None,
    gap_id: str | None = None,
) -> bytes:
    """Payload of an ANSWER; the body goes in as it came.

    Parameters
    ----------
    path : such as /fapi/v3/klines.
    params : what was asked, symbol and interval among them.
    since_ms : when this process began to listen; what is older was not waited for, so its receipt says nothing.
    body : JSON as the exchange sent it.
    effective_ms : exchangeInfo only: when its rules come into force, where that is not the time of receipt.
    gap_id : the gap of the ledger that the answer shall fill.
    """
    question = {"path": path, "params": dict(params), "since_ms": since_ms}
    more = {"effective_ms": effective_ms, "gap_id": gap_id}
    question |= {name: told for name, told in more.items() if told is not None}
    return json.dumps(question).encode()[:-1] + b', "body": ' + body + b"}"


def note(what: str, **told: Any) -> bytes:
    """Payload of a NOTE: started, opened, closed, stopped, gave_up, ... with JSON values."""
    return json.dumps({"note": what, **told}).encode()


class Log:
    """The one writer of the log in ``folder``, which is made where missing.

    It begins a segment of its own and never touches those of earlier processes. A segment appears with its first
    record. ``sync`` may run in another thread; everything else belongs to one.

    Attributes
    ----------
    buffered_bytes : bytes that wait in memory because the disk refuses them.

    Raises
    ------
    ValueError
        When another Log writes there, naming its process.
    OSError
        When the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "writer.lock", thread_local=False)
        holder = self.folder / "writer.pid"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            pid = holder.read_text(encoding="ascii").strip() if holder.exists() else "unknown"
            message = f"{self.folder}: process {pid} writes this log; wait for it, end it, or give another folder"
            raise ValueError(message) from None
        self._used = 0  # bytes written to the current segment
        self._synced = 0  # of them: on the disk for certain
        self._waiting: deque[bytes] = deque()  # what the disk did not take yet; the first may be the rest of a record
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._to_sync: list[int] = []  # descriptors to sync once and close
        self._guard = threading.Lock()  # over the descriptors, for ``sync``
        self._segments_begun = 0
        self.buffered_bytes = 0
        try:
            holder.write_text(f"{os.getpid()}\n", encoding="ascii")
            for leftover in self.folder.glob(f"*{SUFFIX}.new"):
                leftover.unlink()
            self._start_ns = max([time.time_ns(), *(started_ns(path) + 1 for path in segments(self.folder))])
        except OSError:
            self._lock.release()
            raise

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def segment_bytes(self) -> int:
        """Bytes written to the current segment."""
        return self._used

    @property
    def unsynced_bytes(self) -> int:
        """Bytes of the current segment that a power cut could still cost."""
        return self._used - self._synced

    def write(self, recv_ns: int, kind: int, connection: int, payload: bytes) -> None:
        """Add one record. While the disk refuses it waits in memory, see ``flush``."""
        self.write_all(kind, connection, ((recv_ns, payload),))

    def write_all(self, kind: int, connection: int, arrived: Sequence[tuple[int, bytes]]) -> None:
        """Add what arrived from one place, each with its time of receipt, in one call of the system."""
        pack_rest, pack_crc, parts = _REST.pack, _CRC.pack, []
        add = parts.append
        for recv_ns, payload in arrived:
            rest = pack_rest(recv_ns, len(payload), connection, kind)
            add(pack_crc(crc32(payload, crc32(rest))))
            add(rest)
            add(payload)
        if parts:
            self.write_records(b"".join(parts))

    def write_records(self, records: bytes) -> None:
        """Add records that are made already. What the disk does not take waits, and so does everything after it."""
        if not self._waiting:
            try:
                written = self._append(records)
            except OSError:  # told by ``flush``
                written = 0
            if written == len(records):
                return
            records = records[written:]
        self._waiting.append(records)
        self.buffered_bytes += len(records)

    def flush(self) -> None:
        """Write what is waiting.

        Raises
        ------
        OSError
            When the disk still refuses. What it did not take goes on waiting.
        """
        while self._waiting:
            written = self._append(self._waiting[0])
            self.buffered_bytes -= written
            self._waiting[0] = self._waiting[0][written:]
            if not self._waiting[0]:
                self._waiting.popleft()

    def sync(self) -> None:
        """Force onto the disk what was written before; takes milliseconds and may run in a thread."""
        with self._guard, ExitStack() as undo:
            descriptors, self._to_sync = self._to_sync, []
            for descriptor in descriptors:
                undo.callback(os.close, descriptor)
            path, used = self._path, self._used
            if self._descriptor is not None:
                descriptors.append(os.dup(self._descriptor))
                undo.callback(os.close, descriptors[-1])
            closing = undo.pop_all()
        with closing:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
        with self._guard:
            if self._path == path:
                self._synced = used

    def settle(self) -> None:
        """Write what is waiting and force all of it onto the disk; raises as ``flush`` does."""
        self.flush()
        self.sync()

    def rotate(self) -> Path | None:
        """Close the current segment; the next record begins another. None when nothing was written."""
        self.flush()
        if self._descriptor is None:
            return None
        finished = self._path
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        with self._guard:
            self._to_sync.append(self._descriptor)
            self._descriptor = self._path = None
            self._used = self._synced = 0
        return finished

    def close(self) -> None:
        """Close the segment, sync and let go of the folder; does nothing when closed before."""
        if not self._lock.is_locked:
            return
        try:
            self.rotate()
            self.sync()
        finally:
            if self._descriptor is not None:  # the disk refused to take the rest
                self._to_sync.append(self._descriptor)
                self._descriptor = None
            for descriptor in self._to_sync:
                os.close(descriptor)
            self._lock.release()

    def _append(self, records: bytes) -> int:
        """Hand bytes to the kernel; returns how many it took, fewer when the disk fills up."""
        if self._descriptor is None:
            self._begin()
        written = os.write(self._descriptor, records)
        self._used += written
        return written

    def _begin(self) -> None:
        """Make the next segment; it has its name only once it is locked, so nobody takes it for a finished one."""
        name = f"{self._start_ns:020d}-{os.getpid()}-{self._segments_begun:06d}{SUFFIX}"
        path = self.folder / name
        unnamed = path.with_name(f"{name}.new")
        descriptor = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            unnamed.rename(path)
            folder = os.open(self.folder, os.O_RDONLY)
        except OSError:
            os.close(descriptor)
            raise
        self._segments_begun += 1
        with self._guard:
            self._descriptor, self._path = descriptor, path
            self._to_sync.append(folder)  # the name too must survive a power cut


def segments(folder: Path) -> list[Path]:
    """The segments of a log, oldest first; the last may still be growing, see ``is_growing``."""
    return sorted(Path(folder).glob(f"*{SUFFIX}"))


def follows(path: Path, other: Path) -> bool:
    """Whether a segment is the next that the writer of another wrote after it."""
    (writer, _, number), (writer_of_other, _, before) = (each.stem.rpartition("-") for each in (path, other))
    is_numbered = number.isdecimal() and before.isdecimal()
    return is_numbered and (path.parent, writer, int(number)) == (other.parent, writer_of_other, int(before) + 1)


def all_segments(logs: Path) -> list[Path]:
    """The segments of every log in a lake's folder ``wal``, oldest first: of its own, and of each folder in it."""
    return sorted([*Path(logs).glob(f"*{SUFFIX}"), *Path(logs).glob(f"*/*{SUFFIX}")], key=lambda path: path.name)


def is_growing(path: Path) -> bool:
    """Whether a living process still writes to this segment; one that is gone does not grow."""
    return is_locked(path)


def read(path: Path, offset: int = 0) -> Iterator[Record]:
    """The records of a segment from that byte on, up to the first that is cut off or fails its checksum."""
    with path.open("rb", buffering=_READ_BYTES) as segment:
        left = os.fstat(segment.fileno()).st_size - offset
        segment.seek(offset)
        while left >= HEADER_BYTES:
            header = segment.read(HEADER_BYTES)
            (crc,) = _CRC.unpack_from(header)
            rest = header[_CRC.size :]
            recv_ns, length, connection, kind = _REST.unpack(rest)
            left -= HEADER_BYTES + length
            if left < 0:  # cut off, or a length that was damaged: nothing of that size is read
                return
            payload = segment.read(length)
            if crc32(payload, crc32(rest)) != crc:
                return
            yield Record(recv_ns, _KINDS[kind], connection, payload)


def next_record(path: Path, offset: int) -> int:
    """Where the first whole record at or after that byte begins; the segment's size where none does."""
    with path.open("rb") as segment:
        segment.seek(offset)
        content = segment.read()
    for at in range(len(content) - HEADER_BYTES + 1):
        _, length, _, kind = _REST.unpack_from(content, at + _CRC.size)
        end = at + HEADER_BYTES + length
        if kind < len(_KINDS) and end <= len(content):
            (crc,) = _CRC.unpack_from(content, at)
            if crc32(content[at + _CRC.size : end]) == crc:
                return offset + at
    return offset + len(content)


def size(record: Record) -> int:
    """Bytes that a record takes in its segment."""
    return HEADER_BYTES + len(record.payload)


def cut_bytes(path: Path, read_bytes: int | None = None) -> int:
    """Bytes behind the last readable record, zeros at the end aside: 0 for a whole segment.

    Parameters
    ----------
    read_bytes : how far the records reach, where that is known already.
    """
    end = sum(map(size, read(path))) if read_bytes is None else read_bytes
    with path.open("rb") as segment:
        position = os.fstat(segment.fileno()).st_size
        while position > end:
            begin = max(position - _READ_BYTES, end)
            segment.seek(begin)
            told = segment.read(position - begin).rstrip(b"\0")
            if told:
                return begin + len(told) - end
            position = begin
    return 0


def started_ns(path: Path) -> int:
    """When the process that wrote a segment began, by its name; 0 for a name that is none of ours."""
    begun = path.name.split("-")[0]
    return int(begun) if begun.isdecimal() else 0
