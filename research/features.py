"""Features: numbers a decision looks at, each a pure function of one row's own window.

A name is a registered feature, with ``_<bars>`` behind it where it looks over a window: ``spread_ticks``,
``volatility_bps_30``. A window is the row itself and the bars before it. No value carries a sum over from the row
before, so a short buffer of ``lookback_bars`` rows gives the same bits as a year of history.

NaN means "not ready" or "not known": too little history, a gap in the window, a missing or impossible input. Strategies
compare so that NaN keeps them out.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from research.bars import Bars
from research.jit import njit


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One registered feature.

    Parameters
    ----------
    kernel : compiled function of the input columns, then the constants, then the window where there is one.
    inputs : bar columns the kernel takes, in order.
    constants : scalars it takes after them.
    window : "required", "optional" (1 bar when the name carries none) or None.
    rows_before : rows it reads before the first one of its window.
    meaning : what it says, with unit.
    """

    kernel: Callable
    inputs: tuple[str, ...]
    constants: tuple[str, ...] = ()
    window: Literal["required", "optional"] | None = None
    rows_before: int = 0
    meaning: str


@njit
def return_bps(close, window):
    """Change of the close over the window; the row before the window is its base. NaN across a gap."""
    out = np.full(len(close), np.nan)
    for i in range(window, len(close)):
        is_ready = close[i - window] > 0.0
        for row in range(i - window + 1, i + 1):
            is_ready &= close[row] > 0.0
        if is_ready:
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
def trade_imbalance(volume, taker_buy_volume, window):
    """Bought less sold over their sum, by the aggressor. NaN without volume."""
    out = np.full(len(volume), np.nan)
    for i in range(window - 1, len(volume)):
        bought, sold = 0.0, 0.0
        for row in range(i - window + 1, i + 1):
            bought += taker_buy_volume[row]
            sold += volume[row] - taker_buy_volume[row]
        if bought + sold > 0.0:
            out[i] = (bought - sold) / (bought + sold)
    return out


@njit
def vwap_distance_bps(close, volume, quote_volume, window):
    """Close against the volume-weighted price of the window. NaN without volume."""
    out = np.full(len(close), np.nan)
    for i in range(window - 1, len(close)):
        base, quote = 0.0, 0.0
        for row in range(i - window + 1, i + 1):
            base += volume[row]
            quote += quote_volume[row]
        if base > 0.0 and quote > 0.0:
            out[i] = 1e4 * (close[i] / (quote / base) - 1.0)
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
    out = np.full(len(values), np.nan)
    for i in range(window - 1, len(values)):
        total = 0.0
        for row in range(i - window + 1, i + 1):
            total += values[row]
        out[i] = total / window
    return out


_OHLC = ("open", "high", "low", "close")
_QUOTE = ("bid_price", "ask_price")

FEATURES: dict[str, Feature] = {
    "return_bps": Feature(
        kernel=return_bps,
        inputs=("close",),
        window="optional",
        rows_before=1,
        meaning="change of the close over the window, one bar without one; never across a gap",
    ),
    "rs_variance": Feature(
        kernel=rs_variance, inputs=_OHLC, meaning="Rogers-Satchell variance of the bar, fraction squared"
    ),
    "volatility_bps": Feature(
        kernel=volatility_bps,
        inputs=_OHLC,
        window="required",
        meaning="realised volatility per bar: root of the mean Rogers-Satchell variance of the window",
    ),
    "volume": Feature(kernel=as_is, inputs=("volume",), meaning="volume of the bar, base"),
    "mean_volume": Feature(
        kernel=mean_volume,
        inputs=("volume",),
        window="required",
        meaning="mean volume of the window with the bar itself, base",
    ),
    "trade_imbalance": Feature(
        kernel=trade_imbalance,
        inputs=("volume", "taker_buy_volume"),
        window="required",
        meaning="(bought - sold) / (bought + sold) by aggressor over the window, -1 to 1",
    ),
    "vwap_distance_bps": Feature(
        kernel=vwap_distance_bps,
        inputs=("close", "volume", "quote_volume"),
        window="required",
        meaning="close against the volume-weighted price of the window",
    ),
    "spread_bps": Feature(kernel=spread_bps, inputs=_QUOTE, meaning="ask less bid over their middle"),
    "spread_ticks": Feature(
        kernel=spread_ticks, inputs=_QUOTE, constants=("tick_size",), meaning="ask less bid in whole ticks"
    ),
    "book_imbalance": Feature(
        kernel=book_imbalance,
        inputs=("bid_quantity", "ask_quantity"),
        meaning="(bid - ask) / (bid + ask) quantity at the best prices, -1 to 1",
    ),
    "opening_loss_long_bps": Feature(
        kernel=distance_bps, inputs=("ask_price", "mark_price"), meaning="what buying at the ask loses against the mark"
    ),
    "opening_loss_short_bps": Feature(
        kernel=distance_bps,
        inputs=("mark_price", "bid_price"),
        meaning="what selling at the bid loses against the mark",
    ),
    "mark_index_basis_bps": Feature(
        kernel=distance_bps, inputs=("mark_price", "index_price"), meaning="mark against index"
    ),
    "funding_bps": Feature(kernel=in_bps, inputs=("funding_rate",), meaning="funding rate per interval"),
    "funding_interval_hours": Feature(
        kernel=as_is, inputs=("funding_interval_hours",), meaning="hours between funding events"
    ),
    "quote_age_ms": Feature(kernel=as_is, inputs=("quote_age_ms",), meaning="age of the quote at avail_time"),
    "mark_age_ms": Feature(kernel=as_is, inputs=("mark_age_ms",), meaning="age of the mark at avail_time"),
    "taker_fee_bps": Feature(
        kernel=constant, inputs=("close",), constants=("taker_fee_bps",), meaning="taker fee of the costs in force"
    ),
}


def compute(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], *, constants: Mapping[str, float] | None = None
) -> dict[str, np.ndarray]:
    """The features of these names, float64, one value per row.

    Parameters
    ----------
    arrays : columns of the bars frame as float64, of one length (``arrays_of``).
    names : such as ``spread_ticks`` or ``mean_volume_30``.
    constants : ``tick_size`` (price) and ``taker_fee_bps``, where a feature needs them.

    Raises
    ------
    LookupError
        On an unknown name, a window that is missing or not wanted, or an absent column or constant.
    """
    constants = constants or {}
    values = {}
    for name in names:
        feature, window = feature_of(name)
        arguments = [_given(arrays, column, name, "column") for column in feature.inputs]
        arguments += [float(_given(constants, key, name, "constant")) for key in feature.constants]
        values[name] = feature.kernel(*arguments, *(() if window is None else (window,)))
    return values


def feature_of(name: str) -> tuple[Feature, int | None]:
    """The registered feature behind a name and its window in bars; None where it has no window."""
    stem, digits = re.fullmatch(r"(.+?)(?:_(\d+))?", name).groups()
    if stem not in FEATURES:
        close = difflib.get_close_matches(stem, FEATURES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {sorted(FEATURES)}"
        raise LookupError(f"unknown feature {name!r}; {hint}")
    feature = FEATURES[stem]
    if digits is None:
        if feature.window == "required":
            raise LookupError(f"feature {name!r} needs a window in bars, such as {stem}_30")
        return feature, 1 if feature.window else None
    if feature.window is None:
        raise LookupError(f"feature {stem!r} has no window; write {stem}, not {name}")
    if int(digits) < 1:
        raise LookupError(f"feature {name!r}: a window has at least 1 bar")
    return feature, int(digits)


def lookback_bars(names: Sequence[str]) -> int:
    """Rows of history, the newest included, that give the newest row the value a year of history would."""
    return max((feature.rows_before + (window or 1) for feature, window in map(feature_of, names)), default=1)


def arrays_of(bars: Bars | pl.DataFrame) -> dict[str, np.ndarray]:
    """The numeric columns of the bars as contiguous float64 arrays."""
    frame = bars.frame if isinstance(bars, Bars) else bars
    # Numba compiles anew for read-only arrays; writable ones are the same type wherever they come from.
    return {column.name: column.to_numpy(writable=True) for column in frame.select(pl.col(pl.Float64)).iter_columns()}


def features_frame(bars: Bars, names: Sequence[str], *, taker_fee_bps: float | None = None) -> pl.DataFrame:
    """The features as a frame: open_time, avail_time, then one column per name.

    Parameters
    ----------
    taker_fee_bps : needed only for the feature of that name.
    """
    constants = {"tick_size": bars.instrument["tick_size"]}
    if taker_fee_bps is not None:
        constants["taker_fee_bps"] = taker_fee_bps
    values = compute(arrays_of(bars), names, constants=constants)
    return bars.frame.select("open_time", "avail_time").with_columns(**values)


def _given(known: Mapping, key: str, feature: str, what: str):
    if key not in known:
        raise LookupError(f"feature {feature!r} needs the {what} {key!r}; given were {sorted(known)}")
    return known[key]
