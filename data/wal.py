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

What ``flush`` returned for is with the kernel and survives the death of this process; what ``sync`` returned for
survives a power cut. A record that a crash cut off ends its segment and costs nothing but itself.
"""

import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from filelock import FileLock, Timeout

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
    path: str, params: Mapping[str, Any], since_ms: int, body: bytes, *, effective_ms: int | None = None
) -> bytes:
    """Payload of an ANSWER; the body goes in as it came.

    Parameters
    ----------
    path : such as /fapi/v3/klines.
    params : what was asked, symbol and interval among them.
    since_ms : when this process began to listen; what is older was not waited for, so its receipt says nothing.
    body : JSON as the exchange sent it.
    effective_ms : exchangeInfo only: when its rules come into force, where that is not the time of receipt.
    """
    question = {"path": path, "params": dict(params), "since_ms": since_ms}
    if effective_ms is not None:
        question["effective_ms"] = effective_ms
    return json.dumps(question).encode()[:-1] + b', "body": ' + body + b"}"


def note(what: str, **told: Any) -> bytes:
    """Payload of a NOTE: started, opened, closed, stopped, gave_up, ... with JSON values."""
    return json.dumps({"note": what, **told}).encode()


class Log:
    """The one writer of the log in ``folder``, which is made where missing.

    It begins a segment of its own and never touches those of earlier processes. A segment appears with its first
    record. ``sync`` may run in another thread; everything else belongs to one.

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
        self._buffer = bytearray()
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._to_sync: list[int] = []  # descriptors to sync once and close
        self._guard = threading.Lock()  # over the descriptors, for ``sync``
        self._segments_begun = 0
        try:
            holder.write_text(f"{os.getpid()}\n", encoding="ascii")
            for leftover in self.folder.glob(f"*{SUFFIX}.new"):
                leftover.unlink()
            self._start_ns = max([time.time_ns(), *(_start_ns(path) + 1 for path in segments(self.folder))])
        except OSError:
            self._lock.release()
            raise

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that were written but not yet flushed; grows while the disk is full."""
        return len(self._buffer)

    def write(self, recv_ns: int, kind: Kind, connection: int, payload: bytes) -> None:
        """Add one record to the buffer."""
        rest = _REST.pack(recv_ns, len(payload), connection, kind)
        buffer = self._buffer
        buffer += _CRC.pack(crc32(payload, crc32(rest)))
        buffer += rest
        buffer += payload

    def flush(self) -> None:
        """Hand the buffer to the kernel.

        Raises
        ------
        OSError
            When the disk refuses. What it did not take stays buffered, so the next flush goes on there.
        """
        while self._buffer:
            if self._descriptor is None:
                self._begin()
            taken = os.write(self._descriptor, self._buffer)
            del self._buffer[:taken]

    def sync(self) -> None:
        """Force onto the disk what was flushed before; takes milliseconds and may run in a thread."""
        with self._guard, ExitStack() as undo:
            descriptors, self._to_sync = self._to_sync, []
            for descriptor in descriptors:
                undo.callback(os.close, descriptor)
            if self._descriptor is not None:
                descriptors.append(os.dup(self._descriptor))
                undo.callback(os.close, descriptors[-1])
            closing = undo.pop_all()
        with closing:
            for descriptor in descriptors:
                os.fdatasync(descriptor)

    def rotate(self) -> Path | None:
        """Flush and close the current segment; the next record begins another. None when nothing was written."""
        self.flush()
        if self._descriptor is None:
            return None
        finished = self._path
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        with self._guard:
            self._to_sync.append(self._descriptor)
            self._descriptor = self._path = None
        return finished

    def close(self) -> None:
        """Flush, sync and let go of the folder; does nothing when closed before."""
        if not self._lock.is_locked:
            return
        try:
            self.rotate()
            self.sync()
        finally:
            if self._descriptor is not None:  # the disk refused to take the rest
                os.close(self._descriptor)
                self._descriptor = None
            self._lock.release()

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


def is_growing(path: Path) -> bool:
    """Whether a living process still writes to this segment; one that is gone does not grow."""
    try:
        with path.open("rb") as segment:
            fcntl.flock(segment, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def read(path: Path) -> Iterator[Record]:
    """The records of a segment, up to the first that is cut off or fails its checksum."""
    with path.open("rb", buffering=_READ_BYTES) as segment:
        left = os.fstat(segment.fileno()).st_size
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


def size(record: Record) -> int:
    """Bytes that a record takes in its segment."""
    return HEADER_BYTES + len(record.payload)


def cut_bytes(path: Path) -> int:
    """Bytes behind the last readable record: 0 for a whole segment."""
    return path.stat().st_size - sum(map(size, read(path)))


def _start_ns(path: Path) -> int:
    """When the process that wrote a segment began, by its name; 0 for a name that is none of ours."""
    begun = path.name.split("-")[0]
    return int(begun) if begun.isdecimal() else 0
