"""What a signal bar holds, when it is known, and when it is a gap."""

import numpy as np
import polars as pl
import pytest

from data import schema
from research.bars import Recorded, Substitutions, signal_bars
from research.tests.recorded_rows import MINUTE, NOON, gaps, instruments, klines, marks, quotes, rows, trades

NO_SUBSTITUTION = Substitutions()


def signal(
    n_minutes: int, substitutions: Substitutions = NO_SUBSTITUTION, interval: str = "1m", **recorded
) -> pl.DataFrame:
    """Signal bars of the first minutes after noon."""
    length = {"1m": MINUTE, "1s": 1_000}[interval]
    recorded = Recorded(**({"instruments": instruments()} | recorded))
    open_ms = NOON + np.arange(n_minutes) * length
    return signal_bars(recorded, open_ms, interval=interval, tick_size=0.1, substitutions=substitutions)


def after_noon_ms(frame: pl.DataFrame, column: str) -> list[int]:
    return (frame[column].dt.epoch("ms") - NOON).to_list()


def test_a_minute_nobody_saw_is_a_gap_row():
    frame = signal(3, klines=klines({0: 100.0, 2: 102.0}))
    assert frame["is_gap"].to_list() == [False, True, False]
    assert frame["can_enter"].to_list() == [True, False, True]
    assert np.isnan(frame["close"][1]) and np.isnan(frame["volume"][1])


def test_a_flat_minute_between_consecutive_ids_is_a_bar_without_volume():
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 130_000, 103.0)]
    frame = signal(3, trades=trades(prints))
    assert frame["is_gap"].to_list() == [False, False, True]  # nothing proves that the last minute is complete
    assert frame.select("open", "high", "low", "close", "volume", "trade_count").row(1) == (*[101.0] * 4, 0.0, 0.0)


def test_a_recorded_kline_goes_before_the_bar_from_trades():
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 90_000, 102.0), (10, 120_000, 103.0)]
    frame = signal(2, trades=trades(prints), klines=klines({0: 55.0}))
    assert frame["close"].to_list() == [55.0, 102.0]


def test_a_bar_is_known_when_its_final_kline_was_received_rounded_up():
    frame = signal(2, klines=klines({0: 100.0, 1: 100.0}, {0: 61_300.0, 1: 121_300.000_4}))
    assert after_noon_ms(frame, "avail_time") == [61_300, 121_301]


def test_a_bar_without_a_receipt_is_known_three_seconds_after_its_close():
    assert after_noon_ms(signal(2, klines=klines({0: 100.0})), "avail_time") == [63_000, 123_000]


def test_a_bar_asked_for_by_rest_is_known_at_its_receipt_too_and_history_has_none():
    frame = signal(2, klines=klines({0: 100.0, 1: 100.0}, {0: 66_500.0}, source="rest"))
    assert after_noon_ms(frame, "avail_time") == [66_500, 123_000]


def test_a_slot_declared_lost_is_a_gap_known_then_even_where_trades_could_rebuild_it():
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 90_000, 102.0), (10, 150_000, 103.0), (11, 181_000, 104.0)]
    lost = gaps([("a", "unrepairable", -1, 2, 121_000)])
    frame = signal(3, trades=trades(prints), klines=klines({1: 102.0}, {1: 150_000.0}), gaps=lost)
    assert frame["is_gap"].to_list() == [True, True, False]
    assert after_noon_ms(frame, "avail_time") == [121_000, 121_000, 183_000]


@pytest.mark.parametrize("state", ["open", "partial", "unrepairable"])
def test_trades_do_not_stand_in_for_a_bar_that_the_ledger_misses_and_nothing_waits_for_its_word(state):
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 90_000, 102.0), (10, 150_000, 103.0), (11, 181_000, 104.0)]
    source = pl.lit(None if state == "open" else "/fapi/v3/klines", pl.String)
    missed = gaps([("a", state, -1, 3, 86_400_000)]).with_columns(repair_source=source)
    frame = signal(4, trades=trades(prints), klines=klines({1: 102.0, 3: 104.0}), gaps=missed)
    assert frame["is_gap"].to_list() == [True, False, True, False]
    assert after_noon_ms(frame, "avail_time") == [63_000, 123_000, 183_000, 243_000]


def test_trades_stand_in_for_a_bar_of_a_gap_that_is_repaired():
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 90_000, 102.0)]
    told = gaps([("a", "open", -1, 1, 121_000), ("a", "repaired", -1, 1, 200_000)])
    assert signal(1, trades=trades(prints), gaps=told)["close"].to_list() == [101.0]


@pytest.mark.parametrize("state", ["open", "repaired", "partial"])
def test_the_newest_word_on_a_gap_counts(state):
    told = gaps([("a", state, -1, 1, 200_000), ("a", "unrepairable", -1, 1, 121_000)])
    assert signal(1, klines=klines({0: 100.0}), gaps=told)["is_gap"].to_list() == [False]


def test_a_clock_that_lags_does_not_make_a_bar_known_before_its_close():
    assert after_noon_ms(signal(1, klines=klines({0: 100.0}, {0: 59_990.0})), "avail_time") == [60_000]


def test_a_late_bar_holds_up_the_rows_after_it():
    frame = signal(3, klines=klines(dict.fromkeys(range(3), 100.0), {0: 61_000.0, 1: 190_000.0, 2: 181_000.0}))
    assert after_noon_ms(frame, "avail_time") == [61_000, 190_000, 190_000]


def test_a_bar_from_trades_is_known_when_the_next_trade_proves_it_complete():
    prints = [(7, -1_000, 100.0), (8, 30_000, 101.0), (9, 70_000, 102.0), (10, 120_500, 103.0)]
    frame = signal(2, trades=trades(prints, [-900, 30_100, 70_100, 120_600]))
    assert after_noon_ms(frame, "avail_time") == [70_100, 123_000]


def test_seconds_are_built_from_trades():
    prints = [(1, -500, 10.0), (2, 200, 11.0), (3, 900, 12.0), (4, 1_500, 13.0), (5, 2_000, 14.0)]
    frame = signal(2, interval="1s", trades=trades(prints))
    assert frame["close"].to_list() == [12.0, 13.0]
    assert after_noon_ms(frame, "avail_time") == [4_000, 5_000]


def test_a_quote_counts_from_its_receipt_on():
    frame = signal(1, klines=klines({0: 100.0}), quotes=quotes([(62_000, 99.9, 100.1), (63_001, 98.9, 99.1)]))
    assert frame.select("bid_price", "ask_price", "quote_age_ms").row(0) == (99.9, 100.1, 1_000.0)
    assert frame["half_spread_bps"][0] == pytest.approx(10.0)


def test_of_two_quotes_within_a_millisecond_the_one_received_last_counts():
    seen = quotes([(62_000.7, 98.0, 98.2), (62_000.3, 99.9, 100.1)])
    assert signal(1, klines=klines({0: 100.0}), quotes=seen)["bid_price"].to_list() == [98.0]


def test_a_stale_quote_keeps_its_age_and_one_older_than_an_hour_is_none():
    frame = signal(62, klines=klines({0: 100.0}), quotes=quotes([(0, 99.9, 100.1)]))
    assert frame["quote_age_ms"][0] == 63_000.0
    assert frame["quote_age_ms"][58] == 59 * 60_000 + 3_000
    assert np.isnan(frame["quote_age_ms"][59]) and np.isnan(frame["bid_price"][59])


def test_the_spread_of_the_last_fresh_quote_is_carried():
    seen = [(62_000, 99.9, 100.1), (64_000, 99.0, 101.0)]
    frame = signal(2, klines=klines({0: 100.0, 1: 100.0}), quotes=quotes(seen))
    assert frame["half_spread_bps"].to_list() == pytest.approx([10.0, 10.0])


def test_a_mark_counts_from_its_receipt_on_and_gives_the_ratio_while_fresh():
    seen = marks([(62_500, 200.0), (63_500, 300.0)], index_price=[201.0, 301.0])
    frame = signal(2, klines=klines({0: 100.0, 1: 120.0}), marks=seen)
    assert frame.select("mark_price", "index_price", "mark_age_ms").row(0) == (200.0, 201.0, 500.0)
    assert frame["mark_age_ms"][1] == 59_500.0
    assert frame["last_mark_ratio"].to_list() == [0.5, 0.5]


def test_without_the_stream_the_mark_is_the_close_of_the_mark_kline():
    mark_klines = rows(schema.MARK_KLINES, open_time=[NOON], open=[1.0], high=[1.0], low=[1.0], close=[50.0])
    index_klines = rows(schema.INDEX_KLINES, open_time=[NOON], open=[1.0], high=[1.0], low=[1.0], close=[51.0])
    frame = signal(1, klines=klines({0: 100.0}), mark_klines=mark_klines, index_klines=index_klines)
    columns = ("mark_price", "index_price", "mark_age_ms", "last_mark_ratio")
    assert frame.select(columns).row(0) == (50.0, 51.0, 3_000.0, 2.0)


def test_the_ratio_is_one_before_the_first_mark():
    assert signal(1, klines=klines({0: 100.0}))["last_mark_ratio"].to_list() == [1.0]


def test_the_funding_rate_is_the_streams_and_before_it_the_last_settled_one():
    settled = rows(schema.FUNDING, event_time=[NOON - 4 * 3_600_000], funding_rate=[0.0003], interval_hours=[4.0])
    seen = marks([(100_000, 100.0)], funding_rate=[0.0001])
    frame = signal(2, klines=klines({0: 100.0, 1: 100.0}), marks=seen, funding=settled)
    assert frame["funding_rate"].to_list() == [0.0003, 0.0001]
    assert frame["funding_interval_hours"].to_list() == [4.0, 4.0]


def test_the_instrument_tells_the_funding_interval_where_no_event_does():
    assert signal(1, klines=klines({0: 100.0}))["funding_interval_hours"].to_list() == [8.0]


def test_no_entry_while_the_instrument_does_not_trade():
    history = instruments({-1: "TRADING", 63_001: "SETTLING"})
    frame = signal(2, klines=klines({0: 100.0, 1: 100.0}), instruments=history)
    assert frame["can_enter"].to_list() == [True, False]


def test_without_data_and_substitution_the_columns_stay_nan():
    row = signal(1, klines=klines({0: 100.0})).row(0, named=True)
    names = ("bid_price", "quote_age_ms", "mark_price", "mark_age_ms", "funding_rate", "half_spread_bps")
    assert all(np.isnan(row[name]) for name in names)


def test_substitutions_stand_in_for_quotes_mark_and_funding():
    assumed = Substitutions(spread_ticks=2.0, mark="last", funding_rate_bps=1.0, funding_interval_hours=8.0)
    row = signal(1, assumed, klines=klines({0: 100.0})).row(0, named=True)
    assert (row["bid_price"], row["ask_price"], row["quote_age_ms"]) == (99.9, 100.1, 0.0)
    assert (row["mark_price"], row["index_price"], row["mark_age_ms"]) == (100.0, 100.0, 0.0)
    assert (row["funding_rate"], row["half_spread_bps"], row["last_mark_ratio"]) == (0.0001, pytest.approx(10.0), 1.0)
