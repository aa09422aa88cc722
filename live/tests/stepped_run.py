"""An exchange and a runner on it that a test lets go on step by step, and what the exchange itself says of safety.

Both live on one event loop, which only runs while a step is taken: between two steps the market stands still. A runner
that is killed is a session that is cancelled where it happens to be, without a word of goodbye.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from data.loopback import account_modes
from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from live.commands import answer_to, ask
from live.tests.paper_run import START, market
from live.tests.real_run import RULES, Asked, Run, trade
from research.engine import TradingConfig

GRACE_MS = 10_000  # after trouble: so long may a position go without a stop
CLOSING_MS = 1_500  # what a market order leaves is closed by another one so soon
_FOR_EVER_MIN = 1_000_000.0
_STEP_WITHIN_S = 300.0  # of the machine's time: it hangs
_LOOK_S = 0.01


@dataclass
class Stepped:
    """A run that stands still between two steps.

    Attributes
    ----------
    run : the runner of now; every signed request of all of them is in its ``asked``.
    excused : market times, from and to, ms, in which something was wrong that may keep a stop away.
    dies_at : the runner is killed at its next request of that method and leg, before it leaves, while it is under way
        or after it was answered.
    """

    config: TradingConfig
    path: Path
    is_hedge: bool
    accounts: dict[str, Any]
    excused: list[tuple[int, int]] = field(default_factory=list)
    dies_at: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        costs = self.config.costs
        settings = AccountSettings(
            taker_fee=costs.taker_fee_bps / 1e4, maker_fee=costs.maker_fee_bps / 1e4, leverage=1,
            **self.accounts,
        )  # fmt: skip
        self.exchange = Loopback(market(), start=START, quiet_every_s=1.0, accounts=settings)
        self.do(self.exchange.__aenter__())
        self.do(self.exchange.office.catch_up())
        if self.is_hedge:
            account_modes.set_hedge(self.exchange.office.accounts[0], True, self.now_ms)
        self.run = Run(self.exchange, self.path)
        self._start()

    @property
    def now_ms(self) -> int:
        """The market's time."""
        return self.exchange.office.now_ms

    def do(self, work: Awaitable[Any]) -> Any:
        """Let everything go on until the work is done."""
        return self._loop.run_until_complete(asyncio.wait_for(work, _STEP_WITHIN_S))

    def happens(self, what: Callable[[], object]) -> None:
        """Something happens to the account between two messages."""
        office = self.exchange.office

        def happen() -> None:
            what()
            office.collect()
            office.tell()

        self.do(self.exchange._player.order(happen))

    def excuse(self, seconds: float) -> None:
        """Something is wrong for so long from now on."""
        self.excused.append((self.now_ms, self.now_ms + round(seconds * 1_000)))

    def lets_pass(self, seconds: float) -> None:
        """The market goes on; a runner that was killed is started again."""
        is_due = self._loop.create_future()
        self.exchange.office.later(seconds, lambda: is_due.done() or is_due.set_result(None))
        while not is_due.done():
            self.do(asyncio.wait({is_due, self._task}, return_when=asyncio.FIRST_COMPLETED))
            if self._task.done():
                self._start_again(1.0)

    def kill(self, silent_s: float) -> None:
        """Kill the runner; so much later by the market's time another one begins."""
        self._task.cancel()
        self._start_again(silent_s)

    def stop(self, silent_s: float) -> None:
        """Tell the runner to stop; so much later another one begins."""
        self.run.stop.set()
        self.do(asyncio.wait({self._task}))
        self._start_again(silent_s)

    def command(self, command: str, symbol: str | None = None) -> None:
        """The operator's word, and the answer to it, at one moment of the market."""

        async def answered() -> None:
            while self.run.session is None or not self.run.session.dispatcher.seats:
                await asyncio.sleep(_LOOK_S)
            now_ms = self.run.clock.now_ms()
            with self.run.clock.hold():
                key = ask(self.path, command, symbol, by="ctl", now_ms=now_ms, patience_ms=1 << 50).key
                while answer_to(self.path, key) is None and not self._task.done():
                    await asyncio.sleep(_LOOK_S)

        self.do(answered())

    def writes(self) -> None:
        """The journal is written as far as the runner has heard, at one moment of the market."""

        async def written() -> None:
            with self.run.clock.hold():
                while self.run.session._journal._waiting:
                    await asyncio.sleep(_LOOK_S)

        self.do(written())

    def end(self) -> None:
        """Stop the runner in good order and close the exchange."""
        self.run.stop.set()
        self.do(asyncio.wait({self._task}))
        self._task.result()
        self.close()

    def close(self) -> None:
        """Leave nothing running."""
        self._task.cancel()
        self.do(asyncio.wait({self._task}))
        self.do(self.exchange.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def naked_ms(self) -> int:
        """The longest, by the exchange, that a position had neither a stop nor a way out, where nothing excuses it."""
        return max((to_ms - from_ms for from_ms, to_ms in _without(self._naked(), self.excused)), default=0)

    def _naked(self) -> list[tuple[int, int]]:
        """Spans in which something was held and neither a stop of ours stood nor a market order had just left."""
        amounts: dict[str, Decimal] = {}
        held: list[tuple[int, bool]] = []
        for fill in self.run.account.ledger.fills:
            signed = fill.quantity if fill.side == "BUY" else -fill.quantity
            amounts[fill.position_side] = amounts.get(fill.position_side, Decimal(0)) + signed
            held.append((fill.time_ms, any(amounts.values())))
        moments = itertools.pairwise([*held, (self.now_ms, False)])
        spans = [(from_ms, to_ms) for (from_ms, is_held), (to_ms, _) in moments if is_held]
        stood = [(each.created_ms, self.now_ms if each.is_open else each.updated_ms) for each in self.run.orders("S")]
        stood += [(each.created_ms, each.created_ms + CLOSING_MS) for leg in "XF" for each in self.run.orders(leg)]
        return list(_without(_joined(spans), stood))

    def _start(self) -> None:
        self.run = Run(self.exchange, self.path, asked=self.run.asked, before=[self._before], after=[self._after])
        rules = replace(RULES, is_hedge=self.is_hedge)
        self._task = self._loop.create_task(trade(self.run, self.config, minutes=_FOR_EVER_MIN, rules=rules))

    def _start_again(self, silent_s: float) -> None:
        self.do(asyncio.wait({self._task}))
        if not self._task.cancelled():
            self._task.result()
        began_ms = self.now_ms
        if silent_s:
            self.do(self.exchange.skip(silent_s))
        self.excused.append((began_ms, self.now_ms + GRACE_MS))
        self._start()

    def _before(self, run: Run, asked: Asked) -> None:
        self._dies("before", asked)
        if self._is_meant("under way", asked):
            self.dies_at = None
            self._task.cancel()

    def _after(self, run: Run, asked: Asked) -> None:
        self._dies("after", asked)

    def _dies(self, when: str, asked: Asked) -> None:
        if self._is_meant(when, asked):
            self.dies_at = None
            self._task.cancel()
            raise asyncio.CancelledError

    def _is_meant(self, when: str, asked: Asked) -> bool:
        return self.dies_at == (when, asked.method, asked.leg or asked.name)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch are one."""
    joined: list[tuple[int, int]] = []
    for from_ms, to_ms in sorted(spans):
        if joined and from_ms <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], to_ms)
        else:
            joined.append((from_ms, to_ms))
    return joined


def _without(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of spans outside the others."""
    for from_ms, to_ms in spans:
        for other_from_ms, other_to_ms in _joined(others):
            if other_to_ms > from_ms and other_from_ms < to_ms:
                if from_ms < other_from_ms:
                    yield from_ms, other_from_ms
                from_ms = max(from_ms, other_to_ms)
        if from_ms < to_ms:
            yield from_ms, to_ms
