"""How much of each day is there."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.coverage import COVERAGE, coverage, coverage_ratio
from data.gaps import HOLES, gap_rows, kline_gaps, trade_gaps
from data.lake import Lake
from data.schema import TRADES, conform
from data.stored_days import holes
from data.tests.test_gaps import MIDNIGHT, MINUTE, SECOND, bars, marks, trades


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def test_an_empty_lake_covers_nothing(lake):
    assert coverage(lake).equals(COVERAGE.to_frame())


def test_trades_of_a_day_are_counted_by_their_ids(lake):
    lake.append("trades", trades([1, 2, 6, 7, 8]), origin="ws")
    (day,) = coverage(lake).rows(named=True)
    assert day == {
        "table": "trades",
        "symbol": "BTCUSDT",
        "interval": None,
        "date": date(2026, 1, 2),
        "rows": 5,
        "first_time": MIDNIGHT + SECOND,
        "last_time": MIDNIGHT + 8 * SECOND,
        "expected": 8,
        "missing": 3,
        "unrepairable": 0,
        "is_estimate": False,
        "covered": 0.625,
        "longest_gap_ms": 4_000,
        "state": "open",
    }


def test_a_day_without_holes_is_complete(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    assert coverage(lake).select("covered", "missing", "longest_gap_ms", "state").rows() == [(1.0, 0, 0, "complete")]


def test_a_hole_over_midnight_is_shared_out_and_a_day_without_rows_is_missing(lake):
    ids = [-30, 2 * 86_400 - 60]  # half a minute before midnight, a minute before the day after next ends
    lake.append("trades", trades(ids), origin="ws")
    days = coverage(lake)
    assert days["date"].to_list() == [date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)]
    assert days["missing"].to_list() == [29, 86_400, 86_340]
    assert days["missing"].sum() == ids[1] - ids[0] - 1
    assert days["is_estimate"].all()
    assert days["longest_gap_ms"].to_list() == [30_000, 86_400_000, 86_340_000]
    assert days["state"].to_list() == ["open", "missing", "open"]
    assert days["covered"][1] == 0.0


def test_bars_missing_over_midnight_are_shared_out_exactly(lake):
    lake.append("klines", bars([-3, 2]), origin="rest")
    days = coverage(lake)
    assert days.select("missing", "expected", "is_estimate").rows() == [(2, 3, False), (2, 3, False)]


def test_bars_are_counted_against_the_range_that_is_asked_for(lake):
    lake.append("klines", bars([10, 11]), origin="rest")
    days = coverage(lake, start=MIDNIGHT, end=MIDNIGHT + 20 * MINUTE)
    assert days.select("rows", "expected", "missing", "covered").rows() == [(2, 20, 18, 0.1)]
    days = coverage(lake, start=MIDNIGHT + 10 * MINUTE, end=MIDNIGHT + 12 * MINUTE)
    assert days.select("rows", "expected", "missing", "state").rows() == [(2, 2, 0, "complete")]


def test_bars_of_a_week_are_counted_by_the_mondays_in_the_range(lake):
    monday, week = 3 * 1_440, 7 * 1_440  # minutes after midnight; weeks since 1970 would begin on a Thursday
    lake.append("klines", bars([monday, monday + week], "1w"), origin="rest")
    for days, missing in ((0, 0), (-2, 0), (-6, 0), (-7, 1)):
        start = MIDNIGHT + timedelta(days=3 + days)
        asked = coverage(lake, start=start, end=MIDNIGHT + timedelta(days=17))
        assert asked["missing"].sum() == missing, days


def test_every_interval_is_counted_on_its_own(lake):
    lake.append("klines", pl.concat([bars([0, 1, 3]), bars([0, 60], "1h")]), origin="rest")
    days = coverage(lake)
    assert days.select("interval", "rows", "missing").rows() == [("1h", 2, 0), ("1m", 3, 1)]


def test_asked_for_days_without_any_row_are_missing(lake):
    lake.append("trades", trades([1]), origin="ws")
    asked = {"start": MIDNIGHT - timedelta(days=2), "end": MIDNIGHT}
    for table in ("trades", "klines"):
        days = coverage(lake, tables=[table], symbols=["BTCUSDT"], **asked)
        assert days.select("date", "rows", "covered", "state").rows() == [
            (date(2025, 12, 31), 0, 0.0, "missing"),
            (date(2026, 1, 1), 0, 0.0, "missing"),
        ]


def test_a_symbol_with_rows_of_another_venue_only_is_not_missing_at_this_one(lake):
    lake.append("trades", trades([1]), origin="ws")
    there = trades([1]).with_columns(venue=pl.lit("hyperliquid"), symbol=pl.lit("PURRUSDT"))
    lake.append("trades", there, origin="ws")
    asked = {"start": MIDNIGHT, "end": MIDNIGHT + timedelta(days=2)}
    assert coverage(lake, **asked)["symbol"].unique().to_list() == ["BTCUSDT"]
    assert coverage(lake, symbols=["PURRUSDT"], **asked).is_empty()
    assert coverage(lake, venue="hyperliquid", **asked)["symbol"].unique().to_list() == ["PURRUSDT"]


def test_a_bar_that_came_after_it_was_given_up_does_not_hide_one_that_can_be_repaired(lake):
    given_up, missing = (kline_gaps(bars(edges), "1m") for edges in ([0, 2], [3, 5]))
    for lost, state in ((given_up, "unrepairable"), (missing, "open")):
        told = gap_rows(lost, cause="reconnect", detected_time=MIDNIGHT + 9 * MINUTE, state=state)
        lake.append("gaps", told, origin="gaps")
    lake.append("klines", bars([0, 1, 2, 3, 5]), origin="ws")
    assert coverage(lake).select("missing", "unrepairable", "state").rows() == [(1, 0, "open")]


def test_mark_prices_are_an_estimate(lake):
    lake.append("mark_price", marks([0, 1, 2, 12]), origin="ws")
    assert coverage(lake).select("expected", "missing", "is_estimate", "longest_gap_ms").rows() == [
        (13, 9, True, 10_000)
    ]


def test_quotes_that_are_missing_cannot_be_known_but_silence_can(lake):
    times = [MIDNIGHT - 3 * SECOND, MIDNIGHT - SECOND, MIDNIGHT + 4 * SECOND, MIDNIGHT + 5 * SECOND]
    quotes = pl.DataFrame({"venue": "aster", "symbol": "BTCUSDT", "update_id": [1, 2, 3, 4], "event_time": times})
    lake.append("book_ticker", quotes, origin="ws")
    assert coverage(lake).select("rows", "expected", "missing", "covered", "longest_gap_ms", "state").rows() == [
        (2, None, None, None, 2_000, "unknown"),
        (2, None, None, None, 4_000, "unknown"),
    ]


def test_a_hole_that_the_ledger_gave_up_is_unrepairable(lake):
    lake.append("trades", trades([1, 4]), origin="ws")
    holes = trade_gaps(lake.scan("trades"))
    lake.append("gaps", gap_rows(holes, cause="sequence", detected_time=MIDNIGHT), origin="gaps")
    assert coverage(lake)["state"].to_list() == ["open"]
    given_up = gap_rows(holes, cause="sequence", detected_time=MIDNIGHT + MINUTE, state="unrepairable")
    lake.append("gaps", given_up, origin="repair")
    assert coverage(lake)["state"].to_list() == ["unrepairable"]


def test_ambiguous_trades_are_rows_but_not_counted(lake):
    lake.append("trades", pl.concat([trades([1, 2]), trades([9], is_ambiguous=True)]), origin="import")
    assert coverage(lake).select("rows", "expected", "missing").rows() == [(3, 2, 0)]


# --- several files of one day ----------------------------------------------------------------------------------------


def test_a_hole_between_two_files_is_seen_and_one_that_a_third_fills_is_gone(lake):
    for ids in ([1, 2, 3], [7, 8]):
        lake.append("trades", trades(ids), origin="ws")
    assert coverage(lake).select("expected", "missing", "longest_gap_ms", "state").rows() == [(8, 3, 4_000, "open")]
    lake.append("trades", trades([4, 5, 6]), origin="rest")
    assert coverage(lake).select("expected", "missing", "longest_gap_ms", "state").rows() == [(8, 0, 0, "complete")]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.sets(st.integers(-40, 40), min_size=1), parts=st.integers(2, 3), cut=st.integers(-45, 45))
def test_files_tell_the_same_as_the_rows_would(tmp_path_factory, seconds, parts, cut):
    lake = Lake(tmp_path_factory.mktemp("split") / "lake", create=True)
    rows = sorted(seconds)
    for part in range(parts):
        if mine := rows[part::parts]:
            lake.append("trades", trades(mine), origin="ws")
            lake.append("klines", bars(mine), origin="rest")
            lake.append("mark_price", marks([10.0 * second for second in mine]), origin="ws")
    start = MIDNIGHT + cut * SECOND
    inside = [second for second in rows if second >= cut]
    days = coverage(lake, tables=["trades"], start=start)
    assert days["missing"].sum() == (max(inside) - min(inside) + 1 - len(inside) if inside else 0)
    assert holes(lake, "trades", "BTCUSDT", start, None).equals(trade_gaps(trades(inside)))
    assert holes(lake, "klines", "BTCUSDT", None, None).equals(kline_gaps(bars(rows), "1m"))
    assert coverage(lake, tables=["klines"])["missing"].sum() == max(rows) - min(rows) + 1 - len(rows)
    marked = coverage(lake, tables=["mark_price"])
    assert marked["missing"].sum() == 10 * (max(rows) - min(rows)) + 1 - len(rows)
    assert marked["rows"].sum() == len(rows)


# --- what the ledger has given up ------------------------------------------------------------------------------------


def test_of_a_gap_that_was_filled_in_part_the_rest_is_beyond_repair(lake):
    gap = gap_rows(
        trade_gaps(trades([1, 5])), cause="sequence", detected_time=MIDNIGHT, state="partial", rows_recovered=1
    )
    lake.append("trades", trades([1, 3, 5, 7]), origin="rest")
    lake.append("gaps", gap, origin="repair")
    assert coverage(lake).select("missing", "unrepairable", "state").rows() == [(3, 2, "open")]
    lake.append("trades", trades([6]), origin="rest")
    assert coverage(lake).select("missing", "unrepairable", "state").rows() == [(2, 2, "unrepairable")]


def test_quotes_are_covered_but_for_the_time_in_which_nobody_listened(lake):
    times = [MIDNIGHT, MIDNIGHT + 20 * MINUTE, MIDNIGHT + 100 * MINUTE]
    quotes = pl.DataFrame({"venue": "aster", "symbol": "BTCUSDT", "update_id": [1, 2, 3], "event_time": times})
    lake.append("book_ticker", quotes, origin="ws")
    asked = {"start": MIDNIGHT, "end": MIDNIGHT + 100 * MINUTE}
    assert coverage(lake, **asked).select("covered", "state").rows() == [(None, "unknown")]
    assert coverage_ratio(lake, "book_ticker", "BTCUSDT", **asked) is None
    deaf = pl.DataFrame(
        [
            {"table": "book_ticker", "venue": "aster", "symbol": "BTCUSDT", "is_estimate": True,
             "from_time": MIDNIGHT + first * MINUTE, "to_time": MIDNIGHT + last * MINUTE}
            for first, last in ((20, 40), (30, 45))
        ],
        schema=HOLES,
    )  # fmt: skip
    lake.append("gaps", gap_rows(deaf, cause="stopped", detected_time=MIDNIGHT, state="unrepairable"), origin="ledger")
    assert coverage(lake, **asked).select("covered", "missing", "state").rows() == [(0.75, None, "unrepairable")]
    assert coverage_ratio(lake, "book_ticker", "BTCUSDT", **asked) == 0.75


# --- one number ------------------------------------------------------------------------------------------------------


def test_the_ratio_of_bars_counts_the_whole_range(lake):
    lake.append("klines", pl.concat([bars([10, 11]), bars([0], "1h")]), origin="rest")
    asked = ("klines", "BTCUSDT", MIDNIGHT, MIDNIGHT + 20 * MINUTE)
    assert coverage_ratio(lake, *asked, "1m") == pytest.approx(0.1)
    with pytest.raises(ValueError, match="1h, 1m are stored; name one"):
        coverage_ratio(lake, *asked)
    assert coverage_ratio(lake, "klines", "ETHUSDT", *asked[2:], "1m") == 0.0


def test_the_ratio_of_trades_reaches_to_the_ids_stored_around_the_range(lake):
    lake.append("trades", trades([0, 10, 11, 12, 13, 24]), origin="ws")
    asked = ("trades", "BTCUSDT", MIDNIGHT + 5 * SECOND, MIDNIGHT + 19 * SECOND)
    assert coverage_ratio(lake, *asked) == pytest.approx(4 / (4 + 9 * 5 / 10 + 10 * 6 / 11))
    assert coverage_ratio(lake, "trades", "BTCUSDT", MIDNIGHT + 10 * SECOND, MIDNIGHT + 13 * SECOND) == 1.0


def test_where_no_trade_is_stored_around_the_range_its_pace_tells_how_many_are_missing(lake):
    lake.append("trades", trades([10, 11, 12, 13]), origin="ws")
    assert coverage_ratio(lake, "trades", "BTCUSDT", MIDNIGHT + 7 * SECOND, MIDNIGHT + 14 * SECOND) == 0.5
    assert coverage_ratio(lake, "trades", "BTCUSDT", MIDNIGHT + 20 * SECOND, MIDNIGHT + 24 * SECOND) == 0.0


def test_a_range_in_which_nothing_was_traded_is_covered(lake):
    rows = trades([1, 2]).with_columns(event_time=pl.Series([MIDNIGHT, MIDNIGHT + MINUTE]))
    lake.append("trades", conform(rows, TRADES), origin="ws")
    assert coverage_ratio(lake, "trades", "BTCUSDT", MIDNIGHT + SECOND, MIDNIGHT + 2 * SECOND) == 1.0
