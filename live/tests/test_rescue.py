"""What is done in a silent runner's place, on accounts that can be checked by eye."""

from dataclasses import replace
from decimal import Decimal

import pytest

from live.order_evidence import OrderSeen, PositionSeen
from live.orders import Leg
from live.protection import Cancel, Finding
from live.rescue import Plan, Rescue
from live.tests.exchange_words import CONTRACT, TRADE

BTC = CONTRACT.symbol
RESCUE = Rescue(instance="one", symbols=(BTC,), emergency_stop_bps=100.0)
PLANS = {BTC: Plan(trade_id=TRADE, stop_price=98.5)}


def position(amount: str, symbol: str = BTC) -> PositionSeen:
    return PositionSeen(
        symbol=symbol, position_side="BOTH", amount=Decimal(amount), entry_price=Decimal(100), told_ms=5
    )  # fmt: skip


def order(name: str, side: int = 1, **told) -> OrderSeen:
    return OrderSeen(
        **{
            "client_order_id": name, "order_id": 1, "symbol": BTC, "side": side, "position_side": "BOTH",
            "status": "NEW", "type": "LIMIT", "quantity": Decimal(1), "filled": Decimal(0), "stop_price": Decimal(0),
            "close_position": False, "reduce_only": False, "told_ms": 5, **told,
        }
    )  # fmt: skip


def found(positions=(), orders=(), *, plans=PLANS, mark=100.0, tried=()):
    return RESCUE.steps(positions, orders, plans, {BTC: CONTRACT}, {BTC: mark}, tried)


def test_entries_of_the_runner_are_taken_back_and_no_other_order():
    orders = [
        order(f"wbone-{TRADE}-E0"),
        order(f"wbtwo-{TRADE}-E0"),
        order(f"wbone-{TRADE}-T0"),
        order("by hand"),
        order(f"wbone-{TRADE}-E1", status="FILLED"),
    ]
    assert found(orders=orders) == [Cancel(client_order_id=f"wbone-{TRADE}-E0", symbol=BTC)]


@pytest.mark.parametrize(
    "stop",
    [
        {"close_position": True, "quantity": Decimal(0)},
        {"reduce_only": True, "quantity": Decimal(2)},
    ],
)
def test_whoever_has_a_stop_is_left_alone(stop):
    assert found([position("2")], [order("by hand", -1, type="STOP_MARKET", **stop)]) == []
    assert found([position("-2")], [order("by hand", 1, type="STOP_MARKET", **stop)]) == []


@pytest.mark.parametrize(
    "stop",
    [
        {"side": 1, "close_position": True},  # it would add
        {"side": -1, "quantity": Decimal(1)},  # covers a half
        {"side": -1, "close_position": True, "status": "CANCELED"},
        {"side": -1, "close_position": True, "type": "TAKE_PROFIT_MARKET"},
    ],
)
def test_what_does_not_cover_it_is_no_stop(stop):
    placed, finding = found([position("2")], [order("by hand", **{"type": "STOP_MARKET", **stop})])
    assert (placed.leg, placed.client_order_id) == (Leg.STOP, f"wbone-{TRADE}-S0")
    assert isinstance(finding, Finding) and finding.kind == "rescued"


def test_the_stop_goes_where_the_journal_planned_it_else_to_the_emergency_distance():
    placed, _ = found([position("2")])
    assert dict(placed.parameters)["stopPrice"] == "98.5"
    placed, _ = found([position("-2")], plans={}, mark=100.0)
    assert dict(placed.parameters)["stopPrice"] == "101"
    assert placed.side == 1


def test_a_stop_that_the_mark_has_passed_or_that_was_refused_twice_becomes_a_way_out():
    placed, _ = found([position("2")], mark=98.0)
    assert (placed.leg, placed.quantity) == (Leg.FLATTEN, Decimal(2))
    used = [f"wbone-{TRADE}-S{attempt}" for attempt in range(3)]
    again, _ = found([position("2")], tried=used[:2])
    assert again.client_order_id == used[2]
    placed, _ = found([position("2")], tried=[*used, f"wbone-{TRADE}-F0"])
    assert (placed.leg, placed.client_order_id) == (Leg.FLATTEN, f"wbone-{TRADE}-F1")


def test_a_position_of_another_symbol_is_none_of_its_business():
    assert found([position("2", "ETHUSDT")]) == []


def test_a_position_of_a_contract_that_is_not_told_of_is_said_and_the_others_get_their_stops():
    rescue = replace(RESCUE, symbols=("GONEUSDT", BTC))
    steps = rescue.steps([position("1", "GONEUSDT"), position("1")], [], PLANS, {BTC: CONTRACT}, {BTC: 100.0}, ())
    told, stop, _ = steps
    assert isinstance(told, Finding) and told.symbol == "GONEUSDT" and told.is_urgent
    assert stop.symbol == BTC and stop.leg is Leg.STOP
