"""Names F2 and F12 are rows of the fault matrix."""

from dataclasses import replace

import pytest

from live.order_answers import NotFound, Unanswered
from live.order_evidence import Unread
from live.order_questions import ORDER, TRADES, Surroundings, is_lost, is_watched, next_question, settled_ms
from live.order_state import Asked, CancelRefused, CancelSent, GivenUp, Status, all_heard, heard
from live.orders import Leg
from live.tests.exchange_words import fill, order, seen, standing

DOUBTED = order(Leg.ENTRY, Unanswered(reason="no answer", told_ms=3_000), sent_ms=1_000)
QUIET = Surroundings(asked_ms=13_000, has_unknown_trade=False, is_explained=True)


def test_a_doubtful_order_is_asked_for_more_and_more_rarely():
    due, doubted = [], DOUBTED
    for _ in range(8):
        due.append(next_question(doubted).due_ms - 3_000)
        doubted = heard(doubted, Asked(time_ms=due[-1] + 3_000))
    assert due == [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 24_000]


def test_an_order_without_any_answer_is_asked_for_after_five_seconds():
    assert next_question(order(Leg.ENTRY, sent_ms=1_000)) == (ORDER, DOUBTED.client_order_id, 6_250)


def test_nothing_is_asked_about_an_order_that_is_known():
    assert next_question(standing(Leg.STOP)) is None


def test_f37_a_refused_cancellation_is_followed_by_a_question():
    asked_back = heard(standing(Leg.STOP), CancelSent(time_ms=2_000))
    assert next_question(asked_back).due_ms == 2_000 + 5_000 + 250
    assert next_question(heard(asked_back, CancelRefused(asked_ms=2_000))).due_ms == 2_250


def test_f1_what_became_of_the_rest_is_asked_where_the_answer_is_lost_and_the_stream_told_of_a_part():
    """No stop stands before the entry is known to have ended, and its last event may be lost as well."""
    said = seen(Leg.ENTRY, "PARTIALLY_FILLED", filled="0.4")
    part = order(Leg.ENTRY, said, fill(said, quantity="0.4"), sent_ms=1_000)
    assert next_question(part) is None
    doubted = heard(part, Unanswered(reason="no answer", told_ms=3_000))
    assert next_question(doubted) == (ORDER, part.client_order_id, 3_250)
    assert next_question(heard(doubted, replace(said, status="EXPIRED"))) is None


def test_fills_that_the_stream_did_not_tell_are_asked_for():
    said = seen(Leg.ENTRY, "FILLED", filled="1")
    owing = order(Leg.ENTRY, said, sent_ms=1_000)
    assert next_question(owing) == (TRADES, owing.client_order_id, 1_250)
    assert next_question(heard(owing, fill(said))) is None


def test_f2_an_order_that_never_arrived_is_lost_when_it_could_not_arrive_any_more():
    assert settled_ms(DOUBTED, -300.0) == 1_000 + 10_000 + 300 + 2_000
    early = heard(DOUBTED, NotFound(asked_ms=12_999))
    late = heard(DOUBTED, NotFound(asked_ms=13_000))
    assert not is_lost(early, QUIET, 0.0)
    assert is_lost(late, QUIET, 0.0)
    assert not is_lost(late, QUIET, 500.0)
    lost = heard(late, GivenUp())
    assert lost.status is Status.LOST
    assert next_question(lost) is None
    assert is_watched(lost, 600_000)
    assert not is_watched(lost, 601_000)


@pytest.mark.parametrize(
    "around",
    [
        Unread(reason="HTTP 503"),
        replace(QUIET, asked_ms=12_999),
        replace(QUIET, has_unknown_trade=True),
        replace(QUIET, is_explained=False),
    ],
)
def test_an_order_is_not_lost_while_anything_hints_at_it(around):
    assert not is_lost(heard(DOUBTED, NotFound(asked_ms=14_000)), around, 0.0)


@pytest.mark.parametrize("hint", [{"has_unknown_trade": True}, {"is_explained": False}])
def test_a_position_that_somebody_moved_keeps_no_order_in_doubt_for_ever(hint):
    late = heard(DOUBTED, NotFound(asked_ms=23_000))
    assert not is_lost(late, replace(QUIET, asked_ms=22_999, **hint), 0.0)
    assert is_lost(late, replace(QUIET, asked_ms=23_000, **hint), 0.0)


def test_an_order_that_was_found_is_never_lost():
    found = all_heard(DOUBTED, [NotFound(asked_ms=14_000), seen(Leg.ENTRY)])
    assert not is_lost(found, QUIET, 0.0)
