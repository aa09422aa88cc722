"""What a runner makes of a stream, one message after the other, is what the lake sealed from it holds, bit for bit."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.lake import Lake
from data.sealer import seal_folder
from data.wal import Log
from live import dispatch
from live.desk import Desk
from live.dispatch import first_open_ms, walk
from live.feed import KNOWN_AT_CLOSE, KNOWN_AT_END, KNOWN_AT_OPEN, BarClosed, ExecutionBar, ExecutionOpen, Gap
from live.journal import Journal
from live.journal_trades import trades
from live.tests.random_stream import SYMBOL, random_log
from research.bars import SIGNAL, build_bars
from research.engine import backtest, backtest_ticks
from research.recorded import Substitutions
from research.resting import RestingEntry
from research.ticks import read_ticks

START_MS = 1_780_000_017_345
SLOTS = 40
NUMBERS = tuple(name for name, dtype in SIGNAL.items() if dtype == pl.Float64)


@pytest.fixture
def heard(config, tmp_path, monkeypatch):
    """Walk a random log: ``feed, events, trades, bars, ticks = heard(seed, "tick")``, the last two of its lake."""
    events = []
    handle = Desk.handle
    monkeypatch.setattr(dispatch, "input_names", lambda config: NUMBERS)
    monkeypatch.setattr(
        Desk, "handle", lambda desk, event, journal: (events.append(event), handle(desk, event, journal))
    )

    def walked(seed: int, resolution: str, resting: RestingEntry | None = None):
        latency_ms, reach_bps = [0, 150, 2_000][seed % 3], [20.0, 100.0][seed % 2]
        traded = config(
            momentum_multiple=0.1, volume_multiple=0.1, volatility_window_bars=3, volume_window_bars=3,
            max_spread_ticks=100.0, max_funding_bps=50.0, entry_limit_ticks=100, cooldown_bars=seed % 2,
            stop_bps=reach_bps, target_bps=reach_bps, activation_bps=reach_bps / 2, taker_fee_bps=0.4,
            latency_ms=latency_ms, substitutions=Substitutions(funding_interval_hours=8.0), resting=resting,
        )  # fmt: skip
        records = random_log(
            seed, traded, slots=SLOTS, start_ms=START_MS, resolution=resolution,
            first_ms=first_open_ms(traded, START_MS - 10_000),
        )  # fmt: skip
        folder, path = tmp_path / f"{seed}.feed", tmp_path / f"{seed}.sqlite"
        with Log(folder) as log:
            for record in records:
                log.write(*record)
        events.clear()
        with Journal(path) as journal:
            feed = walk([traded], folder, journal).seats[0].feed
        lake = Lake(tmp_path / f"{seed}.lake", create=True)
        seal_folder(folder, lake, keep=True)
        start, end = (datetime.fromtimestamp(ms / 1_000, UTC) for ms in (feed.first_ms, feed.told_until_ms))
        given = {"latency_ms": latency_ms, "substitutions": traded.substitutions}
        bars = build_bars(lake, SYMBOL, start, end, **given)
        ticks = read_ticks(lake, SYMBOL, start, end, substitutions=traded.substitutions)
        listed = trades(path, traded.config_hash, SYMBOL)
        if resolution == "tick":
            expected = backtest_ticks(traded, bars, ticks, end_ms=feed.ended_ms)
        else:
            expected = backtest(traded, bars, last=bars.frame.height - 1, min_coverage=0.0).trades
        assert_frame_equal(listed, expected, check_exact=True)
        return feed, list(events), listed, bars, ticks

    return walked


def assert_same_rows(events, bars) -> None:
    """Every slot once, in order, as a bar or a gap, with the numbers of its row."""
    told = [event for event in events if isinstance(event, (BarClosed, Gap))]
    frame, market = bars.frame, bars.market()
    assert [event.row.open_ms for event in told] == frame["open_time"].dt.epoch("ms").to_list()
    assert [event.time_ms for event in told] == frame["avail_time"].dt.epoch("ms").to_list()
    assert [isinstance(event, Gap) for event in told] == frame["is_gap"].to_list()
    np.testing.assert_array_equal([event.inputs for event in told], frame.select(NUMBERS).to_numpy())
    for i, event in enumerate(told):
        if isinstance(event, BarClosed):
            assert_same_market(event.market, market, i, KNOWN_AT_CLOSE)


def assert_same_market(known, market, i, names) -> None:
    for name in market._fields:
        expected = getattr(market, name)[i] if name in names else np.nan
        np.testing.assert_array_equal(getattr(known, name)[0], expected, err_msg=f"{name} of row {i}")


def test_at_tick_resolution_rows_and_trades_are_those_of_the_lake(heard):
    frames, found = [], []
    for seed in range(4):
        feed, events, listed, bars, ticks = heard(seed, "tick")
        assert_same_rows(events, bars)
        assert feed.bars + feed.gaps == bars.frame.height
        ends_ms = bars.frame.filter("is_gap")["open_time"].dt.epoch("ms") + feed.length_ms
        assert (feed.gaps, feed.past_gaps) == (ends_ms.len(), (ends_ms <= feed._since_ms).sum())
        assert_orders_meet_the_last_tick(events, bars, ticks)
        frames.append(bars.frame)
        found.append(listed)
    assert_bad_enough(pl.concat(frames), pl.concat(found))


def test_entries_that_rest_are_filled_and_expire_as_in_the_lake(heard):
    _, _, listed, bars, _ = heard(20, "tick", RestingEntry(offset_bps=-1.0, lifetime_ms=90_000))
    exec_ms = dict(zip(bars.frame["open_time"], bars.frame["exec_time"], strict=True))
    assert len(listed)
    assert all(trade["entry_time"] > exec_ms[trade["entry_row_time"]] for trade in listed.iter_rows(named=True))


def assert_orders_meet_the_last_tick(events, bars, ticks) -> None:
    market, exec_ms = bars.market(), bars.frame["exec_time"].dt.epoch("ms").to_numpy()
    known = np.searchsorted(ticks.trade_ns, exec_ms * 1_000_000, side="right") - 1
    met = market._replace(exec_open=np.append(ticks.trade_price, np.nan)[known])
    opened = [event for event in events if isinstance(event, ExecutionOpen)]
    assert len(opened) >= bars.frame.height - 3  # the last orders were still under way
    for i, event in enumerate(opened):
        assert event.time_ms == exec_ms[i]
        assert_same_market(event.market, met, i, KNOWN_AT_OPEN - {"mark_open"})


def test_at_bar_resolution_rows_windows_and_trades_are_those_of_the_lake(heard):
    frames, found = [], []
    for seed in range(8, 11):
        _, events, listed, bars, _ = heard(seed, "bar")
        assert_same_rows(events, bars)
        assert_same_windows(events, bars)
        frames.append(bars.frame)
        found.append(listed)
    assert_bad_enough(pl.concat(frames), pl.concat(found))


def assert_same_windows(events, bars) -> None:
    market, exec_ms = bars.market(), bars.frame["exec_time"].dt.epoch("ms").to_list()
    opened = [event for event in events if isinstance(event, ExecutionOpen)]
    windows = [event for event in events if isinstance(event, ExecutionBar)]
    assert len(opened) == len(windows) == bars.frame.height - 1 > SLOTS // 2
    for i, (opening, window) in enumerate(zip(opened, windows, strict=True)):
        assert (opening.time_ms, window.opened_ms) == (exec_ms[i], exec_ms[i])
        assert_same_market(opening.market, market, i, KNOWN_AT_OPEN)
        assert_same_market(window.market, market, i, KNOWN_AT_END)
    assert [window.time_ms for window in windows] == exec_ms[1:]


def assert_bad_enough(frame, listed) -> None:
    """The streams did what real ones do rarely, and were traded on."""
    late_ms = (frame["avail_time"] - frame["close_time"]).dt.total_milliseconds()
    assert frame["is_gap"].any() and (late_ms > 60_000).any() and frame["avail_time"].is_duplicated().any()
    assert listed.height > 15 and {"stop", "target", "trailing"} <= set(listed["reason"])
    assert (listed["funding_usdt"] != 0.0).any()
