"""The name F9 is a row of the fault matrix."""

import math
from dataclasses import replace

import pytest

from live.gates import EntryLimits, Moment, refusals
from live.risk import Level, RiskState

HOUR_MS = 3_600_000
LIMITS = EntryLimits(
    max_symbol_notional_usdt=1_000.0, max_total_notional_usdt=2_000.0, max_open_orders_per_symbol=1,
    max_entries_per_hour=4,
)  # fmt: skip
FINE = Moment(
    time_ms=10 * HOUR_MS, symbol="BTCUSDT", notional_usdt=500.0, margin_usdt=50.0, available_usdt=100.0,
    symbol_notional_usdt=0.0, total_notional_usdt=1_000.0, open_entries=0, entries_last_hour=0, price_distance_bps=3.0,
    liquidation_distance=10.0, quote_age_ms=100.0, mark_age_ms=900.0, clock_offset_ms=20.0, round_trip_ms=80.0,
    doubts=0, is_reconciled=True, is_listening=True, is_trading=True, has_gap=False,
)  # fmt: skip


def said(state: RiskState | None = None, limits: EntryLimits = LIMITS, **changed) -> list[str]:
    return refusals(limits, state or RiskState(), replace(FINE, **changed))


def test_an_entry_leaves_when_nothing_speaks_against_it():
    assert said() == []
    assert said(liquidation_distance=math.inf) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"symbol_notional_usdt": 501.0}, "1001 USDT in the symbol, at most 1000"),
        ({"total_notional_usdt": 1_501.0}, "2001 USDT in all, at most 2000"),
        ({"margin_usdt": 101.0}, "101 USDT of margin, at most 100"),
        ({"open_entries": 1}, "2 open entries, at most 1"),
        ({"entries_last_hour": 4}, "5 entries within the hour, at most 4"),
        ({"price_distance_bps": 101.0}, "101 bps from the mark, at most 100"),
        ({"quote_age_ms": 2_001.0}, "2001 ms since the quote, at most 2000"),
        ({"mark_age_ms": 3_001.0}, "3001 ms since the mark, at most 3000"),
        ({"clock_offset_ms": -2_001.0}, "2001 ms off the exchange's clock, at most 2000"),
        ({"round_trip_ms": 1_001.0}, "1001 ms to the exchange and back, at most 1000"),
        ({"liquidation_distance": 1.9}, "liquidation 1.9 stop distances away, at least 2 are wanted"),
        ({"doubts": 1}, "1 orders whose fate is unknown"),
        ({"is_reconciled": False}, "journal and exchange do not agree"),
        ({"is_listening": False}, "the user stream is not caught up"),
        ({"is_trading": False}, "the symbol is not trading"),
        ({"has_gap": True}, "a bar is missing"),
    ],
)
def test_each_limit_is_told_with_what_broke_it(changed, reason):
    assert said(**changed) == [reason]


@pytest.mark.parametrize(
    "unknown",
    ["available_usdt", "symbol_notional_usdt", "total_notional_usdt", "price_distance_bps", "liquidation_distance",
     "quote_age_ms", "mark_age_ms", "clock_offset_ms", "round_trip_ms"],
)  # fmt: skip
def test_f9_what_is_not_known_speaks_against(unknown):
    assert len(said(**{unknown: math.nan})) == 1


def test_a_level_below_active_lets_no_entry_through():
    assert said(RiskState(lowered={"parity": Level.REDUCING})) == ["REDUCING: parity"]


def test_a_spent_day_a_cooldown_and_the_hour_speak_against():
    state = RiskState(spent_day=0, paused_until_ms={"BTCUSDT": 10 * HOUR_MS + 5, "ETHUSDT": 99 * HOUR_MS})
    limits = replace(LIMITS, entry_hours=(9, 11))
    assert said(state, limits) == [
        "the day has lost what it may", "no entries in hour 10 UTC", "cooldown for another 5 ms",
    ]  # fmt: skip
    assert said(state, limits, time_ms=33 * HOUR_MS) == []
