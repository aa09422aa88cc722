"""Replay of what the lake holds: a child process reads it, the desks act on it in the order it became known."""

import heapq
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from live.desk import Desk
from live.feed import BarClosed, Event, Gap
from live.identity import CHECKOUT
from live.journal import Journal
from live.replay_rows import Recording, open_recording
from research.engine import TradingConfig


class Replayed(NamedTuple):
    """A desk and the recording it acts on."""

    desk: Desk
    recording: Recording


def replayed(config: TradingConfig, recording: Recording) -> Replayed:
    """A desk at the start of a recording."""
    return Replayed(Desk(config, recording.header), recording)


def run(seats: Sequence[Replayed], journal: Journal, on_row: Callable[[], None] = lambda: None) -> None:
    """Hand every desk its events, all in the order they became known, until the recordings end.

    Parameters
    ----------
    seats : one per (config_hash, symbol).
    on_row : called once per signal row, for progress.
    """
    keys = [seat.desk.key for seat in seats]
    if len(set(keys)) < len(keys):
        raise ValueError("the same config was given twice: every config runs once per symbol")
    started = set()
    # Ties go by the order the configs were given in, so that two replays write one chain.
    for event, desk in heapq.merge(*map(_events, seats), key=lambda pair: pair[0].time_ms):
        if desk.key not in started:
            started.add(desk.key)
            desk.start(event.time_ms, journal, rows=desk.header.rows)
        desk.handle(event, journal)
        if isinstance(event, (BarClosed, Gap)):
            on_row()


def _events(seat: Replayed) -> Iterator[tuple[Event, Desk]]:
    return ((event, seat.desk) for event in seat.recording.events())


@contextmanager
def recording_from_lake(
    path: Path, lake: Path | None, start: datetime | None, end: datetime | None
) -> Iterator[Recording]:
    """A child process that reads the lake for one config, and the recording it streams."""
    bounds = [("--lake", lake and lake.resolve()), ("--start", start), ("--end", end)]
    arguments = [part for name, value in bounds if value is not None for part in (name, str(value))]
    with tempfile.TemporaryFile() as errors:
        # Started in the checkout: no data/ or live/ folder of the caller's can shadow ours.
        child = subprocess.Popen(
            [sys.executable, "-m", "live.replay", "--config", str(path.resolve()), *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            try:
                yield open_recording(child.stdout)
            except pa.ArrowInvalid as error:
                child.wait()
                errors.seek(0)
                told = errors.read().decode(errors="replace").strip().removeprefix("Error: ")
                raise ValueError(told or f"the reader of the lake ended with status {child.returncode}") from error
        finally:
            child.stdout.close()
            child.kill()
            child.wait()
