"""Many configs that are no product: what ``kernel.sweep`` computes, row by row and not config by config.

On every row of a block those that are flat are asked; what follows an entry is found once for all of them that enter
there (``research.entry_path``), so that a trade costs a look-up, however long it is held. Configs that look at the same
features are a set, those of it that are about as strict a leaf: where not even the loosest of a set would enter, or of
a leaf, no other is asked (``research.strictness``).

Counts equal the fused kernel's; money differs in the last digits, because a trade's path is summed on its own.
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from numba import get_num_threads, prange

from research.daily_loss import require_uncoupled
from research.entry_path import ENTRY, begin, find_touch, new_path, place_exits, place_of, seen_rows, settle, want
from research.factorised_walks import book, standing_start
from research.fills import Market, Terms
from research.jit import njit, njit_uncounted
from research.kernel import STATS, row_range, sweep_inputs
from research.outcomes import OUTCOME
from research.resting_bars import known_lives
from research.sizing import unscaled
from research.strategies.compiled import decide, params_at, row_at
from research.strictness import is_ordered, likeness, loosest_of

CONFIGS_PER_BLOCK = 4_096
CONFIGS_PER_LEAF = 32
_NOBODY = -1


def sweep(
    module: ModuleType,
    market: Market,
    features: Mapping[str, np.ndarray],
    configs: Sequence[tuple] | np.ndarray,
    terms: Terms,
    first: int = 0,
    last: int | None = None,
    *,
    multiples: np.ndarray | None = None,
    lives: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Statistics of every config over rows [first, last): float64 of shape (n_configs,) per name in ``kernel.STATS``.

    Parameters as for ``kernel.sweep``. Counts equal its, money agrees to rounding.

    Raises
    ------
    ValueError
        When a day's loss bars entries: then a trade depends on those before it.
    """
    require_uncoupled(terms)
    first, last = row_range(market, first, last)
    table, matrix, columns = sweep_inputs(module, features, configs)
    order, leaves, sets, blocks = _cut(module, table, columns)
    table, columns = table[order], columns[order][leaves[sets[:-1]]]
    walks = standing_start(len(table), first)
    multiples = unscaled(market.close.size) if multiples is None else multiples
    _sweep(
        module.Params(*table[0].tolist()), table, loosest_of(module, table, leaves),
        loosest_of(module, table, leaves[sets]), matrix, columns, leaves, sets, blocks, market, multiples,
        known_lives(terms, lives), seen_rows(market), terms, first, last, walks,
    )  # fmt: skip
    stats = {name: np.empty(len(table)) for name in STATS}
    for name, values in stats.items():
        values[order] = walks[name]
    return stats


def _cut(
    module: ModuleType, table: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """An order of the configs, and in it where the leaves begin, in those the sets, and in these the blocks; each time
    the end behind them.

    Neighbours are dealt to the threads in turn: each has as much to do as the others, with the same entries.
    """
    n_configs, n_threads = len(table), get_num_threads()
    differs = (columns != columns[0]).any(axis=0)
    order = np.lexsort([likeness(module, table), *columns[:, differs].T[::-1]])
    places, n_deals = np.arange(n_configs), math.ceil(n_configs / (n_threads * CONFIGS_PER_BLOCK))
    block = places % n_threads * n_deals + places * n_deals // n_configs  # a thread's blocks beside each other
    dealt = np.argsort(block, kind="stable")
    order, block = order[dealt], block[dealt]
    is_block = np.append(True, block[1:] != block[:-1])
    is_set = is_block | np.append(True, (columns[order][1:] != columns[order][:-1]).any(axis=1))
    is_leaf = is_set
    if is_ordered(module):
        starts = np.flatnonzero(is_set)
        is_leaf = (places - np.repeat(starts, np.diff(starts, append=n_configs))) % CONFIGS_PER_LEAF == 0
    leaves, sets, blocks = (np.append(np.flatnonzero(which), n_configs) for which in (is_leaf, is_set, is_block))
    return order, leaves, np.searchsorted(leaves, sets), np.searchsorted(sets, blocks)


@njit(parallel=True)
def _sweep(
    template, table, loosest, loosest_of_sets, features, columns, leaves, sets, blocks, market, multiples, lives, seen,
    terms, first, last, walks,
):  # fmt: skip
    for block in prange(blocks.size - 1):
        start, end = blocks[block], blocks[block + 1]
        own_sets = sets[start : end + 1]
        own_leaves = leaves[own_sets[0] : own_sets[-1] + 1]
        low, high = own_leaves[0], own_leaves[-1]
        _sweep_block(
            template, table[low:high], loosest[own_sets[0] :], loosest_of_sets[start:], features, columns[start:],
            own_leaves - low, own_sets - own_sets[0], market, multiples, lives, seen, terms, first, last,
            walks[low:high],
        )  # fmt: skip


@njit(forceinline=False)
def _sweep_block(
    template, table, loosest, loosest_of_sets, features, columns, leaves, sets, market, multiples, lives, seen, terms,
    first, last, walks,
):  # fmt: skip
    """Take the configs of one block over all rows together.

    Those that enter on a row take every step together, so that the processor works on one while it waits for another.
    """
    n_configs, n_leaves, has_rested = table.shape[0], leaves.size - 1, lives.shape[0] > 0
    path, wanted, outcomes = new_path(last - first), np.empty(n_configs, ENTRY), np.empty(n_configs, OUTCOME)
    # Of each leaf the configs that may enter are the first n_flat of its part of ``flat``. The others wait for a row:
    # of each row the first that does, and of each config the one that waits beside it.
    flat, n_flat, leaf_of = np.arange(n_configs), np.diff(leaves), np.empty(n_configs, np.int64)
    for leaf in range(n_leaves):
        leaf_of[leaves[leaf] : leaves[leaf + 1]] = leaf
    waits, beside = np.full(last - first, _NOBODY, np.int32), np.empty(n_configs, np.int32)
    for i in range(first, last):
        config = waits[i - first]
        while config != _NOBODY:
            leaf = leaf_of[config]
            flat[leaves[leaf] + n_flat[leaf]] = config
            n_flat[leaf] += 1
            config = beside[config]
        if not market.can_enter[i]:
            continue
        n_wanted = _ask(
            template, table, loosest, loosest_of_sets, features, columns, leaves, sets, flat, n_flat, i, wanted
        )
        begun = 0
        for k in range(n_wanted):
            s = place_of(wanted[k].side)
            if begun & (1 << s) == 0:
                begun |= 1 << s
                begin(path, wanted[k], i, last, market, multiples, lives, terms)
            place_exits(wanted[k], path, terms)
        for k in range(n_wanted):
            find_touch(wanted[k], path, last, market, seen, has_rested)
        for k in range(n_wanted):
            settle(wanted[k], outcomes[k], path, i, last, market, seen, terms, has_rested)
        for k in range(n_wanted):
            config, next_row = wanted[k].config, outcomes[k].next_row
            book(walks[config], outcomes[k])
            if next_row < last:
                beside[config] = waits[next_row - first]
                waits[next_row - first] = config


@njit_uncounted
def _ask(template, table, loosest, loosest_of_sets, features, columns, leaves, sets, flat, n_flat, i, wanted):
    """Ask the flat configs on a row. Those that want to enter are flat no more; returns how many they are."""
    n_wanted, has_loosest = 0, loosest.shape[0] > 0
    for each in range(sets.size - 1):
        row = row_at(template, features, columns[each], i)
        if has_loosest and decide(row, 0, params_at(template, loosest_of_sets, each)).side == 0:
            continue
        for leaf in range(sets[each], sets[each + 1]):
            if n_flat[leaf] == 0 or (has_loosest and decide(row, 0, params_at(template, loosest, leaf)).side == 0):
                continue
            start, n_still_flat = leaves[leaf], 0
            for k in range(start, start + n_flat[leaf]):
                config = flat[k]
                decision = decide(row, 0, params_at(template, table, config))
                if decision.side == 0:
                    flat[start + n_still_flat] = config
                    n_still_flat += 1
                else:
                    want(wanted[n_wanted], config, decision)
                    n_wanted += 1
            n_flat[leaf] = n_still_flat
    return n_wanted
