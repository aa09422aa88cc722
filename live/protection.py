"""What an open position needs next: stop before target before trailing; a way out where the stop is refused. Pure.

``next_steps`` looks at what is known and says what is missing. It remembers nothing: the same knowledge gives the same
steps after a crash, after a lost answer, in any order of events, and once they are taken it asks for nothing more.

Every order leaves by itself: a batch keeps no order, and without an answer it would put the stop in doubt too.

An entry is never repeated. One that rests is taken back when its life is over, or nobody wants more of it; what it
fills has its stop from the first part on. An exit can only make the position smaller, so it may be repeated: when the
exchange has been asked and does not know it, the next attempt goes out under a new name, and if both arrive the second
finds nothing to close.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from live import exchange_orders
from live.exchange_orders import Contract, Place
from live.order_answers import NOTHING_TO_CLOSE, STANDS_ALREADY, WOULD_TRIGGER
from live.order_evidence import ZERO, OrderSeen, PositionSeen
from live.order_state import Order, Status
from live.orders import Leg, client_order_id, next_attempt
from research.fills import Levels

REPEAT_AFTER_MS = 1_000  # a stop that the exchange did not know by then is sent under a new name
RETRY_MS = 1_000  # between attempts to close
_STOP_REFUSALS = 2  # the second is answered with a close
_EXITS = (Leg.STOP, Leg.TARGET, Leg.TRAILING)
_CLOSES = (Leg.CLOSE, Leg.FLATTEN)


class Phase(StrEnum):
    """How far a trade is."""

    ENTERING = "entering"  # nothing is held yet, an order may bring it
    NAKED = "naked"  # held without a stop that the exchange confirmed
    GUARDED = "guarded"  # the stop stands
    CLOSING = "closing"  # a market order takes it out
    EMPTYING = "emptying"  # our fills add up to nothing; the exchange has not said so yet, or exits still stand
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """The last that the exchange said of a position, on the stream and when asked; None: nothing yet."""

    streamed: PositionSeen | None = None
    asked: PositionSeen | None = None

    def heard(self, seen: PositionSeen) -> "Amounts":
        """With one more word, unless it is older."""
        if seen.asked_ms is None:
            is_newer = self.streamed is None or seen.told_ms >= self.streamed.told_ms
            return Amounts(streamed=seen if is_newer else self.streamed, asked=self.asked)
        is_newer = self.asked is None or seen.asked_ms >= self.asked.asked_ms
        return Amounts(streamed=self.streamed, asked=seen if is_newer else self.asked)

    def are_zero_since(self, told_ms: int) -> bool:
        """Both say that nothing is held, and both know what happened up to then (exchange's clock)."""
        return len(self.words) == 2 and all(word.amount == 0 and word.told_ms >= told_ms for word in self.words)

    @property
    def words(self) -> list[PositionSeen]:
        """Those that there are."""
        return [word for word in (self.streamed, self.asked) if word is not None]


@dataclass(frozen=True, kw_only=True)
class Trade:
    """One decision and all that came of it.

    Attributes
    ----------
    side : 1 long, -1 short.
    levels : of its exit orders, as the trader planned them; none before an entry that takes has filled.
    orders : by client order id; liquidations of the exchange among them.
    adjustment : base units that reconciliation found without an order of ours that explains them; signed like ``side``.
    close_because : why it is to be closed; None while it is not.
    entry_lifetime_ms : of an entry that rests, from when it was sent; 0 of one that ends by itself.
    is_withdrawn : no more of the entry is wanted than it has filled.
    """

    instance: str
    trade_id: str
    symbol: str
    side: int
    tranche: int = 0
    levels: Levels | None = None
    orders: Mapping[str, Order] = field(default_factory=dict)
    amounts: Amounts = Amounts()
    adjustment: Decimal = ZERO
    close_because: str | None = None
    entry_lifetime_ms: int = 0
    is_withdrawn: bool = False

    @property
    def quantity(self) -> Decimal:
        """Base units held, by our fills."""
        signed = (order.filled if order.leg is Leg.ENTRY else -order.filled for order in self.orders.values())
        return sum(signed, self.adjustment)

    @property
    def told_ms(self) -> int:
        """Exchange's clock at its last fill."""
        return max((trade.time_ms for order in self.orders.values() for trade in order.trades), default=0)

    @property
    def is_flat(self) -> bool:
        """The exchange says zero on the stream and when asked, after our last fill; and no entry may come any more."""
        if self.may_grow or any(order.owes_trades for order in self.of(Leg.ENTRY)):
            return False
        return self.quantity == 0 and self.amounts.are_zero_since(self.told_ms)

    @property
    def phase(self) -> Phase:
        """How far it is."""
        if self.quantity == 0:
            if self.may_grow:
                return Phase.ENTERING
            was_held = any(order.filled for order in self.orders.values()) or bool(self.adjustment)
            is_over = self.is_flat if was_held else True
            stands = any(order.may_fill for order in self.orders.values())
            return Phase.OVER if is_over and not stands else Phase.EMPTYING
        if self.is_closing:
            return Phase.CLOSING
        return Phase.GUARDED if any(order.is_standing for order in self.of(Leg.STOP)) else Phase.NAKED

    @property
    def may_grow(self) -> bool:
        """An entry stands, or may yet come to stand."""
        return any(order.may_fill for order in self.of(Leg.ENTRY))

    @property
    def entry_ends_ms(self) -> int | None:
        """When the life of an entry that rests is over, our clock; None where none has left."""
        sent_ms = [order.sent_ms for order in self.of(Leg.ENTRY) if order.sent_ms is not None]
        return max(sent_ms) + self.entry_lifetime_ms if self.entry_lifetime_ms and sent_ms else None

    @property
    def is_closing(self) -> bool:
        """A market order takes it out, or is to."""
        return self.close_because is not None or bool(self.of(Leg.CLOSE) + self.of(Leg.FLATTEN))

    def still_holds(self, order: Order) -> bool:
        """The exchange was asked after an order left, and holds something."""
        asked = self.amounts.asked
        return asked is not None and asked.asked_ms > (order.sent_ms or 0) and asked.amount * self.side > 0

    def may_be_closed_by(self, seen: OrderSeen) -> bool:
        """Whether an order of the exchange's own is of this trade's time: one of a trade before it is told again."""
        entries = self.of(Leg.ENTRY)
        held_ms = [fill.time_ms for order in entries for fill in order.trades]
        held_ms = held_ms or [order.told_ms for order in entries if order.filled]
        if not entries:  # taken over
            held_ms = [word.told_ms for word in self.amounts.words if word.amount]
        is_way_out = seen.is_forced and (seen.symbol, seen.side) == (self.symbol, -self.side)
        return is_way_out and bool(held_ms) and seen.told_ms >= min(held_ms)

    def of(self, leg: Leg) -> list[Order]:
        """Its orders of one kind, by attempt."""
        return sorted((order for order in self.orders.values() if order.leg is leg), key=_attempt)


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """An order of ours to take back."""

    client_order_id: str
    symbol: str


@dataclass(frozen=True, kw_only=True)
class AskPosition:
    """The exchange has to be asked what it holds: nothing is closed, or given up, on our fills alone."""

    symbol: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a human should know.

    Attributes
    ----------
    kind : one of a few words, such as exit_refused; what alerts are sorted by.
    is_urgent : the position is not protected as planned.
    """

    kind: str
    symbol: str
    detail: str
    is_urgent: bool = False


Step = Place | Cancel | AskPosition | Finding


def next_steps(trade: Trade, contract: Contract, mark_price: float, now_ms: int) -> list[Step]:
    """What to do about a trade now, most urgent first.

    Parameters
    ----------
    mark_price : USDT; NaN where unknown.
    """
    steps = _protected(trade, contract, mark_price, now_ms) if trade.quantity else _tidied(trade)
    return [*_taken_back(trade, steps, now_ms), *steps]


def with_orders(trade: Trade, orders: Iterable[Order]) -> dict[str, Order]:
    """The trade's orders with some added or as they are now."""
    return {**trade.orders, **{order.client_order_id: order for order in orders}}


def _taken_back(trade: Trade, steps: Iterable[Step], now_ms: int) -> list[Step]:
    """Cancels the rest of an entry that nobody wants any more.

    As soon as an exit has filled something: the rest would open again what is being closed. And while the fate of an
    order is unknown, for nothing may grow then.
    """
    exits = [order for order in trade.orders.values() if order.leg is not Leg.ENTRY]
    has_triggered = any(order.filled or order.status is Status.EXPIRED for order in exits)
    is_closing = trade.is_closing or any(isinstance(step, Place) and step.leg in _CLOSES for step in steps)
    is_in_doubt = any(order.status is Status.UNKNOWN for order in exits)
    is_over = trade.entry_ends_ms is not None and now_ms >= trade.entry_ends_ms
    if not (trade.is_withdrawn or has_triggered or is_closing or is_in_doubt or is_over):
        return []
    return _cancels(order for order in trade.of(Leg.ENTRY) if order.is_standing)


def _protected(trade: Trade, contract: Contract, mark_price: float, now_ms: int) -> list[Step]:
    """What a position needs."""
    quantity = trade.quantity
    if quantity < 0:
        detail = f"{trade.trade_id} sold {-quantity} more than it held"
        return [
            AskPosition(symbol=trade.symbol),
            Finding(kind="oversold", symbol=trade.symbol, detail=detail, is_urgent=True),
        ]
    if trade.is_closing:
        return _closing(trade, contract, now_ms)
    if trade.levels is None:
        return [_urgent(trade, "no_plan", "the trader has not said where its exits lie")]
    exits = [order for leg in _EXITS for order in trade.of(leg)]
    if any(order.status is Status.PARTIALLY_FILLED for order in exits):
        return []  # one has triggered and is at work
    if any(order.status in (Status.FILLED, Status.EXPIRED) for order in exits):
        steps, reason = [], "an exit triggered and left a part"
    elif any(order.is_standing for order in trade.of(Leg.STOP)):
        steps, reason = _targeted(trade, contract)
    else:
        steps, reason = _stopped(trade, contract, mark_price)
    if reason is not None:
        return [*_closing(trade, contract, now_ms), _urgent(trade, "closing", reason)]
    return steps


def _tidied(trade: Trade) -> list[Step]:
    """Nothing is held by our fills: wait for the exchange to say so, then take back what still stands."""
    exits = [order for order in trade.orders.values() if order.leg is not Leg.ENTRY]
    leftovers = _cancels(order for order in exits if order.is_standing)
    if not any(order.filled for order in trade.orders.values()) and not leftovers:
        return []
    if not trade.is_flat:
        return [] if trade.may_grow else [AskPosition(symbol=trade.symbol)]
    return leftovers


def _stopped(trade: Trade, contract: Contract, mark_price: float) -> tuple[list[Step], str | None]:
    """What the stop needs that does not stand, or why to close instead."""
    stops = trade.of(Leg.STOP)
    if stops and stops[-1].is_pending and not _may_repeat(stops[-1]):
        return [], None
    refused = [order for order in stops if order.status is Status.REJECTED]
    if refused and refused[-1].refusal.code in STANDS_ALREADY and any(order.is_pending for order in stops):
        return [], None  # that one is asked for
    if len(refused) >= _STOP_REFUSALS or any(order.refusal.code in WOULD_TRIGGER for order in refused):
        return [], f"the stop was refused: {refused[-1].refusal.code} {refused[-1].refusal.message}"
    if math.isnan(trade.levels.stop):
        return [], "there is no stop in the plan"
    if trade.side * (mark_price - trade.levels.stop) <= 0.0:
        return [], "the mark is beyond the stop already"
    return [exchange_orders.stop(contract, _name(trade, Leg.STOP), trade.side, trade.levels.stop)], None


def _targeted(trade: Trade, contract: Contract) -> tuple[list[Step], str | None]:
    """What target and trailing order need while the stop stands, or why to close instead. Refused, they stay away."""
    levels, targets = trade.levels, trade.of(Leg.TARGET)
    if targets and targets[-1].status is Status.REJECTED and targets[-1].refusal.code in WOULD_TRIGGER:
        return [], "the target was reached before it stood"
    if not math.isnan(levels.target) and (not targets or targets[-1].status is Status.LOST):
        return [exchange_orders.target(contract, _name(trade, Leg.TARGET), trade.side, levels.target)], None
    if targets and targets[-1].is_pending:
        return [], None
    findings = [_refused(trade, order) for order in targets if order.status is Status.REJECTED]
    return [*findings, *_trailed(trade, contract)], None


def _trailed(trade: Trade, contract: Contract) -> list[Step]:
    """The trailing order, as large as the position; one of another size is replaced, the new one first.

    While an entry rests it keeps the size of the first part: every part would move two orders. It closes all the same,
    for what an exit leaves is closed.
    """
    levels, orders = trade.levels, trade.of(Leg.TRAILING)
    if math.isnan(levels.activation) or math.isnan(levels.callback_bps):
        return []
    if orders and orders[-1].is_pending:
        return []
    if orders and orders[-1].status is Status.REJECTED:
        was_reached = orders[-1].refusal.code in WOULD_TRIGGER
        was_tried = len(orders) > 1 and orders[-2].status is Status.REJECTED
        if not was_reached or was_tried:
            return [_refused(trade, orders[-1])]
        # The price has passed the activation: it follows from now on.
        return [_trailing(trade, contract, None)]
    is_small = bool(orders) and orders[-1].quantity != trade.quantity and not trade.may_grow
    if not orders or orders[-1].status is Status.LOST or is_small:
        return [_trailing(trade, contract, levels.activation)]
    return _cancels(order for order in orders[:-1] if order.is_standing)


def _closing(trade: Trade, contract: Contract, now_ms: int) -> list[Step]:
    """A market order for all that is held, again and again until the exchange says zero. The stop stays meanwhile."""
    closes, flattens = trade.of(Leg.CLOSE), trade.of(Leg.FLATTEN)
    attempts = [*closes, *flattens]
    if trade.quantity < contract.min_quantity:
        return [_urgent(trade, "dust", f"{trade.quantity} is less than the exchange closes")]
    if not attempts:
        return [exchange_orders.close(contract, _name(trade, Leg.CLOSE), Leg.CLOSE, trade.side, trade.quantity)]
    last = attempts[-1]
    if last.may_fill and not _may_repeat(last):
        return []
    if last.status is Status.REJECTED and last.refusal.code in NOTHING_TO_CLOSE and not trade.still_holds(last):
        return [AskPosition(symbol=trade.symbol)]
    if last.sent_ms is not None and now_ms < last.sent_ms + RETRY_MS:
        return []
    leg = Leg.FLATTEN if flattens or last.status is Status.REJECTED else Leg.CLOSE
    steps: list[Step] = [exchange_orders.close(contract, _name(trade, leg), leg, trade.side, trade.quantity)]
    if last.status is Status.REJECTED:
        steps.append(_urgent(trade, "close_refused", f"{last.refusal.code} {last.refusal.message}"))
    return steps


def _cancels(orders: Iterable[Order]) -> list[Step]:
    """Those that are not being taken back already."""
    return [
        Cancel(client_order_id=order.client_order_id, symbol=order.symbol)
        for order in orders
        if not order.is_cancelling
    ]


def _may_repeat(order: Order) -> bool:
    """The exchange was asked for an exit long enough after it left, and does not know it."""
    if order.status is not Status.UNKNOWN or order.sent_ms is None or order.denied_ms is None:
        return False
    return order.denied_ms >= order.sent_ms + REPEAT_AFTER_MS


def _trailing(trade: Trade, contract: Contract, activation: float | None) -> Place:
    name, levels = _name(trade, Leg.TRAILING), trade.levels
    return exchange_orders.trailing(contract, name, trade.side, trade.quantity, levels.callback_bps, activation)


def _name(trade: Trade, leg: Leg) -> str:
    """Of the next attempt."""
    attempt = next_attempt(trade.orders, trade.trade_id, leg, trade.tranche)
    return client_order_id(trade.instance, trade.trade_id, leg, attempt, trade.tranche)


def _attempt(order: Order) -> int:
    return 0 if order.name is None else order.name.attempt


def _refused(trade: Trade, order: Order) -> Finding:
    detail = f"{order.client_order_id}: {order.refusal.code} {order.refusal.message}; the stop stands"
    return Finding(kind="exit_refused", symbol=trade.symbol, detail=detail)


def _urgent(trade: Trade, kind: str, detail: str) -> Finding:
    return Finding(kind=kind, symbol=trade.symbol, detail=f"{trade.trade_id}: {detail}", is_urgent=True)
