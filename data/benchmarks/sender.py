"""An exchange that only sends: WebSocket frames made beforehand, as fast as they are taken or at a pace."""

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Sequence

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_CHUNK = 512  # frames handed to the kernel at once


def wire(payload: bytes) -> bytes:
    """A text frame as a server sends it: not masked."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    return b"\x81\x7e" + length.to_bytes(2, "big") + payload


class Sender:
    """Waits for so many connections, then sends the same frames to each.

    Parameters
    ----------
    frames_per_second : None for as fast as they are taken.
    every_s : so often those that are due go out together, where there is a pace.

    Attributes
    ----------
    bytes_each : that a connection is sent.
    sent : where there is a pace, how many frames were sent to each by then, and when, nanoseconds since 1970.
    """

    def __init__(
        self,
        frames: Sequence[bytes],
        connections: int,
        frames_per_second: int | None = None,
        every_s: float = 0.001,
    ):
        self._frames = [wire(frame) for frame in frames]
        self.bytes_each = sum(map(len, self._frames))
        self._connections = connections
        self._frames_per_second, self._every_s = frames_per_second, every_s
        self.sent: list[tuple[int, int]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.join()

    def _send(self) -> None:
        peers = []
        while len(peers) < self._connections:
            peer, _ = self._server.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _shake_hands(peer)
            peers.append(peer)
        time.sleep(0.1)  # everybody is ready
        try:
            if self._frames_per_second is None:
                self._send_fast(peers)
            else:
                self._send_paced(peers, self._frames_per_second)
            for peer in peers:
                peer.recv(1)  # until it hangs up
        except OSError:
            pass  # it hung up before it had everything: it counts what it got
        for peer in peers:
            peer.close()

    def _send_fast(self, peers: list[socket.socket]) -> None:
        for first in range(0, len(self._frames), _CHUNK):
            chunk = b"".join(self._frames[first : first + _CHUNK])
            for peer in peers:
                peer.sendall(chunk)

    def _send_paced(self, peers: list[socket.socket], frames_per_second: int) -> None:
        began, sent = time.perf_counter(), 0
        while sent < len(self._frames):
            due = min(int((time.perf_counter() - began) * frames_per_second) + 1, len(self._frames))
            if due > sent:
                chunk = b"".join(self._frames[sent:due])
                self.sent.append((due, time.time_ns()))
                for peer in peers:
                    peer.sendall(chunk)
                sent = due
            time.sleep(self._every_s)


def _shake_hands(peer: socket.socket) -> None:
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += peer.recv(4_096)
    fields = dict(line.split(b": ", 1) for line in asked.split(b"\r\n")[1:] if b": " in line)
    key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
    answer = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )
