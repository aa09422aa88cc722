import numpy as np
import polars as pl
import pytest

from data import schema
from research.bars import Recorded, Substitutions, signal_bars
from research.execution_bars import execution_bars

MINUTE = 60_000
NOON = 1_764_331_200_000  # 2025-11-28 12:00 UTC
LATENCY_MS = 200
ARRIVES = 63_200  # the order of the first minute, in ms after noon
NO_SUBSTITUTION = Substitutions()


def rows(table: schema.Table, **columns) -> pl.DataFrame:
    return schema.conform(pl.DataFrame(columns), table)


def klines(ohlc: dict[int, tuple[float, float, float, float]], table: schema.Table = schema.KLINES, **columns):
    prices = dict(zip(("open", "high", "low", "close"), zip(*ohlc.values(), strict=True), strict=True))
    return rows(table, open_time=[NOON + number * MINUTE for number in ohlc], **prices, **columns)


def trades(*prints: tuple[int, float]) -> pl.DataFrame:
    """Trades with consecutive ids as (ms after noon, price)."""
    times, prices = zip(*prints, strict=True)
    return rows(schema.TRADES, agg_trade_id=range(1, len(prints) + 1), event_time=[NOON + ms for ms in times],
                price=prices, quantity=[1.0] * len(prints), is_buyer_maker=[True] * len(prints))  # fmt: skip


def marks(*seen: tuple[int, float], **columns) -> pl.DataFrame:
    times, prices = zip(*seen, strict=True)
    return rows(schema.MARK_PRICE, event_time=[NOON + ms for ms in times], mark_price=prices, **columns)


def executed(n_minutes: int, substitutions: Substitutions = NO_SUBSTITUTION, **recorded) -> pl.DataFrame:
    """Execution bars of the first minutes after noon; the last of them has no end."""
    recorded = Recorded(**recorded)
    open_ms = NOON + np.arange(n_minutes) * MINUTE
    signal = signal_bars(recorded, open_ms, interval="1m", tick_size=0.1, substitutions=substitutions)
    return execution_bars(signal, recorded, latency_ms=LATENCY_MS, substitutions=substitutions)


def last_prices(frame: pl.DataFrame, row: int = 0) -> tuple[float, ...]:
    return frame.select("exec_open", "exec_high", "exec_low", "exec_close").row(row)


def mark_prices(frame: pl.DataFrame, row: int = 0) -> tuple[float, ...]:
    return frame.select("exec_mark_open", "exec_mark_high", "exec_mark_low", "exec_mark_close").row(row)


MINUTES = {
    0: (1.0, 2.0, 0.5, 1.5),
    1: (10.0, 14.0, 8.0, 11.0),
    2: (20.0, 24.0, 18.0, 21.0),
    3: (30.0, 34.0, 28.0, 31.0),
}


def test_an_order_arrives_a_latency_after_its_bar_is_known():
    assert (executed(2)["exec_time"].dt.epoch("ms") - NOON).to_list() == [63_200, 123_200]


def test_from_klines_alone_the_execution_bar_is_the_next_kline():
    frame = executed(4, klines=klines(MINUTES))
    assert [last_prices(frame, row) for row in range(3)] == [MINUTES[1], MINUTES[2], MINUTES[3]]


def test_a_gap_gives_no_execution_bar():
    frame = executed(4, klines=klines({number: MINUTES[number] for number in (0, 2, 3)}))
    assert np.isnan(last_prices(frame, 0)).all()
    assert last_prices(frame, 1) == MINUTES[2]


def test_the_last_row_has_no_execution_bar():
    assert np.isnan(last_prices(executed(2, klines=klines(MINUTES)), 1)).all()


# Minute 1 is known a second into minute 3.
LATE = {"recv_time": [None, round((NOON + 3 * MINUTE + 1_000) * 1e6), None, None], "source": ["ws"] * 4}


def test_an_order_that_arrives_after_the_next_kline_closed_does_not_meet_it():
    frame = executed(4, klines=klines(MINUTES, **LATE))
    assert last_prices(frame, 0) == (10.0, 24.0, 8.0, 21.0)  # minutes 1 and 2: nothing else could be decided before
    assert np.isnan(last_prices(frame, 1)).all()
    assert last_prices(frame, 2) == MINUTES[3]


def test_a_window_of_two_klines_needs_both():
    holed = klines(MINUTES, **LATE).filter(pl.int_range(pl.len()) != 2)
    assert np.isnan(last_prices(executed(4, klines=holed), 0)).all()


def test_a_window_that_ends_beyond_the_data_is_not_seen():
    frame = executed(
        2, klines=klines({number: MINUTES[number] for number in (0, 1)}, **{k: v[:2] for k, v in LATE.items()})
    )
    assert np.isnan(last_prices(frame, 0)).all()


def test_the_window_holds_a_trade_at_its_start_and_none_from_a_millisecond_before():
    prints = [
        (0, 1.0),
        (ARRIVES - 1, 99.0),
        (ARRIVES, 5.0),
        (100_000, 7.0),
        (110_000, 4.0),
        (123_199, 6.0),
        (123_200, 98.0),
    ]
    assert last_prices(executed(2, trades=trades(*prints), klines=klines(MINUTES))) == (5.0, 7.0, 4.0, 6.0)


def test_a_window_without_trades_is_flat_at_the_last_price_before():
    prints = trades((0, 1.0), (ARRIVES - 1, 3.0), (123_200, 98.0))
    frame = executed(2, trades=prints, klines=klines(MINUTES))
    assert last_prices(frame) == (3.0, 3.0, 3.0, 3.0)


def test_where_ids_are_missing_the_kline_stands_in():
    holed = trades((0, 1.0), (ARRIVES, 5.0), (100_000, 7.0), (123_300, 6.0), (183_200, 6.0))
    holed = holed.with_columns(agg_trade_id=pl.Series([1, 2, 3, 9, 10]))
    frame = executed(4, trades=holed, klines=klines(MINUTES))
    assert last_prices(frame, 0) == MINUTES[1]
    assert last_prices(frame, 1) == MINUTES[2]  # the hole ends inside this window


def test_marks_build_their_own_window():
    seen = [(ms, ms / 1_000) for ms in range(60_000, 130_000, 1_000)]
    assert mark_prices(executed(2, marks=marks(*seen))) == (64.0, 123.0, 64.0, 123.0)


def test_where_the_mark_was_silent_the_mark_kline_stands_in():
    seen = [(60_000, 1.0), (70_001, 2.0), *((ms, 3.0) for ms in range(71_000, 130_000, 1_000))]
    mark_klines = klines(MINUTES, schema.MARK_KLINES)
    assert mark_prices(executed(3, marks=marks(*seen[1:]), mark_klines=mark_klines)) == MINUTES[1]
    assert mark_prices(executed(3, marks=marks(*seen), mark_klines=mark_klines)) == MINUTES[1]
    assert np.isnan(mark_prices(executed(3, marks=marks(*seen)))).all()


def test_the_last_price_is_the_mark_only_where_the_config_says_so():
    assert np.isnan(mark_prices(executed(3, klines=klines(MINUTES)))).all()
    assert mark_prices(executed(3, Substitutions(mark="last"), klines=klines(MINUTES))) == MINUTES[1]


def test_the_quote_at_arrival_is_the_last_one_and_not_older_than_two_seconds():
    times = [ARRIVES - 2_000, ARRIVES + MINUTE - 2_001, ARRIVES + 2 * MINUTE, ARRIVES + 2 * MINUTE + 1]
    quotes = rows(
        schema.BOOK_TICKER,
        event_time=[NOON + ms for ms in times],
        bid_price=[1.0, 2.0, 3.0, 4.0],
        ask_price=[1.5, 2.5, 3.5, 4.5],
    )
    frame = executed(3, quotes=quotes)
    assert frame["exec_bid"].fill_nan(None).to_list() == [1.0, None, 3.0]
    assert frame["exec_ask"].fill_nan(None).to_list() == [1.5, None, 3.5]


def settled(*events: tuple[int, float]) -> pl.DataFrame:
    times, rates = zip(*events, strict=True)
    return rows(schema.FUNDING, event_time=[NOON + ms for ms in times], funding_rate=rates)


def test_funding_at_the_arrival_is_not_charged_and_at_the_next_arrival_is():
    mark = marks((ARRIVES - 100, 50.0), (ARRIVES + MINUTE - 100, 60.0), (ARRIVES + MINUTE + 1, 70.0))
    at_arrival = executed(3, klines=klines(MINUTES), marks=mark, funding=settled((ARRIVES, 0.01)))
    at_next = executed(3, klines=klines(MINUTES), marks=mark, funding=settled((ARRIVES + MINUTE, 0.01)))
    assert at_arrival["funding_per_unit"].to_list() == [0.0, 0.0, 0.0]
    assert at_next["funding_per_unit"].to_list() == pytest.approx([0.6, 0.0, 0.0])


def test_two_events_in_one_window_are_both_charged():
    frame = executed(
        3, klines=klines(MINUTES), marks=marks((0, 50.0)), funding=settled((70_000, 0.01), (80_000, -0.03))
    )
    assert frame["funding_per_unit"].to_list() == pytest.approx([-1.0, 0.0, 0.0])


def test_without_a_mark_funding_is_charged_on_the_last_close():
    frame = executed(3, klines=klines(MINUTES), funding=settled((130_000, 0.01)))
    assert frame["funding_per_unit"].to_list() == pytest.approx([0.0, 0.11, 0.0])


def announced(*words: tuple[int, float, int]) -> pl.DataFrame:
    """Marks of 100 as (ms after noon, funding rate, announced funding time in ms after noon)."""
    times, rates, events = zip(*words, strict=True)
    return marks(*((ms, 100.0) for ms in times), funding_rate=rates, next_funding_time=[NOON + ms for ms in events])


def test_an_announced_settlement_is_charged_at_the_last_announced_rate():
    words = announced((10_000, 0.01, 90_000), (89_999, 0.02, 90_000), (90_000, 0.05, 500_000))
    assert executed(3, marks=words)["funding_per_unit"].to_list() == pytest.approx([2.0, 0.0, 0.0])


def test_a_settled_event_goes_before_its_announcement():
    words = announced((89_000, 0.02, 90_000))
    frame = executed(3, marks=words, funding=settled((90_007, 0.03)))
    assert frame["funding_per_unit"].to_list() == pytest.approx([3.0, 0.0, 0.0])


def test_an_announcement_that_was_moved_is_void():
    words = announced((10_000, 0.01, 90_000), (20_000, 0.01, 500_000))
    assert executed(3, marks=words)["funding_per_unit"].to_list() == [0.0, 0.0, 0.0]


def test_assumed_funding_falls_on_every_interval_since_midnight():
    assumed = Substitutions(funding_rate_bps=100.0, funding_interval_hours=4.0)  # noon is an event, 16:00 the next
    frame = executed(245, assumed, klines=klines(dict.fromkeys(range(245), (10.0, 10.0, 10.0, 10.0))))
    paid = frame["funding_per_unit"].to_numpy()
    assert np.flatnonzero(paid).tolist() == [238]  # its order arrived 15:59:03.2
    assert paid[238] == pytest.approx(0.1)
