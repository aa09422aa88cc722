"""The rules of trading at bar resolution once more, slow and in plain Python: the judge of ``fills`` and ``kernel``.

Written for reading, from the rules and not from the code: no function of ``research.fills`` or of a strategy is called,
no array operation, no compilation. Rounding to ticks and steps is done on exact fractions of the decimals that are
meant, so that binary noise has nowhere to hide. Where this and the fast path differ, one of them is wrong.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from research.fills import LIQUIDATION, OPEN, STOP, TARGET, TRAILING, Decision, Market, Terms
from research.reference_momentum import momentum_decision
from research.reference_sizes import ON_GRID, exact, on_grid, quantity_of


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one config did on rows [first, last).

    Parameters
    ----------
    trades : one dict per trade with the fields of ``trade_records.TRADE``, in order of entry; the last may be open.
    equity_usdt : equity at the end of every row, starting from zero; after fees and funding.
    missed_entries : entries wanted and not filled.
    ambiguous_bars : bars in which it is not known which exit came first, or whether one came at all.
    """

    trades: list[dict]
    equity_usdt: list[float]
    missed_entries: int
    ambiguous_bars: int

    def stats(self) -> dict[str, float]:
        """The record in figures, each derived from the trades and the equity: the names of ``kernel.STATS``."""
        closed = [trade for trade in self.trades if trade["reason"] != OPEN]
        gross = [trade["side"] * trade["quantity"] * (trade["exit_price"] - trade["entry_price"]) for trade in closed]
        net = [pnl - trade["fees_usdt"] - trade["funding_usdt"] for pnl, trade in zip(gross, closed, strict=True)]
        bar_pnl = [now - before for before, now in zip([0.0, *self.equity_usdt], self.equity_usdt, strict=False)]
        held_bars = [trade["exit_row"] - trade["entry_row"] + 1 for trade in self.trades]
        return {
            "trades": len(closed),
            "wins": sum(pnl > 0.0 for pnl in net),
            "gross_pnl_usdt": math.fsum(gross),
            "fees_usdt": math.fsum(trade["fees_usdt"] for trade in self.trades),
            "funding_usdt": math.fsum(trade["funding_usdt"] for trade in self.trades),
            "net_pnl_usdt": self.equity_usdt[-1],
            "trade_pnl_squared": math.fsum(pnl * pnl for pnl in net),
            "bar_pnl_squared": math.fsum(pnl * pnl for pnl in bar_pnl),
            "max_drawdown_usdt": _deepest_fall(self.equity_usdt),
            "exposure_bars": sum(held_bars),
            "longest_hold_bars": max(held_bars, default=0),
            "stop_exits": sum(trade["reason"] == STOP for trade in closed),
            "target_exits": sum(trade["reason"] == TARGET for trade in closed),
            "trailing_exits": sum(trade["reason"] == TRAILING for trade in closed),
            "missed_entries": self.missed_entries,
            "ambiguous_bars": self.ambiguous_bars,
            "is_open": len(self.trades) - len(closed),
        }


def _deepest_fall(equity_usdt: list[float]) -> float:
    """Largest fall below the best equity so far, <= 0; the first best is the zero before the first row."""
    best, deepest = 0.0, 0.0
    for equity in equity_usdt:
        best = max(best, equity)
        deepest = min(deepest, equity - best)
    return deepest


@dataclass
class _Position:
    """An open position and its three exit orders. Prices are of the last trade, the stop alone watches the mark."""

    side: int
    quantity: float
    entry_price: float
    entry_row: int
    stop: float
    target: float
    activation: float
    callback_bps: float
    extreme: float  # best price since entry
    liquidation: float  # mark at which the exchange ends the position; NaN where that is not known
    bankruptcy: float  # price at which its margin is gone
    armed: bool = False  # is the trailing order live
    fees_usdt: float = 0.0
    funding_usdt: float = 0.0
    is_ambiguous: bool = False

    def reached(self, price: float, level: float) -> bool:
        """Has the price come to a level on the side we like (target, activation)?"""
        return price >= level if self.side > 0 else price <= level

    def fell_to(self, price: float, level: float) -> bool:
        """Has the price come to a level on the side we fear (stop, trailing)?"""
        return price <= level if self.side > 0 else price >= level

    def better(self, one: float, other: float) -> float:
        """The price that suits the position more."""
        return max(one, other) if self.side > 0 else min(one, other)

    def trailing_level(self) -> float:
        """Where the trailing order triggers: the callback away from the best price."""
        if self.side > 0:
            return self.extreme * (1.0 - self.callback_bps / 1e4)
        return self.extreme * (1.0 + self.callback_bps / 1e4)


class Book:
    """One symbol as it is traded, row by row: first what is wanted and entered, then the execution bar.

    Parameters
    ----------
    market : arrays of shape (n_rows,).
    rows : a list of n_rows values per field of the strategy's ``Row``.
    params : the strategy's ``Params``.
    decide : from one row (field -> value) and the parameters to a decision; momentum's when left out.
    multiples : by side, 1 and -1, a list of n_rows factors of the size; NaN where it is not known; one when left out.
    days : n_rows days since 1970; a single day when left out.

    Attributes
    ----------
    net_usdt : by day, of money that moved.
    """

    def __init__(
        self,
        market: Market,
        rows: Mapping[str, list[float]],
        params: tuple,
        terms: Terms,
        decide: Callable[[dict, tuple], Decision] | None = None,
        multiples: Mapping[int, list[float]] | None = None,
        days: list[int] | None = None,
    ) -> None:
        self._bars = {name: column.tolist() for name, column in zip(Market._fields, market, strict=True)}
        self._rows, self._params, self._terms = rows, params, terms
        self._decide = decide or momentum_decision
        self._multiples = multiples or dict.fromkeys((1, -1), [1.0] * len(market.close))
        self._days = days or [0] * len(market.close)
        self._realised = self._unrealised = 0.0
        self._next_allowed = 0
        self._record = Record(trades=[], equity_usdt=[], missed_entries=0, ambiguous_bars=0)
        self.position: _Position | None = None
        self.net_usdt: dict[int, float] = defaultdict(float)

    def wanted(self, i: int) -> Decision | None:
        """What the strategy asks to enter on row ``i``, where it may."""
        may_lose = not self.net_usdt[self._days[i]] <= -self._terms.max_daily_loss_usdt
        if self.position is not None or i < self._next_allowed or not self._bars["can_enter"][i] or not may_lose:
            return None
        decision = self._decide({name: values[i] for name, values in self._rows.items()}, self._params)
        return None if decision.side == 0 else decision

    def ordered_usdt(self, decision: Decision, i: int) -> float:
        """Notional of the order that a decision leads to; zero for none."""
        price, quantity = ordered(decision, self._bar(i), self._terms, self._multiples[decision.side][i])
        return price * quantity

    def enter(self, decision: Decision, i: int) -> None:
        """Send the order: there is a position, or the entry is missed."""
        bar = self._bar(i)
        _, quantity = ordered(decision, bar, self._terms, self._multiples[decision.side][i])
        self.position = _enter(decision, bar, self._terms, i, quantity)
        if self.position is None:
            self._record = replace(self._record, missed_entries=self._record.missed_entries + 1)
        else:
            self._moved(i, -self.position.fees_usdt)

    def _bar(self, i: int) -> dict:
        return {name: column[i] for name, column in self._bars.items()}

    def live_through(self, i: int) -> None:
        """Execution bar ``i``: exits, funding, equity."""
        bar, position = self._bar(i), self.position
        if position is not None:
            reason, trigger_price, at_open = OPEN, math.nan, False
            if not math.isnan(bar["exec_open"]):
                reason, trigger_price, at_open, is_ambiguous = _exit_check(position, bar)
                position.is_ambiguous |= is_ambiguous
                self._record = replace(self._record, ambiguous_bars=self._record.ambiguous_bars + is_ambiguous)
                self._unrealised = position.side * position.quantity * (bar["exec_close"] - position.entry_price)

            if not at_open:
                paid = position.side * position.quantity * bar["funding_per_unit"]
                position.funding_usdt += paid
                self._moved(i, -paid)

            if reason != OPEN:
                exit_price = trigger_price
                if reason != LIQUIDATION:
                    exit_price = _market_order(-position.side, trigger_price, bar["half_spread_bps"], self._terms)
                fee = exit_price * position.quantity * self._terms.taker_fee_bps / 1e4
                position.fees_usdt += fee
                self._moved(i, position.side * position.quantity * (exit_price - position.entry_price) - fee)
                self._unrealised = 0.0
                self._record.trades.append(_trade(position, i, exit_price, reason, at_open))
                self.position = None
                # The row after is the bar of the exit itself: never an entry there.
                self._next_allowed = i + 1 + max(1, self._terms.cooldown_bars)

        self._record.equity_usdt.append(self._realised + self._unrealised)

    def _moved(self, i: int, amount_usdt: float) -> None:
        self._realised += amount_usdt
        self.net_usdt[self._days[i]] += amount_usdt

    def record(self, last: int) -> Record:
        """What was done before row ``last``; a position that is left is valued at the last price seen."""
        if self.position is None:
            return self._record
        closes = reversed(self._bars["exec_close"][self.position.entry_row : last])
        left = _trade(self.position, last - 1, next(close for close in closes if not math.isnan(close)), OPEN, False)
        return replace(self._record, trades=[*self._record.trades, left])


def simulate(
    market: Market,
    rows: Mapping[str, list[float]],
    params: tuple,
    terms: Terms,
    first: int,
    last: int,
    decide: Callable[[dict, tuple], Decision] | None = None,
    multiples: Mapping[int, list[float]] | None = None,
    days: list[int] | None = None,
) -> Record:
    """Trade rows [first, last), flat at the start. Parameters as for ``Book``."""
    book = Book(market, rows, params, terms, decide, multiples, days)
    for i in range(first, last):
        decision = book.wanted(i)
        if decision is not None:
            book.enter(decision, i)
        book.live_through(i)
    return book.record(last)


def _trade(position: _Position, exit_row: int, exit_price: float, reason: int, at_open: bool) -> dict:
    return {
        "entry_row": position.entry_row,
        "exit_row": exit_row,
        "side": position.side,
        "quantity": position.quantity,
        "entry_price": position.entry_price,
        "exit_price": exit_price,
        "reason": reason,
        "fees_usdt": position.fees_usdt,
        "funding_usdt": position.funding_usdt,
        "stop": position.stop,
        "target": position.target,
        "activation": position.activation,
        "callback_bps": position.callback_bps,
        "is_ambiguous": position.is_ambiguous,
        "at_open": at_open,
    }


def ordered(decision: Decision, bar: dict, terms: Terms, multiple: float) -> tuple[float, float]:
    """Price that an entry is sized at, and its quantity: the touch that the decision saw, else the close."""
    touch = bar["ask"] if decision.side > 0 else bar["bid"]
    price = bar["close"] if math.isnan(touch) else touch
    return price, quantity_of(price, decision, multiple, terms)


def _enter(decision: Decision, bar: dict, terms: Terms, row: int, quantity: float) -> _Position | None:
    """The position a decision leads to, or None when the entry is missed."""
    if math.isnan(bar["exec_open"]) or quantity == 0.0:
        return None
    side = decision.side
    touch = bar["ask"] if side > 0 else bar["bid"]
    opposite = bar["exec_ask"] if side > 0 else bar["exec_bid"]

    if math.isnan(touch) or math.isnan(opposite):
        price = _market_order(side, bar["exec_open"], bar["half_spread_bps"], terms)
    else:
        # An immediate-or-cancel limit: at the touch seen, plus some ticks; filled there at worst.
        room = exact(terms.entry_limit_ticks) * exact(terms.tick_size)
        limit = exact(touch) + side * room
        if side * (exact(opposite) - limit) > ON_GRID * exact(terms.tick_size):
            return None
        slipped = opposite * (1.0 + side * terms.slippage_bps / 1e4)
        price = min(slipped, float(limit)) if side > 0 else max(slipped, float(limit))

    stop, target = decision.stop_price, decision.target_price
    if math.isnan(stop):
        stop = price * (1.0 - side * decision.stop_bps / 1e4)
    if math.isnan(target):
        target = price * (1.0 + side * decision.target_bps / 1e4)
    activation = price * (1.0 + side * decision.activation_bps / 1e4)
    # For a long all three round up: the stop toward the entry, target and activation away from it. For a short, down.
    return _Position(
        side=side,
        quantity=quantity,
        entry_price=price,
        entry_row=row,
        stop=on_grid(stop, terms.tick_size, up=side > 0),
        target=on_grid(target, terms.tick_size, up=side > 0),
        activation=on_grid(activation, terms.tick_size, up=side > 0),
        callback_bps=decision.callback_bps,
        extreme=bar["exec_open"],
        liquidation=_liquidation(side, price, quantity, terms),
        bankruptcy=price - side * price / terms.leverage,
        fees_usdt=price * quantity * terms.taker_fee_bps / 1e4,
    )


def _liquidation(side: int, entry_price: float, quantity: float, terms: Terms) -> float:
    """The mark at which the margin left has shrunk to what some bracket asks for; NaN without brackets.

    Margin left per unit is ``entry / leverage`` less the loss, asked for is ``rate * mark - amount / quantity``.
    """
    marks = []
    for rate, amount_usdt in terms.brackets.tolist():
        spare = entry_price / terms.leverage + amount_usdt / quantity
        marks.append((entry_price - spare) / (1.0 - rate) if side > 0 else (entry_price + spare) / (1.0 + rate))
    if not marks:
        return math.nan
    return max(marks) if side > 0 else min(marks)


def _exit_check(position: _Position, bar: dict) -> tuple[int, float, bool, bool]:
    """What one execution bar does to a position: reason, trigger price, was it at the open, is it ambiguous.

    Moves the position's trailing order along with the bar.
    """
    long = position.side > 0
    open_, close = bar["exec_open"], bar["exec_close"]
    best = bar["exec_high"] if long else bar["exec_low"]
    worst = bar["exec_low"] if long else bar["exec_high"]
    mark_open, mark_worst = bar["mark_open"], bar["mark_low"] if long else bar["mark_high"]
    last_mark_ratio = bar["last_mark_ratio"]
    if math.isnan(mark_open):  # no mark known: the stop watches the last price, and that is what it fills at
        mark_open, mark_worst, last_mark_ratio = open_, worst, 1.0

    # 1. The open may lie beyond a liquidation or an order already: the order fills there.
    if position.fell_to(mark_open, position.liquidation):
        return LIQUIDATION, position.bankruptcy, True, False
    if position.fell_to(mark_open, position.stop):
        return STOP, open_, True, False
    if position.armed and position.fell_to(open_, position.trailing_level()):
        return TRAILING, open_, True, False
    if position.reached(open_, position.target):
        return TARGET, open_, True, False
    position.extreme = position.better(position.extreme, open_)
    position.armed = position.armed or position.reached(open_, position.activation)

    # 2. to 4. The range, the worst outcome first.
    stop_in_range = position.fell_to(mark_worst, position.stop)
    trailing_in_range = position.armed and position.fell_to(worst, position.trailing_level())
    target_in_range = position.reached(best, position.target)
    liquidated_in_range = position.fell_to(mark_worst, position.liquidation)
    is_ambiguous = [stop_in_range or liquidated_in_range, trailing_in_range, target_in_range].count(True) >= 2
    is_stop_nearer = position.fell_to(position.liquidation, position.stop) and position.liquidation != position.stop
    if liquidated_in_range and not is_stop_nearer:
        return LIQUIDATION, position.bankruptcy, False, is_ambiguous
    if stop_in_range:
        return STOP, position.stop * last_mark_ratio, False, is_ambiguous
    if trailing_in_range:
        return TRAILING, position.trailing_level(), False, is_ambiguous
    if target_in_range:
        return TARGET, position.target, False, is_ambiguous

    # 5. The bar's own extreme moves the trailing order, and the close may already be beyond where it moved to.
    position.extreme = position.better(position.extreme, best)
    position.armed = position.armed or position.reached(best, position.activation)
    if position.armed and position.fell_to(close, position.trailing_level()):
        return TRAILING, position.trailing_level(), False, True
    may_have_triggered = position.armed and position.fell_to(worst, position.trailing_level())
    return OPEN, math.nan, False, may_have_triggered


def _market_order(order_side: int, price: float, half_spread_bps: float, terms: Terms) -> float:
    """Fill of a market order around a price: half the spread, where known, and the slippage against us."""
    spread_bps = 0.0 if math.isnan(half_spread_bps) else half_spread_bps
    worse = (spread_bps + terms.slippage_bps) / 1e4
    return price * (1.0 + worse) if order_side > 0 else price * (1.0 - worse)
