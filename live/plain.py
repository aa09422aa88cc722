"""Which runners do without a compiler: Numba and its cache weigh more than everything else in one.

A decision takes a fraction of a millisecond in plain Python, with the same bits (``research.jit``). To build a
liquidation map does not: a config that looks at one is given the compiler.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

SWITCH = "ASTER_PLAIN"  # of research.jit, which is not to be imported before it is set


def leave_compiler_out(chosen: Sequence[Path]) -> None:
    """Decide in plain Python from here on; begin this process anew where one of its configs cannot.

    Where research is imported already, or the environment says what to do, it stays as it is.

    Parameters
    ----------
    chosen : promoted files.

    Raises
    ------
    LookupError, ValueError
        As ``live.config.load_chosen`` does.
    """
    if SWITCH in os.environ or "research.jit" in sys.modules:
        return
    os.environ[SWITCH] = "1"
    from live.config import load_chosen
    from live.dispatch import looks_at_map

    if any(looks_at_map(load_chosen(path).config) for path in chosen):
        os.environ[SWITCH] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
