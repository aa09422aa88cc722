"""A real run on the loopback exchange, over sockets: the session, its account, the exchange and what goes wrong."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from data.clock import FollowedClock
from data.loopback import account_modes
from data.loopback.account import Account
from data.loopback.account_orders import NewOrder, Order
from data.loopback.account_settings import AccountSettings
from data.loopback.faults import RequestFault
from data.loopback.server import Loopback
from data.venues.aster import Answer, venue_of
from data.venues.aster_signed import NoAnswer, SignedRest
from data.venues.signing import AgentKey, ApiKey, Parameters
from data.wal import Log
from live.account_rules import AccountRules
from live.brokers.aster import AsterAccount
from live.gates import EntryLimits
from live.journal import Journal
from live.orders import order_name
from live.real import on_sound_journal
from live.risk import Flatten, RiskLimits
from live.session import Session
from live.tests.paper_run import OFTEN, START, market
from research.engine import TradingConfig

BTC = "BTCUSDT"
RULES = AccountRules(
    instance="one",
    emergency_stop_bps=100.0,
    risk=RiskLimits(max_daily_drawdown=0.2, max_drawdown=0.5, max_losses_in_a_row=50),
    entries=EntryLimits(
        max_symbol_notional_usdt=2_000.0, max_total_notional_usdt=5_000.0, max_open_orders_per_symbol=1,
        max_entries_per_hour=60,
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A signed request as it leaves; ``leg`` of the order that it is about, empty where it is about none."""

    ms: int
    method: str
    name: str
    told: dict[str, str]

    @property
    def leg(self) -> str:
        named = order_name(self.told.get("newClientOrderId", self.told.get("origClientOrderId", "")))
        return "" if named is None else named.leg.value

    def is_new(self, leg: str) -> bool:
        """A new order of a leg."""
        return (self.method, self.name, self.leg) == ("POST", "order", leg)


@dataclass
class Run:
    """A session at work and its exchange.

    Attributes
    ----------
    asked : every signed request, in order.
    before, after : called as a request leaves, and when it was answered.
    broken_by : what every request ends with, while the line is broken.
    """

    exchange: Loopback
    path: Path
    asked: list[Asked] = field(default_factory=list)
    before: list[Callable[["Run", Asked], None]] = field(default_factory=list)
    after: list[Callable[["Run", Asked], None]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    session: Session | None = None
    broker: AsterAccount | None = None
    clock: FollowedClock | None = None
    broken_by: Exception | None = None

    @property
    def account(self) -> Account:
        """On the exchange's side."""
        return self.exchange.office.accounts[0]

    @property
    def amount(self) -> Decimal:
        """Held, as the exchange has it."""
        return sum((each.amount for each in self.account.ledger.positions(BTC)), Decimal(0))

    def orders(self, leg: str = "") -> list[Order]:
        """Ours as the exchange has them, oldest first; of one leg where it is named."""
        every = [*self.account.finished.values(), *self.account.open.values()]
        named = [(order_name(each.client_id), each) for each in sorted(every, key=lambda each: each.order_id)]
        return [each for name, each in named if name is not None and leg in ("", name.leg)]

    def strike(self, kind: str, **told: Any) -> None:
        """Something is wrong with the next request for orders, or with what else is named."""
        asked = {"path": "order", "method": "POST", "count": 1, **told}
        # at once: the exchange's own control waits until its followers are quiet, and a request under way is not
        self.exchange._request_trouble.add([RequestFault(kind=kind, **asked)], self.exchange.now_ns)

    def moves(self, price: object, *, mark: object | None = None) -> None:
        """The market trades at a price for a moment, and its mark is there, or elsewhere."""
        office, now_ms = self.exchange.office, self.exchange.office.now_ms
        last = Decimal(str(price))
        self.account.on_mark(BTC, last if mark is None else Decimal(str(mark)), now_ms)
        self.account.on_trade(BTC, last, Decimal(1), True, now_ms)
        office.collect()
        office.tell()

    def by_hand(self, side: str, quantity: object, **told: Any) -> Order:
        """The operator sends an order of his own."""
        kind = told.pop("type", "MARKET")
        asked = NewOrder(symbol=BTC, side=side, type=kind, quantity=Decimal(str(quantity)), **told)
        placed = self.account.place(asked, self.exchange.office.now_ms)
        self.exchange.office.collect()
        self.exchange.office.tell()
        return placed

    def told(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """The exchange's streams carry more messages, by stream name."""
        office = self.exchange.office
        office._messages += messages
        office.tell()

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        """Something happens so much later by the market's time."""

        def happens() -> None:
            what()
            self.exchange.office.collect()

        self.exchange.office.later(seconds, happens)

    def breaks(self, error: Exception, seconds: float) -> None:
        """No request reaches the exchange for so long, by the market's time."""
        self.broken_by = error
        self.later(seconds, lambda: setattr(self, "broken_by", None))


class WatchedRest(SignedRest):
    """Signed requests that a test looks at."""

    run: Run

    async def __aenter__(self) -> "WatchedRest":
        await super().__aenter__()
        request = self._session.request

        def broken_or(*asked: Any, **told: Any) -> Any:
            if self.run.broken_by is not None:
                raise self.run.broken_by
            return request(*asked, **told)

        self._session.request = broken_or
        return self

    async def send(
        self, method: str, name: str, parameters: Parameters = (), within_s: float = 10.0
    ) -> Answer | NoAnswer:
        asked = Asked(ms=self.run.clock.now_ms(), method=method, name=name, told=dict(parameters))
        self.run.asked.append(asked)
        for look in self.run.before:
            look(self.run, asked)
        answer = await super().send(method, name, parameters, within_s)
        for look in self.run.after:
            look(self.run, asked)
        return answer


async def trade(
    run: Run, config: TradingConfig, *, minutes: float, rules: AccountRules = RULES, is_v1: bool = False
) -> Run:
    """One session on an exchange that is at work, until its time is over or the run is stopped."""

    async def session(log: Log, journal: Journal, damage: str | None) -> None:
        venue, run.clock = await venue_of(run.exchange.rest_url), FollowedClock()
        keys = run.exchange.office.keys[0]
        key = ApiKey(keys.api_key, keys.api_secret) if is_v1 else AgentKey(keys.private_key)
        floor_us = journal.last_ms * 1_000 + 1_000_000
        async with WatchedRest(venue, run.clock, key, symbols=frozenset({config.symbol}), floor_us=floor_us) as rest:
            rest.run = run
            run.broker = AsterAccount(rules, venue, run.clock, rest, damage=damage)
            run.session = Session(
                [config], venue, run.clock, log, journal,
                resolution="tick", run_length_s=minutes * 60, account=run.broker,
            )  # fmt: skip
            await run.session.run(run.stop)

    await on_sound_journal(run.path, session)
    return run


def real(
    config: TradingConfig,
    path: Path,
    *,
    minutes: float,
    before: Sequence[Callable[[Run, Asked], None]] = (),
    after: Sequence[Callable[[Run, Asked], None]] = (),
    is_hedge: bool = False,
    rules: AccountRules = RULES,
    accounts: dict[str, Any] | None = None,
    is_v1: bool = False,
    **exchange: Any,
) -> Run:
    """Trade for so many market minutes on an exchange of its own."""

    async def session() -> Run:
        settings = AccountSettings(**{"taker_fee": config.costs.taker_fee_bps / 1e4, "leverage": 1, **(accounts or {})})
        told = {"start": START, "quiet_every_s": 1.0, "accounts": settings, **exchange}
        async with asyncio.timeout(300), Loopback(market(), **told) as loopback:
            await loopback.office.catch_up()
            if is_hedge:
                account_modes.set_hedge(loopback.office.accounts[0], True, loopback.office.now_ms)
            run = Run(loopback, path, before=[*before], after=[*after])
            return await trade(run, config, minutes=minutes, rules=replace(rules, is_hedge=is_hedge), is_v1=is_v1)

    return asyncio.run(session())


def often(build: Callable[..., TradingConfig], **changes: Any) -> TradingConfig:
    """A config that trades a few times an hour on the market there is."""
    return build(**{**OFTEN, **changes})


def new(leg: str, do: Callable[[Run], object], times: int = 1) -> Callable[[Run, Asked], None]:
    """Something is done at the first new order of a leg, or at the first few."""
    seen: list[Asked] = []

    def look(run: Run, asked: Asked) -> None:
        if asked.is_new(leg) and len(seen) < times:
            seen.append(asked)
            do(run)

    return look


def guarded(do: Callable[[Run], object], seconds: float = 5.0) -> Callable[[Run, Asked], None]:
    """Something is done so long after the first position's last exit order stands."""
    return new("R", lambda run: run.later(seconds, lambda: do(run)))


def flatten(run: Run) -> None:
    """The operator has the position closed."""
    run.broker.risk.flatten(Flatten(symbol=BTC, reason="told to"))
    run.broker.executor.wake.set()


def again(
    config: TradingConfig,
    path: Path,
    *,
    minutes: Sequence[float],
    then: Callable[[Run], Path | Coroutine[Any, Any, None] | None] = lambda run: None,
    is_hedge: bool = False,
    rules: Sequence[AccountRules] = (RULES, RULES, RULES),
    before: Sequence[Callable[[Run, Asked], None]] = (),
) -> list[Run]:
    """Sessions on one exchange, one after the other; ``then`` comes between and may give another journal.

    ``before`` is of the first.
    """

    async def sessions() -> list[Run]:
        settings = AccountSettings(taker_fee=config.costs.taker_fee_bps / 1e4, leverage=1)
        async with (
            asyncio.timeout(300),
            Loopback(market(), start=START, quiet_every_s=1.0, accounts=settings) as loopback,
        ):
            await loopback.office.catch_up()
            if is_hedge:
                account_modes.set_hedge(loopback.office.accounts[0], True, loopback.office.now_ms)
            runs, journal = [Run(loopback, path, before=[*before])], path
            for number, length in enumerate(minutes):
                if number:
                    told = then(runs[-1])
                    journal = (await told if asyncio.iscoroutine(told) else told) or journal
                    runs.append(Run(loopback, journal))
                await trade(runs[-1], config, minutes=length, rules=replace(rules[number], is_hedge=is_hedge))
            return runs

    return asyncio.run(sessions())
