"""Files of secrets: only their owner may read them."""

import stat
from pathlib import Path


def require_private(path: Path, what: str) -> None:
    """Refuse a file that others may read.

    Parameters
    ----------
    what : it is of, such as keys.

    Raises
    ------
    LookupError
        When there is no such file.
    ValueError
        When others may read it.
    """
    if not path.is_file():
        raise LookupError(f"no file of {what} at {path}")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ValueError(f"{path}: expected a file that only its owner may read, got mode {mode:04o}; chmod 600 it")
