"""Has orders leave, be cancelled and be asked for; every answer becomes evidence.

Nothing is sent twice. A step is taken by marking it first and sending it then, so that the next look at the trade does
not ask for it again.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from data.clock import Clock
from data.venues.aster import Answer
from live.brokers.account_reader import AccountReader
from live.brokers.cases import Case, Cases
from live.brokers.diary import Diary
from live.brokers.requests import Requests, Withheld
from live.budget import Urgency
from live.exchange_orders import Place
from live.order_answers import AGAINST_RULES, NotFound, Refused, Unanswered, asked_about, placed
from live.order_evidence import OrderSeen, Unread
from live.order_questions import BACK_MS, ORDER, Surroundings, is_lost, next_question, settled_ms
from live.order_state import Asked, CancelRefused, CancelSent, Evidence, GivenUp, Order, Sent, Status
from live.protection import AskPosition, Cancel, Finding, Step

ASK_AGAIN_MS = 1_000  # between two questions about one position
_BEFORE_MS = 1_000  # a fill so shortly before an order was sent may be its


class Executor:
    """Takes the steps that trades need.

    Attributes
    ----------
    wake : set when something was heard.
    is_doubting_rules : set when an order was refused for what a contract's rules say.
    config_hashes : by symbol, for the journal.
    acknowledged_ms : of orders that an answer told of and the stream has not yet, by name.
    """

    def __init__(self, requests: Requests, reader: AccountReader, cases: Cases, diary: Diary, clock: Clock):
        self.wake, self.is_doubting_rules = asyncio.Event(), asyncio.Event()
        self.config_hashes: dict[str, str] = {}
        self.acknowledged_ms: dict[str, int] = {}
        self._requests, self._reader, self._cases = requests, reader, cases
        self._diary, self._clock = diary, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._position_asked_ms: dict[str, int] = {}
        self._alerted: set[tuple[str, str]] = set()

    async def failure(self) -> None:
        """Return never; raises what ended a step that should not have ended so."""
        await self._failed

    def close(self) -> None:
        """Let nothing go on."""
        for task in self._tasks:
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failed.done():
            self._failed.set_exception(task.exception())

    def hear(self, case: Case, name: str, evidence: Evidence) -> None:
        """Evidence about one order, written down."""
        self._cases.hear_of(case, name, evidence)
        self.write_news()

    def write_news(self) -> list[Order]:
        """Write down what has changed: the orders as they are now."""
        news = self._cases.news()
        for case, before, after in news:
            self._diary.changed(before, after, case.trade.trade_id, self.config_hashes.get(after.symbol, ""))
        self.wake.set()
        return [after for _, _, after in news]

    def alert(self, finding: Finding) -> None:
        """Something a human should know; once."""
        key = finding.kind, finding.detail
        if key not in self._alerted:
            self._alerted.add(key)
            told = {"what": finding.kind, "detail": finding.detail, "is_urgent": finding.is_urgent}
            self._diary.event("alert", finding.symbol, config_hash=self.config_hashes.get(finding.symbol, ""), **told)

    def take(self, case: Case, step: Step) -> None:
        """Begin with a step."""
        match step:
            case Place():
                self._diary.intent(step, case.trade.trade_id, self.config_hashes.get(step.symbol, ""))
                case.keep(order_of(step))
                self.spawn(self.send(case, step, Urgency.EXIT))
            case Cancel():
                self.hear(case, step.client_order_id, CancelSent(time_ms=self._clock.now_ms()))
                self.spawn(self._cancel(case, step.client_order_id))
            case AskPosition():
                if self._clock.now_ms() >= self._position_asked_ms.get(step.symbol, 0) + ASK_AGAIN_MS:
                    self._position_asked_ms[step.symbol] = self._clock.now_ms()
                    self.spawn(self.ask_position(step.symbol))
            case Finding():
                self.alert(step)

    async def send(self, case: Case, place: Place, urgency: Urgency) -> None:
        """An order leaves, and its answer is heard."""
        name, asked_ms = place.client_order_id, self._clock.now_ms()

        def leaves() -> None:
            nonlocal asked_ms
            asked_ms = self._clock.now_ms()
            self.hear(case, name, Sent(time_ms=asked_ms))

        answer = await self._requests.send(urgency, "POST", "order", place.parameters, leaves)
        now_ms = self._clock.now_ms()
        if isinstance(answer, Withheld):
            said = Refused(code=0, message=answer.reason, told_ms=now_ms)
        elif not isinstance(answer, Answer):
            said = Unanswered(reason=answer.reason, told_ms=now_ms)
        else:
            said = placed(answer.status, answer.body, asked_ms=asked_ms, told_ms=now_ms)
        if isinstance(said, OrderSeen) and name not in case.streamed:
            self.acknowledged_ms[name] = now_ms
        if isinstance(said, Refused) and said.code in AGAINST_RULES:
            case.is_waiting_for_rules = True
            self.is_doubting_rules.set()
        self.hear(case, name, said)

    async def cancel_leftover(self, step: Cancel) -> None:
        """Take back an order of ours that no trade of ours needs."""
        await self._requests.send(Urgency.CERTAINTY, "DELETE", "order", _named(step.symbol, step.client_order_id))

    async def _cancel(self, case: Case, name: str) -> None:
        asked_ms, symbol = self._clock.now_ms(), case.trade.symbol
        answer = await self._requests.send(Urgency.CERTAINTY, "DELETE", "order", _named(symbol, name))
        if not isinstance(answer, Answer):
            return  # asked for, when that is due
        said = asked_about(answer.status, answer.body, asked_ms=asked_ms, told_ms=self._clock.now_ms())
        if isinstance(said, NotFound):
            self.hear(case, name, CancelRefused(asked_ms=asked_ms))
        elif isinstance(said, OrderSeen):
            self.hear(case, name, said)

    def ask_what_is_due(self, case: Case) -> int | None:
        """Ask about orders whose fate is not known. Returns when the next question is due, ms."""
        now_ms, next_ms = self._clock.now_ms(), None
        for order in tuple(case.trade.orders.values()):
            question = next_question(order)
            if question is None:
                continue
            if question.due_ms <= now_ms:
                self.hear(case, order.client_order_id, Asked(time_ms=now_ms))
                self.spawn(self.ask(case, order.client_order_id, question.what))
                question = next_question(case.trade.orders[order.client_order_id])
            if question is not None:
                next_ms = min(next_ms or question.due_ms, question.due_ms)
        return next_ms

    async def ask(self, case: Case, name: str, what: str = ORDER) -> None:
        """Ask about one order, or for its fills."""
        symbol, order = case.trade.symbol, case.trade.orders[name]
        if what != ORDER:
            since_ms = max((order.sent_ms or 0) - _BEFORE_MS, order.told_ms - BACK_MS)  # it may have stood for weeks
            fills = await self._reader.fills(Urgency.CERTAINTY, symbol, since_ms)
            if not isinstance(fills, Unread):
                self._cases.hear(fills, self._clock.now_ms())
                self.write_news()
            return
        asked_ms = self._clock.now_ms()
        answer = await self._requests.send(Urgency.CERTAINTY, "GET", "order", _named(symbol, name))
        if not isinstance(answer, Answer):
            return
        said = asked_about(answer.status, answer.body, asked_ms=asked_ms, told_ms=self._clock.now_ms())
        if not isinstance(said, Unanswered):
            self.hear(case, name, said)
        order = case.trade.orders[name]
        offset_ms = self._requests.rest.offset_ms
        is_late = order.sent_ms is not None and asked_ms >= settled_ms(order, offset_ms)
        if isinstance(said, NotFound) and is_late and order.status in (Status.SENT, Status.UNKNOWN):
            around = await self._surroundings(case, order)
            if is_lost(case.trade.orders[name], around, offset_ms):
                self.hear(case, name, GivenUp())

    async def ask_position(self, symbol: str) -> None:
        """What the exchange holds of a symbol."""
        positions = await self._reader.positions(Urgency.CERTAINTY, symbol)
        if not isinstance(positions, Unread):
            self._cases.hear(positions, self._clock.now_ms())
            self.wake.set()

    async def _surroundings(self, case: Case, order: Order) -> Surroundings | Unread:
        asked_ms = self._clock.now_ms()
        fills = await self._reader.fills(Urgency.CERTAINTY, order.symbol, order.sent_ms - _BEFORE_MS)
        positions = await self._reader.positions(Urgency.CERTAINTY, order.symbol)
        for each in (fills, positions):
            if isinstance(each, Unread):
                return each
        self._cases.hear([*fills, *positions], self._clock.now_ms())
        self.write_news()
        held = sum(seen.amount * case.trade.side for seen in positions if case.is_of(seen))
        return Surroundings(
            asked_ms=asked_ms,
            has_unknown_trade=any(not self._cases.knows(fill) for fill in fills),
            is_explained=held == case.trade.quantity,
        )


def order_of(place: Place) -> Order:
    """What is known of an order that has not left."""
    return Order(
        client_order_id=place.client_order_id, symbol=place.symbol, side=place.side, quantity=place.quantity
    )  # fmt: skip


def _named(symbol: str, name: str) -> tuple[tuple[str, str], ...]:
    return ("symbol", symbol), ("origClientOrderId", name)
