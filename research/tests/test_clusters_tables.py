"""Maps become rows of the lake and come back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.lake import Lake
from data.schema_clusters import CLUSTERS, DERIVED, HEATMAP, OI_STATE
from research.clusters import tables
from research.clusters.grid import BUCKETS, LONG, SHORT, first_bucket
from research.clusters.inputs import ReadBars
from research.clusters.profiles import Profiles

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
MIDNIGHT_MS = int(MIDNIGHT.timestamp() * 1_000)
MINUTE_MS = 60_000
KINDS = ("accounts", "positions", "positions")


def profiles(n_snapshots: int = 3) -> Profiles:
    """A map with 1,000 USDT of longs ten buckets below the mark and 500 of shorts twenty above, every 5 minutes."""
    time_ms = MIDNIGHT_MS + np.arange(1, n_snapshots + 1) * 5 * MINUTE_MS
    mark = np.full(n_snapshots, 100.0)
    mass = np.zeros((n_snapshots, 2, BUCKETS), np.float32)
    mass[:, LONG, 240], mass[:, SHORT, 270] = 1_000.0, 500.0
    return Profiles(
        symbol="BTCUSDT",
        source="binance",
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        first_bucket=first_bucket(mark),
        mass_usdt=mass,
        mark=mark,
        swept_usdt=np.tile([7.0, 3.0], (n_snapshots, 1)),
        open_interest_usdt=np.full(n_snapshots, 2_000.0),
        placed_share=np.full(n_snapshots, 0.375),
        is_stale=np.zeros(n_snapshots, bool),
    )


def bars(n_bars: int = 15) -> ReadBars:
    """One-minute bars whose open interest of 20, 21, 22 ... arrives every fifth minute."""
    time_ms = MIDNIGHT_MS + np.arange(1, n_bars + 1) * MINUTE_MS
    price = np.full(n_bars, 100.0)
    return ReadBars(
        symbol="BTCUSDT",
        source="binance",
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        mark_high=price,
        mark_low=price,
        mark_close=price,
        volume_usdt=np.full(n_bars, 1.0),
        open_interest=20.0 + np.arange(n_bars) // 5,
        is_new=np.arange(n_bars) % 5 == 0,
        open_interest_ms=MIDNIGHT_MS + (np.arange(n_bars) // 5 * 5 + 1) * MINUTE_MS,
    )


def rows(made: Profiles, map_id: str = "a1") -> dict[str, pl.DataFrame]:
    return {"heatmap": tables.heatmap_rows(made, map_id), "oi_state": tables.oi_rows(made, bars(), map_id)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 1e10), min_size=1, max_size=20))
def test_a_mass_read_back_is_within_the_stated_error_or_was_five_decades_below_the_peak(masses):
    mass = np.array(masses)
    found = tables.decode(*tables.encode(mass))
    kept = mass >= mass.max() * 10.0**-tables.DECADES
    assert (
        np.abs(found - mass)[kept] == pytest.approx(0.0, abs=1e-30)
        or (
            np.abs(found / np.where(mass > 0.0, mass, 1.0) - 1.0)[kept & (mass > 0.0)] <= tables.MASS_ERROR + 1e-6
        ).all()
    )
    assert (found[~kept] <= mass.max() * 10.0**-tables.DECADES * (1.0 + tables.MASS_ERROR)).all()


def test_the_error_of_a_mass_is_below_two_and_a_half_per_cent():
    assert tables.MASS_ERROR < 0.025


def test_the_peak_of_a_row_is_exact_and_nothing_stays_nothing():
    codes, peak = tables.encode(np.array([[0.0, 3.0, 300.0], [0.0, 0.0, 0.0]]))
    assert peak.tolist() == [300.0, 0.0]
    assert codes.tolist() == [[0, 153, 255], [0, 0, 0]]
    assert tables.decode(codes, peak)[:, [0, 2]].tolist() == [[0.0, 300.0], [0.0, 0.0]]


def test_a_heat_map_has_a_row_per_snapshot_and_side():
    found = tables.heatmap_rows(profiles(), "a1")
    assert found.schema == HEATMAP.columns
    assert found["side"].to_list() == ["long", "short"] * 3
    assert found["total_usdt"].to_list() == [1_000.0, 500.0] * 3
    assert {len(bins) for bins in found["bins"]} == {BUCKETS}


def test_a_map_comes_back_from_its_rows_in_any_order():
    made = profiles()
    stored = {name: frame.sample(fraction=1.0, shuffle=True, seed=1) for name, frame in rows(made).items()}
    back = tables.stored_profiles(**stored)
    for name in ("time_ms", "avail_ms", "first_bucket", "mark", "swept_usdt", "mass_usdt", "is_stale", "placed_share"):
        assert np.array_equal(getattr(back, name), getattr(made, name)), name


def test_rows_of_two_maps_are_not_read_as_one():
    both = {name: pl.concat([rows(profiles(), map_id)[name] for map_id in "ab"]) for name in ("heatmap", "oi_state")}
    with pytest.raises(ValueError, match="expected rows of one map, got 2"):
        tables.stored_profiles(**both)


def test_a_snapshot_without_its_open_interest_is_missed():
    stored = rows(profiles())
    with pytest.raises(ValueError, match="got 6 and 2"):
        tables.stored_profiles(stored["heatmap"], stored["oi_state"].head(2))


def test_a_snapshot_without_a_mark_has_no_heat_map():
    made = profiles()
    made.mark[1] = np.nan
    assert tables.heatmap_rows(made, "a1").height == 4
    assert tables.oi_rows(made, bars(), "a1")["mark_price"].is_nan().to_list() == [False, True, False]


def test_open_interest_is_one_sided_and_knows_its_age_and_its_change():
    found = tables.oi_rows(profiles(), bars(), "a1", before_base=19.5)
    assert found.schema == OI_STATE.columns
    assert found["long_oi_usd"].to_list() == found["short_oi_usd"].to_list() == found["total_oi_usd"].to_list()
    assert found["oi_base"].to_list() == [20.0, 21.0, 22.0]
    assert found["oi_delta"].to_list() == [0.5, 1.0, 1.0]
    assert found["age_s"].to_list() == [240.0] * 3  # printed at minutes 1, 6 and 11, asked at 5, 10 and 15
    assert found["long_short_ratio"].is_nan().all()


def test_the_crowd_is_known_from_its_receipt_on_and_its_source_is_named():
    received = datetime(2026, 1, 1, 0, 7, tzinfo=UTC)
    ratios = pl.DataFrame(
        {
            "venue": "binance",
            "kind": ["long_short_accounts", "taker_buy_sell"],
            "value": [1.15, 3.0],
            "event_time": [MIDNIGHT] * 2,
            "avail_time": [received] * 2,
        }
    )
    found = tables.oi_rows(profiles(), bars(), "a1", ratios=ratios)
    assert found["long_short_ratio"].fill_nan(None).to_list() == [None, 1.15, 1.15]
    assert found["taker_buy_share"].fill_nan(None).to_list() == [None, 0.75, 0.75]
    assert found["ratio_source"].to_list() == [None, "binance long_short_accounts", "binance long_short_accounts"]


def test_top_traders_positions_count_before_accounts_from_when_they_are_known():
    ratios = pl.DataFrame(
        {
            "venue": "binance",
            "kind": ["long_short_accounts", "long_short_positions"],
            "value": [1.15, 2.0],
            "event_time": [MIDNIGHT] * 2,
            "avail_time": [MIDNIGHT, datetime(2026, 1, 1, 0, 7, tzinfo=UTC)],
        }
    )
    found = tables.oi_rows(profiles(), bars(), "a1", ratios=ratios)
    assert found["long_short_ratio"].to_list() == [1.15, 2.0, 2.0]
    assert found["ratio_source"].to_list() == [
        f"binance long_short_{kind}" for kind in ("accounts", "positions", "positions")
    ]


def test_what_was_told_of_more_than_a_day_ago_counts_no_more():
    told = pl.DataFrame(
        {
            "venue": "binance",
            "kind": ["long_short_accounts", "taker_buy_sell"],
            "value": [1.15, 3.0],
            "funding_rate": 1e-4,
            "event_time": [MIDNIGHT - timedelta(days=1, minutes=-7)] * 2,  # a day before 0:07
        }
    ).with_columns(avail_time="event_time")
    found = tables.oi_rows(profiles(), bars(), "a1", ratios=told, funding=told)  # at 0:05, 0:10 and 0:15
    for name in ("long_short_ratio", "taker_buy_share", "funding", "ratio_source"):
        is_known = found[name].is_not_null() & (found[name].cast(pl.String) != "NaN")
        assert is_known.to_list() == [True, False, False], name


def test_leverages_come_back_within_their_error_and_unknown_ones_unknown():
    leverage = np.array([1.0, 3.0, 17.3, 100.0, 250.0])
    assert np.abs(tables.decode_leverage(tables.encode_leverage(leverage)) / leverage - 1.0).max() < 0.0111
    assert np.isnan(tables.decode_leverage(tables.encode_leverage(np.array([np.nan])))).all()


def test_the_leverage_and_the_basis_of_an_anchored_map_come_back():
    made = profiles()
    leverage = np.full(made.mass_usdt.shape, np.nan, np.float32)
    leverage[:, LONG, 240] = 50.0
    stored = rows(replace(made, leverage=leverage, basis_bps=np.full(3, 4.0), basis_deviation_bps=np.full(3, 0.5)))
    back = tables.stored_profiles(**stored)
    assert back.leverage[:, LONG, 240] == pytest.approx(50.0, rel=tables.LEVERAGE_ERROR)
    assert np.isnan(back.leverage[:, SHORT]).all()
    assert (back.basis_bps.tolist(), back.basis_deviation_bps.tolist()) == ([4.0] * 3, [0.5] * 3)


def test_a_snapshot_without_clusters_leaves_a_row_that_says_so():
    made = profiles()
    made.is_stale[2] = True
    one = pl.DataFrame({"symbol": "BTCUSDT", "source": "binance", "ts": [made.time_ms[0]], "cluster_id": [4]})
    found = tables.cluster_rows(one.cast({"ts": CLUSTERS.columns["ts"]}), made, "a1")
    assert found["cluster_id"].to_list() == [4, None, None]
    assert found["available"].to_list() == [True, False, False]
    assert found["reason"].to_list() == [None, tables.NO_CLUSTERS, tables.STALE]


def test_storing_a_map_again_adds_nothing_and_another_map_stands_beside_it(tmp_path):
    lake = Lake(tmp_path, create=True)
    why = tables.unavailable_row("ETHUSDT", "binance", "a1", MIDNIGHT, "no open interest of ETHUSDT")
    for frames in (rows(profiles()), {"clusters": why}):
        first, again = (lake.append_all(frames, origin="test") for _ in range(2))
        assert sum(landed.landed for landed in again.values()) == 0
        assert sum(landed.already_present for landed in again.values()) == sum(one.landed for one in first.values())
        assert sum(landed.conflicts for landed in again.values()) == 0
    lake.append_all(rows(profiles(), "b2"), origin="test")
    assert lake.sql("SELECT map_id, count(*) AS n FROM heatmap GROUP BY 1 ORDER BY 1").rows() == [("a1", 6), ("b2", 6)]
    assert lake.sql("SELECT available, reason FROM clusters").rows() == [(False, "no open interest of ETHUSDT")]
    back = tables.stored_profiles(lake.scan("heatmap").filter(pl.col("map_id") == "a1"), lake.scan("oi_state"))
    assert np.array_equal(back.mass_usdt, profiles().mass_usdt)


def test_the_lake_has_a_view_of_every_table_of_maps(tmp_path):
    lake = Lake(tmp_path, create=True)
    assert set(DERIVED) <= set(lake.sql("SHOW TABLES")["name"])
