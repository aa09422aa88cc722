"""What a bar may know of the map: the newest snapshot received by then, of the first source that sees anything."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.lake import Lake
from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS, OI_STATE
from data.table import conform
from research.bars import BARS, Bars
from research.cluster_bars import with_clusters, with_clusters_asked_for
from research.clusters import maps
from research.clusters.columns import CLUSTER_COLUMNS, LIVING, cluster_columns
from research.clusters.tables import NO_CLUSTERS

NOON = 1_764_331_200_000
MINUTE = 60_000


def cluster(
    minute: int, side: str, lo: float, hi: float, *, mark: float = 100.0, source: str = "aster", **more
) -> dict:
    """A row of the clusters table, known a second after the minute it describes."""
    peak = (lo + hi) / 2
    row = {"venue": "aster", "symbol": "SOLUSDT", "source": source, "map_id": "a", "ts": NOON + minute * MINUTE}
    row |= {"avail_time": row["ts"] + 1_000, "cluster_id": 1, "side": side, "state": "ACTIVE", "active": True}
    row |= {"price_level": peak, "price_lo": lo, "price_hi": hi, "dist_bps": 1e4 * (peak / 100.0 - 1.0)}
    return row | {"mass_src_usd": 1e6, "strength": 0.7, "confidence": math.nan, "available": True} | more


def snapshot(minute: int, *, source: str = "aster", **more) -> dict:
    """A row of oi_state: a snapshot was made."""
    row = {"venue": "aster", "symbol": "SOLUSDT", "source": source, "map_id": "a", "ts": NOON + minute * MINUTE}
    row |= {"avail_time": row["ts"] + 1_000, "total_oi_usd": 2e9, "oi_base": 2e7, "long_short_ratio": 1.3}
    return row | {"is_stale": False} | more


def broken(minute: int, side: str, lo: float, hi: float, *, source: str = "aster", **more) -> dict:
    """A row of the events table."""
    row = {"venue": "aster", "symbol": "SOLUSDT", "source": source, "map_id": "a", "ts": NOON + minute * MINUTE}
    row |= {"avail_time": row["ts"] + 1_000, "event_id": minute, "cluster_id": 1, "side": side, "event": "BROKEN"}
    return row | {"price_lo": lo, "price_hi": hi, "mass_usd": 3e6} | more


def known_at(*minutes: float, clusters=(), events=(), oi_state=(), **options) -> pl.DataFrame:
    """The columns at these minutes after noon."""
    frames = [
        conform(pl.DataFrame(list(rows), infer_schema_length=None), table) if rows else table.empty()
        for table, rows in ((CLUSTERS, clusters), (CLUSTER_EVENTS, events), (OI_STATE, oi_state))
    ]
    at_ms = np.array([NOON + round(minute * MINUTE) for minute in minutes])
    return cluster_columns(*frames, at_ms, interval_ms=MINUTE, **options)


def test_the_columns_are_those_of_the_schema():
    assert known_at(0, 1).schema == CLUSTER_COLUMNS
    assert known_at(0, 1).select(pl.all().is_nan().all()).row(0) == (True,) * len(CLUSTER_COLUMNS)


def test_a_snapshot_is_used_from_the_moment_it_was_known():
    found = known_at(4.9, 5, 5.02, 6, clusters=[cluster(5, "long", 98.0, 99.0)])
    assert found["near_long_lo"].is_nan().to_list() == [True, True, False, False]
    assert found["map_age_ms"][3] == 59_000.0


def test_the_nearest_cluster_of_each_side_is_by_its_near_edge():
    rows = [cluster(0, "long", 95.0, 99.0), cluster(0, "long", 98.0, 98.5), cluster(0, "short", 101.0, 102.0)]
    found = known_at(1, clusters=rows).row(0, named=True)
    assert (found["near_long_lo"], found["near_long_hi"], found["near_long_price"]) == (95.0, 99.0, 97.0)
    assert (found["near_short_lo"], found["near_short_usdt"], found["near_short_strength"]) == (101.0, 1e6, 0.7)


def test_the_strongest_cluster_is_looked_for_within_two_hundred_bps():
    rows = [
        cluster(0, "short", 100.5, 100.7, strength=0.6),
        cluster(0, "short", 101.5, 101.7, strength=0.8),
        cluster(0, "short", 103.0, 103.2, strength=0.9),
        cluster(0, "short", 101.0, 101.2, strength=math.nan),
    ]
    found = known_at(1, clusters=rows).row(0, named=True)
    assert (found["strong_short_lo"], found["near_short_lo"]) == (101.5, 100.5)


def test_clusters_close_behind_each_other_are_one_wall():
    rows = [cluster(0, "long", 99.0, 99.2), cluster(0, "long", 98.7, 98.9), cluster(0, "long", 97.0, 98.0)]
    rows += [cluster(0, "short", 101.0, 101.5), cluster(0, "short", 102.5, 103.0)]
    found = known_at(1, clusters=rows).row(0, named=True)
    assert (found["near_long_lo"], found["near_long_far"]) == (99.0, 98.7)  # 10 bps between them, then 71
    assert (found["near_short_hi"], found["near_short_far"]) == (101.5, 101.5)


def test_a_cluster_counts_while_it_lives_and_from_strength_one_half_on():
    gone = [
        cluster(0, "long", 99.4, 99.5, state=state, active=False) for state in ("FADED", "BROKEN", "MERGED", "STALE")
    ]
    weak = [cluster(0, "long", 99.0, 99.2, strength=0.49), cluster(0, "long", 98.9, 99.0, strength=None)]
    rows = gone + weak + [cluster(0, "long", 98.0, 98.5, strength=0.5, state="CANDIDATE", active=False)]
    assert known_at(1, clusters=rows)["near_long_hi"].to_list() == [98.5]


def test_a_weak_cluster_close_behind_the_nearest_belongs_to_the_wall():
    rows = [cluster(0, "long", 99.0, 99.2), cluster(0, "long", 98.7, 98.9, strength=0.1)]
    rows += [cluster(0, "long", 99.5, 99.6, strength=0.1)]  # in front of it
    found = known_at(1, clusters=rows).row(0, named=True)
    assert (found["near_long_lo"], found["near_long_far"]) == (99.0, 98.7)


def test_a_snapshot_without_clusters_hides_the_one_before():
    found = known_at(1, 6, clusters=[cluster(0, "long", 98.0, 99.0)], oi_state=[snapshot(0), snapshot(5)])
    assert found["near_long_lo"].fill_nan(None).to_list() == [98.0, None]
    assert found["map_age_ms"].to_list() == [59_000.0, 59_000.0]


def test_a_map_without_clusters_is_believed_before_the_next_source_is_asked():
    empty = {"cluster_id": None, "active": False, "available": False, "reason": NO_CLUSTERS}
    rows = [cluster(0, "long", 98.0, 99.0) | empty, cluster(0, "long", 97.0, 98.0, source="binance")]
    found = known_at(1, clusters=rows, oi_state=[snapshot(0)])
    assert found["near_long_lo"].is_nan().all() and found["map_age_ms"].to_list() == [59_000.0]


def test_an_old_map_is_not_known():
    found = known_at(15, 15.01, 15.02, clusters=[cluster(0, "long", 98.0, 99.0)])
    assert found["near_long_lo"].fill_nan(None).to_list() == [98.0, 98.0, None]


@pytest.mark.parametrize("blind", [{"oi_state": [snapshot(5, is_stale=True)]}, {"clusters": [{"available": False}]}])
def test_a_blind_snapshot_hides_the_one_before(blind):
    rows = [cluster(0, "long", 98.0, 99.0)]
    unavailable = {"cluster_id": None, "active": False, "available": False, "reason": "no open interest"}
    rows += [cluster(5, "long", 98.0, 99.0) | unavailable] if "clusters" in blind else []
    found = known_at(1, 6, clusters=rows, oi_state=blind.get("oi_state", ()))
    assert found["near_long_lo"].is_nan().to_list() == [False, True]


def test_a_snapshot_that_comes_after_a_newer_one_is_not_used():
    late = cluster(0, "long", 90.0, 91.0) | {"avail_time": NOON + 7 * MINUTE}
    found = known_at(8, clusters=[late, cluster(5, "long", 98.0, 99.0)])
    assert found["near_long_lo"].to_list() == [98.0]


def test_only_a_break_is_a_break_and_it_grows_older():
    events = [broken(0, "long", 98.0, 99.0), broken(2, "short", 101.0, 102.0), broken(3, "long", 97, 98, event="FADED")]
    found = known_at(1, 2.5, 4, 63, clusters=[cluster(minute, "long", 90, 91) for minute in range(64)], events=events)
    assert found["break_direction"].fill_nan(None).to_list() == [-1.0, 1.0, 1.0, None]
    assert found["break_age_bars"].round(3).fill_nan(None).to_list() == [0.983, 0.483, 1.983, None]
    assert (found["break_lo"][1], found["break_hi"][1], found["break_usdt"][1]) == (101.0, 102.0, 3e6)


def test_open_interest_and_the_ratio_are_as_last_known():
    states = [snapshot(0), snapshot(5, oi_base=3e7, total_oi_usd=3e9, long_short_ratio=None)]
    found = known_at(1, 6, oi_state=states)
    assert found["open_interest"].to_list() == [2e7, 3e7]
    assert found["open_interest_usdt"].to_list() == [2e9, 3e9]
    assert found["long_short_ratio"].fill_nan(None).to_list() == [1.3, None]


def test_every_number_comes_from_the_first_source_that_sees():
    rows = [cluster(0, "long", 98.0, 99.0, source="binance"), cluster(5, "long", 97.0, 98.0, source="aster")]
    states = [snapshot(0, source="binance"), snapshot(10, is_stale=True)]
    found = known_at(1, 6, 11, clusters=rows, oi_state=states)
    assert found["near_long_lo"].to_list() == [98.0, 97.0, 98.0]
    assert found["open_interest"].fill_nan(None).to_list() == [2e7, None, 2e7]
    only = known_at(6, clusters=rows, oi_state=states, sources=["binance"])
    assert only["near_long_lo"].to_list() == [98.0]


def test_rows_of_two_symbols_or_two_settings_are_refused():
    with pytest.raises(ValueError, match="clusters: expected rows of one symbol, got BTCUSDT, SOLUSDT"):
        known_at(1, clusters=[cluster(0, "long", 1, 2), cluster(0, "long", 1, 2) | {"symbol": "BTCUSDT"}])
    with pytest.raises(ValueError, match="source aster were made with 2 settings, map_id a, b"):
        known_at(1, oi_state=[snapshot(0), snapshot(5, map_id="b")])


def random_rows(seed: int) -> tuple[list[dict], list[dict], list[dict]]:
    random = np.random.default_rng(seed)
    clusters, events, states = [], [], []
    for minute in range(40):
        for source in ("aster", "binance"):
            late = {"avail_time": NOON + minute * MINUTE + int(random.integers(500, 90_000))}
            states.append(snapshot(minute, source=source, is_stale=bool(random.random() < 0.2), **late))
            for number in range(random.integers(0, 6)):
                side = random.choice(["long", "short"])
                lo = float(random.uniform(96.0, 99.0) if side == "long" else random.uniform(100.5, 103.0))
                state = random.choice(["CANDIDATE", "ACTIVE", "TOUCHED", "FADED"])
                more = {"cluster_id": number, "strength": float(random.random()), "state": state}
                clusters.append(cluster(minute, side, lo, lo + 0.4, source=source, **late, **more))
            if random.random() < 0.3:
                events.append(broken(minute, random.choice(["long", "short"]), 98.0, 99.0, source=source, **late))
    return clusters, events, states


@pytest.mark.parametrize("seed", range(4))
def test_the_columns_of_a_moment_do_not_change_when_the_future_arrives(seed):
    clusters, events, states = random_rows(seed)
    minutes = [minute + 0.01 for minute in range(42)]
    whole = known_at(*minutes, clusters=clusters, events=events, oi_state=states)
    assert whole["near_long_lo"].is_not_nan().sum() > 5
    for now in (7, 20, 33):
        known_ms = NOON + minutes[now] * MINUTE
        past = [[row for row in rows if row["avail_time"] <= known_ms] for rows in (clusters, events, states)]
        cut = known_at(*minutes[: now + 1], clusters=past[0], events=past[1], oi_state=past[2])
        assert_frame_equal(cut, whole[: now + 1], check_exact=True)


@pytest.mark.parametrize("seed", [0])
def test_one_moment_alone_has_the_columns_that_it_has_among_all(seed):
    clusters, events, states = random_rows(seed)
    minutes = [minute + 0.01 for minute in range(0, 42, 5)]
    whole = known_at(*minutes, clusters=clusters, events=events, oi_state=states)
    alone = [known_at(minute, clusters=clusters, events=events, oi_state=states) for minute in minutes]
    assert_frame_equal(pl.concat(alone), whole, check_exact=True)


def test_no_stop_behind_a_wall_stands_in_another_cluster():
    for seed in range(4):
        clusters, _, states = random_rows(seed)
        found = known_at(*(minute + 2.0 for minute in range(38)), clusters=clusters, oi_state=states, sources=["aster"])
        edges = found.select("near_long_far", "near_short_far", "map_age_ms").iter_rows()
        for minute, (long_far, short_far, age_ms) in enumerate(edges):
            known_ms = round(NOON + (minute + 2.0) * MINUTE - age_ms) if not math.isnan(age_ms) else None
            for row in clusters:
                if row["avail_time"] != known_ms or row["source"] != "aster" or row["state"] not in LIVING:
                    continue
                assert not row["price_lo"] < long_far * (1 - 15e-4) < row["price_hi"] or row["side"] == "short"
                assert not row["price_lo"] < short_far * (1 + 15e-4) < row["price_hi"] or row["side"] == "long"


@pytest.fixture
def bars() -> Bars:
    """Ten minutes of bars from noon on, each known two seconds after its end."""
    numbers = pl.DataFrame({name: [100.0] * 10 for name, dtype in BARS.items() if dtype == pl.Float64})
    open_ms = NOON + np.arange(10) * MINUTE
    times = {"open_time": open_ms, "close_time": open_ms + MINUTE, "avail_time": open_ms + MINUTE + 2_000}
    frame = pl.DataFrame({name: pl.Series(value).cast(pl.Datetime("ms", "UTC")) for name, value in times.items()})
    return Bars(symbol="SOLUSDT", interval="1m", frame=frame.hstack(numbers), instrument={})


def test_bars_carry_the_columns_of_the_lakes_map_where_a_feature_needs_them(bars, tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    rows = [cluster(minute, "long", 98.0 - minute, 99.0) for minute in range(0, 10, 5)]
    lake.append("clusters", conform(pl.DataFrame(rows), CLUSTERS), origin="test")
    lake.append("oi_state", conform(pl.DataFrame([snapshot(0), snapshot(5)]), OI_STATE), origin="test")
    joined = with_clusters_asked_for(bars, lake, ["near_long_lo_bps", "close"])
    assert joined.frame["near_long_lo"].to_list() == [98.0] * 4 + [93.0] * 6
    later = replace(bars, frame=bars.frame[7:])  # a row does not depend on the range that is asked for
    assert_frame_equal(with_clusters_asked_for(later, lake, ["break_usdt"]).frame, joined.frame[7:])
    assert with_clusters_asked_for(bars, lake, ["return_bps_3"]) is bars


def test_of_several_maps_the_current_one_is_taken_and_where_none_is_all_are_refused(bars, tmp_path, monkeypatch):
    lake = Lake(tmp_path / "lake", create=True)
    for map_id, low in (("a" * 12, 98.0), ("b" * 12, 97.0)):
        rows = pl.DataFrame([cluster(0, "long", low, 99.0)]).with_columns(map_id=pl.lit(map_id))
        lake.append("clusters", conform(rows, CLUSTERS), origin="test")
        rows = pl.DataFrame([snapshot(0)]).with_columns(map_id=pl.lit(map_id))
        lake.append("oi_state", conform(rows, OI_STATE), origin="test")
    with pytest.raises(ValueError, match=r"made with 2 settings, .* and none of them with the default ones"):
        with_clusters_asked_for(bars, lake, ["near_long_lo_bps"])
    monkeypatch.setattr(maps, "current_map_ids", lambda lake, symbol: ["b" * 12])
    joined = with_clusters_asked_for(bars, lake, ["near_long_lo_bps"])
    assert joined.frame["near_long_lo"][-1] == 97.0


def test_a_lake_without_a_map_says_how_to_build_one(bars, tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    with pytest.raises(LookupError, match=r"no liquidation map of SOLUSDT from .* build it with `aster clusters"):
        with_clusters_asked_for(bars, lake, ["near_long_lo"])


def test_bars_and_frames_make_bars_with_all_columns(bars):
    frames = (CLUSTERS.empty(), CLUSTER_EVENTS.empty(), conform(pl.DataFrame([snapshot(0)]), OI_STATE))
    joined = with_clusters(bars, *frames)
    assert joined.frame.columns == bars.frame.columns + list(CLUSTER_COLUMNS)
    assert joined.frame["open_interest_usdt"][0] == 2e9
