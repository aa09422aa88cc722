from decimal import Decimal

import pytest

from data.loopback import account_request
from data.loopback.query import Query
from data.tests.account_market import Desk
from live import exchange_orders
from live.exchange_orders import contract_of
from live.orders import Leg
from live.tests.exchange_words import CONTRACT, TERMS, D, entry_order, name

ROW = {
    "symbol": "BTCUSDT", "tick_size": 0.1, "step_size": 0.001, "min_quantity": None, "max_quantity": 500.0,
    "market_max_quantity": 50.0,
}  # fmt: skip


def words(place) -> dict[str, str]:
    return dict(place.parameters)


def test_prices_and_quantities_are_the_decimals_that_are_meant():
    contract = contract_of(ROW, is_hedge=False)
    assert contract.price(61_000.1) == Decimal("61000.1")
    assert contract.price(0.1 + 0.2) == Decimal("0.3")
    assert contract.quantity(0.001 * 7) == Decimal("0.007")
    assert contract.quantity(0.3 - 0.2) == Decimal("0.1")
    assert contract.quantity(0.0019) == Decimal("0.001")
    assert contract.min_quantity == Decimal("0.001")


def test_a_stop_closes_all_by_the_mark_and_is_never_price_protected():
    assert words(exchange_orders.stop(CONTRACT, name(Leg.STOP), 1, 95.0)) == {
        "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "stopPrice": "95", "closePosition": "true",
        "workingType": "MARK_PRICE", "priceProtect": "FALSE", "newClientOrderId": "wbone-abcdefghij-S0",
    }  # fmt: skip


def test_a_callback_is_told_in_percent():
    assert words(exchange_orders.trailing(CONTRACT, "t", 1, D(1), 10.0, 105.0))["callbackRate"] == "0.1"
    assert words(exchange_orders.trailing(CONTRACT, "t", 1, D(1), 15.0, 105.0))["callbackRate"] == "0.15"


@pytest.mark.parametrize("callback_bps", [5.0, 9.9, 401.0, float("nan")])
def test_a_callback_that_the_exchange_does_not_have_is_refused(callback_bps):
    with pytest.raises(ValueError, match="executes 10 to 400"):
        exchange_orders.trailing(CONTRACT, "t", 1, D(1), callback_bps, None)


def test_a_close_takes_no_more_than_one_market_order_may():
    assert exchange_orders.close(CONTRACT, "x", Leg.CLOSE, 1, D(80)).quantity == 50


def test_an_intent_tells_all_that_is_sent():
    place = exchange_orders.entry(CONTRACT, entry_order(2.0, 100.5), TERMS)
    assert place.intent["quantity"] == 2.0
    told = dict(place.intent["parameters"])
    assert (told["timeInForce"], told["price"]) == ("IOC", "101.5")  # two ticks beyond the touch


def test_an_entry_that_rests_is_post_only_at_its_own_price():
    told = words(exchange_orders.entry(CONTRACT, entry_order(2.0, 99.5, lifetime_ms=30_000), TERMS))
    assert (told["timeInForce"], told["price"]) == ("GTX", "99.5")


@pytest.mark.parametrize("is_hedge", [False, True])
def test_the_exchange_takes_every_order_as_it_is_asked_for(is_hedge):
    from data.loopback import account_modes

    desk = Desk()
    if is_hedge:
        account_modes.set_hedge(desk.account, True, desk.now_ms)
    contract = contract_of({**ROW, "tick_size": 0.5}, is_hedge=is_hedge)
    for place in (
        exchange_orders.entry(contract, entry_order(), TERMS),
        exchange_orders.stop(contract, name(Leg.STOP), 1, 95.0),
        exchange_orders.target(contract, name(Leg.TARGET), 1, 110.0),
        exchange_orders.trailing(contract, name(Leg.TRAILING), 1, D(1), 20.0, 105.0),
        exchange_orders.close(contract, name(Leg.CLOSE), Leg.CLOSE, 1, D(1)),
    ):
        query = Query(words(place), ("BTCUSDT",))
        asked = account_request.new_order(query)
        account_request.wants_result(query)
        query.check_all_read()
        placed = desk.account.place(asked, desk.later())
        assert placed.client_id == place.client_order_id
    assert desk.amount("LONG" if is_hedge else "BOTH") == 0
