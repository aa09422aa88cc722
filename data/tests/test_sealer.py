"""Segments become rows once, however often and however roughly the sealing is interrupted."""

import gzip
import json
import random

import polars as pl
import pytest

from data import parquet, raw, sealer, wal
from data.lake import Lake
from data.manifest import Manifest
from data.sealer import main, seal, seal_folder
from data.tests.finished_segments import closed_bar, logged, market, quote, trade
from data.tests.struck_program import main_of, struck
from data.wal import Kind, Log, segments

TOUCHES_PER_SEGMENT = 50


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def content(lake: Lake) -> dict[str, pl.DataFrame]:
    return {table: lake.scan(table) for table in ("book_ticker", "trades", "quarantine", "conflicts", "gaps", "raw")}


def assert_same(lake: Lake, other: Lake) -> None:
    others = content(other)
    for table, rows in content(lake).items():
        assert rows.equals(others[table]), table


def test_a_segment_lands_once_and_a_second_time_adds_nothing(lake, tmp_path):
    segment = logged(tmp_path / "wal", quote(1), quote(2), trade(1), b"noise", quote(1, bid="1.4"))
    first = seal(segment, lake)
    assert (first.records, first.landed, first.present) == (5, {"book_ticker": 2, "trades": 1}, 0)
    assert (first.conflicts, first.quarantined, first.cut_bytes) == (1, 1, 0)
    before = content(lake)
    second = seal(segment, lake)
    assert (second.records, second.landed, second.present) == (5, {}, 0)
    assert all(rows.equals(before[table]) for table, rows in content(lake).items())
    assert {file.origin for file in lake.files("trades")} == {f"wal {segment.name}"}


def test_slices_do_not_change_what_lands(tmp_path, monkeypatch):
    segment = logged(tmp_path / "wal", *market(range(20)), quote(1)[:-1] + b',"x":1}', quote(2)[:-1] + b',"x":1}')
    lakes = []
    for number, records in enumerate((200_000, 7)):
        monkeypatch.setattr(sealer, "SLICE_RECORDS", records)
        lakes.append(Lake(tmp_path / f"lake{number}", create=True))
        assert seal(segment, lakes[-1]).landed == {"book_ticker": 40, "trades": 40}
    assert_same(*lakes)
    assert lakes[0].scan("quarantine")["line"].to_list() == [1 * 4 + 1, 82]


def test_every_record_is_kept_as_it_came(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(sealer, "SLICE_RECORDS", 2)
    segment = logged(tmp_path / "wal" / "3", quote(1), b"\x00noise", trade(1))
    seal(segment, lake)
    rows = lake.scan("raw")
    assert rows.select("segment", "line", "kind").rows() == [(f"3/{segment.name}", line, 0) for line in (1, 2, 3)]
    assert raw.as_records(rows) == list(wal.read(segment))


@pytest.mark.parametrize("interval", ["banana", "0m", "-1m", "99999999999999m"])
def test_a_bar_of_an_interval_that_is_none_is_put_aside_and_holds_up_nothing(lake, tmp_path, interval):
    segment = logged(tmp_path / "wal", closed_bar("1m"), closed_bar(interval))
    sealed = seal(segment, lake)
    assert (sealed.landed, sealed.quarantined) == ({"kline_updates": 1, "klines": 1}, 1)
    assert "$.k.i" in lake.scan("quarantine")["reason"][0]


def test_bars_of_a_month_may_come_alone(lake, tmp_path):
    segment = logged(tmp_path / "wal", closed_bar("1M"))
    assert seal(segment, lake).landed == {"kline_updates": 1, "klines": 1}


def test_what_is_missing_between_trades_is_in_the_ledger_and_told(lake, tmp_path, capsys):
    logged(tmp_path / "wal" / "0", trade(1), trade(2), trade(6))
    logged(tmp_path / "wal" / "1", trade(4))
    assert main([str(tmp_path / "wal"), str(lake.root)]) == 0
    (gap,) = lake.scan("gaps").to_dicts()
    assert (gap["table"], gap["from_id"], gap["to_id"], gap["missing"], gap["state"]) == ("trades", 3, 5, 3, "open")
    open_gaps = [json.loads(line)["open"] for line in capsys.readouterr().out.splitlines()]
    assert [[told["remaining"] for told in each] for each in open_gaps] == [[[[3, 5]]], [[[3, 3], [5, 5]]]]


def test_a_slice_is_stored_whole_or_not_at_all(lake, tmp_path, monkeypatch):
    segment = logged(tmp_path / "wal", *market(range(4)))
    monkeypatch.setattr(sealer, "SLICE_RECORDS", 10)
    commit, commits = Manifest.commit, []

    def full_at_the_second(*given, **more):
        commits.append(more)
        if len(commits) == 2:
            raise OSError(28, "No space left on device")
        return commit(*given, **more)

    with monkeypatch.context() as full:
        full.setattr(Manifest, "commit", full_at_the_second)
        with pytest.raises(OSError, match="No space left"):
            seal(segment, lake)
    name = raw.segment_name(segment)
    assert lake.sealed_records(name) == lake.scan("raw").height == 10
    assert sum(lake.scan(table).height for table in ("book_ticker", "trades", "quarantine")) == 10
    sealed = seal(segment, lake)
    assert (sealed.records, sum(sealed.landed.values())) == (17, 7)
    assert lake.scan("raw").height == 17


def test_a_folder_is_sealed_segment_by_segment_and_emptied_except_for_the_one_that_grows(lake, tmp_path):
    folder = tmp_path / "wal"
    logged(folder, quote(1))
    logged(folder, quote(2))
    with Log(folder) as log:
        log.write(1, Kind.FRAME, 0, quote(3))
        log.flush()
        growing = segments(folder)[-1]
        with pytest.raises(ValueError, match="a process still writes to it"):
            seal(growing, lake)
        assert [sealed.landed for sealed in seal_folder(folder, lake)] == [{"book_ticker": 1}] * 2
        assert segments(folder) == [growing]
    assert [sealed.landed for sealed in seal_folder(folder, lake, keep=True)] == [{"book_ticker": 1}]
    assert segments(folder) == [growing]
    assert [sealed.records for sealed in seal_folder(folder, lake)] == [1]
    assert segments(folder) == []
    assert lake.scan("book_ticker")["update_id"].to_list() == [1, 2, 3]


def test_a_torn_tail_is_counted_told_in_the_quarantine_and_kept_aside(lake, tmp_path):
    segment = logged(tmp_path / "wal", quote(1), quote(2))
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-10])
    for keep in (True, False):
        sealed = seal(segment, lake, keep=keep)
        assert (sealed.records, sealed.cut_bytes, sealed.quarantined) == (1, len(whole) // 2 - 10, 1)
    (told,) = lake.scan("quarantine").to_dicts()
    assert (told["file"], told["line"]) == (segment.name, 2)
    assert told["reason"] == f"cut: {sealed.cut_bytes} bytes behind record 1 cannot be read"
    assert '"bookTicker", "u": 2' in told["raw"]
    aside = segment.with_name(f"{segment.name}.cut")
    assert aside.read_bytes() == whole[:-10]
    assert seal_folder(segment.parent, lake) == []


def test_a_flipped_bit_costs_what_lies_behind_it_and_nothing_before(lake, tmp_path):
    segment = logged(tmp_path / "wal", *(quote(number) for number in range(10, 20)))
    content = bytearray(segment.read_bytes())
    size = len(content) // 10
    content[4 * size + 30] ^= 1
    segment.write_bytes(content)
    sealed = seal(segment, lake)
    assert (sealed.records, sealed.cut_bytes) == (4, 6 * size)
    assert lake.scan("book_ticker")["update_id"].to_list() == [10, 11, 12, 13]


def test_an_empty_segment_is_nothing(lake, tmp_path):
    segment = logged(tmp_path / "wal", quote(1))
    segment.write_bytes(b"")
    assert seal(segment, lake, keep=False).landed == {}
    assert not segment.exists()


def test_a_full_disk_leaves_the_segment_and_the_next_sealing_finishes(lake, tmp_path, monkeypatch):
    segment = logged(tmp_path / "wal", *market(range(3)))

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(parquet, "write", refuse)
        with pytest.raises(OSError, match="No space left"):
            seal(segment, lake, keep=False)
    assert segment.exists()
    assert seal(segment, lake, keep=False).landed == {"book_ticker": 6, "trades": 6}


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_and_sealed_again_the_lake_is_the_same(tmp_path, seed):
    chance = random.Random(seed)
    folder, root = tmp_path / "wal", tmp_path / "lake"
    undisturbed = Lake(tmp_path / "undisturbed", create=True)
    for number in range(3):
        seal(logged(folder, *market(range(100 * number, 100 * number + 150))), undisturbed)
    for _ in range(3):
        assert struck(main_of("data.sealer"), chance.randrange(1, TOUCHES_PER_SEGMENT), str(folder), str(root))
    assert main([str(folder), str(root)]) == 0
    assert segments(folder) == []
    assert_same(Lake(root), undisturbed)
    assert Lake(root).verify() == []


def test_what_the_lake_refuses_to_the_end_is_said_with_the_exit_code(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    logged(tmp_path / "wal", quote(1))
    monkeypatch.setattr(sealer, "seal", refuse)
    assert main([str(tmp_path / "wal"), str(tmp_path / "lake")]) == 1


def test_a_real_burst_goes_through_log_and_lake_and_comes_back(lake, tmp_path, real_data):
    folder = tmp_path / "wal"
    with Log(folder) as log, gzip.open(real_data / "frames" / "binance_ethusdt_20240808.gz") as lines:
        for line in lines:
            recv_ns, payload = line.rstrip(b"\n").split(b" ", 1)
            log.write(int(recv_ns), Kind.FRAME, 0, payload)
    (sealed,) = seal_folder(folder, lake, venue="binance")
    assert sealed.landed == {"book_ticker": 53_992, "raw_trades": 14_076}
    assert (sealed.records, sealed.skipped, sealed.quarantined) == (74_655, {"depthUpdate of a whole book": 6_586}, 1)
    assert lake.scan("book_ticker", venue="binance").height == 53_992
    assert wal.segments(folder) == []
