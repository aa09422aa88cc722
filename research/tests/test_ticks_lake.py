"""Tick resolution from the lake: what is a tick, when it was known, what both resolutions make of recorded ticks."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data import schema
from data.convert import import_path
from data.lake import Lake
from research.bars import BARS, Bars, build_bars, signal_bars
from research.engine import TradingConfig, assumptions, backtest, backtest_ticks, exec_ms_of, terms_of
from research.execution_bars import execution_bars
from research.order_settings import Costs, Orders
from research.recorded import Recorded, Substitutions, read_recorded
from research.resting import RestingEntry, resting_price
from research.resting_bars import lives_of, rested_in_bars
from research.ticks import Ticks, market_met, read_ticks, resolution_difference, rested, ticks_of
from research.trades import TRADES

MS = 1_000_000  # ns
NO_SUBSTITUTION = Substitutions()
START = datetime(2026, 1, 5, 6, tzinfo=UTC)
END = START + timedelta(hours=4)

BUSY = TradingConfig(
    strategy="momentum",
    symbol="BTCUSDT",
    params={
        "momentum_multiple": 0.2, "volatility_window_bars": 5, "volume_multiple": 0.5, "volume_window_bars": 10,
        "target_bps": 30, "stop_bps": 15, "activation_bps": 12, "activation_buffer_bps": 0.5, "callback_bps": 10,
        "target_gap_bps": 4, "max_spread_ticks": 10, "max_funding_bps": 5,
    },
    costs=Costs(taker_fee_bps=4.0, maker_fee_bps=2.0, slippage_bps=0.5, latency_ms=150),
    orders=Orders(notional_usdt=50.0, max_notional_usdt=200.0, entry_limit_ticks=20, cooldown_bars=1),
)  # fmt: skip


def bars_from(recorded: Recorded, like: Bars) -> Bars:
    """Bars of the same slots from other rows."""
    open_ms = like.frame["open_time"].dt.epoch("ms").to_numpy()
    signal = signal_bars(recorded, open_ms, interval="1m", tick_size=0.1, substitutions=NO_SUBSTITUTION)
    execution = execution_bars(signal, recorded, latency_ms=150, substitutions=NO_SUBSTITUTION)
    return replace(like, frame=signal.hstack(execution).select(list(BARS)))


@pytest.fixture(scope="module")
def built(synthetic_lake) -> tuple[Bars, Ticks]:
    """Bars and ticks of four hours."""
    bars = build_bars(synthetic_lake, "BTCUSDT", START, END, latency_ms=150, substitutions=NO_SUBSTITUTION)
    return bars, read_ticks(synthetic_lake, "BTCUSDT", START, END, substitutions=NO_SUBSTITUTION)


def test_a_trade_that_ended_knows_nothing_that_came_after_it(built, synthetic_lake):
    bars, ticks = built
    whole = backtest_ticks(BUSY, bars, ticks)
    assert whole.schema == TRADES and whole.height > 30
    recorded = read_recorded(synthetic_lake, "BTCUSDT", START, END, interval="1m")
    for minutes in (67, 131, 200):
        now = START + timedelta(minutes=minutes, seconds=17)
        cut = Recorded(**{table: _known_by(frame, now) for table, frame in vars(recorded).items()})
        seen = ticks_of(cut, interval="1m", substitutions=NO_SUBSTITUTION)
        trades = backtest_ticks(BUSY, _bars_from(cut, bars), seen)
        ended = (pl.col("exit_time") <= now) & (pl.col("reason") != "open")
        assert whole.filter(ended).height > 5
        assert_frame_equal(trades.filter(ended), whole.filter(ended), check_exact=True)


def _known_by(frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    names = [name for name in ("recv_time", "event_time", "open_time", "detected_time") if name in frame.columns]
    return frame.filter(pl.coalesce(names) <= now)


def _bars_from(recorded: Recorded, like: Bars) -> Bars:
    """Bars of the same slots from other rows."""
    open_ms = like.frame["open_time"].dt.epoch("ms").to_numpy()
    signal = signal_bars(recorded, open_ms, interval="1m", tick_size=0.1, substitutions=NO_SUBSTITUTION)
    execution = execution_bars(signal, recorded, latency_ms=150, substitutions=NO_SUBSTITUTION)
    return replace(like, frame=signal.hstack(execution).select(list(BARS)))


def test_ticks_come_in_the_order_they_became_known(built):
    _, seen = built
    assert len(seen.trade_ns) > 1_000
    assert all((np.diff(ns) >= 0).all() for ns in (seen.trade_ns, seen.quote_ns, seen.mark_ns, seen.funding_ms))
    assert START.replace(hour=8).timestamp() * 1e3 in seen.funding_ms


def test_an_open_trade_is_valued_when_the_run_ends(built):
    bars, seen = built
    held = backtest_ticks(BUSY, bars, seen).row(10, named=True)
    end_ms = round(held["exit_time"].timestamp() * 1e3) - 1
    trades = backtest_ticks(BUSY, bars, seen, end_ms=end_ms)
    last = trades.row(-1, named=True)
    assert (trades.height, last["trade_id"], last["reason"]) == (11, held["trade_id"], "open")
    assert round(last["exit_time"].timestamp() * 1e3) == end_ms - 1
    assert last["exit_price"] == seen.trade_price[np.searchsorted(seen.trade_ns, end_ms * MS, side="right") - 1]


def test_a_config_for_another_symbol_is_refused(built):
    with pytest.raises(ValueError, match="config is for BNBUSDT 1m, the bars are BTCUSDT 1m"):
        backtest_ticks(replace(BUSY, symbol="BNBUSDT"), *built)


def test_a_result_says_at_which_resolution_it_was_filled(built):
    bars, _ = built
    assert any("bar resolution" in sentence for sentence in assumptions(BUSY, bars))
    assert any("tick resolution" in sentence for sentence in assumptions(BUSY, bars, resolution="tick"))


def a_recording(**tables: pl.DataFrame) -> Ticks:
    return ticks_of(Recorded(**tables), interval="1m", substitutions=NO_SUBSTITUTION)


def rows(table: schema.Table, **columns) -> pl.DataFrame:
    return schema.conform(pl.DataFrame(columns, strict=False), table)


def test_a_tick_is_known_at_its_receipt_else_at_its_own_time():
    trades = rows(
        schema.TRADES,
        agg_trade_id=[1, 2, 3],
        event_time=[1_000, 2_000, 3_000],
        recv_time=[2_500 * MS + 7, None, 3_001 * MS],
        price=[10.0, 11.0, 12.0],
        is_ambiguous=[False, False, True],
    )
    seen = a_recording(trades=trades)
    assert (seen.trade_ns.tolist(), seen.trade_price.tolist()) == ([2_000 * MS, 2_500 * MS + 7], [11.0, 10.0])


def test_funding_costs_the_rate_times_the_mark_known_then_else_the_last_trade():
    funding = rows(schema.FUNDING, event_time=[500, 5_000, 5_000_000], funding_rate=[1e-4] * 3)
    trades = rows(schema.TRADES, agg_trade_id=[1, 2], event_time=[1_000, 4_999_000], price=[40_000.0, 20_000.0])
    marks = rows(schema.MARK_PRICE, event_time=[4_000, 6_000], mark_price=[30_000.0, 50_000.0])
    seen = a_recording(funding=funding, trades=trades, marks=marks)
    assert seen.funding_per_unit.tolist() == pytest.approx([math.nan, 3.0, 2.0], nan_ok=True)  # a mark is known for 1 h


def test_what_bar_resolution_hides_is_told_in_figures():
    def trade_list(**columns) -> pl.DataFrame:
        n_trades = len(columns["trade_id"])
        fixed = {"quantity": [2.0] * n_trades, "entry_price": [100.0] * n_trades}
        return pl.DataFrame(fixed | columns)

    bar = trade_list(trade_id=["a", "b", "c"], reason=["stop", "target", "stop"], net_pnl_usdt=[-1.0, 2.0, 3.0])
    tick = trade_list(trade_id=["b", "c", "d", "e"], reason=["trailing", "stop", "stop", "stop"])
    tick = tick.with_columns(net_pnl_usdt=pl.Series([1.0, 3.5, 0.0, 0.0]))
    assert resolution_difference(bar, tick) == {
        "Trades at bar resolution [n]": 3,
        "Trades at tick resolution [n]": 4,
        "Trades only at bar resolution [n]": 1,
        "Trades only at tick resolution [n]": 2,
        "Trades that another order ended [n]": 1,
        "Net PnL at bar resolution [USDT]": 4.0,
        "Net PnL at tick resolution [USDT]": 4.5,
        "Mean net difference per trade [USDT]": -0.25,
        "Mean net difference per trade [bps]": -12.5,
    }
    assert math.isnan(resolution_difference(bar.clear(), tick)["Mean net difference per trade [bps]"])


@pytest.fixture(scope="module")
def recorded(real_data, tmp_path_factory) -> tuple[TradingConfig, Bars, Ticks]:
    """A config that trades often, and what was recorded of BNBUSDT."""
    lake = Lake(tmp_path_factory.mktemp("recorded") / "lake", create=True)
    import_path(lake, real_data / "collector-2025-11-28", format="collector", symbol="BNBUSDT")
    first, last = lake.span("book_ticker", "BNBUSDT")
    import_path(
        lake, real_data / "exchangeInfo-response.json", format="exchange-info", symbol="BNBUSDT", effective=first
    )
    assumed = Substitutions(mark="last", funding_rate_bps=1.0, funding_interval_hours=8.0)
    often = {"momentum_multiple": 0, "volume_multiple": 0, "volatility_window_bars": 2, "volume_window_bars": 2}
    params = BUSY.params | often | {"stop_bps": 2, "target_bps": 13, "activation_bps": 9}
    config = replace(BUSY, symbol="BNBUSDT", interval="15s", substitutions=assumed, params=params)
    options = {"interval": "15s", "substitutions": assumed}
    bars = build_bars(lake, "BNBUSDT", first, last, latency_ms=150, **options)
    return config, bars, read_ticks(lake, "BNBUSDT", first, last, **options)


def test_on_recorded_ticks_both_resolutions_decide_the_same_rows(recorded):
    config, bars, ticks = recorded
    bar, tick = backtest(config, bars, min_coverage=0.0).trades, backtest_ticks(config, bars, ticks)
    difference = resolution_difference(bar, tick)
    assert difference["Trades at bar resolution [n]"] > 10
    assert difference["Trades only at bar resolution [n]"] == 0
    assert abs(difference["Mean net difference per trade [bps]"]) < 1.0


@pytest.mark.parametrize(("offset_bps", "lifetime_ms"), [(0.0, 90_000), (2.0, 90_000), (10.0, 300_000)])
def test_of_orders_that_rest_in_a_recorded_market_bars_fill_most_and_none_that_ticks_do_not(
    recorded, offset_bps, lifetime_ms
):
    config, bars, ticks = recorded
    resting = RestingEntry(offset_bps=offset_bps, lifetime_ms=lifetime_ms)
    terms = terms_of(config.costs, replace(config.orders, resting=resting), bars.instrument)
    exec_ms, market = exec_ms_of(bars), bars.market()
    met, lives, end_ms = market_met(market, exec_ms, ticks), lives_of(exec_ms, terms), int(exec_ms[-1]) + 1
    filled = {"bars": 0, "ticks": 0}
    rows = np.flatnonzero(market.can_enter & ~np.isnan(market.exec_open))
    for i, side in product(rows[(rows > 0) & (exec_ms[rows] + lifetime_ms < end_ms)], (1, -1)):
        limit = resting_price(side, market.bid[i], market.ask[i], terms)
        row, _ = rested_in_bars(side, limit, i, len(exec_ms), market, lives, terms.tick_size)
        passing, _ = rested(side, limit, i, met, terms, ticks, exec_ms, end_ms)
        filled["bars"] += row >= 0
        filled["ticks"] += passing >= 0
        assert passing >= 0 or row < 0, f"row {i}, side {side}"
    assert 0.8 * filled["ticks"] < filled["bars"] <= filled["ticks"] and filled["bars"] > 10, filled
