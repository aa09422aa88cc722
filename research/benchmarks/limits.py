"""How far the paths of a sweep are from what the machine could do, in bytes per config-bar.

There are no counters of instructions here, so each path is held against what it cannot avoid: the bytes that it must
read and write for a config-bar, and how fast this machine moves bytes of as large a working set, measured in the same
run. What a path takes longer than that is instructions, most of them waiting for the one before.
"""

import time
from typing import NamedTuple

import numpy as np
from numba import prange

from data.benchmarks.figures import figure
from research.jit import njit
from research.outcomes import OUTCOME

_FLAT_BYTES = 4 * 8 + 1  # return, volatility, volume and its mean; whether the row can be entered
_HELD_BYTES = 3 * 8  # lowest and highest price, close
_REPEATS = 20
_PASSES = 64


class Path(NamedTuple):
    """One path of the sweep.

    Attributes
    ----------
    measured : configs, config_bars, seconds, exposure (fraction of the config-bars in a position) and trades.
    closes : what would bring it nearer to the limit.
    """

    name: str
    measured: dict
    bytes_per_config_bar: float
    closes: str


def fused(measured: dict) -> Path:
    """Every config reads every row: what a decision looks at while flat, what an exit looks at in a position."""
    moved = measured["exposure"] * _HELD_BYTES + (1.0 - measured["exposure"]) * _FLAT_BYTES
    return Path("fused kernel", measured, moved, "deciding on several rows at once, in vector instructions")


def listed(measured: dict, block: int) -> Path:
    """A block of configs reads a row once between them, and every trade looks one outcome up."""
    moved = _FLAT_BYTES / block + _trades_bytes(measured)
    return Path(
        "arbitrary list", measured, moved,
        "placing and following the exit orders of several entries of a row at once, in vector instructions",
    )  # fmt: skip


def factorised(measured: dict, n_entry_settings: int) -> Path:
    """Every entry setting reads every row once, and every trade looks one outcome up."""
    moved = n_entry_settings * _FLAT_BYTES / measured["configs"] + _trades_bytes(measured)
    return Path(
        "factorised product", measured, moved,
        "outcomes in fewer bytes, so that more of them stay in the cache while configs walk over them",
    )  # fmt: skip


def _trades_bytes(measured: dict) -> float:
    return measured["trades"] * OUTCOME.itemsize / measured["config_bars"]


def limit_figures(paths: list[Path], bytes_per_second: float) -> list[dict]:
    """Per path the bytes a config-bar must move, beside those that could be moved in the time it takes."""
    figures = [figure("bytes this machine reads, all cores, of one feature over all rows", bytes_per_second, "B/s")]
    for path in paths:
        in_the_time = bytes_per_second * path.measured["seconds"] / path.measured["config_bars"]
        figures.append(
            figure(
                f"bytes that a config-bar of the {path.name} must move; nearer to the limit by {path.closes}",
                path.bytes_per_config_bar,
                "B/config-bar",
                baseline="bytes that could be moved in the time it takes",
                baseline_value=in_the_time,
            )
        )
    return figures


def bytes_per_second(n_rows: int) -> float:
    """How fast all cores together read a column of so many rows again and again, as a sweep does."""
    column = np.ones(n_rows)
    _read(column, _PASSES)
    shortest = np.inf
    for _ in range(_REPEATS):
        start = time.perf_counter()
        _read(column, _PASSES)
        shortest = min(shortest, time.perf_counter() - start)
    return _PASSES * column.nbytes / shortest


@njit(parallel=True, fastmath=True)  # sums in any order, as many at a time as there is room for
def _read(column, passes):
    totals = np.empty(passes)
    for k in prange(passes):
        total = float(k)
        for i in range(column.size):
            total += column[i]
        totals[k] = total
    return totals
