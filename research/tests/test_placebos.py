"""Placebo data keeps what it should keep, and the record ranks among it as it should."""

import numpy as np
import polars as pl
import pytest

from research.evidence import Period, picks_of, record_pnl
from research.features import arrays_of
from research.gate_worlds import BARS_PER_DAY, world_bars, world_config
from research.overfitting import moments
from research.placebos import SIGNS, TIMES, Placebo, mirrored, placebos
from research.stage import Stage, period_sums
from research.sweep import Evaluator, blocks_of, folds_of
from research.walk_forward import walk_forward

DAYS = 31


def record_of(edge: float):
    """A world's config, bars, picks and record."""
    config, bars = world_config(DAYS), world_bars(7, days=DAYS, edge=edge)
    folds = folds_of(config, bars.frame.height)
    evaluator = Evaluator(config, bars)
    evaluated = pl.concat([evaluator(block) for block in blocks_of(config, bars.symbol, folds)])
    record = walk_forward(config, bars, folds, evaluated)
    return config, bars, picks_of(config, folds, record), record


@pytest.fixture(scope="module")
def strong():
    return record_of(edge=2.0)


def test_the_best_of_four_has_rank_one_and_a_tie_counts_against_it():
    placebo = Placebo(kind=SIGNS, sharpe=0.3, sharpes=np.array([0.1, 0.3, -0.2]))
    assert (placebo.rank, placebo.p_value) == (2, 0.5)


def test_unturned_signs_leave_every_price_where_it_was():
    arrays = arrays_of(world_bars(1, days=1, edge=0.0))
    same = mirrored(arrays, np.ones(BARS_PER_DAY))
    for name, values in arrays.items():
        np.testing.assert_allclose(same[name], values, rtol=1e-12, err_msg=name)


def test_a_turned_market_falls_as_it_rose_and_its_bids_are_below_its_asks():
    arrays = arrays_of(world_bars(1, days=1, edge=0.0))
    turned = mirrored(arrays, -np.ones(BARS_PER_DAY))
    moves, back = np.diff(np.log(arrays["close"])), np.diff(np.log(turned["close"]))
    np.testing.assert_allclose(back, -moves, atol=1e-12)
    assert np.all(turned["high"] >= np.maximum(turned["open"], turned["close"]))
    assert np.all(turned["low"] <= np.minimum(turned["open"], turned["close"]))
    assert np.all(turned["bid_price"] < turned["ask_price"])


def test_a_stage_trades_the_record_again(strong):
    config, bars, picks, record = strong
    stage = Stage(config, bars, picks)
    net = sum(run.stats["net_pnl_usdt"] for run in stage.runs(stage.market, stage.features))
    assert net == pytest.approx(record.equity["equity_usdt"][-1])


def test_a_strong_edge_ranks_first_and_the_real_record_is_the_walk_forward_s(strong):
    config, bars, picks, record = strong
    found = placebos(config, bars, picks, period_bars=BARS_PER_DAY, n_placebos=20)
    assert [each.kind for each in found] == [SIGNS, TIMES]
    assert [each.rank for each in found] == [1, 1]
    day = Period(name="day", bars=BARS_PER_DAY, per_year=365.0)
    assert found[0].sharpe == pytest.approx(moments(record_pnl(record.equity, day)).sharpe)


def test_placebos_follow_from_the_seed(strong):
    config, bars, picks, _ = strong
    first, again = (placebos(config, bars, picks, period_bars=96, n_placebos=2, seed=3) for _ in range(2))
    assert [each.sharpes.tolist() for each in first] == [each.sharpes.tolist() for each in again]


def test_a_short_last_period_is_left_out():
    assert period_sums(np.ones(10), 4).tolist() == [4.0, 4.0, 2.0]
    assert period_sums(np.ones(9), 4).tolist() == [4.0, 4.0]
    assert period_sums(np.ones(1), 4).tolist() == [1.0]
