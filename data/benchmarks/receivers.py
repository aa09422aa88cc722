"""The sides of ``bench record``, each in a process of its own: our recorder's inbox, and a collector as before it.

``python -m data.benchmarks.receivers SIDE URL FOLDER SOCKETS FRAMES BYTES`` receives so many frames, which take so many
bytes of each socket, and prints as JSON what that cost; ``prompt`` is ours without pauses. The collector is our own
rendering of prior-art 004's method: websocket-client, ``json.loads``, rows in lists, written to CSV files every five
seconds. Beside these, what no recorder in Python can be cheaper than: frames only counted, bytes only read, and bytes
read and written to a file, in a loop of nothing else or in the event loop that a recorder needs.
"""

import asyncio
import csv
import gc
import json
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from data.clock import RealClock
from data.recorder_config import RecorderConfig
from data.recorder_inbox import Inbox
from data.stream import Stream
from data.venues.aster import Venue
from data.wal import Kind, Log

_SYNC_S = 0.2  # as the recorder does
_FLUSH_S = 5.0  # as the collector does by default
_NOTED_EVERY = 8  # writes, reads
_BUFFER_BYTES = 64 * 1024
_HEADER = struct.Struct("<IQIHH")  # of a record, see data.wal
_STREAMS = [f"{symbol}@{kind}" for symbol in ("ethusdt", "asterusdt")
            for kind in ("aggTrade", "bookTicker", "depth5@100ms", "markPrice@1s", "kline_1m")]  # fmt: skip


class _Timed(Inbox):
    """An inbox that notes when the first frames came and when all were there, and of one read in some its stamp."""

    def __init__(self, log: Log, expected: int):
        super().__init__(log)
        self.expected = expected
        self.timed_at = 1  # frames
        self.uncounted = 0  # they came before the time was taken
        self.began: tuple[float, float] | None = None
        self.ended = (0.0, 0.0)
        self.is_done = asyncio.Event()
        self.stamped: list[tuple[int, int]] = []  # number of the first frame of a read, from 0 on, and its stamp
        self._reads = 0

    def burst(self, connection: int = 0, frames: Sequence[tuple[int, bytes]] = ()) -> None:
        if frames:
            if not self._reads % _NOTED_EVERY:
                self.stamped.append((self.total, frames[0][0]))
            self._reads += 1
        super().burst(connection, frames)
        if self.total >= self.timed_at:
            self.take_time()

    def take_time(self) -> None:
        """Take the time of the first frames and of the last."""
        if self.began is None:
            self.began, self.uncounted = _now(), self.total
            self.timed_at = self.expected
        elif not self.is_done.is_set():
            self.ended = _now()
            self.is_done.set()


class _Counting(_Timed):
    """Does nothing with frames but count them."""

    def burst(self, connection: int = 0, frames: Sequence[tuple[int, bytes]] = ()) -> None:
        self.total += len(frames)
        if self.total >= self.timed_at:
            self.take_time()


class _TimedLog(Log):
    """A log that notes when frames were written, of one write in some."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.written_ms: list[float] = []
        self.unsynced_ns: list[int] = []
        self._writes = 0

    def write_records(self, records: bytes) -> None:
        super().write_records(records)
        self._writes += 1
        _, recv_ns, _, _, kind = _HEADER.unpack_from(records)
        if not self._writes % _NOTED_EVERY and kind == Kind.FRAME:
            self.written_ms.append((time.time_ns() - recv_ns) / 1e6)
            self.unsynced_ns.append(recv_ns)


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def ours(url: str, folder: Path, sockets: int, frames: int, kind: type[_Timed] = _Timed, **settings: float) -> dict:
    """Receive, log, decode and watch as the recorder does, without its children."""
    settings = {"read_pause_ms": RecorderConfig.read_pause_ms} | settings

    async def receive() -> dict:
        with _TimedLog(folder / "wal") as log:
            inbox = kind(log, frames)
            venue = Venue(name="bench", rest_url="", stream_url=url)
            stream = Stream(
                venue, _STREAMS, clock=RealClock(), sink=inbox, sockets=sockets, silence_s=60.0, silent=inbox.silent,
                **settings,
            )  # fmt: skip
            synced_ms: list[float] = []
            tasks = [asyncio.create_task(stream.run()), asyncio.create_task(sync(log, synced_ms))]
            await inbox.is_done.wait()
            await asyncio.sleep(2 * _SYNC_S)  # the last of them are synced
            stream.stop()
            await tasks[0]
            tasks[1].cancel()
            assert not inbox.watch.unknown and not inbox.watch.missing_trades
            return {
                "frames": inbox.total - inbox.uncounted,
                "process_seconds": inbox.ended[0] - inbox.began[0],
                "seconds": inbox.ended[1] - inbox.began[1],
                "written_ms": percentile_99(log.written_ms),
                "synced_ms": percentile_99(synced_ms),
                "stamped": inbox.stamped,
            }

    async def sync(log: _TimedLog, synced_ms: list[float]) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            written, log.unsynced_ns = log.unsynced_ns, []
            await asyncio.to_thread(log.sync)
            synced_ms += [(time.time_ns() - recv_ns) / 1e6 for recv_ns in written]

    gc.collect()
    gc.freeze()
    gc.disable()
    return uvloop.run(receive())  # as `aster record` does


def collector(url: str, folder: Path, frames: int) -> dict:
    """Receive as the collector does."""
    import websocket

    count, began, flushed = 0, None, time.monotonic()
    rows: dict[str, list[Sequence]] = {}

    def flush() -> None:
        for name, waiting in rows.items():
            with (folder / f"{name}.csv").open("a", newline="") as file:
                csv.writer(file).writerows(waiting)
            waiting.clear()

    def take(connection: websocket.WebSocket, message: str) -> None:
        nonlocal count, began, flushed
        if began is None:
            began = _now()
        said = json.loads(message)["data"]
        symbol, now = said["s"], time.time()
        if said["e"] == "aggTrade":
            side = "sell" if said["m"] else "buy"
            row = (said["a"], said["T"], side, f"{float(said['p']):.6f}", f"{float(said['q']):.6f}")
            rows.setdefault(f"trades_{symbol}", []).append(row)
        elif said["e"] == "depthUpdate":
            bid, ask = float(said["b"][0][0]), float(said["a"][0][0])
            levels = [f"{float(each):.6f}" for level in said["b"] + said["a"] for each in level]
            prices = (now, f"{bid:.6f}", f"{ask:.6f}", f"{(bid + ask) / 2:.6f}")
            rows.setdefault(f"prices_{symbol}", []).append(prices)
            rows.setdefault(f"orderbook_{symbol}", []).append((now, said["u"], *levels))
        count += 1
        if time.monotonic() - flushed >= _FLUSH_S:
            flush()
            flushed = time.monotonic()
        if count == frames:
            connection.close()

    app = websocket.WebSocketApp(f"{url}/stream?streams={'/'.join(_STREAMS)}", on_message=take)
    with suppress(websocket.WebSocketException):
        app.run_forever()
    flush()
    ended = _now()
    return {"frames": count - 1, "process_seconds": ended[0] - began[0], "seconds": ended[1] - began[1]}


def reading(url: str, folder: Path, frames: int, size: int, *, is_written: bool) -> dict:
    """Read in blocking calls, as many bytes as have come, and look at nothing; perhaps write them to a file."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with _upgraded(url) as peer, (folder / "read").open("wb", buffering=0) as file:
        left = size - peer.recv_into(buffer)
        began = _now()
        while left > 0:
            count = peer.recv_into(buffer)
            if is_written:
                file.write(buffer[:count])
            left -= count
        ended = _now()
    return {"frames": frames - 1, "process_seconds": ended[0] - began[0], "seconds": ended[1] - began[1]}


def looping(url: str, folder: Path, frames: int, size: int) -> dict:
    """Read in an event loop and write to a file, and look at nothing."""

    class Copy(asyncio.BufferedProtocol):
        def __init__(self, file: FileIO):
            self.left, self.began = size, None
            self.ended = asyncio.get_running_loop().create_future()
            self._file, self._buffer = file, memoryview(bytearray(_BUFFER_BYTES))

        def get_buffer(self, sizehint: int) -> memoryview:
            return self._buffer

        def buffer_updated(self, nbytes: int) -> None:
            self._file.write(self._buffer[:nbytes])
            self.began = self.began or _now()
            self.left -= nbytes
            if self.left <= 0:
                self.ended.set_result(_now())

    async def copy() -> dict:
        with (folder / "read").open("wb", buffering=0) as file:
            peer = _upgraded(url)
            peer.setblocking(False)
            transport, copied = await asyncio.get_running_loop().create_connection(lambda: Copy(file), sock=peer)
            ended = await copied.ended
            transport.close()
        began = copied.began
        return {"frames": frames - 1, "process_seconds": ended[0] - began[0], "seconds": ended[1] - began[1]}

    return uvloop.run(copy())


def _upgraded(url: str) -> socket.socket:
    """A connection behind its opening handshake."""
    address = urlsplit(url)
    asked = f"GET / HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    asked += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm90aGluZyBpcyByZWFkIQ==\r\n\r\n"
    peer = socket.create_connection((address.hostname, address.port))
    peer.sendall(asked.encode())
    answered = b""
    while not answered.endswith(b"\r\n\r\n"):
        answered += peer.recv(1)
    return peer


def percentile_99(values: list[float]) -> float | None:
    return sorted(values)[int(len(values) * 0.99)] if values else None


def _main(side: str, url: str, folder: str, sockets: str, frames: str, size: str) -> None:
    place = (url, Path(folder))
    match side:
        case "collector":
            cost = collector(*place, int(frames))
        case "looping":
            cost = looping(*place, int(frames), int(size))
        case "reading" | "writing":
            cost = reading(*place, int(frames), int(size), is_written=side == "writing")
        case "prompt":
            cost = ours(*place, int(sockets), int(frames), read_pause_ms=0.0)
        case _:
            cost = ours(*place, int(sockets), int(frames), {"ours": _Timed, "counting": _Counting}[side])
    print(json.dumps(cost))


if __name__ == "__main__":
    _main(*sys.argv[1:])
