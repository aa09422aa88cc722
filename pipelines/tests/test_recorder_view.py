"""The recorder's picture in a terminal: every number has its place and its unit."""

from dataclasses import replace

import pytest
from rich.console import Console

from data.recorder_status import SocketStatus, Status
from pipelines.recorder_view import recorders, show

SOCKET = SocketStatus(
    connection=0, venue="aster", shard=0, socket=0, age_s=3_700.0, messages=900, first=600, second=290, only=10,
    lag_ms=60.25, lag_p99_ms=151.0,
)  # fmt: skip
STATUS = Status(
    pid=7, state="recording", venue="aster", lake="data/lake", symbols=("BTCUSDT",), started="2026-01-05T00:00:00.000Z",
    now="2026-01-05T01:00:00.000Z", seconds=3_600.0, connected=2, connections=2, reconnects=3, rotations=1,
    messages={"aggTrade": 1_200, "depth5": 400}, messages_per_second=0.4, last_message=None, lag_ms=60.0,
    lag_p99_ms=150.0, sockets=(SOCKET, replace(SOCKET, socket=1, age_s=None)), unknown=0, drifted=0,
    unsealed_bytes=2_500_000, unsynced_bytes=0, seal_lag_s=0.0, landed={"trades": 590, "depth": 190, "clock": 60},
    already_present=0, conflicts=0, quarantined=5, cut_bytes=0, dropped=0, gaps_open=4, repair_answers=0, rest_weight=0,
    free_bytes=80_000_000_000, disk_full_in_s=1_000_000.0, trouble=("the disk is full",), notices=(),
)  # fmt: skip


def shown(*statuses: Status, before=None, width: int = 80) -> list[str]:
    """What a terminal of that width shows, line by line."""
    console = Console(width=width, record=True, file=None, no_color=True)
    with console.capture() as captured:
        console.print(recorders(statuses, before))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_streams_tables_connections_and_troubles_are_shown():
    lines = shown(STATUS, width=100)
    assert lines[0] == "● recording aster recorder 0, pid 7 2026-01-05 01:00:00 UTC 1:00:00 data/lake"
    assert "aggTrade 1,200 – trades 590" in lines
    assert "depth5 400 – depth 190" in lines
    assert "clock 60" in lines
    assert "all 1,600 0 840" in lines
    assert "aster 0 0 1:01:40 900 600 10 60.2 ms 151.0 ms" in lines
    assert "aster 0 1 closed 900 600 10 60.2 ms 151.0 ms" in lines
    assert "! the disk is full" in lines
    care = "4 gaps to repair · 2.5 MB to seal · 3 reconnects · 1 rotations · 5 quarantined"
    assert f"{care} · 80.0 GB free · disk full in 12 days" in " ".join(lines)


def test_streams_have_rates_as_soon_as_there_is_a_time_before():
    before = replace(STATUS, seconds=3_590.0, messages={"aggTrade": 1_150, "depth5": 400})
    lines = shown(STATUS, before=[before])
    assert "aggTrade 1,200 5.0 trades 590" in lines
    assert "depth5 400 0.0 depth 190" in lines
    assert "all 1,600 5.0 840" in lines


def test_several_recorders_stand_below_each_other(capsys):
    show([STATUS, replace(STATUS, number=1, state="killed", trouble=())], Console(width=100))
    printed = capsys.readouterr().out
    assert printed.index("● recording") < printed.index("● killed  aster  recorder 1")


@pytest.mark.parametrize("width", [40, 200])
def test_no_terminal_is_too_narrow_or_too_wide(width):
    assert shown(STATUS, width=width)
