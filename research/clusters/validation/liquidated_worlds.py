"""Seeded worlds in which it is known where liquidations are, and maps that know it or do not.

Crowds appear once an hour on each side, wait for a day, and are liquidated when the mark reaches them: the more of
them, the more forced orders. A map that knows shows exactly them. A map that does not draws zones anew every hour, as
wide and as far from the mark. It must not keep its zones until they are swept: where the price has not been for long is
where crowds are, and it would know something after all. A proof must tell the two maps apart.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, SIDES, bucket_of, centre, first_bucket, lower_edge
from research.clusters.profiles import Profiles

MINUTE_MS = 60_000
HOUR_MINUTES = 60
CROWDS_PER_HOUR, CROWD_MINUTES = 1, 1_440  # on each side
GUESSES_PER_HOUR, GUESS_MINUTES = 12, HOUR_MINUTES
WIDTH = 2  # buckets of a crowd
MEAN_MASS_USDT = 50_000.0
PRINT_USDT = 1_000.0
SYMBOL = "BTCUSDT"


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What a recorder and a map would have left of it.

    Parameters
    ----------
    marks : ts, mark_high, mark_low, mark_close, a row per minute.
    force_orders : rows as in ``FORCE_ORDERS``, the columns that matter.
    clusters : rows as in CLUSTERS, an hourly one per living zone.
    profiles : the same zones as an hourly map.
    """

    marks: pl.DataFrame
    force_orders: pl.DataFrame
    clusters: pl.DataFrame
    profiles: Profiles


@dataclass(frozen=True, kw_only=True, eq=False)
class _Zones:
    born: np.ndarray  # minute
    gone: np.ndarray  # minute: touched or given up
    is_touched: np.ndarray
    side: np.ndarray
    low: np.ndarray  # bucket
    mass_usdt: np.ndarray


def liquidated_world(days: int, seed: int, *, is_known: bool, minute_volatility: float = 6e-4) -> World:
    """A random walk over crowds, and a map of them; or of other zones, where the map does not know.

    Price and forced orders are the same for both maps of a seed.
    """
    rng, others = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    close = 30_000.0 * np.exp(np.cumsum(minute_volatility * rng.normal(size=days * 1_440)))
    before = np.concatenate([[30_000.0], close[:-1]])
    high, low = np.maximum(close, before), np.minimum(close, before)
    crowds = _zones(close, high, low, rng, CROWDS_PER_HOUR, CROWD_MINUTES)
    shown = crowds if is_known else _zones(close, high, low, others, GUESSES_PER_HOUR, GUESS_MINUTES)
    time_ms = MINUTE_MS * np.arange(1, len(close) + 1)
    marks = pl.DataFrame(
        {
            "symbol": pl.repeat(SYMBOL, len(close), eager=True),
            "ts": pl.Series(time_ms).cast(TIME_MS),
            "mark_high": high,
            "mark_low": low,
            "mark_close": close,
        }
    )
    return World(
        marks=marks,
        force_orders=_force_orders(crowds, time_ms, rng),
        clusters=_clusters(shown, time_ms, close),
        profiles=_profiles(shown, time_ms, close),
    )


def _zones(
    close: np.ndarray, high: np.ndarray, low: np.ndarray, rng: np.random.Generator, per_hour: int, life: int
) -> _Zones:
    born = np.repeat(np.arange(HOUR_MINUTES - 1, len(close), HOUR_MINUTES), 2 * per_hour)
    side = np.tile([LONG, SHORT], len(born) // 2)
    away = np.rint(np.exp(rng.uniform(np.log(3), np.log(40), len(born)))).astype(np.int64)
    mass_usdt = MEAN_MASS_USDT * np.exp(rng.normal(0.0, 1.5, len(born)) - 1.125)
    own = bucket_of(close[born])
    lowest = np.where(side == LONG, own - away - WIDTH + 1, own + away)
    edge = lower_edge(np.where(side == LONG, lowest + WIDTH, lowest))
    gone = np.minimum(born + life, len(close))
    is_touched = np.zeros(len(born), bool)
    for i in range(len(born)):
        ahead = slice(born[i] + 1, gone[i])
        reached = low[ahead] <= edge[i] if side[i] == LONG else high[ahead] >= edge[i]
        if reached.any():
            is_touched[i], gone[i] = True, born[i] + 1 + reached.argmax()
    return _Zones(born=born, gone=gone, is_touched=is_touched, side=side, low=lowest, mass_usdt=mass_usdt)


def _force_orders(crowds: _Zones, time_ms: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """One print a second at most, up to twenty, in the minute of the touch."""
    expected = np.where(crowds.is_touched, crowds.mass_usdt / MEAN_MASS_USDT, 0.0)
    prints = np.minimum(rng.poisson(expected), 20)
    crowd = np.repeat(np.arange(len(prints)), prints)
    number = np.arange(len(crowd)) - np.repeat(np.cumsum(prints) - prints, prints)
    bucket = crowds.low[crowd] + rng.integers(0, WIDTH, len(crowd))
    price = centre(bucket)
    event_ms = time_ms[np.minimum(crowds.gone[crowd], len(time_ms) - 1)] - 30_000 + 1_000 * number
    return pl.DataFrame(
        {
            "symbol": pl.repeat(SYMBOL, len(crowd), eager=True),
            "event_time": pl.Series(event_ms).cast(TIME_MS),
            "side": np.where(crowds.side[crowd] == LONG, "SELL", "BUY"),
            "average_price": price,
            "filled_quantity": PRINT_USDT / price,
        }
    ).sort("event_time")


def _clusters(zones: _Zones, time_ms: np.ndarray, close: np.ndarray) -> pl.DataFrame:
    hours = np.arange(HOUR_MINUTES - 1, len(close), HOUR_MINUTES)
    lasting = (np.searchsorted(hours, zones.gone) - np.searchsorted(hours, zones.born)).clip(0)
    zone = np.repeat(np.arange(len(lasting)), lasting)
    age = np.arange(len(zone)) - np.repeat(np.cumsum(lasting) - lasting, lasting)
    minute = zones.born[zone] + HOUR_MINUTES * age
    low, high = lower_edge(zones.low[zone]), lower_edge(zones.low[zone] + WIDTH)
    level = np.sqrt(low * high)
    return pl.DataFrame(
        {
            "venue": pl.repeat("aster", len(zone), eager=True),
            "symbol": pl.repeat(SYMBOL, len(zone), eager=True),
            "source": pl.repeat("aster", len(zone), eager=True),
            "map_id": pl.repeat("world", len(zone), eager=True),
            "ts": pl.Series(time_ms[minute]).cast(TIME_MS),
            "avail_time": pl.Series(time_ms[minute] + 1_000).cast(TIME_MS),
            "cluster_id": zone,
            "side": np.array(SIDES)[zones.side[zone]],
            "state": pl.repeat("ACTIVE", len(zone), eager=True),
            "active": pl.repeat(True, len(zone), eager=True),
            "price_level": level,
            "price_lo": low,
            "price_hi": high,
            "dist_bps": 1e4 * (level / close[minute] - 1.0),
            "open_interest": zones.mass_usdt[zone],
            "available": pl.repeat(True, len(zone), eager=True),
        }
    ).sort("ts", "cluster_id")


def _profiles(zones: _Zones, time_ms: np.ndarray, close: np.ndarray) -> Profiles:
    hours = np.arange(HOUR_MINUTES - 1, len(close), HOUR_MINUTES)
    start = first_bucket(close[hours])
    mass = np.zeros((len(hours), len(SIDES), BUCKETS), np.float32)
    for i in range(len(zones.born)):
        alive = slice(*np.searchsorted(hours, [zones.born[i], zones.gone[i]]))
        snapshots = np.arange(len(hours))[alive]
        for bucket in range(zones.low[i], zones.low[i] + WIDTH):
            column = bucket - start[alive]
            is_shown = (column >= 0) & (column < BUCKETS) & ((column < HALF_WINDOW) == (zones.side[i] == LONG))
            mass[snapshots[is_shown], zones.side[i], column[is_shown]] += zones.mass_usdt[i] / WIDTH
    unknown = np.full(len(hours), np.nan)
    return Profiles(
        symbol=SYMBOL, source="aster", time_ms=time_ms[hours], avail_ms=time_ms[hours] + 1_000, first_bucket=start,
        mass_usdt=mass, mark=close[hours], swept_usdt=np.zeros((len(hours), 2)), open_interest_usdt=unknown,
        placed_share=unknown, is_stale=np.zeros(len(hours), bool),
    )  # fmt: skip
