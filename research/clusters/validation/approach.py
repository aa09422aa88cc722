"""The plainest rule that a map could feed: trade towards a cluster once it is near. For placebo tests, not for money.

It has no trend filter, no sizing and no leverage: whatever it earns beyond what it earns on placebo maps comes from
where the clusters lie. Prior art calls it the liquidation hunt.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

NOTIONAL_USDT = 1_000.0

TRADES = pl.Schema(
    {
        "symbol": pl.String,
        "side": pl.String,  # of the cluster
        "avail_time": pl.Datetime("ms", "UTC"),  # when it was decided
        "pnl_usdt": pl.Float64,
    }
)


def approach(
    marks: pl.DataFrame, *, cost_bps: float, horizon_s: int, nearest_bps: float = 20.0, farthest_bps: float = 150.0
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A strategy for ``economic_placebo``: one trade per cluster, at its first snapshot within reach.

    The trade goes towards the cluster from the mark at its snapshot, takes its profit at the level, has its stop as far
    away on the other side, and ends after the horizon at the mark. A minute that holds both prices counts as the stop.

    Parameters
    ----------
    marks : symbol, ts (end of the bar), mark_high, mark_low, mark_close; ascending per symbol.
    cost_bps : of the round trip.
    nearest_bps, farthest_bps : distances at which a trade is entered.

    Returns
    -------
    A function from a clusters frame (symbol, avail_time, cluster_id, side, price_level, and active where it is known)
    to ``TRADES``.
    """
    by_symbol = {
        symbol: (own["ts"].dt.epoch("ms").to_numpy(), *(own[name].to_numpy() for name in _PRICES))
        for (symbol,), own in marks.partition_by("symbol", as_dict=True).items()
    }

    def trades(clusters: pl.DataFrame) -> pl.DataFrame:
        shown = clusters.filter("active") if "active" in clusters.columns else clusters
        found = [pl.DataFrame(schema=TRADES)]
        for (symbol,), own in shown.partition_by("symbol", as_dict=True, maintain_order=True).items():
            if symbol in by_symbol:
                found.append(_trades(own, by_symbol[symbol], cost_bps, horizon_s, nearest_bps, farthest_bps))
        return pl.concat(found)

    return trades


_PRICES = ("mark_high", "mark_low", "mark_close")
_MINUTE_MS = 60_000


def _trades(
    clusters: pl.DataFrame, bars: tuple, cost_bps: float, horizon_s: int, nearest_bps: float, farthest_bps: float
) -> pl.DataFrame:
    time_ms, _, _, close = bars
    at_ms = clusters["avail_time"].dt.epoch("ms").to_numpy()
    last = np.searchsorted(time_ms, at_ms, side="right") - 1
    known = (last >= 0) & (at_ms - time_ms[np.maximum(last, 0)] <= _MINUTE_MS)
    mark = np.where(known, close[np.maximum(last, 0)], np.nan)
    toward = np.where((clusters["side"] == "short").to_numpy(), 1.0, -1.0)
    distance = toward * np.log(clusters["price_level"].to_numpy() / mark)
    near = (distance >= nearest_bps / 1e4) & (distance <= farthest_bps / 1e4)
    entered = (
        clusters.select("symbol", "side", "avail_time", "cluster_id")
        .with_columns(mark=pl.Series(mark), toward=pl.Series(toward), distance=pl.Series(distance))
        .filter(near)
        .sort("avail_time")
        .unique("cluster_id", keep="first", maintain_order=True)
    )
    columns = (entered[name].to_numpy() for name in ("toward", "distance", "mark"))
    entry_ms = entered["avail_time"].dt.epoch("ms").to_numpy()
    earned = [_outcome(*trade, bars, horizon_s) for trade in zip(entry_ms, *columns, strict=True)]
    pnl = NOTIONAL_USDT * (np.array(earned, dtype=np.float64) - cost_bps / 1e4)
    return entered.select("symbol", "side", "avail_time").with_columns(pnl_usdt=pl.Series(pnl)).cast(TRADES)


def _outcome(entry_ms: int, toward: float, distance: float, mark: float, bars: tuple, horizon_s: int) -> float:
    """Log return of one trade before costs."""
    time_ms, high, low, close = bars
    # The first bar that begins after the entry: the one it falls into was partly known.
    first = int(np.searchsorted(time_ms, entry_ms + _MINUTE_MS))
    stop = int(np.searchsorted(time_ms, entry_ms + 1_000 * horizon_s, side="right"))
    if first >= stop:
        return 0.0
    ahead, behind = (high, low) if toward > 0.0 else (low, high)
    taken = toward * np.log(ahead[first:stop] / mark) >= distance
    stopped = -toward * np.log(behind[first:stop] / mark) >= distance
    hits = np.flatnonzero(taken | stopped)
    if len(hits):
        return -distance if stopped[hits[0]] else distance
    return float(toward * np.log(close[stop - 1] / mark))
