"""The short way for nearly all that an exchange sends: plain text messages of usual length, several in one read.

picows calls us for each frame, which costs more than to log and watch it. So this stands between the line and picows:
it cuts the plain messages out of what a read brought, all at once, and leaves everything else to picows as it came.
What control frames, fragments, very short, very long and broken frames mean is decided there alone.

Source: RFC 6455, 5.2 for the head of a frame.
"""

import asyncio
import struct
from collections.abc import Callable

_HEAD = struct.Struct(">HH")  # of a plain message
_KIND = b"\x81\x7e"  # a whole text, neither compressed nor masked, its length in the next two bytes
_PLAIN = int.from_bytes(_KIND, "big")
_SHORTEST = 126  # bytes: a shorter one has its length in the second byte, or is broken
_SHORTEST_LENGTH = _SHORTEST.to_bytes(2, "big")
_LENGTH_BYTES = {126: 2, 127: 8}  # by what stands in the second byte
_READ_BYTES = 64 * 1024


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
    take : is given the messages of a read, in order; what it raises ends the connection.
    is_ending : whether nothing is to be taken any more.
    """

    def __init__(
        self, careful: asyncio.BufferedProtocol, take: Callable[[list[bytes]], None], is_ending: Callable[[], bool]
    ):
        self.unfinished_bytes: int | None = None
        self.connection_lost, self.eof_received = careful.connection_lost, careful.eof_received
        self.pause_writing, self.resume_writing = careful.pause_writing, careful.resume_writing
        self._careful, self._take, self._is_ending = careful, take, is_ending
        self._read = memoryview(bytearray(_READ_BYTES))
        self._rest = b""  # the beginning of a plain message
        self._owed_bytes: int | None = None  # to picows, until its frame is whole; None while nobody knows

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        came = self._rest + self._read[:nbytes]
        at, end = 0, len(came)
        if self._owed_bytes != 0:
            at = end if self._owed_bytes is None else min(self._owed_bytes, end)
            self._pass_on(came[:at])
        head_at, payloads = _HEAD.unpack_from, []
        while (begin := at + _HEAD.size) <= end:
            kind, length = head_at(came, at)
            if kind != _PLAIN or length < _SHORTEST or begin + length > end:
                break
            at = begin + length
            payloads.append(came[begin:at])
        if payloads:
            self._take(payloads)
        rest = came[at:]
        if rest and not _may_be_plain(rest):
            self._pass_on(rest)
            rest = b""
        self._rest = rest

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
    return _KIND.startswith(begun[:2]) and not b"" < begun[2:4] < _SHORTEST_LENGTH


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
