"""Execution bars: what the market did between the arrival of an order of row *i* and that of one of row *i* + 1.

An order decided on row *i* reaches the market at ``t_i = avail_time + latency``; its execution bar is [t_i, t_{i+1}).
Trades and marks build it where they were recorded without a hole. Elsewhere klines stand in: each falls to the last row
whose order arrived before the kline closed, which on a minute grid is kline *i* + 1 for row *i*.
"""

from datetime import timedelta

import numpy as np
import polars as pl

from data.schema import TIME_MS
from research.jit import njit
from research.recorded import (
    REACH,
    Recorded,
    Substitutions,
    Track,
    by_known_time,
    counted_trades,
    event_ms,
    known_marks,
    last_known,
    mark_track,
    trade_track,
)
from research.strategies.gates import MAX_QUOTE_AGE_MS

EXECUTION = pl.Schema(
    {
        "exec_time": TIME_MS,  # t_i
        "exec_open": pl.Float64,  # first price at or after t_i; NaN where the window was not seen in full
        "exec_high": pl.Float64,
        "exec_low": pl.Float64,
        "exec_close": pl.Float64,
        "exec_mark_open": pl.Float64,  # NaN without marks: the stop is then watched on the last price
        "exec_mark_high": pl.Float64,
        "exec_mark_low": pl.Float64,
        "exec_mark_close": pl.Float64,
        "exec_bid": pl.Float64,  # last quote known at t_i; NaN when older than 2 s
        "exec_ask": pl.Float64,
        "funding_per_unit": pl.Float64,  # USDT a long of one base unit pays for events in (t_i, t_{i+1}]
    }
)

_OHLC = ("open", "high", "low", "close")
# Settlements are stamped a little after the announced time.
_FUNDING_JITTER_MS = 60_000


def execution_bars(
    signal: pl.DataFrame, recorded: Recorded, *, latency_ms: int, substitutions: Substitutions
) -> pl.DataFrame:
    """One execution bar per signal row, frame of ``EXECUTION``. The last row's window has no end: its prices are NaN.

    Parameters
    ----------
    signal : frame of ``research.bars.SIGNAL``, contiguous slots.
    latency_ms : decision to market.
    substitutions : those in effect.
    """
    exec_ms = signal["avail_time"].dt.epoch("ms").to_numpy() + latency_ms
    close_ms = signal["close_time"].dt.epoch("ms").to_numpy(writable=True)
    last = _windows(trade_track(counted_trades(recorded.trades)), signal, close_ms, exec_ms)
    if substitutions.mark == "last":
        mark = last
    else:
        slots = signal.select("open_time")
        klines = slots.join(recorded.mark_klines, on="open_time", how="left", maintain_order="left")
        mark = _windows(mark_track(recorded.marks), klines, close_ms, exec_ms)
    quote = last_known(by_known_time(recorded.quotes), exec_ms, timedelta(milliseconds=MAX_QUOTE_AGE_MS))
    columns = {
        "exec_time": exec_ms,
        **{f"exec_{name}": prices for name, prices in zip(_OHLC, last, strict=True)},
        **{f"exec_mark_{name}": prices for name, prices in zip(_OHLC, mark, strict=True)},
        "exec_bid": quote["bid_price"],
        "exec_ask": quote["ask_price"],
        "funding_per_unit": _funding_per_unit(signal, recorded, exec_ms, substitutions),
    }
    return pl.DataFrame(columns).cast(EXECUTION).with_columns(pl.col(pl.Float64).fill_null(np.nan))


def funding_events(recorded: Recorded, substitutions: Substitutions, from_ms: int, to_ms: int) -> pl.DataFrame:
    """Funding events as ``funding_rate`` and ``event_ms``, ascending.

    Settled events where recorded. A settlement announced by the mark stream up to its last word before that time, which
    no settled row confirms, happens at the announced time with the last announced rate.
    """
    if substitutions.funding_rate_bps is not None:
        time_ms = substitutions.funding_times(from_ms, to_ms)
        return pl.DataFrame({"funding_rate": substitutions.funding_rate_bps / 1e4, "event_ms": time_ms})
    settled = recorded.funding.select("funding_rate", event_ms=event_ms()).drop_nulls()
    marks = by_known_time(recorded.marks.drop_nulls(["funding_rate", "next_funding_time"]))
    announced_ms = marks["next_funding_time"].dt.epoch("ms").to_numpy()
    time_ms = np.unique(announced_ms)
    last_word = np.searchsorted(marks["known_ms"].to_numpy(), time_ms, side="left") - 1
    distance_ms = np.abs(time_ms[:, None] - settled["event_ms"].to_numpy()[None, :])
    is_missing = distance_ms.min(axis=1, initial=_FUNDING_JITTER_MS + 1) > _FUNDING_JITTER_MS
    happened = is_missing & (last_word >= 0) & (announced_ms[last_word] == time_ms)
    rate = marks["funding_rate"].to_numpy()[last_word[happened]]
    return pl.concat([settled, pl.DataFrame({"funding_rate": rate, "event_ms": time_ms[happened]})]).sort("event_ms")


def _funding_per_unit(
    signal: pl.DataFrame, recorded: Recorded, exec_ms: np.ndarray, substitutions: Substitutions
) -> np.ndarray:
    """Rate times mark of the events each row's window holds; the last close where no mark was known."""
    paid = np.zeros(len(exec_ms))
    events = funding_events(recorded, substitutions, int(exec_ms[0]), int(exec_ms[-1]))
    time_ms = events["event_ms"].to_numpy()
    row = np.searchsorted(exec_ms, time_ms, side="left") - 1
    inside = (row >= 0) & (row < len(exec_ms) - 1)
    row, time_ms = row[inside], time_ms[inside]
    length_ms = int((signal["close_time"][0] - signal["open_time"][0]) / timedelta(milliseconds=1))
    mark = last_known(known_marks(recorded, length_ms), time_ms, REACH)["mark_price"]
    last_close = signal["close"].fill_nan(None).forward_fill()[row]
    price = mark.fill_null(last_close).fill_null(0.0)  # before the first close there is no position to pay for
    np.add.at(paid, row, events["funding_rate"].to_numpy()[inside] * price.to_numpy())
    return paid


def _windows(track: Track, klines: pl.DataFrame, close_ms: np.ndarray, exec_ms: np.ndarray) -> np.ndarray:
    """Open, high, low and close of each row's window, shape (4, n_rows): from the track, else from the klines."""
    ohlc = np.ascontiguousarray(klines.select(pl.col(_OHLC).fill_null(np.nan)).to_numpy())
    from_klines = _from_klines(ohlc, close_ms, exec_ms)
    from_track = np.full_like(from_klines, np.nan)
    from_track[:, :-1] = track.ohlc(exec_ms[:-1], exec_ms[1:])
    return np.where(np.isnan(from_track), from_klines, from_track)


@njit
def _from_klines(ohlc, close_ms, exec_ms):
    n_rows = len(exec_ms)
    windows = np.full((4, n_rows), np.nan)
    has_kline = np.zeros(n_rows, dtype=np.bool_)
    # Where the first kline we do not have closes: a window that ends after it is not seen in full.
    beyond_ms = close_ms[-1] + (close_ms[-1] - close_ms[-2]) if n_rows > 1 else close_ms[-1]
    row = 0
    for kline in range(n_rows):
        while row + 1 < n_rows and exec_ms[row + 1] < close_ms[kline]:
            row += 1
        if row + 1 == n_rows or exec_ms[row] >= close_ms[kline] or exec_ms[row + 1] >= beyond_ms:
            continue
        open_, high, low, close = ohlc[kline]
        if not has_kline[row]:
            windows[:, row] = ohlc[kline]
        elif np.isnan(open_) or np.isnan(windows[0, row]):
            windows[:, row] = np.nan
        else:
            windows[1, row] = max(windows[1, row], high)
            windows[2, row] = min(windows[2, row], low)
            windows[3, row] = close
        has_kline[row] = True
    return windows
