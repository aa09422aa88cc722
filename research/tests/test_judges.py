"""The kernel before its judges: the plain-Python reference and VectorBT, on random worlds.

Each judge hears 2,000 pairs of market and config; ``ASTER_JUDGE_PAIRS=20000`` asks for more.
"""

import math
import os

import numpy as np
import pytest

from research import backtest, kernel, reference
from research.benchmarks.bench_sweep import TERMS, bench_minutes, momentum_grid
from research.fills import OPEN
from research.order_plan import order_plan
from research.reference_liquidation_fade import liquidation_fade_decision
from research.strategies import compiled, momentum
from research.worlds import (
    SCRIPT,
    WINDOWS_BARS,
    World,
    full_world,
    liquidation_fade_world,
    momentum_world,
    script_decision,
    script_world,
    without_trailing,
)

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 2)
DECIDE = {
    "momentum": reference.momentum_decision,
    "liquidation_fade": liquidation_fade_decision,
    "script": script_decision,
}
EXACT = ("entry_row", "fill_row", "exit_row", "side", "reason", "is_ambiguous", "at_open")
NUMBERS = tuple(name for name in kernel.TRADE.names if name not in EXACT)


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def run(world: World) -> kernel.Run:
    w = world
    return kernel.simulate(
        w.module, w.market, w.features, w.params, w.terms, w.first, w.last, multiples=w.multiples, days=w.days
    )


def judged(world: World, params: tuple | None = None) -> reference.Record:
    w = world
    rows = w.rows(params)
    multiples = None if w.multiples is None else dict(zip((1, -1), w.multiples.tolist(), strict=True))
    return reference.simulate(
        w.market, rows, params or w.params, w.terms, w.first, w.last, DECIDE[w.module.NAME], multiples,
        None if w.days is None else w.days.tolist(),
    )  # fmt: skip


def assert_same_trades(ours: np.ndarray, theirs: list[dict], which: str) -> None:
    for k, (trade, other) in enumerate(zip(ours, theirs, strict=False)):
        for name in EXACT:
            assert trade[name] == other[name], f"{which}, trade {k}: {name} {trade[name]} against {other[name]}"
        for name in NUMBERS:
            same = math.isclose(trade[name], other[name], rel_tol=1e-12, abs_tol=1e-12)
            both_absent = math.isnan(trade[name]) and math.isnan(other[name])
            assert same or both_absent, f"{which}, trade {k}: {name} {trade[name]} against {other[name]}"
    assert len(ours) == len(theirs), f"{which}: {len(ours)} trades against {len(theirs)}"


@pytest.mark.parametrize(
    ("make_world", "seeds"),
    [(momentum_world, SEEDS), (script_world, SEEDS), (liquidation_fade_world, SEEDS[::4])],
)
def test_the_kernel_trades_as_the_reference_does(make_world, seeds):
    n_trades = 0
    for seed in seeds:
        world, which = full_world(make_world, seed), f"seed {seed}"
        ours, theirs = run(world), judged(world)
        assert_same_trades(ours.trades, theirs.trades, which)
        np.testing.assert_allclose(np.cumsum(ours.bar_pnl), theirs.equity_usdt, rtol=0, atol=1e-9, err_msg=which)
        for name, value in theirs.stats().items():
            assert ours.stats[name] == pytest.approx(value, rel=1e-9, abs=1e-9), f"{which}: {name}"
        n_trades += len(ours.trades)
    assert n_trades > 5 * len(seeds)


def test_the_worlds_hold_what_the_judges_must_see():
    records = [judged(full_world(make, seed)) for seed in range(100) for make in (momentum_world, script_world)]
    trades = [trade for record in records for trade in record.trades]
    ways_out = {(trade["reason"], trade["at_open"], trade["side"]) for trade in trades}
    closing = {(reason, at_open, side) for reason in (1, 2, 3, 4) for at_open in (True, False) for side in (1, -1)}
    assert ways_out >= closing | {(OPEN, False, 1), (OPEN, False, -1)}
    assert any(trade["funding_usdt"] for trade in trades)
    assert all(sum(getattr(record, name) for record in records) for name in ("missed_entries", "ambiguous_bars"))


def test_a_sweep_gives_the_figures_of_the_reference():
    for seed in SEEDS[: len(SEEDS) // 40]:
        world = full_world(momentum_world, seed)
        configs = [
            world.params._replace(
                momentum_multiple=multiple, volatility_window_bars=float(window), volume_window_bars=float(window)
            )
            for multiple in (0.2, 0.7)
            for window in WINDOWS_BARS
        ]
        swept = kernel.sweep(
            momentum, world.market, world.features, configs, world.terms, world.first, world.last,
            multiples=world.multiples, days=world.days,
        )  # fmt: skip
        for k, params in enumerate(configs):
            stats = judged(world, params).stats()
            assert {name: swept[name][k] for name in stats} == pytest.approx(stats, rel=1e-9, abs=1e-9), f"seed {seed}"


def test_vectorbt_places_the_same_orders():
    made = [full_world(make, seed) for seed in SEEDS for make in (momentum_world, script_world)]
    made += [full_world(liquidation_fade_world, seed) for seed in SEEDS[::4]]
    worlds = [without_trailing(world) for world in made]
    plans = [
        order_plan(w.module, w.market, w.features, w.params, w.terms, w.first, w.last, multiples=w.multiples)
        for w in worlds
    ]
    n_orders = 0
    for k, (world, theirs) in enumerate(zip(worlds, backtest.vectorbt_orders(plans), strict=True)):
        n_orders += assert_same_orders(_orders_of(run(world), world.first), theirs, f"world {k}")
    assert n_orders > 5 * len(SEEDS)


def assert_same_orders(ours: list[tuple], theirs: np.ndarray, which: str) -> int:
    assert [order[:2] for order in ours] == [(order["idx"], order["side"]) for order in theirs], which
    numbers = [[order["size"], order["price"]] for order in theirs]
    np.testing.assert_allclose([order[2:] for order in ours], numbers, rtol=1e-12, err_msg=which)
    return len(ours)


def _orders_of(ours: kernel.Run, first: int) -> list[tuple]:
    """Orders as VectorBT numbers them: an entry in its own row, an exit in the row after; side 0 buys, 1 sells."""
    orders = []
    for trade in ours.trades:
        sells = int(trade["side"] < 0)
        orders.append((trade["entry_row"] - first, sells, trade["quantity"], trade["entry_price"]))
        if trade["reason"] != OPEN:
            orders.append((trade["exit_row"] - first + 1, 1 - sells, trade["quantity"], trade["exit_price"]))
    return orders


def test_vectorbt_keeps_the_same_books():
    for seed in SEEDS[: len(SEEDS) // 20]:
        for make in (momentum_world, script_world):
            world = full_world(make, seed)
            ours = run(world)
            confirmed = backtest.confirm_accounting(ours, world.market, world.terms, world.first, world.last)
            assert confirmed.trades == len(ours.trades)
            assert confirmed.max_drawdown_usdt == pytest.approx(ours.stats["max_drawdown_usdt"], abs=1e-9)


def test_on_recorded_minutes_every_judge_agrees(real_data):
    minutes = bench_minutes(real_data)
    for params in momentum_grid()[::1_500]:
        world = World(
            module=momentum,
            market=minutes.market,
            features=minutes.features,
            params=params,
            terms=TERMS,
            first=0,
            last=minutes.market.close.size,
        )
        ours = run(world)
        assert len(ours.trades) > 50
        assert_same_trades(ours.trades, judged(world).trades, str(params))
        assert backtest.confirm_accounting(ours, world.market, TERMS).worst_difference < 1e-9
        plain = without_trailing(world)
        (orders,) = backtest.vectorbt_orders(
            [order_plan(momentum, plain.market, plain.features, plain.params, plain.terms)]
        )
        assert_same_orders(_orders_of(run(plain), 0), orders, str(params))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: {"params": w.params._replace(callback_bps=10.0)}, "no trailing order beside a stop"),
        (lambda w: {"params": w.params._replace(stop_bps=-50.0)}, "wrong side of the fill price"),
        (lambda w: {"terms": w.terms._replace(max_daily_loss_usdt=9.0)}, "knows no daily limit"),
        (lambda w: {"terms": w.terms._replace(brackets=np.array([[0.01, 0.0]]))}, "knows no liquidation"),
        (lambda w: {"market": w.market._replace(mark_low=w.market.mark_low - 1.0)}, "mark_low differs from exec_low"),
        (lambda w: {"market": w.market._replace(last_mark_ratio=w.market.last_mark_ratio * 1.1)}, "must be 1"),
    ],
    ids=["trailing", "stop beyond the fill", "daily limit", "liquidation", "another mark", "another ratio"],
)
def test_what_vectorbt_cannot_express_is_refused(change, complaint):
    world = without_trailing(momentum_world(1))
    changed = {"params": world.params, "market": world.market, "terms": world.terms} | change(world)
    with pytest.raises(ValueError, match=complaint):
        order_plan(momentum, changed["market"], world.features, changed["params"], changed["terms"])
