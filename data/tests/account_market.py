"""An account of the loopback exchange in a market that is told by hand."""

from decimal import Decimal

import pytest

from data.loopback.account import Account
from data.loopback.account_events import AccountUpdate, Event, OrderUpdate
from data.loopback.account_modes import deposit
from data.loopback.account_orders import LIMIT, MARKET, NewOrder, Order
from data.loopback.account_rules import Bracket, Rules
from data.loopback.account_settings import AccountSettings
from data.loopback.query import Refused

D = Decimal
BTC = "BTCUSDT"
START_MS = 1_780_000_000_000
BRACKETS = (
    Bracket(floor_usdt=D(0), cap_usdt=D(50_000), max_leverage=100, maintenance_rate=D("0.01"),
            maintenance_amount_usdt=D(0)),
    Bracket(floor_usdt=D(50_000), cap_usdt=D(1_000_000), max_leverage=50, maintenance_rate=D("0.02"),
            maintenance_amount_usdt=D(500)),
)  # fmt: skip
RULES = Rules(
    symbol=BTC, status="TRADING", tick_size=D("0.5"), min_price=D("0.5"), max_price=D(1_000_000), step_size=D("0.001"),
    min_quantity=D("0.001"), max_quantity=D(100), market_max_quantity=D(50), min_notional_usdt=D(5),
    multiplier_up=D("1.05"), multiplier_down=D("0.95"), max_orders=20, max_conditional_orders=10,
    trigger_protect=D("0.05"), liquidation_fee=D("0.025"), market_take_bound=D("0.05"), brackets=BRACKETS,
)  # fmt: skip


class Desk:
    """One account, and the market as the test tells it. Each call is a millisecond later than the one before."""

    def __init__(self, deposit_usdt: str = "1000", **settings):
        settings = {"maker_fee": 0.0, "taker_fee": 0.0, "leverage": 10, **settings}
        self.account = Account({BTC: RULES}, AccountSettings(**settings))
        self.ledger = self.account.ledger
        self.now_ms = START_MS
        if D(deposit_usdt):
            deposit(self.account, D(deposit_usdt), self.now_ms)
        self.mark("100")
        self.trade("100")
        self.book()
        self.account.news()

    def later(self, by_ms: int = 1) -> int:
        self.now_ms += by_ms
        return self.now_ms

    def mark(self, price: str) -> None:
        self.account.on_mark(BTC, D(price), self.later())

    def trade(self, price: str, quantity: str = "1", *, by_seller: bool = True) -> None:
        self.account.on_trade(BTC, D(price), D(quantity), by_seller, self.later())

    def book(self, bids: str = "99.5*10 99*10", asks: str = "100.5*10 101*10") -> None:
        sides = ([tuple(D(part) for part in each.split("*")) for each in side.split()] for side in (bids, asks))
        self.account.on_book(BTC, *sides, self.later())

    def place(self, side: str, quantity: str | None = "1", type: str = MARKET, **told) -> Order:
        numbers = ("price", "stop_price", "callback_rate", "activation_price")
        told = {name: D(value) if name in numbers else value for name, value in told.items()}
        asked = NewOrder(
            symbol=BTC, side=side, type=type, quantity=None if quantity is None else D(quantity), **told
        )  # fmt: skip
        return self.account.place(asked, self.later())

    def limit(self, side: str, price: str, quantity: str = "1", **told) -> Order:
        return self.place(side, quantity, LIMIT, price=price, **told)

    def now(self, order: Order) -> Order:
        """The order as it is."""
        return self.account.order(BTC, order.order_id, None)

    def amount(self, side: str = "BOTH") -> Decimal:
        return self.ledger.position(BTC, side).amount

    def told(self) -> list[str]:
        """What happened since the last question, a word or two each."""
        return [_word(event) for event in self.account.news()]


def _word(event: Event) -> str:
    match event:
        case OrderUpdate():
            return f"{event.order.type} {event.execution} {event.order.status}"
        case AccountUpdate():
            return f"account {event.reason}"
        case _:
            return type(event).__name__


def refused(code: int):
    """Inside, something is refused with that code."""
    return pytest.raises(Refused, check=lambda refusal: refusal.code == code)
