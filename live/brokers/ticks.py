"""The paper broker at tick resolution: exits on the trade or mark that triggers them, as in ``research.ticks``."""

import math

from live.brokers.paper import entry_report
from live.feed import Event, ExecutionOpen, FundingDue, Marked, Quoted, Traded
from live.orders import (
    LEG_OF_REASON,
    CancelEntry,
    CloseOrder,
    EntryFilled,
    EntryMissed,
    EntryOrder,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Instruction,
    Report,
    RowKey,
)
from research.fills import (
    OPEN,
    REASONS,
    Terms,
    Trailing,
    fee_usdt,
    funding_paid_usdt,
)
from research.resting import is_passed, would_take
from research.tick_fills import exit_on_mark, exit_on_trade, exit_price_at_tick, stop_watches_last

NS_PER_MS = 1_000_000


class TickBroker:
    """Orders of one symbol at tick resolution, flat and without orders at the start."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._entry: EntryOrder | None = None
        self._resting: EntryOrder | None = None
        self._until_ms = 0  # that it rests
        self._exits: ExitOrders | None = None
        self._close: CloseOrder | None = None
        self._trailing = Trailing(math.nan, False)
        self._row: RowKey | None = None  # the last whose order met the market
        self._half_spread_bps = math.nan
        self._trade: Traded | None = None
        self._quote: Quoted | None = None
        self._mark_ns: int | None = None

    def place(self, order: Instruction) -> None:
        """Accept an order; it meets the market with the next event."""
        if isinstance(order, CancelEntry):
            self._resting, self._entry, self._until_ms = self._resting or self._entry, None, 0
        elif isinstance(order, CloseOrder):
            assert self._exits is not None, "there is nothing to close"
            self._close = order
        elif isinstance(order, EntryOrder):
            assert self._entry is self._resting is self._exits is None, "one position at a time"
            self._entry = order
        else:
            self._exits = order
            self._trailing = Trailing(math.nan, False)

    def on(self, event: Event) -> list[Report]:
        """What the event did to the orders, in the order it happened."""
        if self._resting is not None and _ns_of(event) > self._until_ms * NS_PER_MS:
            return [self._expired(), *self._met(event)]
        return self._met(event)

    def _met(self, event: Event) -> list[Report]:
        match event:
            case Traded():
                return self._on_trade(event)
            case Quoted():
                self._quote = event
                if self._close is not None:
                    return [self._exit(self._exits, OPEN, event.recv_ns)]
            case Marked():
                return self._on_mark(event)
            case FundingDue():
                return self._on_funding(event)
            case ExecutionOpen():
                return self._on_open(event)
        return []

    def _on_open(self, event: ExecutionOpen) -> list[Report]:
        self._row, self._half_spread_bps = event.row, float(event.market.half_spread_bps[0])
        order, self._entry = self._entry, None
        if order is None:
            return []
        if not order.lifetime_ms:
            return [entry_report(order, event, self._terms)]
        opposite = (event.market.exec_ask if order.side > 0 else event.market.exec_bid)[0]
        last_price, tick_size = event.market.exec_open[0], self._terms.tick_size
        if math.isnan(last_price) or would_take(order.side, order.decision_price, opposite, last_price, tick_size):
            return [EntryMissed(time_ms=event.time_ms, client_order_id=order.client_order_id)]
        self._resting, self._until_ms = order, event.time_ms + order.lifetime_ms
        return []

    def _expired(self) -> EntryMissed:
        """The entry has rested long enough, or was taken back."""
        order, self._resting = self._resting, None
        return EntryMissed(time_ms=self._until_ms, client_order_id=order.client_order_id, row=self._row)

    def _passed(self, order: EntryOrder, trade: Traded) -> list[Report]:
        """What a trade does to an entry that rests."""
        if not is_passed.py_func(order.side, order.decision_price, trade.price, self._terms.tick_size):
            return []
        self._resting = None
        return [
            EntryFilled(
                time_ms=-(-trade.recv_ns // NS_PER_MS),
                client_order_id=order.client_order_id,
                price=order.decision_price,
                quantity=order.quantity,
                fee_usdt=fee_usdt(order.decision_price, order.quantity, self._terms.maker_fee_bps),
            )
        ]

    def _on_trade(self, trade: Traded) -> list[Report]:
        self._trade = trade
        if self._resting is not None:
            return self._passed(self._resting, trade)
        position = self._exits
        if position is None:
            return []
        if self._close is not None:
            return [self._exit(position, OPEN, trade.recv_ns)]
        # Plain Python gives the compiled bits, and a call of it is cheaper.
        mark_age_ms = math.nan if self._mark_ns is None else (trade.recv_ns - self._mark_ns) / 1e6
        watch_stop = stop_watches_last.py_func(mark_age_ms)
        reason, self._trailing = exit_on_trade.py_func(
            position.side, position.levels, self._trailing, trade.price, watch_stop
        )
        return [] if reason == OPEN else [self._exit(position, reason, trade.recv_ns)]

    def _on_mark(self, mark: Marked) -> list[Report]:
        self._mark_ns = mark.recv_ns
        position = self._exits
        if position is None:
            return []
        if self._close is not None:
            return [self._exit(position, OPEN, mark.recv_ns)]
        reason = exit_on_mark.py_func(position.side, position.levels, mark.mark)
        return [] if reason == OPEN else [self._exit(position, reason, mark.recv_ns)]

    def _on_funding(self, funding: FundingDue) -> list[Report]:
        position = self._exits
        if position is None:
            return []
        paid = funding_paid_usdt.py_func(position.side, position.quantity, funding.per_unit)
        return [] if paid == 0.0 else [FundingPaid(time_ms=funding.time_ms, row=self._row, paid_usdt=paid)]

    def _exit(self, position: ExitOrders, reason: int, recv_ns: int) -> ExitFilled:
        """The market order that an exit order becomes; ``OPEN``: the one that was sent to close."""
        bid = ask = quote_age_ms = math.nan
        if self._quote is not None:
            bid, ask, quote_age_ms = self._quote.bid, self._quote.ask, (recv_ns - self._quote.recv_ns) / 1e6
        price = exit_price_at_tick(
            position.side,
            reason,
            position.levels,
            bid,
            ask,
            quote_age_ms,
            self._trade.price,
            self._half_spread_bps,
            self._terms.slippage_bps,
        )
        close, self._exits, self._close = self._close, None, None
        leg, why = (LEG_OF_REASON[reason], REASONS[reason]) if close is None else (close.leg, close.reason)
        time_ms = -(-recv_ns // NS_PER_MS)
        return ExitFilled(
            time_ms=time_ms,
            filled_ms=time_ms,
            row=self._row,
            client_order_id=position.name_of(leg) if close is None else close.client_order_id,
            leg=leg,
            reason=why,
            price=price,
            quantity=position.quantity,
            fee_usdt=fee_usdt(price, position.quantity, self._terms.taker_fee_bps),
        )


def _ns_of(event: Event) -> int:
    """When it happens, in ns since 1970."""
    return event.recv_ns if isinstance(event, Traded | Quoted | Marked) else event.time_ms * NS_PER_MS
