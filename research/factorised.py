"""The factorised path: for product grids, what ``kernel.sweep`` computes, by composing trades instead of passing rows.

Sizes do not depend on the account, so what happens after an entry depends on its row, its side and the exit parameters
alone. For every candidate entry (a row and side that any entry setting wants) the outcome under every exit setting is
found once (``factorised_outcomes``); a config is then a walk from trade to trade (``factorised_walks``). Work grows
with entries times exits and with trades, not with configs times rows.

A strategy takes part by naming its ``EXIT_PARAMS``: they never change the side, and the others never change the exit
plan of a row and side. Rows on which not even the loosest entry setting enters are asked about once
(``research.strictness``). Counts equal the fused kernel's. Money differs in the last digits, because a trade's path is
summed on its own and not on top of the equity before it.
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from numba import prange

from research.daily_loss import require_uncoupled
from research.factorised_outcomes import find_outcomes, miss_all, new_work
from research.factorised_plans import ask, new_plans, place, tell_apart
from research.factorised_walks import first_wanted, standing_start, walk
from research.fills import Market, Terms, decision_price, entry_price, size_multiple
from research.jit import njit, njit_uncounted
from research.kernel import STATS, quiet_rows, row_range, sweep_inputs
from research.outcomes import OUTCOME
from research.resting_bars import require_taking
from research.sizing import unscaled
from research.strategies.compiled import decide, params_at, row_at
from research.strictness import loosest_of

# What stays in memory at a time: sides of entry settings x rows, outcomes of exit settings x candidates.
_WANTED_BYTES = 64 * 2**20
_ROWS_PER_CHUNK = 65_536
_CANDIDATES_PER_CHUNK = 4_000  # no power of two: one entry's outcomes would share the same few cache lines
_EXITS_PER_CHUNK = 512
_CANDIDATES_PER_TASK = 64
_ROWS_PER_TASK = 256
_NOBODY = -1


def is_split(module: ModuleType) -> bool:
    """True when the strategy names its exit parameters."""
    return hasattr(module, "EXIT_PARAMS")


def sweep(
    module: ModuleType,
    market: Market,
    features: Mapping[str, np.ndarray],
    grid: Mapping[str, Sequence[float]],
    terms: Terms,
    first: int = 0,
    last: int | None = None,
    *,
    multiples: np.ndarray | None = None,
    first_config: int = 0,
    last_config: int | None = None,
) -> dict[str, np.ndarray]:
    """Statistics over rows [first, last) of configs [first_config, last_config) of a product grid.

    Parameters
    ----------
    grid : values per field of ``module.Params``; configs are numbered with the last field fastest.
    multiples : ``sizing.size_multiples``; one everywhere where not given.

    Returns
    -------
    float64, shape (n_configs,), per name in ``kernel.STATS``
        Counts equal ``kernel.sweep``'s, money agrees to rounding.

    Raises
    ------
    ValueError
        When a day's loss bars entries: then a trade depends on those before it. When entries rest.
    """
    require_uncoupled(terms)
    require_taking(terms)
    first, last = row_range(market, first, last)
    values = [np.array(grid[name], np.float64) for name in module.Params._fields]
    shape = tuple(column.size for column in values)
    last_config = math.prod(shape) if last_config is None else last_config
    places = np.unravel_index(np.arange(first_config, last_config), shape)
    is_exit = np.isin(module.Params._fields, module.EXIT_PARAMS)
    entry_of, entries = _settings(places, values, ~is_exit)
    exit_of, exits = _settings(places, values, is_exit)
    config_at = np.full((len(exits), len(entries)), -1, np.int64)
    config_at[exit_of, entry_of] = np.arange(entry_of.size)
    walks = standing_start(entry_of.size, first)
    multiples = unscaled(market.close.size) if multiples is None else multiples
    _sweep_product(module, market, features, entries, exits, is_exit, multiples, terms, first, last, config_at, walks)
    return {name: walks[name].copy() for name in STATS}


def _settings(places: Sequence[np.ndarray], values: Sequence[np.ndarray], which: np.ndarray):
    """The distinct combinations of some parameters: which of them each config has, and a table (setting, parameter).

    In the table, parameters that are not asked about have the first of their values.
    """
    chosen = [k for k in range(len(values)) if which[k]]
    code = np.zeros(len(places[0]), np.int64)
    for k in chosen:
        code = code * values[k].size + places[k]
    present = np.zeros(math.prod(values[k].size for k in chosen), np.bool_)
    present[code] = True
    setting_of = (np.cumsum(present) - 1)[code]
    table = np.tile([column[0] for column in values], (np.count_nonzero(present), 1))
    example = np.empty(len(table), np.int64)
    example[setting_of] = np.arange(code.size)
    for k in chosen:
        table[:, k] = values[k][places[k][example]]
    return setting_of, table


def _sweep_product(
    module, market, features, entries, exits, is_exit, multiples, terms, first, last, config_at, walks
) -> None:
    """Walk the configs of one product of entry and exit settings, a piece of time after another."""
    entries, matrix, columns = sweep_inputs(module, features, entries)
    order, edges = _by_features(columns)
    entries, columns, config_at = entries[order], columns[order], np.take(config_at, order, axis=1)
    loosest = loosest_of(module, entries, edges)
    template = module.Params(*entries[0].tolist())
    quiet = quiet_rows(market)
    entry_fields = np.flatnonzero(~is_exit)
    room = min(2 * (last - first), _CANDIDATES_PER_CHUNK) * min(len(exits), _EXITS_PER_CHUNK)
    outcomes = np.empty(room, OUTCOME)
    chunk_rows = min(_ROWS_PER_CHUNK, max(1, _WANTED_BYTES // len(entries)))
    for start in range(first, last, chunk_rows):
        end = min(start + chunk_rows, last)
        wanted, wanted_by = _wanted(template, entries, loosest, matrix, columns, edges, market.can_enter, start, end)
        is_candidate = wanted_by != _NOBODY
        rows, is_short = np.nonzero(is_candidate)
        chosen_by, rows, sides = wanted_by[rows, is_short], rows + start, 1 - 2 * is_short
        candidates_before = np.append(0, np.cumsum(is_candidate.sum(axis=1)))
        for some in range(0, rows.size, _CANDIDATES_PER_CHUNK):
            part = slice(some, some + _CANDIDATES_PER_CHUNK)
            following = first_wanted(wanted, rows[part], sides[part], start)
            first_candidate = np.clip(candidates_before - some, 0, rows[part].size).astype(np.uint16)
            for low in range(0, len(exits), _EXITS_PER_CHUNK):
                settings = slice(low, low + _EXITS_PER_CHUNK)
                which, onward = _outcomes(
                    template, entries, columns, exits[settings], entry_fields, matrix, market, multiples, *quiet, terms,
                    rows[part], sides[part], chosen_by[part], first_candidate, start, last, outcomes,
                )  # fmt: skip
                walk(outcomes, which, onward, following, first_candidate, start, config_at[settings], walks)


def _by_features(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the entry settings in which those that look at the same features stand together, and the edges."""
    _, features_of, counts = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    return np.argsort(features_of.ravel(), kind="stable"), np.append(0, np.cumsum(counts))


@njit(parallel=True)
def _wanted(template, entries, loosest, features, columns, edges, can_enter, first, last):
    """Side that each entry setting wants on each row, and who wants a long and a short there.

    Returns
    -------
    int8, shape (n_entry_settings, last - first), and int32, shape (last - first, 2): an entry setting, or _NOBODY.
    """
    wanted = np.zeros((entries.shape[0], last - first), np.int8)
    wanted_by = np.full((last - first, 2), _NOBODY, np.int32)
    for task in prange((last - first + _ROWS_PER_TASK - 1) // _ROWS_PER_TASK):
        start = first + task * _ROWS_PER_TASK
        for k in range(edges.size - 1):
            _ask_entries(
                template, entries, loosest, features, columns[edges[k]], edges[k], edges[k + 1], k, can_enter, first,
                start, min(start + _ROWS_PER_TASK, last), wanted, wanted_by,
            )  # fmt: skip
    return wanted, wanted_by


@njit_uncounted(forceinline=False)
def _ask_entries(
    template, entries, loosest, features, columns, first_entry, last_entry, block, can_enter, first, start, end, wanted,
    wanted_by,
):  # fmt: skip
    """Ask the entry settings of one block about some rows; not about those on which not even the loosest enters."""
    is_ordered = loosest.shape[0] > 0
    example = params_at(template, loosest, block) if is_ordered else template
    for i in range(start, end):
        row = row_at(template, features, columns, i)
        if not can_enter[i] or (is_ordered and decide(row, 0, example).side == 0):
            continue
        for entry in range(first_entry, last_entry):
            side = decide(row, 0, params_at(template, entries, entry)).side
            if side != 0:
                wanted[entry, i - first] = side
                by = 0 if side > 0 else 1
                if wanted_by[i - first, by] == _NOBODY:
                    wanted_by[i - first, by] = entry


@njit(parallel=True)
def _outcomes(
    template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms, rows,
    sides, chosen_by, first_candidate, first_row, last, outcomes,
):  # fmt: skip
    """Fill ``outcomes`` with what becomes of each candidate under the exit settings.

    Returns
    -------
    int32 and uint16 of shape (n_exit_settings, n_candidates): the place in ``outcomes``, and the first candidate that
    may enter after it.
    """
    n_exits, n_candidates = exits.shape[0], rows.size
    which = np.empty((n_exits, n_candidates), np.int32)
    onward = np.empty((n_exits, n_candidates), np.uint16)
    for task in prange((n_candidates + _CANDIDATES_PER_TASK - 1) // _CANDIDATES_PER_TASK):
        start = task * _CANDIDATES_PER_TASK
        _outcomes_of_some(
            template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms,
            rows, sides, chosen_by, first_candidate, first_row, last, outcomes, which, onward, start,
            min(start + _CANDIDATES_PER_TASK, n_candidates),
        )  # fmt: skip
    return which, onward


@njit(forceinline=False)
def _outcomes_of_some(
    template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms, rows,
    sides, chosen_by, first_candidate, first_row, last, outcomes, which, onward, start, end,
):  # fmt: skip
    n_exits = exits.shape[0]
    plans, work = new_plans(n_exits), new_work(n_exits)
    table, planned_for = exits.copy(), _NOBODY
    written = start * n_exits
    for candidate in range(start, end):
        row, side = rows[candidate], sides[candidate]
        if chosen_by[candidate] != planned_for:
            planned_for = chosen_by[candidate]
            _plan_for(table, entries[planned_for], entry_fields)
        features_of_row = row_at(template, features, columns[planned_for], row)
        is_other = candidate == start
        for setting in range(n_exits):
            is_other |= ask(plans, setting, decide(features_of_row, 0, params_at(template, table, setting)))
        if is_other:
            tell_apart(plans)
        entry, multiple = entry_price(side, row, market, terms), size_multiple(side, row, multiples)
        if place(plans, side, entry, decision_price(side, row, market), multiple, terms):
            written = find_outcomes(
                side, entry, row, last, market, quiet_low, quiet_high, terms, plans, work, outcomes, written, candidate,
                which,
            )  # fmt: skip
        else:
            written = miss_all(row, outcomes, written, candidate, which)
        for setting in range(n_exits):
            next_row = outcomes[which[setting, candidate]].next_row
            onward[setting, candidate] = first_candidate[min(next_row - first_row, first_candidate.size - 1)]


@njit_uncounted(forceinline=False)
def _plan_for(table, entry, entry_fields):
    """Give every exit setting the entry parameters of one entry setting."""
    for setting in range(table.shape[0]):
        for k in entry_fields:
            table[setting, k] = entry[k]
