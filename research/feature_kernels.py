"""The arithmetic of ``research.features``: compiled functions of bar columns, one value per row.

A kernel looks at its row and at the rows of its window before it, and starts anew on every row. What a window adds up
it adds up for many rows at once, bar by bar, each row's in its own order: the processor then adds several rows in one
step, and the bits are those of one row after the other.
"""

import math

import numpy as np

from research.jit import njit

EMA_REACH = 4  # windows that an exponential mean reads
_TOGETHER = 512  # rows: what is added up for them stays in the nearest cache


@njit
def return_bps(close, window):
    """Change of the close over the window; the row before the window is its base. NaN across a gap."""
    out = np.full(len(close), np.nan)
    last_gap = -1
    for i in range(len(close)):
        if not close[i] > 0.0:
            last_gap = i
        if i - window > last_gap:
            out[i] = 1e4 * (close[i] / close[i - window] - 1.0)
    return out


@njit
def rs_variance(open_, high, low, close):
    """Rogers-Satchell variance of one bar, as a fraction squared; NaN for prices no bar can have.

    Source
    ------
    Rogers and Satchell (1991), "Estimating variance from high, low and closing prices".
    """
    out = np.full(len(close), np.nan)
    for i in range(len(close)):
        is_bar = low[i] > 0.0 and low[i] <= min(open_[i], close[i]) and high[i] >= max(open_[i], close[i])
        if is_bar and high[i] < np.inf:
            up = math.log(high[i] / close[i]) * math.log(high[i] / open_[i])
            down = math.log(low[i] / close[i]) * math.log(low[i] / open_[i])
            out[i] = up + down
    return out


@njit
def volatility_bps(open_, high, low, close, window):
    """Root of the mean Rogers-Satchell variance over the window, per bar."""
    return 1e4 * np.sqrt(_window_mean(rs_variance(open_, high, low, close), window))


@njit
def mean_volume(volume, window):
    """Mean volume over the window, the row's own bar included."""
    return _window_mean(volume, window)


@njit
def window_sum(values, window):
    """Sum over the window, the row's own bar included, from its oldest bar on."""
    out = np.full(len(values), np.nan)
    if len(values) == window:  # the newest row alone, which a runner asks for in plain Python
        out[-1] = _added_up(values)
        return out
    for first in range(window - 1, len(values), _TOGETHER):
        sums = out[first : first + _TOGETHER]
        sums[:] = 0.0
        for begin in range(first - window + 1, first + 1):
            sums += values[begin : begin + len(sums)]
    return out


@njit
def trade_imbalance(volume, taker_buy_volume, window):
    """Bought less sold over their sum, by the aggressor. NaN without volume."""
    bought, sold = window_sum(taker_buy_volume, window), window_sum(volume - taker_buy_volume, window)
    out = np.full(len(volume), np.nan)
    for i in range(window - 1, len(volume)):
        if bought[i] + sold[i] > 0.0:
            out[i] = (bought[i] - sold[i]) / (bought[i] + sold[i])
    return out


@njit
def vwap_distance_bps(close, volume, quote_volume, window):
    """Close against the volume-weighted price of the window. NaN without volume."""
    base, quote = window_sum(volume, window), window_sum(quote_volume, window)
    out = np.full(len(close), np.nan)
    for i in range(window - 1, len(close)):
        if base[i] > 0.0 and quote[i] > 0.0:
            out[i] = 1e4 * (close[i] / (quote[i] / base[i]) - 1.0)
    return out


@njit
def ema(close, window):
    """Exponential mean of the close with a span of ``window`` bars, alpha 2 / (window + 1).

    It begins ``EMA_REACH`` windows ago with the close of then, which weighs e**-8 of the whole. NaN across a gap.
    """
    out = np.full(len(close), np.nan)
    rows, alpha = EMA_REACH * window, 2.0 / (window + 1.0)
    if len(close) == rows:
        out[-1] = _followed(close, alpha)
        return out
    for first in range(rows - 1, len(close), _TOGETHER):
        means = out[first : first + _TOGETHER]
        means[:] = close[first - rows + 1 : first - rows + 1 + len(means)]
        for begin in range(first - rows + 2, first + 1):
            means += alpha * (close[begin : begin + len(means)] - means)
    return out


@njit
def change_bps(values, window):
    """Change over the window of a number that is carried over gaps; NaN where an end of it is not known."""
    out = np.full(len(values), np.nan)
    for i in range(window, len(values)):
        if values[i - window] > 0.0:
            out[i] = 1e4 * (values[i] / values[i - window] - 1.0)
    return out


@njit
def spread_bps(bid, ask):
    """Spread over the middle. NaN for a crossed or empty quote."""
    out = np.full(len(bid), np.nan)
    for i in range(len(bid)):
        if 0.0 < bid[i] <= ask[i]:
            out[i] = 1e4 * (ask[i] - bid[i]) / ((ask[i] + bid[i]) / 2.0)
    return out


@njit
def spread_ticks(bid, ask, tick_size):
    """Spread in whole ticks. NaN for a crossed or empty quote."""
    out = np.full(len(bid), np.nan)
    for i in range(len(bid)):
        if 0.0 < bid[i] <= ask[i]:
            out[i] = np.rint((ask[i] - bid[i]) / tick_size)
    return out


@njit
def book_imbalance(bid_quantity, ask_quantity):
    """Quantity at the best bid less that at the best ask, over their sum."""
    out = np.full(len(bid_quantity), np.nan)
    for i in range(len(bid_quantity)):
        both = bid_quantity[i] + ask_quantity[i]
        if both > 0.0:
            out[i] = (bid_quantity[i] - ask_quantity[i]) / both
    return out


@njit
def distance_bps(price, base):
    """``price`` against ``base``. NaN where one is missing or not positive."""
    out = np.full(len(price), np.nan)
    for i in range(len(price)):
        if price[i] > 0.0 and base[i] > 0.0:
            out[i] = 1e4 * (price[i] / base[i] - 1.0)
    return out


@njit
def in_bps(fraction):
    """A fraction in basis points."""
    return 1e4 * fraction


@njit
def as_is(column):
    """The column itself."""
    return column.copy()


@njit
def constant(like, value):
    """The same number in every row."""
    return np.full(len(like), value)


@njit
def _window_mean(values, window):
    return window_sum(values, window) / window


@njit
def _added_up(values):
    total = 0.0
    for value in values:
        total += value
    return total


@njit
def _followed(values, alpha):
    mean = values[0]
    for value in values[1:]:
        mean += alpha * (value - mean)
    return mean
