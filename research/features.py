"""Features: numbers a decision looks at, each a pure function of one row's own window.

A name is a registered feature, with ``_<bars>`` behind it where it looks over a window: ``spread_ticks``,
``volatility_bps_30``. A window is the row itself and the bars before it. No value carries a sum over from the row
before, so a short buffer of ``lookback_bars`` rows gives the same bits as a year of history.

NaN means "not ready" or "not known": too little history, a gap in the window, a missing or impossible input. Strategies
compare so that NaN keeps them out.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from research.bars import Bars
from research.clusters.columns import CLUSTER_COLUMNS, PICKS
from research.clusters.grid import SIDES
from research.feature_kernels import (
    EMA_REACH,
    as_is,
    book_imbalance,
    change_bps,
    constant,
    distance_bps,
    ema,
    in_bps,
    mean_volume,
    return_bps,
    rs_variance,
    spread_bps,
    spread_ticks,
    trade_imbalance,
    volatility_bps,
    vwap_distance_bps,
    window_sum,
)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One registered feature.

    Parameters
    ----------
    kernel : compiled function of the input columns, then the constants, then the window where there is one.
    inputs : columns the kernel takes, in order: of the bars, or of the liquidation map beside them.
    constants : scalars it takes after them.
    window : "required", "optional" (1 bar when the name carries none) or None.
    rows_before : rows it reads before the first one of its window.
    reach : windows it reads, the one of its name the newest.
    meaning : what it says, with unit.
    """

    kernel: Callable
    inputs: tuple[str, ...]
    constants: tuple[str, ...] = ()
    window: Literal["required", "optional"] | None = None
    rows_before: int = 0
    reach: int = 1
    meaning: str


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
    "tick_size": Feature(
        kernel=constant, inputs=("close",), constants=("tick_size",), meaning="smallest step of a price"
    ),
    "close": Feature(kernel=as_is, inputs=("close",), meaning="last price of the bar"),
    "bid_price": Feature(kernel=as_is, inputs=("bid_price",), meaning="best bid at avail_time"),
    "ask_price": Feature(kernel=as_is, inputs=("ask_price",), meaning="best ask at avail_time"),
    "mark_price": Feature(kernel=as_is, inputs=("mark_price",), meaning="mark at avail_time"),
    "ema": Feature(
        kernel=ema,
        inputs=("close",),
        window="required",
        reach=EMA_REACH,
        meaning="exponential mean of the closes with a span of the window",
    ),
    "forced_sell_usdt": Feature(
        kernel=window_sum,
        inputs=("forced_sell_usdt",),
        window="required",
        meaning="liquidations of longs that became known in the window, a lower bound",
    ),
    "forced_buy_usdt": Feature(
        kernel=window_sum,
        inputs=("forced_buy_usdt",),
        window="required",
        meaning="liquidations of shorts that became known in the window, a lower bound",
    ),
    "open_interest_change_bps": Feature(
        kernel=change_bps,
        inputs=("open_interest",),
        window="required",
        rows_before=1,
        meaning="change of the open interest in base units over the window",
    ),
}
FEATURES |= {
    name: Feature(kernel=as_is, inputs=(name,), meaning="column of research.clusters.columns as it is")
    for name in CLUSTER_COLUMNS
}
FEATURES |= {
    f"{pick}_{side}_{edge}_bps": Feature(
        kernel=distance_bps,
        inputs=(f"{pick}_{side}_{edge}", "mark_price"),
        meaning=f"{edge} of the {pick} {side} cluster against the mark, negative below it",
    )
    for pick in PICKS
    for side in SIDES
    for edge in ("price", "lo", "hi")
}


def compute(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], *, constants: Mapping[str, float] | None = None
) -> dict[str, np.ndarray]:
    """The features of these names, float64, one value per row; rows of one matrix, as ``feature_matrix`` asks for.

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
    n_rows = next((column.size for column in arrays.values()), 0)
    values = dict(zip(names, np.empty((len(names), n_rows)), strict=True))
    for name in names:
        feature, window = feature_of(name)
        arguments = [_given(arrays, column, name, "column") for column in feature.inputs]
        arguments += [float(_given(constants, key, name, "constant")) for key in feature.constants]
        values[name][:] = feature.kernel(*arguments, *(() if window is None else (window,)))
    return values


def newest(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], *, constants: Mapping[str, float] | None = None
) -> dict[str, np.float64]:
    """What ``compute`` gives in the last row, each feature from no more rows than it reads.

    As NumPy's numbers: divided by zero they give infinity in plain Python too, as compiled.
    """
    values = {}
    for name in names:
        rows = lookback_bars([name])
        own = {column: arrays[column][-rows:] for column in feature_of(name)[0].inputs if column in arrays}
        values[name] = compute(own, [name], constants=constants)[name][-1]
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
    found = map(feature_of, names)
    return max((feature.rows_before + feature.reach * (window or 1) for feature, window in found), default=1)


def cluster_columns_of(names: Sequence[str]) -> list[str]:
    """The columns of the liquidation map that these features are computed from; none for features of bars alone."""
    needed = dict.fromkeys(column for name in names for column in feature_of(name)[0].inputs)
    return [column for column in needed if column in CLUSTER_COLUMNS]


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
