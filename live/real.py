"""Real mode: the same session as on paper, with an account of the exchange in the place of the paper brokers.

The one module that can have orders sent. It is not imported before the operator asked for it, with the symbols typed
again.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from data.clock import FollowedClock, RealClock
from data.venues.aster import ASTER, TESTNET, venue_of
from data.venues.aster_signed import SignedRest
from data.venues.signing import AgentKey
from data.wal import Log
from live.account_rules import AccountRules
from live.alerts import Alerts
from live.brokers.aster import AsterAccount
from live.config import Chosen
from live.identity import code_identity
from live.journal import Damaged, Journal, feed_folder, set_aside
from live.promotion import real_refusals
from live.secrets import SigningKey
from live.session import Progress, Session
from research.engine import TradingConfig

T = TypeVar("T")
_NONCES_PER_RUN_US = 1_000_000  # a run before may have been so far ahead of its clock


def permitted(send_orders: str | None, configs: Sequence[TradingConfig]) -> frozenset[str]:
    """The symbols that orders may be sent for: all of the configs', typed again.

    Raises
    ------
    ValueError
        When they are not the same.
    """
    traded = {config.symbol for config in configs}
    typed = {symbol.strip() for symbol in (send_orders or "").split(",") if symbol.strip()}
    if typed != traded:
        raise ValueError(
            f"--send-orders: expected the symbols of the configs, {','.join(sorted(traded))}, typed again; got "
            f"{','.join(sorted(typed)) or 'none'}; nothing is sent"
        )
    return frozenset(typed)


def require_approved(
    promoted: Sequence[Chosen], rules: AccountRules, key: SigningKey, place: str, now: datetime
) -> None:
    """See to it that every config may trade for real; a loopback exchange asks only where the account has an operator.

    Raises
    ------
    ValueError
        With every reason against it.
    """
    if place not in (ASTER.name, TESTNET.name) and rules.operator is None:
        return
    if rules.operator is None:
        raise ValueError("the account's file names no operator: whose approval counts? Nothing is sent")
    signer, code = key.address if isinstance(key, AgentKey) else None, code_identity()
    for chosen in promoted:
        reasons = real_refusals(chosen, operator=rules.operator, trading_signer=signer, code=code, now=now)
        if chosen.risk is not None and (chosen.risk.account, chosen.risk.entries) != (rules.risk, rules.entries):
            reasons.append("the account's file has other limits than were approved")
        if reasons:
            raise ValueError(f"{chosen.config.symbol} must not trade for real: " + "; ".join(reasons))


async def on_sound_journal(path: Path, run: Callable[[Log, Journal, str | None], Awaitable[T]]) -> T:
    """What ``run`` returns, which writes to a journal and its log.

    Damaged ones are set aside and it runs on new ones, told why: what is held, it learns from the exchange.
    """
    damage = None
    while True:
        try:
            with Log(feed_folder(path)) as log, Journal(path, log.settle) as journal:
                return await run(log, journal, damage)
        except Damaged as error:
            if damage is not None:
                raise
            damage = f"{error}; it is {set_aside(path, f'damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}').name} now"


@contextmanager
def sole_runner(place: str, key: SigningKey) -> Iterator[None]:
    """While it lasts no other process of this machine trades with the key.

    Raises
    ------
    ValueError
        When one does.
    """
    name = key.address if isinstance(key, AgentKey) else key.key
    digest = hashlib.blake2s(f"{place}|{name}".encode()).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"aster-live-{digest}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError("another runner on this machine trades with this key; end it first") from None
    try:
        yield
    finally:
        lock.release()


async def session(
    configs: Sequence[TradingConfig],
    symbols: frozenset[str],
    rules: AccountRules,
    key: SigningKey,
    place: str,
    log: Log,
    journal: Journal,
    stop: asyncio.Event,
    tell: Callable[[Progress], None],
    *,
    lake: Path | None,
    run_length_s: float | None,
    alerts: Alerts | None = None,
    damage: str | None = None,
) -> Session:
    """Trade until stopped.

    Parameters
    ----------
    symbols : of ``permitted``.
    place : of ``venue_of``.
    damage : of ``on_sound_journal``.

    Raises
    ------
    ValueError
        When another runner on this machine trades with the key, and as ``live.session.Session`` does.
    """
    venue = await venue_of(place)
    clock = FollowedClock() if venue.is_loopback else RealClock()
    floor_us = journal.last_ms * 1_000 + _NONCES_PER_RUN_US if journal.last_ms else 0
    signed = SignedRest(venue, clock, key, symbols=symbols, chain_id=rules.chain_id, floor_us=floor_us)
    with sole_runner(venue.rest_url, key):
        async with signed as rest:
            account = AsterAccount(rules, venue, clock, rest, damage=damage)
            made = Session(
                configs, venue, clock, log, journal,
                resolution="tick", lake=lake, run_length_s=run_length_s, account=account, alerts=alerts,
            )  # fmt: skip
            await made.run(stop, tell)
            return made
