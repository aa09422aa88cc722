"""Random bars of a source, full of what real ones do rarely: holes, jumps, late and irregular open interest."""

import numpy as np

from research.clusters.profiles import SourceBars
from research.clusters.tiers import Bracket, Brackets, MapConfig

MINUTE_MS = 60_000


def random_source_bars(seed: int, n_bars: int, *, volatility: float = 0.004) -> SourceBars:
    """Minutes with a spell nobody saw, a spell without volumes, a jump, and open interest that begins late.

    Parameters
    ----------
    volatility : standard deviation of a minute's log return.
    """
    random = np.random.default_rng(seed)
    returns = random.normal(0.0, volatility, n_bars)
    returns[random.integers(n_bars)] += random.choice([-20.0, 20.0]) * volatility
    close = 100.0 * np.exp(np.cumsum(returns))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0.0, 0.5 * volatility, n_bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0.0, 0.5 * volatility, n_bars)))
    unseen = _spell(random, n_bars)
    for prices in (high, low, close):
        prices[unseen] = np.nan
    volume_usdt = random.lognormal(12.0, 1.0, n_bars)
    volume_usdt[_spell(random, n_bars)] = np.nan
    is_new = random.random(n_bars) < random.choice([0.2, 0.5, 1.0])
    is_new[: random.integers(3, 10)] = False
    told = 1e5 * np.exp(np.cumsum(random.normal(0.0, 0.03, n_bars)))
    last = np.maximum.accumulate(np.where(is_new, np.arange(n_bars), -1))
    time_ms = MINUTE_MS * (28_000_000 + np.arange(1, n_bars + 1))
    return SourceBars(
        symbol="BTCUSDT", source="aster", time_ms=time_ms, avail_ms=time_ms + 1_000, mark_high=high, mark_low=low,
        mark_close=close, volume_usdt=volume_usdt, open_interest=np.where(last >= 0, told[last], np.nan), is_new=is_new,
    )  # fmt: skip


def random_config(seed: int, bars: SourceBars) -> MapConfig:
    """Two versions of brackets that come into force inside the bars; the second allows no more than 50 times."""
    random = np.random.default_rng(seed)
    rate = random.uniform(0.002, 0.005)
    versions = []
    for moment, highest in zip(np.sort(random.choice(bars.time_ms, 2, replace=False)), (100.0, 50.0), strict=True):
        small = Bracket(
            notional_floor_usdt=0.0, notional_cap_usdt=100_000.0, max_leverage=highest, maintenance_margin_rate=rate
        )
        large = Bracket(
            notional_floor_usdt=100_000.0, notional_cap_usdt=1e9, max_leverage=20.0,
            maintenance_margin_rate=2.0 * rate, maintenance_amount_usdt=100_000.0 * rate,
        )  # fmt: skip
        versions.append(Brackets(valid_from_ms=int(moment), steps=(small, large)))
    # Lives of minutes, so that a short history sees positions turn over.
    lives = tuple(random.uniform(0.5, 10.0, len(MapConfig().leverages)).tolist())
    return MapConfig(brackets=tuple(versions), half_life_hours=lives, half_life_turnovers=lives)


def _spell(random: np.random.Generator, n_bars: int) -> slice:
    start = int(random.integers(n_bars))
    return slice(start, start + int(random.integers(1, 8)))
