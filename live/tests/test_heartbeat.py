"""Signs of life: one file, always whole, and a word to whoever manages the service."""

import socket
from dataclasses import replace

from live.heartbeat import AccountTold, Beat, read_beat, tell_systemd, write_beat

BEAT = Beat(
    pid=7, told_ms=2_000, market_ms=1_000, mode="paper", level="ACTIVE", connection="connected", instance="ppr",
    symbols=("BTCUSDT",),
)  # fmt: skip
ACCOUNT = AccountTold(
    equity_usdt=10_001.5, available_usdt=9_500.0, weight_used=40, weight_limit=2_400, clock_offset_ms=None,
    day_peak_usdt=10_010.0, daily_loss_limit_usdt=500.5,
)  # fmt: skip


def test_the_last_sign_of_life_is_read_back(tmp_path):
    journal = tmp_path / "paper.sqlite"
    assert read_beat(journal) is None
    write_beat(journal, BEAT)
    assert read_beat(journal) == BEAT
    write_beat(journal, replace(BEAT, account=ACCOUNT))
    assert read_beat(journal).account == ACCOUNT
    assert [path.name for path in tmp_path.iterdir()] == ["paper.sqlite.alive"]


def test_the_service_manager_is_told_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell_systemd("READY=1")
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(place)
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        tell_systemd("WATCHDOG=1")
        assert manager.recv(100) == b"WATCHDOG=1"
    tell_systemd("STOPPING=1")
