"""``aster record`` and ``aster loopback`` as people and scripts use them: processes, sockets, signals."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from data.config import load
from data.lake import Lake
from data.loopback.account_keys import keys_of
from data.recorder import RecorderConfig
from data.wal import Log
from pipelines.cli_market import DEFAULT_CONFIG, loopback, record
from pipelines.identity import CHECKOUT

PATIENCE_S = 120
MARKET = ("--symbols", "BTCUSDT,ASTERUSDT", "--days", "0.02", "--seed", "4")  # 29 minutes


def start(*arguments: str, **settings) -> subprocess.Popen:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
    return subprocess.Popen([sys.executable, "-m", "pipelines.cli", *arguments], cwd=CHECKOUT, text=True, **settings)


@contextmanager
def exchange(speed: str = "max") -> Iterator[str]:
    """The URL of a loopback exchange that plays ``MARKET``."""
    with start("loopback", *MARKET, "--speed", speed, "--port", "0", "--json") as process:
        try:
            place = process.stdout.readline()
            yield json.loads(place)["rest_url"]
        finally:
            process.terminate()
            _, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, "")


def finish(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, err
    return out, err


def status_of(lake: Path, *arguments: str) -> str:
    """What ``aster record status`` prints."""
    result = CliRunner().invoke(record, ["status", "--lake", str(lake), *arguments], catch_exceptions=False)
    assert result.exit_code == 1, result.output  # none is alive any more
    return result.stdout


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of an exchange whose time stands still, as nobody follows it."""
    with exchange() as place:
        yield place


def test_recording_for_a_while_ends_by_itself_and_prints_one_object(tmp_path):
    lake = tmp_path / "lake"
    with exchange() as url:
        recording = start("record", "--venue", url, "--symbols", "BTCUSDT,ASTERUSDT", "--lake", str(lake),
                          "--run-length", "20m", "--flush-interval", "5m", "--depth", "5", "--json")  # fmt: skip
        out, err = finish(recording)
        told = json.loads(out)
        assert err == ""
        assert told["state"] == "stopped"
        assert 1_200 <= told["seconds"] < 1_740
        landed = {table: Lake(lake).scan(table).height for table in told["landed"]}
        assert landed == told["landed"]
        assert landed["mark_price"] >= 2 * 1_200
    assert json.loads(status_of(lake, "--json")) == told


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_recorder_asked_to_stop_brings_everything_into_the_lake(sign, tmp_path):
    lake = tmp_path / "lake"
    with exchange(speed="60") as url:
        recording = start("record", "--venue", url, "--symbols", "BTCUSDT", "--streams", "aggTrade,markPrice",
                          "--lake", str(lake), "--flush-interval", "30s")  # fmt: skip
        while not (lake / "mark_price").exists():
            assert recording.poll() is None
            time.sleep(0.02)  # without it this loop takes a whole core from what it waits for
        recording.send_signal(sign)
        out, err = finish(recording)
    assert err == ""
    assert "recorded BTCUSDT into" in out
    told = json.loads(status_of(lake, "--json"))
    assert (told["state"], told["unsealed_bytes"]) == ("stopped", 0)
    marks = Lake(lake).scan("mark_price")
    assert marks.height + marks["recv2_time"].count() == told["messages"]["markPrice"]  # on one socket or on both
    assert not list((lake / "wal").rglob("*.wal"))
    assert "stopped" in status_of(lake)


def test_a_terminal_shows_one_line_that_changes(tmp_path):
    master, terminal = pty.openpty()
    with exchange(speed="300") as url:
        recording = start("record", "--venue", url, "--symbols", "BTCUSDT", "--lake", str(tmp_path / "lake"),
                          "--run-length", "10m", stderr=terminal)  # fmt: skip
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # the terminal's other end is gone
            while part := os.read(master, 65_536):
                shown += part
        finish(recording)
    os.close(master)
    assert b"recording" in shown
    assert b"reconnects 0" in shown
    assert shown.count(b"\n") <= 1  # the last one, before the line is erased


def refused(*arguments: str) -> str:
    """What a command that must fail says, in one piece."""
    out, err = finish(start(*arguments), status=1)
    assert out == ""
    assert "Traceback" not in err
    return " ".join(err.split())


def test_a_second_recorder_is_refused_with_the_first_one_s_process(url, tmp_path):
    with Log(tmp_path / "lake" / "wal"):
        said = refused("record", "--venue", url, "--symbols", "BTCUSDT", "--lake", str(tmp_path / "lake"))
    assert f"process {os.getpid()}" in said
    assert str(tmp_path) in said


def test_a_symbol_that_is_not_traded_is_refused_with_the_one_that_was_meant(url, tmp_path):
    said = refused("record", "--venue", url, "--symbols", "BTCUSD", "--lake", str(tmp_path / "lake"))
    assert "the exchange has no BTCUSD; did you mean BTCUSDT?" in said


def test_an_exchange_that_does_not_answer_is_named(tmp_path):
    said = refused("record", "--venue", "http://127.0.0.1:9", "--lake", str(tmp_path / "lake"))
    assert "venue http://127.0.0.1:9" in said
    assert "is it running?" in said


def test_a_lake_on_a_disk_that_is_not_there_is_refused_with_its_folder(url, tmp_path):
    said = refused("record", "--venue", url, "--symbols", "BTCUSDT", "--lake", str(tmp_path / "none" / "lake"))
    assert f"there is no folder {tmp_path / 'none'}" in said


@pytest.fixture
def read_only(mounted_disk) -> Path:
    return mounted_disk("size=400k,ro")


def test_a_read_only_lake_is_refused_with_its_path_and_what_it_needs(url, read_only):
    said = refused("record", "--venue", url, "--symbols", "BTCUSDT", "--lake", str(read_only / "lake"))
    assert str(read_only / "lake") in said
    assert "mount it writable" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--depth", "7"), "'7' is not one of '5', '10', '20'"),
        (("--run-length", "soon"), "such as 15m, got 'soon'"),
        (("--flush-interval", "0"), "such as 15m, got '0'"),
        (("--venue", "nowhere"), "expected aster, testnet, loopback or a URL"),
        (("--streams", "aggTrade,books"), "streams: unknown 'books'; there are kline, bookTicker"),
        (("--symbols", "BTC/USDT"), "such as BTCUSDT, got 'BTC/USDT'"),
    ],
)
def test_values_that_there_are_not_are_refused_by_name(arguments, said, tmp_path):
    result = CliRunner().invoke(record, [*arguments, "--lake", str(tmp_path / "lake")])
    assert result.exit_code != 0
    assert said in result.output + str(result.exception)
    assert not (tmp_path / "lake").exists()


def test_the_default_markets_are_a_config_that_can_be_copied_and_changed(tmp_path):
    assert load(RecorderConfig, DEFAULT_CONFIG).symbols == ("BTCUSDT", "ETHUSDT", "ASTERUSDT", "BNBUSDT", "SOLUSDT")
    mine = tmp_path / "mine.toml"
    mine.write_text(DEFAULT_CONFIG.read_text().replace("depth_levels", "depth_level"))
    result = CliRunner().invoke(record, ["--config", str(mine)])
    assert "mine.toml: unknown key 'depth_level'; did you mean depth_levels?" in str(result.exception)


def test_a_status_without_a_recorder_says_how_to_start_one(tmp_path):
    assert "start one with `aster record`" in refused("record", "status", "--lake", str(tmp_path))


def test_a_loopback_exchange_tells_the_keys_of_its_test_accounts(tmp_path):
    accounts = tmp_path / "accounts.toml"
    accounts.write_text("accounts = 2\nseed = 7\n")
    agent = "0x" + "ab" * 20
    options = ("--speed", "max", "--port", "0", "--json", "--accounts", str(accounts), "--agent", agent)
    with start("loopback", *MARKET, *options) as process:
        place = json.loads(process.stdout.readline())
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert place["accounts"] == [vars(keys_of(7, number)) for number in range(2)]
    refused = CliRunner().invoke(loopback, ["--agent", "0xab"])
    assert "agent: expected an address" in str(refused.exception)


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "inf"])
def test_a_speed_that_is_none_is_refused(speed):
    result = CliRunner().invoke(loopback, ["--speed", speed])
    assert f"expected max, or a factor such as 1 or 60, got '{speed}'" in result.output
