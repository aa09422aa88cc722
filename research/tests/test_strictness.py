from types import SimpleNamespace

import numpy as np

from research.strategies import liquidation_fade
from research.strictness import loosest_of


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
    assert loosest_of(SimpleNamespace(Params=liquidation_fade.Params), np.ones((4, 8)), np.array([0, 4])).shape == (
        0,
        8,
    )
