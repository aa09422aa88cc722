"""Strategies on liquidation clusters: a replay trades what the backtest trades, from bars or from a lake."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from live.journal_trades import trades
from live.trading_rules import input_names
from research import engine
from research.bars import SIGNAL
from research.clusters.columns import CLUSTER_COLUMNS
from research.engine import TradingConfig
from research.execution_bars import EXECUTION
from research.strategies import cluster_breakout, liquidation_hunt, support_resistance

STRATEGIES = (liquidation_hunt, support_resistance, cluster_breakout)


def traded_by(module, config: TradingConfig) -> TradingConfig:
    """The config with a strategy on clusters that trades often in its place."""
    params = {name: float(values[0]) for name, values in module.GRID.items()}
    often = {"min_usdt": 0.0, "min_reward_risk": 0.3, "max_stop_bps": 300.0, "max_spread_ticks": 5.0}
    return replace(config, strategy=module.NAME, params=params | often)


@pytest.mark.parametrize("module", STRATEGIES, ids=lambda module: module.NAME)
def test_a_replay_trades_what_the_backtest_trades(module, case, replayed, tmp_path):
    listed = []
    for seed in range(8):
        config, bars = case(seed)
        config = traded_by(module, config)
        path, _ = replayed((config, bars), path=tmp_path / f"{seed}.sqlite")
        found = trades(path, config.config_hash, config.symbol)
        assert_frame_equal(found, engine.backtest(config, bars, min_coverage=0.0).trades, check_exact=True)
        listed.append(found)
    found = pl.concat(listed)
    assert found.height > 15 and set(found["side"]) == {-1, 1}
    assert found["stop_price"].is_not_nan().all() and found["activation_price"].is_nan().all()


@pytest.mark.parametrize("module", STRATEGIES, ids=lambda module: module.NAME)
def test_what_only_the_market_after_the_decision_tells_is_no_column_of_the_map(module, config):
    names = input_names(traded_by(module, config()))
    assert not set(names) & set(EXECUTION)
    assert set(names) <= {*SIGNAL, *CLUSTER_COLUMNS}
