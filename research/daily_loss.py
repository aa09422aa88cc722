"""The daily limit: once a book lost so much in a UTC day, it enters nothing more that day.

What counts is money that moved: fees and funding when they are paid, the gain of a trade when it is closed. At a
decision the book is flat, so that this is all there is. A row belongs to the day in which its bar closes, and what
happens in its execution bar to the row.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from research.fills import Terms
from research.jit import njit

DAY_MS = 86_400_000


class DayBook(NamedTuple):
    """Net PnL of one day."""

    day: int  # since 1970
    net_usdt: float


NOTHING_BOOKED = DayBook(-1, 0.0)


@njit
def booked(book: DayBook, day: int, amount_usdt: float) -> DayBook:
    """The book after money came (positive) or went; a new day begins at zero."""
    return DayBook(day, (book.net_usdt if day == book.day else 0.0) + amount_usdt)


@njit
def is_spent(book: DayBook, terms: Terms) -> bool:
    """Did the day lose what it may?"""
    return book.net_usdt <= -terms.max_daily_loss_usdt


def require_uncoupled(terms: Terms) -> None:
    """Refuse terms under which a trade depends on those before it.

    Raises
    ------
    ValueError
        When a day's loss bars entries.
    """
    if terms.max_daily_loss_usdt != math.inf:
        raise ValueError("max_daily_loss_usdt couples trades; use kernel.sweep")


def days_of(frame: pl.DataFrame) -> np.ndarray:
    """Day of every row of a bars frame: int64, shape (n_rows,), days since 1970."""
    return frame["close_time"].dt.epoch("ms").to_numpy() // DAY_MS


def one_day(n_rows: int) -> np.ndarray:
    """Days of rows that all belong to one."""
    return np.zeros(n_rows, np.int64)
