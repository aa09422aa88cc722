"""Sweeps that cannot be run are refused with a sentence that says what to change."""

import re

import pytest
from click.testing import CliRunner

from conftest import SMALL_SWEEP
from pipelines.cli import cli

REFUSED = {
    "an unknown parameter": (
        "stop_bps = [30]",
        "stopp_bps = [30]",
        r"\[grid\] of momentum: unknown parameters \['stopp_bps'\], missing parameters \['stop_bps'\]",
    ),
    "an empty list": ("stop_bps = [30]", "stop_bps = []", r"without values \['stop_bps'\].* a list of one value"),
    "an empty grid": (SMALL_SWEEP[SMALL_SWEEP.index("[grid]") :], "[grid]\n", "missing parameters .*'stop_bps'"),
    "a callback the exchange refuses": (
        "callback_bps = [10]",
        "callback_bps = [5]",
        "callback_bps 5 is under 10: the exchange refuses such a trailing order; use 10 or more",
    ),
    "a notional under the exchange's minimum": (
        "notional_usdt = 500.0\nmax_notional_usdt = 600.0",
        "notional_usdt = 1.0\nmax_notional_usdt = 2.0",
        "max_notional_usdt 2 is under .* the exchange's minimum",
    ),
    "train and test rows that share inputs": (
        "embargo_bars = 60",
        "embargo_bars = 5",
        "embargo_bars 5 is under the .* rows that the grid's features look back",
    ),
    "folds that overlap": (
        "embargo_bars = 60",
        "embargo_bars = -60",
        "embargo_bars -60 makes test rows overlap the train rows .* make it 0 or more",
    ),
    "folds without days": ("test_days = 0.5", "test_days = 0.0", "test_days 0 is no length of time: make it greater"),
    "folds longer than the range": ("train_days = 1.0", "train_days = 9.0", "no fold fits: one needs"),
    "no costs": (SMALL_SWEEP[SMALL_SWEEP.index("[costs]") : SMALL_SWEEP.index("[orders]")], "", "missing .*costs"),
    "no fee": ("taker_fee_bps = 4.0\n", "", r"\[costs\].*missing .*taker_fee_bps"),
    "costs that pay": ("slippage_bps = 0.5", "slippage_bps = -0.5", "slippage_bps -0.5 would pay us: .* 0 or more"),
    "too little coverage": (
        "end = 2026-01-08",
        "end = 2026-01-12",
        "bars .* were seen, min_coverage asks for .* Run `aster repair .*; or set min_coverage",
    ),
    "shared limits of one symbol": (
        "[folds]",
        "[portfolio]\nmax_open_positions = 1\n\n[folds]",
        r"\[portfolio\] limits what several symbols hold together, and there is one: leave it out",
    ),
    "shared limits that no trade meets": (
        'symbols = ["BTCUSDT"]',
        'symbols = ["BTCUSDT", "ETHUSDT"]\nportfolio = {max_total_notional_usdt = 100.0}',
        "max_total_notional_usdt 100 is under the notional of one trade .* raise it",
    ),
    "a misspelt key": ("capital_usdt = 1000.0", "capital_usd = 1000.0", "did you mean capital_usdt"),
    "a strategy that there is not": ('strategy = "momentum"', 'strategy = "momentun"', "there are .*'momentum'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_sweep_is_refused_and_told_what_to_change(what, synthetic_lake, tmp_path):
    old, new, sentence = REFUSED[what]
    assert old in SMALL_SWEEP
    path = tmp_path / "bad.toml"
    path.write_text(SMALL_SWEEP.replace(old, new))
    result = CliRunner().invoke(
        cli, ["sweep", str(path), "--lake", str(synthetic_lake.root), "--runs", str(tmp_path / "runs")]
    )
    assert isinstance(result.exception, ValueError | LookupError), result.output
    assert re.search(sentence, str(result.exception), flags=re.DOTALL), result.exception
    assert not (tmp_path / "runs").exists()
