"""The one way this project compiles: Numba, cached on disk, never stale; or, where it is told so, not at all.

Numba's cache looks only at the file a function stands in; a kernel would keep running an old ``decide`` or fill rule
that it calls from another file. So compiled code lives in a folder named for the content of every research source.

Plain, the same functions give the same bits, slower. A process that only decides bar by bar is fast enough so, and
Numba would weigh more than everything else in it. The environment chooses (``SWITCH``), when this is imported first.
"""

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np

SWITCH = "ASTER_PLAIN"  # 1: plain; Numba's own NUMBA_DISABLE_JIT would have the library imported all the same
IS_PLAIN = os.environ.get(SWITCH) == "1"

_RESEARCH = Path(__file__).parent


def _sources_hash(version: str) -> str:
    digest = hashlib.sha256(version.encode())
    for path in sorted(_RESEARCH.rglob("*.py")):
        if "tests" not in path.parts and "benchmarks" not in path.parts:
            digest.update(path.relative_to(_RESEARCH).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder(version: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "aster-workbench" / "numba" / _sources_hash(version)


if IS_PLAIN:
    np.seterr(divide="ignore", invalid="ignore", over="ignore", under="ignore")  # compiled code says nothing either
    prange = range

    def njit(function=None, **options):
        """The function itself, called as a compiled one may be."""
        if function is None:
            return njit
        function.py_func = function
        return function

    def overload(function):
        """Leaves the function that stands for the overloaded one as it is."""
        return lambda replacement: replacement

else:
    import numba
    import numba.extending

    prange, overload = numba.prange, numba.extending.overload
    numba.config.CACHE_DIR = str(_cache_folder(numba.__version__))

    # fastmath stays off: the compiled code must give the bits the plain Python gives. Division by zero gives inf or
    # NaN, as in NumPy; small rules are inlined, so that a row's fields are read only when a rule looks at them.
    njit = partial(numba.njit, cache=True, error_model="numpy", forceinline=True)


def record(fields: list[tuple]) -> np.dtype:
    """The type of rows whose fields are read as attributes; plain NumPy has that of a record of its own alone."""
    return np.dtype((np.record, fields)) if IS_PLAIN else np.dtype(fields)


# For what is called per trade with many arrays and makes none: counting references to them would cost more than the
# work.
njit_uncounted = partial(njit, _nrt=False)
