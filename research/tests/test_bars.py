"""Bars that are built from a lake, and what stands in for what it does not hold."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.convert import import_path
from data.lake import Lake
from research.bars import BARS, Bars, Recorded, Substitutions, build_bars
from research.tests.recorded_rows import MINUTE, NOON, gaps, instruments, klines, marks, quotes

NO_SUBSTITUTION = Substitutions()


def test_one_recorded_row_switches_its_substitution_off():
    assumed = Substitutions(spread_ticks=2.0, mark="last", funding_rate_bps=1.0)
    seen = marks([(0, 100.0)], funding_rate=[0.0001])
    assert assumed.in_effect(Recorded(quotes=quotes([(0, 1.0, 2.0)]), marks=seen)) == NO_SUBSTITUTION
    assert assumed.in_effect(Recorded(marks=marks([(0, 100.0)]))) == Substitutions(
        spread_ticks=2.0, funding_rate_bps=1.0
    )
    assert assumed.in_effect(Recorded()) == assumed


@pytest.mark.parametrize("wrong", [{"spread_ticks": -1.0}, {"mark": "index"}, {"funding_interval_hours": 5.0}])
def test_a_substitution_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Substitutions(**wrong)


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("klines", klines({minute: 100.0 + minute for minute in range(10)}), origin="test")
    lake.append("instruments", instruments(), origin="test")
    return lake


def minute(number: int) -> datetime:
    return datetime.fromtimestamp((NOON + number * MINUTE) / 1000, tz=UTC)


def built(lake: Lake, first: int, last: int, substitutions: Substitutions = NO_SUBSTITUTION, **options) -> Bars:
    return build_bars(
        lake, "BNBUSDT", minute(first), minute(last), latency_ms=200, substitutions=substitutions, **options
    )


def test_bars_hold_one_row_per_minute_and_the_arrays_fills_need(lake):
    bars = built(lake, 0, 5)
    assert bars.frame.schema == BARS
    assert bars.frame["close"].to_list() == [100.0, 101.0, 102.0, 103.0, 104.0]
    assert bars.frame["exec_open"].to_list() == [101.0, 102.0, 103.0, 104.0, 105.0]
    market = bars.market()
    assert all(len(values) == 5 and values.flags["C_CONTIGUOUS"] for values in market)
    assert market.can_enter.dtype == bool and market.close.dtype == np.float64


def test_only_gaps_of_this_symbols_klines_of_this_interval_count(lake):
    told = gaps([("a", "unrepairable", 1, 3, 200_000)] * 4).with_columns(
        gap_id=pl.Series(["a", "b", "c", "d"]),
        venue=pl.lit("aster"),
        symbol=pl.Series(["BNBUSDT", "BNBUSDT", "BTCUSDT", "BNBUSDT"]),
        table=pl.Series(["trades", "klines", "klines", "klines"]),
        interval=pl.Series([None, "5m", "1m", "1m"]),
    )
    lake.append("gaps", told.head(3), origin="others")
    assert built(lake, 0, 4).frame["is_gap"].to_list() == [False] * 4
    lake.append("gaps", told.tail(1), origin="ours")
    assert built(lake, 0, 4).frame["is_gap"].to_list() == [False, False, True, False]


def test_a_row_does_not_depend_on_the_range_asked_for(lake):
    assert_frame_equal(built(lake, 0, 8).frame[3:6], built(lake, 3, 6).frame)


def test_the_last_row_knows_that_trading_ended_before_its_order_could_leave(lake):
    lake.append("instruments", instruments({5 * MINUTE + 1_000: "SETTLING"}), origin="test")
    assert_frame_equal(built(lake, 0, 8).frame[:5], built(lake, 0, 5).frame)


def test_the_window_of_the_last_row_is_seen_whatever_the_latency(lake):
    whole, cut = (
        build_bars(lake, "BNBUSDT", minute(0), minute(end), latency_ms=57_000, substitutions=NO_SUBSTITUTION)
        for end in (8, 5)
    )
    assert whole.frame["exec_open"][4] == 106.0  # it arrives as the minute after next opens
    assert_frame_equal(whole.frame[:5], cut.frame)


def test_results_print_what_was_assumed(lake):
    assert built(lake, 0, 5).substituted == ("no funding recorded: none is paid",)
    assumed = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=1.0)
    assert built(lake, 0, 5, assumed).substituted == (
        "no quotes recorded: spread of 1 tick assumed",
        "no mark recorded: the last price taken for mark and index",
        "no funding recorded: 1 bps every 8 h assumed",
    )


def test_a_range_without_bars_names_what_the_lake_holds(lake):
    message = (
        r"no klines or trades for BNBUSDT from 2025-11-28 14:00 .*: the lake has 2025-11-28 12:00 to 2025-11-28 12:09"
    )
    with pytest.raises(LookupError, match=message):
        built(lake, 120, 125)


def test_an_empty_range_and_a_time_without_zone_are_refused(lake):
    with pytest.raises(ValueError, match="no 1m slot opens"):
        built(lake, 5, 5)
    with pytest.raises(ValueError, match="no time zone"):
        build_bars(lake, "BNBUSDT", datetime(2025, 11, 28), minute(5), latency_ms=0, substitutions=NO_SUBSTITUTION)
    with pytest.raises(ValueError, match="such as 1m or 4h, got '1x'"):
        built(lake, 0, 5, interval="1x")


def test_a_tick_size_that_changes_inside_the_range_is_refused(lake):
    lake.append("instruments", instruments({5 * MINUTE: "TRADING"}, tick_size=0.01), origin="test")
    assert built(lake, 0, 5).instrument["tick_size"] == 0.1
    assert built(lake, 5, 8).instrument["tick_size"] == 0.01
    with pytest.raises(ValueError, match=r"tick_size of BNBUSDT changes from 0.1 to 0.01 at 2025-11-28 12:05"):
        built(lake, 0, 8)


def test_funding_without_an_interval_is_refused(lake):
    lake.append("instruments", instruments({60 * MINUTE: "TRADING"}, funding_interval_hours=None), origin="test")
    lake.append("klines", klines({61: 100.0}), origin="test")
    with pytest.raises(ValueError, match="needs funding_interval_hours"):
        built(lake, 60, 65, Substitutions(funding_rate_bps=1.0))


def test_recorded_klines_become_bars_that_execute_at_the_next_open(real_data, tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    import_path(lake, real_data / "klines" / "aster_BNBUSDT_1m.parquet", format="klines")
    start, end = datetime(2025, 11, 18, 0, 52, tzinfo=UTC), datetime(2025, 11, 29, 11, 2, tzinfo=UTC)
    import_path(
        lake, real_data / "exchangeInfo-response.json", format="exchange-info", symbol="BNBUSDT", effective=start
    )
    assumed = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=1.0, funding_interval_hours=8.0)
    bars = build_bars(lake, "BNBUSDT", start, end, latency_ms=200, substitutions=assumed)
    assert len(bars.frame) == 16_450
    assert bars.frame["can_enter"].all()
    assert bars.frame["exec_open"][:-1].to_list() == bars.frame["open"][1:].to_list()
    assert bars.frame["exec_mark_low"][:-1].to_list() == bars.frame["low"][1:].to_list()
    assert (bars.frame["funding_per_unit"] > 0.0).sum() == 34  # three a day
