"""One order of ours: everything known of it, whoever said it and in whatever order it was heard. Pure.

What is known only grows. Statuses have a rank and the highest that was seen stands; fills are a set; how much is filled
and when something was last heard are maxima. So ``heard`` gives the same order for every sequence of the same evidence,
repeated or not: the answer that comes after its stream event, the event that comes three times, the list that is old.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from live.order_answers import NotFound, Refused, Unanswered
from live.order_evidence import ZERO, OrderSeen, TradeSeen
from live.orders import Leg, OrderName, order_name


class Status(StrEnum):
    """What is known of an order, least first. Those above REJECTED are the exchange's word, from CANCELED on its last.

    A refusal stands below NEW: what the exchange holds it has taken, whatever an answer said.
    """

    INTENT = "INTENT"  # in the journal, not sent
    SENT = "SENT"
    UNKNOWN = "UNKNOWN"  # sent, and nobody says what became of it
    LOST = "LOST"  # looked for until it could not come any more; it may still turn up
    REJECTED = "REJECTED"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    CANCELED = "CANCELED"  # also with fills
    EXPIRED = "EXPIRED"  # also with fills
    FILLED = "FILLED"


_RANKS = {status: rank for rank, status in enumerate(Status)}
_PENDING = (Status.INTENT, Status.SENT, Status.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The bytes of an order leave."""

    time_ms: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about an order leaves."""

    time_ms: int


@dataclass(frozen=True, kw_only=True)
class CancelSent:
    """The bytes of a cancellation leave."""

    time_ms: int


@dataclass(frozen=True, kw_only=True)
class CancelRefused:
    """A cancellation found no open order: it may have been filled."""

    asked_ms: int


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """``order_questions.is_lost`` held."""


Evidence = Sent | Asked | CancelSent | CancelRefused | GivenUp | OrderSeen | TradeSeen | Refused | Unanswered | NotFound


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is known of one order. Times are of our clock, except ``told_ms``; None: never.

    Attributes
    ----------
    side : 1 buys, -1 sells.
    quantity : base units, as meant; None of a close-all order.
    taken : base units, as the exchange has it: less where a closing order was cut down to its position.
    told_filled : the most that the exchange ever said.
    trades : by trade id, oldest first.
    told_ms : of the exchange's clock, when it last changed.
    sent_ms, doubted_ms : when it left; when its fate became unknown.
    asked_ms, denied_ms, open_ms : the last question; the last that found no such order; the last that found it open.
    cancel_sent_ms, cancel_refused_ms : the last of each.
    """

    client_order_id: str
    symbol: str
    side: int
    quantity: Decimal | None
    status: Status = Status.INTENT
    order_id: int | None = None
    taken: Decimal = ZERO
    told_filled: Decimal = ZERO
    trades: tuple[TradeSeen, ...] = ()
    told_ms: int = 0
    refusal: Refused | None = None
    sent_ms: int | None = None
    doubted_ms: int | None = None
    asked_ms: int | None = None
    denied_ms: int | None = None
    open_ms: int | None = None
    cancel_sent_ms: int | None = None
    cancel_refused_ms: int | None = None

    @property
    def name(self) -> OrderName | None:
        """What its id says; None of the exchange's own."""
        return order_name(self.client_order_id)

    @property
    def leg(self) -> Leg:
        """What it is for; the exchange's own orders liquidate."""
        return Leg.LIQUIDATION if self.name is None else self.name.leg

    @property
    def traded(self) -> Decimal:
        """Base units of the fills that are known one by one."""
        return sum((trade.quantity for trade in self.trades), ZERO)

    @property
    def filled(self) -> Decimal:
        """Base units."""
        return max(self.told_filled, self.traded)

    @property
    def owes_trades(self) -> bool:
        """More is filled than the known fills add up to."""
        return self.told_filled > self.traded

    @property
    def is_standing(self) -> bool:
        """The exchange holds it."""
        return self.status in (Status.NEW, Status.PARTIALLY_FILLED)

    @property
    def is_pending(self) -> bool:
        """It may yet be taken: about to be sent, sent, or nobody knows."""
        return self.status in _PENDING

    @property
    def may_fill(self) -> bool:
        """It stands, or may yet come to stand."""
        return self.is_standing or self.is_pending

    @property
    def is_cancelling(self) -> bool:
        """A cancellation left, and no later question found the order open."""
        return self.cancel_sent_ms is not None and not _is_later(self.open_ms, self.cancel_sent_ms)

    @property
    def average_price(self) -> Decimal | None:
        """Of the known fills, USDT; None before the first."""
        notional = sum((trade.price * trade.quantity for trade in self.trades), ZERO)
        return notional / self.traded if self.trades else None


def heard(order: Order, evidence: Evidence) -> Order:
    """The order with one more piece of evidence.

    Raises
    ------
    ValueError
        When the evidence is about another order.
    """
    match evidence:
        case Sent():
            return _raised(replace(order, sent_ms=_later(order.sent_ms, evidence.time_ms)), Status.SENT)
        case Unanswered():
            doubted_ms = min(evidence.told_ms, order.doubted_ms or evidence.told_ms)
            return _raised(replace(order, doubted_ms=doubted_ms), Status.UNKNOWN)
        case Refused():
            return _raised(replace(order, refusal=order.refusal or evidence), Status.REJECTED)
        case GivenUp():
            return _raised(order, Status.LOST)
        case Asked():
            return replace(order, asked_ms=_later(order.asked_ms, evidence.time_ms))
        case NotFound():
            return replace(order, denied_ms=_later(order.denied_ms, evidence.asked_ms))
        case CancelSent():
            return replace(order, cancel_sent_ms=_later(order.cancel_sent_ms, evidence.time_ms))
        case CancelRefused():
            return replace(order, cancel_refused_ms=_later(order.cancel_refused_ms, evidence.asked_ms))
        case OrderSeen():
            return _seen(order, evidence)
        case TradeSeen():
            return _traded(order, evidence)


def all_heard(order: Order, evidence: Iterable[Evidence]) -> Order:
    """The order with all of it."""
    for each in evidence:
        order = heard(order, each)
    return order


def forced(seen: OrderSeen) -> Order:
    """An order that the exchange made itself, to close a position of ours."""
    order = Order(client_order_id=seen.client_order_id, symbol=seen.symbol, side=seen.side, quantity=seen.quantity)
    return heard(order, seen)


def _seen(order: Order, seen: OrderSeen) -> Order:
    if (seen.client_order_id, seen.symbol) != (order.client_order_id, order.symbol):
        raise ValueError(f"expected order {order.client_order_id} of {order.symbol}, got {seen}")
    status = _exchange_status(seen.status)
    is_open = status in (Status.NEW, Status.PARTIALLY_FILLED)
    changed = replace(
        order,
        order_id=seen.order_id,
        taken=max(order.taken, seen.quantity),
        told_filled=max(order.told_filled, seen.filled),
        told_ms=max(order.told_ms, seen.told_ms),
        open_ms=_later(order.open_ms, seen.asked_ms) if is_open else order.open_ms,
    )
    return _raised(changed, status)


def _traded(order: Order, trade: TradeSeen) -> Order:
    if trade.client_order_id not in (None, order.client_order_id) or order.order_id not in (None, trade.order_id):
        raise ValueError(f"expected a fill of {order.client_order_id} ({order.order_id}), got {trade}")
    if any(trade.trade_id == known.trade_id for known in order.trades):
        return order
    trades = tuple(sorted((*order.trades, trade), key=lambda each: each.trade_id))
    told_ms = max(order.told_ms, trade.time_ms)
    return _raised(replace(order, order_id=trade.order_id, trades=trades, told_ms=told_ms), Status.NEW)


def _raised(order: Order, status: Status) -> Order:
    """The order with the higher of two statuses, as its fills have it where the exchange holds or held it."""
    status = max(order.status, status, key=_RANKS.__getitem__)
    if _RANKS[status] >= _RANKS[Status.NEW] and order.filled:
        if order.taken and order.filled >= order.taken:
            status = Status.FILLED
        elif status is Status.NEW:
            status = Status.PARTIALLY_FILLED
    return replace(order, status=status)


def _exchange_status(text: str) -> Status:
    """In our words; an order with a status that we do not know is one that the exchange holds."""
    exchange_words = {status.value: status for status in Status if _RANKS[status] >= _RANKS[Status.REJECTED]}
    return exchange_words.get(text, Status.NEW)


def _later(known_ms: int | None, time_ms: int | None) -> int | None:
    return max((each for each in (known_ms, time_ms) if each is not None), default=None)


def _is_later(time_ms: int | None, than_ms: int) -> bool:
    return time_ms is not None and time_ms > than_ms
