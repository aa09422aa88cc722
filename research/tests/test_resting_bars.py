"""Entries that rest, bar by bar: by hand, before the judges, and beside what the trades of the same bars say.

``ASTER_JUDGE_PAIRS=128000`` asks for 2,000 worlds of each kind.
"""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from research import backtest, factorised, kernel, listed, portfolio, reference
from research.exposure import SharedTerms
from research.fills import OPEN, STOP, TARGET, TRAILING, Market
from research.order_plan import order_plan
from research.portfolio import Book
from research.recorded import window_ohlc
from research.resting_bars import lives_of, rested_in_bars
from research.strategies import compiled
from research.tests.test_factorised import assert_same, sized_world
from research.tests.test_judges import DECIDE, assert_same_trades
from research.tests.test_listed import configs_around
from research.tests.test_reference import FREE, UNSEEN, market
from research.tests.test_ticks_judge import random_ticks
from research.ticks import market_met, rested
from research.worlds import (
    SCRIPT,
    ScriptParams,
    World,
    full_world,
    liquidation_fade_world,
    momentum_world,
    script_world,
)

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 64)
MINUTE = 60_000
# A buy rests at 99 behind a bid of 100, for as long as two bars.
RESTING = FREE._replace(rest_offset_bps=100.0, rest_ms=2 * MINUTE, maker_fee_bps=2.0)
CALM = (100.0, 100.5, 99.5, 100.0)


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def run(world: World, exec_ms: np.ndarray) -> kernel.Run:
    w = world
    return kernel.simulate(
        w.module, w.market, w.features, w.params, w.terms, w.first, w.last, multiples=w.multiples, days=w.days,
        lives=lives_of(exec_ms, w.terms),
    )  # fmt: skip


def judged(world: World, exec_ms: np.ndarray) -> reference.Record:
    w = world
    multiples = None if w.multiples is None else dict(zip((1, -1), w.multiples.tolist(), strict=True))
    days = None if w.days is None else w.days.tolist()
    return reference.simulate(
        w.market, w.rows(), w.params, w.terms, w.first, w.last, DECIDE[w.module.NAME], multiples, days,
        exec_ms.tolist(),
    )  # fmt: skip


def agreed(world: World, exec_ms: np.ndarray, which: str = "") -> reference.Record:
    """What the reference did, and the kernel with it."""
    ours, theirs = run(world, exec_ms), judged(world, exec_ms)
    assert_same_trades(ours.trades, theirs.trades, which)
    np.testing.assert_allclose(np.cumsum(ours.bar_pnl), theirs.equity_usdt, rtol=0, atol=1e-9, err_msg=which)
    for name, value in theirs.stats().items():
        assert ours.stats[name] == pytest.approx(value, rel=1e-9, abs=1e-9), f"{which}: {name}"
    return theirs


def record(*bars, sides=(1,), terms=RESTING, callback_bps=math.nan, columns=None, **plan: float) -> reference.Record:
    """The script on these execution bars of a minute each, a book of 100 at 101 on every row."""
    n_rows = len(bars) + 1  # the window of the last row has no end
    known = {"bid": [100.0] * n_rows, "ask": [101.0] * n_rows} | (columns or {})
    on = market(*bars, UNSEEN, **known)
    features = {name: np.full(n_rows, plan.get(name, math.nan)) for name in SCRIPT.Row._fields}
    features["side"] = np.array([*sides, *[0.0] * (n_rows - len(sides))])
    world = World(
        module=SCRIPT,
        market=on,
        features=features,
        params=ScriptParams(callback_bps),
        terms=terms,
        first=0,
        last=n_rows,
    )
    return agreed(world, np.arange(n_rows) * MINUTE)


def the_trade(*bars, **given) -> dict:
    (trade,) = record(*bars, **given).trades
    return trade


def ended(trade: dict) -> tuple:
    return trade["fill_row"], trade["exit_row"], trade["reason"], trade["exit_price"]


def test_worked_by_hand():
    # Bought at 99, where 100 USDT are 1.1 units. The first bar trades at 99 and not through it, the second does. 2 %
    # further is 100.98, which is 101 on a grid of halves: the third bar trades there.
    touched, passed, reached = (100.0, 100.5, 99.0, 99.5), (99.5, 100.0, 98.5, 99.5), (99.5, 101.5, 99.5, 101.0)
    result = record(touched, passed, reached, target_bps=200.0)
    (trade,) = result.trades
    assert (trade["entry_row"], trade["entry_price"], trade["quantity"]) == (0, 99.0, 1.1)
    assert ended(trade) == (1, 2, TARGET, 101.0)
    assert trade["fees_usdt"] == pytest.approx(99.0 * 1.1 * 2e-4)  # maker; FREE takes for nothing
    # Flat, then marked at 99.5, then 2 USDT on each unit.
    assert result.equity_usdt == pytest.approx([0.0, 0.55 - 0.02178, 2.2 - 0.02178, 2.2 - 0.02178])
    stats = result.stats()
    assert (stats["exposure_bars"], stats["longest_hold_bars"], stats["ambiguous_bars"]) == (2, 2, 0)


def test_a_sale_is_the_mirror_of_a_purchase():
    trade = the_trade((101.0, 102.0, 100.5, 101.5), (101.5, 102.6, 101.0, 101.5), sides=(-1,), stop_bps=150.0)
    assert (trade["entry_price"], trade["fill_row"]) == (102.5, 1)  # 102.01, up to the grid
    short = the_trade((102.0, 104.5, 101.5, 103.0), sides=(-1,), stop_bps=150.0)
    assert ended(short) == (0, 0, STOP, 104.0)  # 104.0375, down to the grid


def test_a_bar_that_outlives_the_order_does_not_fill_it_and_the_row_after_it_is_not_asked():
    passed = (100.0, 100.5, 98.0, 100.0)
    in_time = record(CALM, passed, CALM, sides=(1,) * 3)
    assert [trade["fill_row"] for trade in in_time.trades] == [1]
    too_late = record(
        CALM, passed, CALM, passed, passed, sides=(1,) * 5, terms=RESTING._replace(rest_ms=2 * MINUTE - 1)
    )
    # Its life ends in bar 1; row 2 was decided while it may still have rested. The next rests from row 3 on.
    assert [(trade["entry_row"], trade["fill_row"]) for trade in too_late.trades] == [(3, 3)]
    assert too_late.missed_entries == 1


def test_an_order_that_still_rests_at_the_end_was_not_filled():
    result = record(CALM, CALM)
    assert (result.trades, result.missed_entries) == ([], 1)


@pytest.mark.parametrize(
    ("first_bar", "columns"),
    [
        (CALM, {"exec_ask": [99.0, 101.0, 101.0], "exec_bid": [98.5, 100.0, 100.0]}),
        ((98.5, 100.0, 98.5, 100.0), {}),
        ((98.5, 100.0, 98.5, 100.0), {"exec_ask": [101.0] * 3, "exec_bid": [100.0] * 3}),
        (UNSEEN, {}),
    ],
    ids=["the quote it meets", "opens beyond", "opens beyond, whatever the quote said", "not seen"],
)
def test_an_order_that_would_take_as_it_arrives_is_missed_and_the_next_row_may_enter(first_bar, columns):
    result = record(first_bar, (100.0, 100.5, 98.0, 100.0), sides=(1, 1), columns=columns)
    assert [(trade["entry_row"], trade["fill_row"]) for trade in result.trades] == [(1, 1)]
    assert result.missed_entries == 1


def test_without_a_quote_the_last_price_before_tells_whether_it_would_take():
    fallen, passed = (100.0, 100.0, 99.0, 99.0), (99.5, 99.5, 98.0, 99.5)
    assert record(fallen, passed, sides=(0, 1)).trades == []
    quoted = {"exec_ask": [101.0] * 3, "exec_bid": [99.5] * 3}
    assert [trade["fill_row"] for trade in record(fallen, passed, sides=(0, 1), columns=quoted).trades] == [1]


def test_without_a_book_there_is_no_price():
    result = record((100.0, 100.0, 90.0, 90.0), columns={"bid": [math.nan] * 2})
    assert (result.trades, result.missed_entries) == ([], 1)


def test_a_bar_nobody_saw_fills_nothing_and_the_order_rests_on():
    late = RESTING._replace(rest_ms=3 * MINUTE)
    assert the_trade(CALM, UNSEEN, (100.0, 100.0, 98.0, 99.0), terms=late)["fill_row"] == 2


def test_a_later_bar_that_opens_beyond_the_price_fills_at_the_price_and_its_stop_at_the_open():
    through = the_trade(CALM, (97.0, 98.0, 96.5, 97.5))
    assert (through["entry_price"], through["reason"]) == (99.0, OPEN)
    stopped = the_trade(CALM, (97.0, 98.0, 96.5, 97.5), stop_bps=100.0)  # 98.01, up to 98.5: the open was lower
    assert ended(stopped) == (1, 1, STOP, 97.0)


def test_in_the_bar_of_the_fill_the_range_stops_and_the_bar_is_ambiguous():
    result = record((100.0, 104.0, 97.0, 104.0), stop_bps=100.0, target_bps=200.0)
    assert ended(result.trades[0]) == (0, 0, STOP, 98.5)
    assert result.ambiguous_bars == 1 and result.trades[0]["is_ambiguous"]


def test_in_the_bar_of_the_fill_a_target_needs_the_close():
    unproven = record((100.0, 102.0, 98.5, 100.5), CALM, target_bps=200.0)
    assert (unproven.trades[0]["reason"], unproven.ambiguous_bars) == (OPEN, 1)
    proven = record((100.0, 102.0, 98.5, 101.0), CALM, target_bps=200.0)
    assert (ended(proven.trades[0]), proven.ambiguous_bars) == ((0, 0, TARGET, 101.0), 0)


def test_the_trailing_order_begins_at_the_close_of_the_bar_of_the_fill():
    plan = {"activation_bps": 100.0, "callback_bps": 100.0}  # armed from 100 on, up to the grid
    high = (100.0, 110.0, 98.5, 102.0)
    result = record(high, (102.0, 102.0, 101.0, 101.5), (101.5, 101.5, 100.9, 101.0), **plan)
    # 1 % under 102, not under 110. That it may have triggered on the way down from 110 is counted.
    assert ended(result.trades[0]) == (0, 2, TRAILING, 102.0 * 0.99)
    assert result.ambiguous_bars == 1
    not_armed = record((100.0, 110.0, 98.5, 99.5), (99.5, 99.5, 97.0, 97.0), **plan)
    assert (not_armed.trades[0]["reason"], not_armed.ambiguous_bars) == (OPEN, 1)


@pytest.mark.parametrize(("per_unit", "paid_usdt"), [(0.5, 0.55), (-0.5, 0.0)])
def test_funding_of_the_bar_of_the_fill_is_paid_and_never_received(per_unit, paid_usdt):
    trade = the_trade((100.0, 100.0, 98.5, 100.0), columns={"funding_per_unit": [per_unit, 0.0]})
    assert trade["funding_usdt"] == pytest.approx(paid_usdt)


def random_rest(world: World, seed: int) -> tuple[World, np.ndarray]:
    """The world with entries that rest, before the touch, at it or behind it, for some bars; and its orders' times."""
    random = np.random.default_rng([seed, 7])
    n_rows, market_ = world.market.close.size, world.market
    late_ms = np.where(random.random(n_rows) < 0.05, 2 * MINUTE, random.integers(0, 3_000, n_rows))
    exec_ms = 1_764_331_200_000 + np.maximum.accumulate(np.arange(n_rows) * MINUTE + late_ms)
    move_bps = float(np.nanmedian((market_.exec_high - market_.exec_low) / market_.exec_open)) * 1e4
    terms = world.terms._replace(
        maker_fee_bps=float(random.choice([-0.5, 0.0, 2.0])),
        rest_offset_bps=move_bps * float(random.choice([-0.5, -0.01, 0.0, 0.1, 0.5])),
        rest_ms=int(random.choice([MINUTE, 2 * MINUTE, 3 * MINUTE + 1, 10 * MINUTE])),
    )
    return replace(world, terms=terms), exec_ms


@pytest.mark.parametrize("make_world", [momentum_world, script_world, liquidation_fade_world])
def test_the_kernel_lets_entries_rest_as_the_reference_does(make_world):
    later, ways_out, missed, ambiguous = 0, set(), 0, 0
    for seed in SEEDS:
        world, exec_ms = random_rest(full_world(make_world, seed), seed)
        theirs = agreed(world, exec_ms, f"seed {seed}")
        later += sum(trade["fill_row"] > trade["entry_row"] for trade in theirs.trades)
        ways_out |= {(trade["reason"], trade["fill_row"] == trade["exit_row"]) for trade in theirs.trades}
        missed, ambiguous = missed + theirs.missed_entries, ambiguous + theirs.ambiguous_bars
    assert later > len(SEEDS) / 4 and missed and ambiguous
    assert ways_out >= {(STOP, True), (STOP, False), (TARGET, True), (TARGET, False)}


@pytest.mark.parametrize("make_world", [momentum_world, script_world])
def test_a_trade_that_ended_knows_nothing_of_later_bars(make_world):
    compared = 0
    for seed in SEEDS[::2]:
        world, exec_ms = random_rest(make_world(seed), seed)
        whole, rows = run(world, exec_ms).trades, np.arange(len(exec_ms))
        for now in np.random.default_rng([seed, 9]).choice(rows, 3):
            market_ = world.market._replace(
                **{
                    name: np.where(rows > now, column * 1.01, column)
                    for name, column in world.market._asdict().items()
                    if name != "can_enter"
                }
            )
            changed = run(replace(world, market=market_), exec_ms).trades
            for one, other in ((whole, changed), (changed, whole)):
                past = one[(one["reason"] != OPEN) & (one["exit_row"] <= now)]
                assert past.tobytes() == other[: len(past)].tobytes(), f"seed {seed}, row {now}"
                compared += len(past)
    assert compared > len(SEEDS)


@pytest.mark.parametrize("make_world", [momentum_world, script_world, liquidation_fade_world])
def test_a_list_lets_entries_rest_as_the_kernel_does(make_world):
    trades = 0
    for seed in SEEDS[::2]:
        world, exec_ms = random_rest(sized_world(make_world, seed), seed)
        w, lives = world, lives_of(exec_ms, world.terms)
        over = (w.module, w.market, w.features, configs_around(w, seed), w.terms, w.first, w.last)
        ours, theirs = (sweep(*over, multiples=w.multiples, lives=lives) for sweep in (listed.sweep, kernel.sweep))
        assert_same(ours, theirs, f"seed {seed}")
        trades += ours["trades"].sum()
    assert trades > 10 * len(SEEDS)


def test_vectorbt_keeps_the_same_books():
    for seed in SEEDS[:: max(1, len(SEEDS) // 10)]:
        world, exec_ms = random_rest(full_world(script_world, seed), seed)
        ours = run(world, exec_ms)
        confirmed = backtest.confirm_accounting(ours, world.market, world.terms, world.first, world.last)
        assert confirmed.trades == len(ours.trades)
        assert confirmed.fees_usdt == pytest.approx(ours.stats["fees_usdt"], abs=1e-9)


def test_a_bar_fills_nothing_that_its_trades_do_not():
    by_bars = by_trades = 0
    for seed in SEEDS:
        world = full_world(momentum_world, seed)
        exec_ms, seen, _ = random_ticks(world, seed)
        edges = exec_ms * 1_000_000
        kept = ~np.isin(seen.trade_ns, edges)  # of two trades in the very moment of arrival bars cannot tell the order
        seen = seen._replace(trade_ns=seen.trade_ns[kept], trade_price=seen.trade_price[kept])
        met = market_met(world.market, exec_ms, seen)
        bars, was_seen = bars_of(met, edges, seen, np.random.default_rng([seed, 8]))
        terms = world.terms._replace(rest_offset_bps=0.0, rest_ms=3 * MINUTE + 1)
        lives, end_ms = lives_of(exec_ms, terms), exec_ms[-1] + MINUTE
        after_a_seen_one = np.flatnonzero(was_seen[:-1]) + 1  # else the row is a gap, and nothing enters
        for i in after_a_seen_one:
            side = 1 - 2 * int(i % 2)
            limit = float(np.round((met.exec_open[i] * (1.0 - side * 2e-4)) / terms.tick_size) * terms.tick_size)
            row, _ = rested_in_bars(side, limit, i, len(exec_ms), bars, lives, terms.tick_size)
            passing, _ = rested(side, limit, i, met, terms, seen, exec_ms, end_ms)
            by_bars, by_trades = by_bars + (row >= 0), by_trades + (passing >= 0)
            if row >= 0:
                assert passing >= 0, f"seed {seed}, row {i}: filled by a bar alone"
                assert edges[i] < seen.trade_ns[passing] < edges[row + 1], f"seed {seed}, row {i}"
    assert 10 * len(SEEDS) < by_bars < by_trades


def bars_of(met: Market, edges: np.ndarray, seen, random) -> tuple[Market, np.ndarray]:
    """The execution bars that these trades make, some of them unseen; and which were seen."""
    was_seen = np.append(random.random(len(edges) - 1) < 0.9, False)
    at = np.searchsorted(seen.trade_ns, edges)
    was_seen &= at > 0
    open_, high, low, close = window_ohlc(seen.trade_price, at, np.append(at[1:], at[-1]), was_seen)
    return met._replace(exec_open=open_, exec_high=high, exec_low=low, exec_close=close), was_seen


def test_who_knows_nothing_of_them_refuses_them():
    world = momentum_world(1)
    w, terms = world, world.terms._replace(rest_offset_bps=0.0, rest_ms=MINUTE)
    over = (w.module, w.market, w.features)
    grid = {name: (value,) for name, value in w.params._asdict().items()}
    with pytest.raises(ValueError, match=r"filled bars after their decision; use kernel\.sweep"):
        factorised.sweep(*over, grid, terms)
    with pytest.raises(ValueError, match="VectorBT knows no entry that rests"):
        order_plan(*over, w.params, terms)
    with pytest.raises(ValueError, match="give their lives"):
        kernel.simulate(*over, w.params, terms)
    n_rows = w.market.close.size
    book = Book(
        market=w.market, features=w.features, params=w.params, terms=terms, multiples=np.ones((2, n_rows)),
        avail_ms=np.arange(n_rows),
    )  # fmt: skip
    with pytest.raises(ValueError, match="trade one symbol at a time"):
        portfolio.simulate(w.module, [book], np.zeros(n_rows, np.int64), SharedTerms())
