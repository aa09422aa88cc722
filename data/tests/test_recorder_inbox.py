"""Where everything goes that a recorder receives: what the log then says."""

import json

import pytest

from data.benchmarks.sender import wire
from data.listening import Listening
from data.recorder_inbox import Inbox
from data.tests.test_framing import CONNECTION, cut
from data.venues.questions import Question
from data.wal import Kind, Log, connection_of, read, segments

TICKER = "btcusdt@bookTicker"
BINANCE = connection_of("binance", 0, 1)


def tick(number: int) -> bytes:
    data = f'{{"e":"bookTicker","u":{number},"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    return f'{{"stream":"{TICKER}","data":{data}}}'.encode()


def told(folder) -> list[tuple[int, int, dict]]:
    """(time, connection, note) of every note."""
    return [
        (record.recv_ns, record.connection, json.loads(record.payload))
        for path in segments(folder)
        for record in read(path)
        if record.kind is Kind.NOTE
    ]


def test_frames_are_in_the_log_when_the_burst_returns_and_counted(tmp_path):
    with Log(tmp_path) as log:
        inbox = Inbox(log)
        inbox.opened(1, 0, [TICKER], 1)
        inbox.opened(2, 1, [TICKER], 1)
        inbox.burst(0, [(3, tick(1)), (4, tick(2))])
        inbox.burst(1, [(5, tick(1))])
        (path,) = segments(tmp_path)
        frames = [(record.recv_ns, record.connection) for record in read(path) if record.kind is Kind.FRAME]
        assert frames == [(3, 0), (4, 0), (5, 1)]
        assert (inbox.total, inbox.last_ns, inbox.last_payload) == (3, 5, tick(1))
        assert inbox.frames == {TICKER: 3} and inbox.messages() == {"bookTicker": 3}
        assert [counts.second for counts in inbox.watch.sockets.values()] == [0, 1]


def test_the_notes_tell_each_life_of_a_connection(tmp_path):
    with Log(tmp_path) as log:
        inbox = Inbox(log)
        assert not inbox.is_listening.is_set()
        inbox.closed(1, 0, "no connection: refused", 1, 0)
        inbox.opened(2, 0, [TICKER], 2)
        inbox.opened(5, 0, [TICKER], 3)
        inbox.closed(6, 0, "rotated", 2, 4)
        assert (inbox.connected, inbox.connections, inbox.rotations, inbox.reconnects) == (1, 1, 1, 0)
        inbox.closed(7, 0, "lost without a word", 3, 6)
        assert inbox.connected == 0
        inbox.opened(8, 0, [TICKER], 4)
        assert (inbox.rotations, inbox.reconnects) == (1, 1)
        assert inbox.is_listening.is_set()
    assert told(tmp_path) == [
        (1, 0, {"note": "closed", "reason": "no connection: refused", "life": 1, "heard_ns": 0}),
        (2, 0, {"note": "opened", "streams": [TICKER], "life": 2}),
        (5, 0, {"note": "opened", "streams": [TICKER], "life": 3}),
        (6, 0, {"note": "closed", "reason": "rotated", "life": 2, "heard_ns": 4}),
        (7, 0, {"note": "closed", "reason": "lost without a word", "life": 3, "heard_ns": 6}),
        (8, 0, {"note": "opened", "streams": [TICKER], "life": 4}),
    ]


def test_a_checkpoint_tells_who_listens_and_when_it_was_heard_last(tmp_path):
    with Log(tmp_path) as log:
        inbox = Inbox(log)
        inbox.opened(1, 0, [TICKER], 1)
        inbox.opened(2, BINANCE, [TICKER], 4)
        inbox.burst(0, [(7, tick(1))])
        log.rotate()
        inbox.checkpoint(9)
    assert told(tmp_path)[-1] == (
        9, 0, {"note": "listening", "open": [[0, 1, [TICKER], 7], [BINANCE, 4, [TICKER], 2]]},
    )  # fmt: skip


def test_records_made_already_are_logged_kept_and_watched_as_messages_are(tmp_path, monkeypatch):
    came = b"".join(wire(tick(10**20 + number)) for number in range(3))
    _, arrived = cut(came)
    logged = []
    for name, frames in (("records", arrived), ("messages", list(arrived))):
        with Log(tmp_path / name) as log:
            inbox = Inbox(log)
            inbox.burst(CONNECTION, frames)
            inbox.refused(OSError(28, "No space left on device"))
            with monkeypatch.context() as full:
                full.setattr("data.wal.os.write", _refuse)
                inbox.burst(CONNECTION, frames)
                assert inbox.disk_trouble and log.buffered_bytes == len(arrived.records)
            inbox.burst(CONNECTION, frames)
            assert inbox.disk_trouble is None and inbox.messages() == {"bookTicker": 9}
            assert (inbox.last_ns, inbox.last_payload) == arrived[-1]
        (segment,) = segments(tmp_path / name)
        logged.append(segment.read_bytes())
    assert logged == 2 * [3 * arrived.records]


def test_what_is_dropped_is_told_venue_by_venue(tmp_path, monkeypatch):
    monkeypatch.setattr("data.recorder_inbox.MEMORY_BYTES", -1)
    with Log(tmp_path) as log:
        inbox = Inbox(log)
        inbox.burst(0, [(1, tick(1))])
        inbox.refused(OSError(28, "No space left on device"))
        monkeypatch.setattr(log, "flush", _refuse)
        inbox.burst(0, [(2, tick(2)), (3, tick(3))])
        inbox.burst(BINANCE, [(4, tick(2))])
        assert inbox.disk_trouble and inbox.dropped == 3
        monkeypatch.undo()
        inbox.burst()
        assert inbox.disk_trouble is None
        assert inbox.messages() == {"bookTicker": 1}
    span = {"cause": "disk", "from_ns": 1, "to_ns": 4}
    assert told(tmp_path) == [
        (4, connection_of("aster"), {"note": "dropped", "streams": {TICKER: 2}} | span),
        (4, connection_of("binance"), {"note": "dropped", "streams": {TICKER: 1}} | span),
    ]


def _refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("is_another", [False, True])  # a process of its own follows the second segment
def test_a_stream_that_is_dead_on_one_socket_whatever_is_done_is_lost_with_the_other_socket(tmp_path, is_another):
    a_second = 10**9
    with Log(tmp_path) as log:
        inbox = Inbox(log)
        for connection in (0, 1):
            inbox.opened(a_second, connection, [TICKER], 1)
        for second in range(2, 150):
            now_ns = second * a_second
            if second == 40:  # the connection is replaced, and the stream is dead on the next one too
                inbox.opened(now_ns, 0, [TICKER], 2)
                inbox.closed(now_ns + 1, 0, "dead on it", 1, now_ns)
            if second == 80:
                log.rotate()
                inbox.checkpoint(now_ns)
            if second == 100:
                inbox.closed(now_ns, 1, "lost without a word", 1, now_ns)
            if second == 120:
                inbox.opened(now_ns, 1, [TICKER], 2)
            if second <= 10:
                inbox.burst(0, [(now_ns + 2, tick(second))])
            if not 100 <= second <= 120:
                inbox.burst(1, [(now_ns + 3, tick(second))])
            inbox.silent(now_ns + 4, (0, 1))
    heard = Listening()
    for path in segments(tmp_path):
        if is_another:
            heard = Listening({(each.venue, each.stream): each for each in heard.listened()})
        list(heard.follow(read(path)))
    assert [(hole.from_ns, hole.to_ns) for hole in heard.holes()] == [(100 * a_second, 120 * a_second)]


def test_answers_are_logged_under_their_venue_with_their_gap(tmp_path):
    question = Question(path="/fapi/v3/aggTrades", params={"symbol": "BTCUSDT"}, venue="binance", gap_id="abc")
    with Log(tmp_path) as log:
        Inbox(log).answers([(5, question, 4, b"[]")])
    (path,) = segments(tmp_path)
    (record,) = read(path)
    assert (record.kind, record.connection) == (Kind.ANSWER, connection_of("binance"))
    said = json.loads(record.payload)
    assert (said["gap_id"], said["since_ms"], said["body"]) == ("abc", 4, [])
