"""Crowds planted in synthetic markets, and which map finds them; run with ``-s`` to read the table.

``ASTER_PLANTED_SEEDS`` sets how many markets of each kind are made (two unless set): they have seeds 1, 2, 3, ...
Settings and rules were settled on seeds from 101 on: which distance counts, how many levels, and that nobody changes
margins. One rule came after a look at seeds 1 and 2: the strongest levels are named and no longer the heaviest, which
left their 92 % as it was. In twelve markets of each kind there were 306 crowds: 87 % found (83 to 91), by chance 69 %,
by prior art 14 %; within 20 bps of their mean 56 %, 33 % and 7 %.
"""

import os
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from data.synthetic import ALT_LIKE, BTC_LIKE
from data.table import TIME_MS
from research.clusters.validation.planted import counted, judged, shares, wilson
from research.clusters.validation.planted_worlds import AS_FEW, CHANCE, LEGACY, OURS, crowds_found, planted_world

SEEDS = range(1, 1 + int(os.environ.get("ASTER_PLANTED_SEEDS", "2")))
START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def flat_marks(days=3):
    ts = pl.datetime_range(START, START + timedelta(days=days), "1m", time_zone="UTC", closed="right", eager=True)
    return pl.DataFrame({"ts": ts.cast(TIME_MS), **dict.fromkeys(("mark_high", "mark_low", "mark_close"), 100.0)})


def crowd(notional_usdt=2.0, hours=30, level=98.0, liquidated_after=None):
    """Formed within an hour, ``hours`` after the market's beginning; ``liquidated_after`` that, hours."""
    formed = START + hours * HOUR
    return {
        "symbol": "BTCUSDT", "side": "SELL", "opened_from": formed - HOUR, "opened_to": formed, "price_level": level,
        "price_low": level - 0.3, "price_high": level + 0.3, "notional_usdt": notional_usdt,
        "first_liquidation": None if liquidated_after is None else formed + liquidated_after * HOUR,
    }  # fmt: skip


def crowds_of(*rows):
    return pl.DataFrame(list(rows), schema_overrides={"first_liquidation": TIME_MS}).with_columns(
        pl.col("opened_from", "opened_to").cast(TIME_MS)
    )


def map_of(hours, levels, side="long"):
    """A map that names these levels, each weaker than the one before, once an hour."""
    rows = [
        {"avail_time": START + hour * HOUR, "cluster_id": at, "side": side, "price_level": level,
         "strength": 1.0 - at / 100, "mass_src_usd": 1.0, "state": "ACTIVE", "available": True}
        for hour in hours for at, level in enumerate(levels)
    ]  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.col("avail_time").cast(TIME_MS))


@pytest.fixture(scope="module")
def found():
    worlds = [(kind, seed) for kind in (BTC_LIKE, ALT_LIKE) for seed in SEEDS]
    return pl.concat([crowds_found(planted_world(kind, seed), seed) for kind, seed in worlds])


def test_four_of_five_planted_crowds_are_found_and_prior_art_does_worse(found):
    told = shares(found)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, float_precision=2, tbl_hide_dataframe_shape=True, tbl_width_chars=160):
        print(f"\nseeds {SEEDS.start} to {SEEDS.stop - 1}, two kinds of market each\n{told}")
    (ours,), (legacy,), (chance,), (few,) = (
        told.filter(pl.col("map") == name, pl.col("symbol") == "all").rows(named=True)
        for name in (OURS, LEGACY, CHANCE, AS_FEW)
    )
    assert ours["found"] >= 0.8
    assert legacy["found_high"] < ours["found_low"]
    assert legacy["found"] < few["found"]
    assert ours["found"] > chance["found"]
    assert ours["at_mean_low"] > chance["at_mean"]


def test_no_map_names_more_levels_than_another(found):
    assert found["levels"].max() <= 10.0
    levels = {name: found.filter(pl.col("map") == name)["levels"] for name in (LEGACY, AS_FEW)}
    assert (levels[AS_FEW] <= levels[LEGACY]).all()


def test_a_crowd_counts_when_it_is_large_and_still_whole_an_hour_after_it_formed():
    small = [crowd(notional_usdt=1.0)] * 6
    too_early, too_far = crowd(hours=20), crowd(level=80.0)
    rows = (*small, crowd(hours=31), crowd(liquidated_after=1.5), crowd(liquidated_after=0.5), too_early, too_far)
    kept = counted(crowds_of(*rows), flat_marks())
    looks = [START + 32 * HOUR, START + 31 * HOUR]
    assert kept["look_ms"].to_list() == [int(look.timestamp() * 1_000) for look in looks]


def test_a_level_within_twenty_basis_points_of_the_crowds_prices_finds_it():
    crowds = counted(crowds_of(crowd(notional_usdt=1.0), crowd()), flat_marks())
    for level, is_found, is_at_mean in ((98.1, 1.0, 1.0), (98.4, 1.0, 0.0), (98.6, 0.0, 0.0)):
        row = judged(crowds, map_of(range(48), [level]), flat_marks())
        assert row.select("is_found", "is_at_mean").row(0) == (is_found, is_at_mean)


def test_the_other_side_a_later_snapshot_and_the_eleventh_level_do_not_count():
    crowds = counted(crowds_of(crowd(notional_usdt=1.0), crowd()), flat_marks())
    eleven = [95.0 - 0.2 * at for at in range(10)] + [98.0]
    for clusters in (map_of(range(48), [98.0], side="short"), map_of(range(48), eleven)):
        assert judged(crowds, clusters, flat_marks())["is_found"].to_list() == [0.0]
    late = pl.concat([map_of(range(31), [95.0]), map_of(range(32, 48), [98.0])])
    assert judged(crowds, late, flat_marks())["is_found"].to_list() == [0.0]


def test_chance_asks_the_same_map_about_other_days():
    crowds = counted(crowds_of(crowd(notional_usdt=1.0), crowd()), flat_marks())
    moved = pl.concat([map_of(range(40), [98.0]), map_of(range(60, 72), [96.0])])
    assert judged(crowds, moved, flat_marks())["is_found"].to_list() == [1.0]
    assert judged(crowds, moved, flat_marks(), by_chance=True)["is_found"].to_list() == [0.0]


def test_wilsons_interval_of_eight_in_ten():
    low, high = wilson(np.array([0.8]), np.array([10]))
    assert (low[0], high[0]) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
