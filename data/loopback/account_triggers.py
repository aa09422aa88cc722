"""When a conditional order of the loopback exchange fires.

Source: Aster futures API, "Parameters by type", trigger rules.
"""

from dataclasses import replace
from decimal import Decimal

from data.loopback.account_book import Book
from data.loopback.account_orders import BUY, STOPS, TRAILING, NewOrder, Order
from data.loopback.account_rules import Rules
from data.loopback.query import Refused

_HUNDRED = Decimal(100)


def check_would_wait(order: NewOrder, book: Book) -> None:
    """Refuse a conditional order that would fire at once, or a trailing stop whose activation already lies behind.

    Raises
    ------
    Refused
        -2021.
    """
    price = book.price_of(order.working_type)
    if order.type == TRAILING:
        activation = order.activation_price
        fires = activation is not None and (activation >= price if order.side == BUY else activation <= price)
    else:
        fires = _reached(order, price)
    if fires:
        raise Refused(-2021, "Order would immediately trigger.")


def watched(order: Order, price: Decimal) -> Order:
    """A trailing stop that has seen a price: active once the activation price is reached, its extreme kept.

    Without an activation price it is active from its first price on.
    """
    is_buy = order.side == BUY
    if order.extreme is None:
        activation = order.activation_price
        is_active = activation is None or (price <= activation if is_buy else price >= activation)
        return replace(order, extreme=price) if is_active else order
    extreme = min(order.extreme, price) if is_buy else max(order.extreme, price)
    return order if extreme == order.extreme else replace(order, extreme=extreme)


def fires(order: Order, book: Book, rules: Rules) -> bool:
    """Whether an order fires at the price it watches; ``watched`` has seen that price.

    A protected one does not while mark and last price are too far apart.
    """
    price = book.price_of(order.working_type)
    if order.type == TRAILING:
        if order.extreme is None:
            return False
        away = order.extreme * order.callback_rate / _HUNDRED
        is_reached = price >= order.extreme + away if order.side == BUY else price <= order.extreme - away
    else:
        is_reached = _reached(order, price)
    return is_reached and not (order.price_protect and _is_apart(book, rules))


def _reached(order: NewOrder, price: Decimal) -> bool:
    is_upward = (order.type in STOPS) == (order.side == BUY)  # a stop buys high, a take-profit sells high
    return price >= order.stop_price if is_upward else price <= order.stop_price


def _is_apart(book: Book, rules: Rules) -> bool:
    if book.mark_price is None or book.last_price is None:
        return True
    gap = abs(book.mark_price - book.last_price) / book.mark_price
    return bool(rules.trigger_protect) and gap > rules.trigger_protect
