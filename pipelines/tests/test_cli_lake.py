"""Looking after the lake from the command line."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from data import wal
from data.lake import Lake
from data.schema import KLINES, TRADES, conform
from pipelines.cli import cli, main
from pipelines.lake_tail import Lines, fresh_rows

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)


def trades(first: int, last: int) -> pl.DataFrame:
    """One trade a second, ids from ``first`` to ``last``; id 0 at midnight."""
    ids = list(range(first, last + 1))
    rows = {
        "venue": "aster", "symbol": "BTCUSDT", "agg_trade_id": ids, "price": 60_000.5, "quantity": 0.25,
        "is_buyer_maker": True, "event_time": [MIDNIGHT + timedelta(seconds=number) for number in ids], "source": "ws",
    }  # fmt: skip
    return conform(pl.DataFrame(rows), TRADES)


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Trades 0 to 99 without 40 to 49, in two files, and an hour of bars."""
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("trades", trades(0, 39), origin="ws")
    lake.append("trades", trades(50, 99), origin="ws")
    opens = [MIDNIGHT + timedelta(minutes=minute) for minute in range(60)]
    bars = pl.DataFrame({"venue": "aster", "symbol": "BTCUSDT", "interval": "1m", "open_time": opens, "close": 1.0})
    lake.append("klines", conform(bars, KLINES), origin="rest")
    return lake


def run(*arguments: str, status: int = 0) -> str:
    """Standard output of a command that ends with that status."""
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == status, result.output
    return result.stdout


def failure(monkeypatch, capsys, *arguments: str) -> str:
    """What a command says that must fail."""
    monkeypatch.setattr(sys, "argv", ["aster", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_coverage_tells_of_each_stream_and_of_the_days_that_lack_rows(lake):
    said = run("coverage", "--lake", str(lake.root))
    assert [line.split()[:2] for line in said.splitlines()[2:4]] == [["klines", "1m"], ["trades", "BTCUSDT"]]
    assert "90.000" in said
    assert "days that lack rows" in said
    assert "aster repair" in said
    assert "2026-01-05" in run("coverage", "--days", "--lake", str(lake.root))


def test_coverage_as_json_is_a_list_of_days(lake):
    rows = json.loads(run("coverage", "--tables", "trades", "--lake", str(lake.root), "--json"))
    assert [(row["date"], row["expected"], row["missing"], row["state"]) for row in rows] == [
        ("2026-01-05", 100, 10, "open")
    ]


def test_a_table_that_does_not_exist_is_named_with_the_one_that_was_meant(monkeypatch, capsys, lake):
    for command in (("coverage", "--tables", "trade"), ("tail", "trade"), ("sizes", "--tables", "trade")):
        assert "did you mean trades" in failure(monkeypatch, capsys, *command, "--lake", str(lake.root))


def test_verify_finds_a_damaged_file_says_what_to_do_and_ends_with_status_1(lake):
    assert "no problem" in run("verify", "--lake", str(lake.root))
    path = lake.root / lake.files("klines")[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said = run("verify", "--lake", str(lake.root), status=1)
    assert "aster verify --set-aside" in said
    told = json.loads(run("verify", "--set-aside", "--lake", str(lake.root), "--json", status=1))
    (problem,) = told["problems"]
    assert Path(problem["aside"]).exists()
    assert problem["recovered"] == 0  # there is no raw log of it
    assert [row["cause"] for row in lake.scan("gaps").to_dicts()] == ["corrupt"]
    assert "no problem" in run("verify", "--lake", str(lake.root))


def test_compact_merges_small_files_once_and_loses_nothing(lake):
    before = lake.scan("trades")
    told = json.loads(run("compact", "--lake", str(lake.root), "--json"))
    merged = [(row["table"], row["files_before"], row["files_after"], row["gaps"]) for row in told["merged"]]
    assert merged == [("klines", 1, 1, 0), ("trades", 2, 1, 1)]
    assert lake.scan("trades").equals(before)
    assert [row["gap_id"] for row in lake.scan("gaps").to_dicts()] == ["trades|BTCUSDT|40|49"]
    assert "nothing to merge" in run("compact", "--lake", str(lake.root))


def test_sizes_tell_rows_and_bytes_per_row_and_what_lies_beside(lake):
    told = json.loads(run("sizes", "--lake", str(lake.root), "--json"))
    assert {row["table"]: (row["files"], row["rows"]) for row in told["tables"]} == {
        "klines": (1, 60),
        "trades": (2, 90),
    }
    sizes = [entry.bytes for entry in lake.files("trades")]
    assert next(row for row in told["tables"] if row["table"] == "trades")["bytes"] == sum(sizes)
    assert told["unsealed_log_bytes"] == told["replaced_bytes"] == 0
    said = run("sizes", "--days", "--tables", "trades", "--lake", str(lake.root))
    assert "2026-01-05" in said
    assert "klines" not in said


def test_tail_begins_with_the_last_rows_and_goes_on_with_what_the_raw_log_has(lake):
    with wal.Log(lake.root / "wal" / "0") as log:
        seen = []
        for number, rows in enumerate(fresh_rows(lake, "trades", symbols=["BTCUSDT"], last=2, every_s=0.0)):
            seen.append(rows["agg_trade_id"].to_list())
            if number == 0:
                log.write(_ns(100), wal.Kind.FRAME, 0, _frame(100))
                log.write(_ns(101), wal.Kind.FRAME, 0, _frame(101))
                log.flush()
            if number == 1:
                lake.append("trades", trades(101, 102), origin="seal")  # one of them was shown already
            if number == 2:
                break
    assert seen == [[98, 99], [100, 101], [102]]


def test_tail_prints_lines_for_people_and_objects_for_scripts(lake):
    shown = run("tail", "trades", "-n", "1", "--run-length", "0.01s", "--lake", str(lake.root)).splitlines()
    assert shown[0].split()[:3] == ["event_time", "symbol", "price"]
    assert shown[1].split()[:4] == ["2026-01-05", "00:01:39.000", "BTCUSDT", "60000.5"]
    arguments = ("--columns", "agg_trade_id", "-n", "2", "--run-length", "0.01s", "--lake", str(lake.root), "--json")
    told = run("tail", "trades", *arguments)
    assert [json.loads(line) for line in told.splitlines()] == [{"agg_trade_id": 98}, {"agg_trade_id": 99}]


def test_the_columns_of_a_followed_table_keep_their_places():
    lines = Lines()
    first, second = lines.line({"symbol": "BTCUSDT", "price": 1.5}), lines.line({"symbol": "X", "price": None})
    assert first.splitlines() == [" symbol  price", "BTCUSDT    1.5"]
    assert second == "      X      –"


def _ns(second: int) -> int:
    return round((MIDNIGHT.timestamp() + second) * 10**9) + 1_000_000


def _frame(number: int) -> bytes:
    time_ms = round((MIDNIGHT.timestamp() + number) * 1_000)
    trade = {"e": "aggTrade", "E": time_ms, "s": "BTCUSDT", "a": number, "p": "60000.5", "q": "0.25", "f": number,
             "l": number, "T": time_ms, "m": True}  # fmt: skip
    return json.dumps({"stream": "btcusdt@aggTrade", "data": trade}).encode()


def test_a_lake_is_pushed_to_a_place_and_read_from_there(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTER_CACHE", str(tmp_path / "cache"))
    place = (tmp_path / "store").as_uri()
    first = json.loads(run("push", place, "--lake", str(lake.root), "--json"))
    assert (first["copied"], first["present"], first["copied_bytes"]) == (
        3,
        0,
        sum(entry.bytes for entry in lake.files()),
    )
    assert run("push", place, "--lake", str(lake.root)).endswith("0 files copied, 0.0 MB; 3 were there, 0 removed\n")
    (row,) = json.loads(run("sql", "select count(*) as trades from trades", "--lake", place, "--json"))
    assert row == {"trades": 90}


def test_a_place_that_is_none_and_a_url_with_a_key_are_refused(lake, monkeypatch, capsys):
    where = ("--lake", str(lake.root))
    assert "expected a URL beginning with" in failure(monkeypatch, capsys, "push", "here", *where)
    told = failure(monkeypatch, capsys, "push", "s3://me:secret@bucket/lake", *where)
    assert "must not hold keys" in told
    assert "secret" not in told
