"""The trades of an account with what has been said of them: who hears which evidence, and what to report. No I/O."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from live.exchange_orders import Contract
from live.order_evidence import ZERO, OrderSeen, PositionSeen, TradeSeen
from live.order_questions import is_watched
from live.order_state import Evidence, Order, Status, forced, heard
from live.orders import EntryFilled, EntryMissed, ExitFilled, FundingPaid, Leg, RowKey, order_name
from live.protection import Phase, Trade, with_orders
from live.risk import OPERATOR
from research.fills import Levels, fee_usdt

Key = tuple[str, int]  # trade id and tranche
_REASONS = {
    Leg.STOP: "stop",
    Leg.TARGET: "target",
    Leg.TRAILING: "trailing",
    Leg.LIQUIDATION: "liquidation",
    Leg.CLOSE: "close",
    Leg.FLATTEN: "flatten",
}
BY_HAND = "by hand"  # nothing of ours closed it


@dataclass(eq=False, kw_only=True)
class Case:
    """One trade at work.

    Attributes
    ----------
    is_planned : a trader decided it and hears of it; an adopted one is only brought to its end.
    is_entry_told, is_exit_told : the trader knows.
    foreign : fills of nobody's orders that explain an adjustment.
    streamed : names of orders that the account's stream has told of.
    held_since_ms : our clock when it was first known to hold something without a stop; None while it is not so.
    owed : funding paid before the trader knows of the position.
    funding_usdt : paid so far, negative when received.
    is_waiting_for_rules : an order was refused for the contract's rules; the next follows those of now.
    fees_bps : of who takes and of who rests: what a commission costs that was paid in another asset than USDT.
    """

    trade: Trade
    contract: Contract
    is_planned: bool = True
    is_entry_told: bool = False
    is_exit_told: bool = False
    foreign: tuple[TradeSeen, ...] = ()
    streamed: set[str] = field(default_factory=set)
    held_since_ms: int | None = None
    owed: list[FundingPaid] = field(default_factory=list)
    funding_usdt: float = 0.0
    is_waiting_for_rules: bool = False
    fees_bps: tuple[float, float] = (math.nan, math.nan)

    @property
    def key(self) -> Key:
        return self.trade.trade_id, self.trade.tranche

    @property
    def is_done(self) -> bool:
        """Nothing is held, nothing stands, and everybody knows."""
        return self.trade.phase is Phase.OVER and (self.is_exit_told or (self.is_entry_told and self._never_held))

    @property
    def _never_held(self) -> bool:
        return not any(order.filled for order in self.trade.orders.values())

    def is_forgotten(self, now_ms: int) -> bool:
        """Done, and no lost order of it is listened for any more."""
        return self.is_done and not any(is_watched(order, now_ms) for order in self.trade.orders.values())

    def is_revived(self) -> bool:
        """Its entry was told to be missed, and yet it holds something."""
        return self.is_entry_told and self.trade.levels is None and self.trade.quantity > 0

    def is_of(self, seen: PositionSeen | TradeSeen) -> bool:
        """The position, or the one that a fill changed, is where this trade's would be."""
        return {"LONG": 1, "SHORT": -1}.get(seen.position_side, self.trade.side) == self.trade.side

    def keep(self, order: Order) -> None:
        """An order as it is now."""
        self.trade = replace(self.trade, orders=with_orders(self.trade, [order]))

    def entry_report(self, row: RowKey | None, now_ms: int) -> EntryFilled | EntryMissed | None:
        """What became of the entry, once that is certain; once.

        Parameters
        ----------
        row : whose order met the market last.
        """
        entries = self.trade.of(Leg.ENTRY)
        if self.is_entry_told or not entries or any(order.may_fill or order.owes_trades for order in entries):
            return None
        self.is_entry_told = True
        name = entries[-1].client_order_id
        trades = [trade for order in entries for trade in order.trades]
        if not trades:
            self.trade = replace(self.trade, levels=None, is_withdrawn=True)  # what turns up now comes too late
            has_rested = any(order.status is Status.CANCELED for order in entries)
            return EntryMissed(time_ms=now_ms, client_order_id=name, row=row if has_rested else None)
        quantity, price, fee = _summed(trades, self.fees_bps)
        return EntryFilled(time_ms=now_ms, client_order_id=name, price=price, quantity=quantity, fee_usdt=fee)

    def exit_report(self, row: RowKey, now_ms: int, mark_price: float = math.nan) -> ExitFilled | None:
        """How the position was closed, once it is; once.

        Parameters
        ----------
        mark_price : what is ``unexplained`` is worth; the report waits for it where it is needed.
        """
        trade = self.trade
        if self.is_exit_told or not self.is_entry_told or self._never_held or trade.phase is not Phase.OVER:
            return None
        if any(order.owes_trades for order in trade.orders.values()):
            return None
        missing = float(self.unexplained)
        if missing and math.isnan(mark_price):
            return None
        self.is_exit_told = True
        exits = [order for order in trade.orders.values() if order.leg is not Leg.ENTRY and order.trades]
        fills = [fill for order in exits for fill in order.trades] + list(self.foreign)
        last = max(exits, key=lambda order: order.trades[-1].time_ms, default=None)
        quantity, price, fee = _summed(fills, self.fees_bps)
        if missing:
            known_usdt = price * quantity if quantity else 0.0
            quantity, price = quantity + missing, (known_usdt + mark_price * missing) / (quantity + missing)
        return ExitFilled(
            time_ms=now_ms,
            filled_ms=max((fill.time_ms for fill in fills), default=now_ms),
            row=row,
            client_order_id=BY_HAND if last is None else last.client_order_id,
            leg=Leg.CLOSE if last is None else last.leg,
            reason=BY_HAND if last is None else self._reason(last.leg),
            price=price,
            quantity=quantity,
            fee_usdt=fee,
        )

    @property
    def unexplained(self) -> Decimal:
        """Base units that were entered, and of which no fill is known that took them out."""
        orders = self.trade.orders.values()
        signed = sum((order.traded if order.leg is Leg.ENTRY else -order.traded for order in orders), ZERO)
        return max(ZERO, signed - sum((fill.quantity for fill in self.foreign), ZERO))

    def _reason(self, leg: Leg) -> str:
        """Why an order of this leg closed it: what the operator closes is told apart."""
        is_commanded = leg in (Leg.CLOSE, Leg.FLATTEN) and self.trade.close_because == OPERATOR
        return OPERATOR if is_commanded else _REASONS[leg]

    def net_usdt(self, report: ExitFilled) -> float:
        """Gain of the closed trade, after fees and the funding that is known by now."""
        entries = [fill for order in self.trade.of(Leg.ENTRY) for fill in order.trades]
        _, price, fee = _summed(entries, self.fees_bps)
        gain = self.trade.side * report.quantity * (report.price - price) if entries else 0.0
        return gain - fee - report.fee_usdt - self.funding_usdt

    @property
    def entry_price(self) -> float:
        """What the entry was filled at, USDT; NaN while no fill of it is known."""
        return next((float(order.average_price) for order in self.trade.of(Leg.ENTRY) if order.trades), math.nan)

    def emergency(self, bps: float) -> Levels:
        """A stop alone, so far from the entry."""
        return Levels(self.entry_price * (1.0 - self.trade.side * bps / 1e4), math.nan, math.nan, math.nan)


@dataclass(eq=False)
class Cases:
    """All trades that are not forgotten.

    Attributes
    ----------
    changed : orders that have changed, and fills that are new, since ``news`` was asked for.
    positions : the last word on each, by symbol and position side.
    heard_ms : by symbol, when the stream or an order's answer last told of it.
    """

    cases: dict[Key, Case] = field(default_factory=dict)
    positions: dict[tuple[str, str], PositionSeen] = field(default_factory=dict)
    heard_ms: dict[str, int] = field(default_factory=dict)
    _changed: list[tuple[Case, Order, Order]] = field(default_factory=list)

    def open(self) -> list[Case]:
        """Those that are not done."""
        return [case for case in self.cases.values() if not case.is_done]

    def of_symbol(self, symbol: str) -> list[Case]:
        return [case for case in self.cases.values() if case.trade.symbol == symbol]

    def add(self, case: Case) -> None:
        self.cases[case.key] = case

    def forget(self, now_ms: int) -> None:
        """Leave out what nothing can be heard of any more."""
        self.cases = {key: case for key, case in self.cases.items() if not case.is_forgotten(now_ms)}

    def news(self) -> list[tuple[Case, Order, Order]]:
        """Orders that changed, as they were and as they are; told once."""
        changed, self._changed = self._changed, []
        return changed

    def hear(self, evidence: Iterable[OrderSeen | TradeSeen | PositionSeen], now_ms: int) -> list[OrderSeen]:
        """Take in what the exchange says, from wherever. Returns orders of its own that closed a position of ours."""
        forced_orders = []
        for each in evidence:
            # The answer to a question about a position does not say that anything has happened.
            if not isinstance(each, PositionSeen) or each.asked_ms is None:
                self.heard_ms[each.symbol] = now_ms
            if isinstance(each, PositionSeen):
                self._place(each)
            elif isinstance(each, OrderSeen) and each.is_forced:
                forced_orders += self._forced(each)
            elif (case := self.case_of(each)) is not None:
                self.hear_of(case, self._name(case, each), each)
        return forced_orders

    def hear_of(self, case: Case, client_order_id: str, evidence: Evidence) -> None:
        """One piece of evidence about one order."""
        before = case.trade.orders[client_order_id]
        after = heard(before, evidence)
        case.keep(after)
        if (after.status, after.filled, after.trades) != (before.status, before.filled, before.trades):
            self._changed.append((case, before, after))

    def case_of(self, seen: OrderSeen | TradeSeen) -> Case | None:
        """Whose order it is, or whose fill."""
        for case in self.of_symbol(seen.symbol):
            if self._name(case, seen) in case.trade.orders:
                return case
        return None

    def knows(self, fill: TradeSeen) -> bool:
        """It is a fill of an order that we know, or that the exchange made to close a position of ours."""
        return self.case_of(fill) is not None

    def _name(self, case: Case, seen: OrderSeen | TradeSeen) -> str | None:
        if seen.client_order_id is not None:
            return seen.client_order_id
        names = (name for name, order in case.trade.orders.items() if order.order_id == seen.order_id)
        return next(names, None)

    def _place(self, seen: PositionSeen) -> None:
        key = seen.symbol, seen.position_side
        known = self.positions.get(key)
        if known is None or seen.told_ms >= known.told_ms:
            self.positions[key] = seen
        for case in self.of_symbol(seen.symbol):
            # One that is done and still listened for would take its successor's position for its own.
            if case.is_of(seen) and not case.is_done:
                case.trade = replace(case.trade, amounts=case.trade.amounts.heard(seen))

    def _forced(self, seen: OrderSeen) -> list[OrderSeen]:
        for case in self.of_symbol(seen.symbol):
            known = case.trade.orders.get(seen.client_order_id)
            if known is not None:
                self.hear_of(case, seen.client_order_id, seen)
                return []
            if case.trade.quantity > 0 and case.trade.may_be_closed_by(seen):
                order = forced(seen)
                case.keep(order)
                self._changed.append((case, replace(order, status=Status.SENT, told_filled=ZERO), order))
                return [seen]
        return []


def leg_of(client_order_id: str) -> Leg:
    """What an order is for, by its name."""
    name = order_name(client_order_id)
    return Leg.LIQUIDATION if name is None else name.leg


def _summed(fills: Iterable[TradeSeen], fees_bps: tuple[float, float]) -> tuple[float, float, float]:
    """Quantity, average price and commission in USDT; NaN as a price where there is nothing."""
    fills = list(fills)
    quantity = sum((fill.quantity for fill in fills), ZERO)
    notional = sum((fill.quantity * fill.price for fill in fills), ZERO)
    fee = float(sum((fill.commission or ZERO for fill in fills if fill.is_charged_in_usdt), ZERO))
    for fill in fills:
        if not fill.is_charged_in_usdt:
            fee += fee_usdt.py_func(float(fill.price), float(fill.quantity), fees_bps[fill.is_maker])
    return float(quantity), float(notional / quantity) if quantity else math.nan, fee
