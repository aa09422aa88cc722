import math

from live.funding_due import Announcements
from live.readings import Mark


def mark(at_ms: float, rate: float, next_ms: int | None) -> Mark:
    return Mark(int(at_ms * 1e6), int(at_ms), 100.0, 100.0, rate, next_ms)


def test_the_last_word_before_the_time_settles_it():
    announced = Announcements()
    announced.hear(mark(1_000, 0.0001, 10_000))
    announced.hear(mark(9_999, 0.0002, 10_000))
    announced.hear(mark(9_999.5, 0.0003, 20_000))  # known at 10,000: no word before it
    assert announced.next_ms == 10_000
    assert announced.settle() == 0.0002
    assert announced.next_ms == 20_000 and announced.settle() == 0.0003
    assert announced.next_ms is None


def test_a_settlement_that_was_moved_does_not_happen():
    announced = Announcements()
    announced.hear(mark(1_000, 0.0001, 10_000))
    announced.hear(mark(5_000, 0.0001, 20_000))
    assert announced.settle() is None
    assert announced.settle() == 0.0001


def test_a_time_that_has_passed_is_not_settled_again():
    announced = Announcements()
    announced.hear(mark(1_000, 0.0001, 10_000))
    announced.settle()
    announced.hear(mark(10_500, 0.0001, 10_000))  # the exchange announces it a moment longer
    assert announced.next_ms is None


def test_a_mark_without_rate_or_time_announces_nothing():
    announced = Announcements()
    announced.hear(mark(1_000, math.nan, 10_000))
    announced.hear(mark(1_000, 0.0001, None))
    assert announced.next_ms is None
