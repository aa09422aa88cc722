"""A sealer that follows a recorder seals what it is told, and knows between segments what was heard and what not."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data import sealer, wal
from data.lake import Lake
from data.ledger import newest
from data.sealer import main, seal
from data.tests.finished_segments import START_MS, logged, quote
from data.wal import Kind, Log, note, segments

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


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
