"""Lists of configs before their judge, the fused kernel: the same trades, the same figures, however they are cut.

``ASTER_JUDGE_PAIRS=32000`` asks for 2,000 worlds of each kind.
"""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from research import entry_path, kernel, listed
from research.benchmarks.bench_sweep import TERMS, bench_minutes, random_configs
from research.strategies import compiled, momentum
from research.strategies.registry import STRATEGIES
from research.tests.test_factorised import assert_same, counts_of, sized_world
from research.worlds import (
    SCRIPT,
    WINDOWS_BARS,
    WORLD_OF,
    World,
    full_world,
    liquidation_fade_world,
    momentum_world,
    script_world,
)

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 16)
CONFIGS = 40


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def configs_around(world: World, seed: int) -> np.ndarray:
    """Configs that are no product, the world's own first."""
    random = np.random.default_rng([seed, 6])
    table = np.tile(np.array(world.params), (CONFIGS, 1))
    table[1:] *= random.uniform(0.4, 1.8, table[1:].shape)
    for k, name in enumerate(world.module.Params._fields):
        if name.endswith("_window_bars"):
            table[:, k] = random.choice(WINDOWS_BARS, CONFIGS)
    return table


def both(world: World, configs: np.ndarray) -> tuple[dict, dict]:
    """What the list and the kernel say."""
    w = world
    over = (w.module, w.market, w.features, configs, w.terms, w.first, w.last)
    return listed.sweep(*over, multiples=w.multiples), kernel.sweep(*over, multiples=w.multiples)


@pytest.mark.parametrize("make_world", [momentum_world, script_world, liquidation_fade_world])
def test_a_list_gives_the_figures_of_the_kernel(make_world):
    closed = np.zeros(len(kernel.STATS))
    for seed in SEEDS:
        world = sized_world(make_world, seed)
        ours, theirs = both(world, configs_around(world, seed))
        assert_same(ours, theirs, f"seed {seed}")
        closed += [ours[name].sum() for name in kernel.STATS]
    assert (closed[[kernel.STATS.index(name) for name in counts_of(make_world)]] > 0).all()


@pytest.mark.parametrize(("per_block", "per_leaf", "n_threads"), [(3, 2, 2), (3, 16, 5), (7, 1, 1), (4_096, 3, 3)])
def test_how_the_list_is_cut_changes_no_bit(monkeypatch, per_block, per_leaf, n_threads):
    for seed in SEEDS[:10]:
        world = sized_world(momentum_world, seed)
        configs = configs_around(world, seed)
        over = (world.terms, world.first, world.last)
        whole = listed.sweep(momentum, world.market, world.features, configs, *over)
        with monkeypatch.context() as cut:
            cut.setattr(listed, "CONFIGS_PER_BLOCK", per_block)
            cut.setattr(listed, "CONFIGS_PER_LEAF", per_leaf)
            cut.setattr(listed, "get_num_threads", lambda: n_threads)
            pieces = listed.sweep(momentum, world.market, world.features, configs[::-1], *over)
        for name in kernel.STATS:
            np.testing.assert_array_equal(pieces[name][::-1], whole[name])


def test_every_thread_has_its_share_of_every_set(monkeypatch):
    """Thirty configs of three windows, two threads: ten of a window are five and five, in leaves of at most four."""
    monkeypatch.setattr(listed, "get_num_threads", lambda: 2)
    monkeypatch.setattr(listed, "CONFIGS_PER_LEAF", 4)
    configs = random_configs(30)
    windows = momentum.Params._fields.index("volatility_window_bars")
    configs[:, windows] = np.tile((10.0, 30.0, 60.0), 10)
    columns = configs[:, [windows]].astype(np.uint64)
    order, leaves, sets, blocks = listed._cut(momentum, configs, columns)
    assert sorted(order) == list(range(30))
    assert leaves.tolist() == [0, 4, 5, 9, 10, 14, 15, 19, 20, 24, 25, 29, 30]
    assert sets.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert blocks.tolist() == [0, 3, 6]
    assert configs[order, windows].tolist() == 2 * [10.0, 10.0, 10.0, 10.0, 10.0, *5 * [30.0], *5 * [60.0]]


def test_a_list_without_two_configs_alike_is_the_kernels_too():
    """Every config looks at features of its own."""
    world = momentum_world(3)
    random, windows = np.random.default_rng(3), range(100, 140)
    features = dict(world.features)
    for window in windows:
        features[f"volatility_bps_{window}"] = random.permutation(features["volatility_bps_10"])
    configs = configs_around(world, 3)
    configs[:, momentum.Params._fields.index("volatility_window_bars")] = windows
    ours, theirs = both(replace(world, features=features), configs)
    assert_same(ours, theirs, "40 sets")
    assert ours["trades"].min() < ours["trades"].max()


def test_a_level_is_found_where_numpy_finds_it():
    random = np.random.default_rng(0)
    for n_values in (1, 63, 64, 65, 255, 256, 257, 300, 511, 512, 513, 1_500):
        rising = np.full((2, 2_048), math.inf)
        rising[1, :n_values] = np.sort(random.integers(0, n_values, n_values)).astype(float)
        for level in (-math.inf, 0.0, math.inf, *random.integers(-1, n_values + 1, 40).astype(float)):
            found = entry_path._first_at(rising, 1, n_values, level)
            assert min(found, n_values) == np.searchsorted(rising[1, :n_values], level), (n_values, level)


def test_a_market_that_is_long_held_is_passed_piece_by_piece():
    """Targets out of reach and stops far away: trades outlive what is passed at once, the last is open at the end."""
    minutes = bench_minutes()
    configs = random_configs(20)
    for name in ("stop_bps", "target_bps", "activation_bps"):
        configs[:, momentum.Params._fields.index(name)] *= 8.0
    world = World(
        module=momentum, market=minutes.market, features=minutes.features, params=(), terms=TERMS, first=0, last=9_000
    )
    ours, theirs = both(world, configs)
    assert_same(ours, theirs, "20 configs")
    assert ours["longest_hold_bars"].min() > 200 and ours["is_open"].any()


def test_on_recorded_minutes_every_config_has_the_trades_of_the_kernel(real_data):
    minutes = bench_minutes(real_data)
    world = World(
        module=momentum, market=minutes.market, features=minutes.features, params=(), terms=TERMS, first=0,
        last=minutes.market.close.size,
    )  # fmt: skip
    ours, theirs = both(world, random_configs(300))
    assert_same(ours, theirs, "300 configs")
    assert ours["trades"].sum() > 300 * 50


def test_trade_for_trade_a_list_is_the_kernel(real_data):
    """Cut after every trade: a path that differed in one and made up for it in the next would show."""
    minutes = bench_minutes(real_data)
    configs = random_configs(3)
    params = momentum.Params(*configs[1])
    trades = kernel.simulate(momentum, minutes.market, minutes.features, params, TERMS).trades
    closed = trades[trades["reason"] != 0][:100]
    net = closed["side"] * closed["quantity"] * (closed["exit_price"] - closed["entry_price"]) - closed["fees_usdt"]
    for k, exit_row in enumerate(closed["exit_row"]):
        upto = listed.sweep(momentum, minutes.market, minutes.features, configs, TERMS, 0, int(exit_row) + 1)
        assert (upto["trades"][1], upto["is_open"][1]) == (k + 1, 0)
        assert upto["net_pnl_usdt"][1] == pytest.approx(net[: k + 1].sum(), rel=1e-9, abs=1e-9)
        assert upto["trade_pnl_squared"][1] == pytest.approx((net[: k + 1] ** 2).sum(), rel=1e-9)


ORDERED = [module for module in STRATEGIES.values() if hasattr(module, "STRICTER")]


@pytest.mark.parametrize("module", ORDERED, ids=lambda module: module.NAME)
def test_a_stricter_config_enters_nowhere_else(module):
    windows = {name for name in module.Params._fields if name.endswith("_window_bars")}
    assert {*module.STRICTER, *module.EXIT_PARAMS, *windows} == set(module.Params._fields)
    random = np.random.default_rng(0)
    wanted = left = 0
    for seed in range(40):
        world = WORLD_OF[module.NAME](seed)
        rows = world.rows()
        for i in range(world.first, world.last):
            row = module.Row(**{name: values[i] for name, values in rows.items()})
            stricter = {
                name: getattr(world.params, name) * (1.0 + direction * random.uniform(0.0, 0.9))
                for name, direction in module.STRICTER.items()
            }
            was = module.decide.py_func(row, 0, world.params).side
            now = module.decide.py_func(row, 0, world.params._replace(**stricter)).side
            assert now in (0, was)
            wanted, left = wanted + abs(was), left + abs(now)
    assert 100 < left < wanted


def test_a_limit_to_a_days_loss_is_left_to_the_kernel():
    world = full_world(momentum_world, 1)
    with pytest.raises(ValueError, match=r"max_daily_loss_usdt couples trades; use kernel\.sweep"):
        listed.sweep(momentum, world.market, world.features, [world.params], world.terms)
