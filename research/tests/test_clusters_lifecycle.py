from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS
from data.table import TIME_MS
from research.clusters.extraction import find
from research.clusters.grid import BUCKETS, LONG, SHORT, centre, lower_edge
from research.clusters.lifecycle import Lifecycle, follow, marks_of
from research.clusters.lifecycle_kernels import walk
from research.clusters.profiles import SourceBars
from research.tests.cluster_worlds import (
    EAGER,
    ENDS,
    MINUTE_MS,
    OWN,
    START_MS,
    clock,
    flat_marks,
    hill,
    profiles_of,
    told,
)


@pytest.fixture
def story():
    """Five long clusters: 0 is heavy and will be broken, 1 fades, the others are there to be lighter."""
    mass = np.zeros((13, 2, BUCKETS))
    for s in range(13):
        for column, usdt in ((230, 100), (190, 40), (150, 30), (110, 20), (70, 10)):
            is_swept = column == 230 and s >= 7  # the mark went through it in minute 34
            is_closed = column == 190 and s >= 3  # its owners close most of it
            hill(mass[s, LONG], column, 0 if is_swept else 12 if is_closed else usdt)
    is_stale = np.isin(np.arange(13), (9, 10))  # open interest stops for ten minutes
    far_edge = float(lower_edge(OWN - 21))
    marks = flat_marks(60, lows={31: float(centre(OWN - 19)), 34: far_edge - 0.01})
    orders = pl.DataFrame(
        {
            "event_time": [clock(30.2), clock(31.9), clock(32.1), clock(31.5), clock(31.6)],
            "recv_time": [clock(30.3), clock(31.95), clock(32.2), clock(31.6), clock(31.7)],
            "side": ["SELL", "SELL", "SELL", "BUY", "SELL"],
            "average_price": [98.0, 98.0, 98.0, 98.0, 99.9],
            "filled_quantity": [2.0, 3.0, 50.0, 50.0, 50.0],
        },
        schema_overrides={"event_time": TIME_MS, "recv_time": pl.Datetime("ns", "UTC")},
    )
    return profiles_of(mass, is_stale=is_stale), marks, orders


def test_a_story_from_birth_to_break(story):
    profiles, marks, _ = story
    _, events, _ = follow(find(profiles), profiles, marks, config=EAGER)
    assert told(events.filter(pl.col("cluster_id") == 0)) == [
        ("CANDIDATE", 0, 0),
        ("ACTIVE", 10, 0),  # among the upper fifth of its past at 00:05 and 00:10
        ("TOUCHED", 31, 0),
        ("BROKEN", 34, 0),
    ]
    touched, broken = events.filter(pl.col("event").is_in(["TOUCHED", "BROKEN"])).to_dicts()
    assert touched["avail_time"] == clock(31) + timedelta(seconds=1)
    assert (touched["mass_usd"], touched["swept_usd"], touched["consumed_frac"]) == (100.0, 25.0, 0.25)
    assert (broken["mass_usd"], broken["swept_usd"], broken["consumed_frac"]) == (100.0, 100.0, 1.0)
    assert (broken["age_s"], broken["side"]) == (34 * 60.0, "long")
    assert broken["price_lo"] == pytest.approx(97.9052, abs=1e-4)  # e^4.584
    assert broken["dist_bps"] == pytest.approx(-198.0, abs=0.1)  # twenty buckets below the mark


def test_a_cluster_whose_owners_close_fades_and_is_not_broken(story):
    profiles, marks, _ = story
    _, events, _ = follow(find(profiles), profiles, marks, config=EAGER)
    assert told(events.filter(pl.col("cluster_id") == 1)) == [
        ("CANDIDATE", 0, 1),
        ("ACTIVE", 10, 1),
        ("FADED", 25, 1),  # light at 00:15, 00:20 and 00:25
    ]
    # what is left of it is another cluster from then on
    assert ("CANDIDATE", 30, 5) in told(events)


def test_missing_input_makes_clusters_stale_and_says_when_they_are_back(story):
    profiles, marks, _ = story
    clusters, events, _ = follow(find(profiles), profiles, marks, config=EAGER)
    assert told(events, "STALE", "RESUMED") == [
        *[("STALE", 45, cluster_id) for cluster_id in (2, 3, 4, 5)],
        *[("RESUMED", 55, cluster_id) for cluster_id in (2, 3, 4, 5)],
    ]
    assert clusters.filter(pl.col("ts").is_in([clock(45), clock(50)])).is_empty()


def test_a_cluster_that_ended_leaves_one_last_row(story):
    profiles, marks, _ = story
    clusters, _, _ = follow(find(profiles), profiles, marks, config=EAGER)
    first = clusters.filter(pl.col("cluster_id") == 0)
    assert first["state"].to_list() == ["CANDIDATE"] * 2 + ["ACTIVE"] * 5 + ["BROKEN"]
    assert first["active"].to_list() == [False] * 2 + [True] * 5 + [False]
    assert first["ts"][-1] == clock(35)
    assert first["lastSeen"][-1] == clock(30)
    assert first["firstSeen"].unique().to_list() == [clock(0)]
    assert clusters.columns == CLUSTERS.columns.names()


def test_a_row_says_where_a_cluster_is_and_how_much_it_holds(story):
    profiles, marks, _ = story
    row = follow(find(profiles), profiles, marks, config=EAGER)[0].row(0, named=True)
    assert row["price_level"] == centre(OWN - 20)
    assert (row["price_lo"], row["price_hi"]) == (lower_edge(OWN - 21), lower_edge(OWN - 18))
    assert row["distance_from_price"] == -row["dist_bps"] / 100.0
    assert (row["open_interest"], row["coverage"]) == (100.0, 0.5)
    assert row["strength_seed"] == 0.5  # root of 3 x 100 / 1200
    assert row["confidence"] is None
    assert row["strength"] is None  # no past yet


def test_what_was_liquidated_is_told_a_minute_after_the_touch_and_not_before(story):
    profiles, marks, orders = story
    _, events, _ = follow(find(profiles), profiles, marks, orders, config=EAGER)
    touched = events.filter(pl.col("event") == "TOUCHED").row(0, named=True)
    # 2 and 3 at 98; not after 00:32, not a BUY, not outside of the cluster
    assert (touched["realised_usd"], touched["n_prints"]) == (490.0, 2)
    assert (touched["ts"], touched["avail_time"]) == (clock(31), clock(32))
    assert events.filter(pl.col("event") == "ACTIVE")["realised_usd"].null_count() == 2
    until = profiles.rows(slice(0, 7))  # up to 00:30
    early = marks.filter(pl.col("ts") <= clock(31))
    _, before, state = follow(find(until), until, early, orders, config=EAGER)
    assert told(before, "TOUCHED") == []
    rest = profiles.rows(slice(7, None))
    _, after, _ = follow(find(rest), rest, marks.filter(pl.col("ts") > clock(31)), None, config=EAGER, state=state)
    assert after.filter(pl.col("event") == "TOUCHED").row(0, named=True) == touched


def test_a_print_heard_too_late_does_not_count(story):
    profiles, marks, orders = story
    late = orders.with_columns(recv_time=pl.col("recv_time") + pl.duration(minutes=5))
    _, events, _ = follow(find(profiles), profiles, marks, late, config=EAGER)
    assert events.filter(pl.col("event") == "TOUCHED")["n_prints"].to_list() == [0]


def test_a_candidate_that_the_mark_takes_is_consumed_and_not_broken(story):
    profiles, marks, _ = story
    _, events, _ = follow(find(profiles), profiles, marks)  # six hours of past are asked for: nothing gets ACTIVE
    assert told(events, "ACTIVE", "TOUCHED", "BROKEN") == []
    assert told(events, "CONSUMED") == [("CONSUMED", 34, 0)]


def test_a_break_that_nobody_watched_is_no_break(story):
    profiles, marks, _ = story
    hole = marks.filter(~pl.col("ts").is_between(clock(31), clock(33)))  # seen at 00:30, then at 00:34
    _, events, _ = follow(find(profiles), profiles, hole, config=EAGER)
    assert told(events, "TOUCHED", "BROKEN", "CONSUMED") == [("CONSUMED", 34, 0)]


def test_a_bar_that_began_before_the_cluster_was_found_counts_by_its_close_only():
    mass = np.zeros((1, 2, BUCKETS))
    hill(mass[0, LONG], 230, 100)
    profiles = profiles_of(mass, start_ms=START_MS + 90_000)  # in the middle of the second minute
    marks = flat_marks(3, lows={2: 90.0})
    _, events, _ = follow(find(profiles), profiles, marks)
    assert told(events) == [("CANDIDATE", 1, 0)]


def test_short_clusters_live_the_same_life_above_the_mark():
    mass = np.zeros((8, 2, BUCKETS))
    for s in range(8):
        for column, usdt in ((270, 100), (310, 30), (350, 20), (390, 10)):
            hill(mass[s, SHORT], column, 0 if column == 270 and s >= 7 else usdt)
    profiles = profiles_of(mass)
    marks = flat_marks(35, highs={31: float(lower_edge(OWN + 19)), 34: float(lower_edge(OWN + 22))})
    _, events, _ = follow(find(profiles), profiles, marks, config=EAGER)
    assert told(events.filter(pl.col("cluster_id") == 0)) == [
        ("CANDIDATE", 0, 0),
        ("ACTIVE", 10, 0),
        ("TOUCHED", 31, 0),
        ("BROKEN", 34, 0),
    ]


def test_a_touch_that_takes_most_and_turns_consumes():
    mass = np.zeros((11, 2, BUCKETS))
    for s in range(11):
        for column, usdt in ((230, 100), (150, 30), (110, 20), (70, 10)):
            hill(mass[s, LONG], column, 0 if column == 230 and s >= 7 else usdt)
    profiles = profiles_of(mass)
    marks = flat_marks(50, lows={31: float(centre(OWN - 21))})  # into the last bucket, not beyond
    _, events, _ = follow(find(profiles), profiles, marks, config=EAGER)
    ends = told(events.filter(pl.col("cluster_id") == 0), *ENDS)
    assert ends == [("CONSUMED", 45, 0)]  # out of sight at 00:35, 00:40 and 00:45


def test_what_a_touch_leaves_is_still_the_same_cluster():
    mass = np.zeros((9, 2, BUCKETS))
    for s in range(9):
        mass[s, LONG, 220:231] = 10.0
        if s >= 7:
            mass[s, LONG, 225:231] = 0.0  # the mark took the nearer half, and its peak with it
    profiles = profiles_of(mass)
    marks = flat_marks(40, lows={31: float(centre(OWN - 25))})
    clusters, _, _ = follow(find(profiles), profiles, marks, config=EAGER)
    assert clusters["cluster_id"].unique().to_list() == [0]
    assert clusters["open_interest"].to_list() == [110.0] * 7 + [50.0] * 2


def test_a_cluster_out_of_sight_inside_another_has_merged():
    mass = np.zeros((6, 2, BUCKETS))
    for s in range(6):
        hill(mass[s, LONG], 200, 100)
        hill(mass[s, LONG], 204, 60)
        if s >= 2:
            mass[s, LONG, 197:207] = 60.0
            mass[s, LONG, 200] = 70.0
    profiles = profiles_of(mass)
    _, events, _ = follow(find(profiles), profiles, flat_marks(25), config=EAGER)
    assert told(events, *ENDS) == [("MERGED", 20, 1)]
    assert events.filter(pl.col("event") == "MERGED")["parent_id"].to_list() == [0]


def test_a_new_cluster_inside_an_old_one_has_split_from_it():
    mass = np.zeros((4, 2, BUCKETS))
    for s in range(4):
        mass[s, LONG, 197:207] = 60.0
        mass[s, LONG, 200] = 70.0
        if s >= 2:
            mass[s, LONG] = 0.0
            hill(mass[s, LONG], 200, 100)
            hill(mass[s, LONG], 205, 60)
    profiles = profiles_of(mass)
    _, events, _ = follow(find(profiles), profiles, flat_marks(15), config=EAGER)
    assert told(events, "SPLIT") == [("SPLIT", 10, 1)]
    assert events.filter(pl.col("event") == "SPLIT")["parent_id"].to_list() == [0]


def test_a_cluster_that_flickers_keeps_its_number():
    mass = np.zeros((6, 2, BUCKETS))
    for s in (0, 1, 4, 5):
        hill(mass[s, LONG], 200, 100)
    profiles = profiles_of(mass)
    clusters, _, _ = follow(find(profiles), profiles, flat_marks(25), config=EAGER)
    assert clusters["cluster_id"].to_list() == [0, 0, 0, 0]


def test_a_cluster_keeps_its_number_when_the_basis_moves_the_whole_map():
    mass = np.zeros((2, 2, BUCKETS))
    hill(mass[0, LONG], 200, 100)
    hill(mass[1, LONG], 208, 100)
    moved = profiles_of(mass, basis_bps=np.array([-40.0, 40.0]))
    clusters, _, _ = follow(find(moved), moved, flat_marks(5))
    assert clusters["cluster_id"].to_list() == [0, 0]
    stood = profiles_of(mass, basis_bps=np.array([40.0, 40.0]))
    clusters, _, _ = follow(find(stood), stood, flat_marks(5))
    assert clusters["cluster_id"].to_list() == [0, 1]


def test_numbers_stay_for_a_thousand_steps_of_a_constant_map():
    mass = np.random.default_rng(3).gamma(0.5, 1e5, (1, 2, BUCKETS)).repeat(1_000, axis=0)
    profiles = profiles_of(mass)
    clusters, events, _ = follow(find(profiles), profiles, flat_marks(5_000))
    per_snapshot = clusters.group_by("ts", maintain_order=True).agg("cluster_id")["cluster_id"].to_list()
    assert len(per_snapshot) == 1_000
    assert len(per_snapshot[0]) == 40
    assert all(ids == per_snapshot[0] for ids in per_snapshot)
    assert set(events["event"]) == {"CANDIDATE", "ACTIVE"}


def test_looking_more_often_than_the_slot_makes_nothing_active_sooner():
    mass = np.zeros((60, 2, BUCKETS))
    mass[:, LONG, 200] = 100.0
    profiles = profiles_of(mass, step_minutes=1)
    _, events, _ = follow(find(profiles), profiles, flat_marks(59), config=EAGER)
    assert told(events, "ACTIVE") == [("ACTIVE", 10, 0)]


def test_marks_of_takes_the_bars_of_a_source():
    time_ms = START_MS + MINUTE_MS * np.arange(2)
    values = {
        name: np.array([1.0, 2.0]) for name in ("mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest")
    }
    bars = SourceBars(
        symbol="BTCUSDT", source="aster", time_ms=time_ms, avail_ms=time_ms + 1, is_new=np.ones(2, np.bool_), **values
    )
    assert marks_of(bars).row(1) == (clock(1), clock(1) + timedelta(milliseconds=1), 2.0, 2.0, 2.0)


def test_maps_out_of_files_compile_nothing_again(story):
    profiles, marks, _ = story
    expected = follow(find(profiles), profiles, marks)[0]
    compiled = len(walk.signatures)
    for name in ("time_ms", "avail_ms", "first_bucket", "mass_usdt", "mark", "is_stale"):
        getattr(profiles, name).flags.writeable = False
    assert_frame_equal(follow(find(profiles), profiles, marks)[0], expected)
    assert len(walk.signatures) == compiled


def test_bars_out_of_order_are_refused(story):
    profiles, marks, _ = story
    with pytest.raises(ValueError, match="marks: expected ascending times"):
        follow(find(profiles), profiles, marks.reverse())


def test_nothing_in_nothing_out():
    profiles = profiles_of(np.zeros((0, 2, BUCKETS)))
    clusters, events, state = follow(find(profiles), profiles, flat_marks(0))
    assert clusters.schema == CLUSTERS.columns
    assert events.schema == CLUSTER_EVENTS.columns
    assert follow(find(profiles), profiles, flat_marks(0), state=state)[0].is_empty()


def test_bars_before_the_state_are_refused(story):
    profiles, marks, _ = story
    _, _, state = follow(find(profiles), profiles, marks)
    with pytest.raises(ValueError, match="expected bars and snapshots after"):
        follow(find(profiles), profiles, marks, state=state)


def test_a_state_of_other_settings_is_refused(story):
    profiles, marks, _ = story
    _, _, state = follow(find(profiles), profiles, marks)
    none = profiles.rows(slice(0, 0))
    with pytest.raises(ValueError, match="begun with"):
        follow(find(none, top=5), none, marks.clear(), state=state)


def test_clusters_of_another_map_are_refused(story):
    profiles, marks, _ = story
    with pytest.raises(ValueError, match="call find"):
        follow(find(profiles.rows(slice(0, 3))), profiles, marks)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="active_quantile: expected a fraction"):
        Lifecycle(active_quantile=80.0)
