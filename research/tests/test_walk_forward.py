"""A fold without a pick stands flat in the record, and in whatever the record is compared with."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from research import metrics, walk_forward
from research.capacity import at_cost_multiples
from research.evidence import Period, Trials, gather, picks_of, record_pnl
from research.gate import judge, verdict
from research.gate_worlds import BARS_PER_DAY, world_bars, world_config
from research.overfitting import moments
from research.placebos import placebos
from research.stage import Stage
from research.surface import Strains, picks_anew, surface_at
from research.sweep import Evaluator, Fold
from research.trades import TRADES

DAY = Period(name="day", bars=BARS_PER_DAY, per_year=365.0)
EARNED = {1: (3.0, 0.0), 3: (0.0, 3.0)}  # USDT per row of the folds that traded
TRADED = 2.0 / 3.0  # share of the periods, where one fold of three stood flat


def trained(folds: list[Fold], unpicked: set[int], n_configs: int = 1) -> pl.DataFrame:
    """Train statistics by which every fold picks its first config, those of ``unpicked`` none."""
    return pl.DataFrame(
        [
            {
                "symbol": "WORLDUSDT", "fold": fold.number, "part": "train", "config": number,
                "sharpe": 1.0 - number, "trades": 0.0 if fold.number in unpicked else 99.0, "longest_hold_bars": 1.0,
            }
            for fold in folds
            for number in range(n_configs)
        ]
    )  # fmt: skip


def three_folds(test_rows: int, train_rows: int = BARS_PER_DAY) -> list[Fold]:
    first = train_rows + BARS_PER_DAY
    edges = [(first + k * test_rows, first + (k + 1) * test_rows) for k in range(3)]
    return [Fold(k + 1, 0, train_rows, *edge) for k, edge in enumerate(edges)]


@pytest.fixture
def by_hand(monkeypatch):
    """A record of three folds of two rows, of which the folds in ``unpicked`` had no pick."""
    config = dataclasses.replace(world_config(3), selection="best")
    bars, folds = world_bars(1, days=3, edge=0.0), three_folds(test_rows=2)

    def earned(followed, bars, first, last, **_):
        (fold,) = (fold for fold in folds if fold.test_first == first)
        flat = np.zeros(2)
        curve = np.cumsum(EARNED[fold.number])
        times = bars.frame["exec_time"][first + 1 : last + 1]
        equity = pl.DataFrame({"time": times, "equity_usdt": curve, "position": [1, 1], "exposure_usdt": flat})
        return SimpleNamespace(trades=pl.DataFrame(schema=TRADES), equity=equity)

    monkeypatch.setattr(walk_forward, "backtest", earned)
    return lambda unpicked: walk_forward.walk_forward(config, bars, folds, trained(folds, unpicked)), bars


def test_a_fold_without_a_pick_counts_as_flat_in_the_record(by_hand):
    follow, bars = by_hand
    record = follow({2})
    assert record.folds["config"].to_list() == [0, None, 0]
    assert record.equity["fold"].to_list() == [1, 1, 2, 2, 3, 3]
    assert record.equity["equity_usdt"].to_list() == [3.0, 3.0, 3.0, 3.0, 3.0, 6.0]
    assert record.equity["position"].to_list() == [1, 1, 0, 0, 1, 1]
    first = three_folds(test_rows=2)[0].test_first
    assert record.equity["time"].to_list() == bars.frame["exec_time"][first + 1 : first + 7].to_list()
    # 3 0 0 0 0 3: mean 1, mean square 3, so deviation √2; of the two folds that traded alone it would be 1.5 over 1.5
    counted = moments(record_pnl(record.equity, Period(name="bar", bars=1, per_year=1.0)))
    assert counted.n_periods == 6
    assert counted.sharpe == pytest.approx(1.0 / math.sqrt(2.0))
    told = metrics.summary(record.trades, record.equity, capital_usdt=1_000.0, bars_per_year=1.0)
    assert told["sharpe"] == pytest.approx(1.0 / math.sqrt(2.0))
    assert told["exposure"] == pytest.approx(TRADED)


def test_the_first_fold_and_the_last_stand_flat_too(by_hand):
    follow, _ = by_hand
    assert follow({1, 2}).equity["equity_usdt"].to_list() == [0.0, 0.0, 0.0, 0.0, 0.0, 3.0]
    assert follow({2, 3}).equity["equity_usdt"].to_list() == [3.0] * 6


def test_a_record_without_any_pick_is_empty(by_hand):
    follow, _ = by_hand
    record = follow({1, 2, 3})
    assert record.equity.is_empty() and record.trades.is_empty()
    assert record.folds.height == 3


@pytest.fixture(scope="module")
def world():
    """A market with an edge and three folds of five days to test on: config, bars, folds and an evaluator."""
    config, bars = dataclasses.replace(world_config(31), selection="best"), world_bars(7, days=31, edge=2.0)
    return config, bars, three_folds(5 * BARS_PER_DAY, train_rows=14 * BARS_PER_DAY), Evaluator(config, bars)


def followed(world, unpicked: set[int]):
    config, bars, folds, _ = world
    record = walk_forward.walk_forward(config, bars, folds, trained(folds, unpicked, config.n_configs))
    return record, picks_of(config, folds, record)


def test_an_empty_record_can_be_stacked_with_another_symbol_s(world):
    nothing, something = followed(world, {1, 2, 3})[0], followed(world, {2})[0]
    for name in ("folds", "trades", "equity"):
        assert getattr(nothing, name).schema == getattr(something, name).schema


@pytest.mark.parametrize("unpicked", [1, 2, 3])
def test_placebos_and_costs_span_the_periods_of_the_record(world, unpicked):
    config, bars, _, _ = world
    record, picks = followed(world, {unpicked})
    pnl = record_pnl(record.equity, DAY)
    flat = slice(5 * (unpicked - 1), 5 * unpicked)
    assert len(pnl) == 15 and not pnl[flat].any() and np.delete(pnl, np.r_[flat]).any()
    stage = Stage(config, bars, picks)
    np.testing.assert_allclose(stage.pnl(stage.market, stage.features, DAY.bars), pnl, atol=1e-9)
    (as_it_was, dearer) = at_cost_multiples(config, bars, picks, period_bars=DAY.bars, multiples=(1.0, 2.0))
    assert as_it_was["sharpe"] == pytest.approx(moments(pnl).sharpe)
    assert as_it_was["net_pnl_usdt"] == pytest.approx(pnl.sum())
    assert dearer["net_pnl_usdt"] < as_it_was["net_pnl_usdt"]


@pytest.mark.parametrize("unpicked", [1, 2, 3])
def test_a_placebo_stands_flat_where_the_record_does(world, unpicked):
    config, bars, _, _ = world
    record, picks = followed(world, {unpicked})
    asked = {"period_bars": DAY.bars, "n_placebos": 5}
    traded = [(fold, params) for fold, params in picks if params is not None]
    for flat, alone in zip(
        placebos(config, bars, picks, **asked), placebos(config, bars, traded, **asked), strict=True
    ):
        assert flat.sharpe == pytest.approx(moments(record_pnl(record.equity, DAY)).sharpe)
        # Zeros for a third of the periods: two thirds of the mean, two thirds of the mean square.
        padded = alone.sharpes * np.sqrt(TRADED / (1.0 + (1.0 - TRADED) * alone.sharpes**2))
        np.testing.assert_allclose(flat.sharpes, padded, rtol=1e-9)
        assert flat.rank == alone.rank


def evidence_on(world, unpicked: set[int]):
    """What the gate is given; no config is ranked."""
    config, bars, folds, evaluator = world
    record, _ = followed(world, unpicked)
    params = dict(zip(config.grid, config.table(0, 1)[0], strict=True))
    results = pl.DataFrame([{"config": 0, "score": -math.inf, **params}])
    few = dataclasses.replace(config, placebos=20)
    trials = Trials(earlier=0, total=1, variance=1.0)
    return gather(few, bars, folds, evaluator, results, record, trials, is_whole=False)


def test_the_gate_counts_the_periods_of_a_fold_without_a_pick(world):
    evidence = evidence_on(world, {2})
    assert evidence.record.n_periods == 15 * 4  # quarters of days
    assert [placebo.sharpe for placebo in evidence.placebos] == pytest.approx([evidence.record.sharpe] * 2)


def test_the_gate_has_nothing_to_judge_where_no_fold_had_a_pick(world):
    evidence = evidence_on(world, {1, 2, 3})
    assert (evidence.record.n_periods, evidence.placebos, evidence.at_costs) == (0, (), ())
    assert "nothing was picked, so there is no record to compare" in verdict(judge(evidence))


def test_a_later_start_without_a_pick_in_one_fold_stands_flat_in_it(world):
    config, bars, folds, _ = world
    _, picks = followed(world, {2})
    by_fold = {fold.number: trained([fold], {2}, config.n_configs) for fold in folds}
    anew = picks_anew(config, lambda fold: by_fold[fold.number], folds, lambda done, total: None)
    assert anew == picks
    strains = Strains(added_latency_ms=(0,), fee_multiples=(1.0,), added_slippage_bps=(0.0,), starts=(0.0,))
    found = surface_at(
        config, bars, {0: anew}, strains, latency_ms=150, period=DAY, progress=lambda done, total: None
    ).row(0, named=True)
    record, _ = followed(world, {2})
    pnl = record_pnl(record.equity, DAY)
    assert (found["folds"], len(pnl)) == (2, 15)
    assert found["sharpe"] == pytest.approx(moments(pnl).sharpe * math.sqrt(365.0))
    assert found["net_pnl_usdt"] == pytest.approx(pnl.sum())
