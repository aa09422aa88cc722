"""Maps and marks for tests of the clusters' lives: hills put by hand, and a wild world."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, bucket_of, centre, first_bucket
from research.clusters.lifecycle import Lifecycle
from research.clusters.profiles import Profiles

START_MS = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1_000)
MINUTE_MS = 60_000
OWN = 4_605  # the mark's bucket
MARK = float(centre(OWN))  # 100.03
EAGER = Lifecycle(smallest_history=1)
ENDS = {"BROKEN", "FADED", "MERGED", "CONSUMED"}


def clock(minute):
    """UTC moment of a minute of the story."""
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=minute)


def profiles_of(mass, mark=None, is_stale=None, step_minutes=5, basis_bps=None, start_ms=START_MS):
    """Snapshots every five minutes from midnight on."""
    n_snapshots = len(mass)
    mark = np.full(n_snapshots, MARK) if mark is None else mark
    time_ms = start_ms + step_minutes * MINUTE_MS * np.arange(n_snapshots)
    return Profiles(
        symbol="BTCUSDT",
        source="aster",
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        first_bucket=first_bucket(mark),
        mass_usdt=np.asarray(mass, np.float32),
        mark=mark,
        swept_usdt=np.zeros((n_snapshots, 2)),
        open_interest_usdt=np.full(n_snapshots, 1_200.0),
        placed_share=np.full(n_snapshots, 0.5),
        is_stale=np.zeros(n_snapshots, np.bool_) if is_stale is None else is_stale,
        basis_bps=basis_bps,
    )


def hill(mass, column, usdt):
    """A cluster of three buckets: a quarter, a half, a quarter."""
    mass[column - 1 : column + 2] += np.array([0.25, 0.5, 0.25]) * usdt


def flat_marks(n_minutes, lows=None, highs=None):
    """A mark that stands still, bars from minute 1 on, but for the wicks given as {minute: price}."""
    minutes = np.arange(1, n_minutes + 1)
    time_ms = START_MS + minutes * MINUTE_MS
    low = np.array([(lows or {}).get(int(minute), MARK) for minute in minutes])
    high = np.array([(highs or {}).get(int(minute), MARK) for minute in minutes])
    frame = {"ts": time_ms, "avail_time": time_ms + 1_000, "mark_high": high, "mark_low": low}
    return pl.DataFrame({**frame, "mark_close": np.full(n_minutes, MARK)}).with_columns(
        pl.col("ts", "avail_time").cast(TIME_MS)
    )


def told(events, *names):
    """(event, minute, cluster_id) in order."""
    chosen = events.filter(pl.col("event").is_in(names)) if names else events
    minutes = ((chosen["ts"].dt.epoch("ms") - START_MS) // MINUTE_MS).to_list()
    return list(zip(chosen["event"], minutes, chosen["cluster_id"], strict=True))


def wild_world(seed, n_snapshots=240):
    """A map that gathers, decays and is swept, under a mark that walks; with a stale spell and a hole in the marks."""
    rng = np.random.default_rng(seed)
    minutes = 5 * (n_snapshots - 1)
    close = MARK * np.exp(np.cumsum(rng.normal(0.0, 15e-4, minutes)))
    spread = np.abs(rng.normal(0.0, 4e-4, (2, minutes)))
    high, low = close * np.exp(spread[0]), close * np.exp(-spread[1])
    book = np.zeros((2, 1_4_000))
    origin, buckets = OWN - 700, np.arange(1_4_000)
    mass = np.zeros((n_snapshots, 2, BUCKETS))
    mark = np.concatenate([[MARK], close[4::5]])
    for s in range(n_snapshots):
        for minute in range(5 * (s - 1), 5 * s) if s else ():
            book[LONG, bucket_of(low[minute]) - origin :] = 0.0
            book[SHORT, : bucket_of(high[minute]) - origin + 1] = 0.0
        book *= rng.uniform(0.97, 1.0)
        for side in (LONG, SHORT):
            at = bucket_of(mark[s]) - origin + (2 * side - 1) * rng.integers(8, 60 if s % 2 else 200)
            shape = np.exp(-0.5 * ((buckets - at) / rng.uniform(0.8, 6.0)) ** 2)
            book[side] += rng.gamma(0.7, 2e4) * np.where((buckets - at) ** 2 < 900, shape, 0.0)
        own = bucket_of(mark[s]) - origin
        book[LONG, own - 1 :], book[SHORT, : own + 1] = 0.0, 0.0
        mass[s] = book[:, own - HALF_WINDOW : own - HALF_WINDOW + BUCKETS]
    is_stale = np.isin(np.arange(n_snapshots), range(n_snapshots // 2, n_snapshots // 2 + 4))
    time_ms = START_MS + MINUTE_MS * np.arange(1, minutes + 1)
    marks = pl.DataFrame(
        {"ts": time_ms, "avail_time": time_ms + 1_000, "mark_high": high, "mark_low": low, "mark_close": close}
    ).with_columns(pl.col("ts", "avail_time").cast(TIME_MS))
    hole = pl.col("ts").is_between(clock(minutes // 3), clock(minutes // 3 + 12))
    at = rng.integers(0, minutes, 4_000)
    orders = pl.DataFrame(
        {
            "event_time": pl.Series(time_ms[at] - 20_000).cast(TIME_MS),
            "avail_time": pl.Series(time_ms[at] - 20_000 + rng.integers(0, 90_000, 4_000)).cast(TIME_MS),
            "side": rng.choice(["SELL", "BUY"], 4_000),
            "average_price": close[at],
            "filled_quantity": rng.gamma(1.0, 3.0, 4_000),
        }
    ).sort("event_time")
    return profiles_of(mass, mark=mark, is_stale=is_stale), marks.filter(~hole), orders
