from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from unittest.mock import Mock

from data.clock import FollowedClock
from live.brokers.account_reader import Income
from live.brokers.cases import Case, Cases
from live.brokers.payments import Payments
from live.order_evidence import PositionSeen
from live.order_state import GivenUp
from live.orders import EntryMissed, Leg, RowKey
from live.tests.exchange_words import BTC, CONTRACT, fill, filled, held, name, order, position, seen


def test_a_trade_that_is_done_and_still_listened_for_does_not_hear_of_its_successor_s_position():
    lost = order(Leg.STOP, GivenUp())
    done = Case(trade=held(lost, filled(Leg.TRAILING)), contract=CONTRACT, is_entry_told=True, is_exit_told=True)
    done.trade = replace(done.trade, amounts=done.trade.amounts.heard(position("0", asked_ms=None)))
    done.trade = replace(done.trade, amounts=done.trade.amounts.heard(position("0")))
    after = Case(trade=replace(held(), trade_id="successor"), contract=CONTRACT, is_entry_told=True)
    cases = Cases()
    for case in (done, after):
        cases.add(case)
    assert cases.open() == [after] and not done.is_forgotten(2_000)
    cases.hear([position("1", told_ms=2_000, asked_ms=None), position("1", told_ms=2_000, asked_ms=2_000)], 2_000)
    assert cases.open() == [after] and after.trade.amounts.streamed.amount == 1
    late = seen(Leg.STOP, "FILLED", filled="1")
    cases.hear([late, fill(late)], 3_000)  # it was not lost after all
    assert cases.open() == [done, after] and done.trade.orders[name(Leg.STOP)].filled == 1


def test_an_entry_that_rested_in_vain_tells_the_row_and_one_that_never_stood_does_not():
    row = RowKey("1m", 60_000)
    for status, told in (("CANCELED", row), ("EXPIRED", None)):
        entering = replace(held(order(Leg.ENTRY, seen(Leg.ENTRY, status))), entry_lifetime_ms=30_000)
        case = Case(trade=entering, contract=CONTRACT)
        assert case.entry_report(row, 40_000) == EntryMissed(
            time_ms=40_000, client_order_id=name(Leg.ENTRY), row=told
        )  # fmt: skip
        assert case.trade.is_withdrawn and case.is_done
        late = seen(Leg.ENTRY, "FILLED", filled="1")
        case.trade = replace(case.trade, orders={late.client_order_id: order(Leg.ENTRY, late, fill(late))})
        assert case.is_revived()


def test_asking_for_a_position_again_and_again_does_not_keep_the_audit_away():
    cases = Cases()
    streamed = PositionSeen(symbol=BTC, position_side="BOTH", amount=Decimal(0), entry_price=Decimal(0), told_ms=1_000)
    cases.hear([streamed], 1_000)
    cases.hear([replace(streamed, asked_ms=9_000)], 9_000)
    assert cases.heard_ms == {BTC: 1_000}


def test_a_deleveraging_of_a_trade_before_is_told_again_and_closes_nothing():
    """The audit lists orders of the last two minutes: a restarted runner entered anew within them."""
    before = seen(Leg.CLOSE, "FILLED", filled="1", client_order_id="adl_autoclose-7", order_id=7, told_ms=900)
    cases = Cases()
    case = Case(trade=held(), contract=CONTRACT, is_entry_told=True)  # entered at 1 000
    cases.add(case)
    assert not cases.hear([before], 2_000) and case.trade.quantity == 1
    own = replace(before, client_order_id="adl_autoclose-8", order_id=8, told_ms=1_500)
    assert cases.hear([own, before], 2_000) == [own] and case.trade.quantity == 0


def test_an_entry_that_rests_was_not_deleveraged_before():
    before = seen(Leg.CLOSE, "FILLED", filled="1", client_order_id="adl_autoclose-7", order_id=7, told_ms=1_000)
    resting = replace(held(), orders={name(Leg.ENTRY): order(Leg.ENTRY, seen(Leg.ENTRY))})
    resting = replace(resting, amounts=resting.amounts.heard(position("0", told_ms=1_000)))
    assert not resting.may_be_closed_by(before)


def test_a_trade_can_be_deleveraged_more_than_once():
    cases = Cases()
    case = Case(trade=held(), contract=CONTRACT, is_entry_told=True)
    cases.add(case)
    for number, part in ((7, "0.25"), (8, "0.5")):
        forced = seen(Leg.CLOSE, "FILLED", filled=part, client_order_id=f"adl_autoclose-{number}", order_id=number)
        at = fill(forced, number, part)
        assert cases.hear([forced, replace(at, client_order_id=None)], 2_000) == [forced]  # REST tells no name
    assert case.trade.quantity == Decimal("0.25")
    assert not any(each.owes_trades for each in case.trade.orders.values())


def test_a_position_taken_over_is_closed_by_what_came_after_it():
    cases = Cases()
    adopted = replace(held(), orders={}, adjustment=Decimal(1))
    adopted = replace(adopted, amounts=adopted.amounts.heard(position("1", told_ms=1_000)))
    case = Case(trade=adopted, contract=CONTRACT, is_entry_told=True)
    cases.add(case)
    forced = seen(Leg.CLOSE, "FILLED", filled="1", client_order_id="autoclose-1", told_ms=999)
    assert not cases.hear([forced], 2_000)
    later = replace(forced, told_ms=1_001)
    assert cases.hear([later], 2_000) == [later] and case.trade.quantity == 0


def test_a_commission_in_another_asset_is_not_taken_for_usdt():
    """The account may pay its fees in a token of the exchange's: then the rate says what it costs."""
    entry, stop = seen(Leg.ENTRY, "FILLED", filled="1"), seen(Leg.STOP, "FILLED", filled="1", told_ms=2_000)
    token = {"commission": Decimal("0.02"), "commission_asset": "ASTER"}
    paid = order(Leg.ENTRY, entry, replace(fill(entry), **token))
    left = order(Leg.STOP, stop, replace(fill(stop, 2, price="90", time_ms=2_000), is_maker=True, **token))
    case = Case(trade=replace(held(left), orders={}), contract=CONTRACT, fees_bps=(4.0, 1.0))
    for each in (paid, left):
        case.keep(each)
    case.trade = replace(case.trade, amounts=case.trade.amounts.heard(position("0", told_ms=2_000, asked_ms=None)))
    case.trade = replace(case.trade, amounts=case.trade.amounts.heard(position("0", told_ms=2_000)))
    assert case.entry_report(None, 3_000).fee_usdt == 0.04  # of 100 USDT
    closed = case.exit_report(RowKey("1m", 60_000), 3_000)
    assert closed.fee_usdt == 0.009 and case.net_usdt(closed) == -10.049


def test_a_gain_that_funding_took_is_a_loss():
    case, cases = Case(trade=held(), contract=CONTRACT, is_entry_told=True), Cases()
    cases.add(case)
    seats = {BTC: SimpleNamespace(config_hash="", key=("", BTC), row=RowKey("1m", 0))}
    payments = Payments(Mock(), cases, Mock(), seats, FollowedClock(), known=(), since_ms=0)
    payments._paid(Income(symbol=BTC, amount_usdt=-5.0, time_ms=2_000, transaction_id="1"))
    target = seen(Leg.TARGET, "FILLED", filled="1")
    closing = order(Leg.TARGET, target, fill(target, 9, price="103"))
    case.keep(closing)
    flat = (position("0", told_ms=3_000, asked_ms=None), position("0", told_ms=3_000))
    cases.hear(flat, 3_000)
    assert case.net_usdt(case.exit_report(RowKey("1m", 0), 3_000)) == 3.0 - 5.0
