"""One file: how its rows are grouped, written, read back and proven."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import parquet
from data.manifest import CorruptFile
from data.schema import INSTRUMENTS, TRADES, conform


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


def test_a_symbol_larger_than_a_group_is_cut_into_equal_ones():
    assert list(parquet.row_groups([5, 245_761])) == [(0, 5), (5, 81_920), (81_925, 81_920), (163_845, 81_921)]


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
    assert pq.read_metadata(path).metadata == {b"table": b"trades", b"schema_version": b"1"}


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
