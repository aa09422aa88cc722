"""Locks that go with the process that holds them, however that ends."""

import fcntl
from pathlib import Path


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on this file; nobody holds one that is not there."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
