"""Books as columns: their levels come as text, and become numbers all at once."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data.landing_columns import lossy_places
from data.messages import Depth, pairs_of
from data.schema import MAX_DEPTH_LEVELS

_NOT_NUMBERS = "levels: expected pairs of numbers, 0 or above"
_TOO_DEEP = "levels: the book is deeper than its stream's name says"
_SPACES = b" \t\r\n"
_NO_LEVEL = (None, None)


class LossyLevel(NamedTuple):
    """A number of a book that is not its text: which book, and both."""

    book: int
    text: str
    number: float


def book_columns(books: Sequence[Depth]) -> tuple[pl.DataFrame, list[LossyLevel]]:
    """(price and quantity per level, best first, null beyond what a book holds; the numbers that are not their text).

    A column ``problem`` is null where all is well. The exchange's own documentation shows a book with its bids the
    wrong way round, so the order is not taken on trust.
    """
    count = len(books)
    levels = np.fromiter((book.levels for book in books), np.int64, count)
    width = min(int(levels.max()), MAX_DEPTH_LEVELS)
    numbers = np.full((count, 2, width, 2), np.nan)  # book, bid or ask, level, price or quantity
    problems = np.zeros(count, np.int8)
    lossy: list[LossyLevel] = []
    full = _have_levels(books, levels)
    for depth in np.unique(levels[full]):
        at = np.flatnonzero(full & (levels == depth))
        numbers[at, :, :depth] = _read(at, _texts([books[place] for place in at]), problems, lossy)
    at = np.flatnonzero(~full)
    if at.size:
        sides = [
            _padded(side, books[place].levels, width, problems, place) for place in at for side in _sides(books[place])
        ]
        numbers[at] = _read(at, pl.Series(list(chain.from_iterable(sides)), dtype=pl.String), problems, lossy)

    rank = numbers[..., 0] * np.array([[-1.0], [1.0]])  # rises from the best level on
    is_mixed = (np.diff(rank, axis=2) < 0).any(axis=(1, 2))
    if is_mixed.any():
        best_first = np.argsort(rank[is_mixed], axis=2, kind="stable")  # NaN, the missing levels, last
        numbers[is_mixed] = np.take_along_axis(numbers[is_mixed], best_first[..., None], axis=2)
    names = [
        f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(width) for what in ("price", "quantity")
    ]
    told = pl.from_numpy(numbers.reshape(count, -1), schema=names, orient="row")
    if at.size:
        told = told.with_columns(pl.all().fill_nan(None))
    words = pl.Series(problems).replace_strict({0: None, 1: _NOT_NUMBERS, 2: _TOO_DEEP}, return_dtype=pl.String)
    return told.with_columns(problem=words), [each for each in lossy if not problems[each.book]]


def _sides(book: Depth) -> tuple[Any, Any]:
    return book.bids, book.asks


def _have_levels(books: Sequence[Depth], levels: np.ndarray) -> np.ndarray:
    """Which books have as many levels on both sides as their streams say, and nothing but pairs: nearly all."""
    joined = b"\n".join(chain.from_iterable(map(_sides, books)))
    letters = np.frombuffer(joined, np.uint8)
    ends = np.append(np.flatnonzero(letters == ord("\n")), letters.size)
    if ends.size != 2 * len(books):  # written over several lines
        return np.zeros(len(books), bool)
    opened = np.diff(np.searchsorted(np.flatnonzero(letters == ord("[")), ends), prepend=0)
    commas = np.diff(np.searchsorted(np.flatnonzero(letters == ord(",")), ends), prepend=0)
    expected = np.repeat(levels, 2)
    is_full = (opened == expected + 1) & (commas == 2 * expected - 1)
    return is_full.reshape(-1, 2).all(axis=1)


def _texts(books: Sequence[Depth]) -> pl.Series:
    """The numbers of full books as text, in the order of the wire."""
    joined = b",".join(chain.from_iterable(map(_sides, books)))
    return pl.Series([joined.translate(None, b'[]"' + _SPACES).decode()]).str.split(",").explode()


def _padded(side: Any, levels: int, width: int, problems: np.ndarray, place: int) -> list[str | None]:
    """The numbers of one side with nulls for the levels it does not have."""
    pairs = pairs_of(side)
    if pairs is None:
        problems[place] = 1
        pairs = []
    elif len(pairs) > levels:
        problems[place] = problems[place] or 2
    return list(chain.from_iterable((pairs + [_NO_LEVEL] * width)[:width]))


def _read(at: np.ndarray, texts: pl.Series, problems: np.ndarray, lossy: list[LossyLevel]) -> np.ndarray:
    """The numbers of the books at ``at``, whose texts these are; tells which of them are none or are not their text."""
    numbers = texts.cast(pl.Float64, strict=False)
    read = numbers.to_numpy(writable=True).reshape(at.size, 2, -1, 2)
    if numbers.null_count() or not ((read >= 0) & (read < np.inf)).all():
        is_wrong = ~(numbers.is_finite() & (numbers >= 0)).fill_null(False) & texts.is_not_null()
        problems[at[is_wrong.to_numpy().reshape(at.size, -1).any(axis=1)]] = 1
    per_book = texts.len() // at.size
    lossy += [
        LossyLevel(int(at[place // per_book]), texts[place], numbers[place]) for place in lossy_places(texts, numbers)
    ]
    return read
