"""Orders and what a broker says back about them, with the names that find them again. Pure: no clock, no I/O.

A client order id names its decision: the same decision after a crash gives the same id, so an order whose fate is
unknown is found by asking for it, never by sending it again.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from research.fills import LIQUIDATION, STOP, TARGET, TRAILING, Levels

OWNER = "wb"  # our prefix: no order without it is ever touched
MAX_NAME = 28  # Aster futures API, clientStrategyId; newClientOrderId takes 36
_NO_LEVELS = Levels(math.nan, math.nan, math.nan, math.nan)
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_NAME = re.compile(rf"{OWNER}([A-Za-z0-9]{{3}})-([.A-Z:/a-z0-9_]+)-([1-9a-z][0-9a-z]*)?([A-Z])(0|[1-9a-z][0-9a-z]*)")


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


class OrderName(NamedTuple):
    """What a client order id says: whose order it is, of which decision, what it is for, which attempt."""

    instance: str
    trade_id: str
    leg: Leg
    attempt: int = 0
    tranche: int = 0


def client_order_id(instance: str, trade_id: str, leg: Leg, attempt: int = 0, tranche: int = 0) -> str:
    """Name of one order: ``wb<instance>-<trade_id>-<tranche><leg><attempt>``, at most 28 characters.

    Parameters
    ----------
    instance : three characters that tell one runner's orders from another's.
    trade_id : of ``research.trades.trade_id``.
    attempt : counts from 0, written in base 36.
    tranche : the same, of a position that is built in parts; the first is not written.
    """
    if len(instance) != 3 or not (instance.isascii() and instance.isalnum()):
        raise ValueError(f"an instance is three ASCII letters or digits, such as rpl; got {instance!r}")
    part = _base36(tranche) if tranche else ""
    name = f"{OWNER}{instance}-{trade_id}-{part}{leg.value}{_base36(attempt)}"
    if len(name) > MAX_NAME:
        raise ValueError(f"client order id {name!r} is longer than {MAX_NAME} characters; shorten its trade_id")
    if order_name(name) is None:
        raise ValueError(f"client order id {name!r} cannot be read back; a trade_id has letters, digits and . : / _")
    return name


def order_name(client_order_id: str) -> OrderName | None:
    """What an id says; None for an id that is not ours, the exchange's own included."""
    told = _NAME.fullmatch(client_order_id)
    if told is None or told[4] not in tuple(Leg):
        return None
    return OrderName(told[1], told[2], Leg(told[4]), int(told[5], 36), int(told[3] or "0", 36))


def next_attempt(known: Iterable[str], trade_id: str, leg: Leg, tranche: int = 0) -> int:
    """The attempt after all that are known, whoever sent them.

    An id is unique among open orders only (Aster futures API, newClientOrderId): one that was used up is never used
    again. So ``known`` names the journal's orders and those the exchange remembers.
    """
    names = [name for name in map(order_name, known) if name is not None]
    same = [name.attempt for name in names if (name.trade_id, name.leg, name.tranche) == (trade_id, leg, tranche)]
    return max(same, default=-1) + 1


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
    """Order that opens a position: immediate-or-cancel, some ticks beyond the touch seen at decision, or resting.

    Attributes
    ----------
    side : 1 buys, -1 sells.
    quantity : base units.
    decision_price : the touch seen at decision, that the limit is counted from; where it rests, if it does.
    levels : of its exits, if it were filled there.
    lifetime_ms : of an order that rests, from its arrival on; 0 of one that takes.
    """

    client_order_id: str
    trade_id: str
    row: RowKey
    side: int
    quantity: float
    decision_price: float
    levels: Levels = _NO_LEVELS
    lifetime_ms: int = 0


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
class CloseOrder:
    """Market order that takes a position out before its exits do."""

    client_order_id: str
    leg: Leg  # CLOSE or FLATTEN
    reason: str  # operator or risk


@dataclass(frozen=True, kw_only=True)
class CancelEntry:
    """Takes back an entry that rests."""

    client_order_id: str


Instruction = EntryOrder | ExitOrders | CloseOrder | CancelEntry  # what a broker is handed


@dataclass(frozen=True, kw_only=True)
class CloseAsked:
    """The operator or a limit wants the symbol flat: what is held is closed, and what an order on its way brings."""

    time_ms: int
    leg: Leg
    reason: str


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
    """The entry order expired without a fill.

    Attributes
    ----------
    row : of one that rested, the last whose order had met the market when it expired; None of one that never did.
    """

    time_ms: int
    client_order_id: str
    row: RowKey | None = None


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
