"""Could these trades have happened? Fills of a user's backtest against the bars they were made in.

An order decided on row *i* is in the market at the row's ``exec_time``; a fill belongs to the execution window it falls
in, and its price lies between the low and the high of that window, or costs more.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from research.audit.values import shown

NEEDED = ("side", "entry_time", "entry_price")  # a frame with these is a list of trades
_ENTRY = ("side", "entry_row_time", "entry_time", "entry_price")
_EXIT = ("exit_time", "exit_price")
MAX_COST_BPS = 100.0  # spread and slippage of a market order; what is further from the window is not its price
LEAST_BEST = 3  # fills at the best price of their window are luck when they are fewer
_ROUNDING = 1e-9


class Offence(NamedTuple):
    """What is wrong with one fill.

    Attributes
    ----------
    row : of the bars: the row that decided the entry, else the row of the window.
    column : of the trades.
    sentence : what was expected and what arrived.
    """

    row: int
    column: str
    sentence: str


def is_trades(value: Any) -> bool:
    """Whether this is a list of trades."""
    return isinstance(value, pl.DataFrame) and set(NEEDED) <= set(value.columns)


def entry_rows(trades: pl.DataFrame, frame: pl.DataFrame) -> np.ndarray:
    """Rows of the bars that decided the entries: told by ``entry_row_time``, else the last whose order was in time."""
    if "entry_row_time" in trades.columns:
        return _last_at(frame["open_time"], trades["entry_row_time"])
    return _last_at(frame["exec_time"], trades["entry_time"])


def offences(trades: pl.DataFrame, frame: pl.DataFrame) -> Iterator[Offence]:
    """Everything wrong with the fills, entries first."""
    decided = entry_rows(trades, frame)
    closed = np.ones(trades.height, bool)
    if "reason" in trades.columns:
        closed = (trades["reason"] != "open").to_numpy()  # still held: valued, not sold
    for column, sign, counts in (("entry", 1, np.ones(trades.height, bool)), ("exit", -1, closed)):
        if f"{column}_price" not in trades.columns or f"{column}_time" not in trades.columns:
            continue
        known = counts & trades[f"{column}_time"].is_not_null().to_numpy()
        yield from _early(trades, frame, column, decided, known)
        yield from _outside(trades, frame, column, sign * trades["side"].to_numpy(), decided, known)


def differing(one: pl.DataFrame, other: pl.DataFrame, row: int, frame: pl.DataFrame) -> Iterator[Offence]:
    """What the market after an order's arrival changed of trades that had been entered by then, or were over.

    Parameters
    ----------
    one, other : trades with the market as it was and with another one that opens alike.
    row : whose order is the last to arrive before the markets part.
    """
    parting = frame["exec_time"][row]
    entered = [trades.filter(pl.col("entry_time") <= parting).sort("entry_time") for trades in (one, other)]
    yield from _first_difference(entered, [name for name in _ENTRY if name in one.columns], frame)
    if set(_EXIT) <= set(one.columns):
        over = [trades.filter(pl.col("exit_time") < parting) for trades in entered]
        yield from _first_difference(over, [*_EXIT], frame)


def _first_difference(trades: list[pl.DataFrame], columns: list[str], frame: pl.DataFrame) -> Iterator[Offence]:
    for column in columns:
        left, right = (each[column].to_list() for each in trades)
        at = next((at for at, (a, b) in enumerate(zip_longest(left, right)) if a != b), None)
        if at is None:
            continue
        row = int(entry_rows(trades[0] if at < len(left) else trades[1], frame)[at])
        told = [shown(values[at]) if at < len(values) else "no trade" for values in (left, right)]
        yield Offence(row, column, f"is {told[0]}, and {told[1]} when the market after the entry is another")
        return


def _early(
    trades: pl.DataFrame, frame: pl.DataFrame, column: str, decided: np.ndarray, known: np.ndarray
) -> Iterator[Offence]:
    """Fills from before the order could be there."""
    filled_ms = trades[f"{column}_time"].dt.epoch("ms").fill_null(0).to_numpy()
    arrives_ms = frame["exec_time"].dt.epoch("ms").to_numpy()[np.maximum(decided, 0)]
    for at in np.flatnonzero(known & (filled_ms < arrives_ms)):
        arrives = frame["exec_time"][int(max(decided[at], 0))]
        yield Offence(
            int(max(decided[at], 0)),
            f"{column}_time",
            f"is filled at {trades[f'{column}_time'][int(at)]:%H:%M:%S}, when an order decided on this row arrives at "
            f"{arrives:%H:%M:%S} (its exec_time)",
        )


def _outside(
    trades: pl.DataFrame, frame: pl.DataFrame, column: str, bought: np.ndarray, decided: np.ndarray, known: np.ndarray
) -> Iterator[Offence]:
    """Fills in windows nobody saw, at prices the window did not have, and at the best price of window after window.

    Parameters
    ----------
    bought : 1 where the fill bought, -1 where it sold.
    """
    price = trades[f"{column}_price"].cast(pl.Float64).to_numpy()
    window = _last_at(frame["exec_time"], trades[f"{column}_time"])
    length = frame["close_time"][0] - frame["open_time"][0]
    is_inside = (
        known & (window >= 0) & (trades[f"{column}_time"] < frame["exec_time"][-1] + length).fill_null(False).to_numpy()
    )
    open_, high, low = (frame[f"exec_{name}"].to_numpy()[window] for name in ("open", "high", "low"))
    best, worst = np.where(bought > 0, low, high), np.where(bought > 0, high, low)
    too_good = bought * (best - price) > _ROUNDING * price
    too_bad = bought * (price - worst) > MAX_COST_BPS / 1e4 * price
    is_best = is_inside & (price == best) & (price != open_)
    row = decided if column == "entry" else window
    for at in np.flatnonzero(is_inside):
        if np.isnan(open_[at]):
            sentence = f"is filled at {price[at]:g} in a window that nobody saw (a gap): no price is known"
        elif too_good[at] or too_bad[at]:
            sentence = (
                f"is filled at {price[at]:g}; while the order was in the market the price went from {low[at]:g} to "
                f"{high[at]:g}"
            )
        else:
            continue
        yield Offence(int(row[at]), f"{column}_price", sentence)
    if is_best.sum() >= LEAST_BEST and 2 * is_best.sum() > is_inside.sum():
        at = int(np.argmax(is_best))
        sentence = (
            f"is the very best price of its window, {price[at]:g}, as are {is_best.sum()} of {is_inside.sum()} fills: "
            "it is known when the window is over"
        )
        yield Offence(int(row[at]), f"{column}_price", sentence)


def _last_at(times: pl.Series, at: pl.Series) -> np.ndarray:
    """The last row whose time is not later; -1 before the first."""
    moments = at.dt.epoch("ms").fill_null(0).to_numpy()
    return np.searchsorted(times.dt.epoch("ms").to_numpy(), moments, side="right") - 1
