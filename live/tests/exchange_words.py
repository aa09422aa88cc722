"""What the exchange would say of orders, trades and positions, for tests; and trades of ours in every state."""

from decimal import Decimal

from live.exchange_orders import Contract
from live.order_answers import Refused
from live.order_evidence import OrderSeen, PositionSeen, TradeSeen
from live.order_state import Order, Sent, all_heard
from live.orders import EntryOrder, Leg, RowKey, client_order_id
from live.protection import Trade
from research.fills import Levels, Terms

D = Decimal
BTC = "BTCUSDT"
TRADE = "abcdefghij"
CONTRACT = Contract(
    symbol=BTC, tick_size=D("0.5"), step_size=D("0.001"), min_quantity=D("0.001"), market_max_quantity=D(50)
)  # fmt: skip
TERMS = Terms(
    taker_fee_bps=3.5, slippage_bps=0.0, notional_usdt=200.0, max_notional_usdt=500.0, min_notional_usdt=5.0,
    tick_size=0.5, step_size=0.001, min_quantity=0.001, max_quantity=100.0, entry_limit_ticks=2.0, cooldown_bars=1,
)  # fmt: skip
LEVELS = Levels(95.0, 110.0, 105.0, 20.0)  # of a long entered at 100


def name(leg: Leg, attempt: int = 0, *, instance: str = "one", trade: str = TRADE) -> str:
    return client_order_id(instance, trade, leg, attempt)


def entry_order(quantity: float = 1.0, decision_price: float = 100.5, lifetime_ms: int = 0) -> EntryOrder:
    """What the trader decided."""
    row = RowKey("1m", 0)
    return EntryOrder(
        client_order_id=name(Leg.ENTRY), trade_id=TRADE, row=row, side=1, quantity=quantity,
        decision_price=decision_price, lifetime_ms=lifetime_ms,
    )  # fmt: skip


def seen(
    leg: Leg, status: str = "NEW", *, attempt: int = 0, filled: str = "0", quantity: str = "1", **told
) -> OrderSeen:
    """An order of a long trade."""
    is_entry = leg is Leg.ENTRY
    words = {
        "client_order_id": name(leg, attempt),
        "order_id": 100 + 10 * list(Leg).index(leg) + attempt,
        "symbol": BTC,
        "side": 1 if is_entry else -1,
        "position_side": "BOTH",
        "status": status,
        "type": "LIMIT" if is_entry else "STOP_MARKET",
        "quantity": D(quantity),
        "filled": D(filled),
        "stop_price": D(0),
        "close_position": False,
        "reduce_only": not is_entry,
        "told_ms": 1_000,
    }
    return OrderSeen(**{**words, **told})


def fill(of: OrderSeen, trade_id: int = 1, quantity: str = "1", price: str = "100", time_ms: int = 1_000) -> TradeSeen:
    """A fill of an order."""
    return TradeSeen(
        trade_id=trade_id,
        order_id=of.order_id,
        client_order_id=of.client_order_id,
        symbol=of.symbol,
        side=of.side,
        position_side=of.position_side,
        price=D(price),
        quantity=D(quantity),
        commission=D(0),
        commission_asset="USDT",
        realised_usdt=D(0),
        is_maker=False,
        time_ms=time_ms,
    )


def position(amount: str = "1", *, told_ms: int = 1_000, asked_ms: int | None = 1_000, **told) -> PositionSeen:
    words = {"symbol": BTC, "position_side": "BOTH", "entry_price": D(100), "leverage": 10, "is_isolated": True}
    return PositionSeen(amount=D(amount), told_ms=told_ms, asked_ms=asked_ms, **{**words, **told})


def order(leg: Leg, *evidence, attempt: int = 0, quantity: str | None = "1", sent_ms: int = 1_000) -> Order:
    """An order of a long trade that has heard some evidence."""
    exact = None if quantity is None else D(quantity)
    empty = Order(
        client_order_id=name(leg, attempt), symbol=BTC, side=1 if leg is Leg.ENTRY else -1, quantity=exact
    )  # fmt: skip
    return all_heard(empty, [Sent(time_ms=sent_ms), *evidence])


def refused(leg: Leg, code: int, *, attempt: int = 0, sent_ms: int = 1_000) -> Order:
    """One that the exchange did not take."""
    return order(leg, Refused(code=code, message="no", told_ms=sent_ms), attempt=attempt, sent_ms=sent_ms)


def standing(leg: Leg, *, attempt: int = 0, quantity: str | None = "1") -> Order:
    """One that the exchange holds."""
    return order(leg, seen(leg, attempt=attempt, quantity=quantity or "0"), attempt=attempt, quantity=quantity)


def filled(leg: Leg, quantity: str = "1", *, attempt: int = 0, time_ms: int = 1_000) -> Order:
    """One that is filled."""
    said = seen(leg, "FILLED", attempt=attempt, filled=quantity, quantity=quantity, told_ms=time_ms)
    return order(leg, said, fill(said, list(Leg).index(leg), quantity, time_ms=time_ms), attempt=attempt)


def held(*orders: Order, quantity: str = "1", levels: Levels | None = LEVELS, **told) -> Trade:
    """A long trade whose entry is filled, with further orders."""
    known = {each.client_order_id: each for each in (filled(Leg.ENTRY, quantity), *orders)}
    return Trade(instance="one", trade_id=TRADE, symbol=BTC, side=1, levels=levels, orders=known, **told)
