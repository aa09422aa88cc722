"""The predictive map: no future, the same live as in a batch, open interest conserved, nothing without input."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.clusters.grid import HALF_WINDOW, LONG, SHORT, lower_edge
from research.clusters.predictive import State, predictive_map
from research.clusters.profiles import Profiles, SourceBars
from research.clusters.tiers import MapConfig
from research.tests.random_source_bars import MINUTE_MS, random_config, random_source_bars

SEEDS = st.integers(0, 2**32 - 1)
properties = settings(max_examples=15, deadline=None, derandomize=True)


def same(one: Profiles, other: Profiles) -> bool:
    """Every bit of both."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Profiles)]
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a == b for a, b in pairs
    )


def rows_of(bars: SourceBars) -> list[dict]:
    names = [field.name for field in fields(SourceBars) if field.name not in ("symbol", "source")]
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(getattr(bars, name).tolist() for name in names), strict=True)
    ]


def held(state: State) -> np.ndarray:
    """Base units per side, added up column by column."""
    tiers = state.book.tiers
    return ((state.book.columns.sum(axis=2) + tiers["beyond"]) * tiers["scale"]).sum(axis=1)


def flat_bars(prices: list[float], open_interest: list[float], **columns) -> SourceBars:
    """Bars whose high, low and close are one price; a NaN of open interest is no news."""
    time_ms = MINUTE_MS * np.arange(1, len(prices) + 1)
    price, told = np.array(prices), np.array(open_interest)
    is_new = np.isfinite(told)
    last = np.maximum.accumulate(np.where(is_new, np.arange(len(told)), -1))
    given = {
        "time_ms": time_ms, "avail_ms": time_ms + 1_000, "mark_high": price, "mark_low": price, "mark_close": price,
        "volume_usdt": np.zeros(len(price)), "open_interest": np.where(last >= 0, told[last], np.nan), "is_new": is_new,
    }  # fmt: skip
    return SourceBars(symbol="BTCUSDT", source="aster", **given | columns)


@pytest.fixture
def still():
    """Positions that neither time nor volume closes, all at ten times."""
    return MapConfig(leverages=(10.0,), shares=(1.0,), half_life_hours=(1e12,), half_life_turnovers=(1e12,), smear=0.0)


@properties
@given(SEEDS, st.integers(10, 70))
def test_snapshots_up_to_a_moment_do_not_change_when_the_rest_is_cut_off(seed, last):
    bars = random_source_bars(seed, 80)
    config = random_config(seed, bars)
    whole, _ = predictive_map(bars, config)
    cut, _ = predictive_map(bars.rows(slice(0, last)), config)
    assert same(cut, whole.rows(slice(0, last // 5)))


@properties
@given(SEEDS, st.integers(10, 70))
def test_snapshots_up_to_a_moment_do_not_change_when_the_future_is_another_one(seed, last):
    bars, other = random_source_bars(seed, 80), random_source_bars(seed + 1, 80)
    config = random_config(seed, bars)
    changed = {
        name: np.concatenate([getattr(bars, name)[:last], getattr(other, name)[last:]])
        for name in ("mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest", "is_new")
    }
    before = slice(0, last // 5)
    whole, scrambled = (predictive_map(each, config)[0] for each in (bars, replace(bars, **changed)))
    assert same(whole.rows(before), scrambled.rows(before))


@properties
@given(SEEDS, st.integers(1, 79))
def test_bar_by_bar_is_the_batch_with_a_state_stored_in_the_middle(seed, stop):
    bars = random_source_bars(seed, 80)
    config = random_config(seed, bars)
    state = State("BTCUSDT", "aster", config)
    shown = []
    for row in rows_of(bars):
        state.step(**row)
        if state.bars == stop:
            state = State.from_bytes(state.to_bytes(), config)
        if state.bars % 5 == 0:
            shown.append(state.snapshot())
    whole, _ = predictive_map(bars, config)
    assert len(whole) == len(shown) == 16
    assert all(same(one, whole.rows(slice(k, k + 1))) for k, one in enumerate(shown))


@properties
@given(SEEDS, st.integers(0, 80))
def test_a_history_in_two_pieces_is_the_history(seed, stop):
    bars = random_source_bars(seed, 80)
    config = random_config(seed, bars)
    whole, at_end = predictive_map(bars, config)
    first, state = predictive_map(bars.rows(slice(0, stop)), config)
    second, continued = predictive_map(bars.rows(slice(stop, None)), config, state=state)
    assert same(first, whole.rows(slice(0, stop // 5)))
    assert same(second, whole.rows(slice(stop // 5, None)))
    assert continued.to_bytes() == at_end.to_bytes()
    assert state.bars == stop  # as it was


@properties
@given(SEEDS, st.sampled_from([0.002, 0.02, 0.2]))
def test_what_is_held_and_what_is_missing_are_the_open_interest_on_every_bar(seed, volatility):
    bars = random_source_bars(seed, 60, volatility=volatility)
    state = State("BTCUSDT", "aster", random_config(seed, bars))
    for row in rows_of(bars):
        state.step(**row)
        now = state.book.now[0]
        if not np.isnan(now["open_interest"]) and not now["is_unused"]:
            both = held(state) + state.book.sides["missing"]
            assert np.abs(both / row["open_interest"] - 1.0).max() <= 1e-12
            assert np.allclose(state.book.tiers["total"].sum(axis=1), held(state), atol=1e-12 * row["open_interest"])


@properties
@given(SEEDS, st.sampled_from([0.002, 0.02, 0.2]))
def test_longs_lie_below_the_mark_and_shorts_above_it_on_every_snapshot(seed, volatility):
    bars = random_source_bars(seed, 60, volatility=volatility)
    profiles, _ = predictive_map(bars, random_config(seed, bars), every_bars=1)
    columns = np.arange(profiles.mass_usdt.shape[2])
    for mark, first, (longs, shorts) in zip(
        profiles.mark, profiles.first_bucket, profiles.mass_usdt > 0.0, strict=True
    ):
        assert not (longs.any() or shorts.any()) or np.isfinite(mark)
        assert not longs.any() or lower_edge(first + columns[longs].max() + 1) < mark
        assert not shorts.any() or lower_edge(first + columns[shorts].min()) > mark


def test_without_open_interest_there_is_a_stale_empty_profile():
    profiles, _ = predictive_map(flat_bars([100.0, 101.0, 99.0], [np.nan] * 3), MapConfig(), every_bars=1)
    assert profiles.is_stale.all()
    assert not profiles.mass_usdt.any()
    assert np.isnan(profiles.leverage).all()
    assert np.isnan(profiles.open_interest_usdt).all() and np.isnan(profiles.placed_share).all()
    assert profiles.mark.tolist() == [100.0, 101.0, 99.0]


def test_without_a_mark_the_profile_is_empty_and_stale_and_the_book_waits(still):
    profiles, _ = predictive_map(flat_bars([np.nan, 100.0, np.nan, 100.0], [5.0, np.nan] * 2), still, every_bars=1)
    assert profiles.is_stale.tolist() == [True, False, True, False]
    assert (profiles.mass_usdt.sum(axis=(1, 2)) > 0.0).tolist() == [False, True, False, True]
    assert profiles.first_bucket.tolist() == [0, 4_355, 4_355, 4_355]
    assert profiles.open_interest_usdt[[1, 3]].tolist() == [500.0, 500.0]


def test_open_interest_goes_stale_after_a_quarter_of_an_hour():
    profiles, _ = predictive_map(flat_bars([100.0] * 18, [5.0] + [np.nan] * 17), MapConfig(), every_bars=1)
    assert profiles.is_stale.tolist() == [False] * 16 + [True] * 2


def test_open_interest_is_not_split_between_the_sides(still):
    profiles, _ = predictive_map(flat_bars([100.0], [5.0]), still, every_bars=1)
    prices = np.exp(1e-3 * (profiles.first_bucket[0] + np.arange(500) + 0.5))
    assert (profiles.mass_usdt[0] / prices).sum(axis=1) == pytest.approx([5.0, 5.0])
    assert profiles.placed_share.tolist() == pytest.approx([1.0])


def test_the_mark_sweeps_longs_on_its_way_down_and_shorts_on_its_way_up(still):
    profiles, state = predictive_map(flat_bars([100.0, 80.0, 125.0], [5.0, np.nan, np.nan]), still, every_bars=1)
    assert profiles.swept_usdt[0].tolist() == [0.0, 0.0]
    assert profiles.swept_usdt[1] == pytest.approx([5.0 * 90.5, 0.0], rel=2e-3)
    assert profiles.swept_usdt[2] == pytest.approx([0.0, 5.0 * 109.5], rel=2e-3)
    assert state.book.sides["missing"] == pytest.approx([5.0, 5.0])


def test_what_was_swept_opens_again_at_todays_prices_when_open_interest_says_so(still):
    profiles, _ = predictive_map(flat_bars([100.0, 80.0], [5.0, 5.0]), still, every_bars=1)
    longs = profiles.mass_usdt[1, LONG]
    assert profiles.first_bucket[1] + longs.argmax() == pytest.approx(1_000 * np.log(80.0 * 0.9 / 0.995), abs=2)


def test_falling_open_interest_closes_the_same_part_of_everything(still):
    profiles, _ = predictive_map(flat_bars([100.0, 100.0], [8.0, 2.0]), still, every_bars=1)
    assert np.allclose(profiles.mass_usdt[1], 0.25 * profiles.mass_usdt[0], rtol=1e-6)


def test_open_interest_of_zero_empties_the_book_and_it_can_fill_again(still):
    profiles, _ = predictive_map(flat_bars([100.0] * 3, [8.0, 0.0, 4.0]), still, every_bars=1)
    totals = profiles.mass_usdt.sum(axis=(1, 2))
    assert totals[1] == 0.0 and np.isnan(profiles.placed_share[1])
    assert totals[2] == pytest.approx(0.5 * totals[0])


def test_positions_move_to_todays_price_by_half_in_a_half_life():
    config = MapConfig(leverages=(10.0,), shares=(1.0,), half_life_hours=(1 / 60,), half_life_turnovers=(1e12,))
    profiles, _ = predictive_map(flat_bars([100.0, 104.0], [8.0, 8.0]), config, every_bars=1)
    longs = profiles.mass_usdt[1, LONG] / np.exp(1e-3 * (profiles.first_bucket[1] + np.arange(500) + 0.5))
    border = round(1_000 * np.log(102.0 * 0.9 / 0.995)) - profiles.first_bucket[1]
    assert longs[:border].sum() == pytest.approx(4.0, rel=0.02)
    assert longs[border:].sum() == pytest.approx(4.0, rel=0.02)


def test_closing_does_not_depend_on_how_often_open_interest_is_told():
    config = MapConfig(leverages=(10.0,), shares=(1.0,), half_life_hours=(0.1,), half_life_turnovers=(2.0,))
    volume_usdt = np.full(11, 160.0)
    often, rarely = [8.0] * 11, [8.0] + [np.nan] * 9 + [8.0]
    left = []
    for told in (often, rarely):
        _, state = predictive_map(flat_bars([100.0] + [120.0] * 10, told, volume_usdt=volume_usdt), config)
        column = 4_605 - 50 - int(state.book.now["first_bucket"][0])
        left.append((state.book.columns * state.book.tiers["scale"][:, :, None])[LONG, 0, :column].sum())
    assert left[0] == pytest.approx(left[1], rel=1e-9) and left[0] > 0.1


def test_what_opened_between_two_values_lies_where_volume_was_traded(still):
    prices, told = [100.0, 100.0, 103.0], [0.0, np.nan, 4.0]
    bars = flat_bars(prices, told, volume_usdt=np.array([0.0, 300.0, 103.0]))
    profiles, _ = predictive_map(bars, still, every_bars=3)
    longs = profiles.mass_usdt[0, LONG] / np.exp(1e-3 * (profiles.first_bucket[0] + np.arange(500) + 0.5))
    border = round(1_000 * np.log(101.5 * 0.9 / 0.995)) - profiles.first_bucket[0]
    assert longs[:border].sum() == pytest.approx(3.0, rel=0.02)


def test_a_level_that_a_later_bar_reached_before_open_interest_was_told_is_never_shown(still):
    profiles, state = predictive_map(flat_bars([100.0, 89.0, 100.0], [np.nan, np.nan, 6.0]), still, every_bars=3)
    gone = state.book.sides["missing"]
    assert gone[LONG] == pytest.approx(2.0, rel=0.05)  # a third opened at 100, and 89 took its longs
    assert gone[SHORT] == pytest.approx(2.0, rel=0.3)  # a third opened at 89, and 100 took most of its shorts
    assert np.flatnonzero(profiles.mass_usdt[0, LONG]).max() < HALF_WINDOW


def test_a_state_of_another_map_or_an_old_bar_is_refused(still):
    bars = flat_bars([100.0, 101.0], [5.0, 5.0])
    _, state = predictive_map(bars, still)
    with pytest.raises(ValueError, match="leave out those"):
        predictive_map(bars, still, state=state)
    with pytest.raises(ValueError, match="begin with state=None"):
        predictive_map(bars, MapConfig(), state=state)
    with pytest.raises(ValueError, match="expected a bar after 120000, got 60000"):
        state.step(**rows_of(bars)[0])
    with pytest.raises(ValueError, match="build the map again"):
        State.from_bytes(state.to_bytes(), MapConfig())
    with pytest.raises(ValueError, match="every_bars: expected 1 or more"):
        predictive_map(bars, still, every_bars=0)


def test_no_bars_make_no_snapshots(still):
    profiles, state = predictive_map(flat_bars([], []), still)
    assert (len(profiles), state.bars) == (0, 0)
