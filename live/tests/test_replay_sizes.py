"""Sizes by risk and by open interest, a daily limit, liquidation: a replay trades what the backtest trades."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from live.config import load_chosen
from live.journal_trades import trades
from live.trading_rules import input_names
from research import engine
from research.engine import TradingConfig
from research.sizing import OpenInterestSize

SIZED = {
    "risk": {"risk_usdt": 0.4, "leverage": 3.0},
    "open interest": {"open_interest_size": OpenInterestSize()},
    "a daily limit": {"max_daily_loss_usdt": 0.5},
    "both": {"risk_usdt": 0.4, "open_interest_size": OpenInterestSize(small_multiple=0.2)},
}
SEEDS = (1, 3, 4, 7)
OI = ("open_interest_usdt", "long_short_ratio")


def sized(config: TradingConfig, **orders) -> TradingConfig:
    return replace(config, orders=replace(config.orders, **orders))


def backtest(config: TradingConfig, bars) -> pl.DataFrame:
    return engine.backtest(config, bars, min_coverage=0.0).trades


def with_open_interest(bars, usdt: pl.Expr):
    return replace(bars, frame=bars.frame.with_columns(open_interest_usdt=usdt))


@pytest.mark.parametrize("orders", SIZED.values(), ids=SIZED)
def test_a_replay_trades_what_the_backtest_trades(orders, case, replayed, tmp_path):
    listed = []
    for seed in SEEDS:
        config, bars = case(seed)
        config = sized(config, **orders)
        path, _ = replayed((config, bars), path=tmp_path / f"{seed}.sqlite")
        found = trades(path, config.config_hash, config.symbol)
        assert_frame_equal(found, backtest(config, bars), check_exact=True)
        listed.append(found)
    found = pl.concat(listed)
    assert found.height > 15 and found["quantity"].n_unique() > 10


def test_a_replay_is_liquidated_where_the_backtest_is(case, replayed, tmp_path):
    bracket = {"notional_floor_usdt": 0.0, "notional_cap_usdt": 1e9, "max_leverage": 500.0,
               "maintenance_margin_rate": 0.0005, "maintenance_amount_usdt": 0.0}  # fmt: skip
    reasons = set()
    for seed in SEEDS:
        config, bars = case(seed)
        config, bars = (
            sized(config, leverage=500.0),
            replace(bars, instrument=bars.instrument | {"brackets": [bracket]}),
        )
        path, _ = replayed((config, bars), path=tmp_path / f"{seed}.sqlite")
        found = trades(path, config.config_hash, config.symbol)
        assert_frame_equal(found, backtest(config, bars), check_exact=True)
        reasons |= set(found["reason"])
    assert reasons >= {"liquidation", "stop"}


def test_with_every_multiple_one_the_trades_are_those_of_a_fixed_notional(case):
    ones = OpenInterestSize(large_multiple=1.0, small_multiple=1.0, against_crowd_multiple=1.0)
    listed = []
    for seed in SEEDS:
        fixed, bars = case(seed)
        seen = with_open_interest(bars, pl.col("open_interest_usdt").fill_nan(2e9))
        found = backtest(sized(fixed, open_interest_size=ones), seen)
        listed.append(found)
        # A trade is named for its config, which is another.
        assert_frame_equal(found.drop("trade_id"), backtest(fixed, seen).drop("trade_id"), check_exact=True)
    assert pl.concat(listed).height > 15


def test_where_the_open_interest_is_not_known_nothing_enters(case, replayed):
    fixed, bars = case(1)
    config, blind = sized(fixed, open_interest_size=OpenInterestSize()), with_open_interest(bars, pl.lit(float("nan")))
    assert backtest(fixed, bars).height > 0
    assert backtest(config, blind).is_empty()
    path, _ = replayed((config, blind))
    assert trades(path, config.config_hash, config.symbol).is_empty()


def test_what_a_size_is_made_of_reaches_the_runner_only_where_it_is_asked_for(config):
    assert not set(OI) & set(input_names(config()))
    assert set(OI) < set(input_names(sized(config(), open_interest_size=OpenInterestSize())))


@pytest.mark.parametrize("orders", SIZED.values(), ids=SIZED)
def test_a_promoted_size_is_read_back(orders, config, promoted):
    chosen = sized(config(), **orders)
    assert load_chosen(promoted(chosen)).config == chosen
    assert chosen.config_hash != config().config_hash


def test_a_config_without_a_size_of_its_own_keeps_the_hash_it_had_before_there_were_any(config):
    assert config().config_hash.startswith("837e35129a76427a")


def test_a_size_in_whole_numbers_is_the_size_in_floats(config):
    whole, floats = OpenInterestSize(large_usdt=5_000_000_000), OpenInterestSize(large_usdt=5e9)
    hashes = {sized(config(), open_interest_size=size).config_hash for size in (whole, floats)}
    assert len(hashes) == 1


def test_a_risk_whose_margin_carries_less_than_the_exchange_takes_is_refused(case):
    config, bars = case(1)
    poor = sized(config, notional_usdt=2.0, risk_usdt=1.0, leverage=2.0)
    with pytest.raises(ValueError, match=r"notional_usdt 2 times leverage 2, .* under the exchange's minimum"):
        backtest(poor, replace(bars, instrument={**bars.instrument, "min_notional_usdt": 5.0}))
