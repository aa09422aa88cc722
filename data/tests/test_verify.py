"""What is wrong with the files of a lake is found, and nothing else is."""

import random
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data.compaction import compact
from data.lake import Lake
from data.schema import TRADES, conform
from data.verify import verify

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
FILES = 40


def trades(first: int, count: int) -> pl.DataFrame:
    numbers = list(range(first, first + count))
    times = [MIDNIGHT + timedelta(seconds=number) for number in numbers]
    rows = {"venue": "aster", "symbol": "BTCUSDT", "agg_trade_id": numbers, "event_time": times, "price": 1.5}
    return conform(pl.DataFrame(rows), TRADES)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A lake of many files; copy it, never write to it."""
    lake = Lake(tmp_path_factory.mktemp("full") / "lake", create=True)
    for number in range(FILES):
        lake.append("trades", trades(10 * number, 10), origin="")
    return lake.root


@pytest.fixture
def lake(full, tmp_path) -> Lake:
    shutil.copytree(full, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def test_one_flipped_bit_is_found_in_whatever_file_it_is(lake):
    chance = random.Random(1)
    for entry in lake.files():
        path = lake.root / entry.path
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    told = []
    problems = verify(lake, lambda done, of: told.append((done, of)))
    assert [problem.path for problem in problems] == [entry.path for entry in lake.files()]
    assert all("expected sha256" in problem.message for problem in problems)
    assert told[-1] == (FILES, FILES)


def test_a_copied_lake_is_proven_once_and_trusted_from_then_on(lake):
    assert verify(lake) == []
    again = [(entry.modified_ns, (lake.root / entry.path).stat().st_mtime_ns) for entry in lake.files()]
    assert all(told == found for told, found in again)


def test_a_manifest_that_counts_other_rows_than_a_file_has_is_told(lake):
    (path, *_) = [entry.path for entry in lake.files()]
    with sqlite3.connect(lake.root / "manifest.sqlite") as manifest:
        manifest.execute("UPDATE facts SET last_id = last_id + 1 WHERE file = (SELECT id FROM files WHERE path = ?)",
                         (path,))  # fmt: skip
    manifest.close()
    (problem,) = verify(Lake(lake.root))
    assert problem.path == path
    assert "counts other rows" in problem.message


def test_a_missing_file_and_a_stray_are_told_and_replaced_files_are_not(lake):
    compact(lake, level=2, now=MIDNIGHT + timedelta(days=2))
    lake.append("trades", trades(10_000, 5), origin="")
    gone = lake.files("trades")[-1]
    (lake.root / gone.path).unlink()
    stray = lake.root / "trades" / "dt=2026-01-05" / "stray.parquet"
    stray.write_bytes(b"PAR1")
    problems = verify(lake)
    assert [(problem.path, problem.table) for problem in problems] == [
        (gone.path, "trades"),
        ("trades/dt=2026-01-05/stray.parquet", None),
    ]
