"""One file: how its rows are grouped, written, read back and proven."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import parquet
from data.manifest import CorruptFile
from data.schema import DEPTH, INSTRUMENTS, RAW, SCHEMA_VERSION, TRADES, conform
from data.table import TIME_MS


@pytest.fixture
def trades() -> pl.DataFrame:
    return conform(
        pl.DataFrame(
            {
                "venue": "aster",
                "symbol": ["BTCUSDT"] * 3 + ["ETHUSDT"] * 2,
                "agg_trade_id": [1, 2, 3, 1, 2],
                "event_time": [1_000, 1_000, 2_000, 1_500, 1_600],
                "price": [100.0, 100.5, float("nan"), 7.0, None],
                "recv_time": [10**18 + 1, None, 3, 4, 5],
                "source": "ws",
            }
        ),
        TRADES,
    )


def test_small_symbols_share_a_row_group():
    assert list(parquet.row_groups([10, 20, 30])) == [(0, 60)]


def test_a_symbol_that_fills_a_group_has_its_own():
    assert list(parquet.row_groups([20_000, 30_000, 10])) == [(0, 20_000), (20_000, 30_000), (50_000, 10)]


def test_a_symbol_larger_than_a_group_fills_groups_and_its_rest_shares_one():
    assert list(parquet.row_groups([5, 245_761, 7])) == [(0, 5), (5, 122_880), (122_885, 122_880), (245_765, 8)]


@given(st.lists(st.integers(1, 400_000), max_size=12))
def test_row_groups_cover_every_row_once_and_none_is_too_large(runs):
    groups = list(parquet.row_groups(runs))
    assert [offset for offset, _ in groups] == [sum(rows for _, rows in groups[:at]) for at in range(len(groups))]
    assert sum(rows for _, rows in groups) == sum(runs)
    assert all(0 < rows <= parquet.MAX_GROUP_ROWS for _, rows in groups)


def test_what_is_written_is_read_back_with_its_nanoseconds_nulls_and_nans(tmp_path, trades):
    path = tmp_path / "trades" / "dt=1970-01-01" / "a.parquet"
    size, modified_ns, sha256 = parquet.write(path, trades, TRADES)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, modified_ns)
    assert len(sha256) == 64
    assert conform(pl.read_parquet(path), TRADES).equals(trades)
    assert [file.name for file in path.parent.iterdir()] == ["a.parquet"]


def test_ids_and_times_are_delta_encoded_prices_and_text_have_a_dictionary(tmp_path, trades):
    path = tmp_path / "a.parquet"
    parquet.write(path, trades, TRADES)
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    for name in ("agg_trade_id", "event_time", "recv_time"):
        assert "DELTA_BINARY_PACKED" in columns[name].encodings
    for name in ("price", "quantity", "symbol", "source"):
        assert columns[name].has_dictionary_page
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    told = pq.read_metadata(path).metadata
    assert (told[b"table"], told[b"schema_version"]) == (b"trades", str(SCHEMA_VERSION).encode())


def test_the_footer_tells_how_many_digits_write_each_symbols_numbers(tmp_path, trades):
    odd = trades.with_columns(quantity=pl.Series([0.001, 20.0, 3.0, 0.1 + 0.2, 1.0]))
    parquet.write(tmp_path / "a.parquet", odd, TRADES)
    told = json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"decimals"])
    assert told == {"price": {"BTCUSDT": 1, "ETHUSDT": 0}, "quantity": {"BTCUSDT": 3, "ETHUSDT": None}}


def test_the_levels_of_a_book_share_their_digits(tmp_path):
    row = {"venue": "aster", "symbol": "A", "update_id": 1, "event_time": datetime(2026, 1, 1, tzinfo=UTC)}
    book = conform(pl.DataFrame([row | {"bid_price_0": 1.5, "bid_price_1": 1.25, "ask_quantity_3": 7.0}]), DEPTH)
    parquet.write(tmp_path / "a.parquet", book, DEPTH)
    told = json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"decimals"])
    assert told["bid_price"] == {"A": 2}
    assert told["ask_quantity"] == {"A": 0}


def test_a_file_is_the_same_however_it_is_cut_into_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MIN_GROUP_ROWS", 10)
    monkeypatch.setattr(parquet, "MAX_GROUP_ROWS", 25)
    runs = {"A": 3, "B": 60, "C": 9, "D": 2, "E": 26}
    symbols = [symbol for symbol, rows in runs.items() for _ in range(rows)]
    rows = conform(
        pl.DataFrame({"symbol": symbols, "agg_trade_id": range(100), "price": 1.5}).with_columns(
            venue=pl.lit("aster"), event_time=pl.col("agg_trade_id").cast(TIME_MS)
        ),
        TRADES,
    )
    whole = parquet.write(tmp_path / "whole.parquet", rows, TRADES)
    for size in (1, 7, 40):
        with parquet.Writer(tmp_path / f"{size}.parquet", TRADES) as writer:
            for offset in range(0, 100, size):
                writer.add(rows.slice(offset, size))
            assert writer.close().sha256 == whole.sha256
    footer = pq.read_metadata(tmp_path / "whole.parquet")
    lengths = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    assert lengths == [rows for _, rows in parquet.row_groups(runs.values())] == [3, 25, 25, 10, 11, 25, 1]


def test_a_writer_that_is_left_before_its_end_leaves_nothing_behind(tmp_path, trades):
    with pytest.raises(RuntimeError), parquet.Writer(tmp_path / "a.parquet", TRADES) as writer:
        writer.add(trades)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_half_way_is_told_and_left_clean(mounted_disk, monkeypatch):
    monkeypatch.setattr(parquet, "MIN_GROUP_ROWS", 1_000)
    monkeypatch.setattr(parquet, "MAX_GROUP_ROWS", 1_000)
    disk = mounted_disk("size=100k")
    numbers = pl.int_range(30_000, eager=True)
    rows = pl.DataFrame({"symbol": "A", "agg_trade_id": numbers, "price": numbers.hash() % 10**12 / 100})
    rows = conform(rows.with_columns(venue=pl.lit("aster"), event_time=numbers.cast(TIME_MS)), TRADES)
    with pytest.raises(OSError, match="No space left"):
        parquet.write(disk / "trades" / "a.parquet", rows, TRADES)
    assert list((disk / "trades").iterdir()) == []


def test_raw_messages_come_back_byte_for_byte(tmp_path):
    rows = conform(pl.DataFrame({"segment": "0/a.wal", "line": [1, 2], "payload": [b"\x00\xff{", b""], "kind": 0}), RAW)
    parquet.write(tmp_path / "a.parquet", rows, RAW)
    assert pl.read_parquet(tmp_path / "a.parquet")["payload"].to_list() == [b"\x00\xff{", b""]


def test_nested_columns_survive(tmp_path):
    row = {"venue": "aster", "symbol": "BTCUSDT", "event_time": datetime(2026, 1, 1, tzinfo=UTC)}
    rows = [row | {"brackets": [{"max_leverage": 100.0}, {"max_leverage": 50.0}]}, row | {"brackets": None}]
    instruments = conform(pl.DataFrame(rows), INSTRUMENTS)
    parquet.write(tmp_path / "a.parquet", instruments, INSTRUMENTS)


def test_a_disk_that_returns_other_bytes_is_noticed_before_the_file_gets_its_name(tmp_path, trades, monkeypatch):
    path = tmp_path / "a.parquet"
    monkeypatch.setattr(parquet, "_sha256", lambda _: "0" * 64)
    with pytest.raises(CorruptFile, match="check the disk"):
        parquet.write(path, trades, TRADES)
    assert not Path(path).exists()
