"""What the exchange says of orders, trades and positions, in one form whether REST or the user stream said it. Pure.

Quantities, prices and money are the decimals that the exchange wrote. A message that is not understood raises
``ValueError``: of an order that was sent it proves nothing, so whoever asked treats it as no answer.

Source: Aster futures API, "Order object", "Response shapes", "User data stream".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

ZERO = Decimal(0)
LIQUIDATED, DELEVERAGED = "autoclose-", "adl_autoclose"  # how the exchange names orders of its own
_SIGNS = {"BUY": 1, "SELL": -1}


@dataclass(frozen=True, kw_only=True)
class OrderSeen:
    """An order as the exchange had it at a moment.

    Attributes
    ----------
    side : 1 buys, -1 sells.
    status : in the exchange's words.
    type : the one that was asked for; a triggered order keeps it.
    quantity : base units; 0 of a close-all order that has not been triggered.
    filled : base units, all fills so far; an acknowledgement may tell less.
    stop_price : USDT; 0 where the type has none.
    told_ms : of the exchange's clock, when the order last changed.
    asked_ms : of our clock, when the question left; None of the stream.
    """

    client_order_id: str
    order_id: int
    symbol: str
    side: int
    position_side: str
    status: str
    type: str
    quantity: Decimal
    filled: Decimal
    stop_price: Decimal
    close_position: bool
    reduce_only: bool
    told_ms: int
    asked_ms: int | None = None

    @property
    def is_forced(self) -> bool:
        """The exchange's own order: a liquidation or a deleveraging."""
        return self.client_order_id.startswith((LIQUIDATED, DELEVERAGED))


@dataclass(frozen=True, kw_only=True)
class TradeSeen:
    """One fill.

    Attributes
    ----------
    trade_id : tells fills apart, whoever told them.
    client_order_id : None of REST, which names the order by ``order_id`` alone.
    commission : paid where positive, in ``commission_asset``; None where the exchange told none.
    realised_usdt : of the part of a position that it closed, before commission.
    """

    trade_id: int
    order_id: int
    client_order_id: str | None
    symbol: str
    side: int
    position_side: str
    price: Decimal
    quantity: Decimal
    commission: Decimal | None
    commission_asset: str | None
    realised_usdt: Decimal
    is_maker: bool
    time_ms: int

    @property
    def is_charged_in_usdt(self) -> bool:
        """An account may pay its fees in another asset: what was charged is no amount of USDT then."""
        return self.commission_asset in (None, "USDT")


@dataclass(frozen=True, kw_only=True)
class PositionSeen:
    """A position as the exchange had it at a moment. A flat one is said to be flat; one not mentioned is not known.

    Attributes
    ----------
    amount : base units, negative for a short.
    told_ms, asked_ms : as in ``OrderSeen``.
    leverage, is_isolated : None where not told.
    isolated_margin_usdt : wallet and unrealised of an isolated position; None of others, and where not told.
    """

    symbol: str
    position_side: str
    amount: Decimal
    entry_price: Decimal
    told_ms: int
    asked_ms: int | None = None
    leverage: int | None = None
    is_isolated: bool | None = None
    isolated_margin_usdt: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Unread:
    """In the place of what could not be read: not empty, not flat, not zero."""

    reason: str


def order_of_rest(body: Mapping[str, Any], asked_ms: int) -> OrderSeen:
    """An order out of the answer to placing, cancelling or asking, or out of a list of orders."""
    return OrderSeen(
        client_order_id=_name(body, "clientOrderId", "orderId"),
        order_id=_whole(body, "orderId"),
        symbol=_text(body, "symbol"),
        side=_side(body, "side"),
        position_side=_text(body, "positionSide"),
        status=_text(body, "status"),
        type=_text(body, "origType"),
        quantity=_number(body, "origQty"),
        filled=_number(body, "executedQty"),
        stop_price=_number(body, "stopPrice"),
        close_position=bool(body.get("closePosition")),
        reduce_only=bool(body.get("reduceOnly")),
        told_ms=_whole(body, "updateTime"),
        asked_ms=asked_ms,
    )


def trade_of_rest(row: Mapping[str, Any]) -> TradeSeen:
    """A row of userTrades."""
    return TradeSeen(
        trade_id=_whole(row, "id"),
        order_id=_whole(row, "orderId"),
        client_order_id=None,
        symbol=_text(row, "symbol"),
        side=_side(row, "side"),
        position_side=_text(row, "positionSide"),
        price=_number(row, "price"),
        quantity=_number(row, "qty"),
        commission=_number(row, "commission"),
        commission_asset=_text(row, "commissionAsset"),
        realised_usdt=_number(row, "realizedPnl"),
        is_maker=bool(row.get("maker")),
        time_ms=_whole(row, "time"),
    )


def position_of_rest(row: Mapping[str, Any], asked_ms: int) -> PositionSeen:
    """A row of positionRisk."""
    is_isolated = _text(row, "marginType") == "isolated"
    return PositionSeen(
        symbol=_text(row, "symbol"),
        position_side=_text(row, "positionSide"),
        amount=_number(row, "positionAmt"),
        entry_price=_number(row, "entryPrice"),
        told_ms=_whole(row, "updateTime"),
        asked_ms=asked_ms,
        leverage=int(_number(row, "leverage")),
        is_isolated=is_isolated,
        isolated_margin_usdt=_number(row, "isolatedMargin") if is_isolated and row.get("isolatedMargin") else None,
    )


def of_stream(message: Mapping[str, Any]) -> list[OrderSeen | TradeSeen | PositionSeen]:
    """What an event of the user stream tells; nothing where it is about something else."""
    match message.get("e"):
        case "ORDER_TRADE_UPDATE":
            told, time_ms = _inner(message, "o"), _whole(message, "T")
            order = _order_of_stream(told, time_ms)
            return [order, _trade_of_stream(told)] if _whole(told, "t") else [order]
        case "ACCOUNT_UPDATE":
            time_ms = _whole(message, "T")
            return [_position_of_stream(row, time_ms) for row in _inner(message, "a").get("P", ())]
    return []


def _order_of_stream(told: Mapping[str, Any], time_ms: int) -> OrderSeen:
    return OrderSeen(
        client_order_id=_name(told, "c", "i"),
        order_id=_whole(told, "i"),
        symbol=_text(told, "s"),
        side=_side(told, "S"),
        position_side=_text(told, "ps"),
        status=_text(told, "X"),
        type=_text(told, "ot"),
        quantity=_number(told, "q"),
        filled=_number(told, "z"),
        stop_price=_number(told, "sp"),
        close_position=bool(told.get("cp")),
        reduce_only=bool(told.get("R")),
        told_ms=time_ms,
    )


def _trade_of_stream(told: Mapping[str, Any]) -> TradeSeen:
    return TradeSeen(
        trade_id=_whole(told, "t"),
        order_id=_whole(told, "i"),
        client_order_id=_name(told, "c", "i"),
        symbol=_text(told, "s"),
        side=_side(told, "S"),
        position_side=_text(told, "ps"),
        price=_number(told, "L"),
        quantity=_number(told, "l"),
        commission=_number(told, "n") if "n" in told else None,
        commission_asset=told.get("N"),
        realised_usdt=_number(told, "rp"),
        is_maker=bool(told.get("m")),
        time_ms=_whole(told, "T"),
    )


def _position_of_stream(row: Mapping[str, Any], time_ms: int) -> PositionSeen:
    return PositionSeen(
        symbol=_text(row, "s"),
        position_side=_text(row, "ps"),
        amount=_number(row, "pa"),
        entry_price=_number(row, "ep"),
        told_ms=time_ms,
        is_isolated=row.get("mt") == "isolated",
    )


def _inner(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    told = message.get(name)
    if not isinstance(told, Mapping):
        raise ValueError(f"{message.get('e')}: expected an object in {name!r}, got {told!r}")
    return told


def _name(body: Mapping[str, Any], name: str, number: str) -> str:
    """A client order id; every deleveraging has the same one, so the order's number goes with it."""
    told = _text(body, name)
    return f"{told}-{_whole(body, number)}" if told == DELEVERAGED else told


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {value!r} in {str(body)[:200]}")
    return value


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name}: expected a whole number, got {value!r} in {str(body)[:200]}")
    return value


def _side(body: Mapping[str, Any], name: str) -> int:
    side = _text(body, name)
    if side not in _SIGNS:
        raise ValueError(f"{name}: expected BUY or SELL, got {side!r} in {str(body)[:200]}")
    return _SIGNS[side]


def _number(body: Mapping[str, Any], name: str) -> Decimal:
    text = _text(body, name)
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{name}: expected a number, got {text!r} in {str(body)[:200]}") from None
    if not value.is_finite():
        raise ValueError(f"{name}: expected a finite number, got {text!r} in {str(body)[:200]}")
    return value
