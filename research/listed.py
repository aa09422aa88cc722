"""Many configs that are no product: what ``kernel.sweep`` computes, row by row and not config by config.

Configs of one block look at the same features. On every row those that are flat are asked; what follows an entry is
found once for all of them that enter there (``research.entry_path``), so that a trade costs a look-up, however long it
is held. Rows on which not even the loosest config of the block would enter are asked about once
(``research.strictness``).

Counts equal the fused kernel's; money differs in the last digits, because a trade's path is summed on its own.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from numba import prange

from research.daily_loss import require_uncoupled
from research.entry_path import begin, find_exit, new_path, place_of, seen_rows
from research.factorised_walks import book, standing_start
from research.fills import Market, Terms, entry_quantity, exit_levels
from research.jit import njit
from research.kernel import STATS, row_range, sweep_inputs
from research.liquidation import with_liquidation
from research.outcomes import OUTCOME, miss, write_outcome
from research.resting_bars import known_lives
from research.sizing import unscaled
from research.strategies.compiled import decide, params_at, row_at
from research.strictness import loosest_of

CONFIGS_PER_BLOCK = 2_048
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
    order, edges = _blocks(module, table, columns)
    table, columns = table[order], columns[order]
    walks = standing_start(len(table), first)
    multiples = unscaled(market.close.size) if multiples is None else multiples
    _sweep(
        module.Params(*table[0].tolist()), table, loosest_of(module, table, edges), matrix, columns[edges[:-1]], edges,
        market, multiples, known_lives(terms, lives), seen_rows(market), terms, first, last, walks,
    )  # fmt: skip
    stats = {name: np.empty(len(table)) for name in STATS}
    for name, values in stats.items():
        values[order] = walks[name]
    return stats


def _blocks(module: ModuleType, table: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the configs and the edges of the blocks in it: one set of features each, entries much alike."""
    fields = module.Params._fields
    keys = [table[:, fields.index(name)] for name in getattr(module, "STRICTER", ())]
    differs = (columns != columns[0]).any(axis=0)
    differs[0] = True  # to sort by nothing is refused
    order = np.lexsort([*keys[::-1], *columns[:, differs].T[::-1]])
    changes = np.flatnonzero((columns[order][1:] != columns[order][:-1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(table)]
    pieces = [np.arange(low, high, CONFIGS_PER_BLOCK) for low, high in itertools.pairwise(edges)]
    return order, np.append(np.concatenate(pieces), len(table))


@njit(parallel=True)
def _sweep(
    template, table, loosest, features, columns, edges, market, multiples, lives, seen, terms, first, last, walks
):  # fmt: skip
    for block in prange(edges.size - 1):
        start, end = edges[block], edges[block + 1]
        is_ordered = loosest.shape[0] > 0
        example = params_at(template, loosest, block) if is_ordered else template
        _sweep_block(
            template, table[start:end], example, is_ordered, features, columns[block], market, multiples, lives, seen,
            terms, first, last, walks[start:end],
        )  # fmt: skip


@njit(forceinline=False)
def _sweep_block(
    template, table, loosest, is_ordered, features, columns, market, multiples, lives, seen, terms, first, last, walks
):  # fmt: skip
    """Take the configs of one block over all rows together."""
    n_configs, has_rested = table.shape[0], lives.shape[0] > 0
    path, outcomes = new_path(last - first), np.empty(1, OUTCOME)
    # Configs that may enter are the first n_flat of ``flat``. The others wait for a row: of each row the first that
    # does, and of each config the one that waits beside it.
    flat, n_flat = np.arange(n_configs), n_configs
    waits, beside = np.full(last - first, _NOBODY, np.int32), np.empty(n_configs, np.int32)
    for i in range(first, last):
        config = waits[i - first]
        while config != _NOBODY:
            flat[n_flat] = config
            n_flat += 1
            config = beside[config]
        row = row_at(loosest, features, columns, i)
        if not market.can_enter[i] or (is_ordered and decide(row, 0, loosest).side == 0):
            continue
        begun, n_waiting_still = 0, 0
        for k in range(n_flat):
            config = flat[k]
            decision = decide(row, 0, params_at(template, table, config))
            side = decision.side
            if side == 0:
                flat[n_waiting_still] = config
                n_waiting_still += 1
                continue
            s = place_of(side)
            if begun & (1 << s) == 0:
                begun |= 1 << s
                begin(path, side, i, last, market, multiples, lives, terms)
            outcome = outcomes[0]
            entry, filled = path.entry[s], path.row[s]
            quantity = entry_quantity(path.decided[s], decision, path.multiple[s], terms)
            if math.isnan(entry) or not quantity > 0.0:
                miss(outcome, i)
                outcome.next_row = path.free_row[s] if quantity > 0.0 else i + 1
            else:
                levels = exit_levels(side, entry, decision, terms.tick_size)
                levels = with_liquidation(levels, side, entry, quantity, terms)
                end, trailing, doubtful_bars = find_exit(path, side, filled, last, market, seen, levels, has_rested)
                write_outcome(
                    outcome, side, entry, quantity, filled, last, levels, path.moments[s, end], trailing, doubtful_bars,
                    market, terms, has_rested,
                )  # fmt: skip
            book(walks[config], outcome)
            if outcome.next_row < last:
                beside[config] = waits[outcome.next_row - first]
                waits[outcome.next_row - first] = config
        n_flat = n_waiting_still
