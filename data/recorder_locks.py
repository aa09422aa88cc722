"""Several recorders on one lake: each has a log of its own, and no two record the same stream.

``<lake>/wal/<number>`` is one recorder's log. While it lives it holds ``writer.lock`` there, and ``writer.json`` beside
the lock says which process it is and what it records. The lock goes with its process, however that ends.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock

from data import wal
from data.locks import is_locked

LOGS = "wal"  # folder of a lake
_LOCK, _TOLD, _PID = "writer.lock", "writer.json", "writer.pid"
_SEATING = "seating.lock"  # one recorder at a time looks for its place
_PATIENCE_S = 1.0  # somebody who looks whether a lock is held holds it for a moment


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a recorder of a lake writes: its number among them, and its log."""

    number: int
    log: wal.Log


def take_place(root: Path, streams: Mapping[str, Sequence[str]]) -> Place:
    """The first log of the lake that no living recorder holds, taken for this process.

    Parameters
    ----------
    root : of the lake.
    streams : what will be recorded, names by venue.

    Raises
    ------
    ValueError
        When a living recorder records one of the streams already; names its process and its lock.
    OSError
        When the lake cannot be written.
    """
    logs = Path(root) / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    with FileLock(logs / _SEATING):
        for folder in _folders(logs):
            if is_held(folder):
                _refuse_shared(folder, streams)
        number = next(number for number in count() if not is_held(logs / str(number)))
        log = _take(logs / str(number))
        told = {"pid": os.getpid(), "streams": {venue: list(names) for venue, names in streams.items()}}
        (log.folder / _TOLD).write_text(json.dumps(told), encoding="utf-8")
    return Place(number=number, log=log)


def finished_segments(root: Path, own: Path) -> list[str]:
    """Segments for the recorder of the log ``own`` to have sealed, oldest first: its closed ones and those of the dead.

    Returns
    -------
    Paths relative to the lake's folder of logs, such as ``0/00001767614400000000-17-000000.wal``.
    """
    logs = Path(root) / LOGS
    held = {folder for folder in _folders(logs) if folder != own and is_held(folder)}
    found = [path for path in wal.all_segments(logs) if path.parent not in held and not wal.is_growing(path)]
    return [path.relative_to(logs).as_posix() for path in found]


def recorded_by_others(root: Path, own: Path) -> set[tuple[str, str]]:
    """(venue, symbol) of everything that living recorders of other logs than ``own`` record."""
    found = set()
    for folder in _folders(Path(root) / LOGS):
        if folder != own and is_held(folder):
            streams = _told(folder)["streams"] or {}
            found |= {(venue, name.partition("@")[0].upper()) for venue, names in streams.items() for name in names}
    return found


def is_held(folder: Path) -> bool:
    """Whether a living recorder has its log in this folder."""
    return is_locked(lock_of(folder))


def lock_of(folder: Path) -> Path:
    """The lock that the recorder of a log holds."""
    return folder / _LOCK


def _folders(logs: Path) -> list[Path]:
    """Every folder that may hold a log; the folder of logs itself was one in earlier lakes."""
    return [logs, *sorted(path for path in logs.glob("*") if path.name.isdecimal())]


def _refuse_shared(folder: Path, streams: Mapping[str, Sequence[str]]) -> None:
    """Raise when the living recorder in ``folder`` records one of the streams, or does not say what it records."""
    told = _told(folder)
    who = f"process {told['pid']} (lock {lock_of(folder)})"
    if told["streams"] is None:
        raise ValueError(f"{who} records into this lake; wait for it, end it, or give another --lake")
    for venue, names in streams.items():
        shared = sorted(set(names) & set(told["streams"].get(venue, ())))
        if shared:
            more = f" and {len(shared) - 1} more of these streams" if len(shared) > 1 else ""
            raise ValueError(
                f"{who} records {shared[0]} of {venue}{more} into this lake; "
                f"wait for it, end it, give other symbols, or give another --lake"
            )


def _told(folder: Path) -> dict[str, Any]:
    """Who holds this log and what it records; its ``streams`` are None where it does not say."""
    with suppress(FileNotFoundError, ValueError):
        return json.loads((folder / _TOLD).read_text(encoding="utf-8"))
    pid = "unknown"
    with suppress(FileNotFoundError):
        pid = (folder / _PID).read_text(encoding="ascii").strip()
    return {"pid": pid, "streams": None}


def _take(folder: Path) -> wal.Log:
    """The log of a folder that nobody holds."""
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return wal.Log(folder)
        except ValueError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
