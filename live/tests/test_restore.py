"""The name F12 is a row of the fault matrix."""

import math
from dataclasses import replace

from live.exchange_orders import Place
from live.order_answers import NotFound
from live.order_state import Status, all_heard
from live.orders import Leg
from live.protection import next_steps, with_orders
from live.restore import Event, open_trades, remembered
from live.tests.exchange_words import BTC, CONTRACT, TRADE, D, fill, name, seen

NOW_MS = 20_000


def event(kind: str, leg: Leg | None, attempt: int = 0, ts_ms: int = 1_000, **body) -> Event:
    client_id = None if leg is None else name(leg, attempt)
    told = {} if leg is None else {"leg": leg.value}
    return Event(ts_ms, kind, BTC, TRADE, client_id, {**told, **body})


ENTRY = event("intent", Leg.ENTRY, side=1, quantity=1.0, limit_ticks=2)
STOP = event("intent", Leg.STOP, side=-1, quantity=1.0, stop_price=95.0)
TRAILING = event("intent", Leg.TRAILING, side=-1, quantity=1.0, activation_price=105.0, callback_bps=20.0)


def test_f12_every_order_that_was_intended_is_in_doubt_after_a_restart():
    [trade] = open_trades([ENTRY, STOP], NOW_MS)
    assert (trade.trade_id, trade.side, trade.instance) == (TRADE, 1, "one")
    assert {order.status for order in trade.orders.values()} == {Status.UNKNOWN}
    assert trade.orders[name(Leg.ENTRY)].quantity == 1


def test_the_plan_is_read_back():
    [trade] = open_trades([ENTRY, STOP, TRAILING], NOW_MS)
    stop, target, activation, callback_bps, *_ = trade.levels
    assert (stop, activation, callback_bps) == (95.0, 105.0, 20.0)
    assert math.isnan(target)
    assert open_trades([ENTRY], NOW_MS)[0].levels is None


def test_f12_a_stop_that_was_intended_and_never_sent_goes_out_as_soon_as_the_exchange_does_not_know_it():
    [trade] = open_trades([ENTRY, STOP], NOW_MS)
    filled = seen(Leg.ENTRY, "FILLED", filled="1")
    entry = all_heard(trade.orders[name(Leg.ENTRY)], [filled, fill(filled)])
    stop = all_heard(trade.orders[name(Leg.STOP)], [NotFound(asked_ms=NOW_MS)])
    trade = replace(trade, orders=with_orders(trade, [entry, stop]))
    [step] = next_steps(trade, CONTRACT, 100.0, NOW_MS)
    assert isinstance(step, Place)
    assert step.client_order_id == name(Leg.STOP, 1)


def test_trades_that_ended_are_not_open():
    ended = event("fill", Leg.STOP, side=-1, price=95.0, quantity=1.0)
    assert open_trades([ENTRY, STOP, ended], NOW_MS) == []
    assert open_trades([ENTRY, event("missed", Leg.ENTRY)], NOW_MS) == []
    assert len(open_trades([ENTRY, event("fill", Leg.ENTRY, side=1)], NOW_MS)) == 1


def test_what_reconciliation_found_is_found_again():
    [trade] = open_trades([ENTRY, event("adjusted", None, by="-0.4")], NOW_MS)
    assert trade.adjustment == D("-0.4")


def test_f12_k8_what_was_to_be_closed_is_closed_for_the_same_reason_after_a_restart():
    told = event("flatten", None, reason="margin 10 USDT over 9 maintenance")
    [trade] = open_trades([ENTRY, STOP, told], NOW_MS)
    assert trade.is_closing and trade.close_because == "margin 10 USDT over 9 maintenance"
    asked = event("intent", Leg.CLOSE, side=-1, quantity=1.0, type="MARKET", reason="operator")
    [trade] = open_trades([ENTRY, STOP, asked], NOW_MS)
    assert trade.close_because == "operator"


def test_a_restart_remembers_what_was_done():
    told = [
        event("order", Leg.ENTRY, ts_ms=1_100, status=Status.SENT),
        event("order", Leg.ENTRY, ts_ms=1_200, status=Status.FILLED),
        event("execution", Leg.ENTRY, ts_ms=1_210, execution_id=7),
        event("funding", None, paid_usdt=0.25),
        event("funding", None, paid_usdt=-0.05),
        event("income", None, transaction_id="9"),
        event("risk", None, ts_ms=1_300, state={"level": "ACTIVE"}),
        event("risk", None, ts_ms=1_400, state={"level": "HALTED"}),
        event("deaf", None, ts_ms=1_350),
    ]
    known = remembered([ENTRY, STOP, *told], NOW_MS)
    assert known.intended == {name(Leg.ENTRY), name(Leg.STOP)}
    assert known.executed == {(BTC, 7)}
    assert known.entries_sent == ((BTC, 1_100),)
    assert known.risk == {"level": "HALTED"}
    assert [trade.trade_id for trade in known.trades] == [TRADE]
    assert math.isclose(known.funding_usdt[TRADE], 0.2)
    assert known.transactions == {"9"}
    assert known.opened_ms == known.paid_since_ms == 1_000
    assert known.told_until_ms == 1_401


def test_what_was_adopted_may_be_older_than_the_journal_until_it_is_closed():
    adopted, closed = event("adopted", None, ts_ms=3_000), event("closed", None, ts_ms=9_000)
    fill = event("execution", Leg.ENTRY, ts_ms=1_210, execution_id=7)
    known = remembered([ENTRY, fill, adopted], NOW_MS)
    assert (known.trades, known.taken_over, known.opened_ms) == ((), {TRADE: BTC}, 0)
    known = remembered([ENTRY, fill, adopted, closed], NOW_MS)
    assert (known.trades, known.taken_over, known.opened_ms) == ((), {}, NOW_MS)


def test_a_journal_that_begins_knows_of_nothing_and_what_the_account_was_opened_with_is_no_transfer():
    known = remembered([], NOW_MS)
    assert known.trades == () and known.risk is None
    assert known.opened_ms == 0  # there may be a position of before
    assert known.paid_since_ms == NOW_MS
    assert known.told_until_ms == NOW_MS + 1
