"""What a recorder tells whoever watches it: metrics, log lines, room on the disk."""

import asyncio
import json
import logging
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from data.clock import FollowedClock
from data.recorder_logs import LOG, logged, told_line
from data.recorder_metrics import metrics_text, serve_metrics
from data.recorder_status import SocketStatus, Status, read_status, read_statuses, write_status
from data.recorder_upkeep import Disk

SOCKET = SocketStatus(
    connection=1, venue="aster", shard=0, socket=1, age_s=60.0, messages=900, first=400, second=500, only=3,
    lag_ms=12.0, lag_p99_ms=250.0,
)  # fmt: skip
STATUS = Status(
    pid=os.getpid(), state="recording", venue="aster", lake="", symbols=("BTCUSDT",), started="", now="", seconds=60.0,
    connected=1, connections=2, reconnects=0, messages={"aggTrade": 900}, messages_per_second=15.0, last_message=None,
    lag_ms=None, sockets=(SOCKET,), unsealed_bytes=10, landed={"trades": 880}, already_present=0, conflicts=0,
    quarantined=0, cut_bytes=0, dropped=0, trouble=(),
)  # fmt: skip


def test_every_figure_has_its_meaning_its_kind_and_its_labels():
    text = metrics_text(STATUS)
    assert "# HELP aster_recorder_messages_total Frames received, per kind of stream.\n" in text
    assert "# TYPE aster_recorder_messages_total counter\n" in text
    assert 'aster_recorder_messages_total{kind="aggTrade"} 900\n' in text
    assert 'aster_recorder_socket_unique_total{venue="aster",shard="0",socket="1"} 3\n' in text
    assert 'aster_recorder_lag_seconds{venue="aster",shard="0",socket="1",quantile="0.99"} 0.25\n' in text
    assert "aster_recorder_up 1\n" in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert all(len(line.rsplit(" ", 1)) == 2 and float(line.rsplit(" ", 1)[1]) >= 0 for line in lines)


def test_what_is_not_known_is_left_out():
    text = metrics_text(STATUS)
    assert "disk_full_in_seconds" not in text
    assert "aster_recorder_disk_full_in_seconds 7200\n" in metrics_text(replace(STATUS, disk_full_in_s=7_200.0))


async def asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_", "begin", "end"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK", b"\r\n\r\nup 1\n"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", b"\r\n\r\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found", b"expected GET /metrics\n"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed", b"expected GET /metrics\n"),
        (b"\x16\x03\x01" + bytes(9_000), b"", b""),
    ],
)
def test_metrics_are_served_to_whoever_asks_on_this_machine(request_, begin, end):
    async def play() -> bytes:
        async with await serve_metrics(0, lambda: "up 1\n") as server:
            return await asked(server.sockets[0].getsockname()[1], request_)

    answer = asyncio.run(play())
    assert answer.startswith(begin)
    assert answer.endswith(end)


def test_each_recorder_of_a_lake_has_its_own_status(tmp_path):
    for number in (0, 2, 10):
        write_status(tmp_path, replace(STATUS, number=number, dropped=number))
    (tmp_path / "recorder-notes.json").write_text("{}")
    assert [status.dropped for status in read_statuses(tmp_path)] == [0, 2, 10]
    assert read_status(tmp_path) == STATUS


def test_a_recorder_whose_lock_is_free_was_killed_even_if_its_process_number_lives_again(tmp_path):
    write_status(tmp_path, STATUS)
    assert read_status(tmp_path).state == "recording"
    (tmp_path / "wal" / "0").mkdir(parents=True)
    (tmp_path / "wal" / "0" / "writer.lock").touch()
    assert read_status(tmp_path).state == "killed"


def test_a_log_line_is_one_object_with_its_time_and_what_was_told(tmp_path):
    clock = FollowedClock(1_767_614_400_123 * 10**6)
    with logged(tmp_path, 1, clock):
        LOG.warning("REST refuses", extra={"told": {"path": "/fapi/v1/openInterest", "gap_id": None}})
    (line,) = (tmp_path / "logs" / "recorder-2026-01-05.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "time": "2026-01-05T12:00:00.123Z", "level": "warning", "recorder": 1, "pid": os.getpid(),
        "what": "REST refuses", "path": "/fapi/v1/openInterest", "gap_id": None,
    }  # fmt: skip


def test_each_day_has_its_own_log_and_those_of_a_month_ago_go(tmp_path):
    start = datetime(2026, 1, 5, 12, tzinfo=UTC)
    clock = FollowedClock(int(start.timestamp()) * 10**9)
    with logged(tmp_path, 0, clock):
        for days in (0, 1, 31):
            clock.tell(int((start + timedelta(days=days)).timestamp()) * 10**9)
            LOG.info("opened")
    kept = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert kept == ["recorder-2026-01-06.jsonl", "recorder-2026-02-05.jsonl"]


def test_a_disk_that_takes_no_log_line_costs_nothing_but_the_line(tmp_path):
    (tmp_path / "logs").write_text("in the way")
    with logged(tmp_path, 0, FollowedClock()):
        LOG.info("opened")


def test_for_people_a_line_says_when_what_and_the_figures():
    record = logging.LogRecord("data.recorder", logging.INFO, "", 0, "closed", None, None)
    record.created, record.told = 1_767_614_400.0, {"connection": 1, "reason": "lost", "streams": ["left out"]}
    assert told_line(record) == "12:00:00 info closed connection=1 reason=lost"


def test_the_last_bytes_of_a_disk_belong_to_the_log(mounted_disk):
    disk = Disk(mounted_disk("size=10m"))
    assert disk.reserve_bytes == pytest.approx(10 * 2**20 * 0.02, rel=0.01)
    assert disk.room_bytes == disk.free_bytes - disk.reserve_bytes


def test_when_the_disk_will_be_full_follows_from_the_pace_so_far(tmp_path, monkeypatch):
    free, now = 1_000, 0.0
    monkeypatch.setattr(Disk, "free_bytes", property(lambda disk: free))
    monkeypatch.setattr("data.recorder_upkeep.time.monotonic", lambda: now)
    disk = Disk(tmp_path)
    assert disk.full_in_s() is None
    free, now = 900, 60.0
    assert disk.full_in_s() == 540.0
    free, now = 1_000, 120.0
    assert disk.full_in_s() is None
