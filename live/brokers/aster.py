"""The real broker: the desks' orders on an account of the exchange, their exits, and what becomes of them.

An order's intent is on the disk before its bytes leave. What the exchange says, in answers and on the stream, is
evidence for ``live.order_state``; what a position needs next follows from it by ``live.protection``, again and again
until it asks for nothing more. Reports and everything else that is to be remembered go back as notes of the input log,
so that a walk over the log makes the same journal.
"""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.clock import Clock
from data.sockets import Asked as AskedFollowers
from data.venues.aster import Venue
from data.venues.aster_signed import SignedRest
from live import exchange_orders
from live.account_rules import AccountRules
from live.brokers.account_reader import AccountReader
from live.brokers.cases import Case, Cases
from live.brokers.clock_keeper import ClockKeeper
from live.brokers.diary import Diary
from live.brokers.entrance import Entrance
from live.brokers.executor import Executor, order_of
from live.brokers.overseer import Overseer
from live.brokers.payments import Payments
from live.brokers.requests import Requests
from live.brokers.risk_keeper import RiskKeeper
from live.brokers.rule_book import RuleBook
from live.brokers.seat import SeatBroker
from live.brokers.set_up import set_up
from live.brokers.transfers import Transfers
from live.brokers.user_stream import UserStream
from live.budget import RequestBudget
from live.dispatch import Dispatcher
from live.heartbeat import AccountTold
from live.journal import read_journal
from live.order_evidence import OrderSeen, of_stream
from live.orders import CancelEntry, CloseOrder, EntryOrder, ExitOrders, Instruction, RowKey
from live.oversight import Adopting
from live.protection import Finding, Phase, Trade, next_steps
from live.restore import events_of, remembered
from live.risk import Flatten, Level, RiskEvent, TradeClosed
from live.waiting import set_or_until
from research.engine import TradingConfig
from research.fills import Terms

LOOK_MS = 250  # between two looks at a trade that is not at rest
REST_MS = 60_000  # between two looks at one that is
STALE_MS = 3_000  # an acknowledged order that the stream has not told of by then: it tells nothing any more
END_WITHIN_S = 10.0  # of the machine's time
_PASS_S = 0.01
_TRANSFERS = ("DEPOSIT", "WITHDRAW", "ADMIN_DEPOSIT", "ADMIN_WITHDRAW", "ASSET_TRANSFER")
_ASSET = "USDT"
_BUSY = (Phase.ENTERING, Phase.NAKED, Phase.CLOSING, Phase.EMPTYING)


class AsterAccount:
    """One account, for as long as a session lasts. See ``live.session.LiveAccount``.

    Parameters
    ----------
    rest : entered already.
    damage : why the journal of a run before had to be set aside; None where it did not.
    """

    def __init__(self, rules: AccountRules, venue: Venue, clock: Clock, rest: SignedRest, *, damage: str | None = None):
        self.rules, self.instance = rules, rules.instance
        self.cases = Cases()
        self.budget = RequestBudget(rules.budget)
        self.requests = Requests(rest, clock, self.budget, self._alarmed)
        self.seats: dict[str, SeatBroker] = {}
        self._venue, self._clock, self._damage = venue, clock, damage
        self._plans: dict[str, EntryOrder | ExitOrders] = {}  # by trade id, while a log is walked
        self._is_walking = True

    def broker(self, config: TradingConfig, instrument: dict[str, Any]) -> Callable[[Terms], SeatBroker]:
        """Maker of the broker of one desk.

        Raises
        ------
        ValueError
            When another desk has the symbol, or it is one for testing.
        """
        symbol = config.symbol
        if symbol in self.seats:
            raise ValueError(f"{symbol}: two configs on one account would close each other's positions; give one")
        if symbol.startswith("TEST"):
            raise ValueError(f"{symbol} is for the exchange's own tests; nothing is traded on it")

        def make(terms: Terms) -> SeatBroker:
            self.seats[symbol] = SeatBroker(self, config, instrument, terms)
            return self.seats[symbol]

        return make

    def restore(self, dispatcher: Dispatcher, journal: Path, write: Callable[..., None]) -> None:
        """Take up the trades and the risk state that the journal has not seen the end of."""
        self._is_walking = False
        clock, seats, now_ms = self._clock, self.seats, self._clock.now_ms()
        self.diary = Diary(clock, write)
        self.reader = AccountReader(self.requests, clock, seats)
        self.executor = Executor(self.requests, self.reader, self.cases, self.diary, clock)
        self.executor.config_hashes = {symbol: seat.config_hash for symbol, seat in seats.items()}
        self.risk = RiskKeeper(self.rules.risk, self.cases, self.diary)
        self.clock_keeper = ClockKeeper(self.requests, self.risk, clock)
        self.rule_book = RuleBook(self.requests, self.executor, self.cases, seats, clock)
        rules = replace(self.rules, adopting=(*self.rules.adopting, *dispatcher.oversight.adopting))
        known = remembered(events_of(read_journal(journal)), now_ms)
        self.transfers = Transfers(self.reader, self.risk, clock, since_ms=known.told_until_ms)
        self.overseer = Overseer(
            rules, seats, self.reader, self.cases, self.executor, self.diary, self.risk, self.transfers, clock,
            self._stale,
        )  # fmt: skip
        self.stream: UserStream | None = None
        self.entrance = Entrance(
            self.rules, seats, self.cases, self.executor, self.diary, self.risk, self.overseer, self.clock_keeper,
            clock,
            lambda: self.stream is not None and self.stream.is_open and self.overseer.is_ready.is_set(),
        )  # fmt: skip
        self.diary.intended |= known.intended
        self.diary.executed |= known.executed
        for symbol, sent_ms in known.entries_sent:  # a restart does not let more of them out
            if symbol in seats:
                seats[symbol].entries_ms.append(sent_ms)
        if known.risk is not None:
            self.risk.restore(known.risk)
        for trade in known.trades:
            self._take_up(trade, known.funding_usdt.get(trade.trade_id, 0.0))
        self.payments = Payments(
            self.reader, self.cases, self.diary, seats, clock,
            known=known.transactions, since_ms=known.paid_since_ms,
        )  # fmt: skip
        self.overseer.begin(known.opened_ms, known.taken_over)
        if self._damage is not None:
            self._alarm_all("journal", self._damage)

    def _take_up(self, trade: Trade, funding_usdt: float) -> None:
        seat, plan = self.seats.get(trade.symbol), self._plans.get(trade.trade_id)
        if seat is None:
            raise ValueError(f"{trade.symbol}: the journal has an open trade of it; give its config too")
        trade = replace(trade, levels=trade.levels if plan is None else plan.levels, is_withdrawn=True)
        is_entry_told = isinstance(plan, ExitOrders)
        case = Case(
            trade=trade, contract=seat.contract, fees_bps=seat.fees_bps, is_entry_told=is_entry_told,
            funding_usdt=funding_usdt,
        )  # fmt: skip
        self.cases.add(case)

    def place(self, seat: SeatBroker, order: Instruction) -> None:
        """A desk's order; what is sent is decided a moment later, when the desk is done."""
        if isinstance(order, ExitOrders) or (isinstance(order, EntryOrder) and order.lifetime_ms):
            self._plans[order.trade_id] = order
        if self._is_walking:
            return
        if isinstance(order, CancelEntry):
            for case in self.cases.open():
                if order.client_order_id in case.trade.orders:
                    case.trade = replace(case.trade, is_withdrawn=True)
            self.executor.wake.set()
            return
        if isinstance(order, CloseOrder):
            for case in self.cases.open():
                if case.trade.symbol == seat.config.symbol:
                    case.trade = replace(case.trade, close_because=order.reason)
            self.diary.intended.add(order.client_order_id)
            self.executor.wake.set()
            return
        if isinstance(order, ExitOrders):
            case = next(case for case in self.cases.open() if case.trade.trade_id == order.trade_id)
            case.trade = replace(case.trade, levels=order.levels)
            self.diary.intended |= {*order.client_order_ids.values()}
            self.executor.wake.set()
            return
        side, symbol = order.side, seat.config.symbol
        trade = Trade(
            instance=self.instance, trade_id=order.trade_id, symbol=symbol, side=side,
            levels=order.levels if order.lifetime_ms else None, entry_lifetime_ms=order.lifetime_ms,
        )  # fmt: skip
        case = Case(trade=trade, contract=seat.contract, fees_bps=seat.fees_bps)
        request = exchange_orders.entry(seat.contract, order, seat.terms)
        self.diary.intended.add(order.client_order_id)
        case.keep(order_of(request))
        self.cases.add(case)
        self.executor.spawn(self.entrance.enter(seat, case, order, request))

    @property
    def level(self) -> Level:
        """Of ``live.risk``."""
        return self.risk.state.level

    @property
    def told(self) -> AccountTold:
        """For the sign of life."""
        figures, reading = self.overseer.figures, self.clock_keeper.reading
        peak_usdt = None if figures is None else self.risk.state.day_peak_usdt
        return AccountTold(
            equity_usdt=None if figures is None else figures.margin_balance_usdt,
            available_usdt=None if figures is None else figures.available_usdt,
            weight_used=self.budget.used(self._clock.now_ms())[0],
            weight_limit=self.budget.limits.weight_per_minute,
            clock_offset_ms=None if reading is None else reading.offset_ms,
            day_peak_usdt=peak_usdt,
            daily_loss_limit_usdt=None if peak_usdt is None else peak_usdt * self.rules.risk.max_daily_drawdown,
        )

    def ordered(self, event: RiskEvent | Adopting | Flatten) -> None:
        """What the operator or an alarm said of the level, of which symbol a position is taken over, or closed."""
        if isinstance(event, Adopting):
            self.executor.spawn(self.overseer.adopt(event.symbol))
        elif isinstance(event, Flatten):
            self.risk.flatten(event)
            self.executor.wake.set()
        else:
            self.risk.react(event)

    async def run(self, asked: AskedFollowers) -> None:
        """Keep to the account until cancelled.

        Parameters
        ----------
        asked : of the market's streams.

        Raises
        ------
        ValueError
            When somebody else trades the account with our kind of orders.
        """
        self.stream = UserStream(self._venue, self._clock, self.requests, self, asked=asked)
        jobs = (self._work(), self._listen(), self._set_up(), self.clock_keeper.run(), self.payments.run(),
                self.rule_book.run(), self.overseer.audit_forever(), self.executor.failure())  # fmt: skip
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            self.executor.close()
            await asyncio.wait(tasks)
        for task in done:
            task.result()

    async def come_to_rest(self) -> None:
        """Let no entry out, none rest, and return once what is held has its stop; not much later in any case."""
        self.entrance.is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                while any(case.trade.phase in _BUSY or case.trade.may_grow for case in self.cases.open()):
                    await asyncio.sleep(_PASS_S)

    def disk_was_full(self, reason: str) -> None:
        """Log or journal could not be written: no entry rests on them."""
        self._alarm_all("disk", reason)

    def _alarm_all(self, what: str, reason: str) -> None:
        self.risk.alarm(what, reason, self._clock.now_ms())
        self.executor.alert(Finding(kind=what, symbol="", detail=reason, is_urgent=True))

    async def _listen(self) -> None:
        """Listen to the account, which is where everything begins: what is held is seen to before anything else."""
        await self.clock_keeper.measure()
        await self.stream.run()

    async def _set_up(self) -> None:
        """See that entries may be made as configured; only they wait for it."""
        await self.overseer.is_ready.wait()
        await set_up(self.requests, self.reader, self.rules, self.seats, self.risk, self.executor, self._clock)
        self.entrance.is_set_up = True

    def listens(self) -> None:
        """The account's stream is open: what was missed is asked for."""
        self.transfers.listens()
        self.executor.spawn(self.overseer.catch_up())
        self.payments.is_due.set()

    def is_deaf(self, reason: str) -> None:
        """The account's stream has ended."""
        self.transfers.is_deaf()
        self.diary.event("deaf", "", reason=reason)

    def message(self, told: Mapping[str, Any]) -> None:
        """One message of the account's stream."""
        now_ms = self._clock.now_ms()
        try:
            evidence = of_stream(told)
        except ValueError as error:
            self.executor.alert(Finding(kind="unread", symbol="", detail=str(error)))
            self._stale()
            return
        for each in evidence:
            if isinstance(each, OrderSeen) and (case := self.cases.case_of(each)) is not None:
                case.streamed.add(each.client_order_id)
                self.executor.acknowledged_ms.pop(each.client_order_id, None)
        self.risk.forced(self.cases.hear(evidence, now_ms), now_ms)
        self.executor.write_news()
        if told.get("e") == "ACCOUNT_CONFIG_UPDATE":
            self._changed(told, now_ms)
        elif told.get("e") == "ACCOUNT_UPDATE" and told["a"].get("m") == "FUNDING_FEE":
            self.payments.is_due.set()
        elif told.get("e") == "ACCOUNT_UPDATE" and told["a"].get("m") in _TRANSFERS:
            amounts = [float(each.get("bc", 0)) for each in told["a"].get("B", ()) if each.get("a") == _ASSET]
            self.transfers.heard(int(told.get("T", now_ms)), sum(amounts))

    def _changed(self, told: Mapping[str, Any], now_ms: int) -> None:
        """Leverage or modes of the account are others now."""
        self.reader.forget_modes()
        changed = {name: told[name] for name in ("ac", "ai") if name in told}
        seat = self.seats.get(changed.get("ac", {}).get("s"))
        is_ours = seat is not None and changed["ac"].get("l") == int(seat.config.orders.leverage)
        if "ai" in changed or (seat is not None and not is_ours):
            self.risk.alarm("mode_changed", json.dumps(changed), now_ms)

    async def _work(self) -> None:
        """Look at every trade when something was heard, or when it is time to."""
        while True:
            self.executor.wake.clear()
            await set_or_until(self.executor.wake, self._clock, self._look())

    def _look(self) -> int:
        """Do what every trade needs. Returns when to look again, ms."""
        now_ms = self._clock.now_ms()
        due_ms = now_ms + REST_MS
        if any(now_ms - told_ms >= STALE_MS for told_ms in self.executor.acknowledged_ms.values()):
            self._stale()
        for case in self.cases.open():
            self._report(case, now_ms)
            if not self.overseer.is_ready.is_set() or case.is_done or case.is_waiting_for_rules:
                continue
            may_rest = self.entrance.may_rest(case.trade.symbol, now_ms)
            if case.trade.entry_lifetime_ms and not may_rest:
                case.trade = replace(case.trade, is_withdrawn=True)
            asks_ms = self.executor.ask_what_is_due(case)
            for step in next_steps(case.trade, case.contract, self._mark(case), now_ms):
                self.executor.take(case, step)
            self.risk.watch_naked(case, now_ms)
            is_busy, ends_ms = case.trade.phase in _BUSY or case.trade.may_grow, case.trade.entry_ends_ms or 0
            due_ms = min(due_ms, now_ms + LOOK_MS if is_busy else due_ms, asks_ms or due_ms)
            due_ms = min(due_ms, ends_ms if ends_ms > now_ms else due_ms)
        self.cases.forget(now_ms)
        return max(due_ms, now_ms + 1)

    def _report(self, case: Case, now_ms: int) -> None:
        """Tell the desk what has become of its orders."""
        seat = self.seats.get(case.trade.symbol)
        if case.is_planned and case.is_revived():
            # The desk has given it up; the exchange has not.
            case.is_planned = False
            case.trade = replace(case.trade, levels=case.emergency(self.rules.emergency_stop_bps))
            why = f"{case.trade.trade_id} was filled after it had been given up"
            told = {"side": case.trade.side, "quantity": str(case.trade.quantity), "entry_price": str(case.entry_price)}
            told |= {"config_hash": seat.config_hash, "why": why}
            self.diary.event("adopted", case.trade.symbol, case.trade.trade_id, **told)
            self.risk.alarm("adopted", why, now_ms)
        report = case.entry_report(seat.row, now_ms)
        if report is not None:
            for each in (report, *case.owed):
                self.diary.report(seat.key, each)
        report = case.exit_report(seat.row or RowKey(seat.config.interval, 0), now_ms, self._mark(case))
        if report is None:
            return
        if case.unexplained:
            detail = f"{case.trade.trade_id}: no fill explains {case.unexplained} that was closed; booked at the mark"
            self.executor.alert(Finding(kind="mismatch", symbol=case.trade.symbol, detail=detail))
        net_usdt = case.net_usdt(report)
        if case.is_planned:
            self.diary.report(seat.key, report)
        else:
            told = {"price": report.price, "quantity": report.quantity, "reason": report.reason}
            self.diary.event("closed", case.trade.symbol, case.trade.trade_id, config_hash=seat.config_hash, **told)
        self.risk.react(TradeClosed(time_ms=now_ms, symbol=case.trade.symbol, net_usdt=net_usdt, next_entry_ms=now_ms))

    def _mark(self, case: Case) -> float:
        seat = self.seats.get(case.trade.symbol)
        return math.nan if seat is None else seat.market.mark_price

    def _stale(self) -> None:
        """The account's stream is dead, though it is open."""
        self.executor.acknowledged_ms.clear()
        if self.stream is not None:
            self.stream.renew()

    def _alarmed(self, what: str, detail: str) -> None:
        """Trouble with requests."""
        if what == "clock":
            self.clock_keeper.is_wanted.set()
        elif what == "firewall":
            self.executor.alert(Finding(kind=what, symbol="", detail=detail, is_urgent=True))
        else:
            self.risk.alarm(what, detail, self._clock.now_ms())
