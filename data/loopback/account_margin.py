"""Margin of an account: what is in use, what is free, when it is not enough. Money in USDT.

In one-way mode orders of both directions do not add up: only the worse of the two sides can come about.

Source: Aster futures API, "Response shapes", "leverageBracket"; the formulas are those of its lineage.
"""

from collections.abc import Iterable
from decimal import Decimal

from data.loopback.account_orders import BOTH, BUY, LONG, ZERO, NewOrder, Order
from data.loopback.account_positions import Position, money
from data.loopback.account_rules import Rules


def order_margin(
    positions: Iterable[Position], orders: Iterable[NewOrder], mark_price: Decimal, leverage: int
) -> Decimal:
    """Margin that orders of one contract may need beyond that of its positions."""
    waiting = [order for order in orders if not order.is_closing and not order.is_conditional]
    return sum((_beyond(position, waiting, mark_price) for position in positions), ZERO) / leverage


def _beyond(position: Position, orders: Iterable[NewOrder], mark_price: Decimal) -> Decimal:
    """How much larger a position may become, notional."""
    held = position.amount * mark_price
    bought, sold = ZERO, ZERO
    for order in orders:
        if order.position_side == position.side:
            left = order.left if isinstance(order, Order) else order.quantity
            notional = left * (mark_price if order.price is None else order.price)
            bought, sold = (bought + notional, sold) if order.side == BUY else (bought, sold + notional)
    if position.side == BOTH:
        worst = max(abs(held + bought), abs(held - sold))
    else:
        worst = abs(held) + (bought if position.side == LONG else sold)
    return max(worst - abs(held), ZERO)


def position_margin(position: Position, mark_price: Decimal, leverage: int) -> Decimal:
    """Initial margin that a position takes."""
    return abs(position.amount) * mark_price / leverage


def maintenance(position: Position, mark_price: Decimal, rules: Rules) -> Decimal:
    """Margin that a position must keep; 0 when flat."""
    return money(rules.maintenance_usdt(abs(position.amount) * mark_price)) if position.amount else ZERO


def liquidation_price(
    positions: Iterable[Position], margin_usdt: Decimal, mark_price: Decimal, rules: Rules
) -> Decimal:
    """The mark price at which one contract's positions use up a margin; 0 where no price does.

    Parameters
    ----------
    positions : those that share the margin.
    margin_usdt : what may be lost on them: the isolated margin, or the crossed wallet with what other contracts leave.
    """
    amount, needed, paid = ZERO, ZERO, -margin_usdt
    for position in positions:
        bracket = rules.bracket(abs(position.amount) * mark_price)
        amount += position.amount
        needed += abs(position.amount) * bracket.maintenance_rate
        paid += position.cost_usdt - bracket.maintenance_amount_usdt
    # margin + amount × price − cost = needed × price − amounts taken off
    return max(paid / (amount - needed), ZERO) if amount != needed else ZERO
