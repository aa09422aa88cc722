"""Where the orders of a trade on clusters go: stops beyond them, what a trade may win and lose, the trend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from research.rounding import ceil_to, floor_to

BPS = 1e4


@dataclass(frozen=True, kw_only=True)
class Level:
    """A cluster as seen from a price on the venue that is traded.

    Parameters
    ----------
    side : "long" below the price, "short" above.
    peak, lo, hi : prices.
    distance_bps : from the price to ``peak``, never negative.
    open_interest : USDT at risk.
    confidence : NaN until calibrated.
    """

    cluster_id: int
    side: str
    peak: float
    lo: float
    hi: float
    distance_bps: float
    strength: float
    open_interest: float
    confidence: float

    @classmethod
    def of(cls, row: dict[str, Any], price: float) -> Self:
        """From a row of ``CLUSTERS``; its own distance is of an earlier price."""
        numbers = {name: np.nan if row[name] is None else row[name] for name in ("strength", "confidence")}
        at_risk = [row[name] for name in ("open_interest", "mass_src_usd") if row[name] is not None]
        return cls(
            cluster_id=row["cluster_id"],
            side=row["side"],
            peak=row["price_level"],
            lo=row["price_lo"],
            hi=row["price_hi"],
            distance_bps=abs(row["price_level"] / price - 1.0) * BPS,
            open_interest=next((value for value in at_risk if value == value), np.nan),
            **numbers,
        )

    def is_ahead_of(self, price: float) -> bool:
        """True while the price has not reached it: then its positions may still be there."""
        return self.lo > price if self.side == "short" else self.hi < price


def stop_beyond(
    entry: float,
    sign: int,
    levels: Sequence[Level],
    *,
    protecting: float,
    margin_bps: float,
    least_bps: float,
    most_bps: float,
    tick_size: float,
) -> float | None:
    """The stop of a position: on the far side of the nearest cluster that can protect it, and inside no cluster.

    A stop at a cluster is filled where everybody else is liquidated. So it lies ``margin_bps`` beyond the far edge of
    the cluster, and further out where it would come to lie at another one.

    Parameters
    ----------
    entry, tick_size : USDT; the stop is rounded away from the entry.
    sign : 1 for a long position, -1 for a short one.
    levels : clusters; those on the side of the stop count.
    protecting : strength from which on a cluster is placed behind; weaker ones are only kept out of.
    least_bps, most_bps : of distance from the entry. None comes back where no such stop exists.
    """
    side = "long" if sign > 0 else "short"
    own = sorted((level for level in levels if level.side == side), key=lambda level: -sign * level.peak)
    stop = entry * (1.0 - sign * least_bps / BPS)
    protector = next((level for level in own if level.strength >= protecting), None)
    if protector is not None:
        _, far = _edges(protector, sign, margin_bps)
        if sign * (entry - far) <= entry * most_bps / BPS:
            stop = min(stop, far) if sign > 0 else max(stop, far)
    stop = on_grid(stop, sign, tick_size)
    for level in own:  # nearest first: what it is moved beyond may lie before another one
        near, far = _edges(level, sign, margin_bps)
        if sign * near >= sign * stop > sign * far:
            stop = on_grid(far, sign, tick_size)
    return stop if sign * (entry - stop) <= entry * most_bps / BPS else None


def risk_reward(entry: float, stop: float, target: float) -> float:
    """What is won at the target over what is lost at the stop."""
    return (target - entry) / (entry - stop)


def breakeven_winrate(entry: float, stop: float, target: float, cost_bps: float) -> float:
    """The fraction of trades that must reach the target to pay for the others and for all costs; above 1 none can."""
    lost_bps, won_bps = abs(entry - stop) / entry * BPS, abs(target - entry) / entry * BPS
    return (lost_bps + cost_bps) / (lost_bps + won_bps)


def trend(closes: np.ndarray, *, fast_bars: int, slow_bars: int, band_bps: float) -> int:
    """1 where the fast exponential mean stands above the slow one by more than the band, -1 below, else 0.

    Prior art's trend filter on 5-minute closes. 0 with fewer closes than ``slow_bars``.

    Parameters
    ----------
    closes : float64, ascending in time, the last one known at the decision.
    """
    if len(closes) < slow_bars:
        return 0
    fast, slow = (pl.Series(closes).ewm_mean(span=bars, adjust=False)[-1] for bars in (fast_bars, slow_bars))
    apart_bps = (fast / slow - 1.0) * BPS
    return 0 if abs(apart_bps) <= band_bps else 1 if apart_bps > 0.0 else -1


def nearest_tick(price: float, tick_size: float) -> float:
    """The price on the venue's grid."""
    return floor_to(price + 0.5 * tick_size, tick_size)


def on_grid(price: float, sign: int, tick_size: float) -> float:
    """The price on the grid: at or below it for a long position, at or above it for a short one.

    A target is then reached when its level is, and a stop never lies nearer than it should.
    """
    return floor_to(price, tick_size) if sign > 0 else ceil_to(price, tick_size)


def _edges(level: Level, sign: int, margin_bps: float) -> tuple[float, float]:
    """The prices between which no stop of a position may lie, the one nearer to its entry first."""
    low, high = level.lo * (1.0 - margin_bps / BPS), level.hi * (1.0 + margin_bps / BPS)
    return (high, low) if sign > 0 else (low, high)
