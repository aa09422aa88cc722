"""What is known when an entry is about to leave, put together for ``live.gates``."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data.venues.aster_signed import ClockReading
from live.brokers.account_reader import Figures
from live.brokers.cases import Case, Cases
from live.exchange_orders import limit_of
from live.feed import Marked, Quoted
from live.gates import HOUR_MS, Moment
from live.order_evidence import ZERO
from live.orders import EntryOrder, Leg
from research.fills import Terms
from research.liquidation import liquidation_price

NS_PER_MS = 1_000_000


@dataclass(kw_only=True)
class Market:
    """The last that was heard of a symbol's market."""

    mark: Marked | None = None
    quote: Quoted | None = None

    @property
    def mark_price(self) -> float:
        return math.nan if self.mark is None else self.mark.mark


@dataclass(frozen=True, kw_only=True)
class Account:
    """What is known of the account and of the line to it. None: not yet."""

    figures: Figures | None
    clock: ClockReading | None
    is_reconciled: bool
    is_listening: bool
    is_trading: bool


def moment(
    order: EntryOrder,
    terms: Terms,
    markets: Mapping[str, Market],
    cases: Cases,
    account: Account,
    entries_ms: Iterable[int],
    symbol: str,
    now_ms: int,
) -> Moment:
    """Everything that the gates look at.

    Parameters
    ----------
    terms : with the account's brackets, where they are known.
    markets : of everything that is traded, by symbol.
    entries_ms : when entries of the symbol left.
    """
    market, limit = markets[symbol], limit_of(order, terms)
    notional = order.quantity * limit
    others = [case for case in cases.open() if case.trade.trade_id != order.trade_id]
    same = [case for case in others if case.trade.symbol == symbol]
    doubts = sum(each.is_pending for case in same for each in case.trade.orders.values())
    return Moment(
        time_ms=now_ms,
        symbol=symbol,
        notional_usdt=notional,
        margin_usdt=notional / terms.leverage,
        available_usdt=math.nan if account.figures is None else account.figures.available_usdt,
        symbol_notional_usdt=_held_usdt(cases, symbol, market.mark_price)
        + _untold_usdt(cases, [symbol], markets)
        + _coming_usdt(same, markets),
        total_notional_usdt=_held_usdt(cases, None, market.mark_price)
        + _untold_usdt(cases, markets, markets)
        + _coming_usdt(others, markets),
        open_entries=sum(each.may_fill for case in same for each in case.trade.of(Leg.ENTRY)),
        entries_last_hour=sum(now_ms - each < HOUR_MS for each in entries_ms),
        price_distance_bps=abs(limit / market.mark_price - 1.0) * 1e4,
        liquidation_distance=_liquidation_distance(order, limit, terms),
        quote_age_ms=_age_ms(market.quote, now_ms),
        mark_age_ms=_age_ms(market.mark, now_ms),
        clock_offset_ms=math.nan if account.clock is None else account.clock.offset_ms,
        round_trip_ms=math.nan if account.clock is None else account.clock.round_trip_ms,
        doubts=doubts,
        is_reconciled=account.is_reconciled,
        is_listening=account.is_listening,
        is_trading=account.is_trading,
        has_gap=False,  # a decision is only made on a window without one
    )


def _held_usdt(cases: Cases, symbol: str | None, mark_price: float) -> float:
    """What the exchange says is held; at the entry price where the mark is another symbol's."""
    told = [seen for seen in cases.positions.values() if symbol in (None, seen.symbol)]
    return sum(
        abs(float(seen.amount)) * (mark_price if symbol is not None and seen.amount else float(seen.entry_price))
        for seen in told
    )


def _untold_usdt(cases: Cases, symbols: Iterable[str], markets: Mapping[str, Market]) -> float:
    """What our entries have filled and the exchange's positions do not hold yet: its word on those comes later."""
    total = 0.0
    for symbol in symbols:
        filled = sum(max(case.trade.quantity, ZERO) for case in cases.open() if case.trade.symbol == symbol)
        told = sum(abs(seen.amount) for seen in cases.positions.values() if seen.symbol == symbol)
        if filled > told:
            total += float(filled - told) * markets[symbol].mark_price
    return total


def _coming_usdt(cases: Iterable[Case], markets: Mapping[str, Market]) -> float:
    """What open entries may add at most."""
    entries = [each for case in cases for each in case.trade.of(Leg.ENTRY) if each.may_fill and each.quantity]
    return sum(float(each.quantity - each.filled) * markets[each.symbol].mark_price for each in entries)


def _liquidation_distance(order: EntryOrder, limit: float, terms: Terms) -> float:
    """In distances of the stop; NaN without a stop or without brackets."""
    liquidation = liquidation_price.py_func(order.side, limit, order.quantity, terms)
    if math.isnan(liquidation) and terms.leverage == 1.0 and order.side > 0:
        return math.inf  # it would have to fall to nothing
    stop = abs(limit - order.levels.stop)
    return abs(limit - liquidation) / stop if stop else math.nan


def _age_ms(seen: Marked | Quoted | None, now_ms: int) -> float:
    return math.nan if seen is None else max(0.0, now_ms - seen.recv_ns / NS_PER_MS)
