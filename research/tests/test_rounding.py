from research.rounding import ceil_to, floor_to


def test_grid_values_are_the_nearest_decimals():
    assert ceil_to(0.3, 0.1) == 0.3 != 3 * 0.1
    assert floor_to(100.04, 0.1) == 100.0
    assert ceil_to(7.1, 2.5) == 7.5
