"""Names F13, F14, … are rows of the fault matrix."""

import math
from dataclasses import replace

import pytest

from live.exchange_orders import Place
from live.order_answers import NotFound, Unanswered
from live.order_state import CancelSent, GivenUp, all_heard, heard
from live.orders import Leg
from live.protection import Amounts, AskPosition, Cancel, Finding, Phase, Step, next_steps, with_orders
from live.tests.exchange_words import (
    CONTRACT,
    LEVELS,
    D,
    filled,
    held,
    name,
    order,
    position,
    refused,
    seen,
    standing,
)

NOW_MS = 10_000
FLAT = Amounts(streamed=position("0", told_ms=1_000, asked_ms=None), asked=position("0"))
TIMED_OUT = Unanswered(reason="no answer", told_ms=3_000)


def steps(trade, *, mark: float = 100.0, now_ms: int = NOW_MS) -> list[Step]:
    return next_steps(trade, CONTRACT, mark, now_ms)


def said(trade, **told) -> list[str]:
    """The steps, a word or two each."""
    return [_word(step) for step in steps(trade, **told)]


def _word(step: Step) -> str:
    match step:
        case Place():
            return f"place {step.client_order_id[17:]}"
        case Cancel():
            return f"cancel {step.client_order_id[17:]}"
        case AskPosition():
            return "ask position"
        case Finding():
            return step.kind


def test_a_filled_entry_needs_its_stop_and_nothing_else_before_it_stands():
    assert said(held()) == ["place S0"]
    assert said(held(order(Leg.STOP))) == []


def test_the_target_follows_the_stop_and_the_trailing_order_follows_the_target():
    assert said(held(standing(Leg.STOP))) == ["place T0"]
    assert said(held(standing(Leg.STOP), order(Leg.TARGET))) == []
    assert said(held(standing(Leg.STOP), standing(Leg.TARGET))) == ["place R0"]
    whole = held(standing(Leg.STOP), standing(Leg.TARGET), standing(Leg.TRAILING))
    assert said(whole) == []
    assert whole.phase is Phase.GUARDED


def test_what_is_not_planned_is_not_placed():
    plan = LEVELS._replace(target=math.nan)
    assert said(held(standing(Leg.STOP), levels=plan)) == ["place R0"]
    assert said(held(standing(Leg.STOP), levels=plan._replace(activation=math.nan))) == []


def test_steps_that_were_taken_are_not_asked_for_again():
    trade = held()
    for _ in range(3):
        [step] = steps(trade)
        evidence = seen(step.leg, quantity=str(step.quantity or 0))
        taken = order(step.leg, evidence, quantity=None if step.quantity is None else str(step.quantity))
        trade = replace(trade, orders=with_orders(trade, [taken]))
    assert steps(trade) == []


@pytest.mark.parametrize("code", [-2021, -4142])
def test_f15_a_stop_that_would_trigger_at_once_closes_at_the_market(code):
    assert said(held(refused(Leg.STOP, code))) == ["place X0", "closing"]


def test_f15_a_stop_refused_for_another_reason_is_tried_once_more_and_then_closed():
    assert said(held(refused(Leg.STOP, -4045))) == ["place S1"]
    assert said(held(refused(Leg.STOP, -4045), refused(Leg.STOP, -4045, attempt=1))) == ["place X0", "closing"]


def test_f17_a_price_beyond_the_stop_before_it_stands_closes_at_the_market():
    assert said(held(), mark=95.0) == ["place X0", "closing"]
    assert said(held(), mark=95.5) == ["place S0"]


@pytest.mark.parametrize("leg", [Leg.TARGET, Leg.TRAILING])
def test_f16_a_target_or_trailing_order_that_is_refused_leaves_the_stop(leg):
    others = [standing(each) for each in (Leg.STOP, Leg.TARGET) if each is not leg]
    assert "exit_refused" in said(held(*others, refused(leg, -1111)))
    assert not any(word.startswith(("cancel", "place X")) for word in said(held(*others, refused(leg, -1111))))


def test_a_target_that_was_reached_before_it_stood_closes():
    assert said(held(standing(Leg.STOP), refused(Leg.TARGET, -2021))) == ["place X0", "closing"]


def test_a_trailing_order_whose_activation_was_passed_follows_from_now_on():
    known = [standing(Leg.STOP), standing(Leg.TARGET), refused(Leg.TRAILING, -2021)]
    [again] = steps(held(*known))
    assert again.client_order_id == name(Leg.TRAILING, 1)
    assert "activationPrice" not in dict(again.parameters)
    assert said(held(*known, refused(Leg.TRAILING, -2021, attempt=1))) == ["exit_refused"]


def test_a_stop_of_unknown_fate_is_repeated_only_after_the_exchange_did_not_know_it():
    doubted = order(Leg.STOP, TIMED_OUT)
    assert said(held(doubted)) == []
    assert said(held(heard(doubted, NotFound(asked_ms=1_900)))) == []  # it may be on its way
    assert said(held(heard(doubted, NotFound(asked_ms=2_000)))) == ["place S1"]
    assert said(held(heard(doubted, GivenUp()))) == ["place S1"]


def test_an_entry_of_unknown_fate_is_never_repeated():
    entry = all_heard(order(Leg.ENTRY), [TIMED_OUT, NotFound(asked_ms=20_000), GivenUp()])
    trade = replace(held(), orders={entry.client_order_id: entry})
    assert steps(trade) == []


def test_f13_a_stop_covers_a_part_as_it_covers_the_whole():
    [stop] = steps(held(quantity="0.4"))
    assert stop.quantity is None
    assert dict(stop.parameters)["closePosition"] == "true"


RESTING = order(Leg.ENTRY, seen(Leg.ENTRY, "PARTIALLY_FILLED", filled="0.4"), sent_ms=1_000)  # 0.4 of 1


def resting(*orders, entry=RESTING, **told):
    """A trade whose entry rests for 30 s, part of it filled."""
    trade = replace(held(*orders), entry_lifetime_ms=30_000, **told)
    return replace(trade, orders=with_orders(trade, [entry]))


def test_f13_an_entry_that_rests_has_its_stop_from_the_first_part_on():
    assert said(resting()) == ["place S0"]
    whole = resting(standing(Leg.STOP), standing(Leg.TARGET), standing(Leg.TRAILING, quantity="0.2"))
    assert said(whole) == []  # the trailing order grows once
    assert whole.may_grow and whole.phase is Phase.GUARDED


def test_an_entry_that_rests_is_taken_back_when_its_life_is_over():
    entry = order(Leg.ENTRY, seen(Leg.ENTRY), sent_ms=1_000)
    trade = replace(resting(entry=entry), levels=None)
    assert trade.phase is Phase.ENTERING and trade.entry_ends_ms == 31_000
    assert said(trade, now_ms=30_999) == []
    assert said(trade, now_ms=31_000) == ["cancel E0"]
    asked = replace(trade, orders=with_orders(trade, [heard(entry, CancelSent(time_ms=31_000))]))
    assert said(asked, now_ms=31_000) == []


@pytest.mark.parametrize(
    "trade",
    [
        resting(standing(Leg.STOP), is_withdrawn=True),
        resting(standing(Leg.STOP), close_because="operator"),
        resting(order(Leg.STOP, seen(Leg.STOP, "PARTIALLY_FILLED", filled="0.1"))),
        resting(filled(Leg.STOP, "0.4")),  # nothing is held: what came now would open it again
        resting(order(Leg.STOP, TIMED_OUT)),
        resting(refused(Leg.STOP, -2021)),
    ],
)
def test_i3_no_more_of_an_entry_is_wanted_once_the_trade_is_being_closed_or_in_doubt(trade):
    assert said(trade)[0] == "cancel E0"


def test_an_entry_of_unknown_fate_is_taken_back_when_it_is_found():
    doubted = all_heard(order(Leg.ENTRY, sent_ms=1_000), [TIMED_OUT])
    trade = resting(entry=doubted)
    assert said(trade, now_ms=40_000) == []
    found = replace(trade, orders=with_orders(trade, [heard(doubted, seen(Leg.ENTRY))]))
    assert said(found, now_ms=40_000) == ["cancel E0"]


def test_a_trailing_order_of_another_size_is_replaced_the_new_one_first():
    small = standing(Leg.TRAILING, quantity="0.4")
    known = [standing(Leg.STOP), standing(Leg.TARGET), small]
    assert said(held(*known)) == ["place R1"]
    larger = standing(Leg.TRAILING, attempt=1)
    assert said(held(*known, larger)) == ["cancel R0"]
    asked_back = heard(small, CancelSent(time_ms=2_000))
    assert said(held(*known[:2], asked_back, larger)) == []


def test_an_exit_at_work_is_left_alone():
    half = order(Leg.STOP, seen(Leg.STOP, "PARTIALLY_FILLED", filled="0.4"))
    assert steps(held(half)) == []


def test_an_exit_that_left_a_part_is_followed_by_a_close():
    assert said(held(filled(Leg.STOP, "0.4"))) == ["place X0", "closing"]


def test_f14_a_close_that_filled_a_part_is_followed_by_another_and_the_stop_stays():
    closing = held(standing(Leg.STOP), filled(Leg.CLOSE, "0.4"))
    assert closing.phase is Phase.CLOSING
    assert closing.quantity == D("0.6")
    [again] = steps(closing)
    assert (again.client_order_id, again.quantity) == (name(Leg.CLOSE, 1), D("0.6"))
    assert said(closing, now_ms=1_500) == []  # not more than one a second


def test_a_close_that_is_refused_is_tried_on_and_a_human_is_called():
    assert said(held(refused(Leg.CLOSE, -1001))) == ["place F0", "close_refused"]
    assert said(held(refused(Leg.CLOSE, -1001), refused(Leg.FLATTEN, -1001))) == ["place F1", "close_refused"]


def test_nothing_to_close_is_not_believed_but_asked():
    assert said(held(refused(Leg.CLOSE, -2022))) == ["ask position"]


def test_a_rest_below_the_smallest_order_is_told_and_not_tried():
    assert said(held(filled(Leg.CLOSE, "0.9995"))) == ["dust"]


def test_a_position_is_closed_because_somebody_says_so():
    assert said(held(standing(Leg.STOP), close_because="operator")) == ["place X0"]


@pytest.mark.parametrize(
    "amounts",
    [
        Amounts(),
        replace(FLAT, streamed=None),
        replace(FLAT, asked=None),
        replace(FLAT, asked=position("1")),
        replace(FLAT, asked=position("0", told_ms=999)),  # flat, but before our last fill
    ],
)
def test_f7_leftovers_stay_until_stream_and_rest_both_say_zero(amounts):
    trade = held(filled(Leg.TARGET), standing(Leg.STOP), amounts=amounts)
    assert said(trade) == ["ask position"]
    assert trade.phase is Phase.EMPTYING


def test_leftovers_are_taken_back_when_the_exchange_says_zero():
    trade = held(filled(Leg.TARGET), standing(Leg.STOP), standing(Leg.TRAILING), amounts=FLAT)
    assert said(trade) == ["cancel S0", "cancel R0"]
    ended = [order(leg, seen(leg, "CANCELED")) for leg in (Leg.STOP, Leg.TRAILING)]
    assert replace(trade, orders=with_orders(trade, ended)).phase is Phase.OVER


def test_an_older_word_does_not_replace_a_newer_one():
    newer = Amounts().heard(position("0", told_ms=2_000, asked_ms=None)).heard(position("0", asked_ms=2_000))
    assert newer.heard(position("1", told_ms=1_999, asked_ms=None)) == newer
    assert newer.heard(position("1", asked_ms=1_999)) == newer


def test_a_stop_refused_because_one_stands_waits_for_the_one_in_doubt():
    doubted = all_heard(order(Leg.STOP), [TIMED_OUT, NotFound(asked_ms=2_000)])
    assert said(held(doubted, refused(Leg.STOP, -4130, attempt=1))) == []


def test_a_close_goes_on_when_the_exchange_was_asked_and_still_holds_something():
    still = Amounts(asked=position("1", asked_ms=1_001))
    assert said(held(refused(Leg.CLOSE, -2022), amounts=still)) == ["place F0", "close_refused"]


def test_a_position_whose_plan_has_not_come_yet_is_told():
    assert said(held(levels=None)) == ["no_plan"]


def test_more_sold_than_held_calls_a_human():
    assert said(held(filled(Leg.STOP, "1.5"))) == ["ask position", "oversold"]
