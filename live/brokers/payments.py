"""Funding as the account was charged it: asked for when its stream says that there was some, or may have missed it.

And after every whole hour, which is when it is charged, whatever the contract's interval: a single message that was
lost is noticed by nobody.
"""

import asyncio
from collections.abc import Iterable, Mapping

from data.clock import Clock
from live.brokers.account_reader import AccountReader, Income
from live.brokers.cases import Case, Cases
from live.brokers.diary import Diary
from live.brokers.seat import SeatBroker
from live.budget import Urgency
from live.order_evidence import Unread
from live.orders import FundingPaid, Leg
from live.waiting import set_or_until

_AGAIN_S = 60.0
_HOUR_MS, _CHARGED_MS = 3_600_000, 15_000  # so long after the hour it should be in the account's history
_KEPT_MS = 24 * _HOUR_MS  # a row that came later than others is still found


class Payments:
    """Books every payment once.

    Attributes
    ----------
    is_due : set when there was one, or may have been.

    Parameters
    ----------
    known : transactions that the journal has.
    since_ms : payments are asked for from then on.
    """

    def __init__(
        self,
        reader: AccountReader,
        cases: Cases,
        diary: Diary,
        seats: Mapping[str, SeatBroker],
        clock: Clock,
        *,
        known: Iterable[str],
        since_ms: int,
    ):
        self.is_due = asyncio.Event()
        self._reader, self._cases, self._diary, self._seats, self._clock = reader, cases, diary, seats, clock
        self._known, self._since_ms = set(known), since_ms

    async def run(self) -> None:
        """Ask and book until cancelled."""
        while True:
            await set_or_until(self.is_due, self._clock, _next_ms(self._clock.now_ms()))
            self.is_due.clear()
            rows = await self._reader.funding(Urgency.AUDIT, self._since_ms)
            if isinstance(rows, Unread):
                await self._clock.sleep(_AGAIN_S)
                self.is_due.set()
                continue
            for row in rows:
                if row.transaction_id not in self._known:
                    self._known.add(row.transaction_id)
                    self._paid(row)
            self._since_ms = max(self._since_ms, self._clock.now_ms() - _KEPT_MS)

    def _paid(self, row: Income) -> None:
        """One payment, to the trade that was open then."""
        seat = self._seats.get(row.symbol)
        mine = (case for case in self._cases.open() if case.trade.symbol == row.symbol)
        entered = (case for case in mine if case.is_entry_told or case.trade.quantity)
        case = next((case for case in entered if _entered_ms(case) <= row.time_ms), None)
        told = {"amount_usdt": row.amount_usdt, "transaction_id": row.transaction_id, "time_ms": row.time_ms}
        self._diary.event("income", row.symbol, config_hash="" if seat is None else seat.config_hash, **told)
        if case is not None:
            case.funding_usdt -= row.amount_usdt
        if seat is not None and case is not None and case.is_planned and case.trade.levels is not None:
            paid = FundingPaid(time_ms=self._clock.now_ms(), row=seat.row, paid_usdt=-row.amount_usdt)
            if case.is_entry_told:
                self._diary.report(seat.key, paid)
            else:
                case.owed.append(paid)


def _entered_ms(case: Case) -> int:
    """The first fill of its entry; 0 where there is none, as of what was adopted."""
    return min((fill.time_ms for order in case.trade.of(Leg.ENTRY) for fill in order.trades), default=0)


def _next_ms(now_ms: int) -> int:
    """When to ask again though nothing was heard."""
    return ((now_ms - _CHARGED_MS) // _HOUR_MS + 1) * _HOUR_MS + _CHARGED_MS
