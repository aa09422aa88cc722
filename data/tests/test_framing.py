"""The records that compiled code makes of a read are those that the log makes of its messages."""

import subprocess
import sys
from random import Random

import numpy as np
import pytest

from data.benchmarks.sender import wire
from data.framing import cut_records, room_for_records
from data.sink import Arrived
from data.wal import Kind, Log, Record, connection_of, read, segments

FIRST_NS = 1_790_000_000_123_456_789
CONNECTION = connection_of("hyperliquid", 2_047, 1)
MESSAGE = b"m" * 126


def cut(came: bytes, at: int = 0) -> tuple[int, Arrived]:
    """Where the first frame begins that was not taken, and what was."""
    size, messages = room_for_records(len(came))
    records, ends = np.zeros(size, np.uint8), np.zeros(messages, np.int64)
    line = np.frombuffer(came, np.uint8).copy()
    at, written, count = cut_records(line, at, len(came), records, ends, FIRST_NS, CONNECTION)
    return at, Arrived(records[:written].tobytes(), FIRST_NS, ends[:count].tolist())


def test_records_are_byte_for_byte_those_of_the_log(tmp_path):
    random = Random(1)
    payloads = [random.randbytes(length) for length in (*range(126, 160), 65_535)]
    payloads += [random.randbytes(random.randint(126, 700)) for _ in range(500)]
    frames = list(enumerate(payloads, FIRST_NS))
    came = b"?" + b"".join(map(wire, payloads))
    at, arrived = cut(came, 1)
    assert at == len(came)
    with Log(tmp_path) as log:
        log.write_all(Kind.FRAME, CONNECTION, frames)
        (segment,) = segments(tmp_path)
        assert arrived.records == segment.read_bytes()
        log.write_records(arrived.records)
        assert list(read(segment)) == 2 * [Record(stamp, Kind.FRAME, CONNECTION, payload) for stamp, payload in frames]
    assert list(arrived) == frames
    assert [arrived[0], arrived[7], arrived[-1]] == [frames[0], frames[7], frames[-1]]
    assert (len(arrived), arrived.last_ns) == (len(frames), frames[-1][0])


OTHERS = {
    "nothing": b"",
    "a head that is not whole": wire(MESSAGE)[:3],
    "a message that is not whole": wire(MESSAGE)[:-1],
    "a short message": wire(b"hello") + bytes(200),
    "a length in two bytes that needs only one": b"\x81\x7e\x00\x7d" + bytes(200),
    "a length in eight bytes": b"\x81\x7f" + bytes(200),
    "a masked message": b"\x81\xfe" + wire(MESSAGE)[2:],
    "a compressed message": b"\xc1" + wire(MESSAGE)[1:],
    "a binary message": b"\x82" + wire(MESSAGE)[1:],
    "the beginning of a message in parts": b"\x01" + wire(MESSAGE)[1:],
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_no_whole_plain_message_is_left_where_it_is_and_so_is_all_behind_it(other):
    came = 2 * wire(MESSAGE)
    at, arrived = cut(came + other)
    assert at == len(came)
    assert list(arrived) == [(FIRST_NS, MESSAGE), (FIRST_NS + 1, MESSAGE)]
    at, arrived = cut(other)
    assert (at, list(arrived), arrived.records) == (0, [], b"")


LOADED = """
import sys, data.lake, data.recorder, data.tail
from data.clock import RealClock
from data.sockets import Asked, Connection

given = {"clock": RealClock(), "sink": None, "headers": None, "asked": Asked()}
for ways in ({"follows": True}, {"follows": False, "is_prompt": True}, {"follows": False}):
    Connection(0, 1, ("btcusdt@aggTrade",), **given, **ways)
    print("numba" in sys.modules)
"""


def test_the_compiler_is_loaded_only_where_many_messages_may_come_in_one_read():
    told = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False", "True"]
