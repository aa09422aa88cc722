"""The record on worse terms and from later starts, on a market of 31 days with one fold: 14 to train, 15 to test."""

import dataclasses
from functools import partial

import polars as pl
import pytest

from research import capacity
from research import surface as surface_module
from research.capacity import at_cost_multiples
from research.engine import backtest
from research.evidence import Period
from research.gate_worlds import BARS_PER_DAY, world_bars, world_config
from research.surface import SURFACE, Strains, folds_from, over_starts, picks_anew, starts_of, surface_at, train_rows
from research.sweep import Evaluator, Fold

DAYS = 31
ROWS = DAYS * BARS_PER_DAY
DAY = Period(name="day", bars=BARS_PER_DAY, per_year=365.0)
STRAINS = Strains(added_latency_ms=(0,), fee_multiples=(1.0, 2.0), added_slippage_bps=(0.0, 3.0), starts=(0.0, 0.25))


def quiet(done: int, total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def world():
    """A market with an edge: config, bars, and the picks from both starts."""
    config, bars = world_config(DAYS), world_bars(7, days=DAYS, edge=2.0)
    trained = partial(train_rows, config, Evaluator(config, bars), bars.symbol)
    starts = starts_of(config, ROWS, STRAINS.starts)
    picks = {start: picks_anew(config, trained, folds_from(config, ROWS, start), quiet) for start in starts}
    return config, bars, picks


@pytest.fixture(scope="module")
def surface(world):
    config, bars, picks = world
    return surface_at(config, bars, picks, STRAINS, latency_ms=150, period=DAY, progress=quiet)


def test_a_start_after_which_no_fold_fits_is_left_out():
    # 16 days lie behind training and pause, half a test needs 7.5 of them
    assert starts_of(world_config(DAYS), ROWS, (0.0, 0.25, 0.5, 0.75)) == [0, 360, 720]


def test_folds_of_a_later_start_are_rows_of_the_whole_range():
    assert folds_from(world_config(DAYS), ROWS, 360) == [Fold(1, 360, 1704, 1800, 2976)]


def test_strains_hold_the_run_s_own_terms_and_none_milder():
    with pytest.raises(ValueError, match=r"fee_multiples \(0.5, 1.0\): the least must be 1"):
        Strains(fee_multiples=(0.5, 1.0))
    with pytest.raises(ValueError, match="the least must be 0"):
        Strains(starts=(0.5,))


def test_every_combination_is_traded_and_one_of_them_is_the_record(world, surface):
    config, bars, picks = world
    assert surface.height == 2 * 2 * 2
    own = surface.filter("is_own")
    assert own.select("taker_fee_bps", "slippage_bps", "start_bars").row(0) == (4.0, 0.5, 0)
    ((fold, params),) = picks[0]
    record = backtest(config.trading_config(bars.symbol, params), bars, fold.test_first, fold.test_last)
    assert own["net_pnl_usdt"].to_list() == pytest.approx([record.stats["net_pnl_usdt"]])
    assert own["trades"][0] == record.stats["trades"] > 20


def test_worse_terms_earn_less(surface):
    first = surface.filter(start_bars=0).sort("taker_fee_bps", "slippage_bps")["net_pnl_usdt"].to_list()
    assert first[0] > first[1] > first[3]
    assert first[0] > first[2] > first[3]


def test_a_rebate_is_smaller_on_worse_terms(world, monkeypatch):
    config, bars, picks = world
    paid = dataclasses.replace(config, costs=dataclasses.replace(config.costs, maker_fee_bps=-0.5))
    asked = []

    def traded(config, *_, **__):
        asked.append(config.costs.maker_fee_bps)
        return {"net_pnl_usdt": 0.0, "trades": 0.0, "sharpe": 0.0}

    monkeypatch.setattr(surface_module, "traded_again", traded)
    monkeypatch.setattr(capacity, "traded_again", traded)
    at_cost_multiples(paid, bars, picks[0], period_bars=96)
    surface_at(paid, bars, {0: picks[0]}, STRAINS, latency_ms=150, period=DAY, progress=quiet)
    assert asked == pytest.approx([-0.5, -0.5 / 1.5, -0.25, *2 * [-0.5], *2 * [-0.25]])


def test_a_later_start_trades_other_rows(surface):
    per_start = surface.filter(taker_fee_bps=4.0, slippage_bps=0.5)
    assert per_start["start_bars"].to_list() == [0, 360]
    assert per_start["net_pnl_usdt"].n_unique() == 2


def test_what_picks_nothing_earns_nothing(world):
    config, bars, _ = world
    picky = dataclasses.replace(config, min_trades=100_000)
    trained = partial(train_rows, picky, Evaluator(picky, bars), bars.symbol)
    picks = {0: picks_anew(picky, trained, folds_from(picky, ROWS, 0), quiet)}
    found = surface_at(picky, bars, picks, STRAINS, latency_ms=150, period=DAY, progress=quiet)
    assert found["folds"].to_list() == found["trades"].to_list() == [0] * 4
    assert found["net_pnl_usdt"].to_list() == [0.0] * 4


def test_the_starts_of_a_cell_are_told_by_their_median_and_their_ends():
    row = dict.fromkeys(SURFACE, 0) | {"is_own": False}
    frame = pl.DataFrame([row | {"net_pnl_usdt": net} for net in (5.0, -1.0, 2.0)], schema=SURFACE)
    assert over_starts(frame).select("median_usdt", "worst_usdt", "best_usdt").row(0) == (2.0, -1.0, 5.0)
