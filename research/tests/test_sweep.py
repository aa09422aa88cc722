"""Grids, folds and the selection procedure."""

import dataclasses
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.config import load
from research import metrics, sweep, sweep_config
from research.bars import build_bars
from research.engine import backtest
from research.resting import RestingEntry
from research.search import Range, Search
from research.sizing import OpenInterestSize
from research.stage import traded_again
from research.sweep import (
    Evaluator,
    Fold,
    SweepConfig,
    blocks_of,
    folds_of,
    picks,
    results_table,
    selection_scores,
)
from research.walk_forward import BOOTSTRAP_BLOCK_HOURS, walk_forward


@pytest.fixture
def config(sweep_toml) -> SweepConfig:
    return load(SweepConfig, sweep_toml, sweep_toml.name)


ONE_OR_TWO = Range(low=1.0, high=2.0, step=1.0)


def searched(config: SweepConfig, method: str = "random", **ranges: Range) -> SweepConfig:
    """The same sweep as a search: of two parameters where none are named."""
    ranges = ranges or {
        "momentum_multiple": Range(low=1.0, high=2.0),
        "volatility_window_bars": Range(low=10.0, high=30.0, step=5.0),
    }
    grid = {name: values for name, values in config.grid.items() if name not in ranges}
    search = Search(method=method, configs=64 if method == "optuna" else 16, seed=1, ranges=ranges)
    return dataclasses.replace(config, grid=grid, search=search)


@pytest.fixture
def bars(config, synthetic_lake):
    return build_bars(
        synthetic_lake,
        "BTCUSDT",
        config.start,
        config.end,
        interval=config.interval,
        latency_ms=config.costs.latency_ms,
        substitutions=config.substitutions,
    )


def evaluated(config, bars) -> pl.DataFrame:
    folds = folds_of(config, bars.frame.height)
    return pl.concat([Evaluator(config, bars)(block) for block in blocks_of(config, "BTCUSDT", folds)])


def test_folds_roll_by_one_test_length_and_never_overlap(config):
    folds = folds_of(config, 3 * 1440)
    assert [(f.train_first, f.train_last, f.test_first, f.test_last) for f in folds] == [
        (0, 1440, 1500, 2220),
        (720, 2160, 2220, 2940),
        (1440, 2880, 2940, 3660),
        (2160, 3600, 3660, 4320),
    ]


def test_an_embargo_shorter_than_a_window_is_refused(config):
    short = dataclasses.replace(config, folds=dataclasses.replace(config.folds, embargo_bars=20))
    with pytest.raises(ValueError, match="embargo_bars 20 is under the 29 rows"):
        folds_of(short, 3 * 1440)


def test_a_range_without_room_for_a_fold_is_refused(config):
    with pytest.raises(ValueError, match=r"one needs 1\.5 days, the range has 0\.7"):
        folds_of(config, 1000)


def test_the_grid_must_name_every_parameter_and_none_else(config):
    with pytest.raises(ValueError, match=r"unknown parameters \['stop_bp'\], missing parameters \['stop_bps'\]"):
        dataclasses.replace(config, grid={("stop_bp" if n == "stop_bps" else n): v for n, v in config.grid.items()})


def test_bars_of_which_too_few_were_seen_are_not_swept_unless_the_user_says_so(config, bars):
    is_gap = pl.int_range(pl.len()).is_between(100, 129)
    holey = dataclasses.replace(bars, frame=bars.frame.with_columns(is_gap=is_gap))
    with pytest.raises(ValueError, match=r"99\.3056% of the 1m bars .* asks for 99\.9000%.*aster repair"):
        Evaluator(config, holey)
    Evaluator(dataclasses.replace(config, min_coverage=0.99), holey)


@pytest.mark.parametrize("min_coverage", [-0.1, 1.1, 99.9])
def test_a_coverage_that_is_no_fraction_is_refused(config, min_coverage):
    with pytest.raises(ValueError, match=f"min_coverage {min_coverage} is no fraction"):
        dataclasses.replace(config, min_coverage=min_coverage)


def test_an_empty_grid_is_refused(config):
    with pytest.raises(ValueError, match=r"without values \['stop_bps'\]"):
        dataclasses.replace(config, grid={**config.grid, "stop_bps": ()})


def test_an_end_before_the_start_is_refused(config):
    with pytest.raises(ValueError, match="is not before end"):
        dataclasses.replace(config, end=datetime(2026, 1, 4, tzinfo=UTC))


def test_a_callback_the_exchange_refuses_stops_the_sweep(config, bars):
    native = dataclasses.replace(config, grid={**config.grid, "callback_bps": (5,)})
    with pytest.raises(ValueError, match="callback_bps 5 is under 10"):
        Evaluator(native, bars)


def test_the_last_parameter_runs_fastest(config):
    assert config.n_configs == len(config.table()) == 9
    assert [config.params(number).volatility_window_bars for number in (0, 1, 2, 3)] == [10, 20, 30, 10]
    assert config.shape[:2] == (3, 3)
    assert config.table(4, 6)[:, :2].tolist() == [[1.5, 20], [1.5, 30]]


def test_every_value_occurs_in_the_few_configs_that_are_checked_before_a_sweep(config):
    million = dataclasses.replace(config, grid={name: tuple(range(10, 20)) for name in config.grid})
    assert million.n_configs == 10**12
    assert [set(example) for example in million.examples()] == [{float(value)} for value in range(10, 20)]
    assert len(million.window_settings) == 100


def test_too_few_trades_count_as_the_worst_neighbour_and_cannot_be_picked(config):
    sharpe = np.array([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    train = pl.DataFrame({"sharpe": sharpe, "trades": [2.0] + [10.0] * 8})
    scores = selection_scores(config, train)
    assert scores[0] == -np.inf
    assert int(np.argmax(scores)) != 0


def test_test_rows_never_decide_what_is_picked(config, bars):
    table = evaluated(config, bars)
    scrambled = table.with_columns(
        pl.when(pl.col("part") == "test").then(pl.col("sharpe").reverse() * -3).otherwise("sharpe").alias("sharpe")
    )
    assert list(picks(config, table)) == list(picks(config, scrambled))
    ranked = ["rank", "config", "score"]
    assert results_table(config, table).select(ranked).equals(results_table(config, scrambled).select(ranked))


def test_the_record_is_what_the_picks_traded_on_test_rows(config, bars):
    table = evaluated(config, bars)
    folds = folds_of(config, bars.frame.height)
    record = walk_forward(config, bars, folds, table)
    assert record.folds["fold"].to_list() == [1, 2, 3, 4]
    for fold in record.folds.iter_rows(named=True):
        own = table.filter(
            (pl.col("fold") == fold["fold"]) & (pl.col("part") == "test") & (pl.col("config") == fold["config"])
        )
        assert fold["net_pnl_usdt"] == pytest.approx(own["net_pnl_usdt"][0], abs=1e-9)
        assert fold["trades"] == own["trades"][0]
    inside = record.trades.filter(pl.col("reason") != "open")
    assert inside.height == record.folds["trades"].sum()
    assert record.equity["equity_usdt"][-1] == pytest.approx(record.folds["net_pnl_usdt"].sum())


@pytest.mark.parametrize(("interval", "per_year"), [("45m", 365 * 32), ("4h", 365 * 6)])
def test_the_interval_of_a_folds_sharpe_is_annualised_as_the_sharpe_is(config, bars, interval, per_year):
    table, folds = evaluated(config, bars), folds_of(config, bars.frame.height)
    slow = dataclasses.replace(config, interval=interval)  # the same rows, as if each had lasted as long
    record = walk_forward(slow, dataclasses.replace(bars, interval=interval), folds, table)
    fold = record.folds.row(0, named=True)
    pnl = np.diff(record.equity.filter(pl.col("fold") == 1)["equity_usdt"].to_numpy(), prepend=0.0)
    assert fold["oos_sharpe"] == pytest.approx(metrics.sharpe(pnl, per_year))
    low, high = metrics.bootstrap_sharpe(pnl, per_year, block=BOOTSTRAP_BLOCK_HOURS, seed=1)
    assert (fold["oos_low"], fold["oos_high"]) == pytest.approx((low, high))


def test_a_sweep_sizes_its_trades_as_the_backtest_does(config, bars):
    orders = dataclasses.replace(config.orders, risk_usdt=1.0, open_interest_size=OpenInterestSize())
    config = dataclasses.replace(config, orders=orders)
    hours = pl.col("open_time").dt.hour()
    known = pl.when(hours % 4 > 0).then(2e9 * (hours % 4))
    frame = bars.frame.with_columns(open_interest_usdt=known.fill_null(math.nan), long_short_ratio=0.5 + hours / 24.0)
    bars = dataclasses.replace(bars, frame=frame)
    block = blocks_of(config, "BTCUSDT", folds_of(config, bars.frame.height))[0]
    swept = Evaluator(config, bars)(block)
    for number in (0, 8):
        params = config.params(number)
        rows = block.fold.train_first, block.fold.train_last
        result = backtest(config.trading_config("BTCUSDT", params), bars, *rows)
        assert result.trades["quantity"].n_unique() > 2
        assert swept["net_pnl_usdt"][number] == result.stats["net_pnl_usdt"]


def test_a_sweep_lets_entries_rest_as_the_backtest_does_and_its_record_too(config, bars):
    orders = dataclasses.replace(config.orders, resting=RestingEntry(offset_bps=1.0, lifetime_ms=150_000))
    config = dataclasses.replace(config, orders=orders)
    folds = folds_of(config, bars.frame.height)
    table = evaluated(config, bars)
    assert table["missed_entries"].min() > 0
    first = table.filter(pl.col("fold") == 1, pl.col("part") == "train")
    result = backtest(
        config.trading_config("BTCUSDT", config.params(0)), bars, folds[0].train_first, folds[0].train_last
    )
    assert {name: first[name][0] for name in result.stats} == result.stats
    trades, equity = result.trades, result.equity
    # Told at the end of the bar that filled it, and held from that bar on.
    rows = bars.frame.select(entry_row_time="open_time", arrived="exec_time")
    waited = trades.join(rows, on="entry_row_time").select(pl.col("entry_time") - pl.col("arrived")).to_series()
    assert waited.min() >= timedelta(seconds=55) and waited.max() > timedelta(seconds=100)
    assert equity["position"].abs().sum() == result.stats["exposure_bars"]
    record = walk_forward(config, bars, folds, table)
    picked = [(fold, config.params(number)) for fold, number in zip(folds, record.folds["config"], strict=True)]
    again = traded_again(config, bars, picked, period_bars=60)
    assert again["net_pnl_usdt"] == pytest.approx(record.folds["net_pnl_usdt"].sum(), abs=1e-9)
    assert again["trades"] == record.folds["trades"].sum() > 0


def test_a_record_traded_again_knows_the_last_price_before_its_first_row(config, bars):
    """Which ends an order that would have met it: no quote was there to tell as it arrived."""
    orders = dataclasses.replace(config.orders, resting=RestingEntry(offset_bps=1.0, lifetime_ms=150_000))
    config = dataclasses.replace(config, orders=orders)
    params = config.params(0)
    followed = config.trading_config("BTCUSDT", params)
    whole = backtest(followed, bars).run.trades
    bought = whole[whole["side"] > 0][0]
    row = int(bought["entry_row"])
    at = pl.int_range(pl.len())
    frame = bars.frame.with_columns(
        exec_close=pl.when(at == row - 1).then(bought["entry_price"]).otherwise("exec_close"),
        **{name: pl.when(at == row).then(math.nan).otherwise(name) for name in ("exec_bid", "exec_ask")},
    )
    bars = dataclasses.replace(bars, frame=frame)
    fold = Fold(1, 0, 1, row, row + 10)
    record = backtest(followed, bars, fold.test_first, fold.test_last)
    assert record.stats["missed_entries"] == 1 and row not in record.run.trades["entry_row"]
    again = traded_again(config, bars, [(fold, params)], period_bars=5)
    assert again["net_pnl_usdt"] == record.stats["net_pnl_usdt"]


def test_a_large_grid_of_a_split_strategy_is_factorised_and_says_the_same(config, bars, monkeypatch):
    folds = folds_of(config, bars.frame.height)[:1]
    assert not config.is_factorised
    fused = [Evaluator(config, bars)(block) for block in blocks_of(config, "BTCUSDT", folds)]
    monkeypatch.setattr(sweep_config, "FACTORISED_FROM_CONFIGS", 9)
    monkeypatch.setattr(sweep, "FACTORISED_CONFIGS_PER_BLOCK", 4)
    assert config.is_factorised
    ours = [Evaluator(config, bars)(block) for block in blocks_of(config, "BTCUSDT", folds)]
    assert len(ours) == 3 * len(fused)
    assert_frame_equal(pl.concat(ours), pl.concat(fused), check_exact=False, rel_tol=1e-9, abs_tol=1e-9)
    limited = dataclasses.replace(config, orders=dataclasses.replace(config.orders, max_daily_loss_usdt=50.0))
    assert not limited.is_factorised


def test_blocks_cover_every_config_of_every_part_once(config):
    folds = folds_of(config, 3 * 1440)
    blocks = blocks_of(config, "BTCUSDT", folds)
    assert len(blocks) == 2 * len(folds)
    assert len({block.name for block in blocks}) == len(blocks)
    assert all((block.first_config, block.last_config) == (0, 9) for block in blocks)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stop_bp": Range(low=1.0, high=2.0)}, r"unknown parameters \['stop_bp'\]"),
        ({"volatility_window_bars": Range(low=10.0, high=30.0)}, "counts bars: .* add a whole step, such as 1"),
        ({"volume_window_bars": Range(low=1.0, high=999.0, step=1.0)}, "999 windows, .* at most 256"),
        (
            {"stop_bps": Range(low=20.0, high=30.0, step=10.0), "momentum_multiple": ONE_OR_TWO},
            "asks for 16 configs of 12 .* leave .search. out",
        ),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(config, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        searched(config, **changes)


def test_a_parameter_is_a_list_or_a_range(config):
    search = Search(method="random", configs=16, ranges={"stop_bps": Range(low=20.0, high=30.0)})
    with pytest.raises(ValueError, match=r"\['stop_bps'\] have a list in \[grid\] and a range"):
        dataclasses.replace(config, search=search)


def test_an_optimiser_has_no_plateaus(config):
    with pytest.raises(ValueError, match='write selection = "best"'):
        searched(config, "optuna")


def test_the_ends_of_a_range_are_what_the_exchange_must_take(config, bars):
    native = searched(config, callback_bps=Range(low=5.0, high=20.0))
    with pytest.raises(ValueError, match="callback_bps 5 is under 10"):
        Evaluator(native, bars)
    with pytest.raises(ValueError, match="embargo_bars 60 is under the"):
        folds_of(searched(config, volume_window_bars=Range(low=70.0, high=90.0, step=5.0)), 3 * 1440)


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_searched_sweep_says_of_a_config_what_its_backtest_says(config, bars, method):
    config = searched(config, method)
    table = evaluated(config, bars)
    results = results_table(config, table)
    assert sorted(results["config"]) == list(range(config.n_configs))
    best = results.row(0, named=True)
    assert config.params_of(best) == config.params(best["config"])
    fold = folds_of(config, bars.frame.height)[0]
    own = table.filter(pl.col("fold") == 1, pl.col("part") == "train", pl.col("config") == best["config"])
    result = backtest(config.trading_config("BTCUSDT", config.params_of(best)), bars, fold.train_first, fold.train_last)
    assert own["net_pnl_usdt"][0] == result.stats["net_pnl_usdt"]
    record = walk_forward(config, bars, folds_of(config, bars.frame.height), table)
    assert record.folds["config"].null_count() == 0


def test_a_fold_cannot_choose_what_was_found_on_later_days(config):
    best = dataclasses.replace(config, selection="best")
    rows = {"symbol": "BTCUSDT", "fold": 1, "part": "train", "trades": 9.0}
    table = pl.DataFrame([{**rows, "config": k, "sharpe": float(k), "is_found": k < 2} for k in range(3)])
    assert [pick["config"] for pick in picks(best, table)] == [1]
    assert [pick["config"] for pick in picks(best, table.drop("is_found"))] == [2]
