"""The raw log: what was written is read back, whatever happened to the process."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import wal
from data.wal import Kind, Log, Record, read, segments

ROOT = Path(__file__).parents[2]
FRAMES = [b'{"e":"trade"}', b"", bytes(range(256)), b"x" * 100_000]

WRITER = """
import random, sys
from pathlib import Path
from data.wal import Kind, Log

chance = random.Random(int(sys.argv[2]))
log = Log(Path(sys.argv[1]))
number = 0
while True:
    for _ in range(chance.randrange(1, 9)):
        payload = b"%d " % number + chance.randbytes(chance.randrange(300))
        log.write(number, Kind.FRAME, number % 7, payload)
        number += 1
        print(number, flush=True)
    if chance.random() < 0.02:
        log.rotate()
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "wal"


def written(folder: Path, payloads=FRAMES) -> Path:
    """A finished segment with these payloads."""
    with Log(folder) as log:
        for number, payload in enumerate(payloads):
            log.write(1_000 + number, Kind.FRAME, number, payload)
    return segments(folder)[-1]


def test_frames_of_one_read_are_written_as_one_by_one(folder):
    frames = [(number, bytes([number % 256]) * number) for number in range(2_500)]  # the segment grows meanwhile
    with Log(folder) as log:
        log.write(5, Kind.NOTE, 0, b"{}")
        log.write_all(Kind.FRAME, 3, frames)
        log.write_all(Kind.FRAME, 4, [])
        log.write(6, Kind.NOTE, 0, b"{}")
    _, *found, last = read(segments(folder)[-1])
    assert found == [Record(recv_ns, Kind.FRAME, 3, payload) for recv_ns, payload in frames]
    assert last.recv_ns == 6


def test_what_is_written_is_read_back_byte_for_byte(folder):
    path = written(folder)
    assert list(read(path)) == [Record(1_000 + n, Kind.FRAME, n, payload) for n, payload in enumerate(FRAMES)]
    assert wal.cut_bytes(path) == 0
    assert path.stat().st_size == sum(wal.size(record) for record in read(path))


def test_what_is_written_is_in_the_file_at_once(folder):
    with Log(folder) as log:
        assert segments(folder) == []
        log.write(1, Kind.NOTE, 0, b"{}")
        assert [record.payload for record in read(segments(folder)[0])] == [b"{}"]
        assert (log.buffered_bytes, log.segment_bytes, log.unsynced_bytes) == (0, 22, 22)
        log.sync()
        assert log.unsynced_bytes == 0


def test_a_growing_segment_holds_what_was_written_and_nothing_else(folder):
    with Log(folder) as log:
        for number in range(30):
            log.write(number, Kind.FRAME, 0, b"x" * 100_000)
        (path,) = segments(folder)
        assert (len(list(read(path))), wal.cut_bytes(path)) == (30, 0)
        assert path.stat().st_size == log.segment_bytes == 30 * 100_020


def test_reading_can_go_on_where_it_stopped(folder):
    path = written(folder)
    first, *rest = read(path)
    assert list(read(path, offset=wal.size(first))) == rest
    assert list(read(path, offset=path.stat().st_size)) == []


def test_rotate_closes_a_segment_and_the_next_record_begins_another(folder):
    with Log(folder) as log:
        assert log.rotate() is None
        log.write(1, Kind.FRAME, 0, b"one")
        first = log.rotate()
        assert log.rotate() is None
        assert not wal.is_growing(first)
        log.write(2, Kind.FRAME, 0, b"two")
        log.flush()
        second = segments(folder)[1]
        assert wal.is_growing(second)
        log.sync()
        log.sync()
    assert not wal.is_growing(second)
    assert [[record.payload for record in read(path)] for path in segments(folder)] == [[b"one"], [b"two"]]


def test_names_sort_in_time_order_and_never_repeat_even_when_the_clock_goes_back(folder, monkeypatch):
    names = []
    for now_ns in (5_000, 9_000, 7_000, 9_000):
        monkeypatch.setattr(time, "time_ns", lambda now_ns=now_ns: now_ns)
        with Log(folder) as log:
            for payload in (b"a", b"b"):
                log.write(1, Kind.FRAME, 0, payload)
                names.append(log.rotate().name)
    assert names == sorted(set(names))
    assert [path.name for path in segments(folder)] == names


def test_a_second_log_is_refused_with_the_first_ones_process(folder):
    with Log(folder), pytest.raises(ValueError, match=f"process {os.getpid()} writes this log; wait for it"):
        Log(folder)
    Log(folder).close()


def test_closing_twice_does_nothing_the_second_time(folder):
    log = Log(folder)
    log.write(1, Kind.FRAME, 0, b"one")
    log.close()
    log.close()
    assert len(segments(folder)) == 1


def test_a_full_disk_loses_nothing_and_keeps_the_order(folder, mounted_disk):
    disk = mounted_disk("size=3m")
    filling = disk / "filling"
    filling.write_bytes(bytes(1_900_000))
    with Log(disk / "wal") as log:
        log.write(0, Kind.FRAME, 0, b"first" * 200_000)
        (path,) = segments(disk / "wal")
        log.write(1, Kind.FRAME, 0, b"second" * 50_000)  # fits in part
        log.write(2, Kind.FRAME, 0, b"small")  # must not overtake
        assert [record.recv_ns for record in read(path)] == [0]
        assert log.segment_bytes + log.buffered_bytes == 3 * wal.HEADER_BYTES + 1_300_005
        assert log.segment_bytes == path.stat().st_size > 1_000_020
        for refused in (log.flush, log.rotate):
            with pytest.raises(OSError, match="No space left"):
                refused()
        filling.unlink()
        log.write(3, Kind.FRAME, 0, b"third")
        log.flush()
        assert log.buffered_bytes == 0
    assert [record.recv_ns for record in read(path)] == [0, 1, 2, 3]


def test_what_still_waits_for_the_disk_is_lost_when_the_log_closes_and_says_so(folder, mounted_disk):
    disk = mounted_disk("size=64k")
    log = Log(disk / "wal")
    log.write(0, Kind.FRAME, 0, b"no room" * 10_000)
    with pytest.raises(OSError, match="No space left"):
        log.close()
    Log(disk / "wal").close()


def test_every_cut_of_a_segment_gives_the_records_before_it(folder):
    payloads = [b"a", b"", b"bcd"]
    path = written(folder, payloads)
    whole = path.read_bytes()
    ends = [0, 21, 41, 64]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends) - 1
        assert [record.payload for record in read(path)] == payloads[:complete]
        assert wal.cut_bytes(path) == len(whole[ends[complete] : length].rstrip(b"\0"))


def test_every_single_flipped_bit_ends_the_reading_before_it(folder):
    payloads = [b"one", b"two", b"three"]
    path = written(folder, payloads)
    whole = path.read_bytes()
    starts = [0, 23, 46, 71]
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        before = sum(start <= bit // 8 for start in starts) - 1
        assert [record.payload for record in read(path)] == payloads[:before]
        assert wal.cut_bytes(path) == len(whole) - starts[before]


def test_zeros_behind_the_last_record_are_nothing_that_was_cut(folder):
    path = written(folder, [b"one"])
    path.write_bytes(path.read_bytes() + bytes(3_000_000))
    assert ([record.payload for record in read(path)], wal.cut_bytes(path)) == ([b"one"], 0)


def test_a_record_whose_header_was_not_written_any_more_is_none(folder):
    path = written(folder, [b"one"])
    path.write_bytes(path.read_bytes() + bytes(wal.HEADER_BYTES) + b"torn" + bytes(100))
    assert [record.payload for record in read(path)] == [b"one"]
    assert wal.cut_bytes(path) == wal.HEADER_BYTES + len(b"torn")


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_nothing_written_is_lost_and_the_next_log_begins_a_segment_of_its_own(folder, seed):
    command = [sys.executable, "-c", WRITER, str(folder), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        told = [writer.stdout.readline()]  # it runs
        time.sleep(random.Random(seed).uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read().splitlines()
    claimed = int(told[-1])
    before = {path: path.read_bytes() for path in segments(folder)}
    records = [record for path in segments(folder) for record in read(path)]
    assert [record.recv_ns for record in records] == list(range(len(records)))
    assert len(records) >= claimed
    assert all(record.payload.startswith(b"%d " % record.recv_ns) for record in records)
    assert [wal.is_growing(path) for path in before] == [False] * len(before)
    with Log(folder) as log:
        log.write(7, Kind.FRAME, 0, b"after")
    assert [record.payload for record in read(segments(folder)[-1])] == [b"after"]
    assert segments(folder)[:-1] == list(before)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("seed", range(5))
def test_a_tail_torn_off_after_a_kill_is_counted_and_costs_only_the_last_record(folder, seed):
    chance = random.Random(seed)
    payloads = [chance.randbytes(chance.randrange(1, 300)) for _ in range(chance.randrange(1, 50))]
    path = written(folder, payloads)
    kept = chance.randrange(1, wal.HEADER_BYTES + len(payloads[-1]))
    whole = path.read_bytes()
    begin = len(whole) - wal.HEADER_BYTES - len(payloads[-1])
    path.write_bytes(whole[: begin + kept])
    assert [record.payload for record in read(path)] == payloads[:-1]
    assert wal.cut_bytes(path) == len(whole[begin : begin + kept].rstrip(b"\0"))


def test_an_answer_holds_its_body_untouched():
    payload = wal.answer("/fapi/v3/klines", {"symbol": "BTCUSDT", "limit": 2}, 1_700, b'[[1,  "2.50"]]')
    assert payload == (
        b'{"path": "/fapi/v3/klines", "params": {"symbol": "BTCUSDT", "limit": 2}, "since_ms": 1700, '
        b'"body": [[1,  "2.50"]]}'
    )
    assert b'"effective_ms": 5, "body": {}' in wal.answer("/x", {}, 1, b"{}", effective_ms=5)


def test_a_note_is_what_happened_and_its_particulars():
    assert wal.note("closed", reason="silence") == b'{"note": "closed", "reason": "silence"}'
