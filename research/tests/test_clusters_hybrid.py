import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.table import TIME_MS
from research.clusters import grid
from research.clusters.grid import BUCKETS, LONG, SHORT
from research.clusters.hybrid import Hybrid, HybridConfig, cluster_inputs, hybrid
from research.clusters.inputs import Unavailable
from research.clusters.profiles import Profiles

MINUTE_MS = 60_000
MARK = 1_000.0
OWN = int(grid.bucket_of(MARK))


def a_map(source: str, *walls, snapshots=3, stale=(), open_interest_usdt=1e6, symbol="BTCUSDT", mark=MARK) -> Profiles:
    """One snapshot a minute; walls are (side, buckets away from the mark's, usdt)."""
    mass = np.zeros((snapshots, 2, BUCKETS), np.float32)
    for side, away, usdt in walls:
        mass[:, side, grid.HALF_WINDOW + away] = usdt
    time_ms = MINUTE_MS * np.arange(1, snapshots + 1)
    return Profiles(
        symbol=symbol,
        source=source,
        time_ms=time_ms,
        avail_ms=time_ms + 1_000,
        first_bucket=np.full(snapshots, int(grid.first_bucket(mark))),
        mass_usdt=mass,
        mark=np.full(snapshots, mark),
        swept_usdt=np.full((snapshots, 2), 5.0),
        open_interest_usdt=np.full(snapshots, open_interest_usdt),
        placed_share=np.full(snapshots, 0.5),
        is_stale=np.isin(np.arange(snapshots), stale),
        leverage=np.where(mass > 0, 20.0, np.nan).astype(np.float32),
        basis_deviation_bps=None if source == "aster" else np.full(snapshots, 3.0),
    )


def made(predictive, reactive=None, mark=MARK, aster=None, **settings) -> Hybrid | Unavailable:
    time_ms = MINUTE_MS * np.arange(1, 4)
    return hybrid(
        "BTCUSDT",
        time_ms,
        np.full(3, mark) if np.isscalar(mark) else np.asarray(mark),
        predictive,
        reactive,
        avail_ms=time_ms + 1_000,
        aster_open_interest_usdt=None if aster is None else np.full(3, aster),
        config=HybridConfig(**settings),
    )


def wall(result: Hybrid, side: int, away: int, snapshot: int = 0) -> float:
    return float(result.profiles.mass_usdt[snapshot, side, grid.HALF_WINDOW + away])


def zone(side: str, away: int, snapshot: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": pl.Series([MINUTE_MS * (snapshot + 1)]).cast(TIME_MS),
            "side": [side],
            "price_lo": [float(grid.lower_edge(OWN + away))],
            "price_hi": [float(grid.lower_edge(OWN + away + 1))],
        }
    )


def test_asters_own_positions_come_before_anybody_elses():
    result = made([a_map("binance", (LONG, -5, 900.0)), a_map("aster", (LONG, -3, 100.0))])
    assert (wall(result, LONG, -3), wall(result, LONG, -5)) == (100.0, 0.0)
    assert result.used.tolist() == [0, 0, 0]
    assert result.is_own_money.all()


def test_another_venue_stands_in_while_aster_is_stale():
    result = made([a_map("binance", (LONG, -5, 900.0)), a_map("aster", (LONG, -3, 100.0), stale=[1])])
    assert [wall(result, LONG, -5, s) for s in range(3)] == [0.0, 900.0, 0.0]
    assert result.is_own_money.tolist() == [True, False, True]


def test_foreign_positions_are_scaled_to_asters_open_interest_where_it_is_known():
    result = made([a_map("binance", (LONG, -5, 900.0), open_interest_usdt=1e6)], aster=2e5)
    assert wall(result, LONG, -5) == pytest.approx(180.0)
    assert result.is_own_money.all()
    assert result.profiles.open_interest_usdt[0] == pytest.approx(2e5)


def test_forced_orders_move_a_quarter_of_their_sides_mass_and_no_other():
    predictive = a_map("aster", (LONG, -3, 100.0), (SHORT, 4, 60.0))
    result = made([predictive], a_map("force_orders", (LONG, -8, 7.0)))
    assert (wall(result, LONG, -3), wall(result, LONG, -8)) == (75.0, 25.0)
    assert wall(result, SHORT, 4) == 60.0


def test_a_symbol_with_forced_orders_only_works_from_them():
    result = made([], a_map("force_orders", (SHORT, 8, 7.0)))
    assert wall(result, SHORT, 8) == 7.0
    assert result.used.tolist() == [-1, -1, -1]
    assert not result.profiles.is_stale.any()
    inputs = cluster_inputs(zone("short", 8), result)
    assert inputs["reactive_usdt"].to_list() == [7.0]
    assert inputs["open_interest"].to_list() == [None]


def test_a_symbol_without_any_data_is_unavailable_with_a_reason():
    result = made([])
    assert isinstance(result, Unavailable)
    assert "BTCUSDT" in result.reason
    stale = made([a_map("aster", (LONG, -3, 1.0), stale=[0, 1, 2])])
    assert isinstance(stale, Unavailable)
    assert "aster" in stale.reason


def test_a_map_without_any_mass_is_masked_and_not_a_level():
    assert isinstance(made([a_map("aster")], a_map("force_orders")), Unavailable)


def test_a_snapshot_without_a_mark_is_empty_and_stale():
    result = made([a_map("aster", (LONG, -3, 100.0))], mark=[MARK, np.nan, MARK])
    assert result.profiles.is_stale.tolist() == [False, True, False]
    assert result.profiles.mass_usdt[1].sum() == 0.0


def test_a_snapshot_counts_only_from_when_it_was_known():
    late = a_map("aster", (LONG, -3, 100.0))
    result = hybrid("BTCUSDT", late.time_ms, np.full(3, MARK), [late])
    assert result.row[0].tolist() == [-1, 0, 1]


def test_snapshots_before_a_moment_are_the_same_whatever_comes_after():
    layers = [a_map("aster", (LONG, -3, 100.0), stale=[1]), a_map("okx", (SHORT, 5, 9.0))]
    prints = a_map("force_orders", (LONG, -8, 7.0))
    whole = made(layers, prints, aster=5e5)
    for n in (1, 2):
        cut = hybrid(
            "BTCUSDT",
            whole.profiles.time_ms[:n],
            whole.profiles.mark[:n],
            [layer.rows(slice(n)) for layer in layers],
            prints.rows(slice(n)),
            avail_ms=whole.profiles.avail_ms[:n],
            aster_open_interest_usdt=np.full(n, 5e5),
        )
        for name in ("mass_usdt", "open_interest_usdt", "swept_usdt", "is_stale", "masked_usdt", "leverage"):
            np.testing.assert_array_equal(getattr(cut.profiles, name), getattr(whole.profiles, name)[:n], name)


def test_an_old_snapshot_is_masked():
    time_ms = np.array([MINUTE_MS + 1_000, 20 * MINUTE_MS])
    result = hybrid("BTCUSDT", time_ms, np.full(2, MARK), [a_map("aster", (LONG, -3, 100.0), snapshots=1)])
    assert result.profiles.is_stale.tolist() == [False, True]


def test_mass_that_the_mark_has_crossed_is_masked_and_counted():
    moved = float(grid.centre(OWN - 4))
    result = made([a_map("aster", (LONG, -3, 100.0), (LONG, -9, 40.0))], mark=moved)
    assert result.profiles.mass_usdt[0].sum() == 40.0
    assert result.profiles.masked_usdt.tolist() == [100.0] * 3


def test_every_source_says_what_it_knows_of_a_cluster():
    predictive = [a_map("okx", (LONG, -3, 50.0)), a_map("binance", (LONG, -3, 900.0))]
    result = made(predictive, a_map("force_orders", (LONG, -3, 7.0)), aster=1e5)
    row = cluster_inputs(zone("long", -3), result).to_dicts()[0]
    assert row["mass_src_usd"] == 900.0
    assert row["open_interest"] == pytest.approx(90.0)
    assert row["reactive_usdt"] == 7.0
    assert row["basis_deviation_bps"] == 3.0
    assert row["layers"] == "binance+okx+force_orders"


def test_a_cluster_at_no_snapshot_of_the_map_gets_nulls():
    result = made([a_map("aster", (LONG, -3, 100.0))])
    assert cluster_inputs(zone("long", -3, snapshot=7), result)["open_interest"].to_list() == [None]


def test_maps_of_another_symbol_and_two_of_one_source_are_refused():
    with pytest.raises(ValueError, match="anchor them"):
        made([a_map("binance", (LONG, -3, 1.0), symbol="ETHUSDT")])
    with pytest.raises(ValueError, match="at most one"):
        made([a_map("binance", (LONG, -3, 1.0)), a_map("binance", (LONG, -3, 1.0))])


walls = st.lists(st.tuples(st.integers(1, 249), st.floats(1.0, 1e6)), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(walls, walls, st.integers(-30, 30), st.floats(0.0, 1.0))
def test_longs_stay_below_the_mark_and_shorts_above_and_a_sides_mass_stays(longs, shorts, moved, share):
    here = [(LONG, -away - 1, usdt) for away, usdt in longs] + [(SHORT, away, usdt) for away, usdt in shorts]
    mark = float(grid.lower_edge(OWN + moved)) * 1.0003
    predictive = a_map("aster", *here)
    result = made([predictive], a_map("force_orders", *here[::-1]), mark=mark, reactive_share=share)
    buckets = result.profiles.first_bucket[0] + np.arange(BUCKETS)
    mass = result.profiles.mass_usdt[0]
    assert (grid.lower_edge(buckets[mass[LONG] > 0] + 1) <= mark).all()
    assert (grid.lower_edge(buckets[mass[SHORT] > 0]) > mark).all()
    alone = made([predictive], mark=mark)
    np.testing.assert_allclose(mass.sum(axis=1), alone.profiles.mass_usdt[0].sum(axis=1), rtol=1e-5)
