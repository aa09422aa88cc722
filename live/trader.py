"""What one config does on one symbol when something happens: pure, no clock, no I/O.

``step`` takes the state and an event and returns the next state and what to write and send. Replay, paper and real run
this same function; only who delivers the events and who takes the orders differs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from live.feed import (
    BarClosed,
    Event,
    ExecutionBar,
    ExecutionOpen,
    FeedEnded,
    FundingDue,
    Gap,
    Marked,
    Quoted,
    Traded,
)
from live.journal import Record
from live.orders import (
    AmbiguousBar,
    CancelEntry,
    CloseAsked,
    CloseOrder,
    EntryFilled,
    EntryMissed,
    EntryOrder,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Instruction,
    Leg,
    Report,
    RowKey,
    client_order_id,
)
from live.trading_rules import Rules
from research import features
from research.daily_loss import DAY_MS, NOTHING_BOOKED, DayBook, booked, is_spent
from research.fills import (
    Decision,
    Levels,
    Terms,
    decision_price,
    entry_quantity,
    exit_levels,
    gross_pnl_usdt,
    size_multiple,
)
from research.liquidation import with_liquidation
from research.resting import resting_price, rests
from research.sizing import size_features, size_multiples
from research.trades import trade_id

HOUR_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Position:
    """One open position."""

    row: RowKey  # that decided it
    exits: ExitOrders
    entry_price: float
    last_price: float  # of the newest execution bar that had prices


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What is remembered between events.

    Attributes
    ----------
    window : float64, shape (n_inputs, at most lookback_bars), newest last.
    order, decision : the entry order that is not answered yet and the decision behind it.
    next_entry_ms : the first open_time that may enter again.
    book : net PnL of the day that money moved in last.
    leaving : that the position has to be closed which the order on its way may open.
    """

    window: np.ndarray
    order: EntryOrder | None = None
    decision: Decision | None = None
    position: Position | None = None
    next_entry_ms: int = 0
    book: DayBook = NOTHING_BOOKED
    leaving: CloseAsked | None = None


Effect = Record | Instruction
Outcome = tuple[State, list[Effect]]
Gate = Callable[[int, float], str | None]  # time in ms and notional in USDT of an entry; why it must not leave


def flat(rules: Rules) -> State:
    """The state before the first event."""
    return State(window=np.empty((len(rules.inputs), 0)))


def always_open(time_ms: int, notional_usdt: float) -> None:
    """The gate of a run that nobody watches over."""


def step(rules: Rules, state: State, event: Event | Report | CloseAsked, gate: Gate = always_open) -> Outcome:
    """The next state, and what to write and send: records first, then orders, so that no order precedes its intent."""
    match event:
        case BarClosed():
            return _decide(rules, _remembered(rules, state, event), event, gate)
        case Gap():
            return _remembered(rules, state, event), []
        case EntryFilled():
            return _opened(rules, state, event)
        case EntryMissed():
            return _missed(rules, state, event)
        case ExitFilled():
            return _closed(rules, state, event)
        case CloseAsked():
            return _leaving(rules, state, event)
        case FundingPaid():
            book = booked(state.book, _day(rules, event.row), -event.paid_usdt)
            return replace(state, book=book), [_on_position(rules, state, event)]
        case AmbiguousBar():
            return state, [_on_position(rules, state, event)]
        case ExecutionBar():
            return _valued(state, event), []
        case FeedEnded():
            return state, _held_at_the_end(rules, state, event)
        case ExecutionOpen() | Traded() | Quoted() | Marked() | FundingDue():
            return state, []  # the broker meets it; we hear its answer
    raise TypeError(f"expected an event of live.feed or a report of live.orders; got {type(event).__name__}")


def feature_row(rules: Rules, window: np.ndarray) -> tuple:
    """The strategy's ``Row`` of the newest bar: NaN until the window is long enough, as at the start of a backtest."""
    arrays = dict(zip(rules.inputs, window, strict=True))
    newest = features.newest(arrays, list(dict.fromkeys(rules.columns)), constants=rules.constants)
    return rules.strategy.Row(*(newest[name] for name in rules.columns))


def size_inputs(rules: Rules, window: np.ndarray) -> dict[str, np.ndarray]:
    """What the size of an entry on the newest bar is made of, arrays of length 1; none where no size is scaled."""
    newest = dict(zip(rules.inputs, window[:, -1:], strict=True))
    return features.compute(newest, size_features(rules.config.orders.open_interest_size))


def _remembered(rules: Rules, state: State, event: BarClosed | Gap) -> State:
    oldest = max(0, state.window.shape[1] + 1 - rules.lookback_bars)
    return replace(state, window=np.concatenate((state.window[:, oldest:], event.inputs[:, None]), axis=1))


def _decide(rules: Rules, state: State, event: BarClosed, gate: Gate) -> Outcome:
    is_busy = state.order is not None or state.position is not None
    hour = event.time_ms // HOUR_MS % 24
    if is_busy or event.row.open_ms < state.next_entry_ms or not event.market.can_enter[0]:
        return state, []
    if hour not in rules.config.orders.entry_hours:
        return state, []
    row = feature_row(rules, state.window)
    decision = Decision(*rules.strategy.decide(row, 0, rules.params))
    if decision.side == 0:
        return state, []

    side = decision.side
    trade = trade_id(rules.config_hash, rules.config.symbol, event.close_ms, side)
    name = client_order_id(rules.instance, trade, Leg.ENTRY)
    price = _entry_price(rules, side, event)
    sized_by = size_inputs(rules, state.window)
    multiples = size_multiples(rules.config.orders.open_interest_size, sized_by, 1)
    quantity = entry_quantity(price, decision, size_multiple(side, 0, multiples), rules.terms)
    note = _Notes(rules, event.time_ms, trade, event.row)
    looked_at = row._asdict() | {column: float(values[0]) for column, values in sized_by.items()}
    decided = note("decision", name, **decision._asdict(), features=looked_at)
    if math.isnan(price):
        return state, [decided, note("missed", name, cause="no book to rest in")]
    if quantity <= 0.0:
        return state, [decided, note("missed", name, cause="no quantity within the limits")]
    if (refusal := gate(event.time_ms, quantity * price)) is not None:
        return state, [decided, note("missed", name, cause=refusal)]
    levels = Levels(*exit_levels(side, price, decision, rules.terms.tick_size))
    intent = note(
        "intent", name, leg=Leg.ENTRY, side=side, quantity=quantity, decision_price=price, **_entry_plan(rules.terms),
        exits=[*_exit_names(rules, trade, levels).values()],
    )  # fmt: skip
    order = EntryOrder(
        client_order_id=name, trade_id=trade, row=event.row, side=side, quantity=quantity, decision_price=price,
        levels=levels, lifetime_ms=rules.terms.rest_ms,
    )  # fmt: skip
    return replace(state, order=order, decision=decision), [decided, intent, order]


def _entry_price(rules: Rules, side: int, event: BarClosed) -> float:
    """What an entry is sized at, and where it rests if it does; NaN where there is no book to rest in."""
    if rests(rules.terms):
        return resting_price(side, event.market.bid[0], event.market.ask[0], rules.terms)
    return decision_price(side, 0, event.market)


def _entry_plan(terms: Terms) -> dict[str, Any]:
    """Of the entry's intent, how it meets the market."""
    if rests(terms):
        return {"type": "LIMIT GTX", "lifetime_ms": terms.rest_ms}
    return {"type": "LIMIT IOC", "limit_ticks": terms.entry_limit_ticks}


def _opened(rules: Rules, state: State, fill: EntryFilled) -> Outcome:
    order = _answered(state, fill)
    levels = exit_levels(order.side, fill.price, state.decision, rules.terms.tick_size)
    levels = Levels(*with_liquidation(levels, order.side, fill.price, fill.quantity, rules.terms))
    note = _Notes(rules, fill.time_ms, order.trade_id, order.row)
    entry = note(
        "fill", fill.client_order_id, leg=Leg.ENTRY, side=order.side, price=fill.price, quantity=fill.quantity,
        fee_usdt=fill.fee_usdt, filled_ms=fill.time_ms,
    )  # fmt: skip
    exits = ExitOrders(
        client_order_ids=_exit_names(rules, order.trade_id, levels),
        trade_id=order.trade_id,
        side=order.side,
        quantity=fill.quantity,
        levels=levels,
    )
    intents = [
        note("intent", exits.client_order_ids[leg], leg=leg, side=-order.side, quantity=fill.quantity, **plan)
        for leg, plan in _exit_plans(levels).items()
    ]
    position = Position(row=order.row, exits=exits, entry_price=fill.price, last_price=fill.price)
    book = booked(state.book, _day(rules, order.row), -fill.fee_usdt)
    state, effects = replace(state, order=None, decision=None, position=position, book=book), [entry, *intents, exits]
    if state.leaving is None:
        return state, effects
    state, closing = _leaving(rules, state, replace(state.leaving, time_ms=fill.time_ms))
    return state, [*effects, *closing]


def _leaving(rules: Rules, state: State, asked: CloseAsked) -> Outcome:
    """A market order for what is held; its exits stay until it has filled."""
    position = state.position
    if position is None:
        order = state.order
        if order is None:
            return replace(state, leaving=None), []
        taken_back = [CancelEntry(client_order_id=order.client_order_id)] if order.lifetime_ms else []
        return replace(state, leaving=asked), taken_back
    exits = position.exits
    if {Leg.CLOSE, Leg.FLATTEN} & exits.client_order_ids.keys():
        return state, []
    name = client_order_id(rules.instance, exits.trade_id, asked.leg)
    note = _Notes(rules, asked.time_ms, exits.trade_id, position.row)
    intent = note(
        "intent", name, leg=asked.leg, type="MARKET", side=-exits.side, quantity=exits.quantity, reason=asked.reason
    )  # fmt: skip
    exits = replace(exits, client_order_ids={**exits.client_order_ids, asked.leg: name})
    order = CloseOrder(client_order_id=name, leg=asked.leg, reason=asked.reason)
    return replace(state, position=replace(position, exits=exits), leaving=None), [intent, order]


def _day(rules: Rules, row: RowKey) -> int:
    """That ``daily_loss.days_of`` gives the row."""
    return (row.open_ms + rules.interval_ms) // DAY_MS


def _exit_plans(levels: Levels) -> dict[Leg, dict[str, Any]]:
    """The exit orders there are. The stop first: a crash between two orders leaves a protected position."""
    plans: dict[Leg, dict[str, Any]] = {}
    if not math.isnan(levels.stop):
        plans[Leg.STOP] = {"type": "STOP_MARKET", "trigger": "MARK_PRICE", "stop_price": levels.stop}
    if not math.isnan(levels.target):
        plans[Leg.TARGET] = {"type": "TAKE_PROFIT_MARKET", "trigger": "CONTRACT_PRICE", "stop_price": levels.target}
    if not (math.isnan(levels.activation) or math.isnan(levels.callback_bps)):
        plans[Leg.TRAILING] = {
            "type": "TRAILING_STOP_MARKET",
            "trigger": "CONTRACT_PRICE",
            "activation_price": levels.activation,
            "callback_bps": levels.callback_bps,
        }
    return plans


def _exit_names(rules: Rules, trade: str, levels: Levels) -> dict[Leg, str]:
    """Client order ids of the exits of a trade, which the intent of its entry announces."""
    return {leg: client_order_id(rules.instance, trade, leg) for leg in _exit_plans(levels)}


def _missed(rules: Rules, state: State, report: EntryMissed) -> Outcome:
    order = _answered(state, report)
    note = _Notes(rules, report.time_ms, order.trade_id, order.row)
    state, told = replace(state, order=None, decision=None, leaving=None), {}
    if report.row is not None:  # the row after it may have become known while the order rested
        told = {"next_open_time_ms": report.row.open_ms + 2 * rules.interval_ms}
        state = replace(state, next_entry_ms=told["next_open_time_ms"])
    return state, [note("missed", order.client_order_id, cause="expired without a fill", **told)]


def _closed(rules: Rules, state: State, fill: ExitFilled) -> Outcome:
    assert state.position is not None, f"exit {fill.client_order_id} without a position"
    exits = state.position.exits
    note = _Notes(rules, fill.time_ms, exits.trade_id, fill.row)
    records = [
        note("fill", fill.client_order_id, leg=fill.leg, side=-exits.side, reason=fill.reason, price=fill.price,
             quantity=fill.quantity, fee_usdt=fill.fee_usdt, filled_ms=fill.filled_ms)
    ]  # fmt: skip
    records += [note("cancelled", name, leg=leg) for leg, name in exits.client_order_ids.items() if leg != fill.leg]
    # The bar of the exit itself always counts: its row is decided before the exit is known.
    paused_bars = 1 + max(1, rules.terms.cooldown_bars)
    next_entry_ms = fill.row.open_ms + paused_bars * rules.interval_ms
    gain_usdt = gross_pnl_usdt(exits.side, fill.quantity, state.position.entry_price, fill.price) - fill.fee_usdt
    book = booked(state.book, _day(rules, fill.row), gain_usdt)
    if is_spent(book, rules.terms):
        next_entry_ms = max(next_entry_ms, (book.day + 1) * DAY_MS - rules.interval_ms)
    return replace(state, position=None, next_entry_ms=next_entry_ms, book=book), records


def _on_position(rules: Rules, state: State, report: FundingPaid | AmbiguousBar) -> Record:
    assert state.position is not None, f"{report} without a position"
    note = _Notes(rules, report.time_ms, state.position.exits.trade_id, report.row)
    if isinstance(report, FundingPaid):
        return note("funding", None, paid_usdt=report.paid_usdt)
    return note("ambiguous", None)


def _valued(state: State, event: ExecutionBar) -> State:
    if state.position is None or math.isnan(event.market.exec_open[0]):
        return state
    return replace(state, position=replace(state.position, last_price=float(event.market.exec_close[0])))


def _held_at_the_end(rules: Rules, state: State, event: FeedEnded) -> list[Effect]:
    position = state.position
    if position is None:
        return []
    note = _Notes(rules, event.time_ms, position.exits.trade_id, position.row)
    last_price = position.last_price if math.isnan(event.last_price) else event.last_price
    return [note("held", None, last_price=last_price, valued_ms=event.time_ms - 1)]


@dataclass(frozen=True)
class _Notes:
    """Writes records about one trade and one lake row."""

    rules: Rules
    ts_ms: int
    trade_id: str
    row: RowKey

    def __call__(self, kind: str, client_order_id: str | None, **body: Any) -> Record:
        return Record(
            ts_ms=self.ts_ms,
            kind=kind,
            config_hash=self.rules.config_hash,
            symbol=self.rules.config.symbol,
            trade_id=self.trade_id,
            client_order_id=client_order_id,
            body={"interval": self.row.interval, "open_time_ms": self.row.open_ms, **body},
        )


def _answered(state: State, report: EntryFilled | EntryMissed) -> EntryOrder:
    order = state.order
    assert order is not None and order.client_order_id == report.client_order_id, f"{report} answers no order of ours"
    return order
