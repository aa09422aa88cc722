"""Keeps the risk state: every change is an event of the journal, and what has to be closed is."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from data.config import load
from live.brokers.cases import Case, Cases
from live.brokers.diary import Diary
from live.order_evidence import OrderSeen
from live.protection import Phase
from live.risk import Alarmed, Flatten, Naked, RiskEvent, RiskLimits, RiskState, react

_PEAK_STEP = 0.0005  # a peak that is higher by less is written with the next event


class RiskKeeper:
    """Attributes: ``state``, see ``live.risk``."""

    def __init__(self, limits: RiskLimits, cases: Cases, diary: Diary):
        self.state = RiskState()
        self._written = self.state
        self._limits, self._cases, self._diary = limits, cases, diary

    def restore(self, told: Mapping[str, Any]) -> None:
        """Take up the last state that the journal has."""
        known = {name: value for name, value in told.items() if value is not None}
        self.state = self._written = load(RiskState, known, "journal")

    def react(self, event: RiskEvent) -> None:
        """Something happened."""
        before = self.state
        self.state, flattens = react(self._limits, before, event)
        if self._is_to_keep():
            self._written = self.state
            cause = type(event).__name__
            told = {"cause": cause, "because": [flatten.reason for flatten in flattens], "level": self.state.level}
            self._diary.event("risk", "", state=asdict(self.state), **told)
        for flatten in flattens:
            self.flatten(flatten)

    def alarm(self, what: str, detail: str, now_ms: int) -> None:
        """Something that has to be looked at."""
        self.react(Alarmed(time_ms=now_ms, what=what, detail=detail))

    def flatten(self, flatten: Flatten) -> None:
        """Close what is open of a symbol, or everything."""
        for case in self._cases.open():
            if flatten.symbol in (None, case.trade.symbol) and case.trade.close_because is None:
                case.trade = replace(case.trade, close_because=flatten.reason)
                self._diary.event("flatten", case.trade.symbol, case.trade.trade_id, reason=flatten.reason)

    def forced(self, orders: Iterable[OrderSeen], now_ms: int) -> None:
        """Orders with which the exchange closed positions of ours."""
        for order in orders:
            self.alarm("liquidated", f"{order.client_order_id} of {order.symbol}", now_ms)

    def watch_naked(self, case: Case, now_ms: int) -> None:
        """How long a position is without a stop that the exchange holds."""
        if case.trade.phase is not Phase.NAKED:
            if case.held_since_ms is not None:
                naked_ms = now_ms - case.held_since_ms
                self._diary.event("guarded", case.trade.symbol, case.trade.trade_id, naked_ms=naked_ms)
                case.held_since_ms = None
            return
        if case.held_since_ms is None:
            case.held_since_ms = now_ms
        self.react(Naked(time_ms=now_ms, symbol=case.trade.symbol, for_ms=now_ms - case.held_since_ms))

    def _is_to_keep(self) -> bool:
        """Something has changed that must outlive a restart. Small steps of the peaks are left out."""
        now, kept = self.state, self._written
        now_peaks, kept_peaks = ((each.day_peak_usdt, each.peak_usdt or 0.0) for each in (now, kept))
        is_another_peak = any(abs(new - old) > _PEAK_STEP * old for new, old in zip(now_peaks, kept_peaks, strict=True))
        same_peaks = {"day_peak_usdt": kept.day_peak_usdt, "peak_usdt": kept.peak_usdt}
        return is_another_peak or replace(now, **same_peaks) != kept
