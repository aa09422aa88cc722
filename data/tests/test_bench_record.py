"""``aster bench record``: both sides receive what is sent, and the frames are those of the wire."""

import pytest

from data.benchmarks import bench_record
from data.benchmarks.frames import mixed_frames
from data.messages import decode


@pytest.fixture(params=["made up", "real"])
def frames(request) -> list[bytes]:
    return mixed_frames(2_000, request.getfixturevalue("real_data") if request.param == "real" else None)


def test_frames_are_messages_of_the_mix_and_all_different(frames):
    assert len(set(frames)) == 2_000
    assert 220 < sum(map(len, frames)) / len(frames) < 240
    names = [type(message).__name__ for frame in frames for message in decode(frame)]
    shares = {name: names.count(name) for name in sorted(set(names))}
    assert shares == {"AggTrade": 840, "BookTicker": 500, "Depth": 460, "Kline": 80, "MarkPrice": 120}


@pytest.mark.parametrize(
    ("side", "sockets"),
    [("ours", 2), ("prompt", 1), ("counting", 1), ("collector", 1), ("looping", 1), ("reading", 1), ("writing", 1)],
)
def test_each_side_receives_all_that_is_sent(side, sockets):
    measured = bench_record.measure(side, mixed_frames(1_000), sockets=sockets, pace=10_000)
    assert 0 < measured["frames"] <= 1_000 * sockets
    assert measured["process_seconds"] > 0
    if side == "prompt":
        assert 0 <= measured["late_ms"] < 10_000


def test_a_frame_is_late_by_the_time_between_its_sending_and_its_stamp():
    sent = [(5, 1_000_000), (10, 2_000_000), (15, 9_000_000)]  # frames sent by then
    assert bench_record.late_ms(sent, [(0, 1_250_000)]) == 0.25
    assert bench_record.late_ms(sent, [(4, 1_500_000), (5, 8_000_000)]) == 6.0
    assert bench_record.late_ms(sent, []) is None
