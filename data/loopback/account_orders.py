"""Orders of the loopback exchange's accounts: what is asked for, and what has become of it. No state, no clock.

Source: Aster futures API, "Order model".
"""

from dataclasses import dataclass, fields
from decimal import Decimal

ZERO = Decimal(0)
BUY, SELL = "BUY", "SELL"
BOTH, LONG, SHORT = "BOTH", "LONG", "SHORT"
SIDES = (BUY, SELL)
POSITION_SIDES = (BOTH, LONG, SHORT)
LIMIT, MARKET = "LIMIT", "MARKET"
TRAILING = "TRAILING_STOP_MARKET"
STOPS = ("STOP", "STOP_MARKET")
TAKE_PROFITS = ("TAKE_PROFIT", "TAKE_PROFIT_MARKET")
CONDITIONAL = (*STOPS, *TAKE_PROFITS, TRAILING)
ORDER_TYPES = (LIMIT, MARKET, *CONDITIONAL)
LIQUIDATION = "LIQUIDATION"  # the exchange's own closing order
TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTX", "HIDDEN")
LAST_PRICE, MARK_PRICE = WORKING_TYPES = ("CONTRACT_PRICE", "MARK_PRICE")
STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
NEW, PARTIALLY_FILLED, FILLED = "NEW", "PARTIALLY_FILLED", "FILLED"
CANCELED, EXPIRED = "CANCELED", "EXPIRED"
FINISHED = (FILLED, CANCELED, EXPIRED)


@dataclass(frozen=True, kw_only=True)
class NewOrder:
    """What a client asks for, understood but not yet checked against the contract's rules.

    Parameters
    ----------
    type : one of ``ORDER_TYPES``; of an order at work the kind it is executed as.
    quantity : base units; None with ``close_position``, which takes what the position holds when it is triggered.
    price, stop_price : USDT; None where the type has none.
    position_side : ``BOTH`` in one-way mode.
    callback_rate, activation_price : of a trailing stop: percent, and USDT (None: it is active at once).
    client_id : None lets the exchange choose one.
    stp_mode : what happens when it meets an order of the same account; None for the account's own setting.
    """

    symbol: str
    side: str
    type: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str = "GTC"
    position_side: str = BOTH
    reduce_only: bool = False
    close_position: bool = False
    working_type: str = LAST_PRICE
    price_protect: bool = False
    activation_price: Decimal | None = None
    callback_rate: Decimal | None = None
    client_id: str | None = None
    stp_mode: str | None = None

    @property
    def is_conditional(self) -> bool:
        """Waits for a price before it is worked at all."""
        return self.type in CONDITIONAL

    @property
    def has_limit(self) -> bool:
        """Trades at its price or better, and nowhere else."""
        return self.type in (LIMIT, "STOP", "TAKE_PROFIT")

    @property
    def is_closing(self) -> bool:
        """Can only make a position smaller: reduce-only, close-all, or against its own side in hedge mode."""
        against_its_side = (self.side, self.position_side) in ((SELL, LONG), (BUY, SHORT))
        return self.reduce_only or self.close_position or against_its_side

    @property
    def sign(self) -> int:
        """1 to buy, -1 to sell."""
        return 1 if self.side == BUY else -1


@dataclass(frozen=True, kw_only=True)
class Order(NewOrder):
    """An order that the exchange took.

    Parameters
    ----------
    original_type : the type that was asked for; ``type`` differs from it once a conditional order was triggered.
    filled, filled_notional : base units and USDT.
    ahead : base units that others have resting before it at its price.
    extreme : the best price for a trailing stop since it became active; None while it is not.
    created_ms, updated_ms : milliseconds since 1970.
    """

    order_id: int
    original_type: str
    status: str = NEW
    filled: Decimal = ZERO
    filled_notional: Decimal = ZERO
    ahead: Decimal = ZERO
    extreme: Decimal | None = None
    created_ms: int
    updated_ms: int

    @property
    def is_open(self) -> bool:
        return self.status not in FINISHED

    @property
    def is_resting(self) -> bool:
        """In the book, at its price."""
        return self.is_open and self.type == LIMIT

    @property
    def left(self) -> Decimal:
        """What may still be filled; 0 of a close-all order, which has no quantity before it is triggered."""
        return ZERO if self.quantity is None else self.quantity - self.filled

    @property
    def average_price(self) -> Decimal:
        """0 before the first fill."""
        return self.filled_notional / self.filled if self.filled else ZERO


def taken(asked: NewOrder, order_id: int, client_id: str, now_ms: int) -> Order:
    """An order as it begins."""
    told = {field.name: getattr(asked, field.name) for field in fields(NewOrder)} | {"client_id": client_id}
    return Order(**told, order_id=order_id, original_type=asked.type, created_ms=now_ms, updated_ms=now_ms)


@dataclass(frozen=True, kw_only=True)
class Fill:
    """A trade of the account.

    Parameters
    ----------
    commission_usdt : paid; negative for a rebate.
    realised_usdt : what the closed part of a position made, before commission.
    """

    trade_id: int
    order_id: int
    symbol: str
    side: str
    position_side: str
    price: Decimal
    quantity: Decimal
    commission_usdt: Decimal
    realised_usdt: Decimal
    is_maker: bool
    time_ms: int

    @property
    def notional(self) -> Decimal:
        return self.price * self.quantity
