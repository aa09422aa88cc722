"""Which config of many enters wherever any of them does: rows on which it stays out need not be shown to the others.

A strategy takes part by naming what makes it ``STRICTER``: raising such a parameter (1) or lowering it (-1) never adds
an entry and never turns one.
"""

from types import ModuleType

import numpy as np


def loosest_of(module: ModuleType, table: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Per block of configs one that enters wherever one of the block does.

    Parameters
    ----------
    table : float64, shape (n_configs, n_params); configs of a block differ in what is ``STRICTER`` and in exits alone,
        or in nothing that the decision on a side looks at.
    edges : shape (n_blocks + 1,), where the blocks begin and the last one ends.

    Returns
    -------
    float64, shape (n_blocks, n_params); (0, n_params) where the strategy names nothing.
    """
    stricter = getattr(module, "STRICTER", {})
    if not stricter:
        return table[:0]
    loosest = table[edges[:-1]]
    for name, direction in stricter.items():
        k = module.Params._fields.index(name)
        loosest[:, k] = direction * np.minimum.reduceat(direction * table[:, k], edges[:-1])
    return loosest
