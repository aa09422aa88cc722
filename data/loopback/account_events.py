"""What an account tells its user stream, first as facts, then in the exchange's words.

Source: Aster futures API, "User data stream".
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from data.loopback.account_orders import LIQUIDATION, TRAILING, Fill, Order
from data.loopback.account_positions import Position, money

ASSET = "USDT"
Reason = str  # of an account update: ORDER, FUNDING_FEE, DEPOSIT, MARGIN_TYPE_CHANGE, …


@dataclass(frozen=True, kw_only=True)
class OrderUpdate:
    """An order changed. ``execution``: NEW, CANCELED, EXPIRED, TRADE, AMENDMENT or CALCULATED (a liquidation)."""

    time_ms: int
    order: Order
    execution: str
    fill: Fill | None = None

    @property
    def is_liquidation(self) -> bool:
        """The exchange has closed a position because its margin was used up."""
        return self.execution == "CALCULATED" and self.order.client_id.startswith("autoclose-")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A position and what it is worth now."""

    position: Position
    unrealised_usdt: Decimal
    is_isolated: bool
    mark_price: Decimal
    maintenance_usdt: Decimal


@dataclass(frozen=True, kw_only=True)
class AccountUpdate:
    """Balance or positions changed; ``change_usdt`` is what is neither profit nor commission."""

    time_ms: int
    reason: Reason
    wallet_usdt: Decimal
    cross_wallet_usdt: Decimal
    change_usdt: Decimal
    holdings: tuple[Holding, ...]


@dataclass(frozen=True, kw_only=True)
class LeverageUpdate:
    time_ms: int
    symbol: str
    leverage: int


@dataclass(frozen=True, kw_only=True)
class ModeUpdate:
    """Multi-assets or hedge mode changed."""

    time_ms: int
    is_multi_assets: bool
    is_hedge: bool


@dataclass(frozen=True, kw_only=True)
class MarginCall:
    """Maintenance takes up most of the margin."""

    time_ms: int
    cross_wallet_usdt: Decimal
    holdings: tuple[Holding, ...]


Event = OrderUpdate | AccountUpdate | LeverageUpdate | ModeUpdate | MarginCall


def plain(value: Decimal | None) -> str:
    """As the exchange writes numbers: no exponent, no zeros at the end; 0 for none."""
    return "0" if not value else format(value.normalize(), "f")


def told(event: Event) -> dict[str, Any]:
    """The event as a message of the user stream."""
    match event:
        case OrderUpdate():
            return _message("ORDER_TRADE_UPDATE", event.time_ms, T=event.time_ms, o=_order(event))
        case AccountUpdate():
            balance = {
                "a": ASSET,
                "wb": plain(event.wallet_usdt),
                "cw": plain(event.cross_wallet_usdt),
                "bc": plain(event.change_usdt),
            }
            account = {"m": event.reason, "B": [balance], "P": [_position(each) for each in event.holdings]}
            return _message("ACCOUNT_UPDATE", event.time_ms, T=event.time_ms, a=account)
        case LeverageUpdate():
            changed = {"s": event.symbol, "l": event.leverage}
            return _message("ACCOUNT_CONFIG_UPDATE", event.time_ms, T=event.time_ms, ac=changed)
        case ModeUpdate():
            changed = {"j": event.is_multi_assets, "f": False, "d": event.is_hedge}
            return _message("ACCOUNT_CONFIG_UPDATE", event.time_ms, T=event.time_ms, ai=changed)
        case MarginCall():
            called = [_called(each) for each in event.holdings]
            return _message("MARGIN_CALL", event.time_ms, cw=plain(event.cross_wallet_usdt), p=called)


def listen_key_expired(now_ms: int) -> dict[str, Any]:
    """The last message of a user stream whose key has run out."""
    return _message("listenKeyExpired", now_ms)


def force_order(event: OrderUpdate) -> dict[str, Any]:
    """A liquidation as everybody is told of it."""
    order, quantity = event.order, plain(event.order.quantity)
    said = {
        "s": order.symbol,
        "S": order.side,
        "o": "LIMIT",
        "f": order.time_in_force,
        "q": quantity,
        "p": plain(order.price),
        "ap": plain(order.average_price),
        "X": order.status,
        "l": quantity,
        "z": plain(order.filled),
        "T": event.time_ms,
    }
    return _message("forceOrder", event.time_ms, o=said)


def _message(kind: str, now_ms: int, **content: Any) -> dict[str, Any]:
    return {"e": kind, "E": now_ms, **content}


def _order(event: OrderUpdate) -> dict[str, Any]:
    order, fill = event.order, event.fill
    said = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": plain(order.quantity),
        "p": plain(order.price),
        "ap": plain(order.average_price and money(order.average_price)),
        "sp": plain(order.stop_price),
        "x": event.execution,
        "X": order.status,
        "i": order.order_id,
        "l": plain(fill and fill.quantity),
        "z": plain(order.filled),
        "L": plain(fill and fill.price),
    }
    if fill is not None:
        said |= {"N": ASSET, "n": plain(fill.commission_usdt)}
    said |= {
        "T": event.time_ms,
        "t": fill.trade_id if fill else 0,
        "b": "0",
        "a": "0",
        "m": bool(fill and fill.is_maker),
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": LIQUIDATION if order.type == LIQUIDATION else order.original_type,
        "ps": order.position_side,
        "cp": order.close_position,
        "rp": plain(fill and fill.realised_usdt),
    }
    if order.original_type == TRAILING:
        said |= {"AP": plain(order.activation_price), "cr": plain(order.callback_rate)}
    return said


def _position(holding: Holding) -> dict[str, Any]:
    position = holding.position
    return {
        "s": position.symbol,
        "pa": plain(position.amount),
        "ep": plain(money(position.entry_price)),
        "cr": plain(position.realised_usdt),
        "up": plain(holding.unrealised_usdt),
        "mt": "isolated" if holding.is_isolated else "cross",
        "iw": plain(position.isolated_usdt),
        "ps": position.side,
        "ma": ASSET,
    }


def _called(holding: Holding) -> dict[str, Any]:
    position = holding.position
    return {
        "s": position.symbol,
        "ps": position.side,
        "pa": plain(position.amount),
        "mt": "ISOLATED" if holding.is_isolated else "CROSSED",
        "iw": plain(position.isolated_usdt),
        "mp": plain(holding.mark_price),
        "up": plain(holding.unrealised_usdt),
        "mm": plain(holding.maintenance_usdt),
    }
