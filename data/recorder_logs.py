"""What a recorder did, line by line: JSON in ``<lake>/logs/recorder-<date>.jsonl``, and for people on request.

Every module here says what happens to the logger ``data.recorder``: a few words, and the figures as ``extra={"told":
{...}}``. Lines of several recorders on one lake go to the same file; ``recorder`` and ``pid`` tell them apart.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from data.clock import Clock

LOG = logging.getLogger("data.recorder")
LOG.setLevel(logging.INFO)
LOG.propagate = False  # the command line says what goes to stderr
LOG.addHandler(logging.NullHandler())
FOLDER = "logs"
KEPT_DAYS = 30


@contextmanager
def logged(root: Path, number: int, clock: Clock) -> Iterator[None]:
    """Inside, what is logged goes to the lake's folder ``logs``; a full disk loses lines, never a frame."""
    handler = _DailyFile(Path(root) / FOLDER, number, clock)
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()


def told_line(record: logging.LogRecord) -> str:
    """A record for people: when, what, and the figures."""
    told: dict[str, Any] = getattr(record, "told", {})
    figures = " ".join(f"{name}={value}" for name, value in told.items() if not isinstance(value, list | dict))
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%H:%M:%S} {record.levelname.lower()} {record.getMessage()} {figures}".rstrip()


class Readable(logging.Formatter):
    """Lines for people, see ``told_line``."""

    def format(self, record: logging.LogRecord) -> str:
        return told_line(record)


class _DailyFile(logging.Handler):
    """Appends to one file a day of the clock, in one write per line; removes those older than ``KEPT_DAYS``."""

    def __init__(self, folder: Path, number: int, clock: Clock) -> None:
        super().__init__()
        self._folder = folder
        self._number = number
        self._clock = clock
        self._day: str | None = None
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        now = self._clock.now()
        line = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "recorder": self._number,
            "pid": os.getpid(),
            "what": record.getMessage(),
            **getattr(record, "told", {}),
        }
        with suppress(OSError):
            self._turn_to(now)
            os.write(self._descriptor, json.dumps(line, default=str).encode() + b"\n")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _turn_to(self, now: datetime) -> None:
        """The file of that day, open; on a new day the old ones go."""
        day = f"{now:%Y-%m-%d}"
        if day == self._day:
            return
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"recorder-{day}.jsonl"
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._day = opened, day
        oldest = f"recorder-{now - timedelta(days=KEPT_DAYS):%Y-%m-%d}.jsonl"
        for old in self._folder.glob("recorder-*.jsonl"):
            if old.name < oldest:
                old.unlink(missing_ok=True)
