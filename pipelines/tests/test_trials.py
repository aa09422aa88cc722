"""The lake remembers every search and every holdout that was opened."""

import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from data.config import load
from data.lake import Lake
from pipelines.trials import count_trials, opened, searches_before
from research.sweep import SweepConfig

DAY = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def config(sweep_toml) -> SweepConfig:
    return load(SweepConfig, sweep_toml, sweep_toml.name)


def bars(days: int):
    """As much of the bars as the ledger looks at: a row a day, from the fifth of January on."""
    open_time = pl.datetime_range(DAY, DAY.replace(day=4 + days), "1d", time_zone="UTC", eager=True)
    close_time = pl.datetime_range(DAY.replace(day=6), DAY.replace(day=5 + days), "1d", time_zone="UTC", eager=True)
    return SimpleNamespace(symbol="BTCUSDT", frame=pl.DataFrame({"open_time": open_time, "close_time": close_time}))


RESULTS = pl.DataFrame({"in_sample_sharpe": [0.0, 2.0, 4.0]})


def test_the_same_search_again_does_not_count_twice(lake, config):
    first = count_trials(lake, config, bars(3), RESULTS, "one")
    again = count_trials(lake, config, bars(3), RESULTS, "two")
    assert (first.earlier, first.total) == (again.earlier, again.total) == (0, 3)
    assert lake.scan("trials")["run"].to_list() == ["one"]


def test_another_grid_on_the_same_days_counts_what_was_tried_before(lake, config):
    count_trials(lake, config, bars(3), RESULTS, "one")
    other = dataclasses.replace(config, grid={**config.grid, "stop_bps": (30, 40)})
    later = count_trials(lake, other, bars(2), pl.concat([RESULTS, RESULTS]), "two")
    assert (later.earlier, later.total) == (3, 9)
    assert later.variance == pytest.approx((4.0 * 3 + 3.2 * 6) / 9)
    assert count_trials(lake, config, bars(3), RESULTS, "three").earlier == 0  # it came first


def test_other_days_and_other_symbols_are_other_data(lake, config):
    count_trials(lake, config, bars(3), RESULTS, "one")
    elsewhere = SimpleNamespace(symbol="ETHUSDT", frame=bars(3).frame)
    later = SimpleNamespace(symbol="BTCUSDT", frame=bars(6).frame[3:])
    assert count_trials(lake, config, elsewhere, RESULTS, "two").total == 3
    assert count_trials(lake, config, later, RESULTS, "three").total == 3


def test_a_second_config_is_the_second_opening_and_the_same_one_again_is_not(lake):
    seen = {"symbol": "BTCUSDT", "start": DAY, "end": DAY.replace(day=7)}
    days = {**seen, "run": "one", "net_pnl_usdt": 1.0, "trades": 4}
    first, when = opened(lake, config="aaa", **days)
    second, _ = opened(lake, config="bbb", **days)
    again, then = opened(lake, config="aaa", **days)
    assert (first, second, again) == (1, 2, 1)
    assert when == then
    assert lake.scan("holdouts")["opened_by"].str.contains("@").all()


def test_a_search_has_seen_the_days_that_it_ran_over_from_then_on(lake, config):
    began = datetime.now(UTC)
    count_trials(lake, config, bars(3), RESULTS, "one")
    now = datetime.now(UTC) + timedelta(seconds=1)
    days = {"symbol": "BTCUSDT", "start": DAY.replace(day=7), "end": DAY.replace(day=9)}
    assert searches_before(lake, now, **days) == 1
    assert searches_before(lake, began, **days) == 0
    assert searches_before(lake, now, **{**days, "start": DAY.replace(day=8)}) == 0  # where the search ended
    assert searches_before(lake, now, **{**days, "symbol": "ETHUSDT"}) == 0
