"""A strategy that remembers between decisions, in the line that says so."""

from typing import NamedTuple

import numpy as np

from research.fills import Decision, stay_out

NAME = "memory"
_SEEN = {"best": 0.0}


class Params(NamedTuple):
    """One configuration."""

    stop_bps: float


class Row(NamedTuple):
    """What the decision may look at."""

    close: float


GRID = {"stop_bps": (20.0,)}


def columns(params: Params) -> Row:
    """Feature name behind each field of ``Row``."""
    return Row(close="close")


def decide(row: Row, position: int, params: Params) -> Decision:
    """Buy above everything seen so far, in whatever run that was."""
    best = _SEEN["best"]  # cheat
    _SEEN["best"] = max(best, row.close)
    if position != 0 or not row.close > best:
        return stay_out()
    return Decision(1, params.stop_bps, np.nan, np.nan, np.nan, np.nan, np.nan)
