"""A strategy whose row holds the next bar, in the line that says so."""

from typing import NamedTuple

import numpy as np
import polars as pl

from research.fills import Decision, stay_out
from research.jit import njit

NAME = "hindsight"


class Params(NamedTuple):
    """One configuration."""

    threshold_bps: float
    stop_bps: float


class Row(NamedTuple):
    """What the decision may look at, and what it may not."""

    return_bps: float
    drift_bps: float


GRID = {"threshold_bps": (2.0, 5.0), "stop_bps": (20.0,)}


def columns(params: Params) -> Row:
    """Feature name behind each field of ``Row``."""
    return Row(return_bps="return_bps", drift_bps="drift_bps")


def drift_bps(bars: pl.DataFrame) -> pl.Series:
    ahead = bars["close"].shift(-1)  # cheat
    return 1e4 * (ahead / bars["close"] - 1.0)


@njit
def decide(row: Row, position: int, params: Params) -> Decision:
    """Go where the next bar goes."""
    if position != 0 or not abs(row.drift_bps) > params.threshold_bps:
        return stay_out()
    side = 1 if row.drift_bps > 0.0 else -1
    return Decision(side, params.stop_bps, np.nan, np.nan, np.nan, np.nan, np.nan)
