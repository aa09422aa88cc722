"""A damaged file's rows come back from the raw log; what does not is in the ledger."""

from datetime import UTC, datetime, timedelta

import pytest

from data import raw, wal
from data.lake import Lake
from data.rebuild import is_logged, rebuild
from data.sealer import seal_folder
from data.tests.finished_segments import START_MS, closed_bar, logged, market
from data.wal import Kind

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Two sealed segments of trades and quotes of two symbols, with frames that cannot be read."""
    lake = Lake(tmp_path / "lake", create=True)
    for numbers in (range(60), range(50, 120)):
        logged(lake.root / "wal" / "0", *market(numbers))
        seal_folder(lake.root / "wal", lake)
    return lake


def damage(lake: Lake, path: str) -> None:
    whole = lake.root / path
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    whole.write_bytes(content)


def test_records_come_back_from_the_lake_as_they_were_logged(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    segment = logged(lake.root / "wal" / "0", *market(range(40)))
    seal_folder(lake.root / "wal", lake, keep=True)
    stored = [record for rows in raw.read(lake) for record in raw.as_records(rows)]
    assert stored == list(wal.read(segment))
    later = datetime.fromtimestamp(START_MS / 1_000, UTC) + timedelta(milliseconds=1)
    assert [rows.height for rows in raw.read(lake, end=later)] == [len(stored)]
    assert list(raw.read(lake, start=later)) == []
    assert list(raw.read(lake, kinds=[Kind.ANSWER])) == []


@pytest.mark.parametrize("table", ["trades", "book_ticker", "quarantine"])
def test_a_damaged_file_is_set_aside_and_its_rows_come_back(lake, table):
    before = lake.scan(table)
    (path, *_) = [entry.path for entry in lake.files(table)]
    damage(lake, path)
    rebuilt = rebuild(Lake(lake.root), path, NOW)
    assert (rebuilt.table, rebuilt.gaps) == (table, 0)
    assert rebuilt.recovered == rebuilt.lost > 0
    assert rebuilt.aside.is_file()
    assert lake.scan(table).equals(before)
    assert lake.scan("gaps").is_empty()
    assert lake.verify() == []


@pytest.mark.parametrize("table", ["klines", "kline_updates"])
def test_a_bar_of_hours_comes_back_although_it_came_long_after_it_opened(tmp_path, table):
    lake = Lake(tmp_path / "lake", create=True)
    with wal.Log(lake.root / "wal" / "0") as log:
        log.write((START_MS + 4 * 3_600_000) * 1_000_000, Kind.FRAME, 0, closed_bar("4h"))
    seal_folder(lake.root / "wal", lake)
    before = lake.scan(table)
    (path,) = [entry.path for entry in lake.files(table)]
    damage(lake, path)
    rebuilt = rebuild(Lake(lake.root), path, NOW)
    assert (rebuilt.lost, rebuilt.recovered, rebuilt.gaps) == (1, 1, 0)
    assert lake.scan(table).equals(before)


def test_what_the_raw_log_does_not_hold_is_in_the_ledger(lake):
    (path, *_) = [entry.path for entry in lake.files("trades")]
    assert is_logged(lake, path) and not is_logged(lake, lake.files("raw")[0].path)
    first, last = lake.facts(["trades"]).row(0, named=True)["first_id"], lake.files("trades")[0].rows // 2 - 1
    with lake.merging():
        assert lake.replace(lake.files("raw"), [])
    assert not is_logged(lake, path)
    damage(lake, path)
    rebuilt = rebuild(Lake(lake.root), path, NOW)
    assert (rebuilt.recovered, rebuilt.gaps) == (0, 2)
    told = lake.scan("gaps").select("symbol", "from_id", "to_id", "cause").rows()
    assert told == [(symbol, first, last, "corrupt") for symbol in ("BTCUSDT", "ETHUSDT")]


def test_a_damaged_part_of_the_raw_log_costs_its_rows_only(lake):
    first = min(entry.origin for entry in lake.files("trades"))
    paths = {entry.table: entry.path for entry in lake.files() if entry.origin == first}
    for table in ("raw", "trades"):
        damage(lake, paths[table])
    lake = Lake(lake.root)
    rebuilt = rebuild(lake, paths["raw"], NOW)
    assert (rebuilt.table, rebuilt.recovered) == ("raw", 0)
    rebuilt = rebuild(lake, paths["trades"], NOW)
    assert (rebuilt.lost, rebuilt.recovered, rebuilt.gaps) == (120, 20, 2)  # 50 to 59 are in the second segment too
    assert lake.verify() == []


def test_a_path_that_the_lake_does_not_have_is_refused(lake):
    with pytest.raises(LookupError, match="no such file"):
        rebuild(lake, "trades/dt=2026-01-05/none.parquet")
