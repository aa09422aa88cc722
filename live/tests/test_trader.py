"""The pure core: events in, state and effects out. Whether it trades as the backtest does: ``test_runner``."""

from dataclasses import replace

import numpy as np
import pytest

from live.feed import BarClosed, ExecutionBar, FeedEnded, Gap
from live.journal import Record
from live.orders import (
    AmbiguousBar,
    CancelEntry,
    CloseAsked,
    EntryFilled,
    EntryMissed,
    EntryOrder,
    ExitFilled,
    ExitOrders,
    FundingPaid,
    Leg,
    RowKey,
)
from live.trader import flat, step
from live.trading_rules import rules_of


@pytest.fixture
def trading(case, recorded):
    """The first decision to enter: rules, the state one event before it, and that event."""
    for config, bars in map(case, range(20)):
        recording = recorded(config, bars)
        rules = rules_of(config, recording.header, "rpl")
        state = flat(rules)
        for event in recording.events():
            after, effects = step(rules, state, event)
            if len(effects) == 3:
                return rules, state, event
            state = after
    raise AssertionError("no case ever enters")


def entered(rules, state, event):
    """The state after the entry order of ``event`` was filled at 100."""
    state, effects = step(rules, state, event)
    name = effects[-1].client_order_id
    fill = EntryFilled(time_ms=event.time_ms + 150, client_order_id=name, price=100.0, quantity=2.0, fee_usdt=0.08)
    return step(rules, state, fill)


def exit_of(state, event, leg=Leg.STOP):
    return ExitFilled(
        time_ms=event.time_ms + 60_000,
        filled_ms=event.time_ms + 59_999,
        row=event.row,
        client_order_id=state.position.exits.client_order_ids[leg],
        leg=leg,
        reason="stop",
        price=99.0,
        quantity=2.0,
        fee_usdt=0.08,
    )


def kinds(effects):
    return [effect.kind if isinstance(effect, Record) else type(effect).__name__ for effect in effects]


def test_a_decision_is_written_then_its_intent_then_the_order_is_sent(trading):
    _, effects = step(*trading)
    assert kinds(effects) == ["decision", "intent", "EntryOrder"]
    decision, intent, order = effects
    assert decision.client_order_id == intent.client_order_id == order.client_order_id
    assert decision.trade_id == order.trade_id and order.client_order_id == f"wbrpl-{order.trade_id}-E0"


def test_a_step_changes_nothing_but_what_it_returns(trading):
    rules, state, event = trading
    window = state.window.copy()
    first, second = step(rules, state, event), step(rules, state, event)
    np.testing.assert_array_equal(state.window, window)
    assert repr(first[1]) == repr(second[1]) and state.order is None


def test_every_record_names_config_symbol_trade_and_lake_row(trading):
    rules, state, event = trading
    _, effects = step(rules, state, event)
    for record in effects[:2]:
        assert (record.config_hash, record.symbol) == (rules.config_hash, "BNBUSDT")
        assert record.trade_id is not None
        assert (record.body["interval"], record.body["open_time_ms"]) == (event.row.interval, event.row.open_ms)


def test_a_fill_arms_the_stop_first_then_target_and_trailing_order(trading):
    _, effects = entered(*trading)
    assert kinds(effects) == ["fill", "intent", "intent", "intent", "ExitOrders"]
    assert [record.body["leg"] for record in effects[1:4]] == [Leg.STOP, Leg.TARGET, Leg.TRAILING]
    assert [record.client_order_id[-2:] for record in effects[1:4]] == ["S0", "T0", "R0"]
    assert all(record.body["quantity"] == 2.0 for record in effects[1:4])


def test_an_exit_the_decision_does_not_want_is_no_order(trading):
    rules, state, event = trading
    state, effects = step(rules, state, event)
    state = replace(state, decision=state.decision._replace(target_bps=np.nan, callback_bps=np.nan))
    name = effects[-1].client_order_id
    fill = EntryFilled(time_ms=event.time_ms + 150, client_order_id=name, price=100.0, quantity=2.0, fee_usdt=0.08)
    _, effects = step(rules, state, fill)
    assert [effect.body["leg"] for effect in effects[1:-1]] == [Leg.STOP]
    assert list(effects[-1].client_order_ids) == [Leg.STOP]


def test_in_a_position_or_with_an_order_under_way_nothing_is_decided(trading):
    rules, state, event = trading
    ordered, _ = step(rules, state, event)
    held, _ = entered(*trading)
    assert kinds(step(rules, ordered, event)[1]) == []
    assert kinds(step(rules, held, event)[1]) == []


def test_a_missed_entry_leaves_us_free_to_enter_on_the_next_bar(trading):
    rules, state, event = trading
    state, effects = step(rules, state, event)
    state, effects = step(rules, state, EntryMissed(time_ms=0, client_order_id=effects[-1].client_order_id))
    assert kinds(effects) == ["missed"] and state.order is None and state.next_entry_ms == 0


@pytest.fixture
def resting(trading):
    """The state after the decision to enter, and its effects, where entries rest 10 bps behind the touch for 30 s."""
    rules, state, event = trading
    event = replace(event, market=event.market._replace(bid=np.array([100.0]), ask=np.array([100.0])))
    terms = rules.terms._replace(
        notional_usdt=100.0, max_notional_usdt=200.0, min_notional_usdt=5.0, tick_size=0.5, step_size=0.01,
        min_quantity=0.01, max_quantity=100.0, rest_offset_bps=10.0, rest_ms=30_000,
    )  # fmt: skip
    return replace(rules, terms=terms), *step(replace(rules, terms=terms), state, event)


def test_an_entry_that_rests_is_ordered_behind_the_touch_for_its_life(resting):
    *_, (_, intent, order) = resting
    assert (intent.body["type"], intent.body["lifetime_ms"]) == ("LIMIT GTX", 30_000)
    assert (order.decision_price, order.lifetime_ms) == (99.5 if order.side > 0 else 100.5, 30_000)


def test_without_a_book_there_is_no_price_to_rest_at(trading):
    rules, state, event = trading
    blind = replace(event, market=event.market._replace(bid=np.array([np.nan]), ask=np.array([np.nan])))
    rules = replace(rules, terms=rules.terms._replace(rest_offset_bps=10.0, rest_ms=30_000))
    after, effects = step(rules, state, blind)
    assert kinds(effects) == ["decision", "missed"] and after.order is None


def test_the_bar_that_became_known_while_an_entry_rested_decides_nothing(resting):
    rules, state, (*_, order) = resting
    last = RowKey("1m", 600_000)
    state, effects = step(rules, state, EntryMissed(time_ms=0, client_order_id=order.client_order_id, row=last))
    assert kinds(effects) == ["missed"] and state.next_entry_ms == 720_000


def test_an_entry_that_rests_is_taken_back_when_the_symbol_is_to_be_flat(resting):
    rules, state, (*_, order) = resting
    asked = CloseAsked(time_ms=0, leg=Leg.FLATTEN, reason="operator")
    state, effects = step(rules, state, asked)
    assert effects == [CancelEntry(client_order_id=order.client_order_id)] and state.leaving == asked
    state, _ = step(rules, state, EntryMissed(time_ms=0, client_order_id=order.client_order_id))
    assert state.order is None and state.leaving is None


@pytest.mark.parametrize(("cooldown_bars", "paused_bars"), [(0, 2), (1, 2), (5, 6)])
def test_after_an_exit_the_bar_of_the_exit_itself_never_enters(trading, cooldown_bars, paused_bars):
    rules, state, event = trading
    rules = replace(rules, terms=rules.terms._replace(cooldown_bars=cooldown_bars))
    state, _ = entered(rules, state, event)
    state, effects = step(rules, state, exit_of(state, event))
    assert kinds(effects) == ["fill", "cancelled", "cancelled"]
    assert state.position is None
    assert state.next_entry_ms == event.row.open_ms + paused_bars * 60_000


@pytest.mark.parametrize("hours", [(), "others"])
def test_outside_the_entry_hours_nothing_is_decided(trading, hours):
    rules, state, event = trading
    hour = event.time_ms // 3_600_000 % 24
    allowed = tuple(other for other in range(24) if other != hour) if hours == "others" else hours
    rules = replace(rules, config=replace(rules.config, orders=replace(rules.config.orders, entry_hours=allowed)))
    assert kinds(step(rules, state, event)[1]) == []


def test_a_row_that_may_not_enter_does_not(trading):
    rules, state, event = trading
    closed = replace(event, market=event.market._replace(can_enter=np.array([False])))
    assert kinds(step(rules, state, closed)[1]) == []


def test_a_notional_no_quantity_can_carry_is_a_missed_entry(trading):
    rules, state, event = trading
    rules = replace(rules, terms=rules.terms._replace(max_quantity=0.0))
    state, effects = step(rules, state, event)
    assert kinds(effects) == ["decision", "missed"] and state.order is None


def test_the_window_holds_no_more_rows_than_the_features_need(trading):
    rules, state, event = trading
    for _ in range(3 * rules.lookback_bars):
        state, _ = step(rules, replace(state, order=None), event)
    assert state.window.shape == (len(rules.inputs), rules.lookback_bars)


def test_a_gap_enters_the_window_and_decides_nothing(trading):
    rules, state, event = trading
    gap = Gap(time_ms=event.time_ms, row=event.row, inputs=np.full(len(rules.inputs), np.nan))
    after, effects = step(rules, state, gap)
    assert effects == [] and np.isnan(after.window[:, -1]).all()
    assert kinds(step(rules, after, event)[1]) == []


def test_funding_and_ambiguous_bars_are_written_to_the_open_trade(trading):
    rules, _, event = trading
    state, _ = entered(*trading)
    for report, kind in (
        (FundingPaid(time_ms=0, row=event.row, paid_usdt=0.25), "funding"),
        (AmbiguousBar(time_ms=0, row=event.row), "ambiguous"),
    ):
        _, (record,) = step(rules, state, report)
        assert (record.kind, record.trade_id) == (kind, state.position.exits.trade_id)


def test_a_position_held_when_the_feed_ends_is_valued_at_the_last_price_seen(trading):
    rules, _, event = trading
    state, _ = entered(*trading)
    market = event.market._replace(exec_open=np.array([101.0]), exec_close=np.array([102.0]))
    unseen = event.market._replace(exec_open=np.array([np.nan]), exec_close=np.array([np.nan]))
    for prices in (market, unseen):
        state, _ = step(rules, state, ExecutionBar(time_ms=0, row=event.row, opened_ms=0, market=prices))
    _, (held,) = step(rules, state, FeedEnded(time_ms=5_000))
    assert held.kind == "held"
    assert (held.body["last_price"], held.body["valued_ms"]) == (102.0, 4_999)


def test_at_tick_resolution_it_is_valued_at_the_last_trade(trading):
    state, _ = entered(*trading)
    _, (held,) = step(trading[0], state, FeedEnded(time_ms=5_000, last_price=103.0))
    assert (held.body["last_price"], held.body["valued_ms"]) == (103.0, 4_999)


def test_what_the_exchange_cannot_execute_is_refused(case, recorded):
    config, bars = case(1)
    header = recorded(config, bars).header
    tight = replace(config, params={**config.params, "callback_bps": 5.0})
    with pytest.raises(ValueError, match="callback_bps 5 is under 10"):
        rules_of(tight, header, "rpl")


def test_an_event_of_another_kind_is_refused(trading):
    rules, state, _ = trading
    with pytest.raises(TypeError, match=r"expected an event of live\.feed or a report of live\.orders; got str"):
        step(rules, state, "bar")


def test_orders_are_what_the_effects_end_with(trading):
    assert isinstance(step(*trading)[1][-1], EntryOrder)
    assert isinstance(entered(*trading)[1][-1], ExitOrders)
    assert isinstance(trading[2], BarClosed)
