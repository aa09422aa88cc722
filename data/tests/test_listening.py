"""Who listened when: the fold over a recorder's notes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.listening import Hole, Listening, Span, between, without
from data.manifest import Listened
from data.wal import Kind, Record, connection_of, note

QUOTES, DEPTH, MARKS = "btcusdt@bookTicker", "btcusdt@depth5@100ms", "btcusdt@markPrice@1s"
FIRST, SECOND = connection_of("aster", 0, 0), connection_of("aster", 0, 1)
BINANCE = connection_of("binance", 0, 0)
FRAME = b'{"stream":"btcusdt@bookTicker","data":{}}'


def told(second: float, what: str, connection: int = FIRST, **more: object) -> Record:
    return Record(ns(second), Kind.NOTE, connection, note(what, **more))


def ns(second: float) -> int:
    return round(second * 1e9)


def started(second: float) -> Record:
    return told(second, "started", pid=1, streams={"aster": [QUOTES]})


def opened(second: float, connection: int = FIRST, life: int = 1, streams: tuple[str, ...] = (QUOTES,)) -> Record:
    return told(second, "opened", connection, streams=list(streams), life=life)


def closed(
    second: float, connection: int = FIRST, life: int = 1, reason: str = "lost", heard: float | None = None
) -> Record:
    heard_ns = ns(second if heard is None else heard)
    return told(second, "closed", connection, reason=reason, life=life, heard_ns=heard_ns)


def frame(second: float, connection: int = FIRST) -> Record:
    return Record(ns(second), Kind.FRAME, connection, FRAME)


def listening(*records: Record, before: list[Listened] | None = None) -> Listening:
    listening = Listening({(each.venue, each.stream): each for each in before or []})
    assert list(listening.follow(records)) == list(records)
    return listening


def holes(*records: Record, before: list[Listened] | None = None) -> list[tuple[float, float, str]]:
    """(from, to, cause) of the holes in quotes, in seconds."""
    found = [hole for hole in listening(*records, before=before).holes() if hole.stream == QUOTES]
    return [(hole.from_ns / 1e9, hole.to_ns / 1e9, hole.cause) for hole in found]


def until(second: float, why: str, since: float | None = None) -> Listened:
    since_ns = None if since is None else ns(since)
    return Listened(venue="aster", stream=QUOTES, until_ns=ns(second), why=why, since_ns=since_ns)


# --- one process -----------------------------------------------------------------------------------------------------


def test_a_pair_of_sockets_loses_nothing_when_one_of_them_reconnects():
    assert holes(started(0), opened(1), opened(2, SECOND), closed(10), opened(12, life=2), frame(20)) == []


def test_what_lies_between_the_last_socket_and_the_next_one_is_lost():
    found = holes(started(0), opened(1), opened(2, SECOND), closed(10), closed(11, SECOND), opened(15, life=2))
    assert found == [(11, 15, "reconnect")]


def test_a_hole_that_is_still_open_is_not_told_yet():
    assert holes(started(0), opened(1), closed(10), frame(30)) == []


def test_a_half_open_socket_heard_nothing_since_its_last_frame():
    records = (started(0), opened(1), opened(1, SECOND), closed(12, SECOND, heard=9), opened(14, SECOND, life=2))
    late = closed(22, heard=11, reason="silent for 10 s")
    assert holes(*records, late) == [(11, 14, "silence")]


def test_a_connection_that_was_only_pinged_brought_nothing_since_its_last_frame():
    both = {"streams": (QUOTES, MARKS)}
    quiet = (started(0), opened(1, **both), opened(1, SECOND, **both), frame(9), frame(10, SECOND))
    ended = (closed(30, heard=29, reason="silent for 10 s"), closed(31, SECOND, heard=31, reason="dead on it"))
    assert holes(*quiet, *ended, opened(33, life=2, **both)) == [(10, 33, "silence")]
    renewed = (opened(25, life=2, **both), frame(26), closed(30, heard=30), closed(31, SECOND, heard=31))
    assert holes(*quiet, *renewed, frame(40)) == [(10, 25, "reconnect")]
    assert holes(*quiet, frame(28), frame(28, SECOND), *ended, opened(33, life=2, **both)) == [(31, 33, "silence")]


def test_rotation_opens_the_new_connection_first_and_loses_nothing():
    assert holes(started(0), opened(1), opened(100, life=2), closed(106, reason="rotated"), frame(120)) == []


def test_an_attempt_that_never_came_to_be_ends_nothing():
    never = told(5, "closed", SECOND, reason="no connection in time", life=1, heard_ns=0)
    assert holes(started(0), opened(1), never, frame(20)) == []


def test_frames_that_a_full_disk_did_not_take_are_lost_on_their_streams_alone():
    dropped = told(30, "dropped", cause="disk", streams={QUOTES: 7}, from_ns=ns(20), to_ns=ns(29))
    both = opened(1, streams=(QUOTES, DEPTH))
    found = listening(started(0), both, dropped, frame(40)).holes()
    assert found == [Hole("aster", QUOTES, ns(20), ns(29), "disk")]


def test_dropped_frames_of_another_venue_are_none_of_ours():
    dropped = told(30, "dropped", BINANCE, cause="disk", streams={QUOTES: 7}, from_ns=ns(20), to_ns=ns(29))
    assert holes(started(0), opened(1), dropped, frame(40)) == []


def test_a_stream_that_is_silent_on_one_socket_is_heard_on_the_other():
    silent = told(30, "stream_silent", stream=QUOTES, from_ns=ns(20))
    back = told(50, "stream_back", stream=QUOTES, from_ns=ns(20))
    assert holes(started(0), opened(1), opened(1, SECOND), silent, back, frame(60)) == []
    assert holes(started(0), opened(1), silent, back, frame(60)) == [(20, 50, "silence")]


# --- from process to process -----------------------------------------------------------------------------------------


def test_a_process_that_died_listened_until_its_last_frame():
    died = listening(started(0), opened(1), frame(7))
    assert died.listened() == [until(7, "open", since=1)]
    assert holes(started(20), opened(22), before=died.listened()) == [(7, 22, "crash")]
    assert holes(started(0), opened(1), frame(7), started(20), opened(22)) == [(7, 22, "crash")]


def test_a_process_whose_first_segment_ends_before_it_is_connected_tells_of_the_crash_before_it():
    died = listening(started(0), opened(1), frame(7)).listened()
    waited = listening(started(20), closed(30, reason="no connection in time"), before=died).listened()
    assert waited == [until(7, "crash", since=1)]
    checked = told(80, "listening", open=[])
    assert holes(checked, opened(90), before=waited) == [(7, 90, "crash")]
    assert listening(told(20, "started", streams={"aster": [DEPTH]}), before=died).listened() == []


def test_a_process_that_was_stopped_said_so():
    records = (started(0), opened(1), frame(7), closed(8, reason="stopped"), told(9, "stopped"))
    assert listening(*records).listened() == [until(8, "stopped", since=1)]
    assert holes(started(20), opened(22), before=[until(8, "stopped")]) == [(8, 22, "stopped")]


def test_the_first_recording_of_a_stream_has_no_hole_before_it():
    assert holes(started(0), opened(5), frame(6)) == []
    assert listening(started(0), opened(5)).began_ns(("aster", QUOTES)) == ns(5)
    assert listening(started(9), opened(9), before=[until(8, "stopped")]).began_ns(("aster", QUOTES)) == 0


def test_when_listening_began_is_handed_on_until_it_is_known_what_the_first_row_follows():
    key = ("aster", QUOTES)
    killed = listening(started(0), opened(5), frame(6)).listened()
    more = listening(started(20), opened(22), frame(23), before=killed)
    assert (more.began_ns(key), more.listened()) == (ns(5), [until(23, "open", since=5)])
    more.join(key)
    assert more.listened() == [until(23, "open")]
    first = told(30, "first", venue="aster", stream=QUOTES, first=None)
    assert listening(first, told(31, "first", venue="aster")).firsts == {key: None}


def test_the_next_segment_goes_on_where_the_last_one_ended():
    check = told(60, "listening", open=[[FIRST, 1, [QUOTES], ns(60)]])
    assert holes(check, frame(61), before=[until(59, "open")]) == []
    assert holes(check, closed(70), opened(72, life=2), before=[until(59, "open")]) == [(70, 72, "reconnect")]


def test_an_unreadable_end_of_a_segment_is_a_crash_when_the_process_died_of_it_and_else_damage():
    cut = listening(started(0), opened(1), frame(7))
    cut.cut()
    assert cut.listened() == [until(7, "cut", since=1)]
    assert holes(started(20), opened(22), before=cut.listened()) == [(7, 22, "crash")]
    goes_on = told(60, "listening", open=[[FIRST, 1, [QUOTES], ns(60)]])
    assert holes(goes_on, frame(61), before=cut.listened()) == [(7, 60, "corrupt")]


def test_records_that_do_not_tell_who_listened_show_no_holes():
    assert holes(closed(5), opened(9, life=2), frame(10), before=[until(3, "open")]) == []


def test_what_is_no_note_is_passed_over():
    nonsense = [Record(5, Kind.NOTE, 0, payload) for payload in (b"{", b"[]", b'{"note":"opened"}', b"null")]
    assert holes(started(0), opened(1), *nonsense, frame(9)) == []


def test_holes_are_forgotten_after_an_hour_and_the_stream_is_not():
    listener = listening(started(0), opened(1), closed(10), opened(12, life=2), frame(4_000))
    assert [(hole.from_ns, hole.to_ns) for hole in listener.holes()] == [(ns(10), ns(12))]
    check = told(4_001, "listening", open=[[FIRST, 2, [QUOTES], ns(4_000)]])
    assert list(listener.follow([check])) == [check]
    assert listener.holes() == []
    list(listener.follow([closed(4_100, life=2), opened(4_102, life=3)]))
    assert [(hole.from_ns, hole.to_ns) for hole in listener.holes()] == [(ns(4_100), ns(4_102))]


def test_a_runner_that_goes_on_after_a_kill_says_so_too():
    assert holes(started(0), opened(1), frame(10), told(20, "resumed"), opened(21), frame(30)) == [(10, 21, "crash")]


def test_a_slice_of_many_hours_tells_all_its_holes():
    cuts = [(closed(4_000 * n, life=n), opened(4_000 * n + 2, life=n + 1)) for n in range(1, 5)]
    records = [started(0), opened(1), *(record for cut in cuts for record in cut)]
    assert holes(*records) == [(4_000 * n, 4_000 * n + 2, "reconnect") for n in range(1, 5)]


def test_a_refused_question_is_kept_with_its_gap():
    refused = told(5, "refused", path="/fapi/v3/aggTrades", params={}, reason="code -1121", gap_id="trades|X|1|2")
    assert listening(refused, told(6, "refused", path="/x", reason="y")).refused == {"trades|X|1|2": "code -1121"}


# --- interval algebra ------------------------------------------------------------------------------------------------

spans = st.lists(
    st.builds(lambda begin, length, cause: Span(begin, begin + length, cause),
              st.integers(0, 40), st.integers(0, 12), st.sampled_from("ab")), max_size=8
)  # fmt: skip


def halves(pieces: list[Span]) -> set[int]:
    """The unit steps [n, n + 1] inside some span."""
    return {step for piece in pieces for step in range(piece.from_ns, piece.to_ns)}


@settings(max_examples=200, deadline=None)
@given(spans)
def test_what_lies_between_spans_is_all_that_none_of_them_covers(given_spans):
    found = between(given_spans)
    assert all(hole.from_ns < hole.to_ns for hole in found)
    if given_spans:
        reach = range(min(span.from_ns for span in given_spans), max(span.to_ns for span in given_spans))
        assert halves(found) == set(reach) - halves(given_spans)
    assert all(any(span.to_ns == hole.from_ns and span.cause == hole.cause for span in given_spans) for hole in found)
    assert found == between(reversed(given_spans))


@settings(max_examples=200, deadline=None)
@given(spans, spans)
def test_what_is_left_without_the_lost_is_exactly_the_rest(given_spans, lost):
    assert halves(without(given_spans, lost)) == halves(given_spans) - halves(lost)


EVENTS = st.lists(st.tuples(st.sampled_from([FIRST, SECOND]), st.integers(1, 3), st.integers(0, 2)), max_size=25)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_holes_are_the_seconds_in_which_no_socket_was_open(events):
    """Sockets go up and down; second by second somebody is there or it is a hole, once somebody was."""
    records, up, lives, second = [started(0)], set(), {FIRST: 0, SECOND: 0}, 0
    covered = []
    for connection, wait, _ in events:
        covered += [(step, bool(up)) for step in range(second, second + wait)]
        second += wait
        if connection in up:
            up.discard(connection)
            records.append(closed(second, connection, lives[connection]))
        else:
            up.add(connection)
            lives[connection] += 1
            records.append(opened(second, connection, lives[connection]))
    found = {step for begin, end, _ in holes(*records) for step in range(round(begin), round(end))}
    if not up:  # the last hole has no end yet
        while covered and not covered[-1][1]:
            covered.pop()
        last = max((step for step, is_up in covered if is_up), default=-1)
        covered = [each for each in covered if each[0] <= last]
    first = next((step for step, is_up in covered if is_up), second)
    assert found == {step for step, is_up in covered if not is_up and step > first}


@pytest.mark.parametrize("key", ["from_ns", "streams"])
def test_a_note_with_a_missing_field_changes_nothing(key):
    whole = json.loads(told(30, "dropped", streams={QUOTES: 7}, from_ns=ns(20), to_ns=ns(29)).payload)
    whole.pop(key)
    assert holes(started(0), opened(1), Record(ns(30), Kind.NOTE, FIRST, json.dumps(whole).encode()), frame(40)) == []
