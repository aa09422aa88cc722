"""Tick resolution worked by hand: every number here can be checked on paper."""

import math

import numpy as np
import pytest

from research import tick_fills
from research.fills import LIQUIDATION, OPEN, STOP, TARGET, TRAILING, Levels, Market, Terms, Trailing
from research.strategies import compiled
from research.tests.test_reference import FREE
from research.ticks import TICK_TRADE, Ticks, simulate_ticks
from research.worlds import SCRIPT, ScriptParams

MS = 1_000_000  # ns
MINUTE = 60_000
PLAN = {"stop_bps": 100.0, "target_bps": 200.0, "activation_bps": 150.0}  # of 100: stop 99, target 102, arms at 101.5


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def ticks(trades=(), quotes=(), marks=(), funding=()) -> Ticks:
    """Ticks by ms: trades and marks (ms, price), quotes (ms, bid, ask), funding (ms, USDT per unit)."""

    def columns(rows, width):
        return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)] or [np.empty(0)] * width

    (trade_ms, price), (quote_ms, bid, ask) = columns(trades, 2), columns(quotes, 3)
    (mark_ms, mark), (funding_ms, per_unit) = columns(marks, 2), columns(funding, 2)
    trade_ns, quote_ns, mark_ns = (np.rint(ms * MS).astype(np.int64) for ms in (trade_ms, quote_ms, mark_ms))
    return Ticks(trade_ns, price, quote_ns, bid, ask, mark_ns, mark, funding_ms.astype(np.int64), per_unit)


def run(
    seen: Ticks,
    sides=(1,),
    terms: Terms = FREE,
    plan=PLAN,
    callback_bps=math.nan,
    exec_ms=None,
    end_ms=6 * MINUTE,
    **market,
) -> list[dict]:
    """Trades of the script: ``sides`` of rows that reach the market at 0, 60 s, 120 s, ...; all closes are 100."""
    n_rows = 6
    given = dict.fromkeys(Market._fields, math.nan) | {"can_enter": True, "close": 100.0} | market
    arrays = {name: np.full(n_rows, value) for name, value in given.items()}
    script = {name: np.full(n_rows, plan.get(name, math.nan)) for name in SCRIPT.Row._fields}
    script["side"] = np.array([*sides, *[0.0] * (n_rows - len(sides))])
    exec_ms = np.arange(n_rows) * MINUTE if exec_ms is None else np.array(exec_ms)
    params = ScriptParams(callback_bps=callback_bps)
    trades = simulate_ticks(SCRIPT, Market(**arrays), script, params, terms, exec_ms, seen, end_ms)
    return [dict(zip(TICK_TRADE.names, trade, strict=True)) for trade in trades.tolist()]


def exit_of(trade: dict) -> tuple:
    return trade["reason"], trade["exit_ms"], trade["exit_price"]


def test_a_target_is_hit_by_the_first_trade_at_it_and_fills_at_the_last_price_without_quotes():
    (trade,) = run(ticks(trades=[(-1, 100.0), (10_000, 101.0), (20_000.25, 102.5), (30_000, 90.0)]))
    assert (trade["entry_price"], trade["quantity"], trade["target"]) == (100.0, 1.0, 102.0)
    assert exit_of(trade) == (TARGET, 20_001, 102.5)


def test_an_exit_meets_the_touch_while_a_quote_is_fresh_and_slips_from_there():
    seen = ticks(trades=[(-1, 100.0), (20_000, 102.5)], quotes=[(18_000, 102.0, 103.0)])
    (trade,) = run(seen, terms=FREE._replace(slippage_bps=100.0), plan={"target_price": 102.0})
    assert trade["entry_price"] == 101.0  # 100 and 1 % of slippage
    assert exit_of(trade) == (TARGET, 20_000, 102.0 * 0.99)


def test_a_short_buys_back_at_the_ask():
    seen = ticks(trades=[(-1, 100.0), (20_000, 97.5)], quotes=[(19_000, 97.0, 98.0)])
    assert [exit_of(trade) for trade in run(seen, sides=(-1,))] == [(TARGET, 20_000, 98.0)]


def test_a_stale_quote_gives_way_to_the_last_price_and_the_modelled_spread():
    seen = ticks(trades=[(-1, 100.0), (20_000, 102.5)], quotes=[(17_999, 102.0, 103.0)])
    (trade,) = run(seen, plan={"target_price": 102.0}, half_spread_bps=100.0)
    assert exit_of(trade) == (TARGET, 20_000, 102.5 * 0.99)


def test_a_stop_by_the_mark_ends_the_trade_while_the_last_price_stays_above():
    seen = ticks(trades=[(-1, 100.0), (9_000, 99.5)], marks=[(5_000, 99.5), (10_000, 99.0)])
    assert [exit_of(trade) for trade in run(seen)] == [(STOP, 10_000, 99.5)]


def test_a_trade_below_the_stop_does_nothing_while_marks_are_heard():
    seen = ticks(trades=[(-1, 100.0), (15_000, 98.0), (16_000, 102.0)], marks=[(5_000, 99.5)])
    assert [exit_of(trade) for trade in run(seen)] == [(TARGET, 16_000, 102.0)]


@pytest.mark.parametrize("marks", [[], [(5_000, 99.5)]], ids=["never a mark", "none for 10 s"])
def test_without_marks_the_stop_is_watched_on_trades(marks):
    seen = ticks(trades=[(-1, 100.0), (15_001, 98.0), (16_000, 102.0)], marks=marks)
    assert [exit_of(trade) for trade in run(seen)] == [(STOP, 15_001, 98.0)]


def test_a_trailing_order_arms_follows_the_best_price_and_triggers_at_its_callback():
    walk = [(-1, 105.0), (1_000, 100.0), (2_000, 98.9), (3_000, 101.5), (4_000, 103.0), (5_000, 102.0), (6_000, 101.5)]
    seen = ticks(trades=walk, marks=[(0, 100.0)], quotes=[(0, 99.5, 100.0)])
    plan = {"stop_bps": 900.0, "activation_bps": 150.0}
    (trade,) = run(seen, plan=plan, callback_bps=100.0, bid=99.5, ask=100.0)
    # What traded at 105 came before the entry. 103 less 1 % is 101.97: 102 holds, 101.5 does not.
    assert (trade["entry_price"], trade["activation"]) == (100.0, 101.5)
    assert exit_of(trade) == (TRAILING, 6_000, 101.5)


def test_the_trade_that_arms_the_trailing_order_does_not_trigger_it():
    seen = ticks(trades=[(-1, 100.0), (1_000, 103.0), (2_000, 101.5), (3_000, 101.0)])
    (trade,) = run(seen, plan={"activation_bps": 100.0}, callback_bps=150.0)  # 103 less 1.5 % is 101.455
    assert exit_of(trade) == (TRAILING, 3_000, 101.0)


def test_one_trade_that_reaches_two_orders_ends_it_by_the_stop():
    seen = ticks(trades=[(-1, 100.0), (1_000, 98.0)])
    (trade,) = run(seen, plan={"stop_price": 99.0, "target_price": 97.0})
    assert trade["reason"] == STOP


def test_at_one_time_a_trade_comes_before_a_quote_and_a_quote_before_a_mark():
    quotes = [(9_000, 100.0, 100.5), (10_000, 98.0, 98.5)]
    by_trade = ticks(trades=[(-1, 100.0), (10_000, 102.0)], quotes=quotes, marks=[(10_000, 99.0)])
    assert [exit_of(trade) for trade in run(by_trade)] == [(TARGET, 10_000, 100.0)]
    by_mark = ticks(trades=[(-1, 100.0), (10_000, 101.0)], quotes=quotes, marks=[(10_000, 99.0)])
    assert [exit_of(trade) for trade in run(by_mark)] == [(STOP, 10_000, 98.0)]


def test_a_tick_known_when_the_order_arrives_is_not_one_of_the_position():
    seen = ticks(trades=[(-1, 100.0), (0, 102.5), (1_000, 101.0)])
    (trade,) = run(seen, plan={"target_price": 102.0})
    assert (trade["entry_price"], trade["reason"]) == (102.5, OPEN)


def test_an_entry_beyond_its_limit_is_missed_and_the_next_row_may_enter():
    quotes = [(-1_000, 100.5, 101.0), (59_000, 100.0, 100.5)]
    (trade,) = run(ticks(trades=[(-1, 100.0)], quotes=quotes), sides=(1, 1), bid=99.5, ask=100.0)
    assert (trade["entry_row"], trade["entry_price"]) == (1, 100.5)


RESTING = FREE._replace(rest_offset_bps=100.0, rest_ms=30_000, maker_fee_bps=1.0)  # a buy at 99 behind a bid of 100
BOOK = {"bid": 100.0, "ask": 101.0}
BEFORE = (-1, 100.5)


def test_an_entry_that_rests_is_filled_at_its_price_by_the_first_trade_through_it_for_the_maker_fee():
    walk = [BEFORE, (5_000, 99.0), (6_000.25, 98.5), (7_000, 101.0)]
    (trade,) = run(ticks(trades=walk), terms=RESTING, plan={"target_bps": 200.0}, **BOOK)
    assert (trade["entry_price"], trade["entry_ms"], trade["entry_row"]) == (99.0, 6_001, 0)
    assert trade["fees_usdt"] == pytest.approx(99.0 * trade["quantity"] * 1e-4)
    assert exit_of(trade) == (TARGET, 7_000, 101.0)  # 100.98, up to the tick


def test_a_sale_rests_above_the_ask_and_one_before_the_touch_a_tick_short_of_the_other_side():
    walk = [BEFORE, (5_000, 102.0), (6_000, 103.0)]
    (sold,) = run(ticks(trades=walk), sides=(-1,), terms=RESTING, plan={}, **BOOK)
    assert (sold["entry_price"], sold["entry_ms"]) == (102.5, 6_000)  # 102.01, up to the tick
    walk = [(-1, 101.0), (5_000, 100.5), (6_000, 100.0)]
    (bought,) = run(ticks(trades=walk), terms=RESTING._replace(rest_offset_bps=-500.0), plan={}, **BOOK)
    assert (bought["entry_price"], bought["entry_ms"]) == (100.5, 6_000)


def test_a_life_ends_with_its_last_nanosecond_and_the_row_that_became_known_meanwhile_decides_nothing():
    late = [BEFORE, (30_000.000_001, 98.5), (61_000, 98.5), (121_000, 98.5)]
    assert [trade["entry_row"] for trade in run(ticks(trades=late), sides=(1,) * 6, terms=RESTING, **BOOK)] == []
    in_time = [BEFORE, (30_000, 98.5), (61_000, 100.5)]
    assert [trade["entry_ms"] for trade in run(ticks(trades=in_time), terms=RESTING, **BOOK)] == [30_000]
    again = [BEFORE, (59_000, 100.5), (61_000, 98.5), (110_000, 100.5), (121_000, 98.5)]
    assert [trade["entry_row"] for trade in run(ticks(trades=again), sides=(1,) * 6, terms=RESTING, **BOOK)] == [2]


def test_an_entry_that_would_take_as_it_arrives_is_missed_and_the_next_row_may_enter():
    walk = [BEFORE, (1_000, 98.0), (59_000, 100.5), (61_000, 98.5)]
    seen = ticks(trades=walk, quotes=[(-1_000, 98.5, 99.0), (59_500, 100.0, 101.0)])
    assert [trade["entry_row"] for trade in run(seen, sides=(1, 1), terms=RESTING, plan={}, **BOOK)] == [1]
    assert run(ticks(trades=[(-1, 99.0), (1_000, 98.0)]), terms=RESTING, plan={}, **BOOK) == []  # by the last price
    assert run(ticks(trades=walk), terms=RESTING, plan={}) == []  # no book to rest in


def test_what_comes_at_the_time_of_the_fill_comes_after_it():
    walk = [BEFORE, (5_000, 98.5), (5_000, 102.0)]
    (trade,) = run(ticks(trades=walk), terms=RESTING, plan={"target_price": 102.0}, **BOOK)
    assert exit_of(trade) == (TARGET, 5_000, 102.0)
    seen = ticks(trades=walk[:2], marks=[(5_000, 97.0)])
    (trade,) = run(seen, terms=RESTING, plan={"stop_price": 98.0}, **BOOK)
    assert exit_of(trade) == (STOP, 5_000, 98.5)


def test_funding_due_at_the_millisecond_of_the_fill_is_paid():
    seen = ticks(trades=[BEFORE, (5_000, 98.5)], funding=[(4_999, 1.0), (5_000, 2.0), (6_000, 4.0)])
    (trade,) = run(seen, terms=RESTING, plan={}, **BOOK)
    assert trade["funding_usdt"] == pytest.approx(6.0 * trade["quantity"])


def test_an_entry_before_the_first_trade_is_missed():
    (trade,) = run(ticks(trades=[(1, 100.0)]), sides=(1, 1))
    assert trade["entry_row"] == 1


def test_funding_is_paid_after_the_entry_and_before_the_exit():
    funding = [(0, 1.0), (5_000, 2.0), (8_000, -0.5), (10_000, 4.0)]
    seen = ticks(trades=[(-1, 100.0), (10_000, 102.0)], funding=funding)
    assert [trade["funding_usdt"] for trade in run(seen)] == [1.5]
    assert [trade["funding_usdt"] for trade in run(seen, sides=(-1,), plan={})] == [-5.5]


def test_both_fees_are_counted_and_an_open_trade_has_paid_one():
    costly = FREE._replace(taker_fee_bps=10.0)
    walk = [(-1, 100.0), (10_000, 102.0)]
    (closed,), (held,) = run(ticks(trades=walk), terms=costly), run(ticks(trades=walk), terms=costly, plan={})
    assert closed["fees_usdt"] == pytest.approx(0.1 + 0.102)
    assert held["fees_usdt"] == pytest.approx(0.1)
    assert exit_of(held) == (OPEN, 6 * MINUTE - 1, 102.0)


def test_at_the_end_a_tick_still_counts_and_what_is_due_does_not():
    walk = [(-1, 100.0), (60_000, 101.0), (60_000.000_001, 102.0)]
    (held,) = run(ticks(trades=walk, funding=[(59_999, 1.0), (60_000, 2.0)]), end_ms=60_000)
    assert (*exit_of(held), held["exit_row"], held["funding_usdt"]) == (OPEN, 59_999, 101.0, 0, 1.0)
    assert run(ticks(trades=walk), sides=(0, 1), end_ms=60_000) == []


@pytest.mark.parametrize(("cooldown_bars", "entry_row"), [(0, 2), (1, 2), (2, 3)])
def test_an_exit_between_the_next_decision_and_its_order_still_belongs_to_the_row_before(cooldown_bars, entry_row):
    # Row 1 was decided at 59.85 s and would meet the market at 60 s.
    seen = ticks(trades=[(-1, 100.0), (59_900, 102.0), (59_950, 100.0)])
    terms = FREE._replace(cooldown_bars=cooldown_bars)
    assert [trade["entry_row"] for trade in run(seen, sides=(1,) * 6, terms=terms)] == [0, entry_row]


@pytest.mark.parametrize(("exit_ms", "entry_row"), [(60_000, 2), (60_000.000_001, 3)])
def test_an_exit_known_after_an_order_would_have_arrived_belongs_to_that_row(exit_ms, entry_row):
    seen = ticks(trades=[(-1, 100.0), (exit_ms, 102.0), (61_000, 100.0)])
    assert [trade["entry_row"] for trade in run(seen, sides=(1,) * 6)] == [0, entry_row]


def test_rows_that_came_in_together_count_each_for_itself():
    seen = ticks(trades=[(-1, 100.0), (200_000, 102.0), (201_000, 100.0)])
    together = [0, 190_000, 190_000, 190_000, 240_000, 300_000]
    assert [trade["entry_row"] for trade in run(seen, sides=(1,) * 6, exec_ms=together)] == [0, 5]


def test_compiled_and_plain_exits_give_the_same_bits():
    random = np.random.default_rng(1)
    for _ in range(2_000):
        side = int(random.choice([1, -1]))
        levels = Levels(*np.where(random.random(6) < 0.1, math.nan, 100.0 + random.normal(0.0, 1.0, 6)).tolist())
        trailing = Trailing(float(random.choice([math.nan, 100.0 + random.normal()])), bool(random.random() < 0.5))
        price, watch = 100.0 + random.normal(), bool(random.random() < 0.5)
        found = tick_fills.exit_on_trade(side, levels, trailing, price, watch)
        expected = tick_fills.exit_on_trade.py_func(side, levels, trailing, price, watch)
        assert repr(tuple(found)) == repr(tuple(expected))
        reason = int(random.choice([STOP, LIQUIDATION]))
        told = (side, reason, levels, *random.choice([math.nan, 99.9, 100.1], 2).tolist(), 1_999.0, price, 0.7, 0.3)
        assert repr(tick_fills.exit_price_at_tick(*told)) == repr(tick_fills.exit_price_at_tick.py_func(*told))
