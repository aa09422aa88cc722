"""The one way this project compiles: Numba, cached on disk, never stale.

Numba's cache looks only at the file a function stands in; a kernel would keep running an old ``decide`` or fill rule
that it calls from another file. So compiled code lives in a folder named for the content of every research source.
"""

import hashlib
import os
from functools import partial
from pathlib import Path

import numba

_RESEARCH = Path(__file__).parent


def _sources_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_RESEARCH.rglob("*.py")):
        if "tests" not in path.parts and "benchmarks" not in path.parts:
            digest.update(path.relative_to(_RESEARCH).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "aster-workbench" / "numba" / _sources_hash()


numba.config.CACHE_DIR = str(_cache_folder())

# fastmath stays off: the compiled code must give the bits the plain Python gives. Division by zero gives inf or NaN,
# as in NumPy; small rules are inlined, so that a row's fields are read only when a rule looks at them.
njit = partial(numba.njit, cache=True, error_model="numpy", forceinline=True)

# For what is called per trade with many arrays and makes none: counting references to them would cost more than the
# work.
njit_uncounted = partial(njit, _nrt=False)
