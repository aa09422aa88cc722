"""Sets the account beside what we know of it, at the start and again and again, and acts on every difference."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from data.clock import Clock
from live.account_rules import AccountRules
from live.brokers.account_reader import AccountReader, Figures
from live.brokers.cases import Case, Cases
from live.brokers.diary import Diary
from live.brokers.executor import Executor
from live.brokers.requests import waits_s
from live.brokers.risk_keeper import RiskKeeper
from live.brokers.seat import SeatBroker
from live.brokers.transfers import Transfers
from live.budget import Urgency
from live.order_evidence import PositionSeen, TradeSeen, Unread
from live.order_questions import BACK_MS
from live.orders import Leg
from live.protection import Cancel, Finding
from live.reconcile import (
    Adjust,
    Adopt,
    AskOrder,
    BookExit,
    ExchangeView,
    Reconciliation,
    Refuse,
    Resume,
    Setup,
    StopRunning,
    audited,
    reconcile,
)
from live.reconcile import Step as Found
from live.risk import EquitySeen, MarginSeen
from live.waiting import sleep_until

AUDIT_MS = 30_000
FIGURES_HOLD_MS = 3 * AUDIT_MS  # older ones are not known: no entry rests on them
STALE_MS = 3_000  # what the account shows and is older, its stream should have told
_SLACK_MS = 60_000


class Overseer:
    """Reconciles.

    Attributes
    ----------
    is_green : everything was read and nothing is in doubt; entries may begin where nothing is refused.
    refused : why, by symbol; of None: the whole account.
    figures : of the account; None before they were read.
    is_ready : set once the account was read and compared.

    Parameters
    ----------
    stale : called when the account shows what the stream should have told.
    """

    def __init__(
        self,
        rules: AccountRules,
        seats: Mapping[str, SeatBroker],
        reader: AccountReader,
        cases: Cases,
        executor: Executor,
        diary: Diary,
        risk: RiskKeeper,
        transfers: Transfers,
        clock: Clock,
        stale: Callable[[], None],
    ):
        self.is_green = False
        self.refused: dict[str | None, str] = {}
        self.figures: Figures | None = None
        self._figures_ms = 0
        self.is_ready = asyncio.Event()
        self._seats, self._reader, self._cases, self._executor = seats, reader, cases, executor
        self._diary, self._risk, self._transfers, self._clock, self._stale = diary, risk, transfers, clock, stale
        self._rules = rules
        self._began_ms: int | None = None
        self._taken_over: dict[str, str] = {}
        self._since_ms = 0
        self._last: Reconciliation | None = None
        self._turn = asyncio.Lock()

    def begin(self, since_ms: int, taken_over: Mapping[str, str]) -> None:
        """What the journal knows ends, or an open trade of it begins, at that time; 0: it does not know since when.

        Parameters
        ----------
        taken_over : by trade id, the symbols of what was adopted and has not been closed, as far as the journal knows.
        """
        self._taken_over = dict(taken_over)
        now_ms = self._clock.now_ms()
        self._since_ms = max(min(since_ms, now_ms) - _SLACK_MS, now_ms - BACK_MS)
        self._began_ms = now_ms

    @property
    def known_figures(self) -> Figures | None:
        """The account's, unless it could not be read for so long that they may be others by now."""
        is_old = self._clock.now_ms() - self._figures_ms > FIGURES_HOLD_MS
        return None if is_old else self.figures

    async def catch_up(self) -> None:
        """Ask for everything that may have happened unheard, until it is known; then act on it at once."""
        self.is_green = False
        waits = waits_s()
        while not await self._look(is_audit=False):
            await self._clock.sleep(next(waits))

    async def adopt(self, symbol: str) -> None:
        """Take over what is held of a symbol and is not ours, as the operator wants."""
        self._rules = replace(self._rules, adopting=(*self._rules.adopting, symbol))
        await self.catch_up()

    async def audit_forever(self) -> None:
        """Compare every half minute."""
        while True:
            await self.is_ready.wait()
            await sleep_until(self._clock, self._clock.now_ms() + AUDIT_MS)
            await self._look(is_audit=True)

    async def _look(self, *, is_audit: bool) -> bool:
        """One comparison; whether everything could be read."""
        async with self._turn:
            urgency = Urgency.AUDIT if is_audit else Urgency.CERTAINTY
            if not is_audit:
                for case in self._cases.open():
                    for order in tuple(case.trade.orders.values()):
                        if order.is_pending and order.sent_ms is not None:
                            await self._executor.ask(case, order.client_order_id)
            view = await self._reader.view(urgency, self._since(), has_all_orders=not is_audit)
            await self._read_figures(urgency, () if isinstance(view.positions, Unread) else view.positions)
            found = self._compared(view, is_stream_word=not is_audit)
            if found.waits_for:
                for what in found.waits_for:
                    self._executor.alert(Finding(kind="unread", symbol="", detail=what))
                return False
            self._ask_for_unlisted(view)
            now_ms = self._clock.now_ms()
            steps = audited(found, self._last, self._cases.heard_ms, now_ms) if is_audit else found.steps
            self._last = found
            self.refused = {step.symbol: step.reason for step in found.steps if isinstance(step, Refuse)}
            self.is_green = found.is_green
            for step in steps:
                self._act(step, view, is_audit=is_audit)
            self._tell_what_is_gone()
            self.is_ready.set()
            self._executor.wake.set()
            return True

    def _ask_for_unlisted(self, view: ExchangeView) -> None:
        """What should stand and is not among the open orders: it may have been placed before the others listed."""
        listed = {seen.client_order_id for seen in view.orders}
        for case in self._cases.open():
            for name, order in case.trade.orders.items():
                if order.is_standing and name not in listed:
                    self._executor.spawn(self._executor.ask(case, name))

    def _tell_what_is_gone(self) -> None:
        """What was taken over before and is not found again has ended; at what price, nobody heard."""
        found, hashes = {case.trade.trade_id for case in self._cases.open()}, self._executor.config_hashes
        for trade_id, symbol in self._taken_over.items():
            if trade_id not in found:
                told = {"price": None, "quantity": 0.0, "reason": "not found again"}
                self._diary.event("closed", symbol, trade_id, None, hashes.get(symbol, ""), **told)
        self._taken_over = {}

    def _since(self) -> int:
        """Orders and fills are asked for from the oldest open trade on, if that is not too long ago."""
        if self._last is None:
            return self._since_ms
        now_ms = self._clock.now_ms()
        orders = [order for case in self._cases.open() for order in case.trade.orders.values()]
        opened = [fill.time_ms for order in orders for fill in order.trades]
        return max(min([now_ms - _SLACK_MS, *opened]) - _SLACK_MS, now_ms - BACK_MS)

    def _compared(self, view: ExchangeView, *, is_stream_word: bool) -> Reconciliation:
        """What differs, after everything that was told has been heard. Nothing is awaited, so nothing comes between."""
        now_ms = self._clock.now_ms()
        if not view.unread:
            heard_ms = dict(self._cases.heard_ms)
            self._risk.forced(self._cases.hear([*view.orders, *view.fills, *view.positions], now_ms), now_ms)
            if is_stream_word:  # the first word of a stream that has just been opened
                self._cases.hear([replace(seen, asked_ms=None) for seen in view.positions], now_ms)
            self._cases.heard_ms = heard_ms
            changed = self._executor.write_news()
            if not is_stream_word and any(order.told_ms <= now_ms - STALE_MS for order in changed):
                self._stale()
        setup = Setup(
            instance=self._rules.instance,
            leverages={symbol: int(seat.config.orders.leverage) for symbol, seat in self._seats.items()},
            is_hedge=self._rules.is_hedge,
            is_isolated=self._rules.is_isolated,
            adopting=frozenset(self._rules.adopting),
            emergency_stop_bps=self._rules.emergency_stop_bps,
            began_ms=self._began_ms,
        )
        return reconcile(setup, [case.trade for case in self._cases.open()], view)

    def _act(self, step: Found, view: ExchangeView, *, is_audit: bool) -> None:
        now_ms, hashes = self._clock.now_ms(), self._executor.config_hashes
        match step:
            case Resume() | BookExit():
                case = self._cases.cases[step.trade.trade_id, step.trade.tranche]
                case.trade = step.trade
                if case.is_planned and step.trade.adjustment:  # the journal has what was adjusted, not by which fills
                    case.foreign = self._foreign(case, view)
                if isinstance(step, BookExit):  # the stream should have told it
                    if is_audit:
                        self._stale()
                    asked = case.trade.amounts.asked
                    self._cases.hear([replace(asked, asked_ms=None)] if asked else [], now_ms)
            case Adjust():
                case = self._cases.cases[step.trade.trade_id, step.trade.tranche]
                case.trade = step.trade
                case.foreign = self._foreign(case, view)
                told = {"by": str(step.by), "adjustment_id": step.adjustment_id}
                self._diary.event(
                    "adjusted", step.trade.symbol, step.trade.trade_id, None, hashes.get(step.trade.symbol, ""), **told
                )
                self._risk.alarm("mismatch", f"{step.trade.trade_id} by {step.by}", now_ms)
            case Adopt():
                trade = step.trade
                seat = self._seats[trade.symbol]
                case = Case(
                    trade=trade, contract=seat.contract, fees_bps=seat.fees_bps, is_planned=False, is_entry_told=True
                )  # fmt: skip
                self._cases.add(case)
                told = {"side": trade.side, "quantity": str(trade.quantity), "is_foreign": step.is_foreign}
                told |= {"entry_price": str(step.entry_price), "stop": trade.levels.stop}
                told |= {"config_hash": hashes.get(trade.symbol, "")}
                self._diary.event("adopted", trade.symbol, trade.trade_id, **told)
                self._risk.alarm("adopted", f"{trade.quantity} of {trade.symbol}", now_ms)
            case Refuse():
                self._executor.alert(Finding(kind="refused", symbol=step.symbol or "", detail=step.reason))
                if is_audit:
                    self._risk.alarm("mode_changed", step.reason, now_ms)
            case AskOrder():
                pass  # asked when it is due
            case Cancel():
                self._executor.spawn(self._executor.cancel_leftover(step))
            case StopRunning():
                self._executor.alert(Finding(kind="other_runner", symbol="", detail=step.reason, is_urgent=True))
                raise ValueError(f"{step.reason}; this run ends, stops stay in place")
            case Finding():
                self._executor.alert(step)

    def _foreign(self, case: Case, view: ExchangeView) -> tuple[TradeSeen, ...]:
        """What is known to have closed a part of the trade by hand: the view does not reach back for ever."""
        found = (fill for fill in (*case.foreign, *view.fills) if self._is_foreign(case, fill))
        return tuple({fill.trade_id: fill for fill in found}.values())

    def _is_foreign(self, case: Case, fill: TradeSeen) -> bool:
        """A fill against the trade that is of no order of ours, since it was entered."""
        entered = [each.time_ms for order in case.trade.of(Leg.ENTRY) for each in order.trades]
        is_against = fill.symbol == case.trade.symbol and fill.side == -case.trade.side and case.is_of(fill)
        return is_against and not self._cases.knows(fill) and fill.time_ms >= min(entered, default=0)

    async def _read_figures(self, urgency: Urgency, positions: Iterable[PositionSeen]) -> None:
        asked_ms = self._clock.now_ms()
        figures = await self._reader.figures(urgency)
        if isinstance(figures, Unread):
            return
        self._weigh_margins(figures, positions)
        if not await self._transfers.catch_up(urgency, asked_ms):
            return  # what seems lost may have been taken out
        now_ms = self._figures_ms = self._clock.now_ms()
        self.figures = figures
        self._risk.react(EquitySeen(time_ms=now_ms, equity_usdt=figures.margin_balance_usdt))

    def _weigh_margins(self, figures: Figures, positions: Iterable[PositionSeen]) -> None:
        """The account's, and of each of our isolated positions its own."""
        now_ms = self._clock.now_ms()
        self._risk.react(
            MarginSeen(
                time_ms=now_ms, balance_usdt=figures.margin_balance_usdt, maintenance_usdt=figures.maintenance_usdt
            )
        )
        for seen in positions:
            maintained_usdt = figures.maintained_usdt.get((seen.symbol, seen.position_side))
            if seen.symbol in self._seats and seen.amount and seen.isolated_margin_usdt and maintained_usdt is not None:
                self._risk.react(
                    MarginSeen(
                        time_ms=now_ms, balance_usdt=float(seen.isolated_margin_usdt), maintenance_usdt=maintained_usdt,
                        symbol=seen.symbol,
                    )
                )  # fmt: skip
