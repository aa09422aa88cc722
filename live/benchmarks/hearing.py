"""A runner that hears recorded frames at a pace of its own, in a process of its own: how long until it has decided.

``python -m live.benchmarks.hearing FEED SHADOWS [JOURNAL]`` prints one JSON object. What counts is the time from the
moment a final bar should have been heard to the moment its decision is in the journal: waiting for the event loop, for
the next millisecond, for the shadows' slice and for the disk are all in it.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from data import wal
from data.clock import RealClock
from data.messages import Kline, decode
from data.venues.questions import Venue
from data.wal import Kind, Log, Record
from live.benchmarks.configs import challengers, champion
from live.feed import BarClosed, Event
from live.journal import Journal, feed_folder
from live.session import Session
from live.shadows import Shadows

PACE_S = 0.004  # between two frames
_NOWHERE = Venue(name="recorded", rest_url="", stream_url="")  # nobody is asked


class Timed(Session):
    """A session that is played frames, and notes when it has decided on each bar."""

    async def play(self, frames: Sequence[bytes]) -> list[float]:
        """Seconds from when each final bar was due to its decision."""
        due: dict[int, float] = {}
        taken: list[float] = []
        for seat in self.dispatcher.seats:
            self._note_decisions(seat.desk, due, taken)
        jobs = [asyncio.create_task(job) for job in (self._keep_time(), self._shadows.run())]
        begun = time.perf_counter()
        for place, payload in enumerate(frames):
            at = begun + place * PACE_S
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            for message in decode(payload):
                if isinstance(message, Kline) and message.bar.is_final:
                    due[message.bar.open_time] = at
            self.burst(0, [(self._clock.stamp_ns(), payload)])
        await asyncio.sleep(0.1)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        return taken

    @staticmethod
    def _note_decisions(desk, due: dict[int, float], taken: list[float]) -> None:
        handle = desk.handle

        def noted(event: Event, journal: Journal) -> None:
            handle(event, journal)
            if isinstance(event, BarClosed) and event.row.open_ms in due:
                taken.append(time.perf_counter() - due[event.row.open_ms])

        desk.handle = noted


def measured(feed: Path, n_shadows: int, path: Path) -> dict:
    """How long decisions took, seconds, and the most memory this process had, bytes; ``path`` of its journal."""
    records = [record for segment in wal.segments(feed) for record in wal.read(segment)]
    first = next(place for place, record in enumerate(records) if record.kind is Kind.FRAME)
    frames = [record.payload for record in records[first:] if record.kind is Kind.FRAME]
    _begun(path, records[:first])
    with ExitStack() as stack:
        log = stack.enter_context(Log(feed_folder(path)))
        journal = stack.enter_context(Journal(path, log.sync))
        shadows = stack.enter_context(Shadows(challengers(n_shadows), path))
        session = Timed([champion()], _NOWHERE, RealClock(), log, journal, resolution="tick", shadows=shadows)
        taken = asyncio.run(session.play(frames))
    return {"seconds": taken, "most_bytes": _most_bytes()}


def _most_bytes() -> int:
    """This process's own peak of resident memory; what ``getrusage`` tells includes the parent's."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(told[1]) * 1_024


def _begun(path: Path, records: Sequence[Record]) -> None:
    """The log as it is when trading begins."""
    with Log(feed_folder(path)) as log:
        for record in records:
            log.write(*record)


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        journal_path = Path(sys.argv[3] if len(sys.argv) > 3 else f"{temporary}/journal.sqlite")
        print(json.dumps(measured(Path(sys.argv[1]), int(sys.argv[2]), journal_path)))
