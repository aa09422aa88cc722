"""A runner that trades on the loopback exchange, in a process of its own, and how long its orders take.

``python -m live.benchmarks.trading URL KEY JOURNAL HOURS`` prints one JSON object, ``Measured``. With HOURS 0 it kills
itself where that hurts most: its first position is filled, the stop not sent.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

import aiohttp

from data.clock import FollowedClock
from data.sockets import Asked
from data.venues.aster import Answer, venue_of
from data.venues.aster_signed import NoAnswer, SignedRest
from data.venues.signing import AgentKey, Parameters
from data.wal import Log
from live.account_rules import AccountRules
from live.benchmarks.configs import champion
from live.brokers.aster import AsterAccount
from live.brokers.seat import SeatBroker
from live.gates import EntryLimits
from live.journal import Journal, feed_folder
from live.orders import EntryOrder, Instruction, Leg, order_name
from live.risk import RiskLimits
from live.session import Session

RULES = AccountRules(
    instance="bch",
    emergency_stop_bps=100.0,
    risk=RiskLimits(max_daily_drawdown=0.5, max_drawdown=0.6, max_losses_in_a_row=10_000),
    entries=EntryLimits(
        max_symbol_notional_usdt=2_000.0, max_total_notional_usdt=2_000.0, max_open_orders_per_symbol=1,
        max_entries_per_hour=1_000,
    ),
)  # fmt: skip
_NONCES_PER_RUN_US = 1_000_000


@dataclass
class Measured:
    """Seconds, but ``protected_at``: of the machine's clock, when the first stop was acknowledged; None: none was.

    A fill is known when the stream's message or the entry's answer is at hand, whichever is first; a stop is sent when
    its bytes, signed, are handed to the socket. None of the exchange's time is between the two.
    """

    decision_to_answer: list[float] = field(default_factory=list)
    fill_to_stop_sent: list[float] = field(default_factory=list)
    fill_to_stop_answered: list[float] = field(default_factory=list)
    reconciled: float | None = None
    protected_at: float | None = None


class Stopwatch:
    """Notes what happens to an order, by trade."""

    def __init__(self, is_killed: bool) -> None:
        self.measured = Measured()
        self._is_killed = is_killed
        self._decided: dict[str, float] = {}
        self._filled: dict[str, float] = {}

    def decided(self, order: EntryOrder) -> None:
        self._decided[order.trade_id] = time.perf_counter()

    def filled(self, trade_id: str) -> None:
        self._filled.setdefault(trade_id, time.perf_counter())

    def is_about_to_leave(self, leg: Leg) -> None:
        if leg is Leg.STOP and self._is_killed:
            os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, trade_id: str, leg: Leg) -> None:
        if leg is Leg.STOP and trade_id in self._filled:
            self.measured.fill_to_stop_sent.append(time.perf_counter() - self._filled[trade_id])

    def answered(self, trade_id: str, leg: Leg) -> None:
        if leg is Leg.ENTRY:
            self.measured.decision_to_answer.append(time.perf_counter() - self._decided[trade_id])
            self.filled(trade_id)
        elif leg is Leg.STOP:
            self.measured.protected_at = self.measured.protected_at or time.time()
            if trade_id in self._filled:
                self.measured.fill_to_stop_answered.append(time.perf_counter() - self._filled[trade_id])


class TimedRest(SignedRest):
    """Signed requests under a stopwatch."""

    stopwatch: Stopwatch

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        watch = aiohttp.TraceConfig()
        watch.on_request_chunk_sent.append(self._leaves)
        await self._session.close()
        self._session = aiohttp.ClientSession(trace_configs=[watch])
        return self

    async def _leaves(
        self, session: aiohttp.ClientSession, context: object, sent: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        ours = order_name(dict(parse_qsl(sent.chunk.decode())).get("newClientOrderId", ""))
        if ours is not None:
            self.stopwatch.leaves(ours.trade_id, ours.leg)

    async def send(
        self, method: str, name: str, parameters: Parameters = (), within_s: float = 10.0
    ) -> Answer | NoAnswer:
        ours = order_name(dict(parameters).get("newClientOrderId", "")) if (method, name) == ("POST", "order") else None
        if ours is not None:
            self.stopwatch.is_about_to_leave(ours.leg)
        answer = await super().send(method, name, parameters, within_s)
        if ours is not None:
            self.stopwatch.answered(ours.trade_id, ours.leg)
        return answer


class TimedAccount(AsterAccount):
    """An account under a stopwatch."""

    stopwatch: Stopwatch

    def place(self, seat: SeatBroker, order: Instruction) -> None:
        if isinstance(order, EntryOrder):
            self.stopwatch.decided(order)
        super().place(seat, order)

    def message(self, told: Mapping[str, Any]) -> None:
        ours = order_name(told["o"]["c"]) if told.get("e") == "ORDER_TRADE_UPDATE" else None
        if ours is not None and ours.leg is Leg.ENTRY and told["o"]["X"] == "FILLED":
            self.stopwatch.filled(ours.trade_id)
        super().message(told)

    async def run(self, asked: Asked) -> None:
        begun = time.perf_counter()

        async def ready() -> None:
            await self.overseer.is_ready.wait()
            self.stopwatch.measured.reconciled = time.perf_counter() - begun

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ready())
            tasks.create_task(super().run(asked))


async def traded(url: str, key: str, path: Path, hours: float) -> Measured:
    """Trade for so many market hours; for a few minutes where it is going to be killed."""
    stopwatch, venue, clock = Stopwatch(is_killed=hours == 0.0), await venue_of(url), FollowedClock()
    with ExitStack() as stack:
        log = stack.enter_context(Log(feed_folder(path)))
        journal = stack.enter_context(Journal(path, log.sync))
        floor_us = journal.last_ms * 1_000 + _NONCES_PER_RUN_US if journal.last_ms else 0
        config = champion()
        symbols = frozenset({config.symbol})
        async with TimedRest(venue, clock, AgentKey(key), symbols=symbols, floor_us=floor_us) as rest:
            account = TimedAccount(RULES, venue, clock, rest)
            rest.stopwatch = account.stopwatch = stopwatch
            length_s = 3_600.0 * (hours or 1.0)
            session = Session(
                [config], venue, clock, log, journal, resolution="tick", run_length_s=length_s, account=account
            )  # fmt: skip
            await session.run(asyncio.Event())
    return stopwatch.measured


if __name__ == "__main__":
    measured = asyncio.run(traded(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
    print(json.dumps(asdict(measured)))
