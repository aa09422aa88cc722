"""Appends of several tables at once, how far the raw log is sealed, and merges: all or nothing."""

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data import manifest_database, parquet
from data.facts import described, describing, merged
from data.lake import FileEntry, Lake, Landed, Listened, NewFile, SegmentDone
from data.schema import TRADES
from data.tests.test_lake import BEFORE, ids, landed, parquet_files, trades

NAME = "0/00000000000000000001-7-000000.wal"
NEXT_DAY = BEFORE + timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def clock(offset_ms: float) -> pl.DataFrame:
    return pl.DataFrame({"venue": "aster", "event_time": [BEFORE], "offset_ms": offset_ms})


def done(records: int, *, is_whole: bool = False) -> SegmentDone:
    return SegmentDone(name=NAME, records=records, is_whole=is_whole)


# --- appends ---------------------------------------------------------------------------------------------------------


def test_several_tables_land_together_with_how_far_the_segment_is_sealed(lake):
    found = lake.append_all({"trades": trades([1, 2]), "clock": clock(1.0)}, origin="wal", segment=done(3))
    assert found == {"trades": landed(2), "clock": landed(1)}
    assert lake.sealed_records(NAME) == 3
    assert lake.sealed_records("1/another.wal") == 0
    assert lake.sealed([NAME]) == {NAME: done(3)}


def test_when_one_table_cannot_be_written_none_is_and_the_segment_is_not_sealed(lake, monkeypatch):
    write = parquet.write

    def full(path, frame, table):
        if table.name == "trades":
            raise OSError(28, "No space left on device")
        return write(path, frame, table)

    both = {"clock": clock(1.0), "trades": trades([1])}
    with monkeypatch.context() as disk:
        disk.setattr(parquet, "write", full)
        with pytest.raises(OSError, match="free space"):
            lake.append_all(both, origin="wal", segment=done(2))
    assert lake.files() == parquet_files(lake) == []
    assert lake.sealed_records(NAME) == 0
    assert lake.append_all(both, origin="wal", segment=done(2)) == {"clock": landed(1), "trades": landed(1)}


def test_one_refused_row_keeps_every_table_out(lake):
    with pytest.raises(ValueError, match="test contracts"):
        lake.append_all({"clock": clock(1.0), "trades": trades([1], symbol="TESTUSDT")}, origin="wal")
    assert lake.files() == []


def test_a_segment_without_rows_is_sealed_all_the_same(lake):
    assert lake.append_all({}, origin="wal", segment=done(5)) == {}
    assert lake.append_all({"trades": pl.DataFrame()}, origin="wal", segment=done(9, is_whole=True)) == {
        "trades": landed(0)
    }
    assert lake.sealed([NAME]) == {NAME: done(9, is_whole=True)}


def test_a_segment_whose_rows_are_all_known_is_sealed_all_the_same(lake):
    lake.append("trades", trades([1]), origin="import")
    assert lake.append_all({"trades": trades([1])}, origin="wal", segment=done(1)) == {"trades": landed(0, known=1)}
    assert lake.sealed_records(NAME) == 1


def test_a_second_copy_whose_twin_was_sealed_before_is_already_present(lake):
    lake.append("trades", trades([1, 2]), origin="wal a")
    late = trades([2, 3]).with_columns(recv_time=BEFORE + timedelta(seconds=9), socket=1)
    assert lake.append("trades", late, origin="wal b") == landed(1, known=1)
    assert lake.scan("trades")["socket"].to_list() == [None, None, 1]


def test_contradictions_in_several_tables_are_told_in_one_append(lake):
    lake.append_all({"trades": trades([1]), "clock": clock(1.0)}, origin="wal")
    again = lake.append_all({"trades": trades([1], price=9.0), "clock": clock(2.0)}, origin="rest")
    assert again == {"trades": landed(0, conflicts=1), "clock": landed(0, conflicts=1)}
    assert sorted(lake.scan("conflicts")["table"]) == ["clock", "trades"]


def test_what_was_listened_to_is_remembered_and_never_goes_back(lake):
    def told(until_ns: int, why: str = "reconnect") -> Listened:
        return Listened(venue="aster", stream="btcusdt@depth5", until_ns=until_ns, why=why)

    lake.append_all({}, origin="wal", listened=[told(20)])
    lake.append_all({}, origin="wal", listened=[told(10), Listened(venue="binance", stream="a", until_ns=1, why="x")])
    assert lake.listened()["aster", "btcusdt@depth5"] == told(20)
    assert len(lake.listened()) == 2
    lake.append_all({}, origin="wal", listened=[told(30, "stopped")])
    assert lake.listened()["aster", "btcusdt@depth5"].why == "stopped"


def test_a_lake_held_still_shows_nothing_that_lands_meanwhile(lake):
    lake.append("trades", trades([1]), origin="wal")
    with lake.still() as (moment, fresh):
        lake.append_all({"trades": trades([2])}, origin="wal", segment=done(1))
        assert (ids(moment), moment.sealed_records(NAME), fresh) == ([1], 0, {})
    assert ids(lake) == [1, 2]


# --- merges ----------------------------------------------------------------------------------------------------------


def merged_file(lake: Lake, old: list[FileEntry]) -> NewFile:
    """One file with the rows of several of one day, written in two pieces as far as the manifest knows."""
    rows = lake.scan("trades", start=old[0].min_time, end=old[-1].max_time + timedelta(milliseconds=1))
    path = lake.place("trades", old[0].dt)
    written = parquet.write(lake.root / path, rows, TRADES)
    pieces = [described(part.select(describing(TRADES)), TRADES) for part in (rows[:1], rows[1:])]
    described_rows = merged(pieces, TRADES)
    return NewFile.of(TRADES, old[0].dt, path, described_rows, written=tuple(written), origin="merge", level=1)


def merge(lake: Lake, old: list[FileEntry]) -> bool:
    return lake.replace(old, [merged_file(lake, old)])


@pytest.fixture
def small_files(lake: Lake) -> list[FileEntry]:
    """Three files of one day with a trade each."""
    for number in (1, 2, 4):
        lake.append("trades", trades([number], start=NEXT_DAY), origin="wal")
    return lake.files("trades")


def test_a_merge_puts_one_file_in_the_place_of_several(lake, small_files):
    with lake.merging():
        assert merge(lake, small_files)
    (entry,) = lake.files("trades")
    assert (entry.rows, entry.level, entry.min_time) == (3, 1, NEXT_DAY)
    assert ids(lake) == [1, 2, 4]
    assert lake.facts(["trades"]).select("rows", "first_id", "last_id", "missing", "level").rows() == [(3, 1, 4, 1, 1)]
    assert lake.append("trades", trades([4, 5], start=NEXT_DAY), origin="wal") == landed(1, known=1)


def test_replaced_files_stay_for_their_readers_and_go_later(lake, small_files):
    with lake.connect() as before:
        with lake.merging():
            merge(lake, small_files)
        assert before.sql("SELECT count(*) FROM trades").fetchall() == [(3,)]
    assert [each.path for each in lake.replaced()] == sorted(entry.path for entry in small_files)
    assert {each.by for each in lake.replaced()} == {lake.files("trades")[0].path}
    assert lake.verify() == []
    assert lake.drop_replaced(datetime.now(UTC) - timedelta(hours=24)) == []
    assert len(lake.drop_replaced(datetime.now(UTC) + timedelta(seconds=1))) == 3
    assert parquet_files(lake) == [lake.root / entry.path for entry in lake.files()]
    assert lake.replaced() == []


def test_a_merge_of_a_file_that_is_gone_changes_nothing_and_leaves_nothing(lake, small_files):
    with lake.merging():
        file = merged_file(lake, small_files)
        lake.set_aside(small_files[0].path)
        assert not lake.replace(small_files, [file])
    assert lake.files("trades") == small_files[1:]
    assert lake.replaced() == []
    assert len(parquet_files(lake)) == 4  # one set aside, one that became no part of the lake
    with lake.merging():
        assert len(parquet_files(lake)) == 3


def test_a_merge_that_lost_a_row_is_refused(lake, small_files):
    with lake.merging(), pytest.raises(ValueError, match=r"keeps every row: the 3 files .* have 3, .* their place 2"):
        lake.replace(small_files, [merged_file(lake, small_files[:2])])
    assert lake.files("trades") == small_files


def test_a_merge_that_died_is_cleared_by_the_next_and_not_by_an_append(lake):
    path = lake.root / lake.place("trades", date(2026, 1, 2))
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.tmp").write_bytes(b"half")
    lake.append("trades", trades([1], start=NEXT_DAY), origin="wal")
    assert len(parquet_files(lake)) == 2
    with lake.merging():
        assert len(parquet_files(lake)) == 1


def test_a_file_that_is_being_written_is_no_stray(lake):
    with lake.merging():
        path = lake.root / lake.place("trades", date(2026, 1, 2))
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        assert lake.strays() == []
    assert lake.strays() == [path.relative_to(lake.root).as_posix()]


# --- what is known without reading -----------------------------------------------------------------------------------


def test_facts_are_told_per_file_and_owner_and_can_be_narrowed(lake):
    lake.append("trades", trades([1, 2, 5]), origin="wal")
    lake.append("trades", trades([7], symbol="ETHUSDT"), origin="wal")
    lake.append("clock", clock(1.0), origin="wal")
    found = lake.facts()
    assert found.select("table", "dt", "symbol", "rows", "missing").rows() == [
        ("clock", date(2026, 1, 1), "", 1, None),
        ("trades", date(2026, 1, 1), "BTCUSDT", 2, 0),
        ("trades", date(2026, 1, 2), "BTCUSDT", 1, 0),
        ("trades", date(2026, 1, 2), "ETHUSDT", 1, 0),
    ]
    assert lake.facts(["trades"], ["ETHUSDT"])["first_time"].to_list() == [BEFORE + timedelta(seconds=6)]
    assert lake.facts(["trades"], end=BEFORE + timedelta(seconds=1))["last_id"].to_list() == [2]
    assert lake.facts(venue="binance")["table"].to_list() == []


def test_the_universe_is_what_traded_at_that_time(tmp_path):
    lake = Lake(tmp_path / "lake", create=True, allow_test_symbols=True)
    history = [
        ("BTCUSDT", 0, "TRADING"), ("OLDUSDT", 0, "TRADING"), ("OLDUSDT", 5, "SETTLING"), ("NEWUSDT", 5, "TRADING"),
        ("TESTUSDT", 0, "TRADING"),
    ]  # fmt: skip
    rows = [
        {"venue": "aster", "symbol": symbol, "event_time": BEFORE + timedelta(days=day), "status": status}
        for symbol, day, status in history
    ]
    lake.append("instruments", pl.DataFrame(rows), origin="exchangeInfo")
    assert lake.universe(BEFORE - timedelta(days=1)) == []
    assert lake.universe(BEFORE) == ["BTCUSDT", "OLDUSDT"]
    assert lake.universe(BEFORE + timedelta(days=5)) == ["BTCUSDT", "NEWUSDT"]
    assert lake.universe(BEFORE, venue="binance") == []


# --- a manifest of an older format -----------------------------------------------------------------------------------


def as_format_1(lake: Lake) -> None:
    """Rewrite the manifest as the first program kept it."""
    with sqlite3.connect(lake.root / "manifest.sqlite") as database:
        files = database.execute("SELECT * FROM files").fetchall()
        spans = database.execute("SELECT * FROM spans").fetchall()
    database.close()
    for leftover in lake.root.glob("manifest.sqlite*"):
        leftover.unlink()
    database = sqlite3.connect(lake.root / "manifest.sqlite")
    database.executescript(manifest_database._LAYOUT_1)
    database.executemany(f"INSERT INTO files VALUES ({', '.join('?' * 12)})", [row[:12] for row in files])
    database.executemany("INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?)", spans)
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()


def test_a_lake_of_format_1_is_brought_forward_and_loses_nothing(lake):
    lake.append("trades", trades([1, 2, 4]), origin="import")
    facts, files = lake.facts(), lake.files()
    as_format_1(lake)
    forward = Lake(lake.root)
    assert (forward.files(), ids(forward)) == (files, [1, 2, 4])
    assert forward.facts().equals(facts)
    assert forward.append_all({"trades": trades([4, 5])}, origin="wal", segment=done(2)) == {
        "trades": Landed(landed=1, already_present=1, conflicts=0)
    }
    assert forward.verify() == []
    assert Lake(lake.root).sealed_records(NAME) == 2


def test_a_lake_of_format_2_is_brought_forward_and_does_not_know_when_listening_began(lake):
    heard = Listened(venue="aster", stream="btcusdt@aggTrade", until_ns=20, why="open", since_ns=7)
    lake.append_all({"trades": trades([1])}, origin="wal", listened=[heard])
    database = sqlite3.connect(lake.root / "manifest.sqlite")
    database.execute("ALTER TABLE listened DROP COLUMN since_ns")
    database.execute("PRAGMA user_version = 2")
    database.close()
    forward = Lake(lake.root)
    assert (ids(forward), list(forward.listened().values())) == ([1], [replace(heard, since_ns=None)])
    forward.append_all({}, origin="wal", listened=[heard])
    assert list(Lake(lake.root).listened().values()) == [heard]


def test_a_snapshot_is_one_file_with_the_lake_of_that_moment(lake, tmp_path):
    lake.append("trades", trades([1]), origin="wal")
    copied = tmp_path / "copy"
    copied.mkdir()
    lake.snapshot(copied / "manifest.sqlite")
    lake.append("trades", trades([2]), origin="wal")
    assert [path.name for path in copied.iterdir()] == ["manifest.sqlite"]
    assert [entry.rows for entry in Lake(copied).files()] == [1]
