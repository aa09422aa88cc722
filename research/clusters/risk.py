"""Two views of open interest that prior-art 002 asks for: leverage at risk, and whether it says anything of volatility.

The first is read off the map: what a move of some size would liquidate, and at which leverage it was built. The second
is a question to the past, never an input to a decision: is an hour more volatile after open interest has changed much?
"""

import numpy as np
import polars as pl

from research.clusters.grid import BUCKETS, LONG, SIDES, centre
from research.clusters.profiles import Profiles
from research.clusters.validation.bootstrap import METRICS, measured

MOVES_BPS = (100, 200, 500)
HOUR_MS = 3_600_000
MIN_DAYS = 20  # below which the second view is no evidence, whatever it says

LEVERAGE_RISK = pl.Schema(
    {
        "side": pl.String,  # of the positions: long ones are liquidated by a fall
        "move_bps": pl.Int64,  # of the mark, against them
        "at_risk_usdt": pl.Float64,  # on the source venue
        "share": pl.Float64,  # of the open interest, a fraction
        "leverage": pl.Float64,  # mean by mass; NaN where none is at risk or the map does not know
    }
)


def leverage_risk(profiles: Profiles) -> pl.DataFrame:
    """What moves of ``MOVES_BPS`` would liquidate by the last snapshot, frame of ``LEVERAGE_RISK``.

    Empty where that snapshot is stale, or there is none. A lower bound: what lies outside the window is not counted,
    nor what the liquidations themselves would move.
    """
    if not len(profiles) or profiles.is_stale[-1]:
        return LEVERAGE_RISK.to_frame()
    mark, open_interest_usdt = profiles.mark[-1], profiles.open_interest_usdt[-1]
    away_bps = 1e4 * (centre(profiles.first_bucket[-1] + np.arange(BUCKETS)) / mark - 1.0)
    rows = []
    for side, name in enumerate(SIDES):
        against_bps = -away_bps if side == LONG else away_bps
        mass = profiles.mass_usdt[-1, side].astype(np.float64)
        for move_bps in MOVES_BPS:
            reached = (mass > 0.0) & (against_bps <= move_bps)
            at_risk_usdt = mass[reached].sum()
            leverage = np.nan
            if profiles.leverage is not None and at_risk_usdt > 0.0:
                leverage = (profiles.leverage[-1, side][reached] * mass[reached]).sum() / at_risk_usdt
            rows.append((name, move_bps, at_risk_usdt, at_risk_usdt / open_interest_usdt, leverage))
    return pl.DataFrame(rows, schema=LEVERAGE_RISK, orient="row")


def volatility_after(oi_state: pl.DataFrame) -> pl.DataFrame:
    """Does the hour after a change of open interest move more? Two rows of ``METRICS``, with intervals by days.

    "change": rank correlation between the size of an hour's change and the realised volatility of the hour after it.
    "change beyond volatility": the same between what the volatility of the first hour leaves unexplained of both, for
    busy hours follow busy hours in any case. Fewer than ``MIN_DAYS`` days are no evidence.

    Parameters
    ----------
    oi_state : rows of one map, of ``data.schema_clusters.OI_STATE``. Hours with a snapshot missing or stale are left
        out.

    Source
    ------
    Spearman's rank correlation; Kendall, M. (1942), "Partial Rank Correlation", for what is left.
    """
    time_ms, ranks = _ranked_hours(oi_state)
    change, before, after = ranks.T
    columns = (change, before, after)
    values = np.stack(
        [np.ones(len(ranks)), *columns, *(one * other for i, one in enumerate(columns) for other in columns[i:])],
        axis=1,
    )
    given = {"time_ms": time_ms, "values": values, "horizon_s": HOUR_MS // 1_000}
    found = [
        measured("change", statistic=_plain, **given),
        measured("change beyond volatility", statistic=_partial, **given),
    ]
    return pl.DataFrame(found, schema=METRICS)


def _ranked_hours(oi_state: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whole hours of the clock, and the ranks of change, volatility before and after; shape (n_hours, 3)."""
    rows = oi_state.sort("ts")
    usable = ~rows["is_stale"].fill_null(value=True)
    time_ms = rows["ts"].dt.epoch("ms").to_numpy()
    mark, base = (
        pl.select(pl.when(usable).then(rows[name])).to_series().cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("mark_price", "oi_base")
    )
    if len(time_ms) < 2:
        return np.empty(0, np.int64), np.empty((0, 3))
    per_hour = max(1, HOUR_MS // int(np.median(np.diff(time_ms))))
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.diff(np.log(mark)) ** 2
        log_base = np.log(base)
    at = np.flatnonzero(time_ms % HOUR_MS == 0)
    at = at[(at >= per_hour) & (at + per_hour < len(time_ms))]
    at = at[time_ms[at + per_hour] - time_ms[at - per_hour] == 2 * HOUR_MS]
    hours = np.array(
        [
            (abs(log_base[i] - log_base[i - per_hour]), *(squares[j : j + per_hour].sum() for j in (i - per_hour, i)))
            for i in at
        ]
    ).reshape(-1, 3)
    is_whole = np.isfinite(hours).all(axis=1)
    ranks = [pl.Series(column).rank().to_numpy() for column in hours[is_whole].T]
    return time_ms[at[is_whole]], np.stack(ranks, axis=1).astype(np.float64)


def _correlations(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of change and before, change and after, before and after."""
    n, sums, products = totals[..., 0], totals[..., 1:4], totals[..., 4:]
    at = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}

    def covariance(i: int, j: int) -> np.ndarray:
        return products[..., at[i, j]] / n - sums[..., i] * sums[..., j] / n**2

    return tuple(covariance(i, j) / np.sqrt(covariance(i, i) * covariance(j, j)) for i, j in ((0, 1), (0, 2), (1, 2)))


def _plain(totals: np.ndarray) -> np.ndarray:
    return _correlations(totals)[1]


def _partial(totals: np.ndarray) -> np.ndarray:
    with_before, with_after, of_volatility = _correlations(totals)
    return (with_after - with_before * of_volatility) / np.sqrt((1.0 - with_before**2) * (1.0 - of_volatility**2))
