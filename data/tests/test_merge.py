"""Many files become one: the same rows, the same bytes, in bounded memory."""

import random
from datetime import UTC, date, datetime, timedelta
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import merge as merging
from data.lake import Lake
from data.manifest import CorruptFile
from data.merge import file_rows, merge
from data.schema import KLINES, QUARANTINE, TRADES, conform

DAY = date(2026, 1, 5)
MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def trades(numbers: range, symbol: str = "BTCUSDT", **more: object) -> pl.DataFrame:
    """One trade a second, numbered from midnight on."""
    rows = {
        "venue": "aster",
        "symbol": symbol,
        "agg_trade_id": pl.Series(list(numbers), dtype=pl.Int64),
        "event_time": [MIDNIGHT + timedelta(seconds=number) for number in numbers],
        "price": [100.0 + number % 7 for number in numbers],
        "source": "ws",
    }
    return conform(pl.DataFrame(rows | more), TRADES)


def merged(lake: Lake) -> merging.Merge:
    """All trades of the day, merged but not put in place."""
    with lake.merging():
        return merge(lake, TRADES, DAY, lake.files("trades"), level=2)


def put_in_place(lake: Lake, table) -> merging.Merge:
    """All files of a table and of the day, merged."""
    with lake.merging():
        made = merge(lake, table, DAY, lake.files(table.name), level=2)
        assert lake.replace(lake.files(table.name), made.files)
    return made


def hashes(made: merging.Merge) -> list[str]:
    return [file.entry.sha256 for file in made.files]


def test_the_same_rows_give_the_same_bytes_whatever_files_they_lay_in(tmp_path):
    chance = random.Random(1)
    everything = pl.concat([trades(range(300)), trades(range(40), "ETHUSDT"), trades(range(9), "ASTERUSDT")])
    found = []
    for number, pieces in enumerate((1, 3, 20)):
        lake = Lake(tmp_path / str(number), create=True)
        owner = pl.Series([chance.randrange(pieces) for _ in range(everything.height)])
        for piece in range(pieces):
            lake.append("trades", everything.filter(owner == piece).sample(fraction=1, shuffle=True, seed=1), origin="")
        found.append(hashes(merged(lake)))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


def test_slices_change_nothing(lake, monkeypatch):
    for first in range(0, 200, 50):
        numbers = range(first, first + 50)
        lake.append("trades", pl.concat([trades(numbers), trades(numbers, "ETHUSDT")]), origin="")
    lake.append("trades", trades(range(10), "ASTERUSDT"), origin="")
    whole = merged(lake)
    for held_bytes, rows_at_once in product((0, 1 << 20), (250, 60, 7)):
        monkeypatch.setattr(merging, "_HELD_BYTES", held_bytes)
        monkeypatch.setattr(merging, "_rows_at_once", lambda _, rows=rows_at_once: rows)
        again = merged(lake)
        assert hashes(again) == hashes(whole)
        (one,), (other,) = whole.files, again.files
        assert one.described.facts.equals(other.described.facts)


@pytest.mark.parametrize("held_bytes", [0, 1 << 20])
def test_rows_without_a_symbol_are_merged_too(lake, monkeypatch, held_bytes):
    monkeypatch.setattr(merging, "_HELD_BYTES", held_bytes)
    monkeypatch.setattr(merging, "_rows_at_once", lambda _: 2)
    told = {"file": "0/a.wal", "raw": "x", "quarantined_time": MIDNIGHT}
    for line, symbol in enumerate((None, "BTCUSDT", None, "ASTERUSDT", None)):
        rows = conform(pl.DataFrame([told | {"line": line, "symbol": symbol}], schema_overrides={"symbol": pl.String}),
                       QUARANTINE)  # fmt: skip
        lake.append("quarantine", rows, origin="")
    assert put_in_place(lake, QUARANTINE).files[0].entry.rows == 5
    assert lake.scan("quarantine")["symbol"].to_list() == [None, None, None, "ASTERUSDT", "BTCUSDT"]


def test_a_table_with_intervals_keeps_what_the_manifest_counts(lake):
    for interval, minutes in (("1m", 1), ("5m", 5)):
        for half in range(2):
            times = [MIDNIGHT + timedelta(minutes=minutes * (10 * half + number)) for number in range(10)]
            bars = {"venue": "aster", "symbol": "BTCUSDT", "interval": interval, "open_time": times, "close": 1.5}
            lake.append("klines", conform(pl.DataFrame(bars), KLINES), origin="")
    before = lake.facts(["klines"])
    put_in_place(lake, KLINES)
    after = lake.facts(["klines"])
    assert before.height == 4
    assert after.select("interval", "rows", "missing", "longest_gap_ms").rows() == [("1m", 20, 0, 0), ("5m", 20, 0, 0)]


def test_what_is_too_large_for_one_file_is_cut_between_symbols_or_within_a_larger_one(lake, monkeypatch):
    monkeypatch.setattr(merging, "_max_file_rows", lambda _: 100)
    lake.append("trades", pl.concat([trades(range(60)), trades(range(50), "ETHUSDT")]), origin="")
    lake.append("trades", trades(range(250), "SOLUSDT"), origin="")
    assert [file.entry.rows for file in put_in_place(lake, TRADES).files] == [60, 50, 100, 100, 50]
    assert lake.scan("trades").height == 360
    assert lake.verify() == []


@given(st.lists(st.integers(1, 500), max_size=12))
def test_files_hold_every_row_once_and_none_too_many(runs):
    files = file_rows(runs, 100)
    assert sum(files) == sum(runs)
    assert all(0 < rows <= 100 for rows in files)


def test_rows_with_one_key_are_counted(lake, monkeypatch):
    lake.append("trades", trades(range(10)), origin="")
    monkeypatch.setattr(Lake, "rivals", lambda *_: TRADES.empty())
    lake.append("trades", trades(range(8, 20)), origin="")
    assert merged(lake).duplicates == 2


def test_a_damaged_file_is_named_and_nothing_is_written(lake):
    lake.append("trades", trades(range(10)), origin="")
    lake.append("trades", trades(range(10, 20)), origin="")
    (entry, _) = lake.files("trades")
    path = lake.root / entry.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=path.name):
        merged(lake)
    assert len(list(path.parent.iterdir())) == 2


def test_files_of_an_older_schema_are_merged_with_newer_ones(lake, monkeypatch):
    older = TRADES.columns.names()[:-2]
    lake.append("trades", trades(range(5)), origin="")
    (entry,) = lake.files("trades")
    path = lake.root / entry.path
    pl.read_parquet(path, columns=older).write_parquet(path)
    monkeypatch.setattr(merging.parquet, "prove", lambda *_: 0)
    lake.append("trades", trades(range(5, 10), socket=1), origin="")
    made = merged(lake)
    rows = pl.read_parquet(lake.root / made.files[0].entry.path)
    assert rows["socket"].to_list() == [None] * 5 + [1] * 5
