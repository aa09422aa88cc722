"""The short way for nearly all that an exchange sends: plain text messages of usual length, several in one read.

picows calls us for each frame, which costs more than to log and watch it. So this stands between the line and picows:
it makes records of the plain messages that a read brought, all at once, and leaves everything else to picows as it
came. What control frames, fragments, very short, very long and broken frames mean is decided there alone.

Source: RFC 6455, 5.2 for the head of a frame.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from data.framing import HEAD_BYTES, PLAIN, SHORTEST, cut_records, room_for_records
from data.sink import Arrived

_SHORTEST_LENGTH = SHORTEST.to_bytes(2, "big")
_LENGTH_BYTES = {126: 2, 127: 8}  # by what stands in the second byte
_ROOM_BYTES = 128 * 1024  # for the beginning of a plain message, 64 KiB at most, and for what comes next


class PlainFrames(asyncio.BufferedProtocol):
    """Takes the place of picows' protocol on a line, at any moment after the opening handshake.

    Where a frame ends that picows has begun to read, only picows knows: everything goes there until it has handed one
    over.

    Attributes
    ----------
    unfinished_bytes : to be set at each frame that picows hands over: how many bytes it has behind that.

    Parameters
    ----------
    careful : picows' protocol.
    number : of the connection.
    next_ns : tells when what is looked at now came.
    take : is given the messages of a read; what it raises ends the connection.
    is_ending : whether nothing is to be taken any more.
    """

    def __init__(
        self,
        careful: asyncio.BufferedProtocol,
        number: int,
        next_ns: Callable[[], int],
        take: Callable[[Arrived], None],
        is_ending: Callable[[], bool],
    ):
        self.unfinished_bytes: int | None = None
        self.connection_lost, self.eof_received = careful.connection_lost, careful.eof_received
        self.pause_writing, self.resume_writing = careful.pause_writing, careful.resume_writing
        self._careful, self._number = careful, number
        self._next_ns, self._take, self._is_ending = next_ns, take, is_ending
        records_bytes, messages = room_for_records(_ROOM_BYTES)
        self._came, self._records = np.zeros(_ROOM_BYTES, np.uint8), np.zeros(records_bytes, np.uint8)
        self._ends = np.zeros(messages, np.int64)
        self._came_view, self._records_view, self._ends_view = map(memoryview, (self._came, self._records, self._ends))
        self._rest_bytes = 0  # of ``_came``: the beginning of a plain message
        self._owed_bytes: int | None = None  # to picows, until its frame is whole; None while nobody knows

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._came_view[self._rest_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        came = self._came_view
        at, end = 0, self._rest_bytes + nbytes
        if self._owed_bytes != 0:
            at = end if self._owed_bytes is None else min(self._owed_bytes, end)
            self._pass_on(bytes(came[:at]))
        if at < end:
            at = self._take_plain(at, end)
        self._rest_bytes = 0
        if at < end:
            rest = bytes(came[at:end])
            if _may_be_plain(rest):
                came[: len(rest)] = rest
                self._rest_bytes = len(rest)
            else:
                self._pass_on(rest)

    def _take_plain(self, at: int, end: int) -> int:
        """Hand over the plain messages that begin there; returns where the first other frame begins."""
        first_ns = self._next_ns()
        at, size, count = cut_records(self._came, at, end, self._records, self._ends, first_ns, self._number)
        if count:
            self._take(Arrived(bytes(self._records_view[:size]), first_ns, self._ends_view[:count].tolist()))
        return at

    def _pass_on(self, came: bytes) -> None:
        """Let picows read it, and find out where the frame ends that it then has the beginning of."""
        begun_at = 0 if self._owed_bytes == 0 else None
        at = 0
        while at < len(came):
            room = self._careful.get_buffer(-1)
            part = came[at : at + len(room)]
            room[: len(part)] = part
            at += len(part)
            self.unfinished_bytes = None
            self._careful.buffer_updated(len(part))
            if self.unfinished_bytes is not None:
                begun_at = at - self.unfinished_bytes
        if self._is_ending():
            self._owed_bytes = None  # picows has everything, and does nothing with it
        elif begun_at is not None:
            self._owed_bytes = _missing_bytes(came[begun_at:])
        elif self._owed_bytes is not None:
            self._owed_bytes -= len(came)


def _may_be_plain(begun: bytes) -> bool:
    """Whether a plain message may begin so."""
    return PLAIN.startswith(begun[:2]) and not b"" < begun[2:HEAD_BYTES] < _SHORTEST_LENGTH


def _missing_bytes(begun: bytes) -> int | None:
    """How many bytes a frame lacks that begins so; None when its head is not whole."""
    if not begun:
        return 0
    if len(begun) < 2:
        return None
    length = begun[1] & 0x7F
    head_bytes = 2 + _LENGTH_BYTES.get(length, 0)
    if len(begun) < head_bytes:
        return None
    if head_bytes > 2:
        length = int.from_bytes(begun[2:head_bytes], "big")
    return head_bytes + length - len(begun)
