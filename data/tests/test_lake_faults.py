"""The lake through crashes, full disks and flipped bits: nothing is lost and nothing is silently wrong."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data.lake import CorruptFile, Lake
from data.manifest import Manifest
from data.tests.test_lake import MIDNIGHT, ids, landed, parquet_files, trades


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


CRASH = """
import os, sys
from pathlib import Path
import polars as pl
from data import parquet
from data.lake import Lake
from data.manifest import Manifest
from data.tests.test_lake import BEFORE, MIDNIGHT, ids, landed, parquet_files, trades

root, moment = sys.argv[1:]
die = lambda *_, **__: os._exit(9)
if moment == "before the commit":
    Manifest.commit = die
else:
    Path.replace = die  # the temporary file is written, its rename never happens
Lake(Path(root)).append("trades", pl.read_parquet(Path(root).parent / "rows.parquet"), origin="ws")
"""

APPEND = """
import sys
from pathlib import Path
import polars as pl
from data.lake import Lake

root, symbol = sys.argv[1:]
lake = Lake(Path(root), create=True)
rows = pl.read_parquet(Path(root).parent / "rows.parquet").with_columns(symbol=pl.lit(symbol))
for number in range(8):
    lake.append("trades", rows[number : number + 2], origin=symbol)
    lake.append("trades", rows[number : number + 2].with_columns(symbol=pl.lit("SHAREDUSDT")), origin=symbol)
"""


def run(script: str, *arguments: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=root, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", ["before the commit", "before the rename"])
def test_an_append_killed_at_any_moment_leaves_nothing_visible_and_can_be_repeated(lake, moment):
    lake.append("trades", trades([1]), origin="ws")
    trades([1, 2, 3]).write_parquet(lake.root.parent / "rows.parquet")
    with run(CRASH, str(lake.root), moment) as process:
        assert process.wait() == 9, process.stderr.read()
    assert len(parquet_files(lake)) > 1
    assert ids(lake) == [1]
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].item() == 1
    assert [problem.message[:19] for problem in lake.verify()] == ["not in the manifest"] * (
        len(parquet_files(lake)) - 1
    )
    assert lake.append("trades", trades([1, 2, 3]), origin="ws") == landed(2, known=1)
    assert ids(lake) == [1, 2, 3]
    assert parquet_files(lake) == sorted(lake.root / entry.path for entry in lake.files())
    assert lake.verify() == []


def test_two_processes_that_append_at_once_lose_nothing(tmp_path):
    trades(list(range(1, 10))).write_parquet(tmp_path / "rows.parquet")
    symbols = ["BTCUSDT", "ETHUSDT"]
    processes = [run(APPEND, str(tmp_path / "lake"), symbol) for symbol in symbols]
    for process in processes:
        with process:
            assert process.wait() == 0, process.stderr.read()
    lake = Lake(tmp_path / "lake")
    for symbol in [*symbols, "SHAREDUSDT"]:
        assert lake.scan("trades", symbols=[symbol])["agg_trade_id"].to_list() == list(range(1, 10))
    assert lake.scan("conflicts").is_empty()
    assert lake.verify() == []


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free space"), (errno.EROFS, "mount it writable")])
def test_a_disk_that_refuses_loses_nothing_and_leaves_nothing(lake, monkeypatch, code, remedy):
    lake.append("trades", trades([1]), origin="ws")
    files = parquet_files(lake)

    def refuse(_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match=remedy) as caught:
            lake.append("trades", trades([1, 2, 3]), origin="ws")
    assert caught.value.errno == code
    assert str(lake.root) in str(caught.value)
    assert parquet_files(lake) == files
    assert ids(lake) == [1]
    assert lake.append("trades", trades([1, 2, 3]), origin="ws") == landed(2, known=1)


def test_a_manifest_that_cannot_grow_is_reported_as_a_full_disk(lake, monkeypatch):
    def refuse(*_):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("data.manifest_entries.to_row", refuse)
    with pytest.raises(OSError, match="free space") as caught:
        lake.append("trades", trades([1]), origin="ws")
    assert caught.value.errno == errno.ENOSPC
    assert parquet_files(lake) == []


@pytest.fixture
def small_disk(mounted_disk) -> Path:
    """A disk of 400 kB."""
    return mounted_disk("size=400k")


def test_a_really_full_disk_loses_nothing_and_stays_readable(small_disk):
    lake = Lake(small_disk / "lake", create=True)
    lake.append("trades", trades([1]), origin="ws")
    many = trades(list(range(1, 60_001))).with_columns(price=pl.int_range(60_000).hash().cast(pl.Float64))
    with pytest.raises(OSError, match=str(small_disk)) as caught:
        lake.append("trades", many, origin="ws")
    assert caught.value.errno == errno.ENOSPC
    assert len(parquet_files(lake)) == 1
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(400_000))
    assert ids(lake) == [1]
    with pytest.raises(OSError, match="free space"):
        lake.append("trades", trades([2]), origin="ws")
    filler.unlink()
    assert lake.append("trades", trades([2]), origin="ws") == landed(1)


def test_a_read_only_disk_is_readable_and_an_append_says_what_is_needed(small_disk):
    Lake(small_disk / "lake", create=True).append("trades", trades([1]), origin="ws")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    lake = Lake(small_disk / "lake")
    assert ids(lake) == [1]
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].item() == 1
    with pytest.raises(OSError, match="mount it writable") as caught:
        lake.append("trades", trades([2]), origin="ws")
    assert caught.value.errno == errno.EROFS


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_anywhere_is_reported_with_the_file_and_what_to_do(lake):
    lake.append("trades", trades(list(range(3, 300))), origin="ws")
    (entry,) = lake.files()
    path = lake.root / entry.path
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        flip(path, at)
        for read in (lambda: lake.scan("trades"), lambda: lake.sql("SELECT count(*) FROM trades")):
            with pytest.raises(CorruptFile, match=f"{entry.path}: expected sha256 .*aster verify"):
                read()
        path.write_bytes(whole)
    assert lake.scan("trades").height == 297


def test_rot_that_leaves_the_modification_time_alone_is_caught_by_the_page_checksum(lake):
    lake.append("trades", trades(list(range(3, 3_000))).with_columns(price=pl.int_range(2_997) * 0.1), origin="ws")
    (entry,) = lake.files()
    path = lake.root / entry.path
    flip(path, path.stat().st_size // 2)
    os.utime(path, ns=(entry.modified_ns, entry.modified_ns))
    with pytest.raises(CorruptFile, match=entry.path):
        lake.scan("trades")


def test_a_missing_file_is_reported_not_skipped(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    (lake.root / lake.files()[0].path).unlink()
    for read in (lambda: lake.scan("trades"), lambda: lake.sql("SELECT 1")):
        with pytest.raises(CorruptFile, match="the file is missing"):
            read()
    assert lake.scan("trades", start=MIDNIGHT).height == 1


def test_a_copied_lake_reads_and_verify_trusts_it_again(lake):
    lake.append("trades", trades([1]), origin="ws")
    (entry,) = lake.files()
    os.utime(lake.root / entry.path, ns=(1, 1))
    assert ids(lake) == [1]
    assert lake.verify() == []
    assert lake.files()[0].modified_ns == 1


def test_verify_names_every_damaged_and_every_stray_file(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    damaged, intact = lake.files()
    flip(lake.root / damaged.path, 50)
    (lake.root / intact.path).with_name("stray.parquet").write_bytes(b"")
    found = {(problem.path, problem.table) for problem in lake.verify()}
    assert found == {(damaged.path, "trades"), (f"trades/dt={intact.dt}/stray.parquet", None)}


def test_verify_compares_what_the_manifest_says_with_the_rows(lake):
    lake.append("trades", trades([1]), origin="ws")
    database = sqlite3.connect(lake.root / "manifest.sqlite")
    with database:
        database.execute("UPDATE files SET rows = 7")
    database.close()
    (problem,) = lake.verify()
    assert problem.message.startswith("the manifest says (7, ")


def test_a_file_set_aside_is_kept_and_its_rows_can_be_appended_again(lake):
    lake.append("trades", trades([1]), origin="ws")
    (entry,) = lake.files()
    flip(lake.root / entry.path, 50)
    with pytest.raises(CorruptFile):
        lake.append("trades", trades([1]), origin="ws")
    assert lake.set_aside(entry.path).is_file()
    assert lake.append("trades", trades([1]), origin="ws") == landed(1)
    assert lake.verify() == []


def test_a_reader_never_waits_for_a_writer(lake):
    lake.append("trades", trades([1]), origin="ws")
    with Manifest(lake.root).locked("trades"):
        assert ids(lake) == [1]


def test_a_writer_that_waits_too_long_says_for_whom(lake, monkeypatch):
    monkeypatch.setattr("data.manifest.LOCK_WAIT_SECONDS", 0)
    with Manifest(lake.root).locked("trades"), pytest.raises(TimeoutError, match="another process has been writing"):
        lake.append("trades", trades([1]), origin="ws")
