"""When an account's margin is used up: warning, liquidation, insurance; and closing by the exchange's choice (ADL).

A liquidation closes all positions that share the margin at once, at the mark price. What is left of the margin pays the
contract's liquidation fee; what is missing the insurance fund pays.

Source: Aster futures API, "Loopback simulator: required behaviour", "ORDER_TRADE_UPDATE".
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from data.loopback.account_events import MarginCall
from data.loopback.account_orders import BUY, LIQUIDATION, SELL, ZERO, Order
from data.loopback.account_positions import Position, money

if TYPE_CHECKING:
    from data.loopback.account import Account

_CROSSED = "crossed"


def look_after(account: "Account", symbol: str, now_ms: int) -> None:
    """Warn or liquidate, after a contract's mark price or funding has changed what its margin is worth."""
    ledger = account.ledger
    if symbol not in ledger.isolated:
        _judge(account, _CROSSED, ledger.crossed(), ledger.cross_wallet_usdt, now_ms)
        return
    for position in ledger.positions(symbol):
        if position.amount:
            _judge(account, f"{symbol} {position.side}", [position], position.isolated_usdt, now_ms)


def deleverage(account: "Account", position: Position, now_ms: int) -> None:
    """Close a position at the mark price because the other side of somebody's liquidation is wanted."""
    order = _closing_order(account, position, "adl_autoclose", now_ms)
    account.force(order, order.price, now_ms)


def _judge(account: "Account", name: str, positions: Sequence[Position], margin_usdt: Decimal, now_ms: int) -> None:
    """What becomes of positions that share a margin."""
    ledger = account.ledger
    balance = margin_usdt + sum((each.unrealised(ledger.mark(each.symbol)) for each in positions), ZERO)
    maintenance = sum((ledger.maintenance(each) for each in positions), ZERO)
    if positions and balance <= maintenance:
        _liquidate(account, positions, margin_usdt, now_ms)
    elif maintenance >= balance * Decimal(repr(account.settings.margin_call_at)) and maintenance:
        if name not in account.warned:
            account.warned.add(name)
            holdings = tuple(ledger.holding(each) for each in positions)
            account.tell(MarginCall(time_ms=now_ms, cross_wallet_usdt=ledger.cross_wallet_usdt, holdings=holdings))
        return
    account.warned.discard(name)


def _liquidate(account: "Account", positions: Sequence[Position], margin_usdt: Decimal, now_ms: int) -> None:
    ledger = account.ledger
    for symbol in dict.fromkeys(each.symbol for each in positions):
        account.cancel_all(symbol, now_ms)
    before, fee = ledger.wallet_usdt, ZERO
    for number, position in enumerate(positions):
        order = _closing_order(account, position, f"autoclose-{now_ms}{number}", now_ms)
        account.force(order, order.price, now_ms)
        fee += money(order.quantity * order.price * account.rules[position.symbol].liquidation_fee)
    left = margin_usdt + ledger.wallet_usdt - before
    cleared = -min(fee, left) if left > 0 else -left
    if cleared:
        ledger.move("INSURANCE_CLEAR", cleared, now_ms, positions[0].symbol)
        account.tell(ledger.update("INSURANCE_CLEAR", now_ms, change_usdt=cleared))


def _closing_order(account: "Account", position: Position, client_id: str, now_ms: int) -> Order:
    return Order(
        symbol=position.symbol,
        side=SELL if position.amount > 0 else BUY,
        type=LIQUIDATION,
        original_type=LIQUIDATION,
        quantity=abs(position.amount),
        price=account.ledger.mark(position.symbol),
        time_in_force="IOC",
        position_side=position.side,
        client_id=client_id,
        order_id=account.next_order_id(),
        created_ms=now_ms,
        updated_ms=now_ms,
    )
