"""A sweep of two symbols on one account: what their records come to together."""

from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest

from conftest import SMALL_SWEEP
from data.lake import Lake
from data.synthetic import ALT_LIKE, fill_lake
from pipelines.portfolio_section import portfolio_rows
from pipelines.run_history import history
from pipelines.sweep_job import bars_for, run_sweep
from pipelines.sweep_report import write_sweep_report
from research.portfolio_record import joint_record
from research.sweep import folds_of

SYMBOLS = ["BTCUSDT", ALT_LIKE.symbol]


@pytest.fixture(scope="module")
def swept(synthetic_spec, tmp_path_factory):
    """A finished sweep of two symbols of which one at a time may be held, and its lake."""
    folder = tmp_path_factory.mktemp("two")
    lake = Lake(folder / "lake", create=True)
    fill_lake(lake, replace(synthetic_spec, symbols=(*synthetic_spec.symbols, ALT_LIKE)))
    text = SMALL_SWEEP.replace('["BTCUSDT"]', str(SYMBOLS).replace("'", '"'))
    (folder / "two.toml").write_text(text.replace("[folds]", "[portfolio]\nmax_open_positions = 1\n\n[folds]"))
    return run_sweep(folder / "two.toml", lake, folder / "runs", lambda *told: None), lake


def test_never_more_is_held_than_the_account_may(swept):
    run, _ = swept
    folds, equity = run.frame("portfolio_folds"), run.frame("portfolio_equity")
    assert equity["position"].max() == 1 == folds["most_positions"].max()
    assert folds["refused_entries"].sum() > 0
    assert folds["net_pnl_usdt"].sum() == pytest.approx(equity["equity_usdt"][-1])
    assert set(run.frame("portfolio_trades")["symbol"]) == set(SYMBOLS)


def test_without_limits_the_account_is_the_sum_of_what_the_backtest_says_of_each_symbol(swept):
    run, lake = swept
    config = replace(run.config, portfolio=None)
    bars = {symbol: bars_for(config, lake, symbol) for symbol in SYMBOLS}
    alone = {symbol: SimpleNamespace(folds=run.frame("walk_forward_folds").filter(symbol=symbol)) for symbol in SYMBOLS}
    joint = joint_record(config, bars, folds_of(config, bars["BTCUSDT"].frame.height), alone)
    for symbol in SYMBOLS:
        own = run.frame("walk_forward_trades").filter(symbol=symbol)
        assert joint.trades.filter(symbol=symbol).equals(own.select(joint.trades.columns))
    total = run.frame("walk_forward_folds")["net_pnl_usdt"].sum()
    assert joint.equity["equity_usdt"][-1] == pytest.approx(total)
    assert joint.folds["refused_entries"].sum() == 0


def test_report_and_history_tell_of_the_account(swept):
    run, lake = swept
    *alone, together = portfolio_rows(run)
    assert [row["symbol"] for row in alone] == SYMBOLS
    assert together["symbol"] == "portfolio"
    assert together["trades"] < sum(row["trades"] for row in alone)
    page = write_sweep_report(run, lake).read_text()
    assert "What do the symbols come to together?" in page
    assert "together within: 1 positions at a time" in page
    (row,) = history(run.path.parent).iter_rows(named=True)
    assert row["oos_net_pnl_usdt"] == pytest.approx(together["net_pnl_usdt"])
    assert row["oos_trades"] == together["trades"]


def test_the_account_stays_flat_through_a_fold_on_which_no_symbol_has_a_pick(swept):
    run, lake = swept
    bars = {symbol: bars_for(run.config, lake, symbol) for symbol in SYMBOLS}
    folds = folds_of(run.config, bars["BTCUSDT"].frame.height)
    whole = run.frame("portfolio_equity")
    for unpicked in (1, 3):
        number = pl.when(pl.col("fold") != unpicked).then("config").alias("config")
        own = run.frame("walk_forward_folds").with_columns(number)
        alone = {symbol: SimpleNamespace(folds=own.filter(symbol=symbol)) for symbol in SYMBOLS}
        joint = joint_record(run.config, bars, folds, alone)
        assert joint.equity.select("time", "fold").equals(whole.select("time", "fold"))
        flat = joint.equity.filter(fold=unpicked)
        before = joint.equity.filter(pl.col("fold") < unpicked)["equity_usdt"].to_list()
        assert flat["equity_usdt"].unique().to_list() == (before[-1:] or [0.0])
        assert flat["position"].abs().sum() == flat["exposure_usdt"].abs().sum() == 0
        assert joint.equity["equity_usdt"][-1] == pytest.approx(joint.folds["net_pnl_usdt"].sum())
    nobody = {symbol: SimpleNamespace(folds=own.with_columns(config=None)) for symbol in SYMBOLS}
    assert joint_record(run.config, bars, folds, nobody).equity.is_empty()
