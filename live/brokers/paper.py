"""A broker that fills from the market events themselves, by ``research.fills``: what the backtest gets, replay gets.

At bar resolution; ``live.brokers.ticks`` is its like at tick resolution. One object is the exchange's side of one
(config, symbol): it holds the orders sent to it and answers market events with reports. It keeps no position of ours;
the runner does.
"""

import math

from live.feed import Event, ExecutionBar, ExecutionOpen
from live.orders import (
    LEG_OF_REASON,
    AmbiguousBar,
    CloseOrder,
    EntryFilled,
    EntryMissed,
    EntryOrder,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Report,
)
from research.fills import (
    OPEN,
    REASONS,
    Exit,
    Terms,
    Trailing,
    entry_price,
    exit_in_bar,
    fee_usdt,
    funding_paid_usdt,
)
from research.liquidation import exit_price
from research.resting import rests


def entry_report(order: EntryOrder, event: ExecutionOpen, terms: Terms) -> EntryFilled | EntryMissed:
    """What became of an entry order that met the market."""
    assert order.row == event.row, f"the order of row {order.row} met the market of row {event.row}"
    price = entry_price(order.side, 0, event.market, terms)
    if math.isnan(price):
        return EntryMissed(time_ms=event.time_ms, client_order_id=order.client_order_id)
    return EntryFilled(
        time_ms=event.time_ms,
        client_order_id=order.client_order_id,
        price=price,
        quantity=order.quantity,
        fee_usdt=fee_usdt(price, order.quantity, terms.taker_fee_bps),
    )


class PaperBroker:
    """Orders of one symbol at bar resolution, flat and without orders at the start.

    Raises
    ------
    ValueError
        When entries rest.
    """

    def __init__(self, terms: Terms) -> None:
        if rests(terms):
            raise ValueError(
                "orders.resting: a runner lets entries rest at tick resolution only; give --resolution tick, and let "
                "backtests and sweeps go by bars"
            )
        self._terms = terms
        self._entry: EntryOrder | None = None
        self._exits: ExitOrders | None = None
        self._close: CloseOrder | None = None
        self._trailing = Trailing(math.nan, False)
        self._last_open = math.nan

    def place(self, order: EntryOrder | ExitOrders | CloseOrder) -> None:
        """Accept an order; it meets the market with the next event, one that closes with the next window."""
        if isinstance(order, CloseOrder):
            assert self._exits is not None, "there is nothing to close"
            self._close = order
        elif isinstance(order, EntryOrder):
            assert self._entry is None and self._exits is None, "one position at a time"
            self._entry = order
        else:
            self._exits = order
            self._trailing = Trailing(self._last_open, False)

    def on(self, event: Event) -> list[Report]:
        """What the event did to the orders, in the order it happened."""
        if isinstance(event, ExecutionOpen):
            return self._on_open(event)
        if isinstance(event, ExecutionBar):
            return self._on_bar(event)
        return []

    def _on_open(self, event: ExecutionOpen) -> list[Report]:
        self._last_open = float(event.market.exec_open[0])
        order, self._entry = self._entry, None
        if self._close is not None and not math.isnan(self._last_open):
            return [self._exit_fill(self._exits, Exit(OPEN, self._last_open, True, False, self._trailing), event)]
        if order is None:
            return []
        return [entry_report(order, event, self._terms)]

    def _on_bar(self, event: ExecutionBar) -> list[Report]:
        position, market = self._exits, event.market
        if position is None:
            return []
        exit_ = Exit(OPEN, math.nan, False, False, self._trailing)
        if not math.isnan(market.exec_open[0]):
            exit_ = exit_in_bar(position.side, position.levels, self._trailing, 0, market)
            self._trailing = Trailing(*exit_.trailing)
        reports: list[Report] = []
        if exit_.is_ambiguous:
            reports.append(AmbiguousBar(time_ms=event.time_ms, row=event.row))
        # An exit at the open came before every funding event of the window.
        paid = 0.0 if exit_.at_open else funding_paid_usdt(position.side, position.quantity, market.funding_per_unit[0])
        if paid != 0.0:
            reports.append(FundingPaid(time_ms=event.time_ms, row=event.row, paid_usdt=paid))
        if exit_.reason != OPEN:
            reports.append(self._exit_fill(position, exit_, event))
        return reports

    def _exit_fill(self, position: ExitOrders, exit_: Exit, event: ExecutionBar | ExecutionOpen) -> ExitFilled:
        """What ended the position; ``OPEN``: the order that was sent to close."""
        half_spread_bps = event.market.half_spread_bps[0]
        if exit_.reason == OPEN:
            leg, why, name, filled_ms = self._close.leg, self._close.reason, self._close.client_order_id, event.time_ms
        else:
            leg, why = LEG_OF_REASON[exit_.reason], REASONS[exit_.reason]
            name, filled_ms = position.name_of(leg), event.opened_ms if exit_.at_open else event.time_ms - 1
        self._exits = self._close = None
        price = exit_price(position.side, exit_, half_spread_bps, self._terms.slippage_bps)
        return ExitFilled(
            time_ms=event.time_ms,
            filled_ms=filled_ms,
            row=event.row,
            client_order_id=name,
            leg=leg,
            reason=why,
            price=price,
            quantity=position.quantity,
            fee_usdt=fee_usdt(price, position.quantity, self._terms.taker_fee_bps),
        )
