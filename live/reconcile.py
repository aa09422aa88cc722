"""What to do about every difference between the journal and the exchange, at start and while running. Pure.

The exchange is right about what is held and what stands; the journal is right about why. Where the exchange could not
be read nothing follows: no position is taken for flat, no order for gone. The same two views give the same steps, so
that a crash in the middle changes nothing.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from live.order_evidence import ZERO, OrderSeen, PositionSeen, TradeSeen, Unread
from live.order_state import Order, all_heard, forced, heard
from live.orders import OWNER, Leg, order_name
from live.protection import Cancel, Finding, Phase, Trade
from research.fills import Levels

QUIET_MS = 5_000  # a symbol that was heard of so recently is not audited: one of the two views is old
_OPEN = ("NEW", "PARTIALLY_FILLED")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the account has to be like.

    Attributes
    ----------
    instance : of our order ids.
    leverages : by symbol: those that we trade.
    is_hedge, is_isolated : modes.
    adopting : symbols of which the operator said that a foreign position is to be taken over.
    emergency_stop_bps : of the entry price, for a position whose plan is lost.
    began_ms : of the exchange's clock, when this run began.
    """

    instance: str
    leverages: Mapping[str, int]
    is_hedge: bool
    is_isolated: bool
    adopting: frozenset[str] = frozenset()
    emergency_stop_bps: float
    began_ms: int


@dataclass(frozen=True, kw_only=True)
class ExchangeView:
    """What the exchange told, or why a part could not be read.

    Attributes
    ----------
    positions : of every symbol, flat ones too.
    orders : all open ones, and those of our symbols since the journal's last entry.
    fills : of our symbols since the journal's last fill.
    is_hedge, is_multi_assets : modes.
    """

    positions: tuple[PositionSeen, ...] | Unread
    orders: tuple[OrderSeen, ...] | Unread
    fills: tuple[TradeSeen, ...] | Unread
    is_hedge: bool | Unread
    is_multi_assets: bool | Unread

    @property
    def unread(self) -> tuple[str, ...]:
        """What is missing, in words."""
        parts = vars(self).items()
        return tuple(f"{name}: {value.reason}" for name, value in parts if isinstance(value, Unread))


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Journal and exchange agree on the trade, which has heard everything; what it needs, ``protection`` says."""

    trade: Trade


@dataclass(frozen=True, kw_only=True)
class BookExit:
    """The trade is over, known to the last fill: our orders, or the exchange's, closed it while nobody listened."""

    trade: Trade


@dataclass(frozen=True, kw_only=True)
class Adjust:
    """The exchange holds something else than our fills add up to, and it is right.

    Attributes
    ----------
    adjustment_id : the same for the same difference, however often it is found.
    by : base units, signed like the trade's side.
    """

    trade: Trade
    adjustment_id: str
    by: Decimal


@dataclass(frozen=True, kw_only=True)
class Adopt:
    """A position that the journal does not know becomes a trade, with an emergency stop; only exits from then on."""

    trade: Trade
    entry_price: Decimal  # as the exchange has it
    is_foreign: bool


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """A symbol is not traded. None: nothing is."""

    symbol: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class AskOrder:
    """An order of ours whose fate is not known."""

    client_order_id: str
    symbol: str


@dataclass(frozen=True, kw_only=True)
class StopRunning:
    """Another runner trades this account."""

    reason: str


Step = Resume | BookExit | Adjust | Adopt | Refuse | AskOrder | Cancel | StopRunning | Finding


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """Attributes: ``is_green``, entries may begin where nothing is refused; ``waits_for``, what could not be read."""

    steps: tuple[Step, ...]
    waits_for: tuple[str, ...] = ()

    @property
    def is_green(self) -> bool:
        """Everything was read, every fate is known, and nobody else trades here."""
        blocks = (AskOrder, StopRunning)
        return not self.waits_for and not any(isinstance(step, blocks) or _refuses_all(step) for step in self.steps)


def reconcile(setup: Setup, trades: Iterable[Trade], exchange: ExchangeView) -> Reconciliation:
    """All that follows from the journal's open trades and the exchange.

    Parameters
    ----------
    trades : those that are not over.

    Raises
    ------
    ValueError
        When there is more than one of a symbol and side: a close-all stop of one would close the other.
    """
    if exchange.unread:
        return Reconciliation(steps=(), waits_for=exchange.unread)
    trades = tuple(trades)
    if len({(trade.symbol, trade.side) for trade in trades}) < len(trades):
        listed = ", ".join(f"{trade.trade_id} of {trade.symbol}" for trade in trades)
        raise ValueError(
            f"expected one open trade per symbol and side, got {listed}; run each config on its own account"
        )
    steps: list[Step] = [*_modes(setup, exchange), *_other_runners(setup, exchange)]
    for position in exchange.positions:
        mine = [trade for trade in trades if _is_of(trade, position)]
        if mine:
            steps += _known(setup, caught_up(mine[0], exchange, position), position)
        elif position.amount:
            steps += _unknown(setup, exchange, position)
    told = {position.symbol for position in exchange.positions}
    for trade in trades:
        if trade.symbol not in told:
            steps.append(Refuse(symbol=trade.symbol, reason="the exchange told no position of it, not even a flat one"))
    return Reconciliation(steps=(*steps, *_leftovers(setup, trades, exchange)))


def audited(
    found: Reconciliation, before: Reconciliation | None, heard_ms: Mapping[str, int], now_ms: int
) -> tuple[Step, ...]:
    """What an audit while running acts on: differences that two in a row found, and only where it was quiet.

    Parameters
    ----------
    heard_ms : by symbol, when the user stream or an answer last told of it.
    """
    known = [] if before is None else [_key(step) for step in before.steps]
    return tuple(
        step
        for step in found.steps
        if not isinstance(step, Resume)
        and (isinstance(step, StopRunning) or _key(step) in known)
        and now_ms - heard_ms.get(_symbol(step) or "", -QUIET_MS) >= QUIET_MS
    )


def caught_up(trade: Trade, exchange: ExchangeView, position: PositionSeen) -> Trade:
    """The trade with everything that the exchange told of its orders, known ones and forgotten ones."""
    orders = dict(trade.orders)
    for seen in exchange.orders:
        name = order_name(seen.client_order_id)
        of_trade = name is not None and (name.instance, name.trade_id, name.tranche) == _identity(trade)
        if seen.symbol == trade.symbol and of_trade:
            known = orders.get(seen.client_order_id) or _forgotten(seen)
            orders[seen.client_order_id] = heard(known, seen)
        elif trade.may_be_closed_by(seen):
            orders[seen.client_order_id] = heard(orders.get(seen.client_order_id) or forced(seen), seen)
    for key, order in orders.items():
        fills = (fill for fill in exchange.fills if fill.symbol == order.symbol and fill.order_id == order.order_id)
        orders[key] = all_heard(order, fills)
    return replace(trade, orders=orders, amounts=trade.amounts.heard(position))


def _known(setup: Setup, trade: Trade, position: PositionSeen) -> list[Step]:
    """A trade of the journal beside what is held."""
    steps: list[Step] = _settings(setup, position) if position.amount else []
    held = position.amount * trade.side
    if held < 0:
        steps.append(
            Refuse(symbol=trade.symbol, reason=f"{position.amount} is held against our trade {trade.trade_id}")
        )
        held = ZERO
    doubtful = [order for order in trade.orders.values() if order.is_pending]
    steps += [AskOrder(client_order_id=order.client_order_id, symbol=order.symbol) for order in doubtful]
    if held == trade.quantity:
        is_over = not held and not any(order.may_fill for order in trade.of(Leg.ENTRY))
        return [*steps, BookExit(trade=trade) if is_over else Resume(trade=trade)]
    if doubtful:  # they may explain it
        return steps
    by = held - trade.quantity
    detail = f"{trade.trade_id}: our fills add up to {trade.quantity}, the exchange holds {held}"
    adjusted = replace(trade, adjustment=trade.adjustment + by)
    adjust = Adjust(trade=adjusted, adjustment_id=_adjustment_id(trade, position), by=by)
    return [*steps, adjust, Finding(kind="mismatch", symbol=trade.symbol, detail=detail)]


def _unknown(setup: Setup, exchange: ExchangeView, position: PositionSeen) -> list[Step]:
    """A position without a trade."""
    symbol, side = position.symbol, 1 if position.amount > 0 else -1
    if symbol not in setup.leverages:
        return [Finding(kind="foreign_position", symbol=symbol, detail=f"{position.amount}, not ours, left alone")]
    levels = _emergency(setup, position, side)
    foreign = digest(symbol, position.amount, position.told_ms), 0
    entries = [
        (name, seen)
        for seen in exchange.orders
        if (name := order_name(seen.client_order_id)) is not None
        and (seen.symbol, name.instance, name.leg, seen.side) == (symbol, setup.instance, Leg.ENTRY, side)
        and seen.filled
    ]
    entries.sort(key=lambda each: each[1].told_ms, reverse=True)
    known = [(name.trade_id, name.tranche) for name, _ in entries]
    for trade_id, tranche in (*known, foreign):
        empty = Trade(
            instance=setup.instance, trade_id=trade_id, symbol=symbol, side=side, tranche=tranche, levels=levels,
            is_withdrawn=True,
        )  # fmt: skip
        trade = caught_up(empty, exchange, position)
        if trade.quantity > 0:  # one that is over explains nothing
            break
    is_foreign = (trade_id, tranche) == foreign
    if is_foreign and symbol not in setup.adopting:
        return [Refuse(symbol=symbol, reason=f"{position.amount} is held that no order of ours explains")]
    trade = replace(trade, adjustment=abs(position.amount) - trade.quantity)
    return [*_settings(setup, position), Adopt(trade=trade, entry_price=position.entry_price, is_foreign=is_foreign)]


def _leftovers(setup: Setup, trades: Iterable[Trade], exchange: ExchangeView) -> list[Step]:
    """Our open orders that no longer serve: entries that do not rest, and exits of what is said to be flat."""
    resting = [trade for trade in trades if trade.entry_lifetime_ms and not trade.is_withdrawn]
    wanted = {order.client_order_id for trade in resting for order in trade.of(Leg.ENTRY)}
    flat = {(position.symbol, position.position_side) for position in exchange.positions if not position.amount}
    steps: list[Step] = []
    for seen in exchange.orders:
        name = order_name(seen.client_order_id)
        if name is None or name.instance != setup.instance or seen.status not in _OPEN:
            continue
        is_stale = name.leg is Leg.ENTRY and seen.client_order_id not in wanted
        if not is_stale and (name.leg is Leg.ENTRY or (seen.symbol, seen.position_side) not in flat):
            continue
        if seen.symbol in setup.leverages:
            steps.append(Cancel(client_order_id=seen.client_order_id, symbol=seen.symbol))
        else:  # nothing may leave for a symbol that the operator did not type
            detail = f"{seen.client_order_id} of {seen.symbol}, which is not traded here, still stands; take it back"
            steps.append(Finding(kind="leftover", symbol=seen.symbol, detail=detail, is_urgent=name.leg is Leg.ENTRY))
    return steps


def _modes(setup: Setup, exchange: ExchangeView) -> list[Step]:
    """Modes are never switched by us: positions and orders would be in the way, or lose their sense."""
    steps: list[Step] = []
    if exchange.is_hedge != setup.is_hedge:
        words = {True: "hedge", False: "one-way"}
        reason = f"expected {words[setup.is_hedge]} mode, the account is in {words[exchange.is_hedge]} mode; switch it"
        steps.append(Refuse(symbol=None, reason=reason))
    if exchange.is_multi_assets and setup.is_isolated:
        reason = "isolated margin does not go with multi-assets mode; switch that off, or trade with cross margin"
        steps.append(Refuse(symbol=None, reason=reason))
    return steps


def _settings(setup: Setup, position: PositionSeen) -> list[Step]:
    """Leverage and margin of a position are not those of the config."""
    wanted = (setup.leverages.get(position.symbol), setup.is_isolated)
    told = (position.leverage, position.is_isolated)
    if told == wanted or wanted[0] is None:
        return []
    reason = f"expected leverage {wanted[0]}, isolated {wanted[1]}; the position has {told[0]}, {told[1]}"
    return [Refuse(symbol=position.symbol, reason=reason)]


def _other_runners(setup: Setup, exchange: ExchangeView) -> list[Step]:
    """Orders with our prefix and another instance: newer than this run, somebody runs beside us."""
    others = {}
    for seen in exchange.orders:
        name = order_name(seen.client_order_id)
        if name is not None and name.instance != setup.instance and seen.told_ms >= setup.began_ms:
            others[name.instance] = seen.client_order_id
    return [
        StopRunning(reason=f"{OWNER}{instance} placed or changed {order} after this run began")
        for instance, order in sorted(others.items())
    ]


def _emergency(setup: Setup, position: PositionSeen, side: int) -> Levels:
    stop = float(position.entry_price) * (1.0 - side * setup.emergency_stop_bps / 1e4)
    return Levels(stop, math.nan, math.nan, math.nan)


def _forgotten(seen: OrderSeen) -> Order:
    """An order of ours that the journal does not know."""
    quantity = None if seen.close_position else seen.quantity
    return Order(client_order_id=seen.client_order_id, symbol=seen.symbol, side=seen.side, quantity=quantity)


def _is_of(trade: Trade, position: PositionSeen) -> bool:
    sides = {"LONG": (1,), "SHORT": (-1,)}.get(position.position_side, (1, -1))
    return trade.symbol == position.symbol and trade.side in sides and trade.phase is not Phase.OVER


def _identity(trade: Trade) -> tuple[str, str, int]:
    return trade.instance, trade.trade_id, trade.tranche


def _adjustment_id(trade: Trade, position: PositionSeen) -> str:
    return digest(trade.trade_id, trade.quantity, position.amount)


def digest(*told: object) -> str:
    """Ten characters, as in ``research.trades.trade_id``; a digit first, which no base 32 text begins with."""
    text = "|".join(str(each) for each in told)
    return f"0{hashlib.blake2s(text.encode()).hexdigest()[:9]}"


def _key(step: Step) -> object:
    """What makes two audits find the same; when they asked is no part of it."""
    match step:
        case Adjust():
            return step.adjustment_id
        case Adopt() | BookExit():
            return type(step), step.trade.trade_id, step.trade.quantity
    return step


def _refuses_all(step: Step) -> bool:
    return isinstance(step, Refuse) and step.symbol is None


def _symbol(step: Step) -> str | None:
    trade = getattr(step, "trade", None)
    return trade.symbol if trade is not None else getattr(step, "symbol", None)
