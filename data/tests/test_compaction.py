"""Sealed files become hours, hours become days; killed at any moment, the next compaction ends where it would have."""

import json
import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from filelock import FileLock

from data.compaction import compact, main, retire
from data.lake import Lake
from data.schema import RAW, TRADES, conform
from data.tests.struck_program import main_of, struck

DAY = date(2025, 1, 5)
MIDNIGHT = datetime(2025, 1, 5, tzinfo=UTC)
CLOSED = MIDNIGHT + timedelta(days=1, hours=2)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def fill(lake: Lake, minutes: range, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")) -> None:
    """One file a minute, one trade a second and symbol, numbered from midnight on."""
    for minute in minutes:
        for symbol in symbols:
            numbers = list(range(60 * minute, 60 * minute + 60))
            times = [MIDNIGHT + timedelta(seconds=number) for number in numbers]
            rows = {"venue": "aster", "symbol": symbol, "agg_trade_id": numbers, "event_time": times, "price": 1.5}
            lake.append("trades", conform(pl.DataFrame(rows), TRADES), origin=f"{symbol} {minute}")


def levels(lake: Lake, table: str = "trades") -> list[int]:
    return [entry.level for entry in lake.files(table)]


def test_an_hour_is_merged_five_minutes_after_its_end_and_only_once(lake):
    fill(lake, range(57, 63), ("BTCUSDT",))
    rows = lake.scan("trades")
    assert compact(lake, level=1, now=MIDNIGHT + timedelta(hours=1, minutes=4)).merged == []
    told = []
    report = compact(lake, level=1, now=MIDNIGHT + timedelta(hours=1, minutes=5), tell=told.append)
    (merged,) = report.merged
    assert told == [merged]
    assert (merged.table, merged.day, merged.level, merged.rows) == ("trades", DAY, 1, 180)
    assert (merged.files_before, merged.files_after, merged.duplicates, merged.gaps) == (3, 1, 0, 0)
    assert levels(lake) == [1, 0, 0, 0]
    assert lake.scan("trades").equals(rows)
    assert compact(lake, level=1, now=MIDNIGHT + timedelta(hours=1, minutes=6)).merged == []


def test_a_day_is_closed_two_hours_after_midnight_and_again_when_rows_came_late(lake):
    fill(lake, range(3))
    compact(lake, level=1, now=MIDNIGHT + timedelta(hours=2))
    fill(lake, range(60, 62))
    assert compact(lake, level=2, now=CLOSED - timedelta(seconds=1)).merged == []
    (merged,) = compact(lake, level=2, now=CLOSED).merged
    assert (merged.files_before, merged.files_after, merged.rows) == (5, 1, 600)
    assert levels(lake) == [2]
    assert compact(lake, level=2, now=CLOSED).merged == []
    fill(lake, range(3, 4), ("BTCUSDT",))
    assert [merged.rows for merged in compact(lake, level=2, now=CLOSED).merged] == [660]
    assert levels(lake) == [2]
    assert lake.verify() == []


def test_days_that_are_over_are_not_merged_by_the_hour(lake):
    fill(lake, range(3))
    assert compact(lake, level=1, now=CLOSED).merged == []


def test_the_close_of_a_day_is_the_same_to_the_last_bit_whatever_happened_before(tmp_path):
    hashes = []
    for hourly in (False, True):
        lake = Lake(tmp_path / str(hourly), create=True)
        fill(lake, range(55, 65))
        if hourly:
            compact(lake, level=1, now=MIDNIGHT + timedelta(hours=3))
        compact(lake, level=2, now=CLOSED)
        (entry,) = lake.files("trades")
        hashes.append(entry.sha256)
    assert hashes[0] == hashes[1]


def test_holes_that_the_ledger_does_not_know_are_found_when_the_day_closes(lake):
    fill(lake, range(2), ("BTCUSDT",))
    fill(lake, range(3, 4), ("BTCUSDT",))
    (merged,) = compact(lake, level=2, now=CLOSED, tables=["trades"]).merged
    assert merged.gaps == 1
    (gap,) = lake.scan("gaps").to_dicts()
    assert (gap["from_id"], gap["to_id"], gap["missing"]) == (120, 179, 60)


def test_a_damaged_file_keeps_its_day_as_it_is_and_is_told(lake):
    fill(lake, range(2), ("BTCUSDT",))
    path = lake.root / lake.files("trades")[0].path
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    report = compact(lake, level=2, now=CLOSED)
    assert report.merged == []
    (trouble,) = report.troubles
    assert trouble.startswith("trades of 2025-01-05 is not merged: ")
    assert levels(lake) == [0, 0]


def test_a_file_that_is_set_aside_meanwhile_is_not_brought_back(lake, monkeypatch):
    fill(lake, range(2), ("BTCUSDT",))
    gone = lake.files("trades")[0].path
    replace = Lake.replace

    def late(self, old, new):
        self.set_aside(gone)
        return replace(self, old, new)

    monkeypatch.setattr(Lake, "replace", late)
    assert compact(lake, level=2, now=CLOSED).merged == []
    assert levels(lake) == [0]


def test_replaced_files_stay_a_day_for_those_who_read_them(lake):
    fill(lake, range(2), ("BTCUSDT",))
    paths = [lake.root / entry.path for entry in lake.files("trades")]
    compact(lake, level=2, now=CLOSED)
    assert all(path.exists() for path in paths)
    now = datetime.now(UTC)
    assert retire(lake, 30, now + timedelta(hours=23)) == (0, [])
    _, dropped = retire(lake, 30, now + timedelta(hours=25))
    assert sorted(lake.root / path for path in dropped) == sorted(paths)
    assert not any(path.exists() for path in paths)
    assert lake.verify() == []


def test_the_raw_log_goes_when_it_is_old_and_nothing_else_does(lake):
    fill(lake, range(1), ("BTCUSDT",))
    for day in range(3):
        moment = MIDNIGHT + timedelta(days=day)
        row = {"segment": f"0/{day}.wal", "line": 1, "recv_time": moment, "event_time": moment, "payload": b"{}"}
        lake.append("raw", conform(pl.DataFrame([row]), RAW), origin="")
    gone, _ = retire(lake, 2, MIDNIGHT + timedelta(days=4))
    assert gone == 2
    assert lake.scan("raw")["segment"].to_list() == ["0/2.wal"]
    assert lake.scan("trades").height == 60


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_the_next_one_finishes_with_the_same_bytes(tmp_path, seed):
    chance = random.Random(seed)
    hashes, rows = [], []
    for kills in (0, 2):
        lake = Lake(tmp_path / str(kills), create=True)
        fill(lake, range(3))
        for _ in range(kills):
            how = (str(lake.root), "--daily", "--raw-days", "100000")
            struck(main_of("data.compaction"), chance.randrange(1, 40), *how)
        assert main([str(lake.root)]) == 0
        hashes.append([entry.sha256 for entry in lake.files("trades")])
        rows.append(lake.scan("trades"))
        assert lake.verify() == []
    assert hashes[0] == hashes[1]
    assert rows[0].equals(rows[1])


def test_a_second_compactor_leaves_at_once(lake, capsys):
    fill(lake, range(2), ("BTCUSDT",))
    with FileLock(lake.root / "compaction.lock"):
        assert main([str(lake.root), "--daily"]) == 0
    assert levels(lake) == [0, 0]
    assert main([str(lake.root), "--daily"]) == 0
    assert levels(lake) == [2]
    (told,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (told["table"], told["day"], told["rows"]) == ("trades", "2025-01-05", 120)


def test_what_is_over_is_over_by_the_time_that_is_told(lake):
    fill(lake, range(2), ("BTCUSDT",))
    for now, expected in (("2025-01-05T00:30:00", [0, 0]), ("2025-01-05T23:00:00Z", [1])):
        assert main([str(lake.root), "--now", now]) == 0
        assert levels(lake) == expected, now
    assert main([str(lake.root), "--now", "2025-01-06T02:00:00+00:00"]) == 0
    assert levels(lake) == [2]
