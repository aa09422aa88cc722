"""A contract's rules for orders, and whether an order keeps them: in the documented order, with the documented codes.

Source: Aster futures API, "Filters", "Loopback simulator: required behaviour", "Error codes and actions".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from data.loopback.account_orders import BUY, LIMIT, ZERO, NewOrder
from data.loopback.query import Refused

MAX_PRICE = Decimal(1_000_000)
_ENDLESS = Decimal("1e15")


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Positions with a notional in [floor_usdt, cap_usdt).

    Parameters
    ----------
    maintenance_rate : fraction of the notional.
    maintenance_amount_usdt : taken off again, so that maintenance does not jump where brackets meet.
    """

    floor_usdt: Decimal
    cap_usdt: Decimal
    max_leverage: int
    maintenance_rate: Decimal
    maintenance_amount_usdt: Decimal


_NO_BRACKETS = (
    Bracket(
        floor_usdt=ZERO,
        cap_usdt=_ENDLESS,
        max_leverage=20,
        maintenance_rate=Decimal("0.025"),
        maintenance_amount_usdt=ZERO,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What exchangeInfo and leverageBracket say of one contract. Sizes in base units, ratios as fractions.

    A bound of zero is not applied.
    """

    symbol: str
    status: str
    tick_size: Decimal
    min_price: Decimal
    max_price: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional_usdt: Decimal
    multiplier_up: Decimal
    multiplier_down: Decimal
    max_orders: int
    max_conditional_orders: int
    trigger_protect: Decimal
    liquidation_fee: Decimal
    market_take_bound: Decimal
    brackets: tuple[Bracket, ...]

    def bracket(self, notional_usdt: Decimal) -> Bracket:
        """The one for a position of that size; the last for anything larger."""
        return next((each for each in self.brackets if notional_usdt < each.cap_usdt), self.brackets[-1])

    def max_notional_usdt(self, leverage: int) -> Decimal:
        """The largest position at a leverage."""
        return max((each.cap_usdt for each in self.brackets if each.max_leverage >= leverage), default=ZERO)

    @property
    def max_leverage(self) -> int:
        return max(each.max_leverage for each in self.brackets)

    def maintenance_usdt(self, notional_usdt: Decimal) -> Decimal:
        """The margin below which a position of that size is liquidated."""
        bracket = self.bracket(notional_usdt)
        return notional_usdt * bracket.maintenance_rate - bracket.maintenance_amount_usdt


def rules_of(row: Mapping[str, Any]) -> Rules:
    """The rules in a row of ``instruments``; a bound that it does not know is not applied."""
    tick, step = _exact(row["tick_size"]), _exact(row["step_size"])
    most = _exact(row["max_quantity"])
    return Rules(
        symbol=row["symbol"],
        status=row["status"],
        tick_size=tick,
        min_price=tick,
        max_price=MAX_PRICE,
        step_size=step,
        min_quantity=_exact(row["min_quantity"]) or step,
        max_quantity=most,
        market_max_quantity=_exact(row["market_max_quantity"]) or most,
        min_notional_usdt=_exact(row["min_notional_usdt"]),
        multiplier_up=_exact(row["price_multiplier_up"]),
        multiplier_down=_exact(row["price_multiplier_down"]),
        max_orders=row["max_orders"] or 0,
        max_conditional_orders=row["max_conditional_orders"] or 0,
        trigger_protect=_exact(row["trigger_protect"]),
        liquidation_fee=_exact(row["liquidation_fee"]),
        market_take_bound=_exact(row["market_take_bound"]),
        brackets=tuple(_bracket(each) for each in row["brackets"] or ()) or _NO_BRACKETS,
    )


def _bracket(row: Mapping[str, Any]) -> Bracket:
    return Bracket(
        floor_usdt=_exact(row["notional_floor_usdt"]),
        cap_usdt=_exact(row["notional_cap_usdt"]),
        max_leverage=int(row["max_leverage"]),
        maintenance_rate=_exact(row["maintenance_margin_rate"]),
        maintenance_amount_usdt=_exact(row["maintenance_amount_usdt"]),
    )


def _exact(value: float | None) -> Decimal:
    """The decimal that the float was written as; 0 for none."""
    return ZERO if value is None else Decimal(repr(value)).normalize()


def check_filters(order: NewOrder, rules: Rules, mark_price: Decimal) -> None:
    """Refuse an order that breaks a filter: precision, price, lot, percent of the mark price, notional.

    Raises
    ------
    Refused
        With the code of the first filter broken.
    """
    if rules.status != "TRADING":
        raise Refused(-4141, "Symbol is closed.")
    prices = [price for price in (order.price, order.stop_price, order.activation_price) if price is not None]
    if any(_decimals(price) > _decimals(rules.tick_size) for price in prices):
        raise Refused(-1111, "Precision is over the maximum defined for this asset.")
    if order.quantity is not None and _decimals(order.quantity) > _decimals(rules.step_size):
        raise Refused(-1111, "Precision is over the maximum defined for this asset.")
    if order.price is not None:
        _check_price(order.price, rules, -4001, -4002, "Price")
    if order.stop_price is not None:
        _check_price(order.stop_price, rules, -4006, -4007, "Stop price")
    if order.quantity is not None:
        _check_quantity(order.quantity, rules, order.has_limit)
    if order.price is not None:
        _check_percent(order, rules, mark_price)
    if order.quantity is not None and not order.is_closing:
        price = mark_price if order.price is None else order.price
        if price * order.quantity < rules.min_notional_usdt:
            least = rules.min_notional_usdt
            raise Refused(-4164, f"Order's notional must be no smaller than {least} (unless you choose reduce only).")


def _check_price(price: Decimal, rules: Rules, below_zero: int, above_most: int, what: str) -> None:
    if price <= 0:
        raise Refused(below_zero, f"{what} less than 0.")
    if rules.max_price and price > rules.max_price:
        raise Refused(above_most, f"{what} greater than max price.")
    if rules.min_price and price < rules.min_price:
        raise Refused(-4013, f"{what} less than min price.")
    if rules.tick_size and (price - rules.min_price) % rules.tick_size:
        raise Refused(-4014, f"{what} not increased by tick size.")


def _check_quantity(quantity: Decimal, rules: Rules, has_limit: bool) -> None:
    most = rules.max_quantity if has_limit else rules.market_max_quantity
    if quantity <= 0:
        raise Refused(-4003, "Quantity less than or equal to zero.")
    if rules.min_quantity and quantity < rules.min_quantity:
        raise Refused(-4004, "Quantity less than min quantity.")
    if most and quantity > most:
        raise Refused(-4005, "Quantity greater than max quantity.")
    if rules.step_size and (quantity - rules.min_quantity) % rules.step_size:
        raise Refused(-4023, "Quantity not increased by step size.")


def _check_percent(order: NewOrder, rules: Rules, mark_price: Decimal) -> None:
    """Buyers not too far above, sellers not too far below: the mark price, or the stop price of a conditional order."""
    is_plain = order.type == LIMIT
    base = mark_price if is_plain else order.stop_price
    if order.side == BUY and rules.multiplier_up and order.price > base * rules.multiplier_up:
        raise Refused(-4016 if is_plain else -4183, "Limit price can't be higher than the allowed maximum.")
    if order.side != BUY and rules.multiplier_down and order.price < base * rules.multiplier_down:
        raise Refused(-4024 if is_plain else -4184, "Limit price can't be lower than the allowed minimum.")


def check_position_mode(order: NewOrder, is_hedge: bool) -> None:
    """Refuse an order that does not fit how the account keeps its positions."""
    if (order.position_side == "BOTH") == is_hedge:
        raise Refused(-4061, "Order's position side does not match user's setting.")
    if order.reduce_only and (is_hedge or order.close_position):
        raise Refused(-1106, "Parameter 'reduceonly' sent when not required.")
    opens = (order.side, order.position_side) in ((BUY, "LONG"), ("SELL", "SHORT"))
    if order.close_position and opens:
        raise Refused(-4138, "A close-all order must close its side's position.")


def check_room(open_orders: int, open_conditional: int, order: NewOrder, rules: Rules) -> None:
    """Refuse one order too many of a contract."""
    if rules.max_orders and open_orders >= rules.max_orders:
        raise Refused(-2025, "Reach max open order limit.")
    if order.is_conditional and rules.max_conditional_orders and open_conditional >= rules.max_conditional_orders:
        raise Refused(-4045, "Reach max stop order limit.")


def _decimals(value: Decimal) -> int:
    return max(0, -value.normalize().as_tuple().exponent)
