"""Several recorders on one lake: who writes where, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data import wal
from data.recorder_locks import finished_segments, is_held, recorded_by_others, take_place

ROOT = Path(__file__).parents[2]
BTC = {"aster": ["btcusdt@aggTrade", "btcusdt@bookTicker"]}
ETH = {"aster": ["ethusdt@aggTrade"]}


def write_segment(log: wal.Log, *, closed: bool) -> None:
    log.write(1, wal.Kind.NOTE, 0, wal.note("started"))
    log.flush()
    if closed:
        log.rotate()


def test_recorders_of_different_streams_share_a_lake_in_folders_of_their_own(tmp_path):
    first, second = take_place(tmp_path, BTC), take_place(tmp_path, ETH)
    with first.log, second.log:
        assert (first.number, second.number) == (0, 1)
        assert second.log.folder == tmp_path / "wal" / "1"
        told = json.loads((tmp_path / "wal" / "1" / "writer.json").read_text())
        assert told == {"pid": os.getpid(), "streams": ETH}


def test_a_second_recorder_of_a_stream_is_refused_with_the_first_one_s_process_and_lock(tmp_path):
    both = {"aster": ["ethusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@aggTrade"]}
    with take_place(tmp_path, BTC).log, pytest.raises(ValueError, match="btcusdt@aggTrade of aster and 1 more") as told:
        take_place(tmp_path, both)
    assert f"process {os.getpid()} (lock {tmp_path / 'wal' / '0' / 'writer.lock'})" in str(told.value)
    assert not (tmp_path / "wal" / "1").exists()


def test_the_same_stream_of_another_venue_is_another_stream(tmp_path):
    with take_place(tmp_path, BTC).log, take_place(tmp_path, {"binance": ["btcusdt@aggTrade"]}).log as second:
        assert second.folder.name == "1"


def test_what_others_record_is_known_as_long_as_they_live(tmp_path):
    with take_place(tmp_path, BTC).log as mine:
        with take_place(tmp_path, {**ETH, "binance": ["btcusdt@aggTrade"]}).log:
            assert recorded_by_others(tmp_path, mine.folder) == {("aster", "ETHUSDT"), ("binance", "BTCUSDT")}
        assert recorded_by_others(tmp_path, mine.folder) == set()


def test_who_only_asks_by_rest_is_in_nobody_s_way(tmp_path):
    with take_place(tmp_path, {}).log, take_place(tmp_path, BTC).log, take_place(tmp_path, {}).log as third:
        assert third.folder.name == "2"


def test_a_recorder_of_an_earlier_version_keeps_every_other_one_away(tmp_path):
    with wal.Log(tmp_path / "wal"), pytest.raises(ValueError, match=f"process {os.getpid()} .* records into this lake"):
        take_place(tmp_path, BTC)


def test_the_place_of_a_killed_recorder_is_free_and_its_segments_are_finished(tmp_path):
    killed = (
        "import os, signal; from pathlib import Path; from data import wal\n"
        "from data.recorder_locks import take_place\n"
        f"log = take_place(Path({str(tmp_path)!r}), {BTC!r}).log\n"
        "log.write(1, wal.Kind.NOTE, 0, wal.note('started')); log.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", killed], cwd=ROOT, check=False).returncode == -9
    (left,) = wal.all_segments(tmp_path / "wal")
    place = take_place(tmp_path, BTC)
    with place.log:
        assert place.number == 0
        assert finished_segments(tmp_path, place.log.folder) == [f"0/{left.name}"]


def test_segments_are_finished_that_are_closed_and_ours_or_nobody_s(tmp_path):
    with wal.Log(tmp_path / "wal") as old:
        write_segment(old, closed=True)
    (of_old,) = wal.segments(tmp_path / "wal")
    mine, other = take_place(tmp_path, BTC), take_place(tmp_path, ETH)
    with mine.log:
        with other.log:
            write_segment(other.log, closed=True)
            write_segment(mine.log, closed=True)
            (of_mine,) = wal.segments(mine.log.folder)
            write_segment(mine.log, closed=False)
            assert is_held(other.log.folder)
            assert finished_segments(tmp_path, mine.log.folder) == [of_old.name, f"0/{of_mine.name}"]
        assert not is_held(other.log.folder)
        (of_other,) = wal.segments(other.log.folder)
        assert set(finished_segments(tmp_path, mine.log.folder)) == {
            of_old.name, f"0/{of_mine.name}", f"1/{of_other.name}",
        }  # fmt: skip
