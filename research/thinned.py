"""Long ranges in little memory: of trades, quotes and marks only the rows are kept that bars depend on.

They are read piece by piece. A row that decides in the whole decides in its own piece too, so what a piece keeps can be
told from it alone; a row too many changes nothing. The bars of what is kept equal the bars of everything to the bit.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from research.jit import njit
from research.recorded import (
    MARK_COLUMNS,
    QUOTE_COLUMNS,
    Reading,
    Recorded,
    Substitutions,
    counted_trades,
    event_ms,
    known_ms,
    known_ns,
)
from research.tick_fills import MARK_SILENCE_MS


def read_thinned(
    reading: Reading, recorded: Recorded, avail_ms: np.ndarray, exec_ms: np.ndarray, substitutions: Substitutions
) -> Recorded:
    """``recorded`` with the trades, quotes and marks that bars depend on.

    Parameters
    ----------
    avail_ms, exec_ms : int64, ascending, when each row is known and when its order reaches the market.
    substitutions : with the instrument's own funding interval.
    """
    announced_ms = _announced_ms(reading)
    funding_ms = [announced_ms, recorded.funding.select(event_ms()).to_series().to_numpy()]
    if substitutions.funding_rate_bps is not None and substitutions.funding_interval_hours is not None:
        funding_ms.append(substitutions.funding_times(int(exec_ms[0]), int(exec_ms[-1])))
    decided_ms, paid_ms = np.union1d(avail_ms, exec_ms), np.unique(np.concatenate([avail_ms, *funding_ms]))
    trades = reading.pieces("trades", "agg_trade_id event_time price is_ambiguous")
    quotes, marks = reading.pieces("book_ticker", QUOTE_COLUMNS), reading.pieces("mark_price", MARK_COLUMNS)
    kept = {
        "trades": (kept_trades(counted_trades(piece), exec_ms) for piece in trades),
        "quotes": (kept_quotes(piece, decided_ms) for piece in quotes),
        "marks": (kept_marks(piece, paid_ms, announced_ms - 1, exec_ms) for piece in marks),
    }
    return replace(recorded, **{table: _whole(frames, getattr(recorded, table)) for table, frames in kept.items()})


def kept_trades(counted: pl.DataFrame, exec_ms: np.ndarray) -> pl.DataFrame:
    """The trades that decide the windows between these moments and where ids are missing, with ``from_id``.

    Parameters
    ----------
    counted : trades that count, ascending by time.
    exec_ms : int64, ascending.
    """
    if counted.is_empty():
        return counted.with_columns(from_id="agg_trade_id")
    time_ms, ids = counted["event_time"].dt.epoch("ms").to_numpy(), counted["agg_trade_id"].to_numpy()
    is_kept = _extremes(counted["price"].to_numpy(writable=True), np.searchsorted(exec_ms, time_ms, side="right"))
    by_id = np.argsort(ids, kind="stable")
    begins = np.append(True, np.diff(ids[by_id]) > 1)
    is_kept[by_id[begins | np.append(begins[1:], True)]] = True
    kept = by_id[is_kept[by_id]]
    from_id = ids.copy()
    from_id[kept[1:]] = np.where(begins[is_kept[by_id]][1:], ids[kept[1:]], ids[kept[:-1]] + 1)
    return counted.with_columns(from_id=from_id).filter(is_kept)


def kept_quotes(quotes: pl.DataFrame, at_ms: np.ndarray) -> pl.DataFrame:
    """The last quote known at each moment, and the last of all."""
    return quotes[np.sort(_last_rows(_in_known_order(quotes), at_ms))]


def kept_marks(
    marks: pl.DataFrame, at_ms: np.ndarray, before_funding_ms: np.ndarray, exec_ms: np.ndarray
) -> pl.DataFrame:
    """The marks that decide what is known at ``at_ms``, what was announced last, and the windows between ``exec_ms``.

    A silence longer than ``MARK_SILENCE_MS`` is one among the marks kept, and no other is.
    """
    order = _in_known_order(marks)
    has_price, has_rate = (marks[name].is_not_null().to_numpy() for name in ("mark_price", "funding_rate"))
    rated = order.of(has_rate)
    announcing = order.of(has_rate & marks["next_funding_time"].is_not_null().to_numpy())
    priced = order.of(has_price)
    price = marks["mark_price"].to_numpy()[priced.row]
    decides = _extremes(price, np.searchsorted(exec_ms, priced.known_ms, side="right"))
    decides |= _at_most_apart(priced.known_ms, decides, MARK_SILENCE_MS)
    last = [_last_rows(order, at_ms), _last_rows(rated, at_ms), _last_rows(announcing, before_funding_ms)]
    return marks[np.unique(np.concatenate([*last, priced.row[decides]]))]


class _Order(NamedTuple):
    """Rows in the order they became known."""

    row: np.ndarray
    known_ms: np.ndarray

    def of(self, is_one: np.ndarray) -> "_Order":
        """Those of these rows, told by a flag for each row of the frame."""
        among = is_one[self.row]
        return _Order(self.row[among], self.known_ms[among])


def _in_known_order(frame: pl.DataFrame) -> _Order:
    known = frame.select(ns=known_ns(), ms=known_ms())
    row = np.argsort(known["ns"].to_numpy(), kind="stable")
    return _Order(row, known["ms"].to_numpy()[row])


def _last_rows(order: _Order, at_ms: np.ndarray) -> np.ndarray:
    """The last row known at each of these ascending moments, and the last of all."""
    if not len(order.row):
        return order.row
    first, after = np.searchsorted(at_ms, order.known_ms[[0, -1]])
    found = np.searchsorted(order.known_ms, at_ms[first:after], side="right") - 1
    return order.row[np.append(np.unique(found), len(order.row) - 1)]


def _announced_ms(reading: Reading) -> np.ndarray:
    """Every funding time that a mark announced with its rate."""
    announced = [
        piece.drop_nulls()["next_funding_time"].unique()
        for piece in reading.pieces("mark_price", "funding_rate next_funding_time")
    ]
    return np.unique(pl.concat(announced).dt.epoch("ms").to_numpy()) if announced else np.empty(0, np.int64)


def _whole(frames: Iterable[pl.DataFrame], nothing: pl.DataFrame) -> pl.DataFrame:
    kept = list(frames)
    return pl.concat(kept) if kept else nothing


@njit
def _extremes(price, window):
    """True for the first, the last, the highest and the lowest of each run of rows of one window."""
    is_kept = np.zeros(len(price), dtype=np.bool_)
    high = low = 0
    for row in range(len(price)):
        if row == 0 or window[row] != window[row - 1]:
            is_kept[row] = is_kept[row - 1] = is_kept[high] = is_kept[low] = True
            high = low = row
        elif price[row] > price[high]:
            high = row
        elif price[row] < price[low]:
            low = row
    if len(price):
        is_kept[-1] = is_kept[high] = is_kept[low] = True
    return is_kept


@njit
def _at_most_apart(time_ms, is_kept, apart_ms):
    """Rows to keep as well, so that kept neighbours are further apart only where all neighbours are."""
    is_needed = np.zeros(len(time_ms), dtype=np.bool_)
    last = 0
    for row in range(len(time_ms)):
        if not is_kept[row] and row + 1 < len(time_ms) and time_ms[row + 1] - time_ms[last] > apart_ms:
            is_needed[row] = True
        if is_kept[row] or is_needed[row]:
            last = row
    return is_needed
