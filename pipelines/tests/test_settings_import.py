"""Settings of the prior systems become sweeps: their own examples, pasted from their documents and files."""

import json
import tomllib

import pytest
import tomli_w
from click.testing import CliRunner

from data.config import load
from pipelines.cli import cli
from pipelines.identity import CHECKOUT
from pipelines.settings_import import import_settings
from research.strategies import liquidation_fade
from research.sweep_config import SweepConfig

LIKE = CHECKOUT / "pipelines" / "sweeps" / "bnbusdt_momentum.toml"
HUNT = CHECKOUT / "pipelines" / "sweeps" / "solusdt_okx_hunt.toml"

SETTINGS = """\
{
  "globals": {
    "volume_window_sec": 60,        // Time window for volume calculation
    "simulate_only": false,         // Enable simulation mode
    "multi_assets_mode": true,      // Use multi-assets margin
    "hedge_mode": true,            // Enable hedge mode
    "order_ttl_seconds": 30,       // Order time-to-live
    "max_open_orders_per_symbol": 5,
    "max_total_exposure_usdt": 1000.0
  },
  "symbols": {
    "BTCUSDT": {
      "volume_threshold": 20000,     // USDT volume trigger threshold
      "leverage": 10,                // Trading leverage
      "trade_value_usdt": 100,      // Position size in USDT
      "price_offset_pct": 0.1,      // Entry price offset from market
      "take_profit_pct": 2.0,       // Take profit percentage
      "stop_loss_pct": 1.0,         // Stop loss percentage
      "max_position_usdt": 1000     // Maximum position size
    }
  }
}
"""
CURRENT = """\
{
  "BTCUSDT": {
    "k": 2.0, "T": 60, "n": 2.0, "V": 10, "tp_bps": 70.0, "sl_bps": 25.0, "activation_bps": 15.0,
    "activation_buffer_bps": 0.5, "callback_bps": 6.0, "min_tp_gap_bps": 4.0, "spread_max": 0.2, "funding_max": 1.5
  },
  "BNBUSDT": {
    "k": 1.6, "T": 60, "n": 2.0, "V": 10, "tp_bps": 70.0, "sl_bps": 25.0, "activation_bps": 35.0,
    "activation_buffer_bps": 0.5, "callback_bps": 6.0, "min_tp_gap_bps": 4.0, "spread_max": 0.2, "funding_max": 1.5
  }
}
"""
GRID = """\
{
  "inputs_csv": "./backtest/backtest_inputs.csv",
  "output_dir": "./backtest/results",
  "fee_bps": 5.0,
  "slippage_bps": 0.0,
  "symbols": {
    "BTCUSDT": {
      "params": {
        "k": [1.2, 1.6, 2.0], "T": [10, 30, 60], "n": [1.2, 1.6, 2.0], "V": [10, 30, 60],
        "tp_bps": [150, 200, 250], "sl_bps": [25, 50, 75], "activation_bps": [50, 75, 100],
        "activation_buffer_bps": [0.5], "callback_bps": [5, 10, 15], "min_tp_gap_bps": [4],
        "spread_max": [0.2], "funding_max": [1.5]
      }
    }
  }
}
"""
SAMPLES = {"settings": SETTINGS, "config": CURRENT, "grid": GRID}


@pytest.fixture
def carry(tmp_path):
    """Import a text as settings of a format; the sweeps by symbol, and the notes."""

    def carried(text, format, like=LIKE):
        (tmp_path / "theirs.json").write_text(text)
        told = import_settings(tmp_path / "theirs.json", format=format, like=like, out=tmp_path / "ours")
        sweeps = {file.stem: load(SweepConfig, file) for file in told.files if file.name != "risk.toml"}
        return sweeps, told.notes

    return carried


def test_a_grid_is_003s_with_callbacks_that_the_exchange_takes(carry):
    sweeps, notes = carry(GRID, "grid")
    config, like = sweeps["btcusdt"], load(SweepConfig, LIKE)
    assert config.symbols == ("BTCUSDT",) and config.strategy == "momentum"
    assert config.grid == like.grid | {"callback_bps": (10, 15)}
    assert (config.costs.taker_fee_bps, config.costs.slippage_bps) == (5.0, 0.0)  # the file's own
    assert (config.costs.latency_ms, config.folds, config.end) == (like.costs.latency_ms, like.folds, like.end)
    assert "BTCUSDT callback_bps [5.0, 10.0, 15.0]: [10.0, 15.0]" in notes[2]
    assert [note.split(":")[0] for note in notes[:2]] == ["inputs_csv", "output_dir"]


def test_every_symbol_of_a_runtime_config_is_a_sweep_of_one_config(carry):
    sweeps, notes = carry(CURRENT, "config")
    assert [(name, config.n_configs) for name, config in sweeps.items()] == [("btcusdt", 1), ("bnbusdt", 1)]
    assert sweeps["btcusdt"].grid["momentum_multiple"] == (2.0,)
    assert sweeps["bnbusdt"].grid["activation_bps"] == (35.0,)
    assert sweeps["bnbusdt"].grid["max_spread_ticks"] == (2.0,)
    assert any(note.startswith("BNBUSDT spread_max [0.2]: max_spread_ticks 2") for note in notes)


def test_the_hunters_settings_give_size_exits_and_limits(carry, tmp_path):
    sweeps, notes = carry(SETTINGS, "settings")
    orders, grid = sweeps["btcusdt"].orders, sweeps["btcusdt"].grid
    assert (orders.notional_usdt, orders.leverage, orders.max_notional_usdt) == (1_000.0, 10.0, 1_000.0)
    assert (grid["target_bps"], grid["stop_bps"]) == ((200.0,), (100.0,))
    assert tomllib.loads((tmp_path / "ours" / "risk.toml").read_text()) == {
        "entries": {
            "max_symbol_notional_usdt": 1_000.0,
            "max_total_notional_usdt": 1_000.0,
            "max_open_orders_per_symbol": 5,
        }
    }
    left = "BTCUSDT volume_threshold, volume_window_sec: not carried over; a sweep of liquidation_fade asks for it"
    assert any(note.startswith(left) for note in notes)


def test_the_hunters_rule_is_carried_into_a_sweep_of_the_strategy_that_has_it(carry, tmp_path):
    fade = tomllib.loads(LIKE.read_text()) | {"strategy": "liquidation_fade", "grid": liquidation_fade.GRID}
    (tmp_path / "fade.toml").write_text(tomli_w.dumps(fade))
    sweeps, notes = carry(SETTINGS, "settings", tmp_path / "fade.toml")
    grid = sweeps["btcusdt"].grid
    assert (grid["min_usdt"], grid["forced_window_bars"]) == ((20_000.0,), (1,))  # 60 s are a bar of 1m
    assert (grid["target_bps"], grid["stop_bps"]) == ((200.0,), (100.0,))
    assert not any("volume_" in note for note in notes)


def test_a_strategy_that_places_its_own_exits_keeps_them(carry):
    sweeps, notes = carry(SETTINGS, "settings", HUNT)
    assert "stop_bps" not in sweeps["btcusdt"].grid
    assert "BTCUSDT stop_loss_pct 1: not carried over; liquidation_hunt places its own" in notes


@pytest.mark.parametrize("format", SAMPLES)
def test_an_unknown_key_is_refused_by_name_and_nothing_is_written(carry, tmp_path, format):
    key = {"settings": "leverage", "config": "sl_bps", "grid": "sl_bps"}[format]
    with pytest.raises(ValueError, match=rf"BTCUSDT.*unknown key '{key}x'; did you mean {key}\?"):
        carry(SAMPLES[format].replace(f'"{key}"', f'"{key}x"'), format)
    assert not (tmp_path / "ours").exists()


def test_what_a_person_may_have_edited_is_not_replaced(carry):
    carry(GRID, "grid")
    with pytest.raises(FileExistsError, match=r"btcusdt\.toml would be replaced: move it away"):
        carry(GRID, "grid")


def test_the_command_asks_for_what_settings_do_not_say(tmp_path):
    (tmp_path / "theirs.json").write_text(GRID)
    command = ["import", str(tmp_path / "theirs.json"), "--format", "grid", "--json"]
    assert "expected --like SWEEP.toml" in str(CliRunner().invoke(cli, command).exception)
    done = CliRunner().invoke(cli, [*command, "--like", str(LIKE), "--out", str(tmp_path / "ours")])
    assert json.loads(done.stdout)["files"] == [str(tmp_path / "ours" / "btcusdt.toml")]


@pytest.mark.parametrize("format", SAMPLES)
@pytest.mark.parametrize("text", ["[]", "5", '{"BTCUSDT": 5}'])
def test_what_is_no_file_of_settings_is_refused_in_a_sentence(carry, format, text):
    with pytest.raises(ValueError, match=r"theirs\.json.*(expected a table of keys|unknown key)"):
        carry(text, format)


@pytest.mark.parametrize(("format", "text"), [("config", "{}"), ("grid", '{"symbols": {}}')])
def test_a_file_without_a_symbol_is_refused(carry, format, text):
    with pytest.raises(ValueError, match=r"theirs\.json: expected at least one symbol"):
        carry(text, format)


def test_a_file_that_is_no_sweep_is_refused_as_like_by_its_name(carry, tmp_path):
    for name, text in (("nightly.toml", 'symbols = ["BTCUSDT"]'), ("mine.json", "{}")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{name}"):
            carry(SETTINGS, "settings", tmp_path / name)


def test_exits_that_were_off_and_a_value_without_leverage_are_told(carry):
    off = SETTINGS.replace('"leverage": 10,', '"take_profit_enabled": false,')
    sweeps, notes = carry(off, "settings")
    like = load(SweepConfig, LIKE)
    assert sweeps["btcusdt"].grid["target_bps"] == like.grid["target_bps"]
    assert sweeps["btcusdt"].orders.notional_usdt == like.orders.notional_usdt
    assert any(note.startswith("BTCUSDT take_profit_enabled: not carried over; ") for note in notes)
    assert any(note.startswith("BTCUSDT trade_value_usdt: not carried over; ") for note in notes)


@pytest.mark.parametrize(("window_s", "bars"), [(90, 2), (20, 1)])
def test_a_window_that_is_not_whole_bars_is_told_with_what_it_became(carry, tmp_path, window_s, bars):
    fade = tomllib.loads(LIKE.read_text()) | {"strategy": "liquidation_fade", "grid": liquidation_fade.GRID}
    (tmp_path / "fade.toml").write_text(tomli_w.dumps(fade))
    text = SETTINGS.replace('"volume_window_sec": 60', f'"volume_window_sec": {window_s}')
    sweeps, notes = carry(text, "settings", tmp_path / "fade.toml")
    assert sweeps["btcusdt"].grid["forced_window_bars"] == (bars,)
    assert any(note.startswith(f"BTCUSDT volume_window_sec {window_s}: {bars * 60} s, ") for note in notes)
