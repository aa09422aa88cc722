"""What a recorder says about itself in ``<lake>/recorder.json``, for people, scripts and whoever watches it."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

STATUS_FILE = "recorder.json"
_PAGE_BYTES = 8_192  # more than a status takes, so that its size never changes
_UNFINISHED = ("starting", "recording", "disk full", "stopping")


@dataclass(frozen=True, kw_only=True)
class Status:
    """A recorder at one moment. Counts are since its start; times are the recorder's clock, UTC.

    Parameters
    ----------
    state : starting, recording, disk full (waiting for space, nothing lost yet or ``dropped`` says how much), stopping,
        stopped, failed, or killed, which only a reader can tell.
    connected, connections : how many are open, how many there should be.
    messages : frames per kind of stream, such as aggTrade; control replies aside.
    messages_per_second : of the machine's clock, since the last status.
    lag_ms : receipt minus sending of the last frame; None without one.
    unsealed_bytes : raw log not yet in the lake, on disk and in memory.
    landed : rows added to the lake per table; those it knew already are in ``already_present``.
    cut_bytes : ends of the log that a crash had cut off.
    dropped : frames thrown away because the disk stayed full longer than memory lasted.
    trouble : one sentence per thing that is wrong now.
    """

    pid: int
    state: str
    venue: str
    lake: str
    symbols: tuple[str, ...]
    started: str
    now: str
    seconds: float
    connected: int
    connections: int
    reconnects: int
    messages: dict[str, int] = field(default_factory=dict)
    messages_per_second: float
    last_message: str | None
    lag_ms: float | None
    unsealed_bytes: int
    landed: dict[str, int] = field(default_factory=dict)
    already_present: int
    conflicts: int
    quarantined: int
    cut_bytes: int
    dropped: int
    trouble: tuple[str, ...]

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
    path = root / STATUS_FILE
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


def read_status(root: Path) -> Status:
    """The last status of the lake's recorder; its state is "killed" when the process ended without saying so.

    Raises
    ------
    LookupError
        When nothing was ever recorded into this lake.
    """
    path = Path(root) / STATUS_FILE
    if not path.exists():
        raise LookupError(f"no recorder has run on this lake: expected {path}; start one with `aster record`")
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["state"] in _UNFINISHED and not _is_alive(told["pid"]):
        told["state"] = "killed"
    return Status(**{**told, "symbols": tuple(told["symbols"]), "trouble": tuple(told["trouble"])})


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, but there
        return True
    return True
