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
from research.reference_position import Position, exit_check, exit_check_of_fill
from research.reference_resting import Waiting, is_refused, is_through, resting_limit
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
        held_bars = [trade["exit_row"] - trade["fill_row"] + 1 for trade in self.trades]
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
    exec_ms : n_rows times at which orders meet the market, never decreasing; needed where entries rest.

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
        exec_ms: list[int] | None = None,
    ) -> None:
        self._bars = {name: column.tolist() for name, column in zip(Market._fields, market, strict=True)}
        self._rows, self._params, self._terms = rows, params, terms
        self._decide = decide or momentum_decision
        self._multiples = multiples or dict.fromkeys((1, -1), [1.0] * len(market.close))
        self._days = days or [0] * len(market.close)
        self._realised = self._unrealised = 0.0
        self._next_allowed = 0
        self._exec_ms = exec_ms or []
        self._waiting: Waiting | None = None
        self._record = Record(trades=[], equity_usdt=[], missed_entries=0, ambiguous_bars=0)
        self.position: Position | None = None
        self.net_usdt: dict[int, float] = defaultdict(float)

    def wanted(self, i: int) -> Decision | None:
        """What the strategy asks to enter on row ``i``, where it may."""
        may_lose = not self.net_usdt[self._days[i]] <= -self._terms.max_daily_loss_usdt
        is_busy = self.position is not None or self._waiting is not None
        if is_busy or i < self._next_allowed or not self._bars["can_enter"][i] or not may_lose:
            return None
        decision = self._decide({name: values[i] for name, values in self._rows.items()}, self._params)
        return None if decision.side == 0 else decision

    def ordered_usdt(self, decision: Decision, i: int) -> float:
        """Notional of the order that a decision leads to; zero for none."""
        price, quantity = ordered(decision, self._bar(i), self._terms, self._multiples[decision.side][i])
        return price * quantity

    def enter(self, decision: Decision, i: int) -> None:
        """Send the order: there is a position, the order rests, or the entry is missed."""
        bar = self._bar(i)
        if not math.isnan(self._terms.rest_offset_bps):
            self._waiting = self._laid(decision, bar, i)
            if self._waiting is None:
                self._missed()
            return
        _, quantity = ordered(decision, bar, self._terms, self._multiples[decision.side][i])
        self.position = _enter(decision, bar, self._terms, i, quantity)
        if self.position is None:
            self._missed()
        else:
            self._moved(i, -self.position.fees_usdt)

    def _missed(self) -> None:
        self._record = replace(self._record, missed_entries=self._record.missed_entries + 1)

    def _laid(self, decision: Decision, bar: dict, i: int) -> Waiting | None:
        """The order as it begins to rest; None without a price or a size, or where it would trade at once."""
        limit = resting_limit(decision.side, bar, self._terms)
        if math.isnan(limit):
            return None
        quantity = quantity_of(limit, decision, self._multiples[decision.side][i], self._terms)
        price_before = self._bars["exec_close"][i - 1] if i > 0 else math.nan
        if quantity == 0.0 or is_refused(decision.side, limit, bar, price_before, self._terms):
            return None
        until_ms = self._exec_ms[i] + self._terms.rest_ms
        return Waiting(decision=decision, limit=limit, quantity=quantity, row=i, until_ms=until_ms)

    def _wait_through(self, i: int, waiting: Waiting) -> None:
        """Execution bar ``i`` fills the order that rests, ends its life, or does neither."""
        side, bar = waiting.decision.side, self._bar(i)
        if i + 1 == len(self._exec_ms) or self._exec_ms[i + 1] > waiting.until_ms:
            # Its life ends in this bar. What the next row decides, it decides while the order may still be there.
            self._waiting, self._next_allowed = None, i + 2
            self._missed()
        elif is_through(side, waiting.limit, bar["exec_low"] if side > 0 else bar["exec_high"], self._terms):
            fee_bps = self._terms.maker_fee_bps
            self._waiting = None
            self.position = _entered(
                waiting.decision, waiting.limit, waiting.quantity, fee_bps, self._terms, waiting.row
            )
            self.position.fill_row, self.position.has_rested = i, True
            self._moved(waiting.row, -self.position.fees_usdt)

    def _bar(self, i: int) -> dict:
        return {name: column[i] for name, column in self._bars.items()}

    def live_through(self, i: int) -> None:
        """Execution bar ``i``: exits, funding, equity."""
        if self._waiting is not None:
            self._wait_through(i, self._waiting)
        bar, position = self._bar(i), self.position
        if position is not None:
            is_fill_bar = position.has_rested and position.fill_row == i
            reason, trigger_price, at_open = OPEN, math.nan, False
            if not math.isnan(bar["exec_open"]):
                if is_fill_bar:
                    reason, trigger_price, is_ambiguous = exit_check_of_fill(position, bar)
                else:
                    reason, trigger_price, at_open, is_ambiguous = exit_check(position, bar)
                position.is_ambiguous |= is_ambiguous
                self._record = replace(self._record, ambiguous_bars=self._record.ambiguous_bars + is_ambiguous)
                self._unrealised = position.side * position.quantity * (bar["exec_close"] - position.entry_price)

            if not at_open:
                paid = position.side * position.quantity * bar["funding_per_unit"]
                if is_fill_bar and paid < 0.0:
                    paid = 0.0  # nobody knows whether it held the position yet
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
        """What was done before row ``last``; a position that is left is valued at the last price seen.

        An order that still rests was not filled.
        """
        if self._waiting is not None:
            return replace(self._record, missed_entries=self._record.missed_entries + 1)
        if self.position is None:
            return self._record
        closes = reversed(self._bars["exec_close"][self.position.fill_row : last])
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
    exec_ms: list[int] | None = None,
) -> Record:
    """Trade rows [first, last), flat at the start. Parameters as for ``Book``."""
    book = Book(market, rows, params, terms, decide, multiples, days, exec_ms)
    for i in range(first, last):
        decision = book.wanted(i)
        if decision is not None:
            book.enter(decision, i)
        book.live_through(i)
    return book.record(last)


def _trade(position: Position, exit_row: int, exit_price: float, reason: int, at_open: bool) -> dict:
    return {
        "entry_row": position.entry_row,
        "fill_row": position.fill_row,
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


def _enter(decision: Decision, bar: dict, terms: Terms, row: int, quantity: float) -> Position | None:
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

    position = _entered(decision, price, quantity, terms.taker_fee_bps, terms, row)
    position.extreme = bar["exec_open"]
    return position


def _entered(decision: Decision, price: float, quantity: float, fee_bps: float, terms: Terms, row: int) -> Position:
    """A position at its fill price, with its exit orders."""
    side = decision.side
    stop, target = decision.stop_price, decision.target_price
    if math.isnan(stop):
        stop = price * (1.0 - side * decision.stop_bps / 1e4)
    if math.isnan(target):
        target = price * (1.0 + side * decision.target_bps / 1e4)
    activation = price * (1.0 + side * decision.activation_bps / 1e4)
    # For a long all three round up: the stop toward the entry, target and activation away from it. For a short, down.
    return Position(
        side=side,
        quantity=quantity,
        entry_price=price,
        entry_row=row,
        fill_row=row,
        stop=on_grid(stop, terms.tick_size, up=side > 0),
        target=on_grid(target, terms.tick_size, up=side > 0),
        activation=on_grid(activation, terms.tick_size, up=side > 0),
        callback_bps=decision.callback_bps,
        extreme=price,
        liquidation=_liquidation(side, price, quantity, terms),
        bankruptcy=price - side * price / terms.leverage,
        fees_usdt=price * quantity * fee_bps / 1e4,
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


def _market_order(order_side: int, price: float, half_spread_bps: float, terms: Terms) -> float:
    """Fill of a market order around a price: half the spread, where known, and the slippage against us."""
    spread_bps = 0.0 if math.isnan(half_spread_bps) else half_spread_bps
    worse = (spread_bps + terms.slippage_bps) / 1e4
    return price * (1.0 + worse) if order_side > 0 else price * (1.0 - worse)
