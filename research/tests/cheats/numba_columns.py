"""Every function here looks ahead, in the line that says so; compiled as research kernels are."""

import numpy as np

from research.jit import njit

LOOKBACK_BARS = {"running_mean": 30}


@njit
def centred_extreme(high):
    out = np.full(len(high), np.nan)
    for i in range(5, len(high) - 5):
        best = high[i]
        for j in range(i - 5, i + 6):  # cheat
            if high[j] > best:
                best = high[j]
        out[i] = high[i] / best
    return out


@njit
def two_passes(volume):
    total, count = 0.0, 0.0
    for i in range(len(volume)):
        if volume[i] > 0.0:
            total += volume[i]  # cheat
            count += 1.0
    out = np.full(len(volume), np.nan)
    for i in range(len(volume)):
        out[i] = volume[i] / (total / count)
    return out


@njit
def next_return(close):
    out = np.full(len(close), np.nan)
    for i in range(len(close) - 1):
        out[i] = close[i + 1] / close[i] - 1.0  # cheat
    return out


@njit
def beyond_the_end(close):
    out = np.full(len(close), np.nan)
    for i in range(len(close)):
        out[i] = close[i + 1] - close[i]  # cheat
    return out


@njit
def around_the_end(close, window=10):
    out = np.full(len(close), np.nan)
    for i in range(len(close)):
        out[i] = close[i] / close[i - window] - 1.0  # cheat
    return out


@njit
def running_mean(close):
    out = np.full(len(close), np.nan)
    mean = 0.0
    for i in range(len(close)):
        if close[i] > 0.0:
            mean = 0.999 * mean + 0.001 * close[i]  # cheat
        out[i] = mean
    return out
