"""The factorised path before its judge, the fused kernel: the same trades, the same figures, however it is cut."""

import math
import os
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from research import factorised, kernel
from research.benchmarks.bench_sweep import TERMS, bench_minutes
from research.strategies import compiled, momentum
from research.strategies.registry import STRATEGIES
from research.worlds import SCRIPT, WORLD_OF, World, full_world, liquidation_fade_world, momentum_world, script_world

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 16)
COUNTS = (
    "trades", "wins", "exposure_bars", "longest_hold_bars", "stop_exits", "target_exits", "trailing_exits",
    "missed_entries", "ambiguous_bars", "is_open",
)  # fmt: skip
SEVERAL = (
    "momentum_multiple", "volume_multiple", "min_usdt", "min_vwap_distance_bps", "target_bps", "stop_bps",
    "activation_bps", "callback_bps",
)  # fmt: skip


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def sized_world(make_world, seed: int) -> World:
    """A world with every size there is, and no limit to a day's loss."""
    world = full_world(make_world, seed)
    return replace(world, terms=world.terms._replace(max_daily_loss_usdt=math.inf))


def grid_around(world: World) -> dict[str, tuple[float, ...]]:
    """A grid with the world's config in it: of momentum 64 configs, of the fade 16, of the script 3."""
    grid = {name: (value,) for name, value in world.params._asdict().items()}
    if world.module is SCRIPT:
        return {"callback_bps": (10.0, world.params.callback_bps, 25.0)}
    return grid | {name: (grid[name][0], 1.7 * grid[name][0]) for name in SEVERAL if name in grid}


def counts_of(make_world) -> list[str]:
    """The counts that these worlds must reach: a strategy without trailing orders has no such exits."""
    return [name for name in COUNTS if make_world is not liquidation_fade_world or name != "trailing_exits"]


def both(world: World, grid: dict) -> tuple[dict, dict]:
    """What the factorised path and the kernel say."""
    w = world
    configs = [w.module.Params(*values) for values in product(*grid.values())]
    over = (w.terms, w.first, w.last)
    ours = factorised.sweep(w.module, w.market, w.features, grid, *over, multiples=w.multiples)
    return ours, kernel.sweep(w.module, w.market, w.features, configs, *over, multiples=w.multiples)


def assert_same(ours: dict, theirs: dict, which: str) -> None:
    for name in kernel.STATS:
        if name in COUNTS:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{which}: {name}")
        else:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-9, err_msg=f"{which}: {name}")


@pytest.mark.parametrize("make_world", [momentum_world, script_world, liquidation_fade_world])
def test_the_factorised_path_gives_the_figures_of_the_kernel(make_world):
    closed = np.zeros(len(kernel.STATS))
    for seed in SEEDS:
        world = sized_world(make_world, seed)
        ours, theirs = both(world, grid_around(world))
        assert_same(ours, theirs, f"seed {seed}")
        closed += [ours[name].sum() for name in kernel.STATS]
    assert (closed[[kernel.STATS.index(name) for name in counts_of(make_world)]] > 0).all()


@pytest.mark.parametrize("make_world", [momentum_world, script_world])
def test_how_the_work_is_cut_changes_no_bit(make_world, monkeypatch):
    for seed in SEEDS[:10]:
        world = sized_world(make_world, seed)
        w, grid = world, grid_around(world)
        over = (w.module, w.market, w.features, grid, w.terms, w.first, w.last)
        whole = factorised.sweep(*over, multiples=w.multiples)
        n_configs = len(whole["trades"])
        with monkeypatch.context() as cut:
            for name, size in (("_ROWS_PER_CHUNK", 50), ("_CANDIDATES_PER_CHUNK", 7), ("_EXITS_PER_CHUNK", 3)):
                cut.setattr(factorised, name, size)
            parts = [
                factorised.sweep(*over, multiples=w.multiples, first_config=start, last_config=end)
                for start, end in ((0, n_configs // 3), (n_configs // 3, n_configs))
            ]
        for name in kernel.STATS:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


@pytest.mark.parametrize("make_world", [momentum_world, liquidation_fade_world])
def test_the_order_of_the_values_in_a_grid_changes_no_bit(make_world):
    """Orders are told apart as they come and watched by their distance: from far to near, and one of them twice."""
    for seed in SEEDS[:20]:
        w = sized_world(make_world, seed)
        grid = grid_around(w)
        grid["stop_bps"] = (*grid["stop_bps"], 0.6 * grid["stop_bps"][0], grid["stop_bps"][0])
        turned = {name: values[::-1] for name, values in grid.items()}
        ours, theirs = (
            factorised.sweep(w.module, w.market, w.features, each, w.terms, w.first, w.last, multiples=w.multiples)
            for each in (grid, turned)
        )
        for name in kernel.STATS:
            np.testing.assert_array_equal(ours[name], theirs[name][::-1], err_msg=f"seed {seed}: {name}")


def test_on_recorded_minutes_every_config_has_the_trades_of_the_kernel(real_data):
    minutes = bench_minutes(real_data)
    n_rows = minutes.market.close.size
    world = World(
        module=momentum, market=minutes.market, features=minutes.features, params=(), terms=TERMS, first=0, last=n_rows
    )
    few = {name: values[:: max(1, len(values) - 1)] for name, values in momentum.GRID.items()}
    ours, theirs = both(world, few)
    assert_same(ours, theirs, "256 configs")
    assert ours["trades"].min() > 50


def test_trade_for_trade_it_is_the_kernel(real_data):
    """Cut after every trade: a path that differed in one and made up for it in the next would show."""
    minutes = bench_minutes(real_data)
    grid = {name: values[:1] for name, values in momentum.GRID.items()}
    params = momentum.Params(*(float(values[0]) for values in grid.values()))
    trades = kernel.simulate(momentum, minutes.market, minutes.features, params, TERMS).trades
    closed = trades[trades["reason"] != 0][:100]
    net = closed["side"] * closed["quantity"] * (closed["exit_price"] - closed["entry_price"]) - closed["fees_usdt"]
    for k, exit_row in enumerate(closed["exit_row"]):
        upto = factorised.sweep(momentum, minutes.market, minutes.features, grid, TERMS, 0, int(exit_row) + 1)
        assert (upto["trades"][0], upto["is_open"][0]) == (k + 1, 0)
        assert upto["net_pnl_usdt"][0] == pytest.approx(net[: k + 1].sum(), rel=1e-9, abs=1e-9)
        assert upto["trade_pnl_squared"][0] == pytest.approx((net[: k + 1] ** 2).sum(), rel=1e-9)


SPLIT = [module for module in STRATEGIES.values() if factorised.is_split(module)]


@pytest.mark.parametrize("module", SPLIT, ids=lambda module: module.NAME)
def test_exit_parameters_make_the_exit_plan_and_the_others_the_side(module):
    assert set(module.EXIT_PARAMS) < set(module.Params._fields)
    random = np.random.default_rng(0)
    wanted = {"exit": 0, "entry": 0}
    for seed in range(40):
        world = WORLD_OF[module.NAME](seed)
        rows = world.rows()
        for i in range(world.first, world.last):
            row = module.Row(**{name: values[i] for name, values in rows.items()})
            was = module.decide.py_func(row, 0, world.params)
            for kind in wanted:
                names = [name for name in module.Params._fields if (name in module.EXIT_PARAMS) == (kind == "exit")]
                changed = {name: getattr(world.params, name) * random.uniform(0.5, 1.5) for name in names}
                now = module.decide.py_func(row, 0, world.params._replace(**changed))
                wanted[kind] += abs(now.side)
                if kind == "exit":
                    assert now.side == was.side
                elif now.side == was.side != 0:
                    np.testing.assert_array_equal(now, was)
    assert min(wanted.values()) > 100


def test_a_limit_to_a_days_loss_is_left_to_the_kernel():
    world = full_world(momentum_world, 1)
    with pytest.raises(ValueError, match=r"max_daily_loss_usdt couples trades; use kernel\.sweep"):
        factorised.sweep(momentum, world.market, world.features, grid_around(world), world.terms)
