"""What the dashboard knows of the runner, kept up to date: the journal's book, the log's pulse, the last events."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from live.dashboard.book import Book
from live.dashboard.journal_reader import Event, JournalReader
from live.dashboard.pulse import Pulse
from live.heartbeat import AccountTold, read_beat
from live.journal import feed_folder

LOOK_S = 0.1  # from one look at the journal to the next
SILENT_S = 5.0  # a runner that hears nothing for longer decides on nothing new
_PULSE_S = 0.5
_AT_ONCE = 500  # events, so that a long journal does not hold the server up
_RECENT = 2_000  # events that clients can be served from memory


class State(StrEnum):
    """What a runner does."""

    NO_JOURNAL = "no journal"
    RUNNING = "running"
    SILENT = "silent"  # alive, but its market says nothing
    STOPPED = "stopped"  # nobody writes the journal


class Watch:
    """Follows one journal and the input log beside it.

    Attributes
    ----------
    book, pulse : see there.
    account : what a real run said of its account in its last sign of life; None when that is old, or there is none.
    epoch : counts the journals that were followed; numbers of events start again with each.
    began_ms : when this watch began, by this machine's clock: an epoch of another watch is another one.
    is_ending : nothing more will be told: streams end.
    problem : why the journal cannot be read; None while it can.
    """

    def __init__(self, journal: Path, now_s: Callable[[], float] = time.time) -> None:
        self.journal = journal
        self.book = Book()
        self.pulse = Pulse(feed_folder(journal), now_s)
        self.account: AccountTold | None = None
        self.epoch = 0
        self.is_ending = False
        self.problem: str | None = None
        self._reader = JournalReader(journal)
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._now_s = now_s
        self.began_ms = round(now_s() * 1_000)
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """What the runner does."""
        if not self.book.head:
            return State.NO_JOURNAL
        if not self.pulse.is_alive:
            return State.STOPPED
        return State.SILENT if self.pulse.heard_age_s > SILENT_S else State.RUNNING

    @property
    def version(self) -> tuple[int, int, int]:
        """Something that differs when anything was learnt since."""
        return self.epoch, self.book.head, self.pulse.looks

    @property
    def now_ms(self) -> int:
        """The runner's time: of the last thing it heard or wrote; the present before there is any."""
        return max(self.pulse.clock_ms, self.book.last_ms) or round(self._now_s() * 1_000)

    @property
    def up_s(self) -> float | None:
        """How long the runner lives; None when it does not."""
        return self._now_s() - self.pulse.began_s if self.pulse.is_alive else None

    async def follow(self) -> None:
        """Look again and again, for ever."""
        looked_s = -_PULSE_S
        while True:
            if time.monotonic() - looked_s >= _PULSE_S:
                self.pulse.look()
                self.account = self._told()
                looked_s = time.monotonic()
            while self.look():
                await asyncio.sleep(0)
            await asyncio.sleep(LOOK_S)

    def _told(self) -> AccountTold | None:
        beat = read_beat(self.journal)
        is_old = beat is None or self._now_s() - beat.told_ms / 1e3 > SILENT_S
        return None if is_old else beat.account

    def look(self) -> bool:
        """Take in what is new in the journal; whether there may be more."""
        if self._reader.is_replaced():
            self.book, self.epoch = Book(), self.epoch + 1
            self._recent.clear()
        try:
            events = self._reader.after(self.book.head, _AT_ONCE)
        except ValueError as error:
            self.problem = str(error)
            return False
        self.problem = None
        for event in events:
            self.book.take(event)
            self._recent.append(event)
        if events:
            self._wake()
        return len(events) == _AT_ONCE

    def after(self, seq: int, limit: int) -> list[Event]:
        """At most ``limit`` events that follow ``seq``, from memory where it has them."""
        if self._recent and seq + 1 >= self._recent[0].seq:
            start = seq + 1 - self._recent[0].seq
            return [self._recent[place] for place in range(start, min(start + limit, len(self._recent)))]
        return self._reader.after(seq, min(limit, self.book.head - seq)) if seq < self.book.head else []

    async def changed(self, timeout_s: float) -> None:
        """Return when there are new events, or when that time is over."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    def end(self) -> None:
        """Let every stream end."""
        self.is_ending = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Give the journal back."""
        self._reader.close()
