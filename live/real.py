"""Real mode: the same session as on paper, with an account of the exchange in the place of the paper brokers.

The one module that can have orders sent. It is not imported before the operator asked for it, with the symbols typed
again.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from data.clock import FollowedClock, RealClock
from data.venues.aster import ASTER, venue_of
from data.venues.aster_signed import SignedRest
from data.venues.signing import AgentKey
from data.wal import Log
from live.account_rules import AccountRules
from live.alerts import Alerts
from live.brokers.aster import AsterAccount
from live.config import Chosen
from live.identity import code_identity
from live.journal import Journal
from live.promotion import real_refusals
from live.secrets import SigningKey
from live.session import Progress, Session
from research.engine import TradingConfig

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
    if place != ASTER.name and rules.operator is None:
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
) -> Session:
    """Trade until stopped.

    Parameters
    ----------
    symbols : of ``permitted``.
    place : of ``venue_of``.
    """
    venue = await venue_of(place)
    clock = FollowedClock() if venue.is_loopback else RealClock()
    floor_us = journal.last_ms * 1_000 + _NONCES_PER_RUN_US if journal.last_ms else 0
    async with SignedRest(
        venue, clock, key, symbols=symbols, chain_id=rules.chain_id, floor_us=floor_us
    ) as rest:  # fmt: skip
        account = AsterAccount(rules, venue, clock, rest)
        made = Session(
            configs, venue, clock, log, journal,
            resolution="tick", lake=lake, run_length_s=run_length_s, account=account, alerts=alerts,
        )  # fmt: skip
        await made.run(stop, tell)
        return made
