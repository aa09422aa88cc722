"""Pauses between the reads of busy connections, as network cards coalesce interrupts.

A recorder pays for waking up, not for what it wakes up for. So a connection that brings many messages is left alone for
a few milliseconds, while the kernel keeps what comes, and is then read at once; all that pause end it together. What
comes meanwhile is stamped when it is read, so up to a pause later than it came. One that brings few is never paused.

The pause is a mark on the socket: the kernel wakes nobody for fewer bytes. More than that, or the end of the
connection, is told at once. Source: socket(7), SO_RCVLOWAT.
"""

import asyncio
import socket

BUSY_PER_S = 1_000  # messages of one connection: a wake-up costs what twenty of them do
_JUDGED_NS = 100_000_000
_WORTH_READING = 32_768  # bytes: to wake up for so many costs little for each, and any socket can keep them


class Pauses:
    """The pauses of all connections of one event loop.

    Parameters
    ----------
    pause_ms : how long, milliseconds of the machine.
    """

    def __init__(self, pause_ms: float):
        self._pause_s = pause_ms / 1e3
        self._paused: list[socket.socket] = []

    def begin(self, line: socket.socket) -> None:
        """Leave a line alone until the running pause ends, or for a whole one."""
        if line in self._paused:  # what came meanwhile was worth reading
            return
        if not self._paused:
            asyncio.get_running_loop().call_later(self._pause_s, self._end)
        self._paused.append(line)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WORTH_READING)

    def _end(self) -> None:
        paused, self._paused = self._paused, []
        for line in paused:
            if line.fileno() >= 0:  # not closed since
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


class Pace:
    """How busy one connection is; decides after each read whether it pauses.

    Parameters
    ----------
    line : its socket.
    """

    def __init__(self, pauses: Pauses, line: socket.socket):
        self._pauses, self._line = pauses, line
        self._is_busy = False
        self._messages = 0  # since
        self._since_ns = 0

    def after(self, messages: int, read_bytes: int, now_ns: int) -> None:
        """A read brought so many messages, in so many bytes."""
        self._messages += messages
        passed_ns = now_ns - self._since_ns
        if passed_ns >= _JUDGED_NS:
            self._is_busy = self._messages * 1_000_000_000 >= BUSY_PER_S * passed_ns
            self._since_ns, self._messages = now_ns, 0
        if self._is_busy and read_bytes < _WORTH_READING:
            self._pauses.begin(self._line)
