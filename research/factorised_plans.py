"""The exit orders that all exit settings ask of one entry, each different order once.

Settings of a product share their orders: 81 of them have three stops, three targets, three activations and three
callbacks. So an order is placed and watched once, and a setting is five numbers: which order of each kind is its own.
Strategies mostly ask of an entry what they asked of the one before, and then only the levels are new.
"""

import math
from typing import NamedTuple

import numpy as np

from research.fills import Decision, Levels, entry_quantity, exit_levels
from research.jit import njit, njit_uncounted
from research.liquidation import liquidation_price, with_liquidation

# Kinds of orders, in the order of ``fills.Levels``; of a decision their distances, then what stands in for two of them.
STOP, TARGET, ACTIVATION, CALLBACK, LIQUIDATION = range(5)
_N_ASKED = 6
_FIRST_PRICE = 4


class Plans(NamedTuple):
    """What is asked of one entry, filled anew for the next. Orders of a kind are numbered, the nearest first."""

    asked: np.ndarray  # (6, n_exit_settings): ``fills.Decision`` of each setting without its side
    number: np.ndarray  # int32, (5, n_exit_settings): which order of each kind a setting has
    example: np.ndarray  # (5, n_exit_settings): a setting that has this order
    n_orders: np.ndarray  # (5,)
    levels: np.ndarray  # (5, n_exit_settings): price or callback of each order; NaN, which never triggers, last
    quantities: np.ndarray  # (n_exit_settings,): of an entry with this stop, 0 where it is missed
    renumbered: np.ndarray  # (n_exit_settings,)


@njit(forceinline=False)
def new_plans(n_exits: int) -> Plans:
    """Room for what so many exit settings ask."""
    return Plans(
        np.empty((_N_ASKED, n_exits)),
        np.empty((5, n_exits), np.int32),
        np.empty((5, n_exits), np.int64),
        np.zeros(5, np.int64),
        np.empty((5, n_exits)),
        np.empty(n_exits),
        np.empty(n_exits, np.int32),
    )


@njit_uncounted
def _is_other(one: float, two: float) -> bool:
    """Two NaN are the same: no such order."""
    return (one != two) & ((one == one) | (two == two))


@njit_uncounted
def ask(plans: Plans, setting: int, decision: Decision) -> bool:
    """Note the orders of one setting; True where they are others than those of the entry before."""
    asked = (
        decision.stop_bps, decision.target_bps, decision.activation_bps, decision.callback_bps,
        decision.stop_price, decision.target_price,
    )  # fmt: skip
    is_other = False
    for k in range(_N_ASKED):
        is_other |= _is_other(plans.asked[k, setting], asked[k])
        plans.asked[k, setting] = asked[k]
    return is_other


@njit_uncounted
def _is_same_order(asked: np.ndarray, kind: int, one: int, two: int) -> bool:
    """Whether two settings ask for the same order of a kind."""
    price = _FIRST_PRICE + kind if kind <= TARGET else kind
    return not (_is_other(asked[kind, one], asked[kind, two]) | _is_other(asked[price, one], asked[price, two]))


@njit_uncounted(forceinline=False)
def tell_apart(plans: Plans) -> None:
    """Number the different orders in what is asked."""
    for kind in range(LIQUIDATION):
        n_orders = 0
        for setting in range(plans.number.shape[1]):
            k = 0
            while k < n_orders and not _is_same_order(plans.asked, kind, plans.example[kind, k], setting):
                k += 1
            if k == n_orders:
                plans.example[kind, k] = setting
                n_orders += 1
            plans.number[kind, setting] = k
        plans.n_orders[kind] = n_orders
    # Where a position is liquidated depends on its size, and that on the stop alone.
    plans.n_orders[LIQUIDATION] = plans.n_orders[STOP]
    for k in range(plans.n_orders[STOP]):
        plans.example[LIQUIDATION, k] = plans.example[STOP, k]
    for setting in range(plans.number.shape[1]):
        plans.number[LIQUIDATION, setting] = plans.number[STOP, setting]


@njit_uncounted(forceinline=False)
def place(plans: Plans, side: int, entry: float, price: float, multiple: float, terms) -> bool:
    """Size an entry and place its orders; returns whether any setting enters.

    Parameters
    ----------
    entry : fill price, NaN where the entry is missed.
    price, multiple : as ``fills.entry_quantity`` takes them.
    """
    for kind in range(LIQUIDATION):
        for k in range(plans.n_orders[kind]):
            decision = _decision(plans, side, plans.example[kind, k])
            placed = exit_levels(side, entry, decision, terms.tick_size)
            levels = (placed.stop, placed.target, placed.activation, placed.callback_bps)
            plans.levels[kind, k] = levels[kind]
    _number_by_distance(plans, STOP, -side)
    _number_by_distance(plans, TARGET, side)
    _number_by_distance(plans, ACTIVATION, side)
    _number_by_distance(plans, CALLBACK, 1)
    is_entered = False
    for k in range(plans.n_orders[STOP]):
        quantity = entry_quantity(price, _decision(plans, side, plans.example[STOP, k]), multiple, terms)
        plans.quantities[k] = 0.0 if math.isnan(entry) else quantity
        is_entered |= plans.quantities[k] > 0.0
    for k in range(plans.n_orders[LIQUIDATION]):
        quantity = plans.quantities[plans.number[STOP, plans.example[LIQUIDATION, k]]]
        plans.levels[LIQUIDATION, k] = liquidation_price(side, entry, quantity, terms)
    _number_by_distance(plans, LIQUIDATION, -side)
    return is_entered


@njit_uncounted
def _decision(plans: Plans, side: int, setting: int) -> Decision:
    asked = plans.asked
    return Decision(
        side, asked[0, setting], asked[1, setting], asked[2, setting], asked[3, setting], asked[4, setting],
        asked[5, setting],
    )  # fmt: skip


@njit_uncounted
def _distance(level: float, direction: int) -> float:
    return math.inf if math.isnan(level) else direction * level


@njit_uncounted
def _number_by_distance(plans: Plans, kind: int, direction: int) -> None:
    """Let the numbers of one kind rise with the distance of its orders; they mostly do.

    ``direction`` is 1 where small levels are near, -1 where large ones are.
    """
    levels = plans.levels[kind]
    for k in range(1, plans.n_orders[kind]):
        if _distance(levels[k - 1], direction) > _distance(levels[k], direction):
            _renumber(plans, kind, direction)
            return


@njit_uncounted(forceinline=False)
def _renumber(plans: Plans, kind: int, direction: int) -> None:
    n_orders, levels, example = plans.n_orders[kind], plans.levels[kind], plans.example[kind]
    for k in range(1, n_orders):
        level, setting, at = levels[k], example[k], k
        while at > 0 and _distance(levels[at - 1], direction) > _distance(level, direction):
            levels[at], example[at] = levels[at - 1], example[at - 1]
            at -= 1
        levels[at], example[at] = level, setting
    for k in range(n_orders):
        plans.renumbered[plans.number[kind, example[k]]] = k
    for setting in range(plans.number.shape[1]):
        plans.number[kind, setting] = plans.renumbered[plans.number[kind, setting]]


@njit_uncounted
def levels_of(plans: Plans, setting: int, side: int, entry: float, terms) -> Levels:
    """The exit orders of one setting, and where the exchange ends it."""
    number, levels = plans.number, plans.levels
    stop = number[STOP, setting]
    placed = Levels(
        levels[STOP, stop],
        levels[TARGET, number[TARGET, setting]],
        levels[ACTIVATION, number[ACTIVATION, setting]],
        levels[CALLBACK, number[CALLBACK, setting]],
    )
    return with_liquidation(placed, side, entry, plans.quantities[stop], terms)
