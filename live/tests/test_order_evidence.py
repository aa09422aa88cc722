from decimal import Decimal

import pytest

from data.loopback import account_answers
from data.loopback.account_events import told
from data.tests.account_market import BTC, Desk
from live.order_evidence import OrderSeen, PositionSeen, TradeSeen, of_stream, order_of_rest, trade_of_rest
from live.order_evidence import position_of_rest as position_of

# Aster futures API, "ORDER_TRADE_UPDATE"
UPDATE = {
    "e": "ORDER_TRADE_UPDATE", "E": 1780000000210, "T": 1780000000205,
    "o": {"s": "BTCUSDT", "c": "wb-0001", "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.010", "p": "61000.0",
          "ap": "61000.0", "sp": "0", "x": "TRADE", "X": "FILLED", "i": 22542179, "l": "0.010", "z": "0.010",
          "L": "61000.0", "N": "USDT", "n": "0.06100000", "T": 1780000000205, "t": 9001, "b": "0", "a": "0",
          "m": True, "R": False, "wt": "CONTRACT_PRICE", "ot": "LIMIT", "ps": "BOTH", "cp": False, "rp": "0"},
}  # fmt: skip


def test_a_fill_on_the_stream_tells_of_the_order_and_of_the_trade():
    order, trade = of_stream(UPDATE)
    assert (order.client_order_id, order.status, order.filled) == ("wb-0001", "FILLED", Decimal("0.010"))
    assert (trade.trade_id, trade.price, trade.commission) == (9001, Decimal(61_000), Decimal("0.061"))
    assert trade.is_maker


def test_a_commission_that_is_not_told_is_not_zero():
    order = {name: value for name, value in UPDATE["o"].items() if name not in ("N", "n")}
    _, trade = of_stream(UPDATE | {"o": order})
    assert trade.commission is None


def test_what_is_about_something_else_tells_nothing():
    assert of_stream({"e": "announcement", "en": {}}) == []
    assert of_stream({"e": "listenKeyExpired", "E": 1}) == []


def test_deleveragings_are_told_apart_by_their_number():
    for order in of_stream(UPDATE | {"o": UPDATE["o"] | {"c": "adl_autoclose"}}):
        assert order.client_order_id == "adl_autoclose-22542179"
    assert order_of_rest(_deleveraged(), 5).client_order_id == "adl_autoclose-22542179"


def _deleveraged() -> dict:
    told = {"clientOrderId": "adl_autoclose", "orderId": 22542179, "symbol": "BTCUSDT", "side": "SELL"}
    told |= {"positionSide": "BOTH", "status": "FILLED", "origType": "LIMIT", "origQty": "1", "executedQty": "1"}
    return told | {"stopPrice": "0", "updateTime": 1780000000205}


@pytest.mark.parametrize("broken", [{"q": None}, {"S": "LONG"}, {"z": "NaN"}, {"i": "22542179"}, {"c": 7}])
def test_a_message_that_is_not_understood_is_said_to_be(broken):
    with pytest.raises(ValueError, match="expected"):
        of_stream(UPDATE | {"o": UPDATE["o"] | broken})


def test_rest_and_stream_say_the_same_of_what_the_exchange_did():
    desk = Desk()
    placed = desk.place("BUY", "2", "MARKET", client_id="wbone-abcdefghij-E0")
    heard = [each for event in desk.account.news() for each in of_stream(told(event))]
    orders = [each for each in heard if isinstance(each, OrderSeen)]
    trades = [each for each in heard if isinstance(each, TradeSeen)]
    positions = [each for each in heard if isinstance(each, PositionSeen)]
    asked = order_of_rest(account_answers.order(desk.account.order(BTC, placed.order_id, None), is_query=True), 5)
    assert (asked.status, asked.filled, asked.type) == (orders[-1].status, orders[-1].filled, orders[-1].type)
    listed = [trade_of_rest(account_answers.trade(fill)) for fill in desk.ledger.fills]
    assert [(each.trade_id, each.quantity, each.price) for each in listed] == [
        (each.trade_id, each.quantity, each.price) for each in trades
    ]
    [told_position] = [
        position_of(account_answers.position(desk.account, each), 5) for each in desk.ledger.positions(BTC)
    ]
    assert told_position.amount == positions[-1].amount == 2
