"""Searches beyond the grid: which configs are drawn from ranges and lists, and which of them are neighbours.

Every method places its configs in the unit cube, an axis per parameter that varies; an axis knows which value a place
stands for. So steps, logarithms and lists are known here alone, and the distance of two configs is that in the cube.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

BATCH = 32  # configs that an optimiser is asked for at a time, whoever evaluates them
MIN_CONFIGS = 16
MAX_OPTUNA_CONFIGS = 4_096  # beyond, proposing a config takes far longer than evaluating it


@dataclass(frozen=True, kw_only=True)
class Range:
    """Values from ``low`` to ``high``, both included.

    Parameters
    ----------
    step : between neighbouring values, counted from ``low``; every value in between where not given.
    log : a ratio is as likely wherever it lies: as many values from 1 to 10 as from 10 to 100.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"low {self.low:g} is not under high {self.high:g}: the range is empty; a fixed parameter is a list of "
                "one value in [grid]"
            )
        if self.log and self.low <= 0.0:
            raise ValueError(f"low {self.low:g} has no logarithm: raise it above 0, or leave log out")
        if self.step is None:
            return
        if self.step <= 0.0:
            raise ValueError(f"step {self.step:g} leads nowhere: make it greater than 0, or leave it out")
        steps = (self.high - self.low) / self.step
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"step {self.step:g} does not lead from low {self.low:g} to high {self.high:g}; "
                f"the last value it reaches is {self.low + math.floor(steps) * self.step:g}"
            )

    @property
    def count(self) -> float:
        """How many values there are; infinite without a step."""
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    def values_at(self, places: np.ndarray) -> np.ndarray:
        """The values at places of the unit interval."""
        if self.log:
            values = self.low * (self.high / self.low) ** places
        else:
            values = self.low + (self.high - self.low) * places
        if self.step is None:
            return np.clip(values, self.low, self.high)
        if self.log:
            steps = np.rint((values - self.low) / self.step)
        else:
            steps = np.minimum(np.floor(places * self.count), self.count - 1)  # each value as likely as any
        return np.round(self.low + steps * self.step, 12)

    def places_of(self, values: np.ndarray) -> np.ndarray:
        """Where values lie in the unit interval."""
        if self.log:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)


Axis = Range | tuple[float, ...]  # a range, or the values of a list


@dataclass(frozen=True, kw_only=True)
class Search:
    """How configs are chosen from what the parameters may be. A grid is every combination of its lists.

    Parameters
    ----------
    configs : how many are drawn; Optuna looks at so many for every fold of every symbol.
    ranges : of the parameters that ``[grid]`` gives no list.
    """

    method: Literal["grid", "random", "sobol", "optuna"] = "grid"
    configs: int = 0
    seed: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method == "grid":
            if self.configs or self.ranges:
                raise ValueError(
                    "a grid is every combination of the lists in [grid]: leave configs and ranges out, or set method "
                    "to random, sobol or optuna"
                )
            return
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative: any whole number from 0 on will do")
        least = 2 * BATCH if self.method == "optuna" else MIN_CONFIGS
        if self.configs < least:
            raise ValueError(f"configs {self.configs} is too small for {self.method}: ask for at least {least}")
        if self.method == "optuna" and self.configs > MAX_OPTUNA_CONFIGS:
            raise ValueError(
                f"configs {self.configs} is over {MAX_OPTUNA_CONFIGS}: Optuna would take longer to choose them than "
                "they take to evaluate; ask for fewer, or set method to sobol"
            )
        if self.method == "sobol" and self.configs & (self.configs - 1):
            power = self.configs.bit_length()
            raise ValueError(
                f"configs {self.configs} is no power of two, and Sobol's points are even only then; "
                f"ask for {2 ** (power - 1)} or {2**power}"
            )


def varies(axis: Axis) -> bool:
    """True when an axis has more than one value."""
    return isinstance(axis, Range) or len(axis) > 1


def combinations(axes: Sequence[Axis]) -> float:
    """How many configs there are; infinite where a range has no step."""
    return math.prod(axis.count if isinstance(axis, Range) else len(axis) for axis in axes)


def draw(search: Search, axes: Sequence[Axis]) -> np.ndarray:
    """The configs of a random or Sobol search: float64 of shape (n_configs, n_axes).

    What is drawn twice, as steps and lists allow, is there once: there may be fewer than were asked for.
    """
    n_axes = sum(map(varies, axes))
    if search.method == "sobol":
        from scipy.stats import qmc  # takes a second to import: only when it is needed

        points = qmc.Sobol(n_axes, rng=search.seed).random(search.configs)
    else:
        points = np.random.default_rng(search.seed).random((search.configs, n_axes))
    table = table_at(axes, points)
    _, first = np.unique(table, axis=0, return_index=True)
    return table[np.sort(first)]


def table_at(axes: Sequence[Axis], points: np.ndarray) -> np.ndarray:
    """The configs at points of the unit cube, a row per point and a column per axis.

    Parameters
    ----------
    points : float64, shape (n_points, n_varying_axes), 0 to 1.
    """
    columns = iter(points.T)
    return np.column_stack(
        [_values_at(axis, next(columns)) if varies(axis) else np.full(len(points), axis[0]) for axis in axes]
    )


def nearest(axes: Sequence[Axis], table: np.ndarray) -> np.ndarray:
    """Numbers of every config and its nearest: as many as a grid has neighbours, two per parameter that varies.

    Returns
    -------
    int64, shape (n_configs, 1 + 2 n_varying_axes); fewer columns where there are fewer configs.
    """
    from scipy.spatial import cKDTree

    varying = [k for k, axis in enumerate(axes) if varies(axis)]
    places = np.column_stack([_places_of(axes[k], table[:, k]) for k in varying])
    n_near = min(1 + 2 * len(varying), len(table))
    return cKDTree(places).query(places, k=np.arange(1, n_near + 1), workers=-1)[1]


def _values_at(axis: Axis, places: np.ndarray) -> np.ndarray:
    if isinstance(axis, Range):
        return axis.values_at(places)
    return np.array(axis)[np.minimum((places * len(axis)).astype(np.int64), len(axis) - 1)]


def _places_of(axis: Axis, values: np.ndarray) -> np.ndarray:
    if isinstance(axis, Range):
        return axis.places_of(values)
    return np.searchsorted(np.sort(axis), values) / (len(axis) - 1)
