import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data.table import TIME_MS
from research.clusters.extraction import find
from research.clusters.grid import LONG, SHORT, centre
from research.clusters.lifecycle import Lifecycle, State, follow
from research.tests.cluster_worlds import EAGER, ENDS, clock, wild_world


@pytest.fixture(scope="module")
def wild():
    """One wild world and what one call makes of it."""
    profiles, marks, orders = wild_world(20)
    return profiles, marks, orders, follow(find(profiles), profiles, marks, orders, config=EAGER)


def until(frame, moment):
    return frame.filter(pl.col("avail_time") <= moment)


def test_the_wild_world_has_everything_in_it(wild):
    _, _, _, (_, events, _) = wild
    assert set(events["event"]) == {
        "CANDIDATE", "SPLIT", "ACTIVE", "TOUCHED", "BROKEN", "FADED", "MERGED", "CONSUMED", "STALE", "RESUMED",
    }  # fmt: skip
    assert events.filter(pl.col("n_prints") > 0).height > 3


def test_every_number_has_one_birth_and_at_most_one_end(wild):
    _, _, _, (clusters, events, _) = wild
    for (cluster_id,), life in events.sort("event_id").group_by("cluster_id"):
        names = life["event"].to_list()
        assert names[0] in {"CANDIDATE", "SPLIT"}, cluster_id
        assert not set(names[1:]) & {"CANDIDATE", "SPLIT"}
        assert not set(names[:-1]) & ENDS
        assert [name for name in names if name in {"ACTIVE", "TOUCHED", "BROKEN"}] in (
            [], ["ACTIVE"], ["ACTIVE", "TOUCHED"], ["ACTIVE", "TOUCHED", "BROKEN"],
        )  # fmt: skip
    births = events.filter(pl.col("event").is_in(["CANDIDATE", "SPLIT"])).sort("event_id")["cluster_id"]
    assert births.to_list() == list(range(len(births)))
    assert set(clusters["cluster_id"]) == set(births)


def test_living_rows_are_on_their_side_of_the_mark(wild):
    profiles, _, _, (clusters, _, _) = wild
    marks = pl.DataFrame({"ts": profiles.time_ms, "mark": profiles.mark}).with_columns(pl.col("ts").cast(TIME_MS))
    rows = clusters.filter(~pl.col("state").is_in(ENDS)).join(marks, on="ts")
    assert (rows.filter(pl.col("side") == "long")["price_hi"] <= rows.filter(pl.col("side") == "long")["mark"]).all()
    assert (rows.filter(pl.col("side") == "short")["price_lo"] > rows.filter(pl.col("side") == "short")["mark"]).all()
    assert (rows["active"] == rows["state"].is_in(["ACTIVE", "TOUCHED"])).all()
    assert rows.group_by("ts", "cluster_id").len()["len"].max() == 1


@pytest.mark.parametrize("cuts", [(60, 61, 62, 119, 122, 200), tuple(range(1, 40))], ids=["pieces", "steps"])
def test_going_on_from_a_stored_state_gives_the_rows_of_one_call(wild, cuts):
    profiles, marks, orders, (clusters, events, _) = wild
    pieces, state = [], None
    for first, last in zip((0, *cuts), (*cuts, len(profiles)), strict=True):
        part = profiles.rows(slice(first, last))
        start, end = (profiles.time_ms[i - 1] if i else 0 for i in (first, last))
        bars = marks.filter(pl.col("ts").dt.epoch("ms").is_between(start, end, closed="right"))
        heard = orders.filter(pl.col("event_time").dt.epoch("ms").is_between(start, end, closed="right"))
        *frames, state = follow(find(part), part, bars, heard, config=EAGER, state=state)
        state = State.from_bytes(state.to_bytes())
        pieces.append(frames)
    assert_frame_equal(pl.concat([piece[0] for piece in pieces]), clusters)
    assert_frame_equal(pl.concat([piece[1] for piece in pieces]).sort("event_id"), events.sort("event_id"))


@pytest.mark.parametrize("change", ["cut", "scrambled"])
def test_the_future_changes_nothing(wild, change):
    profiles, marks, orders, (clusters, events, _) = wild
    other_profiles, other_marks, other_orders = wild_world(12)
    keep = 150
    moment = clock(5 * (keep - 1)) + timedelta(seconds=1)
    past = marks.filter(pl.col("avail_time") <= moment)
    if change == "cut":
        shown, bars, heard = profiles.rows(slice(0, keep)), past, until(orders, moment)
    else:
        rows = {
            name: np.concatenate([getattr(profiles, name)[:keep], getattr(other_profiles, name)[keep:]])
            for name in ("mass_usdt", "mark", "first_bucket", "is_stale")
        }
        shown = replace(profiles, **rows)
        bars = pl.concat([past, other_marks.filter(pl.col("avail_time") > moment)])
        heard = pl.concat([until(orders, moment), other_orders.filter(pl.col("avail_time") > moment)])
    clusters_then, events_then, _ = follow(find(shown), shown, bars, heard, config=EAGER)
    assert_frame_equal(until(clusters_then, moment), until(clusters, moment))
    assert_frame_equal(until(events_then, moment), until(events, moment))


def slow_strength(profiles, found, s, side, k, days=7):
    """Rank and z-score of one cluster among all that were found before it, by sorting."""

    def step(mass):
        return int(math.log(mass) * 128) if mass > 1 else 0

    def band(row, rank):
        distance = 100 * abs(float(centre(found.peak[row, side, rank])) / profiles.mark[row] - 1)
        return sum(distance >= edge for edge in (0.5, 1, 2, 3, 5, 10))

    rows = [
        row
        for row in range(s)
        if not profiles.is_stale[row] and profiles.time_ms[row] >= profiles.time_ms[s] - days * 86_400_000
    ]
    past = np.array(
        [
            step(found.mass_usdt[row, side, rank])
            for row in rows
            for rank in range(found.n[row, side])
            if band(row, rank) == band(s, k)
        ]
    )
    own = step(found.mass_usdt[s, side, k])
    if len(past) < 30:
        return None, None
    return ((past < own).mean() + (past <= own).mean()) / 2, (own - past.mean()) / past.std()


def test_strength_is_the_rank_among_the_past_of_the_same_side_and_distance():
    profiles, marks, _ = wild_world(5, n_snapshots=120)
    short = Lifecycle(history=timedelta(hours=4))
    found = find(profiles)
    clusters, _, _ = follow(found, profiles, marks, config=short)
    for s in (20, 58, 66, 110):
        for side, name in ((LONG, "long"), (SHORT, "short")):
            rows = clusters.filter(
                (pl.col("ts").dt.epoch("ms") == int(profiles.time_ms[s])) & (pl.col("side") == name),
                ~pl.col("state").is_in(ENDS),
            )
            for k in range(found.n[s, side]):
                row = rows.filter(pl.col("price_level") == float(centre(found.peak[s, side, k]))).row(0, named=True)
                rank, zscore = slow_strength(profiles, found, s, side, k, days=4 / 24)
                assert row["strength"] == pytest.approx(rank)
                assert row["zscore"] == pytest.approx(zscore)
