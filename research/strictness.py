"""Which config of many enters wherever any of them does: rows on which it stays out need not be shown to the others.

A strategy takes part by naming what makes it ``STRICTER``: raising such a parameter (1) or lowering it (-1) never adds
an entry and never turns one.
"""

from types import ModuleType

import numpy as np

_HALVINGS = 5  # of every parameter: 32 parts


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


def is_ordered(module: ModuleType) -> bool:
    """Whether the strategy says what makes it stricter."""
    return bool(getattr(module, "STRICTER", {}))


def likeness(module: ModuleType, table: np.ndarray) -> np.ndarray:
    """A number per config: of configs in its order those beside each other are about as strict in everything.

    Places along a Z-order curve through the ranks of what is ``STRICTER``: halves of the first, then of the second, and
    so on, then quarters. The same for all where the strategy names nothing.

    Parameters
    ----------
    table : float64, shape (n_configs, n_params)

    Returns
    -------
    int64, shape (n_configs,)
    """
    parts = []
    for name in getattr(module, "STRICTER", {}):
        values = table[:, module.Params._fields.index(name)]
        if (values != values[0]).any():
            edges = np.sort(values)[np.arange(1, 1 << _HALVINGS) * len(values) >> _HALVINGS]
            parts.append(np.searchsorted(edges, values, side="right"))
    place = np.zeros(len(table), np.int64)
    for bit in range(_HALVINGS - 1, -1, -1):
        for part in parts:
            place = place << 1 | part >> bit & 1
    return place
