"""Ranges, lists and what is drawn from them."""

import math

import numpy as np
import pytest

from research.search import Range, Search, combinations, draw, nearest, table_at

SOBOL = Search(method="sobol", configs=16, seed=3)
RANDOM = Search(method="random", configs=16, seed=3)


def test_the_steps_of_a_range_share_the_unit_interval():
    places = np.array([0.0, 0.3, 0.4, 0.6, 0.7, 1.0])
    assert Range(low=10, high=30, step=10).values_at(places).tolist() == [10, 10, 20, 20, 30, 30]
    assert Range(low=10, high=30).values_at(places).tolist() == [10, 16, 18, 22, 24, 30]


def test_on_a_logarithm_the_middle_is_the_geometric_mean():
    places = np.array([0.0, 0.5, 1.0])
    decades = Range(low=1, high=100, log=True)
    assert decades.values_at(places) == pytest.approx([1.0, 10.0, 100.0])
    assert decades.places_of(np.array([1.0, 10.0, 100.0])).tolist() == [0.0, 0.5, 1.0]
    assert Range(low=1, high=100, step=3, log=True).values_at(places).tolist() == [1, 10, 100]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"low": 3, "high": 3}, "low 3 is not under high 3: the range is empty"),
        ({"low": 0, "high": 3, "log": True}, "low 0 has no logarithm: raise it above 0"),
        ({"low": 0, "high": 3, "step": 0}, "step 0 leads nowhere"),
        ({"low": 0, "high": 9, "step": 4}, "does not lead from low 0 to high 9; the last value it reaches is 8"),
    ],
)
def test_a_range_that_is_none_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Range(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"method": "grid", "configs": 99}, "leave configs and ranges out, or set method to random, sobol or optuna"),
        ({"method": "random", "configs": 5}, "configs 5 is too small for random: ask for at least 16"),
        ({"method": "optuna", "configs": 40}, "configs 40 is too small for optuna: ask for at least 64"),
        ({"method": "optuna", "configs": 9_999}, "configs 9999 is over 4096: .* or set method to sobol"),
        ({"method": "sobol", "configs": 100}, "configs 100 is no power of two, .* ask for 64 or 128"),
        ({"method": "random", "configs": 99, "seed": -1}, "seed -1 is negative"),
    ],
)
def test_a_search_that_cannot_be_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Search(**settings)


def test_sobol_puts_one_of_sixteen_points_into_every_sixteenth_of_every_range():
    table = draw(SOBOL, [Range(low=0, high=16), (7.0,), Range(low=0, high=32)])
    assert np.sort(np.floor(table[:, 0])).tolist() == list(range(16))
    assert np.sort(np.floor(table[:, 2] / 2)).tolist() == list(range(16))
    assert set(table[:, 1]) == {7.0}


@pytest.mark.parametrize("search", [SOBOL, RANDOM])
def test_a_seed_always_draws_the_same(search):
    axes = [Range(low=0, high=1), (1.0, 2.0)]
    assert np.array_equal(draw(search, axes), draw(search, axes))
    other = Search(method=search.method, configs=16, seed=4)
    assert not np.array_equal(draw(search, axes), draw(other, axes))


def test_what_is_drawn_twice_is_one_config():
    table = draw(RANDOM, [Range(low=1, high=3, step=1), (5.0,)])
    assert sorted(table.tolist()) == [[1, 5], [2, 5], [3, 5]]


def test_lists_and_ranges_have_so_many_combinations():
    assert combinations([Range(low=1, high=3, step=1), (5.0, 6.0)]) == 6
    assert combinations([Range(low=1, high=3), (5.0, 6.0)]) == math.inf


def test_a_list_is_drawn_from_by_its_places():
    points = np.array([[0.0], [0.4], [0.9], [1.0]])
    assert table_at([(5.0, 9.0)], points)[:, 0].tolist() == [5, 5, 9, 9]


def test_the_nearest_are_two_per_parameter_wherever_they_lie():
    table = np.array([[0.0, 4.0], [1.0, 4.0], [5.0, 4.0], [6.0, 4.0], [7.5, 4.0]])
    found = nearest([Range(low=0, high=10), (4.0,)], table)
    assert [sorted(row) for row in found.tolist()] == [[0, 1, 2], [0, 1, 2], [2, 3, 4], [2, 3, 4], [2, 3, 4]]


def test_a_distance_is_a_share_of_the_range_and_not_of_its_unit():
    wide_and_narrow = [Range(low=0, high=1_000), Range(low=0, high=1)]
    table = np.array([[500.0, 0.5], [600.0, 0.5], [500.0, 0.9], [590.0, 0.5], [410.0, 0.5], [500.0, 0.42]])
    assert sorted(nearest(wide_and_narrow, table)[0]) == [0, 1, 3, 4, 5]  # not the third, two fifths away
