"""What a recorder says about itself in ``<lake>/recorder.json``, for people, scripts and whoever watches it.

Further recorders on the same lake say it in ``recorder-1.json``, ``recorder-2.json``, …
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.recorder_locks import LOGS, is_held, lock_of

STATUS_FILE = "recorder.json"
_PAGE_BYTES = 16_384  # more than a status takes, so that its size never changes
ALIVE = ("starting", "recording", "disk full", "stopping")


@dataclass(frozen=True, kw_only=True)
class SocketStatus:
    """One connection.

    Parameters
    ----------
    connection : its number, see ``data.wal.connection_of``; venue, shard and socket are what it stands for.
    age_s : how long it is open, seconds of the clock; None when it is not.
    messages : frames that came on it.
    first, second, only : of those of a pair, how many came on it before the other, after it, and on it alone.
    lag_ms, lag_p99_ms : receipt minus sending, the median and what one in a hundred exceeds; None without frames.
    """

    connection: int
    venue: str
    shard: int
    socket: int
    age_s: float | None
    messages: int
    first: int
    second: int
    only: int
    lag_ms: float | None
    lag_p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """A recorder at one moment. Counts are since its start; times are the recorder's clock, UTC.

    Parameters
    ----------
    number : of the recorder on this lake: 0 for the only one.
    streams : what it was asked to hear of the exchange itself, as the exchange names it.
    state : starting, recording, disk full (waiting for space, nothing lost yet or ``dropped`` says how much), stopping,
        stopped, failed, or killed, which only a reader can tell.
    connected, connections : how many are open, how many there should be.
    reconnects, rotations : connections made again after a loss, and replaced as planned.
    messages : frames per kind of stream, such as aggTrade, on all sockets; control replies aside.
    messages_per_second : of the machine's clock, since the last status.
    lag_ms, lag_p99_ms : receipt minus sending, the median and what one in a hundred exceeds; None without frames.
    sockets : each connection that there should be.
    unknown, drifted : messages that could not be read, and fields nobody knows, in one message of 64; all are kept.
    unsealed_bytes : raw log not yet in the lake, on disk and in memory.
    unsynced_bytes : of it, what a power cut would cost.
    seal_lag_s : how long the oldest closed segment waits to be sealed, seconds of the machine; 0 when none waits.
    landed : rows added to the lake per table; those it knew already are in ``already_present``.
    cut_bytes : ends of the log that a crash had cut off.
    dropped : frames thrown away because the disk stayed full longer than memory lasted.
    gaps_open : holes that may still be repaired. repair_answers : REST answers logged for repairs.
    rest_weight : request weight taken in the last minute.
    free_bytes : of the disk. disk_full_in_s : when it will be full at the pace of the last hour; None: not foreseeable.
    trouble : one sentence per thing that is wrong now.
    notices : one sentence per thing to know, such as a symbol that does not trade or an endpoint that is not there.
    """

    number: int = 0
    pid: int
    state: str
    venue: str
    lake: str
    symbols: tuple[str, ...]
    streams: tuple[str, ...] = ()
    started: str
    now: str
    seconds: float
    connected: int
    connections: int
    reconnects: int
    rotations: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    messages_per_second: float
    last_message: str | None
    lag_ms: float | None
    lag_p99_ms: float | None = None
    sockets: tuple[SocketStatus, ...] = ()
    unknown: int = 0
    drifted: int = 0
    unsealed_bytes: int
    unsynced_bytes: int = 0
    seal_lag_s: float = 0.0
    landed: dict[str, int] = field(default_factory=dict)
    already_present: int
    conflicts: int
    quarantined: int
    cut_bytes: int
    dropped: int
    gaps_open: int = 0
    repair_answers: int = 0
    rest_weight: int = 0
    free_bytes: int | None = None
    disk_full_in_s: float | None = None
    trouble: tuple[str, ...]
    notices: tuple[str, ...] = ()

    @property
    def total_messages(self) -> int:
        """Frames of all kinds."""
        return sum(self.messages.values())

    @property
    def total_landed(self) -> int:
        """Rows of all tables."""
        return sum(self.landed.values())


def write_status(root: Path, status: Status) -> None:
    """Put the status into the lake's folder, whole or not at all; on a full disk over the old one, in place.

    The text is padded to whole pages so that a full disk, which takes no new file, takes it over the old one.
    """
    text = json.dumps(asdict(status), indent=1).encode()
    text += b" " * (-(len(text) + 1) % _PAGE_BYTES) + b"\n"
    path = root / _file_of(status.number)
    unnamed = path.with_suffix(".tmp")
    try:
        unnamed.write_bytes(text)
        unnamed.replace(path)
    except OSError:
        with suppress(OSError):
            unnamed.unlink()
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, text, 0)
            finally:
                os.close(descriptor)


def read_statuses(root: Path) -> list[Status]:
    """The last status of each recorder of the lake, by number; "killed" where it ended without saying so.

    Raises
    ------
    LookupError
        When nothing was ever recorded into this lake.
    """
    root = Path(root)
    paths = [path for path in root.glob("recorder*.json") if _number_of(path) is not None]
    if not paths:
        raise LookupError(
            f"no recorder has run on this lake: expected {root / STATUS_FILE}; start one with `aster record`"
        )
    return [_read(path) for path in sorted(paths, key=_number_of)]


def read_status(root: Path) -> Status:
    """The last status of the lake's first recorder; raises as ``read_statuses``."""
    return read_statuses(root)[0]


def _read(path: Path) -> Status:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if told["state"] in ALIVE and not _is_alive(path.parent, _number_of(path), told["pid"]):
        told["state"] = "killed"
    for name in ("symbols", "streams", "trouble", "notices"):
        told[name] = tuple(told.get(name, ()))
    told["sockets"] = tuple(SocketStatus(**socket) for socket in told.get("sockets", ()))
    return Status(**told)


def _file_of(number: int) -> str:
    return f"recorder-{number}.json" if number else STATUS_FILE


def _number_of(path: Path) -> int | None:
    """The recorder whose status that file is; None for another file."""
    if path.name == STATUS_FILE:
        return 0
    number = path.stem.removeprefix("recorder-")
    return int(number) if number.isdecimal() else None


def _is_alive(root: Path, number: int, pid: int) -> bool:
    """Whether the recorder lives; its lock tells, since another process may have been given its id meanwhile."""
    log = root / LOGS / str(number)
    if lock_of(log).exists():
        return is_held(log)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, but there
        return True
    return True
