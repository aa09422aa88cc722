"""What the gate of a real run is told of the account: each symbol at its own price, nothing left out."""

from decimal import Decimal

import pytest

from live.brokers.cases import Case, Cases
from live.brokers.entry_gate import Account, Market, moment
from live.feed import Marked
from live.order_state import Order
from live.orders import Leg
from live.protection import Trade
from live.tests.exchange_words import BTC, CONTRACT, TERMS, entry_order, filled, held, name, position

ETH = "ETHUSDT"
ACCOUNT = Account(figures=None, clock=None, is_reconciled=True, is_listening=True, is_trading=True)
MARKETS = {BTC: Market(mark=Marked(0, 100.0)), ETH: Market(mark=Marked(0, 5.0))}


def entering(symbol: str, quantity: str, trade: str) -> Case:
    """A trade whose entry stands."""
    order = Order(
        client_order_id=name(Leg.ENTRY, trade=trade), symbol=symbol, side=1, quantity=Decimal(quantity)
    )  # fmt: skip
    orders = {order.client_order_id: order}
    return Case(trade=Trade(instance="one", trade_id=trade, symbol=symbol, side=1, orders=orders), contract=CONTRACT)


def test_an_open_entry_of_another_symbol_counts_at_that_symbol_s_mark():
    cases = Cases()
    cases.add(entering(ETH, "40", "ethethetha"))
    told = moment(entry_order(), TERMS, MARKETS, cases, ACCOUNT, [], BTC, 0)
    assert told.symbol_notional_usdt == 0.0
    assert told.total_notional_usdt == 200.0


@pytest.mark.parametrize("told", [None, "0", "2"])
def test_what_an_entry_has_filled_counts_before_the_exchange_tells_of_the_position(told):
    cases = Cases()
    cases.add(Case(trade=held(filled(Leg.ENTRY, "2")), contract=CONTRACT))
    cases.hear([] if told is None else [position(told, asked_ms=None)], 1_000)
    seen = moment(entry_order(), TERMS, MARKETS, cases, ACCOUNT, [], ETH, 0)
    assert seen.total_notional_usdt == 200.0
