"""The factorised path: for product grids, what ``kernel.sweep`` computes, by composing trades instead of passing rows.

Sizes do not depend on the account, so what happens after an entry depends on its row, its side and the exit parameters
alone. For every candidate entry (a row and side that any entry setting wants) the outcome under every exit setting is
found once (``factorised_outcomes``); a config is then a walk from trade to trade (``factorised_walks``). Work grows
with entries times exits and with trades, not with configs times rows.

A strategy takes part by naming its ``EXIT_PARAMS``: they never change the side, and the others never change the exit
plan of a row and side. Counts equal the fused kernel's. Money differs in
the last digits, because a trade's path is summed on its own and not on top of the equity before it.
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from numba import prange

from research.daily_loss import require_uncoupled
from research.factorised_outcomes import OUTCOME, find_outcomes, new_work
from research.factorised_walks import first_wanted, standing_start, walk
from research.fills import Market, Terms, decision_price, entry_price, entry_quantity, exit_levels, size_multiple
from research.jit import njit
from research.kernel import STATS, quiet_rows, row_range, sweep_inputs
from research.liquidation import with_liquidation
from research.resting_bars import require_taking
from research.sizing import unscaled
from research.strategies.compiled import decide, params_at, row_at

# What stays in memory at a time: sides of entry settings x rows, outcomes of exit settings x candidates.
_WANTED_BYTES = 64 * 2**20
_ROWS_PER_CHUNK = 65_536
_CANDIDATES_PER_CHUNK = 4_000  # no power of two: one entry's outcomes would share the same few cache lines
_EXITS_PER_CHUNK = 512
_CANDIDATES_PER_TASK = 16


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
    template = module.Params(*entries[0].tolist())
    quiet = quiet_rows(market)
    entry_fields = np.flatnonzero(~is_exit)
    room = np.empty(min(len(exits), _EXITS_PER_CHUNK) * _CANDIDATES_PER_CHUNK, OUTCOME)
    chunk_rows = min(_ROWS_PER_CHUNK, max(1, _WANTED_BYTES // len(entries)))
    for start in range(first, last, chunk_rows):
        end = min(start + chunk_rows, last)
        wanted = _wanted(template, entries, matrix, columns, market.can_enter, start, end)
        wanted_by = _wanted_by(wanted)
        rows, is_short = np.nonzero(wanted_by >= 0)
        chosen_by, rows, sides = wanted_by[rows, is_short], rows + start, 1 - 2 * is_short
        for some in range(0, rows.size, _CANDIDATES_PER_CHUNK):
            part = slice(some, some + _CANDIDATES_PER_CHUNK)
            following = first_wanted(wanted, rows[part], sides[part], start)
            first_candidate = np.searchsorted(rows[part], np.arange(start, end + 1)).astype(np.uint16)
            for low in range(0, len(exits), _EXITS_PER_CHUNK):
                settings = slice(low, low + _EXITS_PER_CHUNK)
                shape = len(exits[settings]), rows[part].size
                outcomes = room[: math.prod(shape)].reshape(shape)
                _outcomes(
                    template, entries, columns, exits[settings], entry_fields, matrix, market, multiples, *quiet, terms,
                    rows[part], sides[part], chosen_by[part], last, outcomes,
                )  # fmt: skip
                onward = first_candidate[np.minimum(outcomes["next_row"], end) - start]
                walk(outcomes, onward, following, first_candidate, start, config_at[settings], walks)


@njit(parallel=True)
def _wanted(template, entries, features, columns, can_enter, first, last):
    """Side each entry setting wants on each row: int8 of shape (n_entry_settings, last - first)."""
    wanted = np.zeros((entries.shape[0], last - first), np.int8)
    for entry in prange(entries.shape[0]):
        params = params_at(template, entries, entry)
        for i in range(first, last):
            if can_enter[i]:
                wanted[entry, i - first] = decide(row_at(params, features, columns[entry], i), 0, params).side
    return wanted


@njit
def _wanted_by(wanted):
    """An entry setting that wants a long, one that wants a short, on each row: (n_rows, 2); -1 where none does."""
    by = np.full((wanted.shape[1], 2), -1, np.int32)
    for entry in range(wanted.shape[0]):
        for i in range(wanted.shape[1]):
            if wanted[entry, i] != 0:
                side = 0 if wanted[entry, i] > 0 else 1
                if by[i, side] < 0:
                    by[i, side] = entry
    return by


@njit(parallel=True)
def _outcomes(
    template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms, rows,
    sides, chosen_by, last, outcomes,
):  # fmt: skip
    """Fill ``outcomes``, of shape (n_exit_settings, n_candidates): each candidate under every exit setting."""
    for task in prange((rows.size + _CANDIDATES_PER_TASK - 1) // _CANDIDATES_PER_TASK):
        start = task * _CANDIDATES_PER_TASK
        _outcomes_of_some(
            template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms,
            rows, sides, chosen_by, last, outcomes, start, min(start + _CANDIDATES_PER_TASK, rows.size),
        )  # fmt: skip


@njit(forceinline=False)
def _outcomes_of_some(
    template, entries, columns, exits, entry_fields, features, market, multiples, quiet_low, quiet_high, terms, rows,
    sides, chosen_by, last, outcomes, start, end,
):  # fmt: skip
    work, doubts = new_work(exits.shape[0]), [(0, 0, 0, 0)]
    plans, planned_for = exits.copy(), -1
    for candidate in range(start, end):
        row, side = rows[candidate], sides[candidate]
        if chosen_by[candidate] != planned_for:
            planned_for = chosen_by[candidate]
            _plan_for(plans, entries[planned_for], entry_fields)
        entry = entry_price(side, row, market, terms)
        for setting in range(exits.shape[0]):
            params = params_at(template, plans, setting)
            decision = decide(row_at(params, features, columns[planned_for], row), 0, params)
            multiple = size_multiple(side, row, multiples)
            quantity = entry_quantity(decision_price(side, row, market), decision, multiple, terms)
            work.quantities[setting] = 0.0 if math.isnan(entry) else quantity
            levels = exit_levels(side, entry, decision, terms.tick_size)
            levels = with_liquidation(levels, side, entry, quantity, terms)
            for k in range(6):
                work.levels[k, setting] = levels[k]
        find_outcomes(
            side, entry, row, last, market, quiet_low, quiet_high, terms, work, doubts, outcomes[:, candidate]
        )


@njit(forceinline=False)
def _plan_for(plans, entry, entry_fields):
    """Give every exit setting the entry parameters of one entry setting."""
    for setting in range(plans.shape[0]):
        for k in entry_fields:
            plans[setting, k] = entry[k]
