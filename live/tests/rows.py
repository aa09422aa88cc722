"""Rows of the fault matrix: which run by themselves, and which when they are asked for.

``ASTER_FAULT_ROWS=all`` runs every row in both modes, ``ASTER_FAULT_ROWS=F7,F19`` those; without it a few, one-way.
"""

import os
from collections.abc import Callable

import pytest

ASKED = os.environ.get("ASTER_FAULT_ROWS", "")


def in_both_modes(row: str, *, is_quick: bool = False) -> Callable[[Callable], Callable]:
    """The test runs in one-way and in hedge mode, as far as its row is asked for."""
    if ASKED:
        modes = {"one-way": False, "hedge": True} if ASKED == "all" or row in ASKED.split(",") else {}
    else:
        modes = {"one-way": False} if is_quick else {}

    def marked(test: Callable) -> Callable:
        if not modes:
            test.__test__ = False
            return test
        return pytest.mark.parametrize("is_hedge", [pytest.param(told, id=name) for name, told in modes.items()])(test)

    return marked
