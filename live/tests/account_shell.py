"""A runner's shell in small, between a trade of ours and the loopback exchange's account.

Whatever it sends or hears may be cut, late, doubled or out of order.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from random import Random

from data.loopback import account_answers, account_request
from data.loopback.account_events import told
from data.loopback.query import Query, Refused
from data.tests.account_market import BTC, Desk
from live import exchange_orders
from live.exchange_orders import Place
from live.order_answers import NotFound, Unanswered, placed
from live.order_evidence import (
    OrderSeen,
    PositionSeen,
    TradeSeen,
    of_stream,
    order_of_rest,
    position_of_rest,
    trade_of_rest,
)
from live.order_questions import ORDER, Surroundings, is_lost, next_question
from live.order_state import Asked, CancelRefused, CancelSent, GivenUp, Order, Sent, all_heard, heard
from live.orders import Leg
from live.protection import AskPosition, Cancel, Trade, next_steps, with_orders
from live.reconcile import Adjust, BookExit, ExchangeView, Resume, Setup, reconcile
from live.restore import Event, open_trades
from live.tests.exchange_words import CONTRACT, LEVELS, TERMS, TRADE, entry_order

FAULTS = ("cut before", "cut after", "late")
SETUP = Setup(
    instance="one", leverages={BTC: 10}, is_hedge=False, is_isolated=False, emergency_stop_bps=200.0, began_ms=0
)  # fmt: skip
_TIMEOUT_MS = 2_000


class Shell:
    """One long trade on one account.

    Parameters
    ----------
    trouble : share of requests and of messages that something happens to.
    lifetime_ms : of an entry that rests; 0: it takes.

    Attributes
    ----------
    wanted : base units; of an entry that rests more than the market brings at once.
    """

    def __init__(self, seed: int, trouble: float, lifetime_ms: int = 0):
        self.random, self.trouble, self._lifetime_ms = Random(seed), trouble, lifetime_ms
        self.wanted = 12.0 if lifetime_ms else 2.0
        self.desk = Desk(shows_all=self.random.random() < 0.5)
        self.trade = Trade(
            instance="one", trade_id=TRADE, symbol=BTC, side=1, levels=LEVELS, entry_lifetime_ms=lifetime_ms
        )  # fmt: skip
        self.sent: list[str] = []
        self._journal: list[Event] = []
        self._late: list[Place] = []
        self._inbox: list[dict] = []

    def enter(self) -> None:
        """At 101.5 or less; where it rests, at 99.5."""
        price = 99.5 if self._lifetime_ms else 100.5
        self._send(exchange_orders.entry(CONTRACT, entry_order(self.wanted, price, self._lifetime_ms), TERMS))

    def move(self, price: float, offered: str) -> None:
        """The market goes somewhere."""
        self.desk.book(f"{price - 0.5}*{offered} {price - 1}*9", f"{price + 0.5}*{offered} {price + 1}*9")
        self.desk.trade(str(price))
        self.desk.mark(str(price))

    def work(self, price: float) -> None:
        """Hear what there is to hear, ask what is due, take the next steps."""
        for place in self._late[:1] if self.random.random() < 0.5 else []:
            self._late.remove(place)
            self._reach(place)
        self._listen()
        self._ask_what_is_due()
        for step in next_steps(self.trade, CONTRACT, price, self.desk.now_ms):
            if isinstance(step, Place):
                self._send(step)
            elif isinstance(step, Cancel):
                self._cancel(step)
            elif isinstance(step, AskPosition) and not self._fault():
                self._hear([self._position(self.desk.now_ms)])
        self.desk.later(1_100)

    def restart(self) -> None:
        """Killed and started again: what is left is the journal's intents and what the exchange tells."""
        self._inbox, _ = [], self.desk.account.news()
        [trade] = open_trades(self._journal, self.desk.later(500))
        # The trader decides again what it had decided.
        self.trade = replace(trade, levels=LEVELS, is_withdrawn=True)
        for order in self.trade.orders.values():
            self._ask(order)
        for step in reconcile(SETUP, [self.trade], self._view()).steps:
            if isinstance(step, Resume | Adjust | BookExit):
                self.trade = step.trade
            elif isinstance(step, Cancel):
                self._cancel(step)
        self.fill_gap()

    def calm_down(self) -> None:
        """From now on nothing goes wrong, and the gap is filled as after a reconnect."""
        self.trouble = 0.0
        while self._late:
            self._reach(self._late.pop())
        self.fill_gap()

    def fill_gap(self) -> None:
        """The account as REST tells it; its positions are the first word of the new stream."""
        self._listen()
        for order in self.trade.orders.values():
            self._ask(order)
        self._hear([self._position(self.desk.now_ms), self._position(None)])
        self._hear(self._trades())

    def _send(self, place: Place) -> None:
        assert place.client_order_id not in self.sent, "an id is sent once"
        self.sent.append(place.client_order_id)
        order = Order(
            client_order_id=place.client_order_id, symbol=place.symbol, side=place.side, quantity=place.quantity
        )  # fmt: skip
        asked_ms = self.desk.now_ms
        self._journal.append(Event(asked_ms, "intent", BTC, TRADE, place.client_order_id, place.intent))
        self._keep(heard(order, Sent(time_ms=asked_ms)))
        fault = self._fault()
        answer = self._reach(place) if fault in (None, "cut after") else None
        if fault == "late":
            self._late.append(place)
        if fault is not None:
            evidence = Unanswered(reason=fault, told_ms=self.desk.later(_TIMEOUT_MS))
        else:
            evidence = placed(*answer, asked_ms=asked_ms, told_ms=self.desk.now_ms)
        self._keep(heard(self.trade.orders[place.client_order_id], evidence))

    def _reach(self, place: Place) -> tuple[int, bytes]:
        """The exchange gets an order; status and body of its answer."""
        try:
            asked = account_request.new_order(Query(dict(place.parameters), (BTC,)))
            order = self.desk.account.place(asked, self.desk.later())
        except Refused as refusal:
            return refusal.status, json.dumps({"code": refusal.code, "msg": refusal.message}).encode()
        return 200, json.dumps(account_answers.order(order, is_acknowledged=place.leg is not Leg.ENTRY)).encode()

    def _cancel(self, step: Cancel) -> None:
        asked_ms, order = self.desk.now_ms, self.trade.orders[step.client_order_id]
        self._keep(heard(order, CancelSent(time_ms=asked_ms)))
        fault, standing = self._fault(), self.desk.account.order(BTC, None, step.client_order_id)
        if fault in ("cut before", "late"):
            return
        if standing is None or not standing.is_open:
            self._keep(heard(self.trade.orders[step.client_order_id], CancelRefused(asked_ms=asked_ms)))
            return
        self.desk.account.cancel(standing, self.desk.later())

    def _ask_what_is_due(self) -> None:
        for order in tuple(self.trade.orders.values()):
            question = next_question(order)
            if question is None or question.due_ms > self.desk.now_ms or self._fault():
                continue
            if question.what == ORDER:
                self._ask(order)
            else:
                self._hear(self._trades())

    def _ask(self, order: Order) -> None:
        asked_ms, client_id = self.desk.now_ms, order.client_order_id
        found = self.desk.account.order(BTC, None, client_id)
        said = (
            NotFound(asked_ms=asked_ms)
            if found is None
            else placed(200, json.dumps(account_answers.order(found)).encode(), asked_ms=asked_ms, told_ms=asked_ms)
        )
        order = all_heard(order, [Asked(time_ms=asked_ms), said])
        around = Surroundings(asked_ms=asked_ms, has_unknown_trade=False, is_explained=not self._late)
        self._keep(heard(order, GivenUp()) if is_lost(order, around, 0.0) else order)

    def _listen(self) -> None:
        """Messages of the stream, some of them twice, some not at all, some before others."""
        self._inbox += [told(event) for event in self.desk.account.news()]
        if self.trouble and self.random.random() < 0.3:
            return  # all of it comes later
        messages, self._inbox = self._inbox, []
        if self.trouble:
            messages = [each for each in messages for _ in range(self.random.choices((1, 2, 0), (6, 2, 2))[0])]
            self.random.shuffle(messages)
        self._hear(each for message in messages for each in of_stream(message))

    def _hear(self, evidence: Iterable[OrderSeen | TradeSeen | PositionSeen]) -> None:
        for each in evidence:
            if isinstance(each, PositionSeen):
                self.trade = replace(self.trade, amounts=self.trade.amounts.heard(each))
                continue
            client_id = each.client_order_id or self._name_of(each.order_id)
            if client_id in self.trade.orders:
                self._keep(heard(self.trade.orders[client_id], each))

    def _name_of(self, order_id: int) -> str | None:
        names = (key for key, order in self.trade.orders.items() if order.order_id == order_id)
        return next(names, None)

    def _view(self) -> ExchangeView:
        account = self.desk.account
        orders = [*account.open.values(), *account.finished.values()]
        return ExchangeView(
            positions=(self._position(self.desk.now_ms),),
            orders=tuple(order_of_rest(account_answers.order(each), self.desk.now_ms) for each in orders),
            fills=tuple(self._trades()),
            is_hedge=False,
            is_multi_assets=False,
        )

    def _trades(self) -> list[TradeSeen]:
        return [trade_of_rest(account_answers.trade(fill)) for fill in self.desk.ledger.fills]

    def _position(self, asked_ms: int | None) -> PositionSeen:
        row = account_answers.position(self.desk.account, self.desk.ledger.position(BTC, "BOTH"))
        return replace(position_of_rest(row, 0), asked_ms=asked_ms)

    def _keep(self, order: Order) -> None:
        self.trade = replace(self.trade, orders=with_orders(self.trade, [order]))

    def _fault(self) -> str | None:
        return self.random.choice(FAULTS) if self.random.random() < self.trouble else None
