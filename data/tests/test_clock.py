"""Clocks: what they read and how fast they run."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from data.clock import RealClock, ScaledClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_real_clock_reads_utc_the_same_in_both_forms():
    clock = RealClock()
    before = clock.now_ms()
    now = clock.now()
    after = clock.now_ms()
    assert now.tzinfo is UTC
    assert before <= now.timestamp() * 1_000 <= after + 1


def test_a_scaled_clock_starts_where_it_is_told_and_passes_an_hour_in_a_moment():
    clock = ScaledClock(START, 3_600_000)
    asyncio.run(clock.sleep(3_600))
    assert clock.now() >= START + timedelta(hours=1)
    assert clock.now_ms() >= 1_767_225_600_000 + 3_600_000


def test_a_scaled_clock_sleeps_its_own_seconds(monkeypatch):
    slept = []

    async def note(seconds):
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    asyncio.run(ScaledClock(START, 60).sleep(30))
    asyncio.run(RealClock().sleep(2))
    assert slept == [0.5, 2]


def test_a_scaled_clock_does_not_follow_the_machine_s_clock_back(monkeypatch):
    clock = ScaledClock(START, 1)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() >= START


@pytest.mark.parametrize(
    ("start", "speed"), [(datetime(2026, 1, 1), 1), (START, 0), (START, -1), (START, float("nan"))]
)
def test_a_clock_that_could_not_run_is_refused(start, speed):
    with pytest.raises(ValueError, match="of a clock: expected"):
        ScaledClock(start, speed)
