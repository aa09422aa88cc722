"""Markets whose truth is known: prices that ignore the walls of a map, and prices that some of the walls pull in.

Every claim about a map is first made about these. A test that finds a magnet where there is none, or misses the one
that was planted, says nothing about a real market. Everything follows from the seed.

The volatility is stochastic and clusters over days, walls appear where and when the market is busy, stay at their price
and are seen by snapshot after snapshot until they are reached. So the samples of a day hang together, as they do in
recorded maps: that is what misleads a test which takes them for independent.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import LONG, SHORT, SIDES
from research.jit import njit

MINUTE_MS = 60_000
MINUTES_PER_DAY = 1_440

START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
START_PRICE = 100.0
MAX_LIVE_WALLS = 64
MOST_WALLS_PER_DAY = 64


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """A market with walls.

    Parameters
    ----------
    pulled_share : fraction of the walls that are magnets: a price that comes nearer than ``near_share`` of the wall's
        first distance touches such a wall within the same minute, and the minute closes where it would have. Of the
        near misses of a world without magnets, this fraction is pulled in; 0 plants none.
    daily_volatility : standard deviation of a day's log return when the volatility is at its middle.
    volatility_spread : standard deviation of the logarithm of the volatility; its half-life is ``half_life_days``.
    correlation : of the symbols' returns, and of their volatilities.
    walls_per_day : walls that appear per symbol and day at middle volatility, in proportion to the volatility.
    nearest, farthest : log distance at which a wall appears, evenly in its logarithm.
    wall_life_days : mean time after which a wall that was not reached is gone.
    """

    days: int = 30
    symbols: int = 1
    snapshot_minutes: int = 30
    pulled_share: float = 0.0
    near_share: float = 0.1
    daily_volatility: float = 0.025
    volatility_spread: float = 0.5
    half_life_days: float = 1.0
    correlation: float = 0.6
    walls_per_day: float = 4.0
    nearest: float = 0.005
    farthest: float = 0.06
    wall_life_days: float = 1.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.pulled_share <= 1.0:
            raise ValueError(f"pulled_share: expected a fraction from 0 to 1, got {self.pulled_share}")
        if self.days < 1 or self.symbols < 1 or MINUTES_PER_DAY % self.snapshot_minutes:
            raise ValueError(
                "expected at least one day, one symbol and snapshot minutes that divide a day, got "
                f"{self.days}, {self.symbols}, {self.snapshot_minutes}"
            )


@dataclass(frozen=True, kw_only=True)
class World:
    """What happened in one market.

    Attributes
    ----------
    marks : symbol, ts (end of the minute), mark_high, mark_low, mark_close, volume_usdt, open_interest.
    walls : symbol, avail_time, cluster_id, side, price_level, mark, open_interest, strength: every wall that stood at
        a snapshot, as in the clusters table. Weight and strength mean nothing: they are drawn at random.
    touches : symbol, ts, avail_time, cluster_id, side, event ("TOUCHED"), price_level, as in the table of events.
    """

    marks: pl.DataFrame
    walls: pl.DataFrame
    touches: pl.DataFrame


def simulate(seed: int, spec: WorldSpec | None = None) -> World:
    """One market."""
    spec = spec or WorldSpec()
    random = np.random.default_rng(seed)
    shared = random.standard_normal((2, spec.days * MINUTES_PER_DAY))
    symbols = [_symbol(random, shared, f"W{number}USDT", spec) for number in range(spec.symbols)]
    marks, walls, touches = (pl.concat(frames) for frames in zip(*symbols, strict=True))
    return World(marks=marks, walls=walls, touches=touches)


def _symbol(
    random: np.random.Generator, shared: np.ndarray, symbol: str, spec: WorldSpec
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Minutes, walls and touches of one symbol, driven by the market's shocks and by its own."""
    n_minutes = shared.shape[1]
    own = random.standard_normal(shared.shape)
    shocks = np.sqrt(spec.correlation) * shared + np.sqrt(1.0 - spec.correlation) * own
    minute_draws = random.random((3, n_minutes))
    wall_draws = random.random((4, MOST_WALLS_PER_DAY * spec.days))
    minute_volatility = spec.daily_volatility / np.sqrt(MINUTES_PER_DAY)
    high, low, close, volatility, seen, touched, n_walls = _walk(
        shocks,
        minute_draws,
        wall_draws,
        minute_volatility,
        spec.volatility_spread,
        0.5 ** (1.0 / (spec.half_life_days * MINUTES_PER_DAY)),
        spec.walls_per_day / MINUTES_PER_DAY,
        np.log(spec.nearest),
        np.log(spec.farthest),
        spec.wall_life_days * MINUTES_PER_DAY,
        spec.pulled_share,
        spec.near_share,
        spec.snapshot_minutes,
    )
    end_ms = START_MS + MINUTE_MS * np.arange(1, n_minutes + 1)
    close_price = START_PRICE * np.exp(close)
    marks = pl.DataFrame(
        {
            "symbol": pl.repeat(symbol, n_minutes, eager=True),
            "ts": pl.Series(end_ms).cast(TIME_MS),
            "mark_high": START_PRICE * np.exp(high),
            "mark_low": START_PRICE * np.exp(low),
            "mark_close": close_price,
            "volume_usdt": 1e6 * volatility / minute_volatility,
            "open_interest": np.cumsum(0.1 * own[0]) + 1e4,
        }
    )
    minute, wall, side, level = seen
    mass = random.lognormal(0.0, 1.0, n_walls)  # one per wall
    rank = mass.argsort().argsort() / max(1, n_walls)
    walls = pl.DataFrame(
        {
            "symbol": pl.repeat(symbol, minute.size, eager=True),
            "avail_time": pl.Series(end_ms[minute]).cast(TIME_MS),
            "cluster_id": wall,
            "side": pl.Series(np.array(SIDES)[side], dtype=pl.String),
            "price_level": START_PRICE * np.exp(level),
            "mark": close_price[minute],
            "open_interest": 1e6 * mass[wall],
            "strength": rank[wall],
        }
    )
    minute, wall, side, level = touched
    touches = pl.DataFrame(
        {
            "symbol": pl.repeat(symbol, minute.size, eager=True),
            "ts": pl.Series(end_ms[minute]).cast(TIME_MS),
            "avail_time": pl.Series(end_ms[minute]).cast(TIME_MS),
            "cluster_id": wall,
            "side": pl.Series(np.array(SIDES)[side], dtype=pl.String),
            "event": pl.repeat("TOUCHED", minute.size, eager=True),
            "price_level": START_PRICE * np.exp(level),
        }
    )
    return marks, walls, touches


@njit(forceinline=False)
def _walk(
    shocks,
    minute_draws,
    wall_draws,
    minute_volatility,
    volatility_spread,
    kept,
    walls_per_minute,
    log_nearest,
    log_farthest,
    life_minutes,
    pulled_share,
    near_share,
    snapshot_minutes,
):
    """Log price per minute from 0, its volatility, the walls that stood at each snapshot, and touches.

    ``minute_draws``: bridge above, bridge below, birth. ``wall_draws``, a column per wall: side, distance, life, pull.
    Returns high, low, close, volatility, (minute, wall, side, level) of every sighting and of every touch, and how many
    walls there were.
    """
    n_minutes = shocks.shape[1]
    high, low, close = np.empty(n_minutes), np.empty(n_minutes), np.empty(n_minutes)
    volatility = np.empty(n_minutes)

    most = (n_minutes // snapshot_minutes) * MAX_LIVE_WALLS
    seen_minute, seen_wall = np.empty(most, np.int64), np.empty(most, np.int64)
    seen_side, seen_level = np.empty(most, np.int64), np.empty(most)
    n_seen = 0
    n_most = wall_draws.shape[1]
    hit_minute, hit_wall = np.empty(n_most, np.int64), np.empty(n_most, np.int64)
    hit_side, hit_level = np.empty(n_most, np.int64), np.empty(n_most)
    n_hits = 0

    wall_id, wall_side = np.empty(MAX_LIVE_WALLS, np.int64), np.empty(MAX_LIVE_WALLS, np.int64)
    wall_level, wall_near = np.empty(MAX_LIVE_WALLS), np.empty(MAX_LIVE_WALLS)
    wall_end, wall_pulls = np.empty(MAX_LIVE_WALLS, np.int64), np.empty(MAX_LIVE_WALLS, np.bool_)
    n_live, n_born = 0, 0

    innovation = volatility_spread * np.sqrt(1.0 - kept * kept)
    excess = volatility_spread * shocks[0, 0]
    price = 0.0
    for i in range(n_minutes):
        excess = kept * excess + innovation * shocks[0, i]
        sigma = minute_volatility * np.exp(excess)
        move = sigma * shocks[1, i] - 0.5 * sigma * sigma
        end = price + move
        # The extremes of a Brownian bridge between two known ends.
        top = 0.5 * (price + end + np.sqrt(move * move - 2.0 * sigma * sigma * np.log(1.0 - minute_draws[0, i])))
        bottom = 0.5 * (price + end - np.sqrt(move * move - 2.0 * sigma * sigma * np.log(1.0 - minute_draws[1, i])))

        for w in range(n_live):
            if not wall_pulls[w]:
                continue
            if wall_side[w] == SHORT and wall_level[w] - wall_near[w] <= top < wall_level[w]:
                top = wall_level[w]
            elif wall_side[w] == LONG and wall_level[w] < bottom <= wall_level[w] + wall_near[w]:
                bottom = wall_level[w]

        kept_walls = 0
        for w in range(n_live):
            is_reached = bottom <= wall_level[w] <= top
            if is_reached:
                hit_minute[n_hits], hit_wall[n_hits] = i, wall_id[w]
                hit_side[n_hits], hit_level[n_hits] = wall_side[w], wall_level[w]
                n_hits += 1
            if is_reached or i >= wall_end[w]:
                continue
            wall_id[kept_walls], wall_side[kept_walls] = wall_id[w], wall_side[w]
            wall_level[kept_walls], wall_near[kept_walls] = wall_level[w], wall_near[w]
            wall_end[kept_walls], wall_pulls[kept_walls] = wall_end[w], wall_pulls[w]
            kept_walls += 1
        n_live = kept_walls

        price = end
        high[i], low[i], close[i], volatility[i] = top, bottom, end, sigma

        is_born = minute_draws[2, i] < walls_per_minute * np.exp(excess)
        if is_born and n_live < MAX_LIVE_WALLS and n_born < n_most:
            side = SHORT if wall_draws[0, n_born] < 0.5 else LONG
            distance = np.exp(log_nearest + wall_draws[1, n_born] * (log_farthest - log_nearest))
            wall_id[n_live], wall_side[n_live] = n_born, side
            wall_level[n_live] = price + (distance if side == SHORT else -distance)
            wall_near[n_live] = near_share * distance
            wall_end[n_live] = i + np.int64(-life_minutes * np.log(1.0 - wall_draws[2, n_born]))
            wall_pulls[n_live] = wall_draws[3, n_born] < pulled_share
            n_live += 1
            n_born += 1

        if (i + 1) % snapshot_minutes == 0:
            for w in range(n_live):
                seen_minute[n_seen], seen_wall[n_seen] = i, wall_id[w]
                seen_side[n_seen], seen_level[n_seen] = wall_side[w], wall_level[w]
                n_seen += 1

    seen = (seen_minute[:n_seen], seen_wall[:n_seen], seen_side[:n_seen], seen_level[:n_seen])
    touched = (hit_minute[:n_hits], hit_wall[:n_hits], hit_side[:n_hits], hit_level[:n_hits])
    return high, low, close, volatility, seen, touched, n_born
