"""Plain WebSocket messages become records of the raw log in one pass over what a read brought, compiled.

A recorder finds where messages begin and end, copies them and computes their checksums. For 233 bytes that takes Python
0.8 us and this 0.3 us, and the objects that it does without are as much again: 330,000 to 530,000 messages a second on
one core instead of 250,000 to 360,000, measured in turns on a busy machine. It costs a second and 130 MB to load Numba,
and seven seconds where nothing is compiled yet; so only a recorder on the machine's own clock loads this.

Source: RFC 6455, 5.2 for the head of a frame; ``data.wal`` for records; RFC 1952, 8 for the checksum, here eight bytes
at a time with a table for each.
"""

import numpy as np
from numba import njit

from data.wal import HEADER_BYTES

HEAD_BYTES = 4  # of a plain message
SHORTEST = 126  # bytes: a shorter one has its length in the second byte, or is broken
PLAIN = b"\x81\x7e"  # a whole text, neither compressed nor masked, its length in the next two bytes
_KIND, _LENGTH_FOLLOWS = PLAIN
_POLYNOMIAL = 0xEDB88320


def _checksum_tables() -> np.ndarray:
    """By how many bytes follow it among the eight, and by the byte: what it does to the checksum."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        checksum = byte
        for _ in range(8):
            checksum = checksum >> 1 ^ _POLYNOMIAL * (checksum & 1)
        tables[0, byte] = checksum
    for following in range(1, 8):
        tables[following] = tables[following - 1] >> 8 ^ tables[0, tables[following - 1] & 0xFF]
    return tables


_TABLES = _checksum_tables()


def room_for_records(read_bytes: int) -> tuple[int, int]:
    """How many bytes the records of so many bytes may take at most, and how many messages they may be."""
    messages = read_bytes // (HEAD_BYTES + SHORTEST)
    return read_bytes + messages * (HEADER_BYTES - HEAD_BYTES), messages


@njit
def _checksum(content: np.ndarray, at: int, end: int) -> int:
    checksum = 0xFFFFFFFF
    while at + 8 <= end:
        for place in range(4):
            checksum ^= np.int64(content[at + place]) << 8 * place
        checksum = (
            np.int64(_TABLES[7, checksum & 0xFF])
            ^ _TABLES[6, checksum >> 8 & 0xFF]
            ^ _TABLES[5, checksum >> 16 & 0xFF]
            ^ _TABLES[4, checksum >> 24]
            ^ _TABLES[3, content[at + 4]]
            ^ _TABLES[2, content[at + 5]]
            ^ _TABLES[1, content[at + 6]]
            ^ _TABLES[0, content[at + 7]]
        )
        at += 8
    while at < end:
        checksum = checksum >> 8 ^ _TABLES[0, (checksum ^ content[at]) & 0xFF]
        at += 1
    return checksum ^ 0xFFFFFFFF


@njit
def _lay(records: np.ndarray, at: int, number: int, size: int) -> None:
    """Write a number in so many bytes, little endian."""
    for place in range(size):
        records[at + place] = number >> 8 * place & 0xFF


@njit("UniTuple(int64, 3)(uint8[::1], int64, int64, uint8[::1], int64[::1], int64, int64)", cache=True)
def cut_records(
    came: np.ndarray, at: int, end: int, records: np.ndarray, ends: np.ndarray, first_ns: int, connection: int
) -> tuple[int, int, int]:
    """Make a record of each plain message, up to the first frame that is another or not whole.

    Parameters
    ----------
    came : uint8. What came, from ``at`` to ``end``; a frame begins at ``at``.
    records : uint8. Gets the records, as ``data.wal.Log.write_all`` makes them of frames; see ``room_for_records``.
    ends : int64. Gets where each record ends; see there too.
    first_ns : when the first message came; each of the others came a nanosecond after the one before.

    Returns
    -------
    Where the first frame begins that was not taken, bytes of all records, and how many there are.
    """
    count = written = 0
    while at + HEAD_BYTES <= end and came[at] == _KIND and came[at + 1] == _LENGTH_FOLLOWS:
        length = np.int64(came[at + 2]) << 8 | came[at + 3]
        begin = at + HEAD_BYTES
        if length < SHORTEST or begin + length > end:
            break
        at = begin + length
        message = written + HEADER_BYTES
        _lay(records, written + 4, first_ns + count, 8)
        _lay(records, written + 12, length, 4)
        _lay(records, written + 16, connection, 4)  # and its kind, which is 0
        records[message : message + length] = came[begin:at]
        _lay(records, written, _checksum(records, written + 4, message + length), 4)
        written = message + length
        ends[count] = written
        count += 1
    return at, written, count
