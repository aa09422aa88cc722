"""Do clusters get liquidated more often than other levels: precision and recall, one sample per episode.

A wall that stands for three days is one claim and not a thousand snapshots: an episode is the first row of a cluster in
a distance band among that band's largest. Near levels are reached more often than far ones, and quiet ones have more to
liquidate than those just visited, map or no map. So every episode is held against placebo zones: the same side, width
and distance from the mark on another day, as volatile, where the price has been away for as long.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import DELTA, LONG, bucket_of, lower_edge
from research.clusters.outcomes import (
    BAND_NAMES,
    BANDS,
    NEVER,
    Marks,
    Orders,
    Question,
    band_of,
    living,
    marks_of,
    orders_of,
    outcomes,
    placed,
    sides_of,
    zones,
)
from research.clusters.validation.bootstrap import (
    DAY_MS,
    DRAWS,
    LEVEL,
    METRICS,
    block_days,
    day_counts,
    day_of,
    mean,
    measured,
)
from research.clusters.validation.visits import age_class

HORIZONS_S = (3_600, 14_400, 86_400)
TOP = 10  # clusters per snapshot, side and band
DRAWN = 8  # moments per episode for placebos; those count where the price has been away for as long
NEIGHBOURS, MIN_NEIGHBOURS = 0.2, 20  # a placebo's moment is among so many nearest in volatility: a share, at least
MAX_AGE_S = 3_600
STEPS = 249  # buckets on either side of the mark


EPISODES = pl.Schema(
    {
        "symbol": pl.String,
        "avail_time": TIME_MS,  # when the cluster was first shown in the band
        "band": pl.String,  # key of BAND_NAMES
        "horizon_s": pl.Int64,
        "score": pl.Float64,
        "is_touched": pl.Boolean,
        "is_hit": pl.Boolean,
        "placebo_touched": pl.Float64,  # share of its placebos; null without any
        "placebo_hit": pl.Float64,
    }
)


def episode_samples(
    clusters: pl.DataFrame,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame,
    *,
    min_realised_usdt: float,
    horizons_s: tuple[int, ...] = HORIZONS_S,
    score: str = "open_interest",
    top: int = TOP,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per episode and horizon whose outcome is known, with what became of its placebos.

    Parameters
    ----------
    clusters : CLUSTERS of one symbol and map, with ``active`` and ``score``.
    marks, force_orders : as in ``location_samples``.
    min_realised_usdt : an episode is a hit when forced orders of this notional were seen inside after the touch.
    score : what the largest clusters of a band are chosen by, and average precision ranks by.

    Returns
    -------
    Frame of ``EPISODES``; those of several symbols may be put together.
    """
    bars, orders = marks_of(marks), orders_of(force_orders)
    rows = _shown(clusters, bars, score, top)
    claims = rows.unique(["cluster_id", "band"], keep="first", maintain_order=True).with_row_index("episode")
    placebos = _placebos(claims, bars, np.random.default_rng(seed))
    judged = [
        _judged(claims, placebos, bars, orders, Question(horizon_s=each, min_print_usdt=0.0), min_realised_usdt)
        .with_columns(pl.col(score).alias("score"), horizon_s=pl.lit(each, pl.Int64))
        .select(EPISODES.names())
        for each in horizons_s
    ]
    return pl.concat(judged).cast(EPISODES)


def episodes(samples: pl.DataFrame, *, draws: int = DRAWS, seed: int = 0) -> pl.DataFrame:
    """Precision by distance band and horizon, over all symbols of ``samples``; the symbols of a day are one block.

    Returns
    -------
    Frame of ``METRICS``, bands in per cent and "all"; a sample is an episode.

    precision, precision_given_reach : share of the episodes that were hits; of those touched.
    precision_lift : precision over that of the placebo zones. reach_lift : the same given reach; the gate: above 1 with
        its whole interval. Both over episodes that have placebos, half a hit added on both sides.
    average_precision : mean precision at the hits, the largest score first.
    """
    return _by_band(
        samples, lambda here, settings: [*_precision(here, settings), _average_precision(here, settings)], draws, seed
    )


def recall_samples(
    clusters: pl.DataFrame,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame,
    *,
    horizons_s: tuple[int, ...] = HORIZONS_S,
    score: str = "open_interest",
    top: int = TOP,
) -> pl.DataFrame:
    """One row per horizon and forced order in windows of its length that do not overlap; parameters as above.

    Returns
    -------
    start_ms, band, horizon_s ; usdt : of the order; captured_usdt : the same inside clusters shown at the window's
    start, else 0; expected_usdt : times the share of the band that the clusters cover.
    """
    bars, orders = marks_of(marks), orders_of(force_orders)
    rows = _shown(clusters, bars, score, top)
    return pl.concat(
        [_recalled(rows, bars, orders, each).with_columns(horizon_s=pl.lit(each, pl.Int64)) for each in horizons_s]
    )


def recall(samples: pl.DataFrame, *, draws: int = DRAWS, seed: int = 0) -> pl.DataFrame:
    """Recall by distance band and horizon: frame of ``METRICS``, a sample is a forced order.

    recall : share of the realised notional inside the clusters shown at the start of windows that do not overlap.
    recall_lift : recall over the share of the band that the clusters cover.
    """
    return _by_band(samples, _recall, draws, seed)


def _by_band(
    samples: pl.DataFrame, measure: Callable[[pl.DataFrame, dict], list[dict]], draws: int, seed: int
) -> pl.DataFrame:
    """The measures over all samples of each horizon, then over those of each band; no row without a sample."""
    rows = []
    for (horizon_s,), own in samples.partition_by("horizon_s", as_dict=True, maintain_order=True).items():
        for band in ("all", *BAND_NAMES[:-1]):
            here = own if band == "all" else own.filter(pl.col("band") == band)
            rows += measure(here, {"band": band, "horizon_s": horizon_s, "draws": draws, "seed": seed})
    return pl.DataFrame([row for row in rows if row["n"] > 0], schema=METRICS)


def _shown(clusters: pl.DataFrame, bars: Marks, score: str, top: int) -> pl.DataFrame:
    """Active rows within a tenth of the mark that are among the largest of their snapshot, side and band."""
    rows = placed(living(clusters).filter(pl.col("active")), bars)
    rows = rows.filter(
        pl.col("sigma").is_not_null(),
        pl.col("band").is_not_null(),
        pl.col("band") != BAND_NAMES[-1],
        pl.col(score).is_not_null(),
    )
    rank = pl.col(score).rank("ordinal", descending=True).over("avail_time", "side", "band")
    return rows.filter(rank <= top)


def _judged(
    claims: pl.DataFrame,
    placebos: pl.DataFrame,
    bars: Marks,
    orders: Orders,
    question: Question,
    min_realised_usdt: float,
) -> pl.DataFrame:
    """Episodes whose outcome is known: is_touched, is_hit, and the same of their placebos (null without any)."""
    after = outcomes(claims.drop("distance", "sigma", "band"), bars, orders, question)
    is_hit = (pl.col("realised_usdt") >= min_realised_usdt) & (pl.col("realised_usdt") > 0.0)
    started_ms = orders.time_ms[0] if len(orders.time_ms) else NEVER
    is_recorded = after["avail_time"].dt.epoch("ms") >= started_ms
    after = after.with_columns(is_hit.alias("is_hit"), claims["episode"], is_recorded.alias("is_recorded"))
    placebo_ms = placebos["avail_time"].dt.epoch("ms").to_numpy()
    touch_ms, realised, _, is_covered, known_ms = zones(
        placebo_ms, sides_of(placebos), placebos["price_lo"].to_numpy(),
        placebos["price_hi"].to_numpy(), bars, orders, question,
    )  # fmt: skip
    hit = (realised >= min_realised_usdt) & (realised > 0.0)
    is_known = is_covered & (known_ms < NEVER) & (placebo_ms >= started_ms)
    others = (
        placebos.select("episode", placebo_touched=pl.Series(touch_ms < NEVER), placebo_hit=pl.Series(hit))
        .filter(pl.Series(is_known))
        .group_by("episode", maintain_order=True)
    )
    matched = after.join(others.agg(pl.all().cast(pl.Float64).mean()), on="episode", how="left", maintain_order="left")
    return matched.filter(pl.col("is_touched").is_not_null(), pl.col("is_recorded"))


def _placebos(claims: pl.DataFrame, bars: Marks, rng: np.random.Generator) -> pl.DataFrame:
    """The zones of each episode, at the same distance from the mark of other moments that were as volatile.

    Not of the same moment: a little nearer or farther is another distance, and on the other side a map of positions
    mirrors itself.
    """
    avail_ms, side = claims["avail_time"].dt.epoch("ms").to_numpy(), sides_of(claims)
    low, high = claims["price_lo"].to_numpy(), claims["price_hi"].to_numpy()
    moments, first = np.unique(avail_ms, return_index=True)
    sigma = claims["sigma"].to_numpy()
    calmest_first = np.argsort(sigma[first], kind="stable")
    rank = np.searchsorted(sigma[first][calmest_first], sigma)
    n_near = min(len(moments), max(MIN_NEIGHBOURS, round(NEIGHBOURS * len(moments))))
    lowest = np.clip(rank - n_near // 2, 0, len(moments) - n_near)
    drawn = lowest[:, None] + rng.integers(0, n_near, (len(claims), DRAWN)) if n_near else np.zeros((0, DRAWN), int)
    other_ms = moments[calmest_first][drawn].ravel()
    episode = np.repeat(np.arange(len(claims)), DRAWN)

    # Whole buckets, as clusters are: a zone that cuts a bucket would meet half of what lies there.
    lowest_bucket = bucket_of(low)
    n_buckets = np.maximum(bucket_of(high) - lowest_bucket, 1)
    distance = claims["distance"].to_numpy()[episode]
    nearest = np.log(bars.close[np.maximum(bars.last_known(other_ms), 0)]) / DELTA
    below = nearest - distance / DELTA - n_buckets[episode]
    placed_at = np.where(side[episode] == LONG, below, nearest + distance / DELTA)
    is_placed = (np.abs(other_ms - avail_ms[episode]) >= DAY_MS) & np.isfinite(placed_at)
    episode, other_ms = episode[is_placed], other_ms[is_placed]
    bottom = np.rint(placed_at[is_placed]).astype(np.int64)
    own = age_class(bars, avail_ms, (lowest_bucket + n_buckets // 2)[:, None])[:, 0]
    waited = age_class(bars, other_ms, (bottom + n_buckets[episode] // 2)[:, None])[:, 0]
    alike = np.flatnonzero(waited == own[episode])
    episode, bottom = episode[alike], bottom[alike]
    return claims[episode].select(
        "episode",
        pl.Series("avail_time", other_ms[alike]).cast(TIME_MS),
        "side",
        pl.Series("price_lo", lower_edge(bottom)),
        pl.Series("price_hi", lower_edge(bottom + n_buckets[episode])),
    )


def _precision(judged: pl.DataFrame, settings: dict) -> list[dict]:
    time_ms = judged["avail_time"].dt.epoch("ms").to_numpy()
    hit, touched = (judged[name].cast(pl.Float64).to_numpy() for name in ("is_hit", "is_touched"))
    both = np.column_stack([hit, touched])
    is_matched = judged["placebo_hit"].is_not_null().to_numpy()
    other = judged.select(pl.col("placebo_hit", "placebo_touched").fill_null(0.0)).to_numpy()[is_matched]
    paired = np.column_stack([both[is_matched], other])
    return [
        measured("precision", time_ms, np.column_stack([hit, np.ones(len(hit))]), mean, **settings),
        measured("precision_given_reach", time_ms[touched > 0], both[touched > 0], mean, **settings),
        measured("precision_lift", time_ms[is_matched], paired, _lift, **settings),
        measured("reach_lift", time_ms[is_matched], paired, _reach_lift, **settings),
    ]


def _lift(totals: np.ndarray) -> np.ndarray:
    return (totals[..., 0] + 0.5) / (totals[..., 2] + 0.5)


def _reach_lift(totals: np.ndarray) -> np.ndarray:
    return _lift(totals) * (totals[..., 3] + 0.5) / (totals[..., 1] + 0.5)


def _average_precision(judged: pl.DataFrame, settings: dict) -> dict:
    ranked = judged.sort("score", descending=True)
    hit = ranked["is_hit"].cast(pl.Float64).to_numpy()
    days, row_day = np.unique(day_of(ranked["avail_time"].dt.epoch("ms").to_numpy()), return_inverse=True)
    blocks = block_days(settings["horizon_s"])
    row = {
        "metric": "average_precision", "band": settings["band"], "horizon_s": settings["horizon_s"],
        "value": float("nan"), "low": float("nan"), "high": float("nan"), "n": len(hit), "n_days": len(days),
    }  # fmt: skip
    if hit.sum() == 0.0:
        return row
    row["value"] = float(_mean_precision(hit, np.ones((1, len(hit))))[0])
    if len(days) >= max(2, 2 * blocks):
        # Draw by draw: all at once would hold every episode a thousand times.
        counts = day_counts(len(days), block_days=blocks, draws=settings["draws"], seed=settings["seed"])
        drawn = np.array([_mean_precision(hit, each[row_day][None])[0] for each in counts])
        tail = (1.0 - LEVEL) / 2.0
        row["low"], row["high"] = (float(bound) for bound in np.nanquantile(drawn, [tail, 1.0 - tail]))
    return row


def _mean_precision(hit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    hits, taken = np.cumsum(weight * hit, axis=1), np.cumsum(weight, axis=1)
    precision = hits / np.maximum(taken, 1.0)
    total = hits[:, -1]
    return np.where(total > 0.0, (weight * hit * precision).sum(axis=1) / np.maximum(total, 1.0), np.nan)


def _recalled(rows: pl.DataFrame, bars: Marks, orders: Orders, horizon_s: int) -> pl.DataFrame:
    """Forced orders in windows that do not overlap: whether a cluster shown at its start holds them."""
    step_ms = 1_000 * horizon_s
    window = (orders.time_ms - 1) // step_ms
    starts, number = np.unique(window, return_inverse=True)
    start_ms = starts * step_ms
    bar = bars.last_known(start_ms)
    close = np.where(bar >= 0, bars.close[np.maximum(bar, 0)], np.nan)
    covered, is_mapped = _covered(rows, start_ms, close)
    own = bucket_of(np.where(np.isfinite(close), close, 1.0))[number]
    step = np.where(orders.side == LONG, -1, 1) * (bucket_of(orders.price) - own)
    kept = is_mapped[number] & (step >= 1) & (step <= STEPS)
    number, side, step = number[kept], orders.side[kept], step[kept] - 1
    band = np.searchsorted(BANDS[1:], (np.arange(1, STEPS + 1) + 0.5) / 1e3, side="right")
    share = np.zeros((len(starts), 2, len(BAND_NAMES)))
    for each in range(len(BAND_NAMES)):
        share[..., each] = covered[..., band == each].mean(axis=2)
    usdt = orders.usdt[kept]
    return pl.DataFrame(
        {
            "start_ms": start_ms[number],
            "band": band_of((step + 1.5) / 1e3),
            "usdt": usdt,
            "captured_usdt": usdt * covered[number, side, step],
            "expected_usdt": usdt * share[number, side, band[step]],
        }
    ).filter(pl.col("band") != BAND_NAMES[-1])


def _covered(rows: pl.DataFrame, start_ms: np.ndarray, close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Buckets ahead of the mark that clusters cover at each start, bool (n, 2, STEPS); and where there was a map."""
    covered = np.zeros((len(start_ms), 2, STEPS), bool)
    avail_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
    side, low = sides_of(rows), bucket_of(rows["price_lo"].to_numpy())
    high = bucket_of(rows["price_hi"].to_numpy()) - 1
    end = np.searchsorted(avail_ms, start_ms, side="right")
    newest = np.where(end > 0, avail_ms[np.maximum(end, 1) - 1] if len(avail_ms) else 0, -NEVER)
    is_mapped = (start_ms - newest <= 1_000 * MAX_AGE_S) & (newest >= 0) & np.isfinite(close)
    for window in np.flatnonzero(is_mapped):
        own = int(bucket_of(close[window]))
        for row in range(np.searchsorted(avail_ms, newest[window]), end[window]):
            first, last = (own - high[row], own - low[row]) if side[row] == LONG else (low[row] - own, high[row] - own)
            covered[window, side[row], max(first, 1) - 1 : max(last, 0)] = True
    return covered, is_mapped


def _recall(prints: pl.DataFrame, settings: dict) -> list[dict]:
    time_ms = prints["start_ms"].to_numpy()
    captured, total, expected = (prints[name].to_numpy() for name in ("captured_usdt", "usdt", "expected_usdt"))
    return [
        measured("recall", time_ms, np.column_stack([captured, total]), mean, **settings),
        measured("recall_lift", time_ms, np.column_stack([captured, expected]), mean, **settings),
    ]
