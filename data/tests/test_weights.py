"""What questions cost, and that nobody spends more than was granted."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from data.clock import FollowedClock, RealClock, ScaledClock
from data.venues.weights import Budget, weight_of

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("limit", "weight"), [(99, 1), (100, 2), (499, 2), (500, 5), (1_000, 5), (1_001, 10), (1_500, 10)]
)
def test_klines_cost_by_how_many_are_asked(limit, weight):
    for path in ("/fapi/v3/klines", "/fapi/v1/klines", "/fapi/v3/markPriceKlines", "/fapi/v3/indexPriceKlines"):
        assert weight_of(path, {"symbol": "BTCUSDT", "interval": "1m", "limit": limit}) == weight


@pytest.mark.parametrize(("limit", "weight"), [(5, 2), (50, 2), (100, 5), (500, 10), (1_000, 20)])
def test_a_book_costs_by_its_levels(limit, weight):
    assert weight_of("/fapi/v3/depth", {"symbol": "BTCUSDT", "limit": limit}) == weight


def test_without_a_limit_the_default_of_the_exchange_counts():
    assert weight_of("/fapi/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}) == 5
    assert weight_of("/fapi/v3/depth", {"symbol": "BTCUSDT", "limit": None}) == 10


@pytest.mark.parametrize(
    ("path", "params", "weight"),
    [
        ("/fapi/v3/aggTrades", {"symbol": "BTCUSDT", "limit": 1}, 20),
        ("/fapi/v3/historicalTrades", {"symbol": "BTCUSDT"}, 20),
        ("/fapi/v3/fundingRate", {"symbol": "BTCUSDT", "limit": 1_000}, 1),
        ("/fapi/v3/exchangeInfo", {}, 1),
        ("/fapi/v1/openInterest", {"symbol": "BTCUSDT"}, 1),
        ("/fapi/v1/ticker/24hr", {}, 40),
        ("/fapi/v1/ticker/24hr", {"symbol": "BTCUSDT"}, 1),
        ("/fapi/v3/ticker/price", {}, 2),
    ],
)
def test_everything_else_costs_what_the_documentation_says(path, params, weight):
    assert weight_of(path, params) == weight


def by_the_clock(spend: Callable[[FollowedClock], Awaitable[list[int]]]) -> list[int]:
    """What is granted by a clock that passes a second whenever nobody has anything left to do."""

    async def scene() -> list[int]:
        clock = FollowedClock(round(START.timestamp()) * 10**9)
        clock.attach()
        spending = asyncio.ensure_future(spend(clock))
        while True:
            await clock.quiet()
            if spending.done():
                return spending.result()
            clock.tell(clock.now_ns() + 10**9)

    return asyncio.run(asyncio.wait_for(scene(), 20))


def test_the_budget_grants_at_once_until_it_is_spent_and_again_a_minute_later():
    async def spend(clock: FollowedClock) -> list[int]:
        budget = Budget(clock, per_minute=100)
        began_ms, granted = clock.now_ms(), []
        for _ in range(7):
            await budget.take(40)
            granted.append((clock.now_ms() - began_ms) // 60_000)
        return granted

    assert by_the_clock(spend) == [0, 0, 1, 1, 2, 2, 3]


def test_in_no_minute_more_is_spent_than_granted():
    async def spend() -> None:
        clock = FollowedClock(1)
        clock.attach()
        budget = Budget(clock, per_minute=100)
        spent: list[tuple[int, int]] = []

        async def take(weight: int) -> None:
            await budget.take(weight)
            spent.append((clock.now_ns(), weight))

        tasks = [asyncio.create_task(take(weight)) for weight in (20, 50, 20, 20, 50, 1, 99, 20)]
        while not all(task.done() for task in tasks):
            await clock.quiet()
            clock.tell(clock.now_ns() + 7 * 10**9)
        assert sum(weight for _, weight in spent) == 280
        for moment, _ in spent:
            assert sum(weight for when, weight in spent if 0 <= when - moment < 60 * 10**9) <= 100

    asyncio.run(asyncio.wait_for(spend(), 10))


def test_what_costs_more_than_a_minute_grants_waits_until_nothing_else_counts():
    async def spend(clock: FollowedClock) -> list[int]:
        budget = Budget(clock, per_minute=10)
        began_ms, granted = clock.now_ms(), []
        for weight in (20, 5, 20):
            await budget.take(weight)
            granted.append((clock.now_ms() - began_ms) // 60_000)
        return granted

    assert by_the_clock(spend) == [0, 1, 2]


def test_when_others_have_used_the_minute_nothing_is_granted_before_the_next():
    async def spend(clock: FollowedClock) -> list[int]:
        budget = Budget(clock)
        granted = []
        for told in (None, 2_000, 2_001):
            budget.told(told)
            await budget.take(1)
            granted.append((clock.now() - START).seconds // 60)
        return granted

    assert by_the_clock(spend) == [0, 0, 1]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_longer_than_a_minute():
    class Told(RealClock):
        time_ns = 7_200 * 10**9

        def now_ns(self) -> int:
            return self.time_ns

        async def sleep(self, seconds: float) -> None:
            self.time_ns += round(seconds * 1e9)

    async def spend(used_weight: int | None) -> int:
        clock = Told()
        budget = Budget(clock, per_minute=100)
        await budget.take(100)
        budget.told(used_weight)
        clock.time_ns -= 3_600 * 10**9
        began_ns = clock.time_ns
        await budget.take(100)
        return (clock.time_ns - began_ns) // 10**9

    assert [asyncio.run(spend(used_weight)) for used_weight in (None, 2_001)] == [60, 60]


@pytest.mark.parametrize("per_minute", [0, -5, 2_401])
def test_a_budget_that_the_exchange_would_not_grant_is_refused(per_minute):
    with pytest.raises(ValueError, match=f"expected 1 to 2400.*got {per_minute}"):
        Budget(ScaledClock(START, speed=1), per_minute=per_minute)
