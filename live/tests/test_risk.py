"""Names F19, F21, F30 and F35 are rows of the fault matrix."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import canonical_json, load
from live.risk import (
    ALARMS,
    Acknowledged,
    Alarmed,
    ClockSeen,
    Commanded,
    EquitySeen,
    Flatten,
    Level,
    MarginSeen,
    Naked,
    RiskLimits,
    RiskState,
    TradeClosed,
    Transferred,
    react,
)

DAY_MS = 86_400_000
LIMITS = RiskLimits(max_daily_drawdown=0.05, max_drawdown=0.2, max_losses_in_a_row=3)
LOSS = TradeClosed(time_ms=1, symbol="BTCUSDT", net_usdt=-1.0, next_entry_ms=600_001)


def after(*events, state: RiskState | None = None, limits: RiskLimits = LIMITS) -> tuple[RiskState, list[Flatten]]:
    """State after all of them, and what the last one closes."""
    state, orders = state or RiskState(), []
    for event in events:
        state, orders = react(limits, state, event)
    return state, orders


def equity(usdt: float, at_ms: int = 1) -> EquitySeen:
    return EquitySeen(time_ms=at_ms, equity_usdt=usdt)


def test_a_day_that_fell_too_far_is_closed_and_over():
    state, orders = after(equity(1_000.0), equity(951.0))
    assert (state.spent_day, orders) == (-1, [])
    state, orders = after(equity(950.0), state=state)
    assert (state.spent_day, [order.symbol for order in orders]) == (0, [None])
    assert state.level is Level.ACTIVE  # tomorrow is another day


def test_a_new_day_begins_with_its_own_peak():
    state, orders = after(equity(1_000.0), equity(940.0, DAY_MS))
    assert (state.spent_day, state.day_peak_usdt, orders) == (-1, 940.0, [])


def test_what_comes_late_of_yesterday_does_not_begin_today_anew():
    """At bar resolution one symbol's windows are told later than another's."""
    state, orders = after(equity(1_000.0, DAY_MS), equity(960.0, DAY_MS - 1), equity(949.0, DAY_MS + 1))
    assert (state.day, state.spent_day, [order.symbol for order in orders]) == (1, 1, [None])


def test_the_drawdown_of_all_days_halts():
    state, orders = after(equity(1_000.0), equity(960.0, DAY_MS), equity(800.0, 2 * DAY_MS))
    assert state.level is Level.HALTED
    assert [order.symbol for order in orders] == [None]


def test_a_withdrawal_is_no_loss():
    state, orders = after(equity(1_000.0), Transferred(time_ms=2, amount_usdt=-300.0), equity(700.0))
    assert (state.spent_day, state.level, orders) == (-1, Level.ACTIVE, [])


def test_losses_in_a_row_leave_exits_only_and_a_gain_begins_anew():
    assert after(LOSS, LOSS)[0].level is Level.ACTIVE
    assert after(LOSS, LOSS, LOSS)[0].level is Level.REDUCING
    assert after(LOSS, LOSS, replace(LOSS, net_usdt=0.5), LOSS, LOSS)[0].level is Level.ACTIVE


def test_margin_at_the_edge_closes_what_it_belongs_to():
    thin = MarginSeen(time_ms=1, balance_usdt=12.0, maintenance_usdt=10.0, symbol="BTCUSDT")
    state, orders = after(thin)
    assert state.level is Level.REDUCING
    assert [order.symbol for order in orders] == ["BTCUSDT"]
    assert after(replace(thin, balance_usdt=12.1))[1] == []
    assert after(MarginSeen(time_ms=1, balance_usdt=0.0, maintenance_usdt=0.0))[1] == []


@pytest.mark.parametrize(("offset_ms", "level"), [(8_000.0, Level.ACTIVE), (-8_001.0, Level.HALTED)])
def test_f19_a_clock_that_is_far_off_halts(offset_ms, level):
    assert after(ClockSeen(time_ms=1, offset_ms=offset_ms))[0].level is level


def test_f21_a_ban_leaves_exits_only():
    assert after(Alarmed(time_ms=1, what="banned", detail="418"))[0].level is Level.REDUCING


def test_f30_a_liquidation_halts():
    assert after(Alarmed(time_ms=1, what="liquidated", detail="autoclose-1"))[0].level is Level.HALTED


def test_a_position_without_its_stop_for_long_leaves_exits_only():
    assert after(Naked(time_ms=1, symbol="BTCUSDT", for_ms=2_000))[0].level is Level.ACTIVE
    assert after(Naked(time_ms=1, symbol="BTCUSDT", for_ms=2_001))[0].level is Level.REDUCING


def test_an_alarm_without_a_level_is_refused():
    with pytest.raises(ValueError, match="expected one of liquidated"):
        after(Alarmed(time_ms=1, what="thunder", detail=""))


def test_f35_a_restart_takes_nothing_back():
    state, _ = after(equity(1_000.0), equity(900.0), LOSS, LOSS, LOSS, Alarmed(time_ms=1, what="parity", detail="P1"))
    read = load(RiskState, json.loads(canonical_json(state)), "journal")
    assert read == state
    assert (read.level, read.spent_day, read.paused_until_ms) == (Level.REDUCING, 0, {"BTCUSDT": 600_001})


def test_the_operator_raises_what_fell():
    state, _ = after(LOSS, LOSS, LOSS, Alarmed(time_ms=1, what="liquidated", detail=""))
    state, _ = after(Commanded(time_ms=2, level=Level.REDUCING), state=state)
    assert state.level is Level.HALTED  # whoever asks for less does not get more
    state, _ = after(Commanded(time_ms=3, level=Level.ACTIVE), state=state)
    assert (state.level, state.losses_in_a_row) == (Level.ACTIVE, 0)


def test_what_was_looked_at_is_taken_back_and_what_halts_stays():
    state, _ = after(LOSS, LOSS, LOSS, Commanded(time_ms=1, level=Level.REDUCING))
    state, _ = after(Alarmed(time_ms=2, what="parity", detail=""), state=state)
    state, _ = after(Acknowledged(time_ms=3), state=state)
    assert (state.lowered, state.losses_in_a_row) == ({"operator": Level.REDUCING}, 0)
    state, _ = after(Alarmed(time_ms=4, what="liquidated", detail=""), Acknowledged(time_ms=5), state=state)
    assert state.level is Level.HALTED


def test_the_operator_lowers_it_too():
    assert after(Commanded(time_ms=1, level=Level.HALTED))[0].level is Level.HALTED


@pytest.mark.parametrize(
    "wrong",
    [{"max_daily_drawdown": 5.0}, {"max_drawdown": 0.0}, {"max_losses_in_a_row": 0}, {"least_margin_ratio": 1.0}],
)
def test_limits_that_limit_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        replace(LIMITS, **wrong)


EVENTS = st.one_of(
    st.builds(EquitySeen, time_ms=st.integers(0, 3 * DAY_MS), equity_usdt=st.floats(1.0, 2_000.0)),
    st.builds(Transferred, time_ms=st.just(1), amount_usdt=st.floats(-100.0, 100.0)),
    st.builds(TradeClosed, time_ms=st.just(1), symbol=st.just("BTCUSDT"), net_usdt=st.floats(-9.0, 9.0),
              next_entry_ms=st.integers(0, 10**6)),
    st.builds(ClockSeen, time_ms=st.just(1), offset_ms=st.floats(-9_000.0, 9_000.0)),
    st.builds(Alarmed, time_ms=st.just(1), what=st.sampled_from(sorted(ALARMS)), detail=st.just("")),
)  # fmt: skip


@given(events=st.lists(EVENTS, max_size=20))
def test_only_the_operator_raises_the_level(events):
    levels, state = list(Level), RiskState()
    for event in events:
        before, (state, _) = state, react(LIMITS, state, event)
        assert levels.index(state.level) >= levels.index(before.level)
        assert state.spent_day >= before.spent_day or isinstance(event, EquitySeen)
        assert load(RiskState, json.loads(canonical_json(state)), "journal") == state
