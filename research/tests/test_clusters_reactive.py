"""Reactive maps: where liquidations happened."""

import math
from dataclasses import fields

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.schema import FORCE_ORDERS, TIME_MS
from research.clusters import grid
from research.clusters.profiles import SourceBars
from research.clusters.reactive import ReactiveState, open_interest_drop, reactive_map

HOUR = 3_600_000
T = 1_780_000_000_000


def orders_of(*rows: tuple) -> pl.DataFrame:
    """(ms after T when it was known, side of the order, average price, filled quantity); happened half a second ago."""
    known = pl.Series([T + row[0] for row in rows], dtype=pl.Int64)
    frame = pl.DataFrame(
        {
            "event_time": (known - 500).cast(TIME_MS),
            "side": [row[1] for row in rows],
            "average_price": pl.Series([row[2] for row in rows], dtype=pl.Float64),
            "filled_quantity": pl.Series([row[3] for row in rows], dtype=pl.Float64),
        }
    )
    empty = FORCE_ORDERS.empty().with_columns(avail_time=pl.lit(None, TIME_MS))
    return pl.concat([empty, frame.cast({"side": FORCE_ORDERS.columns["side"]}).with_columns(
        avail_time=known.cast(TIME_MS))], how="diagonal")  # fmt: skip


def mapped(orders: pl.DataFrame, at: list[int], mark: list[float] | float = 100.0, **options):
    marks = np.broadcast_to(np.asarray(mark, np.float64), len(at)).copy()
    return reactive_map(orders, T + np.asarray(at, np.int64), marks, symbol="BTCUSDT", **options)


def same(one, other, rows=slice(None)) -> None:
    for name in ("hidden_usdt", "occupied_share", "corrected_count", "is_censored"):
        np.testing.assert_array_equal(getattr(one, name)[rows], getattr(other, name), err_msg=name)
    for name in ("mass_usdt", "first_bucket", "mark", "is_stale", "time_ms", "avail_ms"):
        np.testing.assert_array_equal(getattr(one.profiles, name)[rows], getattr(other.profiles, name), err_msg=name)


def test_a_forced_sell_is_a_liquidated_long():
    made = mapped(orders_of((0, "SELL", 90.0, 1.0), (0, "BUY", 110.0, 2.0)), [0])
    by_side = made.profiles.mass_usdt[0].sum(axis=1)
    assert by_side[grid.LONG] == pytest.approx(90.0)
    assert by_side[grid.SHORT] == pytest.approx(220.0)


def test_a_print_spreads_over_fifteen_basis_points_around_its_average_price():
    made = mapped(orders_of((0, "SELL", 90.0, 1.0)), [0])
    bucket = made.profiles.first_bucket[0] + np.arange(grid.BUCKETS)
    mass = made.profiles.mass_usdt[0, grid.LONG].astype(np.float64)
    log_price = np.log(grid.centre(bucket))
    mean = (mass * log_price).sum() / mass.sum()
    assert mean == pytest.approx(math.log(90.0), abs=1e-5)
    deviation = math.sqrt((mass * (log_price - mean) ** 2).sum() / mass.sum())
    assert deviation == pytest.approx(1.5e-3, rel=0.03)  # a bucket's own width is in it
    # within one bucket of the price, the share of a normal distribution between its edges over 1.5 buckets
    own = int(grid.bucket_of(90.0) - made.profiles.first_bucket[0])
    into = math.log(90.0) / grid.DELTA - grid.bucket_of(90.0)
    share = 0.5 * (math.erf((1 - into) / 1.5 / math.sqrt(2)) + math.erf(into / 1.5 / math.sqrt(2)))
    assert mass[own] / 90.0 == pytest.approx(share, rel=1e-4)


def test_half_of_it_is_left_after_a_half_life():
    orders = orders_of((0, "SELL", 90.0, 1.0))
    made = mapped(orders, [0, 4 * HOUR, 8 * HOUR])
    assert made.profiles.mass_usdt[:, grid.LONG].sum(axis=1) == pytest.approx([90.0, 45.0, 22.5])
    assert mapped(orders, [0, 900_000], half_life_s=900).profiles.mass_usdt[1].sum() == pytest.approx(45.0)


def test_what_lies_on_the_wrong_side_of_the_mark_is_hidden_until_the_mark_is_back():
    made = mapped(orders_of((0, "SELL", 100.0, 1.0)), [0, 1, 2], [110.0, 90.0, 110.0])
    assert made.profiles.mass_usdt.sum(axis=(1, 2)) == pytest.approx([100.0, 0.0, 100.0], rel=1e-6)
    assert made.hidden_usdt[:, grid.LONG] == pytest.approx([0.0, 100.0, 0.0], abs=1e-4)


def test_the_highest_long_price_is_below_the_mark_and_the_lowest_short_price_above():
    crowd = [(0, side, price, 1.0) for side in ("SELL", "BUY") for price in np.linspace(99.0, 101.0, 41)]
    made = mapped(orders_of(*crowd), [0], 100.0)
    bucket = made.profiles.first_bucket[0] + np.arange(grid.BUCKETS)
    long, short = (bucket[made.profiles.mass_usdt[0, side] > 0.0] for side in (grid.LONG, grid.SHORT))
    assert grid.lower_edge(long.max() + 1) <= 100.0 < grid.lower_edge(short.min())


def test_nothing_is_lost_shown_and_hidden_are_the_faded_notional():
    prints = [
        (0, "SELL", 90.0, 1.0), (HOUR, "SELL", 105.0, 2.0), (2 * HOUR, "SELL", 60.0, 3.0), (HOUR, "BUY", 130.0, 4.0),
    ]  # fmt: skip
    made = mapped(orders_of(*sorted(prints)), [0, HOUR, 3 * HOUR])
    kept = made.profiles.mass_usdt.sum(axis=2) + made.hidden_usdt
    for row, at in enumerate((0, HOUR, 3 * HOUR)):
        for side, name in enumerate(("SELL", "BUY")):
            faded = sum(
                price * quantity * 0.5 ** ((at - known) / (4 * HOUR))
                for known, of, price, quantity in prints
                if of == name and known <= at
            )
            assert kept[row, side] == pytest.approx(faded, rel=1e-6)


def test_an_order_counts_from_its_receipt_and_not_from_when_it_happened():
    orders = orders_of((400, "SELL", 90.0, 1.0))  # happened at -100
    made = mapped(orders, [0, 300, 400])
    assert made.profiles.mass_usdt.sum(axis=(1, 2)) == pytest.approx([0.0, 0.0, 90.0])
    waited = mapped(orders, [0, 300], avail_ms=np.array([T, T + 400]))
    assert waited.profiles.mass_usdt.sum(axis=(1, 2)) == pytest.approx([0.0, 90.0])


def test_free_seconds_tell_how_many_orders_the_stream_left_out():
    orders = orders_of(*((1_000 * i, "SELL", 90.0, 1.0) for i in range(5)))
    made = mapped(orders, [4_000, 100_000], capture_window_s=10)
    assert made.occupied_share.tolist() == [0.5, 0.0]
    assert made.corrected_count == pytest.approx([10 * math.log(2), 0.0])
    assert made.is_censored.tolist() == [False, False]


def test_with_hardly_a_free_second_the_count_is_censored():
    orders = orders_of(*((1_000 * i, "SELL", 90.0, 1.0) for i in range(10)))
    made = mapped(orders, [8_000, 9_000], capture_window_s=10)
    assert made.is_censored.tolist() == [True, True]
    assert made.corrected_count[0] == pytest.approx(10 * math.log(10))
    assert made.corrected_count[1] == math.inf


def test_an_order_without_an_average_price_counts_as_a_second_only():
    orders = orders_of((0, "SELL", 90.0, 1.0), (1_000, "SELL", None, 1.0), (2_000, "SELL", 90.0, 0.0))
    made = mapped(orders, [2_000], capture_window_s=10)
    assert made.profiles.mass_usdt.sum() + made.hidden_usdt.sum() == pytest.approx(90.0, rel=1e-3)
    assert made.occupied_share[0] == pytest.approx(0.3)


def test_without_a_mark_the_snapshot_is_empty_and_stale():
    made = mapped(orders_of((0, "SELL", 90.0, 1.0)), [0, 1, 2], [np.nan, 100.0, np.nan])
    assert made.profiles.is_stale.tolist() == [True, False, True]
    assert made.profiles.mass_usdt[[0, 2]].sum() == 0.0
    assert made.profiles.first_bucket.tolist() == [0, *2 * [grid.first_bucket(100.0)]]
    assert made.hidden_usdt[2, grid.LONG] == pytest.approx(90.0, rel=1e-5)


def test_no_orders_make_an_empty_map():
    made = mapped(orders_of(), [0, 1])
    assert made.profiles.mass_usdt.sum() == made.hidden_usdt.sum() == made.occupied_share.sum() == 0.0


def test_a_state_of_other_settings_or_of_later_is_refused():
    state = mapped(orders_of(), [5]).state
    with pytest.raises(ValueError, match=r"half_life_s 14400 .* not 900"):
        mapped(orders_of(), [6], half_life_s=900, state=state)
    with pytest.raises(ValueError, match="later than the first snapshot"):
        mapped(orders_of(), [4], state=state)


def test_years_of_orders_stay_in_range():
    year = 365 * 24 * HOUR
    orders = orders_of(*((i * year // 4, "SELL", 90.0, 1.0) for i in range(9)))
    made = mapped(orders, [0, 2 * year])
    assert made.profiles.mass_usdt.sum(axis=(1, 2)) == pytest.approx([90.0, 90.0])


prints = st.lists(
    st.tuples(
        st.integers(0, 600_000),
        st.sampled_from(["SELL", "BUY"]),
        st.floats(80.0, 120.0),
        st.floats(0.0, 50.0),
    ),
    max_size=40,
).map(sorted)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(prints, st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_past_does_not_change_when_the_future_arrives_and_pieces_give_the_same_bits(rows, cut, random):
    at = list(range(0, 600_001, 60_000))
    mark = [100.0 + 5.0 * math.sin(i) for i in range(len(at))]
    whole = mapped(orders_of(*rows), at, mark, half_life_s=60)

    before = [row for row in rows if row[0] <= at[cut - 1]]
    others = [(known, side, price * random.uniform(0.5, 2.0), 1.0) for known, side, price, _ in rows[len(before) :]]
    other_mark = mark[:cut] + [random.uniform(50.0, 200.0) for _ in mark[cut:]]
    scrambled = mapped(orders_of(*before, *others), at, other_mark, half_life_s=60)
    truncated = mapped(orders_of(*before), at[:cut], mark[:cut], half_life_s=60)
    same(whole, truncated, slice(cut))
    same(scrambled, truncated, slice(cut))

    first = mapped(orders_of(*rows), at[:cut], mark[:cut], half_life_s=60)
    kept = ReactiveState.from_bytes(first.state.to_bytes())
    rest = mapped(orders_of(*rows), at[cut:], mark[cut:], half_life_s=60, state=kept)
    same(whole, rest, slice(cut, None))
    for field in fields(ReactiveState):
        np.testing.assert_array_equal(getattr(whole.state, field.name), getattr(rest.state, field.name))


def test_open_interest_that_went_away_is_told_beside_the_prints():
    minutes = np.arange(4) * 60_000
    bars = SourceBars(
        symbol="BTCUSDT", source="aster", time_ms=minutes, avail_ms=minutes + 1_000,
        mark_high=np.full(4, 100.0), mark_low=np.full(4, 100.0), mark_close=np.full(4, 100.0),
        volume_usdt=np.full(4, np.nan), open_interest=np.array([np.nan, 10.0, 7.0, 9.0]),
        is_new=np.array([False, True, True, True]),
    )  # fmt: skip
    drop = open_interest_drop(bars, minutes + 1_000, window_s=60)
    np.testing.assert_array_equal(drop, [np.nan, np.nan, 300.0, 0.0])


def test_a_real_burst_of_liquidations_is_mapped_whole(real_data):
    frame = pl.read_parquet(real_data / "liquidations" / "force_orders.parquet").filter(
        pl.col("symbol") == "RARE", pl.col("ap") > 0
    )
    known = pl.col("T") + 1_000
    orders = frame.select(
        "side",
        average_price="ap",
        filled_quantity="z",
        event_time=pl.col("T").cast(TIME_MS),
        avail_time=known.cast(TIME_MS),
    ).sort("avail_time")
    last = int(orders["avail_time"].dt.epoch("ms")[-1])
    made = reactive_map(orders, np.array([last]), np.array([orders["average_price"][-1]]), symbol="RAREUSDT")
    age_ms = last - orders["avail_time"].dt.epoch("ms").to_numpy()
    faded = (orders["average_price"] * orders["filled_quantity"]).to_numpy() * 0.5 ** (age_ms / (4 * HOUR))
    assert made.profiles.mass_usdt.sum() + made.hidden_usdt.sum() == pytest.approx(faded.sum(), rel=1e-6)
