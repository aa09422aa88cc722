"""A recorder that is going to be killed, and a witness of what it had received and of how far its log was synced.

The witness is memory shared through a file: whatever was told there before the kill can be read after it.
"""

import asyncio
import json
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from data import wal
from data.clock import FollowedClock
from data.recorder import RecorderConfig, record
from data.venues.aster import venue_of

ROOT = Path(__file__).parents[2]
RECEIVED = pl.Schema({"monotonic_ns": pl.Int64, "recv_ns": pl.Int64, "connection": pl.Int64, "payload": pl.Binary})
_BYTES = 1 << 30  # of address space; the file is sparse
_USED = struct.Struct("<Q")
_HEADER = struct.Struct("<QQII")  # monotonic time, recv_ns, connection, length
_FRAMES, _SYNCS = "frames", "syncs"


class Synced(NamedTuple):
    """A sync that ended: what was written before ``began_ns`` (monotonic) is on the disk."""

    began_ns: int
    ended_ns: int
    segment: str  # the growing one; empty when none had begun
    segment_bytes: int  # of it, on the disk for certain; earlier segments of the process are so as a whole


class Witness:
    """Writes entries one after the other; an entry counts once it is complete."""

    def __init__(self, path: Path) -> None:
        with path.open("w+b") as file:
            file.truncate(_BYTES)
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        self._used = _USED.size

    def tell(self, moment_ns: int, recv_ns: int, connection: int, payload: bytes) -> None:
        begin = self._used + _HEADER.size
        self._memory[self._used : begin] = _HEADER.pack(moment_ns, recv_ns, connection, len(payload))
        self._memory[begin : begin + len(payload)] = payload
        self._used = begin + len(payload)
        self._memory[: _USED.size] = _USED.pack(self._used)


def entries(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """What a witness was told; nothing when there was none yet."""
    if not path.exists() or path.stat().st_size < _BYTES:
        return
    with path.open("rb") as file:
        (used,) = _USED.unpack(file.read(_USED.size))
        told = file.read(max(used - _USED.size, 0))
    place = 0
    while place < len(told):
        *header, length = _HEADER.unpack_from(told, place)
        place += _HEADER.size + length
        yield (*header, told[place - length : place])


def is_receiving(folder: Path) -> bool:
    """Whether the recorder whose witness is there has received a frame."""
    path = folder / _FRAMES
    if not path.exists() or path.stat().st_size < _BYTES:
        return False
    with path.open("rb") as file:
        return _USED.unpack(file.read(_USED.size))[0] > _USED.size


def received(folder: Path) -> pl.DataFrame:
    """``RECEIVED``: every frame that the recorder had received and logged, in order."""
    return pl.DataFrame(list(entries(folder / _FRAMES)), RECEIVED, orient="row")


def syncs(folder: Path) -> list[Synced]:
    """Every sync of its log that had ended."""
    return [
        Synced(began_ns, ended_ns, payload.decode(), segment_bytes)
        for ended_ns, began_ns, segment_bytes, payload in entries(folder / _SYNCS)
    ]


async def start(url: str, lake: Path, witness: Path, config: RecorderConfig) -> asyncio.subprocess.Process:
    """A recorder with a witness."""
    witness.mkdir(parents=True, exist_ok=True)
    told = {"symbols": config.symbols, "flush_interval_s": config.flush_interval_s, "compaction": config.compaction,
            "last_repairs_s": config.last_repairs_s}  # fmt: skip
    arguments = ("-m", "data.tests.witnessed_recorder", url, str(lake), str(witness), json.dumps(told))
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)


def _bear_witness(folder: Path) -> None:
    """Have every log tell the witness."""
    frames, syncs = Witness(folder / _FRAMES), Witness(folder / _SYNCS)
    write_all, sync = wal.Log.write_all, wal.Log.sync

    def told_write_all(log: wal.Log, kind: int, connection: int, arrived: Sequence[tuple[int, bytes]]) -> None:
        write_all(log, kind, connection, arrived)
        now_ns = time.monotonic_ns()
        for recv_ns, payload in arrived if kind == wal.Kind.FRAME else ():
            frames.tell(now_ns, recv_ns, connection, payload)

    def told_sync(log: wal.Log) -> None:
        began_ns, used = time.monotonic_ns(), log.segment_bytes
        growing = [path.name for path in wal.segments(log.folder) if str(os.getpid()) in path.name] if used else []
        sync(log)
        syncs.tell(time.monotonic_ns(), began_ns, used, growing[-1].encode() if growing else b"")

    wal.Log.write_all, wal.Log.sync = told_write_all, told_sync


async def _record(url: str, lake: str, witness: str, told: str) -> None:
    _bear_witness(Path(witness))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = json.loads(told)
    config = RecorderConfig(**settings | {"symbols": tuple(settings["symbols"])})
    await record(config, await venue_of(url), Path(lake), FollowedClock(), stop=stop)


if __name__ == "__main__":
    asyncio.run(_record(*sys.argv[1:]))
