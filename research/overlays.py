"""Technical overlays: lines over candles, such as means of closes. Pure: frame in, frame out.

Each line has an interval of its own, whatever candles are drawn, so that neither the range nor a zoom moves it. A value
stands where it became known, at the close of its last candle; a candle that has not closed has none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from data.schema import interval_ms
from data.table import TIME_MS
from research.feature_kernels import EMA_REACH, ema
from research.thin import bar_interval_ms

LINES = pl.Schema(
    {
        "label": pl.String,
        "part": pl.String,  # of a band: upper, lower; of a line: mean
        "time": TIME_MS,  # when the value became known
        "value": pl.Float64,  # USDT; NaN where no candle was seen
    }
)
DEVIATIONS = 2.0  # standard deviations from the middle of a Bollinger band to its edges

_KINDS = {"ema": "EMA", "bollinger": "Bollinger"}
_REACH = {"ema": EMA_REACH, "bollinger": 1}  # lengths of the line that its first value needs
_NAME = re.compile(rf"({'|'.join(_KINDS)})_([1-9]\d*)_([1-9]\d*)([mhd])")
_UNITS = {"m": "min", "h": "h", "d": "d"}


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """One line, or a band of two.

    Parameters
    ----------
    kind : "ema", the exponential mean of the closes with a span of ``candles``, as the strategies' trend filter takes
        it; or "bollinger", ``DEVIATIONS`` standard deviations to both sides of the plain mean.
    candles, interval : how many and how long, such as 20 and "1h".
    """

    kind: str
    candles: int
    interval: str

    @property
    def name(self) -> str:
        """As ``overlays`` reads it."""
        return f"{self.kind}_{self.candles}_{self.interval}"

    @property
    def label(self) -> str:
        """For a legend: EMA 20 × 1 h."""
        return f"{_KINDS[self.kind]} {self.candles} × {self.interval[:-1]} {_UNITS[self.interval[-1]]}"

    @property
    def reach(self) -> timedelta:
        """How much of the past the first value needs."""
        return _REACH[self.kind] * self.candles * timedelta(milliseconds=interval_ms(self.interval))


def overlays(names: str) -> tuple[Overlay, ...]:
    """The overlays of these names, comma-separated; none for an empty text.

    Raises
    ------
    ValueError
        On a name that is none.
    """
    found = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"overlays: expected names such as ema_20_1h or bollinger_20_1h (candles, then their interval in m, h "
                f"or d), got {name!r}"
            )
        kind, candles, count, unit = match.groups()
        found.append(Overlay(kind=kind, candles=int(candles), interval=count + unit))
    return tuple(dict.fromkeys(found))


def overlay_lines(bars: pl.DataFrame, wanted: Sequence[Overlay]) -> pl.DataFrame:
    """``LINES`` of the overlays; a line has no row before it has seen as much of the past as it needs.

    Parameters
    ----------
    bars : open_time (UTC, ascending, equally spaced) and close (USDT; NaN or null in bars nothing was seen of). Those
        from before the range that is shown make lines begin with it.

    Raises
    ------
    ValueError
        When an interval is not one of whole bars.
    """
    lines = [LINES.to_frame()]
    for overlay in wanted:
        length = interval_ms(overlay.interval)
        if length % bar_interval_ms(bars):
            raise ValueError(f"overlay {overlay.name}: {overlay.interval} is no multiple of the bars' interval")
        closes = _closes(bars, length)
        values = closes["close"].to_numpy(writable=True)
        seen = np.flatnonzero(~np.isnan(values))
        for part, known in _PARTS[overlay.kind](values[seen], overlay.candles).items():
            line = np.full(len(values), np.nan)
            line[seen] = known
            begun = np.flatnonzero(~np.isnan(line))[:1]
            rows = closes.select(label=pl.lit(overlay.label), part=pl.lit(part), time="time", value=pl.Series(line))
            lines.append(rows[begun[0] :] if len(begun) else rows.clear())
    return pl.concat(lines)


def _closes(bars: pl.DataFrame, length_ms: int) -> pl.DataFrame:
    """``time, close`` of every candle that has closed, NaN where nothing was seen of it."""
    ends = pl.col("open_time").dt.epoch("ms") // length_ms * length_ms + length_ms
    closed = bars["open_time"].dt.epoch("ms")[-1] + bar_interval_ms(bars) if bars.height else 0
    candles = (
        bars.group_by(time=ends, maintain_order=True)
        .agg(pl.col("close").fill_nan(None).drop_nulls().last())
        .filter(pl.col("time") <= closed)
    )
    return candles.select(pl.col("time").cast(TIME_MS), pl.col("close").fill_null(np.nan))


def _ema(closes: np.ndarray, candles: int) -> dict[str, np.ndarray]:
    return {"mean": ema(closes, candles)}


def _bollinger(closes: np.ndarray, candles: int) -> dict[str, np.ndarray]:
    past = pl.Series(closes, dtype=pl.Float64)
    middle = past.rolling_mean(candles).fill_null(np.nan).to_numpy()
    away = DEVIATIONS * past.rolling_std(candles, ddof=0).fill_null(np.nan).to_numpy()
    return {"upper": middle + away, "lower": middle - away}


_PARTS = {"ema": _ema, "bollinger": _bollinger}
