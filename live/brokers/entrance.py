"""Where entries leave for the exchange, and what calls those back that rest there."""

from collections.abc import Callable, Mapping

from data.clock import Clock
from live import exchange_orders
from live.account_rules import AccountRules
from live.brokers import entry_gate
from live.brokers.cases import Case, Cases
from live.brokers.clock_keeper import ClockKeeper
from live.brokers.diary import Diary
from live.brokers.executor import Executor
from live.brokers.overseer import Overseer
from live.brokers.risk_keeper import RiskKeeper
from live.brokers.seat import SeatBroker
from live.budget import Urgency
from live.gates import refusals
from live.order_answers import Refused
from live.orders import EntryOrder
from live.risk import Level
from research.daily_loss import DAY_MS


class Entrance:
    """Lets entries out, if nothing speaks against it.

    Parameters
    ----------
    is_listening : whether the account's stream is open and caught up.

    Attributes
    ----------
    is_set_up : fees, leverage and margin were seen to.
    is_closed : the run is ending.
    """

    def __init__(
        self,
        rules: AccountRules,
        seats: Mapping[str, SeatBroker],
        cases: Cases,
        executor: Executor,
        diary: Diary,
        risk: RiskKeeper,
        overseer: Overseer,
        clock_keeper: ClockKeeper,
        clock: Clock,
        is_listening: Callable[[], bool],
    ):
        self.is_set_up, self.is_closed = False, False
        self._rules, self._seats, self._cases, self._executor, self._diary = rules, seats, cases, executor, diary
        self._risk, self._overseer, self._clock_keeper, self._clock = risk, overseer, clock_keeper, clock
        self._is_listening = is_listening

    async def enter(self, seat: SeatBroker, case: Case, order: EntryOrder, request: exchange_orders.Place) -> None:
        """Let an entry out, or have it refused."""
        now_ms = self._clock.now_ms()
        reasons = self._against(seat, order, now_ms)
        reasons += ["it was taken back"] if case.trade.is_withdrawn else []
        if reasons:
            self._diary.event(
                "refused", seat.config.symbol, order.trade_id, order.client_order_id, seat.config_hash, reasons=reasons
            )
            refused = Refused(code=0, message="; ".join(reasons), told_ms=now_ms)
            self._executor.hear(case, order.client_order_id, refused)
            return
        seat.entries_ms.append(now_ms)
        await self._executor.send(case, request, Urgency.ENTRY)

    def may_rest(self, symbol: str, now_ms: int) -> bool:
        """Whether an entry that stands may go on: what it fills is heard of at once, and is still wanted."""
        state = self._risk.state
        is_allowed = state.level is Level.ACTIVE and state.spent_day != now_ms // DAY_MS
        return is_allowed and not self.is_closed and self._is_listening() and not self._refused(symbol)

    def _against(self, seat: SeatBroker, order: EntryOrder, now_ms: int) -> list[str]:
        symbol, overseer = seat.config.symbol, self._overseer
        refused = self._refused(symbol)
        account = entry_gate.Account(
            figures=overseer.known_figures,
            clock=self._clock_keeper.reading,
            is_reconciled=self.is_set_up and overseer.is_green and not refused,
            is_listening=self._is_listening(),
            is_trading=seat.is_trading,
        )
        markets = {name: each.market for name, each in self._seats.items()}
        moment = entry_gate.moment(
            order, seat.terms, markets, self._cases, account, seat.entries_ms, symbol, now_ms
        )  # fmt: skip
        reasons = refusals(self._rules.entries, self._risk.state, moment)
        reasons += ["the run is ending"] if self.is_closed else []
        # Its trader knows nothing of it: the entry would add to it, or close it.
        adopted = [case for case in self._cases.open() if case.trade.symbol == symbol and not case.is_planned]
        reasons += ["a position that was taken over is still open"] if adopted else []
        reasons += ["the contract's rules are no longer those the run began with"] if seat.has_other_rules else []
        return reasons + refused

    def _refused(self, symbol: str) -> list[str]:
        """Why the symbol is not traded."""
        return [reason for on, reason in self._overseer.refused.items() if on in (None, symbol)]
