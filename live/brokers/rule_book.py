"""The exchange's rules for what is traded, read again and again: they may change while a position is open.

What is sent from then on keeps to the new ones. Entries stay off until the run is started again, for the config was
tested under the old ones.

Source: Aster futures API, "Client checklist".
"""

import json
from collections.abc import Mapping

from data.clock import Clock
from data.exchange_info import instruments
from data.venues.aster import Answer
from live.brokers.cases import Cases
from live.brokers.executor import Executor
from live.brokers.requests import Requests
from live.brokers.seat import SeatBroker
from live.budget import Urgency
from live.exchange_orders import contract_of
from live.protection import Finding
from live.waiting import set_or_until

EVERY_MS = 3_600_000


class RuleBook:
    """Keeps contracts as the exchange has them."""

    def __init__(
        self, requests: Requests, executor: Executor, cases: Cases, seats: Mapping[str, SeatBroker], clock: Clock
    ):
        self._requests, self._executor, self._cases, self._seats = requests, executor, cases, seats
        self._clock = clock

    async def run(self) -> None:
        """Read every hour, and at once where an order was refused for what the rules say; until cancelled."""
        doubted = self._executor.is_doubting_rules
        while True:
            await set_or_until(doubted, self._clock, self._clock.now_ms() + EVERY_MS)
            doubted.clear()
            await self._read()
            for case in self._cases.open():  # read or not: a position does not wait any longer
                case.is_waiting_for_rules = False
            self._executor.wake.set()

    async def _read(self) -> None:
        answer = await self._requests.ask_openly(Urgency.CERTAINTY, "exchangeInfo")
        try:
            told = json.loads(answer.body) if isinstance(answer, Answer) else {}
            entries = [entry for entry in told["symbols"] if entry["symbol"] in self._seats]
            rows = instruments({**told, "symbols": entries}, source="rest")[0]
        except (ValueError, KeyError, TypeError):
            said = answer.reason if not isinstance(answer, Answer) else f"HTTP {answer.status}"
            self._executor.alert(Finding(kind="unread", symbol="", detail=f"exchangeInfo: {said}"))
            return
        for row in rows.iter_rows(named=True):
            seat = self._seats[row["symbol"]]
            contract = contract_of(row, is_hedge=seat.contract.is_hedge)
            seat.is_trading = row["status"] == "TRADING"
            if contract == seat.contract:
                continue
            seat.contract, seat.has_other_rules = contract, True
            for case in self._cases.of_symbol(row["symbol"]):
                case.contract = contract
            detail = f"tick {contract.tick_size}, step {contract.step_size}, at least {contract.min_quantity}"
            self._executor.alert(Finding(kind="rules", symbol=row["symbol"], detail=f"{row['symbol']}: now {detail}"))
