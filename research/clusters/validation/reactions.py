"""What the price does after it touches or breaks a cluster, against what it does after any touch that looks alike.

After a fast fall the price tends to bounce, wall or no wall. So every event is set against placebo touches: moments at
which the price crossed a level drawn at random, with the same speed of approach, the same volatility and the same
change of open interest. The excess over them belongs to the cluster. Returns count along the approach: positive goes on
through (a breakout, the cascade runs), negative turns back (a support or a resistance held).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import LONG, SHORT
from research.clusters.validation.bootstrap import day_sums, interval
from research.clusters.validation.verdicts import RESULTS

HORIZONS_S = (300, 900, 3_600)
KINDS = ("TOUCHED", "BROKEN")

APPROACH_BARS = 15
VOLATILITY_BARS = 240
OPEN_INTEREST_BARS = 60

PLACEBOS = 5  # per event
CALIPER = 1.0  # farthest that a placebo may lie from its event, in standard deviations of the pool
POOL_PER_EVENT, SMALLEST_POOL, LARGEST_POOL = 20, 2_000, 20_000
NEAREST_LEVEL, FARTHEST_LEVEL = 0.003, 0.05  # log distance of placebo levels when they are drawn

SAMPLES = pl.Schema(
    {
        "symbol": pl.String,
        "avail_time": TIME_MS,  # when the event was known; returns start here
        "event": pl.String,
        "side": pl.String,
        "horizon_s": pl.Int64,
        "return_bps": pl.Float64,  # log, along the approach: down for "long", up for "short"
        "placebo_bps": pl.Float64,  # mean of the matched placebo touches
        "excess_bps": pl.Float64,
        "placebo_times": pl.List(TIME_MS),  # when each placebo was known
        "placebo_returns_bps": pl.List(pl.Float64),
    }
)


def reaction_samples(
    events: pl.DataFrame,
    marks: pl.DataFrame,
    *,
    horizons_s: Sequence[int] = HORIZONS_S,
    kinds: Sequence[str] = KINDS,
    bar_s: int = 60,
    seed: int = 0,
) -> pl.DataFrame:
    """One row per event and horizon that has its future and its placebos; frame of ``SAMPLES``.

    Parameters
    ----------
    events : symbol, ts (end of the bar in which it happened), avail_time, side ("long", "short"), event.
    marks : symbol, ts (end of the bar), mark_high, mark_low, mark_close, and open_interest where it is known; ascending
        per symbol. Without open interest nothing is matched on it.
    seed : of the placebo levels.

    Notes
    -----
    An event is left out where its own past or future was not seen, or nothing in the pool resembles it: the five
    nearest placebos must lie within a standard deviation. Placebos that follow a real event of the symbol within the
    longest horizon are not used. Those that precede one are: to leave them out would choose by the future, keep the
    touches after which the price turned back before the next cluster, and find breakouts where there are none.
    """
    parts = [pl.DataFrame(schema=SAMPLES)]
    by_symbol = marks.partition_by("symbol", as_dict=True)
    chosen = events.filter(pl.col("event").is_in(list(kinds)))
    for (symbol,), happened in chosen.partition_by("symbol", as_dict=True, maintain_order=True).items():
        if (symbol,) in by_symbol:
            parts.append(_samples(happened, by_symbol[symbol,], tuple(horizons_s), bar_s * 1_000, seed))
    return pl.concat(parts)


def _samples(
    events: pl.DataFrame, marks: pl.DataFrame, horizons_s: tuple[int, ...], bar_ms: int, seed: int
) -> pl.DataFrame:
    end_ms = marks["ts"].dt.epoch("ms").to_numpy()
    log_close = np.log(marks["mark_close"].to_numpy())
    look = _past(marks, log_close)
    ahead = _future_returns(end_ms, log_close, horizons_s, bar_ms)

    event_ms = events["ts"].dt.epoch("ms").to_numpy()
    known_ms = events["avail_time"].dt.epoch("ms").to_numpy()
    row, known_row = _last_row(end_ms, event_ms, bar_ms), _last_row(end_ms, known_ms, bar_ms)
    is_short = events["side"].to_numpy() == "short"
    event_toward = np.where(is_short, 1.0, -1.0)

    guard_ms = 1_000 * max(horizons_s)
    pool_row, pool_side, pool_look = _pool(marks, end_ms, look, np.sort(event_ms), guard_ms, seed)
    if not pool_row.size:
        return pl.DataFrame(schema=SAMPLES)
    index, rows = [], []
    scale = pool_look.std(axis=0)
    scale[scale == 0.0] = 1.0
    mine_look = _alike(look, np.maximum(row, 0), event_toward)
    for i in range(events.height):
        if row[i] < 0 or known_row[i] < 0 or not np.isfinite(mine_look[i]).all():
            continue
        # A placebo is known as long after its touch as the event was after its own.
        later = np.minimum(pool_row + (known_row[i] - row[i]), len(end_ms) - 1)
        same_side = np.flatnonzero(
            (pool_side == (SHORT if is_short[i] else LONG)) & np.isfinite(ahead[:, later]).all(axis=0)
        )
        if same_side.size < PLACEBOS:
            continue
        apart = np.sqrt(np.mean(np.square((pool_look[same_side] - mine_look[i]) / scale), axis=1))
        nearest = np.argpartition(apart, PLACEBOS - 1)[:PLACEBOS]
        if apart[nearest].max() > CALIPER:
            continue
        matched = later[same_side[nearest]]
        for h, horizon_s in enumerate(horizons_s):
            mine = 1e4 * event_toward[i] * ahead[h, known_row[i]]
            placebos = 1e4 * event_toward[i] * ahead[h, matched]
            if np.isfinite(mine):
                index.append(i)
                excess = mine - placebos.mean()
                rows.append((horizon_s, mine, placebos.mean(), excess, end_ms[matched].tolist(), placebos.tolist()))
    told = pl.DataFrame(rows, schema=list(SAMPLES)[-6:], orient="row")
    return events[index].select("symbol", "avail_time", "event", "side").hstack(told).cast(SAMPLES)


def _pool(
    marks: pl.DataFrame, end_ms: np.ndarray, look: np.ndarray, event_ms: np.ndarray, guard_ms: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, side and looks of the placebo touches that have a known past and follow no event too soon."""
    row, side = _placebo_touches(marks, event_ms.size, seed)
    alike = _alike(look, row, np.where(side == SHORT, 1.0, -1.0))
    usable = np.isfinite(alike).all(axis=1) & (_since_last_ms(end_ms[row], event_ms) > guard_ms)
    return row[usable], side[usable], alike[usable]


def _last_row(end_ms: np.ndarray, at_ms: np.ndarray, bar_ms: int) -> np.ndarray:
    """The last bar that ended by each moment, at most one bar earlier; -1 where there is none."""
    row = np.searchsorted(end_ms, at_ms, side="right") - 1
    return np.where((row >= 0) & (at_ms - end_ms[row] < bar_ms), row, -1)


def _past(marks: pl.DataFrame, log_close: np.ndarray) -> np.ndarray:
    """What a row looks back on: move of the approach, ln volatility, change of open interest; shape (3, n_rows)."""
    close = pl.Series(log_close, nan_to_null=True)
    approach = close.diff(APPROACH_BARS)
    volatility = close.diff().rolling_std(VOLATILITY_BARS)
    if "open_interest" in marks.columns:
        change = marks["open_interest"].fill_nan(None).log().diff(OPEN_INTEREST_BARS)
    else:
        change = pl.zeros(len(close), eager=True)
    past = np.stack([column.cast(pl.Float64).to_numpy() for column in (approach, volatility, change)])
    with np.errstate(divide="ignore", invalid="ignore"):
        past[1] = np.log(past[1])
    return past


def _alike(look: np.ndarray, row: np.ndarray, toward: np.ndarray) -> np.ndarray:
    """What touches are matched on, shape (n, 3): speed of approach in volatilities, volatility, open interest."""
    approach, volatility, change = look[:, row]
    speed = toward * approach / (np.exp(volatility) * np.sqrt(APPROACH_BARS))
    return np.stack([speed, volatility, change], axis=1)


def _future_returns(end_ms: np.ndarray, log_close: np.ndarray, horizons_s: Sequence[int], bar_ms: int) -> np.ndarray:
    """Log returns from each row over each horizon, shape (n_horizons, n_rows); NaN without a bar at its end."""
    ahead = np.full((len(horizons_s), len(end_ms)), np.nan)
    for h, horizon_s in enumerate(horizons_s):
        target = end_ms + 1_000 * horizon_s
        row = _last_row(end_ms, target, bar_ms)
        seen = row >= 0
        ahead[h, seen] = log_close[row[seen]] - log_close[seen]
    return ahead


def _placebo_touches(marks: pl.DataFrame, n_events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in which the price crossed a level drawn at random, and the side of that level.

    A level is drawn at a random row, at a random distance on either side, and waits a day for its first touch.
    """
    n_rows = marks.height
    n_levels = min(LARGEST_POOL, max(SMALLEST_POOL, POOL_PER_EVENT * n_events))
    random = np.random.default_rng(seed)
    drawn = random.integers(0, n_rows, n_levels)
    side = np.where(random.random(n_levels) < 0.5, SHORT, LONG)
    distance = np.exp(random.uniform(np.log(NEAREST_LEVEL), np.log(FARTHEST_LEVEL), n_levels))
    close = marks["mark_close"].to_numpy()[drawn]
    level = close * np.exp(np.where(side == SHORT, distance, -distance))
    high, low = marks["mark_high"].to_numpy(), marks["mark_low"].to_numpy()
    touched = np.full(n_levels, -1)
    for i in range(n_levels):
        window = slice(drawn[i] + 1, drawn[i] + 1 + 1_440)
        hit = high[window] >= level[i] if side[i] == SHORT else low[window] <= level[i]
        first = int(hit.argmax()) if hit.size else 0
        if hit.size and hit[first]:
            touched[i] = drawn[i] + 1 + first
    # Two levels touched in one bar are one moment: it counts once.
    moments = np.unique(np.stack([touched[touched >= 0], side[touched >= 0]]), axis=1)
    return moments[0], moments[1]


def _since_last_ms(at_ms: np.ndarray, sorted_ms: np.ndarray) -> np.ndarray:
    """Time since the last of the given moments, 0 at one of them; the time since 1970 before the first."""
    last = np.searchsorted(sorted_ms, at_ms, side="right") - 1
    return np.where(last >= 0, at_ms - sorted_ms[np.maximum(last, 0)], at_ms)


def reactions(samples: pl.DataFrame, *, draws: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Mean excess per event, side and horizon, bps, with intervals by days.

    Returns
    -------
    metric ("reaction_touched", "reaction_broken"), band ("all" or the side), horizon_s, value, low, high, n, n_days,
    n_symbols: rows for ``verdicts``.
    """
    rows = []
    for event, horizon_s, side in (
        samples.select("event", "horizon_s", pl.lit("all").alias("side"))
        .vstack(samples.select("event", "horizon_s", "side"))
        .unique()
        .sort("event", "horizon_s", "side")
        .iter_rows()
    ):
        mine = samples.filter(pl.col("event") == event, pl.col("horizon_s") == horizon_s)
        if side != "all":
            mine = mine.filter(pl.col("side") == side)
        low, high = _interval(mine, draws, seed)
        rows.append(
            {
                "metric": f"reaction_{event.lower()}",
                "band": side,
                "horizon_s": horizon_s,
                "value": mine["excess_bps"].mean(),
                "low": low,
                "high": high,
                "n": mine.height,
                "n_days": mine["avail_time"].dt.date().n_unique(),
                "n_symbols": mine["symbol"].n_unique(),
            }
        )
    return pl.DataFrame(rows, schema=RESULTS)


def _interval(samples: pl.DataFrame, draws: int, seed: int) -> tuple[float, float]:
    """Interval of the mean excess, days drawn again: those of the events, and those that the placebos come from.

    One moment is the placebo of many events. Counted on the events' days its luck would look like many days' luck.
    """
    placebos = samples.select(
        pl.col("placebo_times").alias("time"),
        pl.col("placebo_returns_bps").alias("bps"),
        (1.0 / pl.col("placebo_times").list.len()).alias("share"),
    ).explode("time", "bps")
    time = pl.concat([samples["avail_time"], placebos["time"]]).dt.epoch("ms").to_numpy()
    columns = np.zeros((time.size, 4))
    columns[: samples.height, 0], columns[: samples.height, 1] = samples["return_bps"].to_numpy(), 1.0
    share = placebos["share"].to_numpy()
    columns[samples.height :, 2], columns[samples.height :, 3] = placebos["bps"].to_numpy() * share, share
    _, sums = day_sums(time, columns)
    return interval(
        sums,
        lambda totals: totals[..., 0] / totals[..., 1] - totals[..., 2] / totals[..., 3],
        draws=draws,
        seed=seed,
    )
