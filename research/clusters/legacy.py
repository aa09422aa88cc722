"""Prior art's levels, as its programs compute them, to be scored beside ours; ``source`` is "legacy".

They are not what they are called, and that is the point of scoring them. Its Binance levels stand at fixed distances
from the last price, so price never reaches one, and the longs and shorts of a leverage tier have the same distance and
are merged into one level: what is left is the imbalance of the order book, in per cent, times a hundred over the
leverage. Its Hyperliquid levels are the spread. Nothing here is used for a decision.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import polars as pl

from data.schema_clusters import CLUSTERS
from data.table import conform

SOURCE = "legacy"
TIERS = (100.0, 50.0, 25.0, 10.0, 5.0)
_WEIGHTS = [leverage**-0.5 for leverage in TIERS]
TIER_SHARES = dict(zip(TIERS, (weight / sum(_WEIGHTS) for weight in _WEIGHTS), strict=True))
_BUCKET = 0.005  # of the price
_LEAST_USDT, _LEAST_SHARE = 25_000.0, 0.02  # open interest of a level
_APART = 0.003  # between two levels that are kept, of the price
_LEAST_SCORE = 0.15
_COIN = 0.01  # what prior art takes every position to hold


@dataclass(frozen=True, kw_only=True)
class SeedLevel:
    """A level of prior art, with its columns: one-sided open interest in USDT, distance as an absolute fraction."""

    price_level: float
    side: str
    leverage_tier: float
    open_interest: float
    liquidation_count: int
    strength: float
    distance: float


def seed_strength(open_interest: float, total: float) -> float:
    """Prior art's strength: the root of three times the level's share of all open interest, 1 at most.

    NaN without any open interest.
    """
    return min(1.0, math.sqrt(3.0 * open_interest / total)) if total > 0.0 else math.nan


def book_share(bid_usdt: float, ask_usdt: float) -> float:
    """What prior art takes for the share of longs: that of the bids in the order book; a half where it is unknown."""
    total = bid_usdt + ask_usdt
    return bid_usdt / total if total > 0.0 else 0.5


def predictive_levels(price: float, open_interest_usdt: float, long_share: float) -> list[SeedLevel]:
    """The Binance levels of one moment, strongest first.

    Parameters
    ----------
    price : the last price, USDT.
    open_interest_usdt : of the contract.
    long_share : fraction of it that is given to longs: ``book_share`` of the top hundred levels.

    Raises
    ------
    ValueError
        If the price is not positive or the share is no fraction.
    """
    if not price > 0.0 or not 0.0 <= long_share <= 1.0:
        raise ValueError(f"expected a positive price and a fraction of longs, got {price} and {long_share}")
    return list(_apart(_merged(list(_tiers(price, open_interest_usdt, long_share)), price), price))


def impact_levels(
    mark: float, impact_bid: float | None, impact_ask: float | None, open_interest_usdt: float, all_usdt: float
) -> list[SeedLevel]:
    """The Hyperliquid levels of one moment: the prices of a small market order, half a per cent away where unknown.

    Parameters
    ----------
    mark, impact_bid, impact_ask : USDT; the impact prices None where the venue gives none.
    open_interest_usdt, all_usdt : of the coin, and of all coins together.
    """
    low, high = math.log10(5e4), 7.0
    size = (math.log10(open_interest_usdt) - low) / (high - low) if open_interest_usdt > 0.0 else 0.0
    share = seed_strength(open_interest_usdt, all_usdt)
    strength = 0.2 * share + 0.8 * math.sqrt(min(max(size, 0.0), 1.0))
    prices = {"long": impact_bid or mark * 0.995, "short": impact_ask or mark * 1.005}
    return [
        SeedLevel(
            price_level=price,
            side=side,
            leverage_tier=10.0,
            open_interest=open_interest_usdt / 2.0,
            liquidation_count=0,
            strength=strength,
            distance=abs(price / mark - 1.0),
        )
        for side, price in prices.items()
    ]


def legacy_clusters(moments: pl.DataFrame, *, symbol: str, map_id: str = "legacy") -> pl.DataFrame:
    """``predictive_levels`` of many moments as rows of ``CLUSTERS``, for the functions that score maps.

    Prior art numbers a moment's levels anew each time, so a ``cluster_id`` here stands for one level of one moment.

    Parameters
    ----------
    moments : ``ts``, ``avail_time``, ``price``, ``open_interest_usdt``, ``long_share``, one row per moment; those
        with a null or NaN have no levels.
    """
    rows = []
    for moment in moments.fill_nan(None).drop_nulls().sort("ts").iter_rows(named=True):
        found = predictive_levels(moment["price"], moment["open_interest_usdt"], moment["long_share"])
        rows += [_row(level, moment["ts"], moment["avail_time"], len(rows) + at) for at, level in enumerate(found)]
    frame = pl.DataFrame(rows) if rows else CLUSTERS.empty()
    named = {"venue": "aster", "symbol": symbol, "source": SOURCE, "map_id": map_id}
    return conform(frame.with_columns(pl.lit(text).alias(name) for name, text in named.items()), CLUSTERS)


def _tiers(price: float, total: float, long_share: float) -> Iterator[SeedLevel]:
    for side, share, sign in (("long", long_share, -1.0), ("short", 1.0 - long_share, 1.0)):
        for leverage, tier_share in TIER_SHARES.items():
            open_interest = total * share * tier_share
            if open_interest < max(_LEAST_USDT, _LEAST_SHARE * total):
                continue
            level = price * (1.0 + sign / leverage)
            yield SeedLevel(
                price_level=level,
                side=side,
                leverage_tier=leverage,
                open_interest=open_interest,
                liquidation_count=int(open_interest / (price * _COIN)),
                strength=seed_strength(open_interest, total),
                distance=abs(level - price) / price,
            )


def _merged(levels: Sequence[SeedLevel], price: float) -> Iterator[SeedLevel]:
    """One level per bucket of absolute distance: longs and shorts of a tier become one."""

    def bucket(level: SeedLevel) -> int:
        return int(level.distance / _BUCKET)

    for _, group in groupby(sorted(levels, key=bucket), key=bucket):
        members = list(group)
        total = sum(level.open_interest for level in members)
        mean = sum(level.price_level * level.open_interest for level in members) / total
        of_longs = sum(level.open_interest for level in members if level.side == "long")
        yield SeedLevel(
            price_level=mean,
            side="long" if of_longs > total - of_longs else "short",
            leverage_tier=sum(level.leverage_tier for level in members) / len(members),
            open_interest=total,
            liquidation_count=sum(level.liquidation_count for level in members),
            strength=max(level.strength for level in members),
            distance=abs(mean - price) / price,
        )


def _apart(levels: Iterator[SeedLevel], price: float) -> Iterator[SeedLevel]:
    """The strongest of levels that stand close together, if prior art's score lets it pass."""
    kept: list[SeedLevel] = []
    for level in sorted(levels, key=lambda level: (-level.strength, level.distance)):
        if any(abs(level.price_level - other.price_level) / price < _APART for other in kept):
            continue
        size, nearness = min(level.open_interest / 1e7, 1.0), 1.0 / (1.0 + level.distance * 100.0 / 10.0)
        if 0.5 * level.strength + 0.3 * size + 0.2 * nearness >= _LEAST_SCORE:
            kept.append(level)
            yield level


def _row(level: SeedLevel, ts: datetime, avail_time: datetime, cluster_id: int) -> dict:
    sign = -1.0 if level.side == "long" else 1.0
    return {
        "ts": ts,
        "avail_time": avail_time,
        "cluster_id": cluster_id,
        "side": level.side,
        "state": "ACTIVE",
        "active": True,
        "price_level": level.price_level,
        "price_lo": level.price_level,
        "price_hi": level.price_level,
        "distance_from_price": level.distance * 100.0,
        "dist_bps": sign * level.distance * 1e4,
        "open_interest": level.open_interest,
        "mass_src_usd": level.open_interest,
        "leverage_tier": level.leverage_tier,
        "liquidation_count": float(level.liquidation_count),
        "strength": level.strength,
        "strength_seed": level.strength,
        "confidence": level.strength,
        "calibrated": False,
        "firstSeen": ts,
        "lastSeen": ts,
        "last_updated": ts,
        "available": True,
    }
