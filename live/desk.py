"""One config on one symbol: its state, its broker, its lines in the journal."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from live.brokers.paper import PaperBroker
from live.feed import Event, ExecutionBar, FeedEnded, Header, Marked, Tick
from live.journal import Journal, Record
from live.orders import (
    CloseAsked,
    EntryFilled,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Instruction,
    Report,
)
from live.trader import Gate, always_open, flat, step
from live.trading_rules import rules_of
from research.engine import TradingConfig
from research.fills import Terms

REPLAY_INSTANCE = "rpl"  # a replayed order id can never be taken for a real one
PAPER_INSTANCE = "ppr"


class Broker(Protocol):
    """Takes orders and answers market events with what became of them."""

    def __init__(self, terms: Terms) -> None: ...

    def place(self, order: Instruction) -> None: ...

    def on(self, event: Event) -> list[Report]: ...


class Desk:
    """Hands events to the broker and the trader, and what they say to the journal.

    Parameters
    ----------
    header : of the symbol's events.
    mode, instance : of the run, as they stand in the journal and in order ids.

    Attributes
    ----------
    closed_trades, net_pnl_usdt : so far, for people who watch; the journal has the exact account.
    mode : of the run.
    gate : that every entry has to pass.

    Raises
    ------
    ValueError
        When the header is of another config, or the exchange could not execute the config.
    """

    def __init__(
        self,
        config: TradingConfig,
        header: Header,
        *,
        mode: str = "replay",
        instance: str = REPLAY_INSTANCE,
        broker: Callable[[Terms], Broker] = PaperBroker,
    ) -> None:
        if header.config_hash != config.config_hash or header.symbol != config.symbol:
            raise ValueError(f"the rows of {header.symbol} are for another config; start the replay again")
        self.header = header
        self.rules = rules_of(config, header, instance)
        self.key = (self.rules.config_hash, config.symbol)
        self.mode = mode
        self._state = flat(self.rules)
        self._broker = broker(self.rules.terms)
        self._no_map_because: str | None = None
        self._cash_usdt = 0.0  # of everything since flat
        self._mark_price = 0.0  # the newest since the entry, else its price
        self.gate: Gate = always_open
        self.closed_trades = 0
        self.net_pnl_usdt = 0.0

    @property
    def side(self) -> int:
        """Of the open position; 0 when flat."""
        return 0 if self._state.position is None else self._state.position.exits.side

    @property
    def exits(self) -> ExitOrders | None:
        """Planned for the open position; None when flat."""
        return None if self._state.position is None else self._state.position.exits

    @property
    def is_busy(self) -> bool:
        """Something is held or on its way."""
        return self._state.position is not None or self._state.order is not None

    @property
    def is_resting(self) -> bool:
        """An entry waits in the book, or is on its way there."""
        return self._state.order is not None and self._state.order.lifetime_ms > 0

    @property
    def notional_usdt(self) -> float:
        """Of what is held, at the newest mark, or of an entry that has not filled, at the price it is sized at."""
        if self._state.order is not None:
            return self._state.order.quantity * self._state.order.decision_price
        return 0.0 if self._state.position is None else self._state.position.exits.quantity * self._mark_price

    @property
    def result_usdt(self) -> float:
        """Net of everything so far, what is held at the newest mark."""
        if self._state.position is None:
            return self.net_pnl_usdt
        return self.net_pnl_usdt + self._cash_usdt + self.side * self.notional_usdt

    @property
    def next_entry_ms(self) -> int:
        """Open_time of the first row that may enter again."""
        return self._state.next_entry_ms

    def start(self, time_ms: int, journal: Journal, **told: Any) -> None:
        """Write down what runs, before the first event."""
        told |= {"config": self.rules.config, "instrument": self.header.instrument}
        journal.append([self._note("start", time_ms, **told, assumptions=self.header.assumptions)])

    def handle(self, event: Event, journal: Journal) -> None:
        """The market acts on the orders first, then we hear of it."""
        if isinstance(event, Marked):
            self._mark_price = event.mark
        elif isinstance(event, ExecutionBar) and not math.isnan(event.market.mark_open[0]):
            self._mark_price = float(event.market.mark_open[0])
        for report in self._broker.on(event):
            self.hear(report, journal)
        if isinstance(event, Tick):
            return
        self._apply(event, journal)
        if isinstance(event, FeedEnded):
            journal.append([self._note("end", event.time_ms)])

    def hear(self, report: Report, journal: Journal) -> None:
        """What became of an order."""
        self._account(report)
        self._apply(report, journal)

    def close(self, asked: CloseAsked, journal: Journal) -> None:
        """Close what is held, and what an order on its way brings; the fill comes with the market's next events."""
        self._apply(asked, journal)

    def tell_of_map(self, time_ms: int, reason: str | None, journal: Journal) -> None:
        """Write down that there is a liquidation map to decide on, or why there is none, when that has changed."""
        if reason != self._no_map_because:
            self._no_map_because = reason
            journal.append([self._note("map", time_ms, available=reason is None, reason=reason)])

    def _apply(self, event: Event | Report | CloseAsked, journal: Journal) -> None:
        self._state, effects = step(self.rules, self._state, event, self.gate)
        journal.append(effect for effect in effects if isinstance(effect, Record))
        for effect in effects:
            if not isinstance(effect, Record):
                self._broker.place(effect)

    def _account(self, report: Report) -> None:
        match report:
            case EntryFilled():
                self._mark_price = report.price
                self._cash_usdt = -self._state.order.side * report.quantity * report.price - report.fee_usdt
            case FundingPaid():
                self._cash_usdt -= report.paid_usdt
            case ExitFilled():
                self._cash_usdt += self.side * report.quantity * report.price - report.fee_usdt
                self.net_pnl_usdt += self._cash_usdt
                self.closed_trades += 1

    def _note(self, kind: str, ts_ms: int, **body: Any) -> Record:
        config_hash, symbol = self.key
        return Record(
            ts_ms=ts_ms,
            kind=kind,
            config_hash=config_hash,
            symbol=symbol,
            trade_id=None,
            client_order_id=None,
            body={"mode": self.mode, **body},
        )
