"""Segments become rows once, however often and however roughly the sealing is interrupted."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data import parquet, raw, sealer, wal
from data.lake import Lake
from data.ledger import newest
from data.manifest import Manifest
from data.sealer import main, seal, seal_folder
from data.tests.struck_program import main_of, struck
from data.wal import Kind, Log, note, segments

ROOT = Path(__file__).parents[2]
START_MS = 1_780_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
TOUCHES_PER_SEGMENT = 50


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def quote(number: int, symbol: str = "BTCUSDT", bid: str = "1.5") -> bytes:
    said = {"e": "bookTicker", "u": number, "E": START_MS, "T": START_MS + number, "s": symbol, "b": bid, "a": "1.6"}
    return json.dumps(said | {"B": "3", "A": "4"}).encode()


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    said = {"e": "aggTrade", "a": number, "E": START_MS, "T": START_MS + number, "s": symbol, "p": "2", "q": "1"}
    return json.dumps(said | {"f": number, "l": number, "m": False}).encode()


def closed_bar(interval: str) -> bytes:
    bar = {"t": START_MS, "i": interval, "o": "1", "h": "1", "l": "1", "c": "1", "x": True, "n": 0, "f": -1, "L": -1}
    bar |= dict.fromkeys("vqVQ", "0")
    return json.dumps({"e": "kline", "E": START_MS, "s": "BTCUSDT", "k": bar}).encode()


def logged(folder: Path, *payloads: bytes) -> Path:
    """A finished segment with these frames, a microsecond apart."""
    with Log(folder) as log:
        for number, payload in enumerate(payloads):
            log.write(START_MS * 1_000_000 + number * 1_000, Kind.FRAME, 0, payload)
    return segments(folder)[-1]


def market(numbers: range) -> list[bytes]:
    """Quotes and trades of two symbols, and now and then a frame that cannot be read."""
    frames = []
    for number in numbers:
        for symbol in SYMBOLS:
            frames += [quote(number, symbol), trade(number, symbol)]
        if number % 50 == 0:
            frames.append(b'{"e":"news","n":%d}' % number)
    return frames


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


def test_following_seals_what_it_is_told_and_ends_with_its_input(tmp_path):
    folder = tmp_path / "wal"
    names = [logged(folder, quote(number)).name for number in (1, 2)]
    logged(folder, quote(3))
    command = [sys.executable, "-m", "data.sealer", str(folder), str(tmp_path / "lake"), "--follow"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        told = [json.loads(process.stdout.readline())]
        for name in names:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline()))
        process.terminate()  # meant for the recorder: the sealer goes on until its input ends
        process.stdin.write("missing.wal\n")
        process.stdin.close()
        told.append(json.loads(process.stdout.readline()))
        assert process.wait() == 0
    assert told[0] == {"segment": None, "open": [], "begun": []}
    assert told[1] == {
        "segment": names[0],
        "records": 1,
        "landed": {"book_ticker": 1},
        "present": 0,
        "conflicts": 0,
        "skipped": {},
        "quarantined": 0,
        "copies": 0,
        "lossy": 0,
        "cut_bytes": 0,
        "open": [],
        "begun": [],
    }
    assert told[2]["landed"] == {"book_ticker": 1}
    assert told[3] == {
        "segment": "missing.wal",
        "error": "there is no such segment: it was sealed before, or never written",
    }
    assert len(segments(folder)) == 1
    assert Lake(tmp_path / "lake").scan("book_ticker")["update_id"].to_list() == [1, 2]


def test_following_goes_on_when_nobody_reads_what_it_says(tmp_path):
    folder = tmp_path / "wal"
    names = [logged(folder, quote(number)).name for number in (1, 2, 3)]
    command = [sys.executable, "-m", "data.sealer", str(folder), str(tmp_path / "lake"), "--follow"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdout.close()
        process.stdin.write("".join(f"{name}\n" for name in names))
        process.stdin.close()
        assert process.wait() == 0
    assert segments(folder) == []


def test_what_the_lake_refuses_is_tried_again_with_the_next_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "wal"
    names = [logged(folder, quote(number)).name for number in (1, 2)]
    tries, seal_once = [], sealer.seal

    def full_at_first(path, *settings, **more):
        tries.append(path.name)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        return seal_once(path, *settings, **more)

    monkeypatch.setattr(sealer, "seal", full_at_first)
    monkeypatch.setattr(sealer.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdin", iter([f"{name}\n" for name in names]))
    assert main([str(folder), str(tmp_path / "lake"), "--follow"]) == 0
    assert tries == [names[0], names[0], names[1]]
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:]
    assert told[0] == {"segment": names[0], "error": "[Errno 28] No space left on device"}
    assert [line["landed"] for line in told[1:]] == [{"book_ticker": 1}] * 2


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_segment_that_somebody_else_sealed_hides_no_time_in_which_nobody_listened(lake, tmp_path, is_shared, capsys):
    folder, streams = tmp_path / "wal", ["btcusdt@bookTicker"]

    def told(log: Log, second: int, what: str, **more: object) -> None:
        log.write((START_MS + 1_000 * second) * 1_000_000, Kind.NOTE, 0, wal.note(what, **more))

    with Log(folder) as log:
        told(log, 0, "started", pid=1)
        told(log, 1, "opened", streams=streams, life=1)
        log.rotate()
        told(log, 60, "listening", open=[[0, 1, streams, 0]])
        told(log, 61, "closed", reason="lost", life=1)
        told(log, 63, "opened", streams=streams, life=2)
        log.rotate()
        told(log, 120, "listening", open=[[0, 2, streams, 0]])
        told(log, 121, "closed", reason="lost", life=2)
        told(log, 151, "opened", streams=streams, life=3)
    first, second, third = (path.name for path in segments(folder))
    following = sealer._Following(folder, lake, None, keep=False)
    following.seal([first])
    if is_shared:
        seal(folder / second, lake, keep=False)
    following.seal([second, third])
    gaps = lake.scan("gaps").select(length=(pl.col("to_time") - pl.col("from_time")).dt.total_seconds())
    assert gaps["length"].to_list() == [2, 30]


def test_what_the_lake_refuses_to_the_end_is_said_with_the_exit_code(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    logged(tmp_path / "wal", quote(1))
    monkeypatch.setattr(sealer, "seal", refuse)
    assert main([str(tmp_path / "wal"), str(tmp_path / "lake")]) == 1


def heard(folder: Path, *records: tuple[float, dict | None]) -> str:
    """A finished segment: a note at each second, or a frame; its name below the folder of logs."""
    with Log(folder) as log:
        for second, told in records:
            payload = b"{}" if told is None else note(**told)
            kind = Kind.FRAME if told is None else Kind.NOTE
            log.write(START_MS * 10**6 + round(second * 1e9), kind, 0, payload)
    return segments(folder)[-1].relative_to(folder.parent).as_posix()


def opened(stream: str, life: int = 1) -> dict:
    return {"what": "opened", "streams": [stream], "life": life}


def goes_on(stream: str, life: int = 1) -> dict:
    return {"what": "listening", "open": [[0, life, [stream], 0]]}


STARTED = {"what": "started"}
BTC, ETH = "btcusdt@bookTicker", "ethusdt@bookTicker"


def unheard(lake: Lake) -> list[tuple[str, float, float, str]]:
    """Symbol, begin and end in seconds, and cause of every gap in quotes."""
    gaps = newest(lake).filter(table="book_ticker").sort("symbol", "from_time")
    seconds = ((pl.col(name).dt.epoch("ms") - START_MS) / 1_000 for name in ("from_time", "to_time"))
    return gaps.select("symbol", *seconds, "cause").rows()


def test_recorders_that_come_back_in_each_others_place_had_heard_until_their_last_frames(lake, tmp_path):
    logs = tmp_path / "wal"
    heard(logs / "0", (0, STARTED), (1, opened(BTC)), (59, None))
    heard(logs / "1", (0, STARTED), (1, opened(ETH)), (60, None))
    assert main([str(logs), str(lake.root)]) == 0
    heard(logs / "0", (60, goes_on(BTC)), (110, None))
    heard(logs / "1", (61, goes_on(ETH)), (119, None))
    heard(logs / "0", (129, STARTED), (130, opened(ETH)), (140, None))
    heard(logs / "1", (129, STARTED), (131, opened(BTC)), (140, None))
    assert main([str(logs), str(lake.root)]) == 0
    assert unheard(lake) == [("BTCUSDT", 110, 131, "crash"), ("ETHUSDT", 119, 130, "crash")]


def test_what_another_sealer_did_since_with_a_log_is_not_forgotten(lake, tmp_path, monkeypatch):
    logs = tmp_path / "wal"
    logs.mkdir()

    def names():
        yield heard(logs / "1", (0, STARTED), (1, opened(ETH)), (50, None))  # left by a recorder that was killed
        for name in (
            heard(logs / "1", (60, STARTED), (61, opened(ETH)), (110, None)),
            heard(logs / "1", (120, goes_on(ETH)), (3_600, None)),
        ):
            seal(logs / name, lake, keep=False)  # by the sealer of its next process
        yield heard(logs / "1", (3_610, STARTED), (3_611, opened(ETH)), (3_620, None))  # left again

    monkeypatch.setattr(sealer.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdin", names())
    assert main([str(logs), str(lake.root), "--follow"]) == 0
    assert unheard(lake) == [("ETHUSDT", 50, 61, "crash"), ("ETHUSDT", 3_600, 3_611, "crash")]


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
