"""Names F1, F3, … are rows of the fault matrix."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.order_answers import NotFound, Refused, Unanswered
from live.order_state import Asked, CancelRefused, CancelSent, GivenUp, Order, Sent, Status, all_heard, heard
from live.orders import Leg
from live.tests.exchange_words import BTC, D, fill, name, order, seen

INTENT = Order(client_order_id=name(Leg.ENTRY), symbol=BTC, side=1, quantity=D(1))
TIMED_OUT = Unanswered(reason="no answer within 2 s", told_ms=3_000)
NEW = seen(Leg.ENTRY)
PART = seen(Leg.ENTRY, "PARTIALLY_FILLED", filled="0.4", told_ms=1_001)
FULL = seen(Leg.ENTRY, "FILLED", filled="1", told_ms=1_002)
FIRST, SECOND = fill(NEW, 1, "0.4"), fill(NEW, 2, "0.6", time_ms=1_002)


def test_f1_an_order_cut_off_before_its_answer_is_unknown_until_it_is_found():
    sent = all_heard(INTENT, [Sent(time_ms=1_000), TIMED_OUT])
    assert sent.status is Status.UNKNOWN
    found = heard(sent, seen(Leg.ENTRY, "FILLED", filled="1", asked_ms=3_250))
    assert found.status is Status.FILLED
    assert found.filled == 1
    assert found.owes_trades  # how much is known, at what price is not


def test_f3_an_order_that_answered_503_is_never_failed_and_fills_four_seconds_later():
    sent = all_heard(INTENT, [Sent(time_ms=1_000), Unanswered(reason="HTTP 503", told_ms=1_050)])
    late = all_heard(sent, [NotFound(asked_ms=1_300), NotFound(asked_ms=2_050), FULL, FIRST, SECOND])
    assert late.status is Status.FILLED
    assert late.average_price == 100


def test_f4_an_answer_that_comes_after_the_stream_changes_nothing():
    acknowledged = seen(Leg.ENTRY, "NEW", asked_ms=1_000)
    streamed = all_heard(INTENT, [Sent(time_ms=1_000), NEW, FULL, FIRST, SECOND])
    assert heard(streamed, acknowledged).status is Status.FILLED
    assert heard(streamed, acknowledged).filled == 1


def test_f5_an_event_that_comes_three_times_counts_once():
    assert all_heard(INTENT, [PART, FIRST] * 3) == all_heard(INTENT, [PART, FIRST])
    assert all_heard(INTENT, [PART, FIRST] * 3).filled == D("0.4")


def test_f6_every_order_of_events_ends_in_the_same_state():
    events = [Sent(time_ms=1_000), NEW, PART, FIRST, FULL, SECOND]
    ends = {all_heard(INTENT, each) for each in permutations(events)}
    assert len(ends) == 1
    assert ends.pop().status is Status.FILLED


@pytest.mark.parametrize("end", ["CANCELED", "EXPIRED"])
def test_f13_what_was_filled_before_the_end_stays_filled(end):
    ended = all_heard(INTENT, [PART, FIRST, seen(Leg.ENTRY, end, filled="0.4")])
    assert (ended.status, ended.filled, ended.owes_trades) == (Status(end), D("0.4"), False)
    assert heard(ended, PART).status is Status(end)


def test_f37_a_cancellation_that_was_refused_says_nothing_about_the_order():
    asked_back = all_heard(order(Leg.ENTRY, NEW), [CancelSent(time_ms=2_000), CancelRefused(asked_ms=2_000)])
    assert asked_back.status is Status.NEW
    assert asked_back.is_cancelling
    filled = heard(asked_back, seen(Leg.ENTRY, "FILLED", filled="1", asked_ms=2_300))
    assert filled.status is Status.FILLED


def test_an_order_found_open_after_its_cancellation_may_be_cancelled_again():
    asked_back = heard(order(Leg.ENTRY, NEW), CancelSent(time_ms=2_000))
    assert heard(asked_back, seen(Leg.ENTRY, asked_ms=1_900)).is_cancelling  # asked before it left
    assert not heard(asked_back, seen(Leg.ENTRY, asked_ms=2_600)).is_cancelling


def test_a_lost_order_that_turns_up_lives():
    lost = all_heard(INTENT, [Sent(time_ms=1_000), TIMED_OUT, GivenUp()])
    assert lost.status is Status.LOST
    assert heard(lost, SECOND).status is Status.PARTIALLY_FILLED


def test_what_the_exchange_holds_it_has_taken_whatever_an_answer_said():
    rejected = heard(INTENT, Refused(code=-4116, message="ClientOrderId is duplicated.", told_ms=1_100))
    assert rejected.status is Status.REJECTED
    assert heard(rejected, NEW).status is Status.NEW


def test_an_order_in_a_status_that_we_do_not_know_is_held_by_the_exchange():
    assert heard(INTENT, seen(Leg.ENTRY, "NEW_INSURANCE")).is_standing


def test_an_order_does_not_hear_what_is_said_of_another():
    with pytest.raises(ValueError, match="expected order"):
        heard(INTENT, seen(Leg.STOP))
    with pytest.raises(ValueError, match="expected a fill"):
        heard(INTENT, fill(seen(Leg.STOP)))


WORDS = [
    Sent(time_ms=1_000),
    Asked(time_ms=1_250),
    Asked(time_ms=1_500),
    TIMED_OUT,
    Unanswered(reason="no answer within 2 s", told_ms=2_900),
    NotFound(asked_ms=1_250),
    NotFound(asked_ms=1_500),
    CancelSent(time_ms=4_000),
    CancelRefused(asked_ms=4_000),
    GivenUp(),
    Refused(code=-2019, message="Margin is insufficient.", told_ms=1_100),
    NEW,
    seen(Leg.ENTRY, asked_ms=1_000),
    PART,
    FIRST,
    SECOND,
    seen(Leg.ENTRY, "CANCELED", filled="0.4", told_ms=1_003),
    FULL,
]


@given(data=st.data(), words=st.lists(st.sampled_from(WORDS), unique_by=id))
def test_order_and_repetition_of_evidence_do_not_matter(data, words):
    again = data.draw(st.permutations(words + data.draw(st.lists(st.sampled_from(words)) if words else st.just([]))))
    assert all_heard(INTENT, again) == all_heard(INTENT, words)


@given(words=st.lists(st.sampled_from(WORDS)))
def test_what_is_known_only_grows(words):
    order = INTENT
    for word in words:
        before, order = order, heard(order, word)
        ranks = list(Status)
        assert ranks.index(order.status) >= ranks.index(before.status)
        assert order.filled >= before.filled
        assert set(order.trades) >= set(before.trades)
