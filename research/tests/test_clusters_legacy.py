"""Prior art's levels come out as its own saved results say."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from data.schema_clusters import CLUSTERS
from research.clusters import legacy

PRICES = np.random.default_rng(5).uniform(1.0, 1e5, 300)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def shares_of(longs_per_short: float) -> float:
    return longs_per_short / (1.0 + longs_per_short)


def offsets(price: float, long_share: float) -> dict[float, float]:
    """Signed distance in per cent by leverage."""
    levels = legacy.predictive_levels(price, 1e9, long_share)
    return {level.leverage_tier: (level.price_level / price - 1.0) * 100.0 for level in levels}


def test_the_tiers_share_open_interest_by_the_inverse_root_of_leverage():
    assert [round(share, 4) for share in legacy.TIER_SHARES.values()] == [0.0830, 0.1174, 0.1660, 0.2625, 0.3712]


def test_its_saved_levels_are_the_imbalance_of_the_book():
    sol, xmr = ([offsets(price, shares_of(crowd)) for price in PRICES] for crowd in (1.82, 0.75))
    assert [found for found in sol if near(found, {100.0: -0.291, 25.0: -1.163})]
    assert [found for found in xmr if near(found, {50.0: 0.286, 5.0: 2.857})]


def near(found: dict[float, float], saved: dict[float, float]) -> bool:
    return all(abs(found.get(leverage, 99.0) - offset) < 0.001 for leverage, offset in saved.items())


def test_longs_and_shorts_of_a_tier_are_merged_at_almost_every_price():
    merged = np.array([[tier in found and abs(found[tier]) < 50.0 / tier for tier in legacy.TIERS]
                       for found in (offsets(price, 0.68) for price in PRICES)]).mean(axis=0)  # fmt: skip
    assert (merged[[0, 1, 2]] > 0.9).all() and 0.8 < merged[4] < 0.95  # measured: 98.8, 97.8, 96.4 and 87.8 %
    assert 0.3 < merged[3] < 0.5  # 10x: 39.8 %


def test_a_level_that_was_not_merged_stands_at_one_over_the_leverage():
    (level,) = [level for level in legacy.predictive_levels(100.0, 1e9, 1.0) if level.leverage_tier == 5.0]
    assert (level.price_level, level.side, level.distance) == (80.0, "long", 0.2)
    assert level.strength == 1.0  # three times 0.3711 is above 1
    assert level.liquidation_count == 371_173_901  # positions of 0.01 coins


def test_small_levels_are_left_out():
    assert legacy.predictive_levels(100.0, 50_000.0, 0.5) == []
    of_longs = [level for level in legacy.predictive_levels(100.0, 1e9, 0.05) if level.side == "long"]
    assert of_longs == []  # 5 % of the 37 % of the largest tier is less than 2 % of all


def test_no_two_levels_stand_within_three_tenths_of_a_per_cent():
    for long_share in (0.5, 0.52, 0.6, 0.8):
        prices = sorted(level.price_level for level in legacy.predictive_levels(97.3, 1e9, long_share))
        assert all(above - below >= 0.003 * 97.3 for below, above in pairwise(prices))


def test_impact_levels_are_as_strong_as_the_coin_is_large_and_nothing_else():
    strengths = {size: legacy.impact_levels(100.0, 99.99, 100.01, size, 1e30)[0].strength for size in (1e6, 2.5e6, 1e7)}
    assert [round(strength, 3) for strength in strengths.values()] == [0.602, 0.687, 0.8]


def test_impact_levels_are_the_spread_and_half_a_per_cent_where_it_is_unknown():
    known, unknown = (legacy.impact_levels(100.0, *prices, 1e6, 1e8) for prices in ((99.99, 100.01), (None, None)))
    assert [(level.side, level.price_level) for level in known] == [("long", 99.99), ("short", 100.01)]
    assert [level.price_level for level in unknown] == pytest.approx([99.5, 100.5])


def test_a_moment_without_data_has_no_levels():
    moments = pl.DataFrame(
        {
            "ts": [NOON + timedelta(minutes=minute) for minute in range(3)],
            "avail_time": [NOON + timedelta(minutes=minute, seconds=1) for minute in range(3)],
            "price": [100.0, float("nan"), 101.0],
            "open_interest_usdt": [1e9, 1e9, None],
            "long_share": [0.6, 0.6, 0.6],
        }
    )
    found = legacy.legacy_clusters(moments, symbol="BTCUSDT")
    assert found.schema == CLUSTERS.columns
    assert found["ts"].unique().to_list() == [NOON]
    assert found["source"].unique().to_list() == ["legacy"]
    assert found["strength_seed"].equals(found["strength"])


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected a positive price and a fraction of longs"):
        legacy.predictive_levels(100.0, 1e9, 1.2)


def test_nothing_open_has_no_strength():
    assert np.isnan(legacy.seed_strength(0.0, 0.0))
    assert legacy.book_share(0.0, 0.0) == 0.5
