"""Does the price reach walls more often than levels beside them? The primary test, and the one that misleads.

From a wall at log distance d the price goes, within the horizon, as far toward it as M. With a band e of a tenth of d,

    T = 1 where d <= M < d + e,  -1 where d - e <= M < d,  0 elsewhere:

the wall is just reached, or just missed. Placebo levels of the same snapshot, at eight distances
d * exp(+-U(.15, .4)), get the same T with their own band; the sample's excess is T less their mean. A wall pulls the
price in when the excess is above zero. Wall and placebos share the moment and the path, so the regime of volatility
cancels. The samples of a day share the path too, so a day is one observation: the excesses are summed per UTC day and
their t is taken over days.

People publish something else: how often walls are touched, less how often that distance is touched at any time, with a
standard error as if samples were independent. In markets without magnets that test rejects in half of them.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import LONG, SHORT
from research.clusters.validation.bootstrap import day_of, day_sums
from research.clusters.validation.verdicts import RESULTS
from research.jit import njit

PLACEBOS = 8
BAND_SHARE = 0.1  # e = 0.1 d
PLACEBO_NEAREST, PLACEBO_FARTHEST = 0.15, 0.4  # of |ln| of the placebo's distance over the wall's
LEVEL = 0.95
MOST_DEGREES = 400  # of freedom; beyond, Student's t is the normal distribution to three digits

SAMPLES = pl.Schema(
    {
        "symbol": pl.String,
        "avail_time": TIME_MS,  # the snapshot; the horizon starts here
        "side": pl.String,  # of the positions liquidated: "long" lies below the mark
        "distance": pl.Float64,  # |ln(level / mark)| at the snapshot, > 0
        "extreme": pl.Float64,  # M: ln, farthest toward the wall within the horizon; negative when never on its side
        "step": pl.Float64,  # T of the wall: 1, 0, -1
        "placebo_step": pl.Float64,  # mean T of its eight placebos
        "excess": pl.Float64,  # step - placebo_step
        "is_touched": pl.Boolean,  # M >= d
        "base_rate": pl.Float64,  # fraction of the symbol's snapshots from which that distance was reached on that side
    }
)

Blocks = Literal["day", "symbol_day", "none"]


@dataclass(frozen=True, kw_only=True)
class BlockTest:
    """The mean of a sample's statistic, with what is known about it when blocks are the observations.

    Attributes
    ----------
    value, low, high : per sample; the interval at ``LEVEL``. NaN with fewer than two blocks or without any variation.
    t : sum over blocks against their deviation; p_value : two-sided.
    n_days, n_symbols : with events: a wall just reached or just missed, for the lift a wall touched. Days on which the
        price came near no wall are blocks, but they say nothing.
    """

    value: float
    low: float
    high: float
    t: float
    p_value: float
    n: int
    n_blocks: int
    n_days: int
    n_symbols: int


def magnet_samples(
    walls: pl.DataFrame,
    marks: pl.DataFrame,
    *,
    horizon_s: int = 14_400,
    bar_s: int = 60,
    min_distance: float = 0.002,
    seed: int = 0,
) -> pl.DataFrame:
    """One sample per wall and snapshot whose horizon was seen whole; frame of ``SAMPLES``.

    Parameters
    ----------
    walls : symbol, avail_time, side ("long", "short"), price_level: the clusters that stood (``active``) at each
        snapshot of one map. Rows without a level say that there was nothing, and make no sample.
    marks : symbol, ts (end of the bar), mark_high, mark_low, mark_close; ascending per symbol, NaN where nobody saw.
    horizon_s : how far M looks: bars that begin at the snapshot or later and end by then. A sample whose bars are not
        all there is left out, and so is one without a mark at its snapshot.
    min_distance : walls nearer than this (log) are left out: their band is finer than a minute's move.
    seed : of the placebo distances. They follow from the seed, the snapshot's time and the wall's place, so that other
        samples, earlier or later, change nothing.

    Raises
    ------
    ValueError
        For a side that is neither "long" nor "short", or rows of more than one map of a symbol.
    """
    require_one_map(walls)
    walls = walls.filter(pl.col("price_level").is_not_null())
    strange = set(walls["side"].unique()) - {"long", "short"}
    if strange:
        raise ValueError(f'side: expected "long" or "short", got {sorted(map(str, strange))}')
    parts = [pl.DataFrame(schema=SAMPLES)]
    by_symbol = marks.partition_by("symbol", as_dict=True)
    for (symbol,), standing in walls.partition_by("symbol", as_dict=True, maintain_order=True).items():
        if (symbol,) in by_symbol:
            parts.append(_samples(symbol, standing, by_symbol[symbol,], horizon_s, bar_s, min_distance, seed))
    return pl.concat(parts)


def require_one_map(clusters: pl.DataFrame) -> None:
    """Refuse rows of several maps of a symbol: their walls stand at the same places and would count twice."""
    names = [name for name in ("venue", "source", "map_id") if name in clusters.columns]
    maps = clusters.select("symbol", *names).unique() if names else clusters.select("symbol").clear()
    if maps["symbol"].n_unique() < maps.height:
        raise ValueError(f"expected one map per symbol, got {maps.height} maps; filter by {', '.join(names)} first")


def _samples(
    symbol: str,
    walls: pl.DataFrame,
    marks: pl.DataFrame,
    horizon_s: int,
    bar_s: int,
    min_distance: float,
    seed: int,
) -> pl.DataFrame:
    end_ms = marks["ts"].dt.epoch("ms").to_numpy()
    # Writable, whatever polars holds: a read-only array is another type, and compiled once more.
    high, low, close = (marks[f"mark_{name}"].to_numpy(writable=True) for name in ("high", "low", "close"))
    wall_ms = walls["avail_time"].dt.epoch("ms").to_numpy()
    snapshot_ms, snapshot = np.unique(wall_ms, return_inverse=True)
    mark, extremes = future_extremes(end_ms, high, low, close, snapshot_ms, horizon_s * 1_000, bar_s * 1_000)

    side = np.where(walls["side"].to_numpy() == "short", SHORT, LONG)
    level = walls["price_level"].to_numpy()
    with np.errstate(invalid="ignore"):
        distance = np.where(side == SHORT, 1.0, -1.0) * np.log(level / mark[snapshot])
    extreme = extremes[side, snapshot]
    keep = (distance >= min_distance) & np.isfinite(extreme)
    walls, side, snapshot, level = walls.filter(keep), side[keep], snapshot[keep], level[keep]
    distance, extreme = distance[keep], extreme[keep]
    step, placebo_step = _steps(distance, extreme, snapshot_ms[snapshot], level.view(np.int64), seed)
    return pl.DataFrame(
        {
            "symbol": walls["symbol"],
            "avail_time": walls["avail_time"].cast(TIME_MS),
            "side": walls["side"],
            "distance": distance,
            "extreme": extreme,
            "step": step,
            "placebo_step": placebo_step,
            "excess": step - placebo_step,
            "is_touched": extreme >= distance,
            "base_rate": _base_rate(distance, side, extremes),
        },
        schema=SAMPLES,
    )


def _base_rate(distance: np.ndarray, side: np.ndarray, extremes: np.ndarray) -> np.ndarray:
    """How often each distance was reached from all snapshots of the sample, whatever stood there."""
    rate = np.empty(distance.size)
    for one in (LONG, SHORT):
        reached = np.sort(extremes[one][np.isfinite(extremes[one])])
        mine = side == one
        rate[mine] = 1.0 - np.searchsorted(reached, distance[mine], side="left") / max(1, reached.size)
    return rate


def future_extremes(
    end_ms: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    snapshot_ms: np.ndarray,
    horizon_ms: int,
    bar_ms: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The mark at each snapshot, and how far prices went below and above it within the horizon.

    Parameters
    ----------
    end_ms, high, low, close : bars, ascending; NaN where nobody saw. snapshot_ms : ascending.

    Returns
    -------
    mark : close of the last bar that ended by the snapshot, at most one bar earlier; NaN where there is none.
    extremes : float64, shape (2, n_snapshots): ln(mark / lowest), ln(highest / mark) over the bars that begin at the
        snapshot or later and end within the horizon. NaN unless every one of them was seen.
    """
    first = np.searchsorted(end_ms, snapshot_ms + bar_ms, side="left")
    stop = np.searchsorted(end_ms, snapshot_ms + horizon_ms, side="right")
    last_seen = np.searchsorted(end_ms, snapshot_ms, side="right") - 1
    is_fresh = (last_seen >= 0) & (snapshot_ms - end_ms[last_seen] <= bar_ms)
    mark = np.where(is_fresh, close[last_seen], np.nan)
    # A snapshot off the bars' clock has a piece of a bar at either end that is not looked at.
    expected = horizon_ms // bar_ms - (snapshot_ms % bar_ms != 0)
    lowest = -_future_max(-low, first, stop, expected)
    highest = _future_max(high, first, stop, expected)
    with np.errstate(invalid="ignore"):
        return mark, np.stack([np.log(mark / lowest), np.log(highest / mark)])


@njit(forceinline=False)
def _future_max(values, first, stop, expected):
    """Maximum of values[first[i]:stop[i]] for windows whose ends only move forward.

    NaN where the window is empty, holds a NaN or has not the expected number of rows.
    """
    out = np.full(first.size, np.nan)
    queue = np.empty(values.size, np.int64)  # rows of falling values: the window's maximum stands at the head
    head, tail, row, last_unseen = 0, 0, 0, -1
    for i in range(first.size):
        while row < stop[i]:
            if np.isnan(values[row]):
                last_unseen = row
            else:
                while tail > head and values[queue[tail - 1]] <= values[row]:
                    tail -= 1
                queue[tail] = row
                tail += 1
            row += 1
        while head < tail and queue[head] < first[i]:
            head += 1
        if stop[i] - first[i] == expected[i] and stop[i] > first[i] and last_unseen < first[i]:
            out[i] = values[queue[head]]
    return out


@njit
def _step(distance, extreme):
    """1 where the level was just reached, -1 where it was just missed."""
    band = BAND_SHARE * distance
    if distance <= extreme < distance + band:
        return 1.0
    if distance - band <= extreme < distance:
        return -1.0
    return 0.0


@njit
def _scrambled(key):
    """A 64-bit key, well mixed. Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators"."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@njit(forceinline=False)
def _steps(distance, extreme, snapshot_ms, level_bits, seed):
    """T of every wall and the mean T of its placebos, half of them nearer and half of them farther than the wall."""
    step, placebo_step = np.empty(distance.size), np.empty(distance.size)
    golden = np.uint64(0x9E3779B97F4A7C15)
    for i in range(distance.size):
        step[i] = _step(distance[i], extreme[i])
        key = _scrambled(np.uint64(seed) * golden + np.uint64(snapshot_ms[i]))
        key = _scrambled(key ^ np.uint64(level_bits[i]))
        total = 0.0
        for placebo in range(PLACEBOS):
            key += golden
            uniform = np.float64(_scrambled(key) >> np.uint64(11)) * 2.0**-53
            shift = PLACEBO_NEAREST + uniform * (PLACEBO_FARTHEST - PLACEBO_NEAREST)
            total += _step(distance[i] * np.exp(shift if placebo % 2 == 0 else -shift), extreme[i])
        placebo_step[i] = total / PLACEBOS
    return step, placebo_step


def magnet_test(samples: pl.DataFrame, blocks: Blocks = "day") -> BlockTest:
    """The primary test: mean excess per wall over its placebos."""
    return _block_test(samples, samples["excess"].to_numpy(), samples["step"].to_numpy() != 0.0, blocks)


def lift_test(samples: pl.DataFrame, blocks: Blocks = "none") -> BlockTest:
    """What people publish: touch rate less the rate at which that distance is reached at any time.

    Without blocks it takes every sample for independent, with a standard error from the base rates. It is here to be
    shown beside the primary test, never to decide.
    """
    base_rate = samples["base_rate"].to_numpy()
    is_touched = samples["is_touched"].to_numpy()
    if blocks != "none":
        return _block_test(samples, is_touched - base_rate, is_touched, blocks)
    deviation = float(np.sqrt(np.sum(base_rate * (1.0 - base_rate))))
    return _test(samples, float((is_touched - base_rate).sum()), is_touched, deviation, samples.height)


def _block_test(samples: pl.DataFrame, values: np.ndarray, is_event: np.ndarray, blocks: Blocks) -> BlockTest:
    """Two-sided t of the sum of ``values``, summed first per block; "none" makes every sample a block."""
    if blocks == "none" or samples.is_empty():
        sums = values
    else:
        parts = [samples.with_columns(pl.Series("value", values))]
        if blocks == "symbol_day":
            parts = parts[0].partition_by("symbol")
        by_day = [day_sums(part["avail_time"].dt.epoch("ms").to_numpy(), part["value"].to_numpy()) for part in parts]
        sums = np.concatenate([sums[:, 0] for _, sums in by_day])
    deviation = float(np.std(sums, ddof=1) * np.sqrt(sums.size)) if sums.size > 1 else 0.0
    return _test(samples, float(values.sum()), is_event, deviation, sums.size)


def _test(samples: pl.DataFrame, total: float, is_event: np.ndarray, deviation: float, n_blocks: int) -> BlockTest:
    n = samples.height
    is_known = n_blocks > 1 and deviation > 0.0
    t = total / deviation if is_known else float("nan")
    reach = t_quantile(n_blocks - 1) * deviation / n if is_known else float("nan")
    value = total / n if n else float("nan")
    return BlockTest(
        value=value,
        low=value - reach,
        high=value + reach,
        t=t,
        p_value=t_p_value(t, n_blocks - 1) if is_known else float("nan"),
        n=n,
        n_blocks=n_blocks,
        n_days=np.unique(day_of(samples["avail_time"].dt.epoch("ms").to_numpy()[is_event])).size,
        n_symbols=samples["symbol"].filter(is_event).n_unique(),
    )


def magnet_results(samples: pl.DataFrame, *, horizon_s: int) -> pl.DataFrame:
    """The primary test over all samples, then per side, then per symbol: rows for ``verdicts``.

    Parameters
    ----------
    horizon_s : the one the samples were made with.
    """
    parts = {"all": samples}
    for name in ("side", "symbol"):
        parts |= {key: part for (key,), part in sorted(samples.partition_by(name, as_dict=True).items())}
    return pl.concat([tidy(magnet_test(part), horizon_s=horizon_s, band=band) for band, part in parts.items()])


def tidy(test: BlockTest, *, metric: str = "magnet_excess", horizon_s: int, band: str = "all") -> pl.DataFrame:
    """One test as a row for ``verdicts``."""
    row = {name: getattr(test, name) for name in ("value", "low", "high", "n", "n_days", "n_symbols")}
    return pl.DataFrame([{"metric": metric, "band": band, "horizon_s": horizon_s, **row}], schema=RESULTS)


def t_p_value(t: float, degrees: int) -> float:
    """Two-sided p of Student's t, whole degrees of freedom. Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    degrees = min(degrees, MOST_DEGREES)
    angle = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine_squared = math.sin(angle), math.cos(angle) ** 2
    is_odd = degrees % 2
    term = math.cos(angle) if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for power in range(2 + is_odd, degrees - 1, 2):
        term *= (power - 1) / power * cosine_squared
        total += term
    inside = 2.0 / math.pi * (angle + sine * total) if is_odd else sine * total
    return max(0.0, 1.0 - inside)


@lru_cache(maxsize=4_096)
def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The |t| that a share ``level`` of Student's t stays below."""
    low, high = 0.0, 1e6
    while high - low > 1e-9 * (1.0 + low):
        middle = 0.5 * (low + high)
        if t_p_value(middle, degrees) > 1.0 - level:
            low = middle
        else:
            high = middle
    return high
