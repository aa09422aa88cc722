"""What the manifest counts of a file: as if all rows had been looked at, piece by piece too."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.facts import described, describing, facts, merged
from data.gaps import kline_gaps, mark_gaps, trade_gaps
from data.schema import BOOK_TICKER, CLOCK_OFFSETS, KLINES, MARK_PRICE, TABLES, TRADES, conform

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1_767_268_800_000


def trades(*ids: int, symbol: str = "BTCUSDT", is_ambiguous: bool = False) -> pl.DataFrame:
    """An id happens that many seconds after noon."""
    rows = {
        "venue": "aster",
        "symbol": symbol,
        "agg_trade_id": list(ids),
        "event_time": [NOON + timedelta(seconds=number) for number in ids],
        "is_ambiguous": is_ambiguous,
    }
    return conform(pl.DataFrame(rows), TRADES)


def bars(*minutes: int, interval: str = "1m") -> pl.DataFrame:
    times = [NOON + timedelta(minutes=minute) for minute in minutes]
    rows = {"venue": "aster", "symbol": "BTCUSDT", "interval": interval, "open_time": times}
    return conform(pl.DataFrame(rows), KLINES)


def marks(*seconds: int) -> pl.DataFrame:
    times = [NOON + timedelta(seconds=second) for second in seconds]
    return conform(pl.DataFrame({"venue": "aster", "symbol": "BTCUSDT", "event_time": times}), MARK_PRICE)


def only(found: pl.DataFrame, *names: str) -> tuple:
    """These columns of the one row."""
    (row,) = found.select(names).rows()
    return row


def test_trades_are_counted_by_their_ids():
    found = facts(trades(3, 4, 7, 8), TRADES)
    assert only(found, "venue", "symbol", "interval") == ("aster", "BTCUSDT", None)
    assert only(found, "rows", "counted", "first_id", "last_id", "missing") == (4, 4, 3, 8, 2)
    assert only(found, "first_ms", "last_ms") == (NOON_MS + 3_000, NOON_MS + 8_000)
    assert only(found, "longest_gap_ms", "longest_gap_from_ms") == (3_000, NOON_MS + 4_000)


def test_a_trade_with_a_doubtful_id_is_a_row_and_counts_for_nothing_else():
    found = facts(pl.concat([trades(1, 2, 5), trades(3, 900, is_ambiguous=True)]), TRADES)
    assert only(found, "rows", "counted", "first_id", "last_id", "missing") == (5, 3, 1, 5, 2)
    doubtful = facts(trades(7, is_ambiguous=True), TRADES)
    assert only(doubtful, "rows", "counted", "first_id", "missing", "longest_gap_ms") == (1, 0, None, None, 0)


def test_bars_are_counted_by_their_step_and_each_interval_alone():
    found = facts(pl.concat([bars(0, 1, 4), bars(0, 5, interval="5m")]), KLINES)
    assert found.select("interval", "rows", "missing", "longest_gap_ms").rows() == [
        ("1m", 3, 2, 180_000),
        ("5m", 2, 0, 0),
    ]


def test_months_differ_in_length_so_nobody_knows_how_many_are_missing():
    assert only(facts(bars(0, 50_000, interval="1M"), KLINES), "missing", "longest_gap_ms") == (None, 3_000_000_000)


def test_a_silence_in_mark_prices_is_a_hole_when_a_second_is_missing():
    assert only(facts(marks(0, 1, 2), MARK_PRICE), "missing", "longest_gap_ms") == (0, 0)
    assert only(facts(marks(0, 1, 3), MARK_PRICE), "missing", "longest_gap_ms") == (1, 2_000)
    assert only(facts(marks(0, 1, 8), MARK_PRICE), "missing", "longest_gap_ms") == (6, 7_000)


def test_of_quotes_only_the_longest_silence_can_be_told():
    times = [NOON, NOON + timedelta(seconds=2), NOON + timedelta(seconds=3)]
    quotes = conform(pl.DataFrame({"symbol": "BTCUSDT", "event_time": times, "update_id": [1, 2, 9]}), BOOK_TICKER)
    found = facts(quotes, BOOK_TICKER)
    assert only(found, "venue", "first_id", "missing", "longest_gap_ms") == ("", None, None, 2_000)


def test_a_table_without_symbols_has_one_row_with_an_empty_one():
    rows = conform(pl.DataFrame({"venue": "aster", "event_time": [NOON]}), CLOCK_OFFSETS)
    assert only(facts(rows, CLOCK_OFFSETS), "symbol", "rows", "longest_gap_ms") == ("", 1, 0)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_described_from_a_few_of_its_columns(name):
    table = TABLES[name]
    times = {column: NOON for column, dtype in table.columns.items() if dtype.is_temporal()}
    rows = conform(pl.DataFrame([times | {"interval": "1m"} if "interval" in table.columns else times] * 2), table)
    found = described(rows.select(describing(table)), table)
    assert found.facts.equals(described(rows, table).facts)
    assert found.facts["rows"].to_list() == [2]
    assert found.spans.equals(described(rows, table).spans)


numbers = st.lists(st.integers(0, 60), min_size=1, max_size=25, unique=True).map(sorted)


@settings(max_examples=10, deadline=None)
@given(numbers, st.integers(1, 24))
def test_pieces_of_a_file_merge_to_what_the_whole_file_says(ids, cut):
    for rows, table, holes in (
        (trades(*ids), TRADES, trade_gaps),
        (bars(*ids), KLINES, lambda rows: kline_gaps(rows, "1m")),
        (marks(*ids), MARK_PRICE, mark_gaps),
    ):
        whole = described(rows, table)
        pieces = [described(part, table) for part in (rows[:cut], rows[cut:]) if not part.is_empty()]
        together = merged(pieces, table)
        assert together.facts.equals(whole.facts)
        assert sorted(together.spans.rows()) == sorted(whole.spans.select(together.spans.columns).rows())
        found = holes(rows)
        length_ms = (found["to_time"] - found["from_time"]).dt.total_milliseconds().max() or 0
        assert only(whole.facts, "missing", "longest_gap_ms") == (found["missing"].sum(), length_ms)
