"""Metrics worked by hand."""

import math

import numpy as np
import polars as pl
import pytest

from research import metrics
from research.trades import TRADES


def test_sharpe_is_the_mean_over_the_deviation_annualised():
    pnl = np.array([1.0, 3.0])  # mean 2, deviation 1
    assert metrics.sharpe(pnl, periods_per_year=4) == pytest.approx(4.0)


def test_sums_give_the_sharpe_of_the_series():
    pnl = np.random.default_rng(1).normal(0.1, 1.0, 500)
    from_sums = metrics.sharpe_from_sums(np.array([pnl.sum()]), np.array([(pnl**2).sum()]), 500, 365)
    assert from_sums[0] == pytest.approx(pnl.mean() / pnl.std() * math.sqrt(365))


def test_pnl_that_never_varies_has_no_sharpe():
    assert math.isnan(metrics.sharpe(np.zeros(10), 365))
    assert math.isnan(metrics.sharpe(np.array([]), 365))


def test_sortino_counts_only_losses():
    assert metrics.sortino(np.array([2.0, -2.0, 3.0, 1.0]), 1) == pytest.approx(1.0)  # mean 1, downside sqrt(4/4)
    assert math.isnan(metrics.sortino(np.array([1.0, 2.0]), 1))


def test_drawdown_starts_from_zero_equity():
    assert metrics.drawdown(np.array([-1.0, 2.0, 1.0, 3.0])).tolist() == [-1.0, 0.0, -1.0, 0.0]


def test_the_bootstrap_interval_holds_the_sharpe_and_repeats_with_its_seed():
    pnl = np.random.default_rng(2).normal(0.2, 1.0, 400)
    low, high = metrics.bootstrap_sharpe(pnl, 365, block=10, seed=3)
    assert low < metrics.sharpe(pnl, 365) < high
    assert (low, high) == metrics.bootstrap_sharpe(pnl, 365, block=10, seed=3)


def test_the_bootstrap_needs_two_blocks_of_data():
    assert all(math.isnan(bound) for bound in metrics.bootstrap_sharpe(np.ones(5), 365, block=10))


def test_the_summary_of_two_trades_adds_up():
    lead = {"trade_id": "a", "symbol": "X", "entry_row_time": None, "entry_time": None, "exit_time": None,
            "stop_price": 0.0, "target_price": 0.0, "activation_price": 0.0, "callback_bps": 0.0,
            "reason": "target", "is_ambiguous": False}  # fmt: skip
    trades = pl.DataFrame(
        [
            {**lead, "side": 1, "quantity": 1.0, "entry_price": 100.0, "exit_price": 103.0,
             "gross_pnl_usdt": 3.0, "fees_usdt": 0.5, "funding_usdt": 0.5, "net_pnl_usdt": 2.0},
            {**lead, "side": -1, "quantity": 1.0, "entry_price": 100.0, "exit_price": 100.5,
             "gross_pnl_usdt": -0.5, "fees_usdt": 0.5, "funding_usdt": 0.0, "net_pnl_usdt": -1.0},
        ],
        schema_overrides=TRADES,
    )  # fmt: skip
    equity = pl.DataFrame({"equity_usdt": [0.0, 2.0, 2.0, 1.0], "position": [0, 1, 0, -1]})
    figures = metrics.summary(trades, equity, capital_usdt=100.0, bars_per_year=365)
    assert figures["net_pnl_usdt"] == 1.0
    assert figures["return"] == 0.01
    assert figures["max_drawdown"] == -0.01
    assert figures["win_rate"] == 0.5
    assert figures["profit_factor"] == 2.0
    assert figures["net_bps_per_trade"] == pytest.approx(50.0)
    assert figures["exposure"] == 0.5
    assert set(figures) == set(metrics.LABELS)
