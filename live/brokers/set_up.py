"""What the account has to be before anything is sent: fees as assumed, leverage and margin as configured."""

from collections.abc import Mapping
from typing import Protocol

from data.clock import Clock
from data.venues.aster import Answer
from live.account_rules import AccountRules
from live.brokers.account_reader import AccountReader
from live.brokers.executor import Executor
from live.brokers.requests import Requests, waits_s
from live.brokers.risk_keeper import RiskKeeper
from live.budget import Urgency
from live.order_evidence import Unread
from live.protection import Finding
from research.engine import TradingConfig
from research.fills import Terms
from research.liquidation import brackets_of

_FEE_BPS = 1e-6  # two fees that differ by less are the same


class Seat(Protocol):
    """What is looked at of a desk's broker."""

    config: TradingConfig
    terms: Terms


async def set_up(
    requests: Requests,
    reader: AccountReader,
    rules: AccountRules,
    seats: Mapping[str, Seat],
    risk: RiskKeeper,
    executor: Executor,
    clock: Clock,
) -> None:
    """Check every symbol; asked again until it is answered. What is held, or has orders, is never changed."""
    for symbol, seat in seats.items():
        for wait_s in waits_s():
            positions = await reader.positions(Urgency.CERTAINTY, symbol)
            fees_bps = await reader.fees_bps(Urgency.CERTAINTY, symbol)
            brackets = await reader.brackets(Urgency.CERTAINTY, symbol)
            unread = [each for each in (positions, fees_bps, brackets) if isinstance(each, Unread)]
            if not unread:
                break
            executor.alert(Finding(kind="unread", symbol=symbol, detail=unread[0].reason))
            await clock.sleep(wait_s)
        seat.terms = seat.terms._replace(brackets=brackets_of({"brackets": brackets}))
        costs, rests = seat.config.costs, seat.config.orders.resting is not None
        wanted_bps = (costs.taker_fee_bps, costs.maker_fee_bps) if rests else (costs.taker_fee_bps,)
        for fee_bps, wanted in zip(fees_bps, wanted_bps, strict=False):  # entries that take never pay the maker's
            if abs(fee_bps - wanted) > _FEE_BPS:
                detail = f"{symbol}: the account pays {fee_bps:g} bps, the config says {wanted:g}"
                risk.alarm("fee", detail, clock.now_ms())
                executor.alert(Finding(kind="fee", symbol=symbol, detail=detail))
        leverage = int(seat.config.orders.leverage)
        if any(seen.amount for seen in positions):
            continue
        if any(seen.leverage != leverage for seen in positions):
            await _change(requests, executor, symbol, "leverage", ("leverage", str(leverage)))
        if any(seen.is_isolated != rules.is_isolated for seen in positions):
            kind = "ISOLATED" if rules.is_isolated else "CROSSED"
            await _change(requests, executor, symbol, "marginType", ("marginType", kind))


async def _change(requests: Requests, executor: Executor, symbol: str, name: str, asked: tuple[str, str]) -> None:
    """Change a setting; whether it is as wanted, reconciliation sees once something is held."""
    answer = await requests.send(Urgency.CERTAINTY, "POST", name, (("symbol", symbol), asked))
    if not isinstance(answer, Answer) or answer.status >= 300:
        said = answer.reason if not isinstance(answer, Answer) else answer.body[:120].decode(errors="replace")
        executor.alert(Finding(kind="setting", symbol=symbol, detail=f"{name} {asked[1]}: {said}", is_urgent=True))
