"""How much may still be risked: a level that only falls by itself, and that only the operator raises. Pure.

The state is plain values and belongs into the journal, so that a restart resets nothing: ``load(RiskState, body)``
gives it back. What holds only for the moment, such as a stale quote, is no part of it: see ``live.gates``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from research.daily_loss import DAY_MS

OPERATOR = "operator"  # the reason that is a person
HALTING_OFFSET_MS = 8_000  # the exchange takes nonces of 10 s


class Level(StrEnum):
    """What may be done, most first."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"  # exits only
    HALTED = "HALTED"  # exits only, and nothing is taken up again without the operator


_DEPTHS = {level: depth for depth, level in enumerate(Level)}


@dataclass(frozen=True, kw_only=True)
class RiskLimits:
    """What a run may lose, and how close to the edge it may go. Money has no defaults.

    Attributes
    ----------
    max_daily_drawdown : fraction of the day's highest equity (UTC); reached, everything is closed and nothing entered
        until the day is over (prior-art 003: 0.05).
    max_drawdown : fraction of the highest equity ever, transfers aside; reached, all is closed and the run halts.
    max_losses_in_a_row : trades; reached, only exits are left.
    least_margin_ratio : margin balance over maintenance margin, of the account or of an isolated position; at or under
        it the position is closed (prior-art 003: 1.2).
    max_naked_ms : a position without its stop for longer leaves only exits.
    """

    max_daily_drawdown: float
    max_drawdown: float
    max_losses_in_a_row: int
    least_margin_ratio: float = 1.2
    max_naked_ms: int = 2_000

    def __post_init__(self) -> None:
        for name in ("max_daily_drawdown", "max_drawdown"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name}: expected a fraction between 0 and 1, got {getattr(self, name):g}")
        if self.max_losses_in_a_row < 1:
            raise ValueError(f"max_losses_in_a_row: expected 1 or more, got {self.max_losses_in_a_row}")
        if not self.least_margin_ratio > 1.0:
            raise ValueError(
                f"least_margin_ratio: expected more than 1, where the exchange liquidates; got "
                f"{self.least_margin_ratio:g}"
            )


@dataclass(frozen=True, kw_only=True)
class RiskState:
    """What must outlive a restart. Money in USDT, times in ms.

    Attributes
    ----------
    lowered : level by reason, as long as the operator has not taken it back.
    day : UTC, since 1970. day_peak_usdt : its highest equity.
    peak_usdt : the highest equity ever; None before the first was seen. Transfers move both peaks.
    spent_day : a day on which nothing more is entered.
    losses_in_a_row : of closed trades.
    paused_until_ms : by symbol, when the next entry may be decided.
    """

    lowered: dict[str, Level] = field(default_factory=dict)
    day: int = -1
    day_peak_usdt: float = 0.0
    peak_usdt: float | None = None
    spent_day: int = -1
    losses_in_a_row: int = 0
    paused_until_ms: dict[str, int] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The lowest there is a reason for."""
        return max(self.lowered.values(), key=_DEPTHS.__getitem__, default=Level.ACTIVE)


@dataclass(frozen=True, kw_only=True)
class EquitySeen:
    """Margin balance of the account: wallet and unrealised."""

    time_ms: int
    equity_usdt: float


@dataclass(frozen=True, kw_only=True)
class Transferred:
    """Money came from outside, or went there (negative): neither profit nor loss."""

    time_ms: int
    amount_usdt: float


@dataclass(frozen=True, kw_only=True)
class TradeClosed:
    """The exchange says zero; net of fees and funding."""

    time_ms: int
    symbol: str
    net_usdt: float
    next_entry_ms: int


@dataclass(frozen=True, kw_only=True)
class MarginSeen:
    """Of the account, or of one isolated position (then with its symbol)."""

    time_ms: int
    balance_usdt: float
    maintenance_usdt: float
    symbol: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClockSeen:
    """How far our clock is from the exchange's; ms, positive where ours is behind."""

    time_ms: int
    offset_ms: float


@dataclass(frozen=True, kw_only=True)
class Naked:
    """A position has had no confirmed stop for so long."""

    time_ms: int
    symbol: str
    for_ms: int


@dataclass(frozen=True, kw_only=True)
class Alarmed:
    """Something happened that has to be looked at: see ``ALARMS``."""

    time_ms: int
    what: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Commanded:
    """The operator lowers the level, or raises it to ACTIVE: the one hand that does. What still holds comes back."""

    time_ms: int
    level: Level


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """The operator has looked at what left only exits: those reasons are taken back, not what halts."""

    time_ms: int


ALARMS: Mapping[str, Level] = {
    "liquidated": Level.HALTED,  # or deleveraged: the account is not what we think it is
    "banned": Level.REDUCING,  # HTTP 418
    "mode_changed": Level.HALTED,  # hedge mode, leverage or margin type, while running
    "parity": Level.REDUCING,  # last night's replay decided otherwise than the run
    "mismatch": Level.REDUCING,  # our fills and the exchange's position, twice in a row
    "fee": Level.REDUCING,  # the account's commission is not the config's
    "adopted": Level.REDUCING,  # a position that the journal did not know
    "journal": Level.REDUCING,  # damaged, begun anew
    "disk": Level.REDUCING,  # it took no more
    "key": Level.HALTED,  # refused: signature, permission, deposit
}


@dataclass(frozen=True, kw_only=True)
class Flatten:
    """Close it now: one symbol, or everything (None)."""

    symbol: str | None
    reason: str


RiskEvent = EquitySeen | Transferred | TradeClosed | MarginSeen | ClockSeen | Naked | Alarmed | Commanded | Acknowledged
Outcome = tuple[RiskState, list[Flatten]]


def react(limits: RiskLimits | None, state: RiskState, event: RiskEvent) -> Outcome:
    """The next state, and what has to be closed.

    Parameters
    ----------
    limits : None where only people and alarms lower the level: nothing measured is told then.

    Raises
    ------
    ValueError
        For an alarm that there is no level for.
    """
    match event:
        case EquitySeen():
            return _weighed(limits, state, event)
        case Transferred():
            peak_usdt = None if state.peak_usdt is None else state.peak_usdt + event.amount_usdt
            return replace(state, peak_usdt=peak_usdt, day_peak_usdt=state.day_peak_usdt + event.amount_usdt), []
        case TradeClosed():
            return _counted(limits, state, event), []
        case MarginSeen():
            is_thin = event.balance_usdt <= limits.least_margin_ratio * event.maintenance_usdt
            if event.maintenance_usdt <= 0.0 or not is_thin:
                return state, []
            reason = f"margin {event.balance_usdt:g} USDT over {event.maintenance_usdt:g} maintenance"
            return _lowered(state, "margin", Level.REDUCING), [Flatten(symbol=event.symbol, reason=reason)]
        case ClockSeen():
            is_off = not abs(event.offset_ms) <= HALTING_OFFSET_MS
            return (_lowered(state, "clock", Level.HALTED) if is_off else state), []
        case Naked():
            is_long = event.for_ms > limits.max_naked_ms
            return (_lowered(state, f"naked {event.symbol}", Level.REDUCING) if is_long else state), []
        case Alarmed():
            if event.what not in ALARMS:
                raise ValueError(f"alarm {event.what!r}: expected one of {', '.join(ALARMS)}")
            return _lowered(state, event.what, ALARMS[event.what]), []
        case Commanded():
            return _commanded(state, event.level), []
        case Acknowledged():
            kept = {why: each for why, each in state.lowered.items() if each is Level.HALTED or why == OPERATOR}
            return replace(state, lowered=kept, losses_in_a_row=0), []


def _weighed(limits: RiskLimits, state: RiskState, seen: EquitySeen) -> Outcome:
    """Equity against the highest of the day and of all time. What comes late of a day before counts for this one."""
    day, equity = max(state.day, seen.time_ms // DAY_MS), seen.equity_usdt
    day_peak = max(state.day_peak_usdt, equity) if day == state.day else equity
    peak = equity if state.peak_usdt is None else max(state.peak_usdt, equity)
    state = replace(state, day=day, day_peak_usdt=day_peak, peak_usdt=peak)
    if equity <= peak * (1.0 - limits.max_drawdown):
        reason = f"equity {equity:g} USDT, {limits.max_drawdown:.1%} or more below its peak {peak:g}"
        return _lowered(state, "drawdown", Level.HALTED), [Flatten(symbol=None, reason=reason)]
    if equity <= day_peak * (1.0 - limits.max_daily_drawdown):
        reason = f"equity {equity:g} USDT, {limits.max_daily_drawdown:.1%} or more below the day's peak {day_peak:g}"
        return replace(state, spent_day=day), [Flatten(symbol=None, reason=reason)]
    return state, []


def _counted(limits: RiskLimits, state: RiskState, closed: TradeClosed) -> RiskState:
    losses = state.losses_in_a_row + 1 if closed.net_usdt < 0.0 else 0
    paused = {**state.paused_until_ms, closed.symbol: closed.next_entry_ms}
    state = replace(state, losses_in_a_row=losses, paused_until_ms=paused)
    return _lowered(state, "losses", Level.REDUCING) if losses >= limits.max_losses_in_a_row else state


def _lowered(state: RiskState, reason: str, level: Level) -> RiskState:
    """With one more reason; one that is there already never becomes milder."""
    deepest = max(level, state.lowered.get(reason, level), key=_DEPTHS.__getitem__)
    return replace(state, lowered={**state.lowered, reason: deepest})


def _commanded(state: RiskState, level: Level) -> RiskState:
    """The operator's level. ACTIVE takes every reason back, and what had counted up to it; nothing else raises."""
    if level is not Level.ACTIVE:
        return _lowered(state, OPERATOR, level)
    return replace(state, lowered={}, losses_in_a_row=0, peak_usdt=None)
