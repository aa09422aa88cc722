"""Orders and what a broker says back about them, with the names that find them again. Pure: no clock, no I/O.

A client order id names its decision: the same decision after a crash gives the same id, so an order whose fate is
unknown is found by asking for it, never by sending it again.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from research.fills import LIQUIDATION, STOP, TARGET, TRAILING, Levels

OWNER = "wb"  # our prefix: no order without it is ever touched
MAX_CLIENT_ORDER_ID = 36  # Aster futures API, newClientOrderId
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Leg(StrEnum):
    """What an order is for, as one letter of its client order id."""

    ENTRY = "E"
    STOP = "S"
    TARGET = "T"
    TRAILING = "R"
    CLOSE = "X"
    FLATTEN = "F"
    LIQUIDATION = "L"  # the exchange's own order


LEG_OF_REASON = {STOP: Leg.STOP, TARGET: Leg.TARGET, TRAILING: Leg.TRAILING, LIQUIDATION: Leg.LIQUIDATION}


class RowKey(NamedTuple):
    """The lake row a decision was made on: ``klines`` of the symbol with this interval and open_time."""

    interval: str
    open_ms: int


def client_order_id(instance: str, trade_id: str, leg: Leg, attempt: int = 0) -> str:
    """Name of one order: ``wb<instance>-<trade_id>-<leg><attempt>``, at most 36 characters.

    Parameters
    ----------
    instance : three characters that tell one runner's orders from another's.
    trade_id : of ``research.trades.trade_id``.
    attempt : counts from 0, written in base 36.
    """
    if len(instance) != 3 or not (instance.isascii() and instance.isalnum()):
        raise ValueError(f"an instance is three ASCII letters or digits, such as rpl; got {instance!r}")
    name = f"{OWNER}{instance}-{trade_id}-{leg.value}{_base36(attempt)}"
    if len(name) > MAX_CLIENT_ORDER_ID:
        raise ValueError(f"client order id {name!r} is longer than the exchange's {MAX_CLIENT_ORDER_ID} characters")
    return name


def _base36(count: int) -> str:
    if count < 0:
        raise ValueError(f"attempts count from 0; got {count}")
    digits = ""
    while count >= 36:
        count, last = divmod(count, 36)
        digits = _BASE36[last] + digits
    return _BASE36[count] + digits


@dataclass(frozen=True, kw_only=True)
class EntryOrder:
    """Immediate-or-cancel order that opens a position, limited to the touch seen at decision plus some ticks."""

    client_order_id: str
    trade_id: str
    row: RowKey
    side: int  # 1 buys, -1 sells
    quantity: float  # base


@dataclass(frozen=True, kw_only=True)
class ExitOrders:
    """Stop, target and trailing order of one position: side by side, the first to trigger cancels the others."""

    client_order_ids: dict[Leg, str]  # of the orders there are
    trade_id: str
    side: int  # of the position
    quantity: float  # base
    levels: Levels

    def name_of(self, leg: Leg) -> str:
        """Client order id of the order of a leg; the exchange names its own as Aster does."""
        return self.client_order_ids.get(leg, f"autoclose-{self.trade_id}")


@dataclass(frozen=True, kw_only=True)
class EntryFilled:
    """The entry order opened the position."""

    time_ms: int
    client_order_id: str
    price: float
    quantity: float
    fee_usdt: float


@dataclass(frozen=True, kw_only=True)
class EntryMissed:
    """The entry order expired without a fill."""

    time_ms: int
    client_order_id: str


@dataclass(frozen=True, kw_only=True)
class AmbiguousBar:
    """An execution bar that could not tell which exit came first, or whether one triggered at all."""

    time_ms: int
    row: RowKey


@dataclass(frozen=True, kw_only=True)
class FundingPaid:
    """Funding of one execution bar; received when negative, NaN where the rate is unknown."""

    time_ms: int
    row: RowKey
    paid_usdt: float


@dataclass(frozen=True, kw_only=True)
class ExitFilled:
    """One exit order closed the position; the exchange cancelled the others."""

    time_ms: int  # when we know
    filled_ms: int  # when it happened
    row: RowKey  # whose execution bar it was
    client_order_id: str
    leg: Leg
    reason: str
    price: float
    quantity: float
    fee_usdt: float


Report = EntryFilled | EntryMissed | AmbiguousBar | FundingPaid | ExitFilled
