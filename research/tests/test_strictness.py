from types import SimpleNamespace

import numpy as np

from research.strategies import liquidation_fade
from research.strictness import is_ordered, likeness, loosest_of


def test_the_loosest_of_a_block_is_as_loose_as_any_of_it_in_everything():
    fields = liquidation_fade.Params._fields
    table = np.tile(np.arange(1.0, len(fields) + 1), (5, 1))
    table[:, fields.index("min_usdt")] = [3.0, 2.0, 9.0, 7.0, 8.0]
    table[:, fields.index("max_spread_ticks")] = [1.0, 2.0, 4.0, 5.0, 6.0]
    loosest = loosest_of(liquidation_fade, table, np.array([0, 2, 5]))
    assert loosest[:, fields.index("min_usdt")].tolist() == [2.0, 7.0]
    assert loosest[:, fields.index("max_spread_ticks")].tolist() == [2.0, 6.0]
    others = [k for k, name in enumerate(fields) if name not in ("min_usdt", "max_spread_ticks")]
    np.testing.assert_array_equal(loosest[:, others], table[:2, others])


def test_of_a_strategy_that_names_nothing_none_is_known():
    nameless, table = SimpleNamespace(Params=liquidation_fade.Params), np.arange(32.0).reshape(4, 8)
    assert loosest_of(nameless, table, np.array([0, 4])).shape == (0, 8)
    assert likeness(nameless, table).tolist() == [0, 0, 0, 0]
    assert is_ordered(liquidation_fade) and not is_ordered(nameless)


def test_beside_each_other_are_those_that_are_alike_in_everything():
    """Two parameters of four values each: quarters of quarters, and what never differs is left out."""
    fields = liquidation_fade.Params._fields
    table = np.ones((16, len(fields)))
    table[:, fields.index("min_usdt")] = np.repeat([1.0, 2.0, 3.0, 4.0], 4)
    table[:, fields.index("max_spread_ticks")] = np.tile([1.0, 2.0, 3.0, 4.0], 4)
    along = np.argsort(likeness(liquidation_fade, table))
    assert along.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert len(np.unique(likeness(liquidation_fade, table))) == 16
