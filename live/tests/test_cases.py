from dataclasses import replace
from decimal import Decimal

from live.brokers.cases import Case, Cases
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
