"""Clocks: what they read and how fast they run."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest

from data.clock import FollowedClock, RealClock, ScaledClock

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


@pytest.mark.parametrize("clock", [RealClock(), ScaledClock(START, 1), FollowedClock(1_767_225_600_123_456_789)])
def test_every_clock_stamps_strictly_later_each_time_and_reads_the_same_in_all_forms(clock):
    before = clock.now_ns()
    stamps = [clock.stamp_ns() for _ in range(1_000)]
    assert before <= stamps[0]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
    assert clock.now_ns() // 1_000_000 <= clock.now_ms()
    assert clock.now() >= START


def test_stamps_go_on_when_the_machine_s_clock_steps_back(monkeypatch):
    times = iter([1_000, 400, 500, 2_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    clock = RealClock()
    assert [clock.stamp_ns() for _ in range(4)] == [1_000, 1_001, 1_002, 2_000]


def test_a_followed_clock_reads_what_it_was_told_and_never_steps_back():
    clock = FollowedClock()
    clock.tell(1_767_225_600_123_456_789)
    clock.tell(1_767_225_600_000_000_000)
    assert clock.now_ns() == 1_767_225_600_123_456_789
    assert clock.now_ms() == 1_767_225_600_123
    assert clock.now() == START + timedelta(microseconds=123_456)
    assert [clock.stamp_ns() - clock.now_ns() for _ in range(3)] == [0, 1, 2]


def test_sleepers_of_a_followed_clock_wake_in_the_order_in_which_they_are_due():
    async def scene():
        clock = FollowedClock()
        clock.attach()
        woken = []

        async def sleeper(name, seconds):
            await clock.sleep(seconds)
            woken.append((name, clock.now_ns()))

        sleepers = [asyncio.create_task(sleeper(*who)) for who in [("c", 3), ("a", 1), ("b", 2), ("b2", 2), ("d", 9)]]
        await asyncio.sleep(0)
        clock.tell(500_000_000)
        await clock.quiet()
        assert woken == []
        clock.tell(3_000_000_000)
        await clock.quiet()
        assert [name for name, _ in woken] == ["a", "b", "b2", "c"]
        clock.tell(9_000_000_000)
        await asyncio.gather(*sleepers)
        return woken[-1]

    assert asyncio.run(scene()) == ("d", 9_000_000_000)


def test_a_cancelled_sleeper_leaves_the_others_asleep_until_they_are_due():
    async def scene():
        clock = FollowedClock()
        clock.attach()
        first, second, third = (asyncio.create_task(clock.sleep(seconds)) for seconds in (1, 2, 3))
        await asyncio.sleep(0)
        first.cancel()
        await clock.quiet()
        clock.tell(2_000_000_000)
        third.cancel()
        await clock.quiet()
        return first.cancelled(), second.done() and not second.cancelled(), third.cancelled()

    assert asyncio.run(scene()) == (True, True, True)


def test_a_sleeper_cancelled_in_the_moment_it_is_due_is_simply_cancelled():
    async def scene():
        clock = FollowedClock()
        clock.attach()
        sleeper = asyncio.create_task(clock.sleep(1))
        await asyncio.sleep(0)
        clock.tell(1_000_000_000)
        sleeper.cancel()
        await asyncio.gather(sleeper, return_exceptions=True)
        return sleeper.cancelled()

    assert asyncio.run(scene())


def test_a_sleep_begun_while_nobody_tells_the_time_returns_although_the_time_stands_still():
    async def scene():
        clock = FollowedClock(5)
        await asyncio.wait_for(clock.sleep(3_600), 20)
        clock.attach()
        clock.detach()
        await asyncio.wait_for(clock.sleep(3_600), 20)
        return clock.now_ns()

    assert asyncio.run(scene()) == 5


def test_a_followed_clock_is_quiet_once_every_hold_is_released_and_woken_tasks_had_their_turn():
    async def scene():
        clock = FollowedClock()
        clock.attach()
        said = []
        due = asyncio.Event()

        async def timer():
            await clock.sleep(1)
            due.set()  # wakes another task, which asks the exchange

        async def request():
            await due.wait()
            with clock.hold():
                await asyncio.sleep(0.02)
                with clock.hold():
                    await asyncio.sleep(0.02)
                said.append("answered")

        async def follower():
            await clock.quiet()
            said.append("quiet")

        tasks = [asyncio.create_task(work()) for work in (timer, request)]
        await asyncio.sleep(0)
        clock.tell(1_000_000_000)
        await asyncio.gather(follower(), *tasks)
        return said

    assert asyncio.run(scene()) == ["answered", "quiet"]
