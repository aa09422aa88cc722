"""Names F20 and F21 are rows of the fault matrix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.budget import Limits, RequestBudget, Urgency

MINUTE_MS = 60_000
LIMITS = Limits(weight_per_minute=100, orders_per_minute=50, buffer=0.1, reserve=0.3)


def spent(weight: int, at_ms: int = 0, orders: int = 0) -> RequestBudget:
    budget = RequestBudget(LIMITS)
    budget.spend(Urgency.AUDIT, weight, orders, at_ms)
    return budget


def test_ways_out_may_use_what_is_kept_from_everything_else():
    budget = spent(63)  # 70 % of the 90 that are used at all
    assert budget.wait_ms(Urgency.ENTRY, 1, 1, 1_000) == 59_000
    assert budget.wait_ms(Urgency.CERTAINTY, 27, 0, 1_000) == 0
    assert budget.wait_ms(Urgency.EXIT, 27, 1, 1_000) == 0
    assert budget.wait_ms(Urgency.EXIT, 28, 1, 1_000) > 0


def test_orders_are_counted_apart_from_weight():
    budget = spent(1, orders=31)  # 70 % of 45
    assert budget.wait_ms(Urgency.ENTRY, 1, 1, 1_000) > 0
    assert budget.wait_ms(Urgency.AUDIT, 1, 0, 1_000) == 0
    assert budget.wait_ms(Urgency.EXIT, 1, 1, 1_000) == 0


def test_what_was_sent_is_forgotten_after_a_minute():
    assert spent(90).wait_ms(Urgency.REST, 1, 0, MINUTE_MS) == 0


def test_the_exchange_counts_others_of_this_address_too():
    budget = RequestBudget(LIMITS)
    budget.told(80, 30_000)
    budget.told(20, 31_000)  # overtaken on its way
    assert budget.wait_ms(Urgency.ENTRY, 1, 1, 31_000) == 29_000
    assert budget.wait_ms(Urgency.ENTRY, 1, 1, MINUTE_MS) == 0


def test_f20_while_throttled_only_exits_leave_one_a_second():
    budget = RequestBudget(LIMITS)
    budget.throttled(10_000, 50_000)
    assert budget.wait_ms(Urgency.CERTAINTY, 1, 0, 10_000) == 50_000
    assert budget.wait_ms(Urgency.EXIT, 1, 1, 10_000) == 0
    budget.spend(Urgency.EXIT, 1, 1, 10_000)
    assert budget.wait_ms(Urgency.EXIT, 1, 1, 10_400) == 600
    assert budget.wait_ms(Urgency.ENTRY, 1, 1, MINUTE_MS) == 0


def test_f21_while_banned_nothing_leaves():
    budget = RequestBudget(LIMITS)
    budget.banned(10_000, 18_000)
    assert all(budget.wait_ms(urgency, 1, 0, 10_000) == 18_000 for urgency in Urgency)
    budget.banned(28_000, 300_000)
    budget.banned(28_000, 120_000)
    assert budget.wait_ms(Urgency.EXIT, 1, 1, 200_000) == 128_000


def test_a_ban_that_is_over_at_once_is_asked_a_second_later():
    budget = RequestBudget(LIMITS)
    budget.banned(10_000, 0)
    assert budget.wait_ms(Urgency.EXIT, 1, 1, 10_000) == 1_000


@pytest.mark.parametrize("name", ["buffer", "reserve"])
@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_share_leaves_something(name, fraction):
    with pytest.raises(ValueError, match=f"{name}: expected a fraction"):
        Limits(**{name: fraction})


REQUESTS = st.lists(
    st.tuples(st.sampled_from(Urgency), st.integers(1, 40), st.integers(0, 3), st.integers(0, 20_000)), max_size=60
)


@given(requests=REQUESTS)
def test_no_minute_holds_more_than_the_limits_leave(requests):
    budget, now_ms, sent = RequestBudget(LIMITS), 0, []
    for urgency, weight, orders, pause_ms in requests:
        now_ms += pause_ms
        if budget.wait_ms(urgency, weight, orders, now_ms) == 0:
            budget.spend(urgency, weight, orders, now_ms)
            sent.append((now_ms, weight, orders))
        within = [each for each in sent if each[0] > now_ms - MINUTE_MS]
        assert sum(weight for _, weight, _ in within) <= 90
        assert sum(orders for _, _, orders in within) <= 45
