"""An order as a client asks for it: what must be there, what it may say. The contract's rules come later.

Source: Aster futures API, "Parameters by type".
"""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from data.loopback.account_orders import (
    BOTH,
    CONDITIONAL,
    LAST_PRICE,
    LIMIT,
    ORDER_TYPES,
    POSITION_SIDES,
    SIDES,
    STP_MODES,
    TIMES_IN_FORCE,
    TRAILING,
    WORKING_TYPES,
    NewOrder,
)
from data.loopback.query import Query, Refused

_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_OWN_PREFIXES = ("autoclose-", "adl_autoclose")
_CLOSE_ALL = ("STOP_MARKET", "TAKE_PROFIT_MARKET")
_LEAST_CALLBACK, _MOST_CALLBACK = Decimal("0.1"), Decimal(5)  # percent


def new_order(query: Query) -> NewOrder:
    """The order that a request asks for.

    Raises
    ------
    Refused
        For what is missing, then for what nobody could mean.
    """
    symbol, side, kind = query.symbol(), query.required("side"), query.required("type")
    if side not in SIDES:
        raise Refused(-1117, "Invalid side.")
    if kind not in ORDER_TYPES:
        raise Refused(-1116, "Invalid orderType.")
    close_position = flag(query, "closePosition")
    needs_price = kind in (LIMIT, "STOP", "TAKE_PROFIT")
    needs_stop = kind in CONDITIONAL and kind != TRAILING
    asked = NewOrder(
        symbol=symbol,
        side=side,
        type=kind,
        quantity=_quantity(query, kind, close_position),
        price=number(query, "price", needs_price) if needs_price else _none(query, "price"),
        stop_price=number(query, "stopPrice", True) if needs_stop else _none(query, "stopPrice"),
        time_in_force=_time_in_force(query, kind),
        position_side=one_of(query, "positionSide", POSITION_SIDES, -4060, BOTH),
        reduce_only=flag(query, "reduceOnly"),
        close_position=close_position,
        working_type=one_of(query, "workingType", WORKING_TYPES, -4031, LAST_PRICE),
        price_protect=flag(query, "priceProtect"),
        activation_price=number(query, "activationPrice", False) if kind == TRAILING else None,
        callback_rate=_callback_rate(query) if kind == TRAILING else None,
        client_id=client_id(query, "newClientOrderId"),
        stp_mode=one_of(query, "stpMode", STP_MODES, -1130, None),
    )
    if asked.close_position and asked.reduce_only:
        raise Refused(-1106, "Parameter 'reduceonly' sent when not required.")
    return asked


def wants_result(query: Query) -> bool:
    """Whether the answer shall tell what became of the order; otherwise it only acknowledges."""
    return one_of(query, "newOrderRespType", ("ACK", "RESULT"), -1136, "ACK") == "RESULT"


def number(query: Query, name: str, is_required: bool) -> Decimal | None:
    """A decimal of the request."""
    text = query.required(name) if is_required else query.text(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        legal = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
    return Decimal(text)


def flag(query: Query, name: str) -> bool:
    """A boolean of the request, as text; false where it is not sent."""
    text = query.text(name)
    if text is not None and text.lower() not in ("true", "false"):
        raise Refused(-1130, f"Data sent for parameter '{name}' is not valid.")
    return text is not None and text.lower() == "true"


def one_of(query: Query, name: str, allowed: Collection[str], code: int, default: str | None) -> str | None:
    """A word of the request, one of some."""
    text = query.text(name)
    if text is not None and text not in allowed:
        raise Refused(code, f"Invalid {name}.")
    return default if text is None else text


def client_id(query: Query, name: str) -> str | None:
    """An id that a client chose."""
    text = query.text(name)
    if text is not None and (not _CLIENT_ID.fullmatch(text) or text.startswith(_OWN_PREFIXES)):
        raise Refused(-4015, "Client order id is not valid.")
    return text


def query_of(sent: Mapping[str, object], symbols: tuple[str, ...]) -> Query:
    """One order of a batch as if it came alone; its values are text."""
    if not isinstance(sent, Mapping) or not all(isinstance(value, str) for value in sent.values()):
        raise Refused(-1130, "Data sent for parameter 'batchOrders' is not valid.")
    return Query(sent, symbols)


def _quantity(query: Query, kind: str, close_position: bool) -> Decimal | None:
    if not close_position:
        return number(query, "quantity", True)
    if kind not in _CLOSE_ALL:
        raise Refused(-1106, "Parameter 'closeposition' sent when not required.")
    if query.text("quantity") is not None:
        raise Refused(-4137, "Quantity must be zero with closePosition equals true.")
    return None


def _time_in_force(query: Query, kind: str) -> str:
    if kind == LIMIT:
        query.required("timeInForce")
    if kind in ("MARKET", TRAILING) and query.text("timeInForce") is not None:
        raise Refused(-1106, "Parameter 'timeinforce' sent when not required.")
    return one_of(query, "timeInForce", TIMES_IN_FORCE, -1115, "GTC")


def _callback_rate(query: Query) -> Decimal:
    rate = number(query, "callbackRate", True)
    if not _LEAST_CALLBACK <= rate <= _MOST_CALLBACK:
        raise Refused(-2007, "Invalid callBack rate.")
    return rate


def _none(query: Query, name: str) -> None:
    """Some clients send zero where a type has no price."""
    text = query.text(name)
    if text is not None and number(query, name, True) != 0:
        raise Refused(-1106, f"Parameter '{name.lower()}' sent when not required.")
