"""What a config can say of entries that rest, and who refuses them. How they fill: ``test_ticks``."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from data.config import load
from research.engine import TradingConfig, backtest
from research.order_settings import Orders
from research.resting import RestingEntry
from research.strategies import momentum
from research.sweep_config import SweepConfig
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


def test_a_sweep_of_them_is_refused_for_it_works_on_bars():
    told = tomllib.loads(SWEEP.read_text())
    told["orders"]["resting"] = RESTING
    with pytest.raises(ValueError, match="a bar does not tell whether a price was passed within an order's life"):
        load(SweepConfig, told)


def test_a_backtest_on_bars_refuses_them_before_it_looks_at_any_bar():
    config = TradingConfig(
        strategy=momentum.NAME,
        symbol="BNBUSDT",
        params={name: values[0] for name, values in momentum.GRID.items()},
        costs=COSTS,
        orders=replace(ORDERS, resting=RestingEntry(**RESTING)),
    )
    with pytest.raises(ValueError, match="a bar does not tell"):
        backtest(config, None)
