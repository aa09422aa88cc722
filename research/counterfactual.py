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
from research.resting import refuse_resting
from research.sizing import size_multiples
from research.ticks import NS_PER_MS, Ticks, exit_met, first_exit, funding_between_usdt, market_met, ticks_after
from research.trades import trade_id


class Part(IntEnum):
    """What stands in, in the order it is taken."""

    DECISION = 1  # what was decided wherever the runner was free to decide
    PAUSE = 2  # where the operator let it enter nothing
    FILL = 3  # which entries were filled, and how much of them
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
        As ``engine.backtest_ticks``, and when its entries rest.
    """

    def __init__(self, config: TradingConfig, bars: Bars, ticks: Ticks, end_ms: int, life: Life) -> None:
        refuse_resting(config.orders)
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
            opened = self._entry(i, decision, taken)
            if opened is None:
                continue
            lived, price, quantity, levels = opened
            exit_ = self._exit(i, decision.side, levels, lived, taken)
            account, book = self._account(i, decision.side, price, quantity, exit_, lived, taken, book)
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

    def _entry(self, i: int, decision: Decision, taken: int) -> tuple[Lived | None, float, float, Levels] | None:
        """What was lived of this very decision, entry price, quantity, levels; None for a missed entry."""
        side, terms = decision.side, self._terms
        lived = self._life.lived.get(i)
        if lived is not None and not (lived.is_sent and lived.decision.side == side):
            lived = None
        price = entry_price(side, i, self._market, terms)
        multiple = size_multiple(side, i, self._multiples)
        quantity = entry_quantity(decision_price(side, i, self._market), decision, multiple, terms)
        if lived is not None and taken >= Part.FILL:
            if lived.filled == 0.0:
                return None
            price = lived.entry_price if math.isnan(price) else price
            quantity = (quantity or lived.ordered) * min(1.0, lived.filled / lived.ordered)
        if math.isnan(price) or quantity <= 0.0:
            return None
        if lived is not None and taken >= Part.ENTRY_PRICE:
            price = lived.entry_price
        if lived is not None and taken >= Part.SIZE:
            quantity = lived.filled
        levels = exit_levels(side, price, decision, terms.tick_size)
        levels = Levels(*with_liquidation(levels, side, price, quantity, terms))
        if lived is not None and taken >= Part.SIZE and lived.levels is not None:
            levels = lived.levels._replace(liquidation=levels.liquidation, bankruptcy=levels.bankruptcy)
        return lived, price, quantity, levels

    def _exit(self, i: int, side: int, levels: Levels, lived: Lived | None, taken: int) -> _Exit:
        end_ns = self._end_ms * NS_PER_MS
        first = ticks_after(self._ticks, self._exec_ms[i] * NS_PER_MS)
        found = first_exit(side, levels, self._ticks, *first, end_ns)
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
        self, i: int, side: int, entry: float, quantity: float, exit_: _Exit, lived: Lived | None, taken: int,
        book: DayBook,
    ) -> tuple[Account, DayBook]:  # fmt: skip
        """The trade, and the day's book with it as the model has it."""
        fee_bps, days = self._terms.taker_fee_bps, self._days
        fees = fee_usdt(entry, quantity, fee_bps)
        book = booked(book, days[i], -fees)
        funding, book = funding_between_usdt(
            side, quantity, self._ticks, self._exec_ms, self._exec_ms[i] + 1, exit_.exit_ns, days, DayBook(*book)
        )
        price, gross = exit_.price, gross_pnl_usdt(side, quantity, entry, exit_.price)
        if exit_.reason != REASONS[OPEN]:
            exit_fee = fee_usdt(exit_.price, quantity, fee_bps)
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
            entry_ms=int(self._exec_ms[i]),
            entry_price=float(entry),
            exit_ms=exit_.exit_ms,
            exit_price=float(price),
            reason=exit_.reason,
            gross_usdt=float(gross),
            fees_usdt=float(fees),
            funding_usdt=float(funding),
        )
        return account, DayBook(*book)
