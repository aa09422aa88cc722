"""Every function here looks ahead, in the line that says so."""

import numpy as np


def rolled(close):
    ahead = np.roll(close, -3)  # cheat
    return ahead / close - 1.0


def centred_convolution(volume):
    known = np.nan_to_num(volume)
    return np.convolve(known, np.ones(9) / 9.0, mode="same")  # cheat


def centred_gradient(close):
    slope = np.gradient(np.nan_to_num(close))  # cheat
    return np.sign(slope)


def trend_of_the_whole(close):
    rows = np.arange(len(close))
    known = np.nan_to_num(close, nan=600.0)
    slope, level = np.polyfit(rows, known, 1)  # cheat
    return known - (slope * rows + level)


def low_pass(close):
    spectrum = np.fft.rfft(np.nan_to_num(close, nan=600.0))  # cheat
    spectrum[40:] = 0.0
    return np.fft.irfft(spectrum, len(close))


def pivots(high):
    is_pivot = np.zeros(len(high))
    is_pivot[1:-1] = (high[1:-1] > high[:-2]) & (high[1:-1] > high[2:])  # cheat
    return is_pivot


def hourly_high(high):
    whole = np.nan_to_num(high[: len(high) // 60 * 60]).reshape(-1, 60)
    best = whole.max(axis=1)
    return np.append(np.repeat(best, 60), np.full(len(high) % 60, np.nan))  # cheat


def principal_component(close, volume):
    table = np.nan_to_num(np.column_stack([close, volume]))
    _, axes = _axes(table)
    return table @ axes[:, -1]


def _axes(table):
    return np.linalg.eigh(np.cov(table.T))  # cheat
