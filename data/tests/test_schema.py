"""The dictionary of tables holds together, and frames are brought into its form."""

from datetime import UTC, datetime

import polars as pl
import pytest

from data.schema import BOOK_TICKER, DEPTH, FUNDING, KLINES, TABLES, TRADES, conform, is_test_symbol

every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


@every_table
def test_time_and_keys_are_columns_of_the_table(table):
    assert {table.time, *table.key, *table.fallback_key, *([table.ids] if table.ids else [])} <= set(table.columns)
    assert table.columns[table.time] == pl.Datetime("ms", "UTC")


@every_table
def test_no_column_is_sorted_by_twice(table):
    assert len(set(table.sort)) == len(table.sort)


@every_table
def test_an_empty_frame_has_the_table_s_columns(table):
    assert table.empty().schema == table.columns


@every_table
def test_percent_exists_nowhere(table):
    assert not [name for name in table.columns if "pct" in name or "percent" in name]


def test_files_are_ordered_by_symbol_then_time_then_key():
    assert KLINES.sort == ("symbol", "open_time", "venue", "interval")


def test_rows_are_found_again_by_time_and_by_the_ids_and_times_of_their_keys():
    assert TRADES.ranged == ("event_time", "agg_trade_id")
    assert BOOK_TICKER.ranged == ("event_time", "update_id", "recv_time")


def test_the_book_has_twenty_levels_of_two_sides():
    assert len([name for name in DEPTH.columns if name.startswith(("bid_", "ask_"))]) == 80


def test_test_contracts_are_known_by_their_name():
    assert is_test_symbol("TESTUSDT") and is_test_symbol("test1usdt")
    assert not is_test_symbol("BTCUSDT")


def test_absent_columns_become_null_and_order_and_types_become_the_table_s():
    row = conform(pl.DataFrame({"event_time": [1_000], "symbol": ["BTCUSDT"], "funding_rate": [0]}), FUNDING)
    assert row.schema == FUNDING.columns
    assert row.row(0) == (None, "BTCUSDT", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 0.0, None, None)


def test_numbers_sent_as_text_are_read():
    assert conform(pl.DataFrame({"price": ["2.2412"]}), TRADES)["price"].to_list() == [2.2412]


def test_a_frame_without_columns_is_an_empty_table():
    assert conform(pl.DataFrame(), FUNDING).schema == FUNDING.columns


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ({"agg_id": [1]}, "unknown columns \\['agg_id'\\]"),
        ({"agg_trade_id": [1.5]}, "agg_trade_id takes whole numbers"),
        ({"agg_trade_id": [float("nan")]}, "agg_trade_id takes whole numbers"),
        ({"price": ["cheap"]}, "cheap"),
        ({"source": ["telegraph"]}, "telegraph"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_table_s_name(frame, complaint):
    with pytest.raises(ValueError, match=f"table trades: .*{complaint}"):
        conform(pl.DataFrame(frame), TRADES)
