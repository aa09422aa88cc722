"""What is missing, and how much of each day is there."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.gaps import COVERAGE, HOLES, coverage, gap_rows, kline_gaps, mark_gaps, trade_gaps
from data.lake import Lake
from data.schema import GAPS, KLINES, MARK_PRICE, TRADES, conform, interval_ms

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def trades(ids: list[int], symbol: str = "BTCUSDT", **other) -> pl.DataFrame:
    """One trade a second, id 0 at midnight."""
    times = [MIDNIGHT + number * SECOND for number in ids]
    columns = {"venue": "aster", "symbol": symbol, "agg_trade_id": ids, "event_time": times, "price": 1.0, **other}
    return conform(pl.DataFrame(columns | {"quantity": 1.0, "is_buyer_maker": False}), TRADES)


def bars(minutes: list[int], interval: str = "1m", symbol: str = "BTCUSDT") -> pl.DataFrame:
    """Bars that open so many minutes after midnight."""
    times = [MIDNIGHT + number * MINUTE for number in minutes]
    return conform(
        pl.DataFrame({"venue": "aster", "symbol": symbol, "interval": interval, "open_time": times, "close": 1.0}),
        KLINES,
    )


def marks(seconds: list[float]) -> pl.DataFrame:
    times = [MIDNIGHT + number * SECOND for number in seconds]
    return conform(
        pl.DataFrame({"venue": "aster", "symbol": "BTCUSDT", "event_time": times, "mark_price": 1.0}), MARK_PRICE
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


# --- holes -----------------------------------------------------------------------------------------------------------


def test_missing_ids_are_a_hole_between_the_trades_around_it():
    (hole,) = trade_gaps(trades([1, 2, 6, 7])).rows(named=True)
    assert hole == {
        "table": "trades",
        "venue": "aster",
        "symbol": "BTCUSDT",
        "interval": None,
        "from_id": 3,
        "to_id": 5,
        "from_time": MIDNIGHT + 2 * SECOND,
        "to_time": MIDNIGHT + 6 * SECOND,
        "missing": 3,
        "is_estimate": False,
    }


def test_each_symbol_has_its_own_ids_and_order_does_not_matter():
    rows = pl.concat([trades([9, 1, 2]), trades([2, 3], "ETHUSDT")])
    assert trade_gaps(rows).select("symbol", "from_id", "to_id").rows() == [("BTCUSDT", 3, 8)]


def test_an_ambiguous_id_neither_bounds_a_hole_nor_fills_one():
    rows = pl.concat([trades([1, 5]), trades([3, 1_000], is_ambiguous=True)])
    assert trade_gaps(rows).select("from_id", "to_id", "missing").rows() == [(2, 4, 3)]


def test_nothing_is_missing_from_no_trades_or_one():
    assert trade_gaps(trades([])).schema == HOLES
    assert trade_gaps(trades([5])).is_empty()


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1))
def test_trades_and_holes_together_are_every_id_once(ids):
    holes = trade_gaps(trades(sorted(ids)))
    missing = {number for hole in holes.rows(named=True) for number in range(hole["from_id"], hole["to_id"] + 1)}
    assert missing | ids == set(range(min(ids), max(ids) + 1))
    assert not missing & ids
    assert holes["missing"].sum() == len(missing)


def test_missing_bars_are_counted_between_the_bars_around_them():
    rows = pl.concat([bars([0, 1, 5]), bars([0, 60], "1h")])
    found = kline_gaps(rows, "1m").select("table", "interval", "from_time", "to_time", "missing", "is_estimate")
    assert found.rows() == [("klines", "1m", MIDNIGHT + MINUTE, MIDNIGHT + 5 * MINUTE, 3, False)]
    assert kline_gaps(rows, "1h").is_empty()


def test_mark_prices_may_be_silent_for_five_seconds_and_no_longer():
    assert mark_gaps(marks([0, 1, 6])).is_empty()
    (hole,) = mark_gaps(marks([0, 1, 6, 12.1])).rows(named=True)
    assert (hole["missing"], hole["is_estimate"]) == (5, True)


@pytest.mark.parametrize(
    ("interval", "ms"), [("1m", 60_000), ("15m", 900_000), ("4h", 14_400_000), ("1w", 604_800_000)]
)
def test_intervals_have_a_length(interval, ms):
    assert interval_ms(interval) == ms


@pytest.mark.parametrize("interval", ["1M", "", "m", "0m", "1.5m", "1x"])
def test_an_interval_without_a_fixed_length_is_refused(interval):
    with pytest.raises(ValueError, match="such as 1m or 4h"):
        interval_ms(interval)


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_a_gap_has_the_same_id_whenever_it_is_found():
    holes = pl.concat([trade_gaps(trades([1, 4])), kline_gaps(bars([0, 2]), "1m"), mark_gaps(marks([0, 10]))])
    rows = gap_rows(holes, cause="sequence", detected_time=MIDNIGHT)
    assert rows.schema == GAPS.columns
    assert sorted(rows["gap_id"]) == [
        "klines|BTCUSDT|1m|1767312000000|1767312120000",
        "mark_price|BTCUSDT|1767312000000|1767312010000",
        "trades|BTCUSDT|2|3",
    ]
    assert set(rows["state"]) == {"open"}


def test_finding_a_gap_twice_leaves_one_row_in_the_ledger_and_its_repair_another(lake):
    holes = trade_gaps(trades([1, 4]))
    for hour in (0, 1):
        rows = gap_rows(holes, cause="sequence", detected_time=MIDNIGHT + hour * timedelta(hours=1))
        lake.append("gaps", rows, origin="gaps")
    repaired = gap_rows(
        holes,
        cause="sequence",
        detected_time=MIDNIGHT + timedelta(hours=2),
        state="repaired",
        repair_source="aggTrades",
        rows_recovered=2,
    )
    lake.append("gaps", repaired, origin="repair")
    assert lake.scan("gaps").select("state", "rows_recovered").rows() == [("open", 0), ("repaired", 2)]


# --- coverage --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("symbol", ["ASTERUSDT", "ETHUSDT"])
def test_the_golden_recordings_have_no_hole(real_data, symbol):
    recorded = pl.read_csv(real_data / "collector-2025-09-24" / f"trades_{symbol}.csv")
    rows = recorded.select(
        venue=pl.lit("aster"), symbol=pl.lit(symbol), agg_trade_id="id", event_time="unix_timestamp_ms"
    )
    assert trade_gaps(conform(rows, TRADES)).is_empty()
