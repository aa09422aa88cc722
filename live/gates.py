"""Whether an entry may leave now: every reason against it, from what is known at this moment. Pure.

Nothing here counts up and down: exposure is what the exchange says is held and what our open entries may add, each time
from the beginning. What is not known is a reason against, not a zero.
"""

import math
from dataclasses import dataclass

from live.risk import Level, RiskState
from research.daily_loss import DAY_MS

HOUR_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class EntryLimits:
    """Up to where entries are made. Money has no defaults.

    Attributes
    ----------
    max_symbol_notional_usdt, max_total_notional_usdt : held and on the way.
    max_open_orders_per_symbol : of our entries (prior-art 001).
    max_entries_per_hour : per symbol.
    max_price_distance_bps : of the limit from the mark.
    max_quote_age_ms, max_mark_age_ms : by our clock.
    max_clock_offset_ms, max_round_trip_ms : to the exchange.
    least_liquidation_distance : in stop distances; the liquidation lies at least so far from the entry.
    entry_hours : UTC.
    """

    max_symbol_notional_usdt: float
    max_total_notional_usdt: float
    max_open_orders_per_symbol: int
    max_entries_per_hour: int
    max_price_distance_bps: float = 100.0
    max_quote_age_ms: float = 2_000.0
    max_mark_age_ms: float = 3_000.0
    max_clock_offset_ms: float = 2_000.0
    max_round_trip_ms: float = 1_000.0
    least_liquidation_distance: float = 2.0
    entry_hours: tuple[int, ...] = tuple(range(24))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known when an entry is about to leave. NaN: not known.

    Attributes
    ----------
    notional_usdt, margin_usdt : of the entry.
    symbol_notional_usdt, total_notional_usdt : the exchange's positions and our open entries, without this one.
    price_distance_bps : of the limit from the mark, positive on either side.
    liquidation_distance : of the entry, in stop distances; infinite where nothing can be liquidated.
    doubts : orders of the symbol whose fate is unknown.
    is_reconciled : journal and exchange agree on the symbol.
    is_listening : user stream open and caught up.
    is_trading : the symbol's status.
    has_gap : a bar of the decision's window is missing.
    """

    time_ms: int
    symbol: str
    notional_usdt: float
    margin_usdt: float
    available_usdt: float
    symbol_notional_usdt: float
    total_notional_usdt: float
    open_entries: int
    entries_last_hour: int
    price_distance_bps: float
    liquidation_distance: float
    quote_age_ms: float
    mark_age_ms: float
    clock_offset_ms: float
    round_trip_ms: float
    doubts: int
    is_reconciled: bool
    is_listening: bool
    is_trading: bool
    has_gap: bool


def refusals(limits: EntryLimits, state: RiskState, moment: Moment) -> list[str]:
    """Why the entry must not leave; empty when it may."""
    level, now_ms = state.level, moment.time_ms
    hour = now_ms // HOUR_MS % 24
    paused_ms = state.paused_until_ms.get(moment.symbol, 0) - now_ms
    entries, hourly = moment.open_entries + 1, moment.entries_last_hour + 1
    symbol_usdt = moment.symbol_notional_usdt + moment.notional_usdt
    total_usdt = moment.total_notional_usdt + moment.notional_usdt
    said = [
        (level is not Level.ACTIVE, f"{level}: {', '.join(state.lowered)}"),
        (state.spent_day == now_ms // DAY_MS, "the day has lost what it may"),
        (hour not in limits.entry_hours, f"no entries in hour {hour} UTC"),
        (paused_ms > 0, f"cooldown for another {paused_ms} ms"),
        (not moment.is_reconciled, "journal and exchange do not agree"),
        (not moment.is_listening, "the user stream is not caught up"),
        (moment.doubts > 0, f"{moment.doubts} orders whose fate is unknown"),
        (not moment.is_trading, "the symbol is not trading"),
        (moment.has_gap, "a bar is missing"),
        _above("open entries", entries, limits.max_open_orders_per_symbol),
        _above("entries within the hour", hourly, limits.max_entries_per_hour),
        _above("USDT in the symbol", symbol_usdt, limits.max_symbol_notional_usdt),
        _above("USDT in all", total_usdt, limits.max_total_notional_usdt),
        _above("USDT of margin", moment.margin_usdt, moment.available_usdt),
        _above("bps from the mark", moment.price_distance_bps, limits.max_price_distance_bps),
        _above("ms since the quote", moment.quote_age_ms, limits.max_quote_age_ms),
        _above("ms since the mark", moment.mark_age_ms, limits.max_mark_age_ms),
        _above("ms off the exchange's clock", abs(moment.clock_offset_ms), limits.max_clock_offset_ms),
        _above("ms to the exchange and back", moment.round_trip_ms, limits.max_round_trip_ms),
        (
            not moment.liquidation_distance >= limits.least_liquidation_distance,
            f"liquidation {moment.liquidation_distance:g} stop distances away, at least "
            f"{limits.least_liquidation_distance:g} are wanted",
        ),
    ]
    return [reason for holds, reason in said if holds]


def _above(what: str, value: float, most: float) -> tuple[bool, str]:
    """What is not known is above every limit."""
    if math.isnan(value) or math.isnan(most):
        return True, f"{what}: not known"
    return value > most, f"{value:g} {what}, at most {most:g}"
