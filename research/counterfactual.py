"""A backtest by ticks in which parts of what happened live stand in for what the rules say, one part after the other.

With no part of it taken it is ``engine.backtest_ticks``, with all of them it is what happened. Each part also has the
consequences it had: a position that was closed by hand leaves room for an entry that the backtest could not make.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from research.bars import Bars
from research.daily_loss import NOTHING_BOOKED, DayBook, booked, days_of, is_spent
from research.engine import TradingConfig, simulation_inputs
from research.fills import (
    OPEN,
    REASONS,
    Decision,
    Levels,
    decision_price,
    entry_price,
    entry_quantity,
    exit_levels,
    fee_usdt,
    gross_pnl_usdt,
    size_multiple,
)
from research.liquidation import with_liquidation
from research.resting import resting_price
from research.sizing import size_multiples
from research.ticks import (
    NS_PER_MS,
    Ticks,
    exit_met,
    first_exit,
    funding_between_usdt,
    market_met,
    rested,
    ticks_after,
)
from research.trades import trade_id


class Part(IntEnum):
    """What stands in, in the order it is taken."""

    DECISION = 1  # what was decided wherever the runner was free to decide
    PAUSE = 2  # where the operator let it enter nothing
    FILL = 3  # which entries were filled, how much of them, and when, of those that rested
    ENTRY_PRICE = 4
    SIZE = 5  # quantity and the levels of the exit orders
    HAND = 6  # what the operator or the runner did by hand: exits of no exit order's, positions taken over
    EXIT = 7  # when and by which order every position ended
    EXIT_PRICE = 8
    FEES = 9
    FUNDING = 10


@dataclass(frozen=True, kw_only=True)
class Lived:
    """What became of one decision.

    Attributes
    ----------
    is_sent : an entry order left.
    ordered, filled : base quantity; filled 0: missed.
    levels : of the exit orders as they were placed.
    entry_ms : None of one that was missed.
    exit_ms, exit_price, gross_usdt : None while it was open and nobody valued it.
    reason : one of ``fills.REASONS``, or another word for an exit that no order of the rules made.
    fees_usdt, funding_usdt : of the whole trade.
    """

    decision: Decision
    is_sent: bool
    ordered: float = 0.0
    filled: float = 0.0
    entry_price: float = math.nan
    levels: Levels | None = None
    entry_ms: int | None = None
    exit_ms: int | None = None
    exit_price: float | None = None
    reason: str = REASONS[OPEN]
    gross_usdt: float | None = None
    fees_usdt: float = 0.0
    funding_usdt: float = 0.0

    @property
    def is_by_hand(self) -> bool:
        """Whether it ended by none of the exits that the rules have."""
        return self.reason not in REASONS


class Account(NamedTuple):
    """What one trade earned in one world."""

    trade_id: str
    row: int
    side: int
    quantity: float
    entry_ms: int
    entry_price: float
    exit_ms: int
    exit_price: float
    reason: str
    gross_usdt: float
    fees_usdt: float
    funding_usdt: float

    @property
    def net_usdt(self) -> float:
        """After fees and funding."""
        return self.gross_usdt - self.fees_usdt - self.funding_usdt


@dataclass(frozen=True, kw_only=True, eq=False)
class Life:
    """What a runner did on the rows of its bars.

    Attributes
    ----------
    lived : by row, of every decision for a side.
    is_free : bool, shape (n_rows,), the runner was flat and could decide.
    is_paused : bool, shape (n_rows,), the operator let it enter nothing.
    taken_over : trades that it did not decide on, such as a position the operator gave it.
    """

    lived: dict[int, Lived]
    is_free: np.ndarray
    is_paused: np.ndarray
    taken_over: tuple[Account, ...] = ()


class _Moment(NamedTuple):
    """When an entry was filled, and the first trade and mark that its exits look at."""

    ns: int
    trade: int
    mark: int

    @property
    def ms(self) -> int:
        """Of the exchange's clock, rounded up."""
        return int(-(-self.ns // NS_PER_MS))


class _Entry(NamedTuple):
    lived: Lived | None  # of this very decision
    moment: _Moment
    price: float
    quantity: float
    levels: Levels


class _Exit(NamedTuple):
    reason: str
    exit_ns: int
    exit_ms: int
    row: int
    price: float


class Rerun:
    """One config on one market, with as much of a life in it as is asked for.

    Parameters
    ----------
    bars, ticks : of the same rows; of the bars' execution columns only ``exec_time`` is read.
    end_ms : when the run ended.

    Raises
    ------
    ValueError
        As ``engine.backtest_ticks``.
    """

    def __init__(self, config: TradingConfig, bars: Bars, ticks: Ticks, end_ms: int, life: Life) -> None:
        self._module, market, arrays, self._params, self._terms = simulation_inputs(config, bars)
        self._exec_ms = bars.frame["exec_time"].dt.epoch("ms").to_numpy(writable=True)
        self._close_ms = bars.frame["close_time"].dt.epoch("ms").to_numpy()
        self._market = market_met(market, self._exec_ms, ticks)
        self._columns = [arrays[name] for name in self._module.columns(self._params)]
        self._multiples = size_multiples(config.orders.open_interest_size, arrays, len(self._exec_ms))
        self._days = days_of(bars.frame)
        self._ticks, self._end_ms, self._life = ticks, end_ms, life
        self._n_rows = int(np.searchsorted(self._exec_ms, end_ms))
        self._key = (config.config_hash, config.symbol)
        self._rests = config.orders.resting is not None

    def trades(self, taken: int = 0) -> list[Account]:
        """Every trade in a world with the parts of the life up to ``taken``, a ``Part`` or 0 for none."""
        trades: list[Account] = []
        free_from = entry_from = 0
        book = NOTHING_BOOKED
        for i in range(self._n_rows):
            if i < free_from:
                continue
            decision = self._decision(i, taken, may_enter=i >= entry_from)
            if decision is None or decision.side == 0:
                continue
            opened, free_from = self._entry(i, decision, taken)
            if opened is None:
                continue
            exit_ = self._exit(decision.side, opened, taken)
            account, book = self._account(i, decision.side, opened, exit_, taken, book)
            trades.append(account)
            free_from, entry_from = exit_.row + 1, exit_.row + 1 + max(1, self._terms.cooldown_bars)
            if is_spent(book, self._terms):
                entry_from = max(entry_from, int(np.searchsorted(self._days, book.day, side="right")))
            if exit_.reason == REASONS[OPEN]:
                break
        return [*trades, *self._life.taken_over] if taken >= Part.HAND else trades

    def rule(self, i: int) -> tuple[Decision, dict[str, float]] | None:
        """What the rules decide on a row when flat, and the features they look at; None where none may enter."""
        if i >= self._n_rows or not self._market.can_enter[i]:
            return None
        row = self._module.Row(*(float(column[i]) for column in self._columns))
        return Decision(*self._module.decide(row, 0, self._params)), row._asdict()

    def _decision(self, i: int, taken: int, *, may_enter: bool) -> Decision | None:
        life = self._life
        if taken >= Part.PAUSE and life.is_paused[i]:
            return None
        if taken >= Part.EXIT or (taken >= Part.DECISION and life.is_free[i] and not life.is_paused[i]):
            lived = life.lived.get(i)
            return lived.decision if lived is not None and lived.is_sent else None
        ruled = self.rule(i) if may_enter else None
        return None if ruled is None else ruled[0]

    def _entry(self, i: int, decision: Decision, taken: int) -> tuple[_Entry | None, int]:
        """The entry, None for a missed one, and the first row to decide then."""
        side, terms = decision.side, self._terms
        lived = self._life.lived.get(i)
        if lived is not None and not (lived.is_sent and lived.decision.side == side):
            lived = None
        sized_at, price, moment, next_row = self._filled(i, side)
        quantity = entry_quantity(sized_at, decision, size_multiple(side, i, self._multiples), terms)
        if lived is not None and taken >= Part.FILL:
            if lived.filled == 0.0:
                return None, i + 1 + int(np.argmax(np.append(self._life.is_free[i + 1 :], True)))
            price = lived.entry_price if math.isnan(price) else price
            quantity = (quantity or lived.ordered) * min(1.0, lived.filled / lived.ordered)
            if self._rests and moment.ms != lived.entry_ms:
                moment = self._at(lived.entry_ms)
        if math.isnan(price) or quantity <= 0.0:
            return None, next_row if quantity > 0.0 else i + 1
        if lived is not None and taken >= Part.ENTRY_PRICE:
            price = lived.entry_price
        if lived is not None and taken >= Part.SIZE:
            quantity = lived.filled
        levels = exit_levels(side, price, decision, terms.tick_size)
        levels = Levels(*with_liquidation(levels, side, price, quantity, terms))
        if lived is not None and taken >= Part.SIZE and lived.levels is not None:
            levels = lived.levels._replace(liquidation=levels.liquidation, bankruptcy=levels.bankruptcy)
        return _Entry(lived, moment, price, quantity, levels), i + 1

    def _filled(self, i: int, side: int) -> tuple[float, float, _Moment, int]:
        """By the rules: what an entry is sized at, its price (NaN: missed), when, and the first row to decide then."""
        market, terms, ticks, moment = self._market, self._terms, self._ticks, self._at(self._exec_ms[i])
        if not self._rests:
            return decision_price(side, i, market), entry_price(side, i, market, terms), moment, i + 1
        limit = resting_price(side, market.bid[i], market.ask[i], terms)
        if math.isnan(limit):
            return limit, limit, moment, i + 1
        passing, next_row = rested(side, limit, i, market, terms, ticks, self._exec_ms, self._end_ms)
        if passing < 0:
            return limit, math.nan, moment, int(next_row)
        ns = ticks.trade_ns[passing]
        return limit, limit, _Moment(ns, passing + 1, np.searchsorted(ticks.mark_ns, ns)), i + 1

    def _at(self, ms: int) -> _Moment:
        """What happened by then is past."""
        return _Moment(ms * NS_PER_MS, *ticks_after(self._ticks, ms * NS_PER_MS))

    def _exit(self, side: int, entry: _Entry, taken: int) -> _Exit:
        lived, moment, levels = entry.lived, entry.moment, entry.levels
        found = first_exit(side, levels, self._ticks, moment.trade, moment.mark, self._end_ms * NS_PER_MS)
        by_rules = self._met(side, levels, *found)
        if lived is None or lived.exit_ms is None:
            return by_rules
        is_same = (by_rules.reason, by_rules.exit_ms) == (lived.reason, lived.exit_ms)
        is_forced = taken >= Part.HAND and lived.is_by_hand and lived.exit_ms <= by_rules.exit_ms
        if not is_same and (is_forced or taken >= Part.EXIT):
            return self._as_lived(side, levels, lived)
        return by_rules

    def _met(self, side: int, levels: Levels, reason: int, exit_ns: int, trade: int, quote: int) -> _Exit:
        if reason == OPEN:
            last_price = float(self._ticks.trade_price[trade])
            return _Exit(REASONS[OPEN], exit_ns, self._end_ms - 1, self._n_rows - 1, last_price)
        half_spread_bps, slippage_bps = self._market.half_spread_bps, self._terms.slippage_bps
        exit_ms, row, price = exit_met(
            side, levels, reason, exit_ns, trade, quote, half_spread_bps, slippage_bps, self._exec_ms, self._ticks
        )
        return _Exit(REASONS[reason], exit_ns, int(exit_ms), int(row), float(price))

    def _as_lived(self, side: int, levels: Levels, lived: Lived) -> _Exit:
        """The exit at the time and by the order it had, at the price that the model gives it then."""
        ticks, exit_ns = self._ticks, lived.exit_ms * NS_PER_MS
        if lived.reason == REASONS[OPEN]:
            end_ns = self._end_ms * NS_PER_MS
            return self._met(side, levels, OPEN, end_ns, int(np.searchsorted(ticks.trade_ns, end_ns, "right")) - 1, -1)
        trade, quote = (int(np.searchsorted(ns, exit_ns, side="right")) - 1 for ns in (ticks.trade_ns, ticks.quote_ns))
        reason = OPEN if lived.is_by_hand else REASONS.index(lived.reason)
        half_spread_bps, slippage_bps = self._market.half_spread_bps, self._terms.slippage_bps
        _, row, price = exit_met(
            side, levels, reason, exit_ns, trade, quote, half_spread_bps, slippage_bps, self._exec_ms, ticks
        )
        return _Exit(lived.reason, exit_ns, lived.exit_ms, int(row), float(price))

    def _account(
        self, i: int, side: int, entry: _Entry, exit_: _Exit, taken: int, book: DayBook
    ) -> tuple[Account, DayBook]:
        """The trade, and the day's book with it as the model has it."""
        (lived, moment, paid, quantity, _), days = entry, self._days
        fees = fee_usdt(paid, quantity, self._terms.maker_fee_bps if self._rests else self._terms.taker_fee_bps)
        book = booked(book, days[i], -fees)
        funded_ms = moment.ms if self._rests else moment.ms + 1
        funding, book = funding_between_usdt(
            side, quantity, self._ticks, self._exec_ms, funded_ms, exit_.exit_ns, days, DayBook(*book)
        )
        price, gross = exit_.price, gross_pnl_usdt(side, quantity, paid, exit_.price)
        if exit_.reason != REASONS[OPEN]:
            exit_fee = fee_usdt(exit_.price, quantity, self._terms.taker_fee_bps)
            fees += exit_fee
            book = booked(DayBook(*book), days[exit_.row], gross - exit_fee)
        if lived is not None and taken >= Part.EXIT_PRICE and lived.gross_usdt is not None:
            price, gross = lived.exit_price, lived.gross_usdt
        if lived is not None and taken >= Part.FEES:
            fees = lived.fees_usdt
        if lived is not None and taken >= Part.FUNDING:
            funding = lived.funding_usdt
        account = Account(
            trade_id=trade_id(*self._key, int(self._close_ms[i]), side),
            row=i,
            side=side,
            quantity=float(quantity),
            entry_ms=moment.ms,
            entry_price=float(paid),
            exit_ms=exit_.exit_ms,
            exit_price=float(price),
            reason=exit_.reason,
            gross_usdt=float(gross),
            fees_usdt=float(fees),
            funding_usdt=float(funding),
        )
        return account, DayBook(*book)
