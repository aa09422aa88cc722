"""The rules of several symbols on one account, slow and in plain Python: the judge of ``research.portfolio``.

Written from the rules: each symbol is a ``reference.Book``, and what they may hold together is added up from the books
themselves whenever one of them wants to enter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from research.reference import Book, Record


@dataclass(frozen=True, kw_only=True)
class JointRecord:
    """Per book what it did, and how many of its entries the shared limits kept out."""

    records: list[Record]
    refused: list[int]


def simulate(
    books: Sequence[Book],
    known_ms: Sequence[Sequence[int]],
    days: Sequence[int],
    max_positions: float = math.inf,
    max_usdt: float = math.inf,
    max_daily_loss_usdt: float = math.inf,
) -> JointRecord:
    """Trade all rows of all books, flat at the start.

    Parameters
    ----------
    known_ms : per book, when each of its rows became known; at one moment the books' order counts.
    days : of every row, since 1970.
    """
    refused = [0] * len(books)
    ordered_usdt = [0.0] * len(books)  # of the position a book holds
    for i in range(len(days)):
        # Sent in this row, filled or not: it is on the way when the next one is decided.
        sent: dict[int, float] = {}
        for which in sorted(range(len(books)), key=lambda k: known_ms[k][i]):
            book = books[which]
            decision = book.wanted(i)
            if decision is None:
                continue
            usdt = book.ordered_usdt(decision, i)
            if usdt == 0.0:
                continue
            counted = {k: ordered_usdt[k] for k, each in enumerate(books) if each.position is not None} | sent
            lost_usdt = -sum(each.net_usdt[days[i]] for each in books)
            is_too_much = len(counted) + 1 > max_positions or sum(counted.values()) + usdt > max_usdt
            if is_too_much or lost_usdt >= max_daily_loss_usdt:
                refused[which] += 1
                continue
            book.enter(decision, i)
            sent[which] = ordered_usdt[which] = usdt
        for book in books:
            book.live_through(i)
    return JointRecord(records=[book.record(len(days)) for book in books], refused=refused)
