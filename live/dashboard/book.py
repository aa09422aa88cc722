"""What the journal's events add up to: positions, orders, closed trades and what entries cost. Pure, event by event."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from live.dashboard.journal_reader import Event
from live.journal_trades import trade_of
from live.orders import Leg
from live.risk import Level
from research.daily_loss import DAY_MS

KEPT_ORDERS = 500  # that ended
KEPT_ENTRIES = 1_000  # per symbol, to judge slippage by
_ENDS = {"fill": "filled", "cancelled": "cancelled", "missed": "missed"}
_STATES = {  # of a real order, as the exchange told it; see ``live.order_state``
    "SENT": "sent", "UNKNOWN": "unknown", "NEW": "open", "PARTIALLY_FILLED": "open", "LOST": "lost",
    "REJECTED": "rejected", "CANCELED": "cancelled", "EXPIRED": "expired", "FILLED": "filled",
}  # fmt: skip
_PRICES, _SENT_PRICES = ("stop_price", "activation_price", "decision_price"), ("stopPrice", "activationPrice")
_STANDING = ("sent", "unknown", "open")
_LEGS = {
    Leg.ENTRY: "entry", Leg.STOP: "stop", Leg.TARGET: "target", Leg.TRAILING: "trailing", Leg.CLOSE: "close",
    Leg.FLATTEN: "flatten",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order of ours as its last event left it. Prices NaN where there is none, quantity of a close-all order."""

    client_order_id: str
    trade_id: str
    config_hash: str
    symbol: str
    leg: str  # entry, stop, target, trailing, close, flatten
    type: str
    side: int  # 1 buys, -1 sells
    quantity: float
    price: float  # that triggers it, or that its limit is counted from
    state: str  # sent, unknown, open; filled, cancelled, missed, expired, rejected, lost
    time_ms: int  # of its last event


@dataclass(frozen=True, kw_only=True)
class Run:
    """One config as its last start told it."""

    config_hash: str
    symbol: str
    mode: str
    config: dict[str, Any]
    instrument: dict[str, Any]
    resolution: str | None
    assumptions: tuple[str, ...]
    start_ms: int


@dataclass(kw_only=True)
class EntryCosts:
    """How far entries of a symbol filled from the touch that was decided on.

    Attributes
    ----------
    entries : how many. last_bps : of the last of them, positive is worse.
    """

    entries: int = 0
    last_bps: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_ENTRIES))

    def add(self, cost_bps: float) -> None:
        """One more."""
        self.entries += 1
        self.last_bps.append(cost_bps)


@dataclass(kw_only=True)
class Sums:
    """Of closed trades, USDT; funding that nobody knows counts as none."""

    trades: int = 0
    wins: int = 0
    gross_usdt: float = 0.0
    fees_usdt: float = 0.0
    funding_usdt: float = 0.0
    net_usdt: float = 0.0
    won_usdt: float = 0.0  # net of those above zero
    lost_usdt: float = 0.0  # of the others, 0 or more
    peak_usdt: float = 0.0  # the highest net there was
    drawdown_usdt: float = 0.0  # the furthest below its peak; 0 or less

    def add(self, row: Mapping[str, Any]) -> None:
        """One more trade, by name of ``TRADES``."""
        net = net_usdt(row)
        self.trades += 1
        self.wins += net > 0.0
        self.gross_usdt += row["gross_pnl_usdt"]
        self.fees_usdt += row["fees_usdt"]
        self.funding_usdt += _known(row["funding_usdt"])
        self.net_usdt += net
        self.won_usdt += max(net, 0.0)
        self.lost_usdt += max(-net, 0.0)
        self.peak_usdt = max(self.peak_usdt, self.net_usdt)
        self.drawdown_usdt = min(self.drawdown_usdt, self.net_usdt - self.peak_usdt)


@dataclass(kw_only=True)
class Held:
    """A trade without an exit: its events so far, and the name of its orders by leg."""

    trade_id: str
    config_hash: str
    symbol: str
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether the entry filled."""
        return any(kind == "fill" for kind, _ in self.told)

    def body(self, kind: str, leg: Leg) -> dict[str, Any]:
        """Of the event of that kind on that leg; empty without one."""
        return next((body for told, body in self.told if told == kind and body.get("leg") == leg), {})


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A position that was taken over with a stop of its own, for no trader of the run."""

    trade_id: str
    config_hash: str
    symbol: str
    side: int  # 1 long, -1 short
    quantity: float
    entry_price: float  # NaN while no fill of it is known
    time_ms: int  # when it was taken over


class Book:
    """The journal so far.

    Attributes
    ----------
    head, last_ms : number and time of the last event.
    runs : by config hash and symbol.
    held : trades that were decided and have not ended, by id.
    adopted : positions that were taken over and have not been closed, by id.
    closed : rows by name of ``TRADES`` with times in ms, their config and a number from 1, as they were booked: a real
        run may find out late that a position had ended. exited_ms : the latest exit up to each of them.
    orders : those that stand or may, by name. ended : the last ones that do not any more.
    entry_costs : by symbol. sums : of all closed trades.
    maps : by symbol, why there is no liquidation map to decide on; None where there is one.
    level, level_ms, because : what the run may do (``live.risk.Level``), since when, and the reasons.
    spent_day : a day (UTC, since 1970) on which nothing more is entered.
    naked_day, naked_ms : a day (UTC, since 1970), and the longest that a position of it had to wait for its stop.
    """

    def __init__(self) -> None:
        self.head = 0
        self.last_ms = 0
        self.runs: dict[tuple[str, str], Run] = {}
        self.held: dict[str, Held] = {}
        self.adopted: dict[str, Adopted] = {}
        self.closed: list[dict[str, Any]] = []
        self.exited_ms: list[int] = []
        self.orders: dict[str, Order] = {}
        self.ended: deque[Order] = deque(maxlen=KEPT_ORDERS)
        self.entry_costs: dict[str, EntryCosts] = {}
        self.sums = Sums()
        self.maps: dict[str, str | None] = {}
        self.level = Level.ACTIVE
        self.level_ms: int | None = None
        self.because: list[str] = []
        self.spent_day = -1
        self.naked_day, self.naked_ms = -1, 0

    @property
    def positions(self) -> list[Held]:
        """Those whose entry filled, oldest first."""
        return [held for held in self.held.values() if held.is_open]

    @property
    def mode(self) -> str | None:
        """replay, paper or real; None before the first start."""
        return next((run.mode for run in reversed(self.runs.values())), None)

    def take(self, event: Event) -> None:
        """Add one event, the next in order."""
        self.head, self.last_ms = event.seq, max(self.last_ms, event.time_ms)
        if event.kind == "start":
            self._started(event)
        elif event.kind == "map":
            self.maps[event.symbol] = event.body["reason"]
        elif event.kind == "risk":
            self._weighed(event)
        elif event.kind == "adopted" and "entry_price" in event.body:  # older journals do not tell it
            self._adopted(event)
        elif event.kind == "closed":
            self.adopted.pop(event.trade_id, None)
        elif event.kind == "guarded":
            day = event.time_ms // DAY_MS
            before_ms = self.naked_ms if day == self.naked_day else 0
            self.naked_day, self.naked_ms = day, max(before_ms, event.body["naked_ms"])
        if event.client_order_id is not None:
            self._order(event)
        if event.trade_id is not None:
            self._trade(event)

    def _weighed(self, event: Event) -> None:
        """A real run also tells peaks of its equity, which leave the level as it was."""
        level = Level(event.body["level"])
        if level is not self.level or self.level_ms is None:
            self.level_ms = event.time_ms
        self.level = level
        self.because = event.body.get("because") or list(event.body["state"]["lowered"])
        self.spent_day = event.body["state"].get("spent_day", -1)

    def _adopted(self, event: Event) -> None:
        body = event.body
        self.adopted[event.trade_id] = Adopted(
            trade_id=event.trade_id,
            config_hash=event.config_hash,
            symbol=event.symbol,
            side=body["side"],
            quantity=float(body["quantity"]),
            entry_price=float(body["entry_price"]),
            time_ms=event.time_ms,
        )

    def _started(self, event: Event) -> None:
        """What had been taken over is found again, if it is still there, and taken over again."""
        self.adopted = {name: each for name, each in self.adopted.items() if each.symbol != event.symbol}
        body = event.body
        self.runs[event.config_hash, event.symbol] = Run(
            config_hash=event.config_hash,
            symbol=event.symbol,
            mode=body["mode"],
            config=body["config"],
            instrument=body["instrument"],
            resolution=body.get("resolution"),
            assumptions=tuple(body["assumptions"]),
            start_ms=event.time_ms,
        )

    def _order(self, event: Event) -> None:
        name, body = event.client_order_id, event.body
        if event.kind == "intent" and name not in self.orders:  # the trader's may come after the account's own
            sent = dict(body.get("parameters", ()))  # of an order that the account's own protection wanted
            prices = (*map(body.get, _PRICES), *map(sent.get, _SENT_PRICES))
            self.orders[name] = Order(
                client_order_id=name,
                trade_id=event.trade_id,
                config_hash=event.config_hash,
                symbol=event.symbol,
                leg=_LEGS.get(body["leg"], body["leg"]),
                type=body.get("type") or sent["type"],
                side=body["side"],
                quantity=_number(body["quantity"]),
                price=_number(next((price for price in prices if price is not None), None)),
                state="sent" if self.mode == "real" else "open",  # on paper the broker is our own
                time_ms=event.time_ms,
            )
        elif name in self.orders and (event.kind == "order" or event.kind in _ENDS):
            state = _STATES[body["status"]] if event.kind == "order" else _ENDS[event.kind]
            order = replace(self.orders.pop(name), state=state, time_ms=event.time_ms)
            if state in _STANDING:
                self.orders[name] = order
            else:
                self.ended.append(order)

    def _trade(self, event: Event) -> None:
        kind, body = event.kind, event.body
        trade = event.trade_id
        if kind == "missed" or (kind == "fill" and body["leg"] != Leg.ENTRY and trade in self.held):
            held = self.held.pop(trade, None)
            if kind == "fill":
                self._close(held, event)
            return
        if kind != "decision" and trade not in self.held:
            return  # the cancelled exits of a trade that ended
        held = self.held.setdefault(
            trade, Held(trade_id=trade, config_hash=event.config_hash, symbol=event.symbol)
        )  # fmt: skip
        held.told.append((kind, body))
        if kind == "fill":
            decided = held.body("intent", Leg.ENTRY)["decision_price"]
            cost_bps = 1e4 * body["side"] * (body["price"] / decided - 1.0)
            self.entry_costs.setdefault(event.symbol, EntryCosts()).add(cost_bps)

    def _close(self, held: Held, event: Event) -> None:
        row = trade_of(held.trade_id, held.symbol, [*held.told, (event.kind, event.body)])
        self.closed.append({"number": len(self.closed) + 1, "config_hash": held.config_hash, **row})
        self.exited_ms.append(max([row["exit_time"], *self.exited_ms[-1:]]))
        self.sums.add(row)


def net_usdt(row: Mapping[str, Any]) -> float:
    """Of a closed trade, by name of ``TRADES``; funding that nobody knows counts as none."""
    return row["gross_pnl_usdt"] - row["fees_usdt"] - _known(row["funding_usdt"])


def _number(value: str | float | None) -> float:
    return math.nan if value is None else float(value)


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
