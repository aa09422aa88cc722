"""Names F7, F12b, … are rows of the fault matrix."""

from dataclasses import replace

import pytest

from live.order_answers import Unanswered
from live.order_evidence import Unread
from live.orders import Leg
from live.protection import Cancel, Finding, next_steps
from live.reconcile import (
    Adjust,
    Adopt,
    AskOrder,
    BookExit,
    ExchangeView,
    Refuse,
    Resume,
    Setup,
    StopRunning,
    audited,
    reconcile,
)
from live.tests.exchange_words import BTC, CONTRACT, TRADE, D, fill, filled, held, name, order, position, seen, standing

SETUP = Setup(
    instance="one", leverages={BTC: 10}, is_hedge=False, is_isolated=True, emergency_stop_bps=200.0, began_ms=5_000
)  # fmt: skip
EMPTY = ExchangeView(positions=(), orders=(), fills=(), is_hedge=False, is_multi_assets=False)
ENTRY = seen(Leg.ENTRY, "FILLED", filled="1")
STOP = seen(Leg.STOP, quantity="0", close_position=True)


def view(amount: str | None, *orders, fills=(), **told) -> ExchangeView:
    positions = () if amount is None else (position(amount),)
    return replace(EMPTY, positions=positions, orders=orders, fills=tuple(fills), **told)


def kinds(found) -> list[str]:
    return [type(step).__name__ for step in found.steps]


def test_a_position_with_its_stop_goes_on():
    trade = held(standing(Leg.STOP, quantity=None))
    found = reconcile(SETUP, [trade], view("1", ENTRY, STOP))
    assert kinds(found) == ["Resume"]
    assert found.is_green


def test_f12_k3_a_position_without_its_stop_gets_it_at_the_price_of_the_journal():
    [resume] = reconcile(SETUP, [held()], view("1", ENTRY)).steps
    [stop] = next_steps(resume.trade, CONTRACT, 100.0, 9_000)
    assert dict(stop.parameters)["stopPrice"] == "95"


def test_f12_k4_a_stop_that_was_sent_and_not_acknowledged_is_found_and_not_sent_again():
    trade = held(order(Leg.STOP, Unanswered(reason="restart", told_ms=4_000), quantity=None))
    [resume] = reconcile(SETUP, [trade], view("1", ENTRY, STOP)).steps
    assert resume.trade.orders[name(Leg.STOP)].is_standing


def test_f12_k0_an_intent_that_may_have_left_is_asked_for():
    trade = held(order(Leg.STOP, quantity=None))
    found = reconcile(SETUP, [trade], view("1", ENTRY))
    ask, resume = found.steps
    assert ask == AskOrder(client_order_id=name(Leg.STOP), symbol=BTC)
    assert isinstance(resume, Resume)  # what is held is looked after meanwhile
    assert not found.is_green


def test_what_an_order_in_doubt_may_explain_is_not_adjusted():
    entering = replace(held(), orders={name(Leg.ENTRY): order(Leg.ENTRY)})
    assert kinds(reconcile(SETUP, [entering], view("1"))) == ["AskOrder"]


def test_f24_a_position_of_ours_that_the_journal_lost_is_adopted_with_an_emergency_stop():
    [adopt] = reconcile(SETUP, [], view("1", ENTRY, fills=[replace(fill(ENTRY), client_order_id=None)])).steps
    assert isinstance(adopt, Adopt)
    assert not adopt.is_foreign
    assert (adopt.trade.trade_id, adopt.trade.quantity, adopt.trade.adjustment) == (TRADE, 1, 0)
    [stop] = next_steps(adopt.trade, CONTRACT, 100.0, 9_000)
    assert dict(stop.parameters)["stopPrice"] == "98"  # 200 bps under the entry


def test_f24_an_adopted_position_keeps_the_stop_that_stands():
    [adopt] = reconcile(SETUP, [], view("1", ENTRY, STOP)).steps
    assert next_steps(adopt.trade, CONTRACT, 100.0, 9_000) == []


def test_a_position_by_hand_is_not_ours_because_a_trade_of_ours_on_that_side_is_over():
    stopped = seen(Leg.STOP, "FILLED", filled="1", told_ms=2_000)
    [refuse] = reconcile(SETUP, [], view("1", ENTRY, stopped)).steps
    assert isinstance(refuse, Refuse)
    again = seen(Leg.ENTRY, "FILLED", filled="1", client_order_id=name(Leg.ENTRY, trade="zyxwvutsrq"), order_id=200)
    [adopt] = reconcile(SETUP, [], view("1", ENTRY, stopped, again)).steps
    assert (adopt.trade.trade_id, adopt.trade.adjustment) == ("zyxwvutsrq", 0)


def test_a_foreign_position_is_refused_unless_the_operator_adopts_it():
    [refuse] = reconcile(SETUP, [], view("-2")).steps
    assert (refuse.symbol, type(refuse)) == (BTC, Refuse)
    [adopt] = reconcile(replace(SETUP, adopting=frozenset({BTC})), [], view("-2")).steps
    assert adopt.is_foreign
    assert (adopt.trade.side, adopt.trade.quantity) == (-1, 2)
    assert adopt.trade.levels.stop == pytest.approx(102.0)


def test_a_foreign_position_of_a_symbol_that_we_do_not_trade_is_left_alone():
    elsewhere = replace(EMPTY, positions=(position("3", symbol="ETHUSDT"),))
    [finding] = reconcile(SETUP, [], elsewhere).steps
    assert isinstance(finding, Finding)


def test_f7_an_exit_that_nobody_heard_is_booked_and_what_is_left_is_taken_back():
    target = seen(Leg.TARGET, "FILLED", filled="1", told_ms=2_000)
    at = fill(target, 7, "1", price="110", time_ms=2_000)
    found = reconcile(
        SETUP, [held(standing(Leg.STOP), standing(Leg.TARGET))], view("0", ENTRY, STOP, target, fills=[at])
    )
    booked, cancel = found.steps
    assert booked.trade.orders[name(Leg.TARGET)].average_price == 110
    assert cancel == Cancel(client_order_id=name(Leg.STOP), symbol=BTC)


def test_f30_a_liquidation_that_nobody_heard_is_booked():
    forced = seen(Leg.CLOSE, "FILLED", filled="1", client_order_id="autoclose-1", told_ms=2_000)
    [booked] = reconcile(SETUP, [held()], view("0", ENTRY, forced, fills=[fill(forced, 7, price="90")])).steps
    assert isinstance(booked, BookExit)
    assert booked.trade.orders["autoclose-1"].leg is Leg.LIQUIDATION


@pytest.mark.parametrize(("amount", "by"), [("0", "-1"), ("0.6", "-0.4"), ("1.5", "0.5")])
def test_f25_what_an_operator_did_by_hand_is_taken_as_the_exchange_has_it(amount, by):
    trade = held(standing(Leg.STOP, quantity=None))
    adjust, finding, *_ = reconcile(SETUP, [trade], view(amount, ENTRY, STOP)).steps
    assert (adjust.by, adjust.trade.quantity) == (D(by), D(amount))
    assert finding.kind == "mismatch"
    [again, *_] = reconcile(SETUP, [trade], view(amount, ENTRY, STOP)).steps
    assert again.adjustment_id == adjust.adjustment_id


def test_a_position_against_our_trade_is_not_ours():
    refuse, adjust, _ = reconcile(SETUP, [held()], view("-1", ENTRY)).steps
    assert isinstance(refuse, Refuse)
    assert adjust.trade.quantity == 0


def test_a_resting_entry_is_taken_back_and_exits_of_nothing_too():
    orders = (seen(Leg.ENTRY), STOP, seen(Leg.TARGET))
    found = reconcile(SETUP, [], view("0", *orders))
    assert [step.client_order_id for step in found.steps] == [name(leg) for leg in (Leg.ENTRY, Leg.STOP, Leg.TARGET)]


def test_what_is_left_of_a_symbol_that_is_not_traded_any_more_is_told_and_not_taken_back():
    """Its cancellation is no request that may leave: the run would end at every start."""
    left = seen(Leg.TARGET, symbol="ETHUSDT")
    [finding] = reconcile(SETUP, [], replace(view(None, left), positions=(position("0", symbol="ETHUSDT"),))).steps
    assert isinstance(finding, Finding) and name(Leg.TARGET) in finding.detail


def test_an_entry_that_may_still_fill_is_not_over():
    entering = replace(held(), orders={name(Leg.ENTRY): standing(Leg.ENTRY)})
    assert kinds(reconcile(SETUP, [entering], view("0", seen(Leg.ENTRY)))) == ["Resume", "Cancel"]


def test_an_entry_that_rests_may_go_on_until_no_more_of_it_is_wanted():
    resting = replace(held(), orders={name(Leg.ENTRY): standing(Leg.ENTRY)}, entry_lifetime_ms=30_000)
    assert kinds(reconcile(SETUP, [resting], view("0", seen(Leg.ENTRY)))) == ["Resume"]
    withdrawn = replace(resting, is_withdrawn=True)
    assert kinds(reconcile(SETUP, [withdrawn], view("0", seen(Leg.ENTRY)))) == ["Resume", "Cancel"]


def test_f25_orders_of_others_are_never_touched():
    foreign = seen(Leg.STOP, client_order_id="web_22542179")
    other_runner = seen(Leg.STOP, client_order_id=name(Leg.STOP, instance="two"), told_ms=4_999)
    assert reconcile(SETUP, [], view("0", foreign, other_runner)).steps == ()


def test_f26_orders_of_another_runner_that_are_newer_than_we_stop_us():
    other = seen(Leg.ENTRY, client_order_id=name(Leg.ENTRY, instance="two"), told_ms=5_000)
    found = reconcile(SETUP, [], view("0", other))
    assert [type(step) for step in found.steps] == [StopRunning]
    assert not found.is_green


@pytest.mark.parametrize("part", ["positions", "orders", "fills", "is_hedge", "is_multi_assets"])
def test_f22_from_what_could_not_be_read_nothing_follows(part):
    unread = replace(view("0", STOP), **{part: Unread(reason="HTTP 503")})
    found = reconcile(SETUP, [held()], unread)
    assert (found.steps, found.waits_for, found.is_green) == ((), (f"{part}: HTTP 503",), False)


def test_f22_a_symbol_that_an_empty_list_does_not_mention_is_not_flat():
    found = reconcile(SETUP, [held(standing(Leg.STOP))], view(None, STOP))
    assert [type(step) for step in found.steps] == [Refuse]


@pytest.mark.parametrize(
    ("told", "words"), [({"is_hedge": True}, "expected one-way mode"), ({"is_multi_assets": True}, "isolated margin")]
)
def test_f27_a_mode_that_is_not_ours_refuses_everything(told, words):
    found = reconcile(SETUP, [], view("0", **told))
    [refuse] = found.steps
    assert refuse.symbol is None
    assert words in refuse.reason
    assert not found.is_green


def test_f27_a_position_with_another_leverage_is_refused():
    other = replace(view("1", ENTRY, STOP), positions=(position("1", leverage=20),))
    refuse, resume = reconcile(SETUP, [held(standing(Leg.STOP))], other).steps
    assert "expected leverage 10" in refuse.reason
    assert isinstance(resume, Resume)  # what is held stays protected


def test_f12b_reconciling_twice_is_reconciling_once():
    exchange = view("1.5", ENTRY, STOP)
    first = reconcile(SETUP, [held()], exchange)
    adjusted = next(step.trade for step in first.steps if isinstance(step, Adjust))
    second = reconcile(SETUP, [adjusted], exchange)
    assert kinds(second) == ["Resume"]
    assert second.steps[0].trade == adjusted


def test_an_audit_acts_on_what_two_in_a_row_found_where_it_was_quiet():
    later = replace(view("1.5", ENTRY, STOP), orders=(ENTRY, replace(STOP, asked_ms=60_000)))
    first, second = (reconcile(SETUP, [held()], each) for each in (view("1.5", ENTRY, STOP), later))
    assert audited(first, None, {}, 60_000) == ()
    assert [type(step) for step in audited(second, first, {}, 60_000)] == [Adjust, Finding]
    assert audited(second, first, {BTC: 55_001}, 60_000) == ()


def test_hedge_mode_keeps_long_and_short_apart():
    hedged = replace(SETUP, is_hedge=True)
    sides = (position("1", position_side="LONG"), position("-2", position_side="SHORT"))
    entry = replace(ENTRY, position_side="LONG")
    exchange = replace(view(None, entry), positions=sides, is_hedge=True)
    assert kinds(reconcile(hedged, [held()], exchange)) == ["Resume", "Refuse"]


def test_two_trades_on_one_side_of_a_symbol_are_refused():
    with pytest.raises(ValueError, match="expected one open trade per symbol and side"):
        reconcile(SETUP, [held(), replace(held(), trade_id="zyxwvutsrq")], view("2"))


def test_a_trade_that_ended_by_our_own_close_is_over():
    close = seen(Leg.CLOSE, "FILLED", filled="1")
    [booked] = reconcile(SETUP, [held(filled(Leg.CLOSE))], view("0", ENTRY, close)).steps
    assert isinstance(booked, BookExit)
