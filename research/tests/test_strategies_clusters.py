"""The strategies on liquidation clusters: what they wait for, where their stops stand, that the judge agrees."""

import math
import re

import numpy as np
import pytest

from research import features, kernel, reference
from research.clusters.columns import CLEAR_BPS
from research.fills import Decision, Levels, exit_levels
from research.strategies import cluster_breakout, liquidation_hunt, support_resistance
from research.strategies.cluster_orders import trend_columns
from research.tests.random_clusters import random_columns
from research.worlds import World, momentum_world

STRATEGIES = (liquidation_hunt, support_resistance, cluster_breakout)
NOTHING = math.nan

# A quiet market at 100: every gate is open.
MARKET = {
    "bid_price": 99.99,
    "ask_price": 100.01,
    "mark_price": 100.0,
    "tick_size": 0.01,
    "fast_ema": 100.0,
    "slow_ema": 100.0,
    "spread_ticks": 2.0,
    "spread_bps": 2.0,
    "funding_bps": 1.0,
    "funding_interval_hours": 8.0,
    "opening_loss_long_bps": 1.0,
    "opening_loss_short_bps": 1.0,
    "quote_age_ms": 100.0,
    "mark_age_ms": 100.0,
    "taker_fee_bps": 4.0,
}
NO_CLUSTERS = {
    name: NOTHING
    for module in STRATEGIES
    for name in module.Row._fields
    if name.startswith(("near_", "strong_", "break_"))
}
SUPPORT = {
    "near_long_hi_bps": -40.0,
    "near_long_hi": 99.6,
    "near_long_far": 99.5,
    "near_long_strength": 0.8,
    "near_long_usdt": 3e6,
}
RESISTANCE = {
    "near_short_lo_bps": 100.0,
    "near_short_lo": 101.0,
    "near_short_far": 101.2,
    "near_short_strength": 0.4,
    "near_short_usdt": 3e6,
}
SHORT_ABOVE = {
    "strong_short_price_bps": 110.0,
    "strong_short_price": 101.1,
    "strong_short_strength": 0.8,
    "strong_short_usdt": 3e6,
}
BROKEN_UP = {
    "break_direction": 1.0,
    "break_age_bars": 0.5,
    "break_lo": 99.6,
    "break_hi": 99.8,
    "break_usdt": 3e6,
}


def params_of(module, **changes):
    """The first values of the grid, others where named."""
    return module.Params(**{name: float(values[0]) for name, values in module.GRID.items()} | changes)


def decided(module, *known: dict, params=None, position: int = 0, **changes) -> Decision:
    """The decision on a quiet market with these clusters."""
    values = MARKET | NO_CLUSTERS
    for each in (*known, changes):
        values |= each
    row = module.Row(**{name: values[name] for name in module.Row._fields})
    return Decision(*module.decide(row, position, params or params_of(module)))


HUNT = (liquidation_hunt, SHORT_ABOVE, SUPPORT)
TURN = (support_resistance, SUPPORT, RESISTANCE)
BREAKOUT = (cluster_breakout, BROKEN_UP)
CASES = (HUNT, TURN, BREAKOUT)
by_name = {"ids": lambda case: case[0].NAME}


def test_the_hunt_goes_to_a_strong_short_cluster_above_with_its_stop_behind_the_long_one_below():
    decision = decided(*HUNT)
    assert (decision.side, decision.target_price) == (1, 101.1)
    assert decision.stop_price == pytest.approx(99.5 * (1 - 5e-4) - 0.01)  # 5 bps and a tick


def test_at_a_long_cluster_below_it_is_expected_to_turn_up():
    decision = decided(*TURN)
    assert (decision.side, decision.target_price) == (1, 101.0)
    assert decision.stop_price == pytest.approx(99.5 * (1 - 5e-4) - 0.01)


def test_at_one_level_the_hunt_and_the_turn_are_opposite_trades():
    level = {name.replace("near", "strong").replace("_lo", "_price"): value for name, value in RESISTANCE.items()}
    at_short = SUPPORT | RESISTANCE | level | {"near_short_strength": 0.9, "strong_short_strength": 0.9}
    at_short |= {"near_short_lo_bps": 30.0, "near_short_lo": 100.3, "near_short_far": 100.4, "near_long_strength": 0.1}
    hunted = decided(liquidation_hunt, at_short)
    turned = decided(support_resistance, at_short, near_long_hi=98.9, near_long_hi_bps=-110.0)
    assert (hunted.side, turned.side) == (1, -1)


def test_a_break_upward_goes_on_upward_with_its_stop_behind_the_broken_cluster():
    decision = decided(*BREAKOUT)
    assert decision.side == 1
    assert decision.target_price == pytest.approx(100.01 * 1.02)
    assert decision.stop_price == pytest.approx(99.6 * (1 - 5e-4) - 0.01)


def mirrored(values: dict) -> dict:
    """The same market upside down around 100."""
    other = {"long": "short", "short": "long", "_lo": "_hi", "_hi": "_lo"}
    found = {}
    for name, value in values.items():
        if name.endswith(("_price", "_lo", "_hi", "_far")):
            value = 200.0 - value
        elif name.endswith("_bps") or name == "break_direction":
            value = -value
        found[re.sub("long|short|_lo(?!n)|_hi", lambda part: other[part[0]], name)] = value
    return found


@pytest.mark.parametrize("case", CASES, **by_name)
def test_the_mirrored_market_is_traded_the_other_way(case):
    module, *known = case
    up, down = decided(*case), decided(module, *map(mirrored, known))
    assert (up.side, down.side) == (1, -1)
    assert down.stop_price == pytest.approx(200.0 - up.stop_price, abs=0.002)
    assert down.target_price == pytest.approx(200.0 - up.target_price, abs=0.002)


NEEDED = {
    liquidation_hunt: (*SHORT_ABOVE, "near_long_far"),
    support_resistance: ("near_long_hi_bps", "near_long_far", "near_long_strength", "near_long_usdt", "near_short_lo"),
    cluster_breakout: ("break_direction", "break_age_bars", "break_lo", "break_hi", "break_usdt"),
}
OF_THE_MARKET = sorted(set(MARKET) - {"bid_price", "opening_loss_short_bps", "fast_ema", "slow_ema"})


@pytest.mark.parametrize("case", CASES, **by_name)
def test_what_is_not_known_keeps_out(case):
    assert decided(*case).side == 1
    for name in (*NEEDED[case[0]], *OF_THE_MARKET):
        assert decided(*case, {name: NOTHING}).side == 0, name


@pytest.mark.parametrize("case", CASES, **by_name)
def test_in_a_position_nothing_is_asked_for(case):
    assert decided(*case, position=1).side == decided(*case, position=-1).side == 0


@pytest.mark.parametrize(
    ("case", "change"),
    [
        (HUNT, {"strong_short_strength": 0.59}),
        (HUNT, {"strong_short_usdt": 400_000.0}),
        (HUNT, {"strong_short_price_bps": 201.0}),
        (HUNT, {"strong_short_price_bps": -1.0}),  # the price has gone through it since
        (TURN, {"near_long_strength": 0.49}),
        (TURN, {"near_long_hi_bps": -101.0}),
        (BREAKOUT, {"break_usdt": 400_000.0}),
        (BREAKOUT, {"break_age_bars": 2.1}),
        (BREAKOUT, {"break_hi": 100.05}),  # back inside what it broke through
        (HUNT, {"spread_ticks": 3.0}),
        (HUNT, {"funding_bps": -2.0}),
        (HUNT, {"mark_age_ms": 3_001.0}),
    ],
)
def test_what_is_too_weak_too_far_too_old_or_too_dear_is_left_alone(case, change):
    assert decided(*case).side == 1
    assert decided(*case, change).side == 0


def test_a_long_cluster_that_the_price_has_gone_through_is_not_hunted():
    below = (liquidation_hunt, mirrored(SHORT_ABOVE), mirrored(SUPPORT))
    assert decided(*below).side == -1
    assert decided(*below, strong_long_price_bps=1.0).side == 0


def test_of_two_strong_clusters_the_stronger_then_the_larger_is_hunted():
    below = {name.replace("short", "long"): value for name, value in SHORT_ABOVE.items()}
    below |= {"strong_long_price": 98.9, "strong_long_price_bps": -110.0, "near_short_far": 100.3}
    both = (liquidation_hunt, SHORT_ABOVE, SUPPORT, below)
    assert decided(*both, strong_long_strength=0.9).side == -1
    assert decided(*both, strong_long_strength=0.7).side == 1
    assert decided(*both, strong_long_usdt=4e6).side == -1
    assert decided(*both).side == 0  # equal in both


def test_between_two_levels_the_nearer_one_counts():
    strong = RESISTANCE | {"near_short_strength": 0.9, "near_short_lo_bps": 60.0, "near_short_lo": 100.6}
    wide = params_of(support_resistance, min_reward_risk=0.1)
    assert decided(support_resistance, SUPPORT, strong, params=wide).side == 1
    assert decided(support_resistance, SUPPORT, strong, near_short_lo_bps=30.0, params=wide).side == -1
    assert decided(support_resistance, SUPPORT, strong, near_short_lo_bps=40.0, params=wide).side == 0


def test_reward_over_risk_is_counted_from_the_three_prices():
    decision = decided(*HUNT)
    ratio = (decision.target_price - 100.01) / (100.01 - decision.stop_price)
    assert ratio == pytest.approx(1.91, abs=0.01)
    assert decided(*HUNT, params=params_of(liquidation_hunt, min_reward_risk=1.9)).side == 1
    assert decided(*HUNT, params=params_of(liquidation_hunt, min_reward_risk=1.95)).side == 0


def test_prior_arts_example_is_refused_for_what_it_is_worth():
    # Entry 89,175.10, stop 87,386.99, target 89,874.15: printed as 2.5, worth 0.39.
    market = {"bid_price": 89_175.0, "ask_price": 89_175.1, "mark_price": 89_175.05, "tick_size": 0.1}
    hunt = {"strong_short_price_bps": 78.0, "strong_short_price": 89_874.15, "near_long_far": 87_430.8}
    for least, side in ((0.3, 1), (0.5, 0)):
        wide = params_of(liquidation_hunt, min_reward_risk=least, max_stop_bps=300.0)
        assert decided(*HUNT, hunt, market, params=wide).side == side


def test_a_stop_that_would_be_too_far_is_no_trade():
    assert decided(*HUNT, params=params_of(liquidation_hunt, max_stop_bps=50.0)).side == 0


def test_a_target_that_does_not_pay_for_the_round_trip_is_no_trade():
    near = {"strong_short_price": 100.08, "strong_short_price_bps": 8.0}  # 7 bps from the ask, fees are 8
    assert decided(*HUNT, near, params=params_of(liquidation_hunt, min_reward_risk=0.01)).side == 0


def test_the_trend_filter_is_off_at_window_zero_and_else_keeps_out_of_trades_against_it():
    falling = {"fast_ema": 99.0, "slow_ema": 100.0}
    with_trend = params_of(liquidation_hunt, trend_slow_window_bars=21.0)
    assert decided(*HUNT, falling).side == 1
    assert decided(*HUNT, falling, params=with_trend).side == 0
    assert decided(*HUNT, {"fast_ema": 101.0}, params=with_trend).side == 1
    assert decided(*HUNT, {"slow_ema": NOTHING}, params=with_trend).side == 0
    assert trend_columns(with_trend) == {"fast_ema": "ema_9", "slow_ema": "ema_21"}
    assert trend_columns(params_of(liquidation_hunt)) == {"fast_ema": "close", "slow_ema": "close"}


def test_confidence_is_asked_for_only_where_a_least_one_is_given():
    sure = params_of(liquidation_hunt, min_confidence=0.4)
    assert decided(*HUNT).side == 1  # it is not known
    assert decided(*HUNT, params=sure).side == 0
    assert decided(*HUNT, strong_short_confidence=0.5, params=sure).side == 1


def test_a_breakouts_stop_goes_behind_the_clusters_that_stand_where_it_would():
    wall = {"near_long_hi": 99.7, "near_long_far": 99.4}
    assert decided(*BREAKOUT, wall).stop_price == pytest.approx(99.4 * (1 - 5e-4) - 0.01)
    below = {"near_long_hi": 99.2, "near_long_far": 99.0}  # 40 bps behind the broken cluster
    assert decided(*BREAKOUT, below).stop_price == pytest.approx(99.6 * (1 - 5e-4) - 0.01)
    in_front = {"near_long_hi": 99.95, "near_long_far": 99.9}  # what stands behind it is not known
    assert decided(*BREAKOUT, in_front).side == 0


def test_a_buffer_that_could_reach_the_next_cluster_is_no_trade():
    assert decided(*HUNT, params=params_of(liquidation_hunt, stop_buffer_bps=CLEAR_BPS)).side == 0
    assert decided(*HUNT, tick_size=0.5).side == 0


def world_of(module, seed: int, **changes) -> World:
    """A random market and random clusters around its mark, traded by the strategy."""
    world = momentum_world(seed)
    market, random = world.market, np.random.default_rng([seed, 5])
    mark = market.close / market.last_mark_ratio
    columns = random_columns(random, mark)
    arrays = {name: columns[name].to_numpy(writable=True) for name in columns.columns}
    arrays |= {"mark_price": mark, "bid_price": market.bid, "ask_price": market.ask, "close": market.close}
    params = params_of(module, min_usdt=float(random.choice([0.0, 1e6])), **changes)
    params = params._replace(max_spread_ticks=5.0, max_stop_bps=300.0, min_reward_risk=float(random.uniform(0.2, 1.5)))
    names = [name for name in module.columns(params) if name not in world.features]
    computed = features.compute(arrays, names, constants={"tick_size": world.terms.tick_size})
    return World(
        module=module,
        market=market,
        features=world.features | computed,
        params=params,
        terms=world.terms,
        first=world.first,
        last=world.last,
    )


def _edge(module, row, side: int) -> float:
    """Behind which the stop must stand."""
    wall = row.near_long_far if side > 0 else row.near_short_far
    if module is not cluster_breakout:
        return wall
    wall_near = row.near_long_hi if side > 0 else row.near_short_lo
    broken = row.break_lo if side > 0 else row.break_hi
    is_clear = math.isnan(wall_near) or side * (broken - wall_near) >= broken * CLEAR_BPS / 1e4
    return broken if is_clear else wall


@pytest.mark.parametrize("module", STRATEGIES, ids=lambda module: module.NAME)
def test_stops_stand_behind_a_cluster_and_targets_are_worth_the_risk(module):
    wanted = 0
    for seed in range(40):
        world = world_of(module, seed)
        rows = world.rows()
        for i in range(world.first, world.last):
            row = module.Row(**{name: values[i] for name, values in rows.items()})
            decision = Decision(*module.decide.py_func(row, 0, world.params))
            if decision.side == 0:
                continue
            wanted += 1
            side, entry = decision.side, row.ask_price if decision.side > 0 else row.bid_price
            levels = Levels(*exit_levels(side, entry, decision, row.tick_size))
            edge = _edge(module, row, side)
            assert CLEAR_BPS > 1e4 * side * (1.0 - levels.stop / edge) >= world.params.stop_buffer_bps - 1e-6
            reward, risk = side * (decision.target_price - entry), side * (entry - decision.stop_price)
            assert risk > 0.0 and reward >= world.params.min_reward_risk * risk
    assert wanted > 100


@pytest.mark.parametrize("module", STRATEGIES, ids=lambda module: module.NAME)
def test_the_kernel_trades_what_the_reference_trades(module):
    def decide(row: dict, params: tuple) -> Decision:
        return Decision(*module.decide.py_func(module.Row(**row), 0, params))

    trades = 0
    for seed in range(25):
        w = world_of(module, seed)
        ours = kernel.simulate(w.module, w.market, w.features, w.params, w.terms, w.first, w.last)
        judged = reference.simulate(w.market, w.rows(), w.params, w.terms, w.first, w.last, decide)
        assert len(ours.trades) == len(judged.trades)
        for one, other in zip(ours.trades, judged.trades, strict=True):
            for name in ("entry_row", "exit_row", "side", "reason"):
                assert one[name] == other[name], (seed, name)
            for name in ("entry_price", "exit_price", "stop", "target"):
                assert one[name] == pytest.approx(other[name], rel=1e-12), (seed, name)
        trades += len(ours.trades)
    assert trades > 20


def test_a_sweep_of_the_hunt_is_each_config_alone():
    world = world_of(liquidation_hunt, 3)
    configs = [world.params, world.params._replace(min_reward_risk=0.1), world.params._replace(min_strength=0.9)]
    swept = kernel.sweep(liquidation_hunt, world.market, world.features, configs, world.terms)
    for number, params in enumerate(configs):
        alone = kernel.simulate(liquidation_hunt, world.market, world.features, params, world.terms)
        assert {name: swept[name][number] for name in kernel.STATS} == alone.stats
    assert len(set(swept["trades"])) > 1
