from datetime import UTC, datetime

import polars as pl

from research.daily_loss import DayBook, booked, days_of, is_spent
from research.tests.test_reference import FREE


def test_a_new_day_begins_at_zero():
    book = booked(DayBook(-1, 0.0), 7, -1.5)
    assert book == DayBook(7, -1.5)
    assert booked(book, 7, 0.5) == DayBook(7, -1.0)
    assert booked(book, 8, 0.5) == DayBook(8, 0.5)


def test_a_day_is_spent_when_it_lost_all_it_may():
    terms = FREE._replace(max_daily_loss_usdt=2.0)
    assert [is_spent(DayBook(7, net), terms) for net in (-1.9, -2.0, -3.0, 5.0)] == [False, True, True, False]
    assert not is_spent(DayBook(7, -1e9), FREE)


def test_a_row_belongs_to_the_day_in_which_its_bar_closes():
    closes = [datetime(1970, 1, 2, 23, 59, tzinfo=UTC), datetime(1970, 1, 3, tzinfo=UTC)]
    frame = pl.DataFrame({"close_time": pl.Series(closes, dtype=pl.Datetime("ms", "UTC"))})
    assert days_of(frame).tolist() == [1, 2]
