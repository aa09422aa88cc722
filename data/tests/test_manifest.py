"""The manifest: what it remembers of a file, and which files it finds again."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from data.facts import described, ranges
from data.manifest import FileEntry, Manifest, NewFile, to_ms
from data.schema import CLOCK_OFFSETS, TRADES, conform

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def trades(symbol: str, first_id: int, last_id: int) -> pl.DataFrame:
    """Two trades; an id happens that many seconds after noon."""
    both = [first_id, last_id]
    times = [NOON + timedelta(seconds=number) for number in both]
    return conform(
        pl.DataFrame({"venue": "aster", "symbol": symbol, "agg_trade_id": both, "event_time": times}), TRADES
    )


def entry(path: str, rows: pl.DataFrame) -> FileEntry:
    return FileEntry(
        table="trades",
        dt=date(2026, 1, 1),
        path=path,
        rows=rows.height,
        min_time=rows["event_time"].min(),
        max_time=rows["event_time"].max(),
        bytes=1,
        modified_ns=2,
        sha256="3",
        schema_version=1,
        origin="test",
    )


def new(path: str, rows: pl.DataFrame) -> NewFile:
    return NewFile(entry=entry(path, rows), described=described(rows, TRADES))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    manifest = Manifest(tmp_path, create=True)
    files = {
        "early": trades("BTCUSDT", 0, 10),
        "late": trades("BTCUSDT", 20, 30),
        "other": trades("ETHUSDT", 0, 30),
    }
    manifest.commit([new(path, rows) for path, rows in files.items()])
    return manifest


def paths(entries: list[FileEntry]) -> list[str]:
    return sorted(entry.path for entry in entries)


def test_ranges_are_first_and_last_per_symbol_and_column():
    found = ranges(pl.concat([trades("BTCUSDT", 5, 7), trades("ETHUSDT", 1, 2)]), TRADES).sort("column", "symbol")
    noon = to_ms(NOON)
    assert found.rows() == [
        ("aster", "BTCUSDT", "agg_trade_id", 5, 7),
        ("aster", "ETHUSDT", "agg_trade_id", 1, 2),
        ("aster", "BTCUSDT", "event_time", noon + 5_000, noon + 7_000),
        ("aster", "ETHUSDT", "event_time", noon + 1_000, noon + 2_000),
    ]


def test_ranges_of_a_table_without_symbols_have_an_empty_one():
    rows = conform(pl.DataFrame({"venue": "aster", "event_time": [NOON]}), CLOCK_OFFSETS)
    assert ranges(rows, CLOCK_OFFSETS).row(0)[:3] == ("aster", "", "event_time")


def test_entries_come_back_as_they_were_committed(manifest):
    assert manifest.files()[0] == entry("early", trades("BTCUSDT", 0, 10))


def test_files_are_found_by_symbol_and_half_open_range(manifest):
    def found(**narrow) -> list[str]:
        return paths(manifest.files(TRADES, **narrow))

    assert found() == ["early", "late", "other"]
    assert found(symbols=["BTCUSDT"]) == ["early", "late"]
    assert found(symbols=["BTCUSDT"], start=NOON + timedelta(seconds=11)) == ["late"]
    late, tick = NOON + timedelta(seconds=20), timedelta(microseconds=1)
    early_ends = NOON + timedelta(seconds=10)
    for narrowed in ({"symbols": ["BTCUSDT"]}, {}):
        assert found(**narrowed, end=late + tick)[:2] == ["early", "late"]
        assert "late" not in found(**narrowed, end=late)  # it begins where the range ends
        assert "early" in found(**narrowed, start=early_ends)
        assert "early" not in found(**narrowed, start=early_ends + tick)
        assert paths(manifest.narrowed(**narrowed, end=late + tick)["trades"])[:2] == ["early", "late"]
        assert "late" not in paths(manifest.narrowed(**narrowed, end=late)["trades"])
    assert found(venue="binance") == []
    assert found(symbols=[]) == []


def test_files_that_may_hold_the_same_ids_are_found_by_id(manifest):
    def rivals(first_id: int, last_id: int) -> list[str]:
        return paths(manifest.overlapping(TRADES, TRADES.key, ranges(trades("BTCUSDT", first_id, last_id), TRADES)))

    assert rivals(11, 19) == []
    assert rivals(10, 12) == ["early"]
    assert rivals(0, 99) == ["early", "late"]


def test_pending_paths_are_abandoned_until_they_are_committed(manifest):
    manifest.announce({"early": "trades", "lost": "trades", "other's": "klines"})
    assert manifest.abandoned("trades") == ["lost"]
    manifest.commit([new("lost", trades("BTCUSDT", 40, 41))])
    assert manifest.abandoned("trades") == []
    assert manifest.abandoned("klines") == ["other's"]


def test_a_removed_file_is_found_no_more(manifest):
    manifest.remove("other")
    assert paths(manifest.files()) == ["early", "late"]
    assert manifest.symbols(TRADES) == ["BTCUSDT"]


def test_times_count_milliseconds_in_any_zone():
    assert to_ms(datetime(1970, 1, 1, 1, 0, 0, 7_999, tzinfo=timezone(timedelta(hours=1)))) == 7
    assert to_ms(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000


def test_a_manifest_that_vanished_is_not_made_anew(manifest):
    manifest.path.unlink()
    with pytest.raises(OSError, match="manifest"):
        manifest.files()
    assert not manifest.path.exists()
