"""What is missing between rows, and the ledger's rows of it."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.gaps import HOLES, Run, apart, gap_rows, kline_gaps, mark_gaps, missing_in, runs_of, trade_gaps
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


def test_a_second_without_a_mark_price_is_a_hole_and_a_late_one_is_not():
    assert mark_gaps(marks([0, 1, 2.9, 4])).is_empty()
    holes = mark_gaps(marks([0, 1, 3, 4, 10.1]))
    assert holes["missing"].to_list() == [1, 5]
    assert holes["is_estimate"].all()


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


@pytest.mark.parametrize("symbol", ["ASTERUSDT", "ETHUSDT"])
def test_the_golden_recordings_have_no_hole(real_data, symbol):
    recorded = pl.read_csv(real_data / "collector-2025-09-24" / f"trades_{symbol}.csv")
    rows = recorded.select(
        venue=pl.lit("aster"), symbol=pl.lit(symbol), agg_trade_id="id", event_time="unix_timestamp_ms"
    )
    assert trade_gaps(conform(rows, TRADES)).is_empty()


# --- runs ------------------------------------------------------------------------------------------------------------


def test_rows_that_follow_each_other_are_one_run():
    found = runs_of(TRADES, trades([7, 1, 2, 3, 6]))
    second_ms = int(MIDNIGHT.timestamp()) * 1_000
    assert found == {
        ("aster", "BTCUSDT", None): [
            Run(1, 3, second_ms + 1_000, second_ms + 3_000),
            Run(6, 7, second_ms + 6_000, second_ms + 7_000),
        ]
    }


def test_bars_are_counted_in_steps_of_their_interval_and_months_not_at_all():
    frame = pl.concat([bars([0, 1, 3]), bars([0, 60, 180], "1h"), bars([0], "1M")])
    found = runs_of(KLINES, frame, is_new=True)
    assert {owner[2]: [run.last - run.first + 1 for run in runs] for owner, runs in found.items()} == {
        "1m": [2, 1],
        "1h": [2, 1],
    }
    assert all(run.is_new for runs in found.values() for run in runs)


def test_mark_prices_belong_together_when_none_can_lie_between_them():
    (runs,) = runs_of(MARK_PRICE, marks([0, 1.999, 3.999])).values()
    assert len(runs) == 2


positions = st.sets(st.integers(0, 40), max_size=20)


@given(positions, positions)
@settings(max_examples=100, deadline=None)
def test_pieces_that_are_missing_are_exactly_those_that_no_run_has(stored, new):
    runs = [run for ids in (stored, new) for run in runs_of_positions(ids)]
    pieces = missing_in(5, 35, runs)
    assert {position for first, last in pieces for position in range(first, last + 1)} == set(
        range(5, 36)
    ) - stored - new
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(pieces))
    holes = {position for before, after in apart(runs) for position in range(before.last + 1, after.first)}
    both = stored | new
    assert holes == (set(range(min(both), max(both))) - both if both else set())


def runs_of_positions(ids: set[int]) -> list[Run]:
    return [run for runs in runs_of(TRADES, trades(sorted(ids))).values() for run in runs]
