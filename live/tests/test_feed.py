from dataclasses import replace
from io import BytesIO

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from live import replay
from live.feed import BarClosed, ExecutionBar, ExecutionOpen, FeedEnded, Gap
from live.replay_rows import open_recording


@pytest.fixture
def rows(case):
    """A config and its bars: 60 to 300 rows, some of them gaps."""
    return next((config, bars) for config, bars in map(case, range(20)) if bars.frame["is_gap"].any())


def test_every_row_is_a_bar_or_gap_then_an_open_then_a_window(rows, recorded):
    config, bars = rows
    events = list(recorded(config, bars).events())
    assert sum(isinstance(event, (BarClosed, Gap)) for event in events) == bars.frame.height
    assert sum(isinstance(event, ExecutionOpen) for event in events) == bars.frame.height
    assert sum(isinstance(event, ExecutionBar) for event in events) == bars.frame.height
    assert [isinstance(event, FeedEnded) for event in events].index(True) == len(events) - 1


def test_the_next_bar_is_known_before_the_window_behind_a_row_is_over(rows, recorded):
    events = list(recorded(*rows).events())
    kinds = ["bar" if isinstance(event, (BarClosed, Gap)) else type(event).__name__ for event in events[:6]]
    assert kinds == ["bar", "ExecutionOpen", "bar", "ExecutionBar", "ExecutionOpen", "bar"]
    window = events[3]
    assert window.row == events[0].row and window.time_ms == events[4].time_ms


def test_gaps_are_gaps_and_bars_are_bars(rows, recorded):
    config, bars = rows
    slots = [event for event in recorded(config, bars).events() if isinstance(event, (BarClosed, Gap))]
    assert [isinstance(event, Gap) for event in slots] == bars.frame["is_gap"].to_list()
    assert [event.row.open_ms for event in slots] == bars.frame["open_time"].dt.epoch("ms").to_list()


def test_a_closed_bar_knows_nothing_of_the_market_after_it(rows, recorded):
    for event in recorded(*rows).events():
        if isinstance(event, BarClosed):
            later = ("exec_open", "exec_high", "exec_low", "exec_close", "mark_open", "exec_bid", "funding_per_unit")
            assert all(np.isnan(getattr(event.market, name)[0]) for name in later)


def test_an_open_knows_nothing_of_its_window(rows, recorded):
    for event in recorded(*rows).events():
        if isinstance(event, ExecutionOpen):
            later = ("exec_high", "exec_low", "exec_close", "mark_high", "mark_low", "funding_per_unit")
            assert all(np.isnan(getattr(event.market, name)[0]) for name in later)


def test_a_window_ends_where_the_next_begins_and_the_last_is_an_interval_long(rows, recorded):
    config, bars = rows
    windows = [event for event in recorded(config, bars).events() if isinstance(event, ExecutionBar)]
    exec_ms = bars.frame["exec_time"].dt.epoch("ms").to_list()
    assert [event.opened_ms for event in windows] == exec_ms
    assert [event.time_ms for event in windows] == [*exec_ms[1:], exec_ms[-1] + 60_000]


def test_market_values_arrive_with_every_bit(rows, recorded):
    config, bars = rows
    windows = [event for event in recorded(config, bars).events() if isinstance(event, ExecutionBar)]
    for name, column in bars.market()._asdict().items():
        arrived = np.concatenate([getattr(event.market, name) for event in windows])
        np.testing.assert_array_equal(arrived, column)


def test_feature_inputs_are_known_when_the_bar_is(rows, monkeypatch):
    config, bars = rows
    peeking = replace(replay.features.FEATURES["volume"], inputs=("exec_close",))
    monkeypatch.setitem(replay.features.FEATURES, "volume", peeking)
    with pytest.raises(ValueError, match=r"looks ahead: \['exec_close'\]"):
        replay.feature_inputs(config, bars)


def test_a_stream_that_ends_early_is_refused(rows):
    config, bars = rows
    short = BytesIO()
    replay.write_recording(config, bars, short)
    recording = open_recording(BytesIO(short.getvalue()))
    cut = replace(recording.header, rows=recording.header.rows + 1)
    with pytest.raises(ValueError, match=f"ended after {bars.frame.height} of {bars.frame.height + 1}"):
        list(replace(recording, header=cut).events())


def test_a_stream_of_something_else_is_refused():
    stream, table = BytesIO(), pa.table({"a": [1]})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"expected a stream written by live\.replay"):
        open_recording(BytesIO(stream.getvalue()))


def test_no_rows_are_said_to_be_none(rows, recorded):
    config, bars = rows
    with pytest.raises(LookupError, match="the range to replay is empty"):
        list(recorded(config, replace(bars, frame=bars.frame.filter(pl.lit(False)))).events())
