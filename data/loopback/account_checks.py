"""Whether an account's order is taken: the rules of the contract, of the account and of its margin, in that order.

Source: Aster futures API, "Loopback simulator: required behaviour", order of filters.
"""

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from data.loopback import account_triggers
from data.loopback.account_orders import MARKET, NewOrder, Order
from data.loopback.account_rules import check_filters, check_position_mode, check_room
from data.loopback.query import Refused

if TYPE_CHECKING:
    from data.loopback.account import Account


def checked(account: "Account", asked: NewOrder) -> NewOrder:
    """The order as it would be taken: one that may only close is cut down to what there is to close.

    Raises
    ------
    Refused
        For the first rule that it breaks.
    """
    rules, book, settings = account.rules[asked.symbol], account.books[asked.symbol], account.settings
    if book.mark_price is None or book.last_price is None:
        raise Refused(-2016, "No trading window could be found for the symbol.")
    check_filters(asked, rules, book.mark_price)
    same = account.orders(asked.symbol)
    check_room(len(same), sum(order.is_conditional for order in same), asked, rules)
    if asked.client_id is not None and any(order.client_id == asked.client_id for order in account.orders()):
        raise Refused(settings.duplicate_client_id_code, "ClientOrderId is duplicated.")
    check_position_mode(asked, account.ledger.is_hedge)
    if asked.close_position:
        _check_close_all(account, asked)
    if asked.is_conditional:
        account_triggers.check_would_wait(asked, book)
        return asked
    if asked.is_closing:
        asked = cut_down(account, asked)
    crosses = bool(book.fillable(asked.side, asked.quantity, worst_price(account, asked)))
    if asked.type == MARKET and not crosses:
        raise Refused(-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit.")
    if asked.time_in_force == "GTX" and crosses and settings.gtx_crossing == "refuse":
        raise Refused(-5022, "Due to the order could not be executed as maker, the Post Only order will be rejected.")
    check_margin(account, asked)
    return asked


def worst_price(account: "Account", order: NewOrder) -> Decimal | None:
    """The worst price at which an order may trade now; None for any."""
    if order.price is not None:
        return order.price
    bound = account.rules[order.symbol].market_take_bound
    return account.ledger.mark(order.symbol) * (1 + order.sign * bound) if bound else None


def cut_down(account: "Account", order: NewOrder) -> NewOrder:
    """An order that may only close, no larger than what it closes; refused where that is nothing."""
    closable = account.ledger.position(order.symbol, order.position_side).closable(order.sign)
    if not closable:
        raise Refused(-2022, "ReduceOnly Order is rejected.")
    return replace(order, quantity=closable if order.quantity is None else min(order.quantity, closable))


def check_margin(account: "Account", asked: NewOrder, without: Order | None = None) -> None:
    """Refuse what the free margin does not cover, or what is too large for the leverage.

    Parameters
    ----------
    without : an open order in whose place it comes.
    """
    if asked.is_closing:
        return
    symbol, ledger = asked.symbol, account.ledger
    others = [order for order in account.orders() if without is None or order.order_id != without.order_id]
    same = [order for order in others if order.symbol == symbol]
    needed = ledger.order_margin(symbol, [*same, asked])
    if needed - ledger.order_margin(symbol, same) > ledger.available_usdt(others):
        raise Refused(-2019, "Margin is insufficient.")
    leverage = ledger.leverages[symbol]
    held = abs(ledger.position(symbol, asked.position_side).amount) * ledger.mark(symbol)
    if needed * leverage + held > account.rules[symbol].max_notional_usdt(leverage):
        raise Refused(-2027, "Exceeded the maximum allowable position at current leverage.")


def _check_close_all(account: "Account", asked: NewOrder) -> None:
    """What nobody knows of close-all orders, as the settings have it."""
    if account.settings.close_all_needs_position:
        cut_down(account, asked)
    kind = asked.side, asked.position_side, asked.type
    alike = [order for order in account.orders(asked.symbol) if order.close_position]
    is_alone = all((order.side, order.position_side, order.type) != kind for order in alike)
    if account.settings.close_all_stands_alone and not is_alone:
        raise Refused(-4130, "An open stop or take profit order with closePosition is existing.")
