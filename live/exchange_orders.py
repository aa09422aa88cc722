"""Our orders as the exchange is asked for them: exact prices and quantities, every parameter as text. Pure.

The same ``EntryOrder`` and ``ExitOrders`` that the paper brokers fill become requests here; nothing is decided again.

Source: Aster futures API, "Parameters by type", "Rounding recipe".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from live.orders import EntryOrder, Leg
from research.fills import Terms, entry_limit

Parameters = tuple[tuple[str, str], ...]
LEAST_CALLBACK_BPS, MOST_CALLBACK_BPS = 10, 400  # 0.1 percent to 4: the batch table's bound, the lower of the two told
_SIDES = {1: "BUY", -1: "SELL"}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What requests about a symbol have to keep to.

    Attributes
    ----------
    tick_size : USDT.
    step_size, min_quantity : base units.
    market_max_quantity : of one market order, base units; often far below that of a limit order.
    is_hedge : the account keeps long and short apart.
    """

    symbol: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    market_max_quantity: Decimal
    is_hedge: bool = False

    def price(self, value: float | Decimal) -> Decimal:
        """The price on the tick grid that is meant: of a float the nearest one."""
        exact = value if isinstance(value, Decimal) else _exact(value)
        return (exact / self.tick_size).to_integral_value() * self.tick_size

    def quantity(self, value: float | Decimal) -> Decimal:
        """The largest multiple of the step not above the value; binary noise of a float is not above it."""
        exact = value if isinstance(value, Decimal) else _exact(value)
        steps = exact / self.step_size
        nearest = steps.to_integral_value()
        if abs(steps - nearest) > Decimal("1e-6"):
            nearest = steps.to_integral_value(ROUND_FLOOR)
        return nearest * self.step_size


@dataclass(frozen=True, kw_only=True)
class Place:
    """An order to send: its intent goes into the journal first.

    Attributes
    ----------
    side : 1 buys, -1 sells.
    quantity : base units; None of a close-all order.
    parameters : of POST order, in the order in which they are sent.
    """

    client_order_id: str
    symbol: str
    leg: Leg
    side: int
    quantity: Decimal | None
    parameters: Parameters

    @property
    def intent(self) -> dict[str, Any]:
        """Body of the journal's intent, as a trader's own: enough to know the order again after a crash."""
        asked = dict(self.parameters)
        told = {"leg": self.leg, "type": asked["type"], "side": self.side, "parameters": [*map(list, self.parameters)]}
        told["quantity"] = None if self.quantity is None else float(self.quantity)
        if "stopPrice" in asked:
            told["stop_price"] = float(asked["stopPrice"])
        if "activationPrice" in asked:
            callback_bps = float(Decimal(asked["callbackRate"]) * 100)
            told |= {"activation_price": float(asked["activationPrice"]), "callback_bps": callback_bps}
        return told


def contract_of(instrument: Mapping[str, Any], *, is_hedge: bool) -> Contract:
    """Of a row of ``instruments``."""
    step = _exact(instrument["step_size"])
    return Contract(
        symbol=instrument["symbol"],
        tick_size=_exact(instrument["tick_size"]),
        step_size=step,
        min_quantity=_exact(instrument["min_quantity"] or instrument["step_size"]),
        market_max_quantity=_exact(instrument["market_max_quantity"] or instrument["max_quantity"]),
        is_hedge=is_hedge,
    )


def entry(contract: Contract, order: EntryOrder, terms: Terms) -> Place:
    """Immediate-or-cancel at its limit, or post-only where it rests: the exchange knows no life that ends by itself."""
    exact = contract.quantity(order.quantity)
    asked = [
        ("type", "LIMIT"),
        ("timeInForce", "GTX" if order.lifetime_ms else "IOC"),
        ("quantity", text(exact)),
        ("price", text(contract.price(limit_of(order, terms)))),
        ("newOrderRespType", "RESULT"),
    ]
    return _place(contract, order.client_order_id, Leg.ENTRY, order.side, order.side, exact, asked)


def limit_of(order: EntryOrder, terms: Terms) -> float:
    """The worst price that an entry may get, USDT; the only one that it gets where it rests."""
    return order.decision_price if order.lifetime_ms else entry_limit.py_func(order.side, order.decision_price, terms)


def stop(contract: Contract, name: str, position_side: int, stop_price: float | Decimal) -> Place:
    """Closes all of a position as the mark reaches the price.

    It sizes itself, so it covers what is filled later. Never price-protected: in a cascade mark and last part, and that
    is when it must trigger.
    """
    asked = [("type", "STOP_MARKET"), *_close_all(contract, stop_price, "MARK_PRICE"), ("priceProtect", "FALSE")]
    return _place(contract, name, Leg.STOP, position_side, -position_side, None, asked)


def target(contract: Contract, name: str, position_side: int, target_price: float | Decimal) -> Place:
    """Closes all of a position as the last price reaches the price."""
    asked = [("type", "TAKE_PROFIT_MARKET"), *_close_all(contract, target_price, "CONTRACT_PRICE")]
    return _place(contract, name, Leg.TARGET, position_side, -position_side, None, asked)


def trailing(
    contract: Contract,
    name: str,
    position_side: int,
    quantity: Decimal,
    callback_bps: float,
    activation_price: float | Decimal | None,
) -> Place:
    """Closes a quantity as the last price has come back so far from its best; None: it follows from now on.

    Raises
    ------
    ValueError
        When the exchange has no such callback.
    """
    if not LEAST_CALLBACK_BPS <= callback_bps <= MOST_CALLBACK_BPS:
        raise ValueError(
            f"callback_bps: the exchange executes {LEAST_CALLBACK_BPS} to {MOST_CALLBACK_BPS}, got {callback_bps:g}"
        )
    asked = [("type", "TRAILING_STOP_MARKET"), ("quantity", text(quantity))]
    asked.append(("callbackRate", text(_exact(callback_bps) / 100)))
    if activation_price is not None:
        asked.append(("activationPrice", text(contract.price(activation_price))))
    asked += [("workingType", "CONTRACT_PRICE"), *_reducing(contract)]
    return _place(contract, name, Leg.TRAILING, position_side, -position_side, quantity, asked)


def close(contract: Contract, name: str, leg: Leg, position_side: int, quantity: Decimal) -> Place:
    """Closes a quantity at the market, now; as much of it as one order may."""
    most = min(quantity, contract.market_max_quantity)
    asked = [("type", "MARKET"), ("quantity", text(most)), *_reducing(contract), ("newOrderRespType", "RESULT")]
    return _place(contract, name, leg, position_side, -position_side, most, asked)


def text(value: Decimal) -> str:
    """As the exchange reads numbers: no exponent, no zeros at the end."""
    return format(value.normalize(), "f") if value else "0"


def _close_all(contract: Contract, price: float | Decimal, working_type: str) -> Parameters:
    return (("stopPrice", text(contract.price(price))), ("closePosition", "true"), ("workingType", working_type))


def _reducing(contract: Contract) -> Parameters:
    """In hedge mode the position side says it, and reduceOnly is refused."""
    return () if contract.is_hedge else (("reduceOnly", "true"),)


def _place(
    contract: Contract,
    name: str,
    leg: Leg,
    position_side: int,
    side: int,
    quantity: Decimal | None,
    asked: list[tuple[str, str]],
) -> Place:
    held = (("positionSide", "LONG" if position_side > 0 else "SHORT"),) if contract.is_hedge else ()
    parameters = (("symbol", contract.symbol), ("side", _SIDES[side]), *held, *asked, ("newClientOrderId", name))
    return Place(
        client_order_id=name, symbol=contract.symbol, leg=leg, side=side, quantity=quantity, parameters=parameters
    )


def _exact(value: float) -> Decimal:
    """The decimal that a float was written as."""
    return Decimal(repr(float(value)))
