"""What a config can say of entries that rest. How they fill: ``test_ticks`` and ``test_resting_bars``."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from data.config import load
from research.engine import TradingConfig, backtest
from research.order_settings import Orders
from research.resting import RestingEntry
from research.strategies import momentum
from research.sweep_config import FACTORISED_FROM_CONFIGS, SweepConfig
from research.tests.honest.engine import COSTS, ORDERS

SWEEP = Path(__file__).parents[2] / "pipelines/sweeps/bnbusdt_momentum.toml"
RESTING = {"offset_bps": 10, "lifetime_ms": 30_000}


def test_they_are_a_table_of_the_orders_and_whole_numbers_do():
    orders = load(Orders, {**vars(ORDERS), "open_interest_size": None, "resting": RESTING})
    assert orders.resting == RestingEntry(offset_bps=10.0, lifetime_ms=30_000)
    assert ORDERS.resting is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"lifetime_ms": 0}, "lets no trade meet the order"), ({"offset_bps": float("nan")}, "is no distance")],
)
def test_a_life_of_nothing_and_no_distance_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        RestingEntry(**{**RESTING, **changed})


def swept(**changed) -> SweepConfig:
    told = tomllib.loads(SWEEP.read_text())
    told["orders"]["resting"] = {**RESTING, "lifetime_ms": 90_000}
    return load(SweepConfig, told | changed)


def test_a_sweep_of_them_passes_over_the_rows_however_large_its_grid():
    config = swept()
    assert config.n_configs > FACTORISED_FROM_CONFIGS and not config.is_factorised


def test_a_sweep_takes_one_symbol_of_them_for_each_has_its_own_book():
    with pytest.raises(ValueError, match="trade one symbol at a time"):
        swept(symbols=["BNBUSDT", "BTCUSDT"])


def test_a_life_in_which_no_bar_lies_is_refused_before_any_bar_is_looked_at():
    told = tomllib.loads(SWEEP.read_text())
    told["orders"]["resting"] = RESTING
    with pytest.raises(ValueError, match="no bar of 1m lies within lifetime_ms 30000"):
        load(SweepConfig, told)
    assert load(SweepConfig, told | {"interval": "15s"}).orders.resting == RestingEntry(**RESTING)
    config = TradingConfig(
        strategy=momentum.NAME,
        symbol="BNBUSDT",
        params={name: values[0] for name, values in momentum.GRID.items()},
        costs=COSTS,
        orders=replace(ORDERS, resting=RestingEntry(**RESTING)),
    )
    with pytest.raises(ValueError, match="no bar of 1m lies within lifetime_ms 30000"):
        backtest(config, None)
