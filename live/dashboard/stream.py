"""Server-sent events: the journal as it grows, and a pulse every second.

The number of an event is its number in the journal, so a client that comes back says where it was and misses nothing.
Every client has a cursor of its own and no queue: a slow one is read on from the journal at its own pace, and one that
fell too far behind is told to fetch everything anew. So tabs cannot take events from each other, nor fill the memory.
"""

import json
import time
from collections.abc import AsyncIterator, Callable

from sse_starlette import ServerSentEvent

from live.dashboard.journal_reader import Event
from live.dashboard.watch import Watch

PULSE_S = 1.0
BEHIND = 5_000  # events that are sent one by one; further behind, fetching anew is cheaper
_AT_ONCE = 200


async def events(
    watch: Watch, after: int | None, tell: Callable[[Event], str], pulse: Callable[[], str]
) -> AsyncIterator[ServerSentEvent]:
    """What one client is sent, until the watch ends.

    Parameters
    ----------
    after : number of the last event that the client has; None to begin with the present.
    tell : JSON of an event.
    pulse : JSON of the moment, sent after events and every second, without a number.
    """
    epoch = watch.epoch
    cursor = watch.book.head if after is None else after
    yield ServerSentEvent(event="pulse", data=pulse(), id=None if after else str(cursor), retry=1_000)
    pulsed_s = time.monotonic()
    while not watch.is_ending:
        if epoch != watch.epoch or not 0 <= watch.book.head - cursor <= BEHIND:
            epoch, cursor = watch.epoch, watch.book.head
            yield ServerSentEvent(event="resync", data=json.dumps({"head": cursor}), id=str(cursor))
        fresh = watch.after(cursor, _AT_ONCE)
        for event in fresh:
            yield ServerSentEvent(event="journal", data=tell(event), id=str(event.seq))
            cursor = event.seq
        left_s = pulsed_s + PULSE_S - time.monotonic()
        if left_s <= 0.0 or (fresh and cursor == watch.book.head):
            yield ServerSentEvent(event="pulse", data=pulse())
            pulsed_s = time.monotonic()
        elif not fresh or cursor == watch.book.head:
            await watch.changed(left_s)
