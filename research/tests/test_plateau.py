import numpy as np
import pytest

from research.plateau import nearest_scores, neighbour_scores, outline, plateau

NAN = np.nan
# A hill of 1.0 to 1.4 in a plain of -1, and a spike of 3 far away from it.
HILL = np.array(
    [
        [-1, -1, -1, -1, -1, -1, -1.0],
        [-1, 1.0, 1.1, 1.2, -1, -1, -1],
        [-1, 1.2, 1.4, 1.3, -1, 3.0, -1],
        [-1, 1.0, 1.2, 1.1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1, -1],
    ]
)


def test_the_lower_quartile_of_nine_cells_is_their_third_smallest():
    assert plateau(HILL).lower_quartile[2, 2] == 1.1


def test_the_chosen_cell_has_the_best_neighbourhood_and_not_the_best_score():
    assert plateau(HILL).chosen == (2, 2)


def test_a_spike_stands_alone():
    found = plateau(HILL)
    assert found.lone_best == (2, 5)
    assert found.lower_quartile[2, 5] == -1.0


def test_the_best_cell_does_not_stand_alone_when_it_lies_on_the_plateau():
    assert plateau(np.where(HILL == 3.0, -1.0, HILL)).lone_best is None


def test_the_plateau_reaches_as_far_as_half_the_best_neighbourhood():
    wide = np.full((5, 6), -1.0)
    wide[1:4, 1:5] = 1.0
    # Of the inner block's 3x4 cells only those with at most two poor neighbours keep a lower quartile of 1.
    assert np.argwhere(plateau(wide).members).tolist() == [[2, 2], [2, 3]]


def test_a_second_hill_of_the_same_height_is_not_part_of_the_plateau():
    both = np.hstack([HILL[:, :5], HILL[:, :5]])
    found = plateau(both)
    assert found.lower_quartile[2, 2] == found.lower_quartile[2, 7]
    assert found.members.sum() == 1


def test_neighbours_beyond_the_edge_count_as_the_worst():
    corner = np.array([[9.0, 9.0, -2.0], [9.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    # Five of the nine cells around a corner do not exist: the lower quartile is the worst score of the grid.
    assert plateau(corner).lower_quartile[0, 0] == -2.0


def test_a_cell_without_a_score_counts_as_the_worst_and_is_never_a_member():
    holed = HILL.copy()
    holed[2, 2] = NAN
    found = plateau(holed)
    assert np.isnan(found.lower_quartile[2, 2])
    assert not found.members[2, 2]


def test_there_is_no_plateau_where_every_neighbourhood_loses():
    found = plateau(np.full((4, 4), -0.5))
    assert not found.members.any()
    assert found.lone_best is None  # the least loss is no winner


def test_a_single_value_on_one_axis_leaves_neighbours_along_the_other():
    found = plateau(np.array([[0.0, 2.0, 2.0, 2.0, 0.0]]))
    assert found.chosen == (0, 2)
    assert found.lower_quartile[0].tolist() == [0.0, 1.0, 2.0, 1.0, 0.0]


def test_a_grid_without_any_score_has_nothing_to_choose():
    assert plateau(np.full((3, 3), NAN)).chosen is None


def test_a_third_axis_is_refused():
    with pytest.raises(ValueError, match="fix the others first"):
        plateau(np.zeros((2, 2, 2)))


def test_the_outline_of_one_cell_is_its_four_sides():
    x, y = outline(np.array([[False, False], [False, True]]))
    assert (x, y) == ([0.5, 1.5, 1.5, 0.5, 0.5], [0.5, 0.5, 1.5, 1.5, 0.5])


def test_the_outline_of_a_ring_has_an_outer_and_an_inner_line():
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    x, _ = outline(ring)
    assert x.count(None) == 1
    assert len(x) == 13 + 1 + 5


def test_nothing_has_no_outline():
    assert outline(np.zeros((2, 2), dtype=bool)) == ([], [])


def test_a_lonely_peak_scores_as_its_neighbours_do():
    scores = np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [2.0, 2.0, 2.0]]).ravel()
    smooth = neighbour_scores(scores, (3, 3)).reshape(3, 3)
    assert smooth[1, 1] == 0.0  # lower quartile of 9, 0, 0, 0, 2
    assert smooth[2, 0] == 0.0  # of 2, 0, 2
    assert smooth[2, 1] == 2.0  # of 2, 9, 2, 2


def test_off_a_grid_the_nearest_are_the_neighbours():
    scores = np.array([9.0, 0.0, 2.0, NAN, 4.0])
    nearest = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 4, 0], [2, 4, 0, 2, 4]])
    assert nearest_scores(scores, nearest).tolist() == [0.0, 2.0, 2.0]  # the second smallest of five
