"""Tick resolution: trades, quotes and marks in the order they became known, and what one config does on them.

Rows are decided as at bar resolution, and their orders meet the market at ``t_i``. From then on a position is checked
on every trade and every mark by itself, so that nothing is ambiguous. Something due at a millisecond, an order that
arrives or funding, happens after every tick known by then and before any later one.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from data.schema import interval_ms
from research.bars import substitutions_in_effect
from research.daily_loss import NOTHING_BOOKED, booked, is_spent, one_day
from research.execution_bars import funding_events
from research.fills import (
    OPEN,
    Market,
    Terms,
    Trailing,
    decision_price,
    entry_price,
    entry_quantity,
    exit_levels,
    fee_usdt,
    funding_paid_usdt,
    gross_pnl_usdt,
    size_multiple,
)
from research.jit import njit, record
from research.liquidation import with_liquidation
from research.recorded import (
    REACH,
    Recorded,
    Substitutions,
    counted_trades,
    known_marks,
    known_ns,
    last_known,
    read_recorded,
)
from research.resting import is_passed, resting_price, rests, would_take
from research.sizing import unscaled
from research.strategies.compiled import decide, row_at
from research.strategies.gates import MAX_QUOTE_AGE_MS
from research.tick_fills import exit_on_mark, exit_on_trade, exit_price_at_tick, stop_watches_last
from research.trade_records import TRADE

if TYPE_CHECKING:
    from data.lake import Lake

NS_PER_MS = 1_000_000

TICK_TRADE = record([*TRADE.descr, ("entry_ms", np.int64), ("exit_ms", np.int64)])


class Ticks(NamedTuple):
    """One symbol's market, each kind ascending by the time it became known; at one time trade, quote, mark.

    Known at its receipt, else at the event's own time. Times are int64 since 1970, in the unit of their name.
    """

    trade_ns: np.ndarray
    trade_price: np.ndarray
    quote_ns: np.ndarray
    bid: np.ndarray
    ask: np.ndarray
    mark_ns: np.ndarray
    mark_price: np.ndarray
    funding_ms: np.ndarray
    funding_per_unit: np.ndarray  # USDT a long of one base unit pays


def read_ticks(
    lake: "Lake",
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    interval: str = "1m",
    substitutions: Substitutions,
    venue: str = "aster",
) -> Ticks:
    """The ticks behind ``build_bars`` of the same arguments, with what lies up to an hour around the range."""
    recorded = read_recorded(lake, symbol, start, end, interval=interval, venue=venue)
    instrument = lake.instrument(symbol, start, venue=venue)
    acting = substitutions_in_effect(substitutions, recorded, symbol, instrument)
    return ticks_of(recorded, interval=interval, substitutions=acting)


def ticks_of(recorded: Recorded, *, interval: str, substitutions: Substitutions) -> Ticks:
    """The ticks among what was recorded. ``substitutions`` are those in effect; only funding has one here."""
    trades = _by_known_ns(counted_trades(recorded.trades).drop_nulls("price"))
    quotes = _by_known_ns(recorded.quotes)
    marks = _by_known_ns(recorded.marks.drop_nulls("mark_price"))
    ticks = Ticks(
        trade_ns=_array(trades["known_ns"]),
        trade_price=_array(trades["price"]),
        quote_ns=_array(quotes["known_ns"]),
        bid=_array(quotes["bid_price"]),
        ask=_array(quotes["ask_price"]),
        mark_ns=_array(marks["known_ns"]),
        mark_price=_array(marks["mark_price"]),
        funding_ms=np.empty(0, np.int64),
        funding_per_unit=np.empty(0),
    )
    if trades.is_empty():
        return ticks
    first_ms, last_ms = (int(ticks.trade_ns[k]) // NS_PER_MS for k in (0, -1))
    events = funding_events(recorded, substitutions, first_ms, last_ms)
    event_ms = _array(events["event_ms"])
    mark = last_known(known_marks(recorded, interval_ms(interval)), event_ms, REACH)["mark_price"]
    price = mark.fill_null(pl.Series(_last_by(ticks.trade_price, ticks.trade_ns, event_ms * NS_PER_MS)))
    per_unit = events["funding_rate"].to_numpy() * price.to_numpy()
    return ticks._replace(funding_ms=event_ms, funding_per_unit=per_unit)


def simulate_ticks(
    module: ModuleType,
    market: Market,
    features: Mapping[str, np.ndarray],
    params: tuple,
    terms: Terms,
    exec_ms: np.ndarray,
    ticks: Ticks,
    end_ms: int,
    *,
    multiples: np.ndarray | None = None,
    days: np.ndarray | None = None,
) -> np.ndarray:
    """Trades of one config at tick resolution, structured array of ``TICK_TRADE``; the last may be open.

    Parameters
    ----------
    module, market, features, params, terms, multiples, days : as for ``kernel.simulate``. Of the market only what a
        row knows at its decision is read; what its order meets comes from the ticks.
    exec_ms : int64, ``t_i`` of every row, never decreasing.
    end_ms : ticks known by then count, orders and funding due by then no longer happen.
    """
    names = module.columns(params)
    matrix = np.ascontiguousarray(np.stack([features[name] for name in names]), dtype=np.float64)
    columns = np.arange(len(names), dtype=np.uint64)
    params = module.Params(*(float(value) for value in params))
    # An exit and the next entry lie at least two rows apart.
    trades = np.zeros(len(exec_ms) // 2 + 2, TICK_TRADE)
    met = market_met(market, exec_ms, ticks)
    multiples = unscaled(len(exec_ms)) if multiples is None else multiples
    days = one_day(len(exec_ms)) if days is None else days
    return trades[: _simulate(params, matrix, columns, met, multiples, days, terms, exec_ms, ticks, end_ms, trades)]


def resolution_difference(bar_trades: pl.DataFrame, tick_trades: pl.DataFrame) -> dict[str, float]:
    """What bar resolution hides, by label with unit: trades of one config at both, matched by ``trade_id``.

    Differences are tick minus bar, means over the trades at both; NaN without any.
    """
    both = bar_trades.join(tick_trades, on="trade_id", suffix="_tick")
    usdt = both["net_pnl_usdt_tick"] - both["net_pnl_usdt"]
    bps = 1e4 * usdt / (both["entry_price"] * both["quantity"])
    return {
        "Trades at bar resolution [n]": len(bar_trades),
        "Trades at tick resolution [n]": len(tick_trades),
        "Trades only at bar resolution [n]": len(bar_trades) - len(both),
        "Trades only at tick resolution [n]": len(tick_trades) - len(both),
        "Trades that another order ended [n]": int((both["reason"] != both["reason_tick"]).sum()),
        "Net PnL at bar resolution [USDT]": bar_trades["net_pnl_usdt"].sum(),
        "Net PnL at tick resolution [USDT]": tick_trades["net_pnl_usdt"].sum(),
        "Mean net difference per trade [USDT]": math.nan if both.is_empty() else usdt.mean(),
        "Mean net difference per trade [bps]": math.nan if both.is_empty() else bps.mean(),
    }


def _by_known_ns(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(known_ns=known_ns()).sort("known_ns", maintain_order=True)


def _array(column: pl.Series) -> np.ndarray:
    """Contiguous and writable, NaN for null: compiled code is made for one type of array."""
    filled = column.fill_null(math.nan) if column.dtype.is_float() else column
    return np.ascontiguousarray(filled.to_numpy(writable=True))


def _last_by(values: np.ndarray, known: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The last value known at each moment; NaN where there is none."""
    return np.append(values, math.nan)[np.searchsorted(known, at, side="right") - 1]


def market_met(market: Market, exec_ms: np.ndarray, ticks: Ticks) -> Market:
    """The market as the orders meet it at ``t_i``: the last trade, and the last quote while it is fresh."""
    exec_ns = exec_ms * NS_PER_MS
    quote_ms = _last_by(-(-ticks.quote_ns // NS_PER_MS), ticks.quote_ns, exec_ns)  # rounded up, as in bars
    is_fresh = exec_ms - quote_ms <= MAX_QUOTE_AGE_MS
    return market._replace(
        exec_open=_last_by(ticks.trade_price, ticks.trade_ns, exec_ns),
        exec_bid=np.where(is_fresh, _last_by(ticks.bid, ticks.quote_ns, exec_ns), math.nan),
        exec_ask=np.where(is_fresh, _last_by(ticks.ask, ticks.quote_ns, exec_ns), math.nan),
    )


@njit
def _simulate(params, features, columns, market, multiples, days, terms, exec_ms, ticks, end_ms, trades):
    """Fill ``trades`` and return how many there are."""
    n_trades = next_allowed = 0
    book = NOTHING_BOOKED
    n_rows = np.searchsorted(exec_ms, end_ms)
    for i in range(n_rows):
        if i < next_allowed or not market.can_enter[i]:
            continue
        decision = decide(row_at(params, features, columns, i), 0, params)
        side = decision.side
        if side == 0:
            continue
        price = decision_price(side, i, market)
        if rests(terms):
            price = resting_price(side, market.bid[i], market.ask[i], terms)
        quantity = entry_quantity(price, decision, size_multiple(side, i, multiples), terms)
        if math.isnan(price) or quantity <= 0.0:
            continue
        if rests(terms):
            passing, next_allowed = rested(side, price, i, market, terms, ticks, exec_ms, end_ms)
            if passing < 0:
                continue
            entry, fee_bps, entry_ns = price, terms.maker_fee_bps, ticks.trade_ns[passing]
            entry_ms = -(-entry_ns // NS_PER_MS)
            first_trade, first_mark, funded_ms = passing + 1, np.searchsorted(ticks.mark_ns, entry_ns), entry_ms
        else:
            entry, fee_bps, entry_ms = entry_price(side, i, market, terms), terms.taker_fee_bps, exec_ms[i]
            if math.isnan(entry):
                continue
            first_trade, first_mark = ticks_after(ticks, entry_ms * NS_PER_MS)
            funded_ms = entry_ms + 1
        levels = exit_levels(side, entry, decision, terms.tick_size)
        levels = with_liquidation(levels, side, entry, quantity, terms)
        fees = fee_usdt(entry, quantity, fee_bps)
        book = booked(book, days[i], -fees)
        end_ns = end_ms * NS_PER_MS
        reason, exit_ns, trade, quote = first_exit(side, levels, ticks, first_trade, first_mark, end_ns)
        funding, book = funding_between_usdt(side, quantity, ticks, exec_ms, funded_ms, exit_ns, days, book)
        exit_, exit_ms, exit_row = ticks.trade_price[trade], end_ms - 1, n_rows - 1
        if reason != OPEN:
            exit_ms, exit_row, exit_ = exit_met(
                side, levels, reason, exit_ns, trade, quote, market.half_spread_bps, terms.slippage_bps, exec_ms, ticks
            )
            exit_fee = fee_usdt(exit_, quantity, terms.taker_fee_bps)
            fees += exit_fee
            book = booked(book, days[exit_row], gross_pnl_usdt(side, quantity, entry, exit_) - exit_fee)
        slot = trades[n_trades]
        slot.entry_row = i
        slot.fill_row = np.searchsorted(exec_ms, entry_ms) - 1 if rests(terms) else i
        slot.exit_row = exit_row
        slot.side = side
        slot.quantity = quantity
        slot.entry_price = entry
        slot.exit_price = exit_
        slot.reason = reason
        slot.fees_usdt = fees
        slot.funding_usdt = funding
        slot.stop = levels.stop
        slot.target = levels.target
        slot.activation = levels.activation
        slot.callback_bps = levels.callback_bps
        slot.entry_ms = entry_ms
        slot.exit_ms = exit_ms
        n_trades += 1
        next_allowed = exit_row + 1 + max(1, terms.cooldown_bars)
        if is_spent(book, terms):
            next_allowed = max(next_allowed, np.searchsorted(days, book.day, side="right"))
        if reason == OPEN:
            break
    return n_trades


@njit
def rested(side, limit, i, market, terms, ticks, exec_ms, end_ms):
    """Place of the trade that fills an entry of row ``i`` that rests, -1 without one; the first row to decide then.

    The row after the one in which its life ends may have been decided while it rested.
    """
    opposite = market.exec_ask[i] if side > 0 else market.exec_bid[i]
    last_price = market.exec_open[i]
    if math.isnan(last_price) or would_take(side, limit, opposite, last_price, terms.tick_size):
        return -1, i + 1
    until_ms = exec_ms[i] + terms.rest_ms
    until_ns = min(until_ms, end_ms) * NS_PER_MS
    for k in range(np.searchsorted(ticks.trade_ns, exec_ms[i] * NS_PER_MS, side="right"), ticks.trade_ns.shape[0]):
        if ticks.trade_ns[k] > until_ns:
            break
        if is_passed(side, limit, ticks.trade_price[k], terms.tick_size):
            return k, i + 1
    return -1, np.searchsorted(exec_ms, until_ms, side="right") + 1


@njit
def ticks_after(ticks, ns):
    """Places of the first trade and the first mark known after ``ns``."""
    return np.searchsorted(ticks.trade_ns, ns, side="right"), np.searchsorted(ticks.mark_ns, ns, side="right")


@njit
def first_exit(side, levels, ticks, trade, mark, end_ns):
    """The first tick by ``end_ns`` that ends a position: its reason and time, the last trade and quote by then.

    Reason OPEN at ``end_ns`` when there is none. ``trade`` and ``mark`` are the places to begin at.
    """
    trade_end = np.searchsorted(ticks.trade_ns, end_ns, side="right")
    mark_end = np.searchsorted(ticks.mark_ns, end_ns, side="right")
    trailing = Trailing(math.nan, False)
    while trade < trade_end or mark < mark_end:
        if mark == mark_end or (trade < trade_end and ticks.trade_ns[trade] <= ticks.mark_ns[mark]):
            ns = ticks.trade_ns[trade]
            mark_age_ms = (ns - ticks.mark_ns[mark - 1]) / 1e6 if mark > 0 else math.nan
            watch_stop = stop_watches_last(mark_age_ms)
            reason, trailing = exit_on_trade(side, levels, trailing, ticks.trade_price[trade], watch_stop)
            if reason != OPEN:
                return reason, ns, trade, np.searchsorted(ticks.quote_ns, ns) - 1
            trade += 1
        else:
            ns = ticks.mark_ns[mark]
            reason = exit_on_mark(side, levels, ticks.mark_price[mark])
            if reason != OPEN:
                return reason, ns, trade - 1, np.searchsorted(ticks.quote_ns, ns, side="right") - 1
            mark += 1
    return OPEN, end_ns, trade - 1, -1


@njit
def exit_met(side, levels, reason, exit_ns, trade, quote, half_spread_bps, slippage_bps, exec_ms, ticks):
    """Time in ms, row and price of the market order that an exit becomes at ``exit_ns``.

    ``trade`` and ``quote`` are the last by then, -1 for no quote; ``half_spread_bps`` is one per row.
    """
    exit_ms = -(-exit_ns // NS_PER_MS)
    exit_row = np.searchsorted(exec_ms, exit_ms) - 1
    bid = ask = quote_age_ms = math.nan
    if quote >= 0:
        bid, ask, quote_age_ms = ticks.bid[quote], ticks.ask[quote], (exit_ns - ticks.quote_ns[quote]) / 1e6
    price = exit_price_at_tick(
        side, reason, levels, bid, ask, quote_age_ms, ticks.trade_price[trade], half_spread_bps[exit_row], slippage_bps
    )
    return exit_ms, exit_row, price


@njit
def funding_between_usdt(side, quantity, ticks, exec_ms, from_ms, exit_ns, days, book):
    """Paid at the events from a time on and before the exit, summed in their order, and booked by day."""
    total = 0.0
    for k in range(np.searchsorted(ticks.funding_ms, from_ms), ticks.funding_ms.shape[0]):
        if ticks.funding_ms[k] * NS_PER_MS >= exit_ns:
            break
        paid = funding_paid_usdt(side, quantity, ticks.funding_per_unit[k])
        total += paid
        book = booked(book, days[np.searchsorted(exec_ms, ticks.funding_ms[k]) - 1], -paid)
    return total, book
