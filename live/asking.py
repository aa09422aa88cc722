"""What a session asks by REST because no stream told it: bars that did not come, and open interest."""

import asyncio
from collections.abc import Callable

from data import wal
from data.clock import Clock
from data.venues.aster import AsterRest, Unavailable, open_interest_questions
from live.dispatch import Dispatcher
from live.map_feed import OPEN_INTEREST_EVERY_MS
from live.shadows import Shadows
from live.stream_feed import ASKED_BARS, OVERDUE_MS, StreamFeed
from live.waiting import sleep_until

GIVEN_UP_MS = 60_000  # after its end a bar that REST does not give either is a gap


class Asking:
    """Asks until cancelled.

    Parameters
    ----------
    answered : has the payload of an ANSWER written to the log and acted on. note : the same for a NOTE.
    began_ms : of the session.
    """

    def __init__(
        self,
        rest: AsterRest,
        dispatcher: Dispatcher,
        shadows: Shadows,
        clock: Clock,
        *,
        answered: Callable[[bytes], None],
        note: Callable[..., None],
        began_ms: int,
    ) -> None:
        self._rest, self._dispatcher, self._shadows, self._clock = rest, dispatcher, shadows, clock
        self._answered, self._note, self._began_ms = answered, note, began_ms

    async def for_bars(self) -> None:
        """Ask for bars that did not come, and give up those that REST does not have either."""
        while True:
            wants = False
            for seat in self._dispatcher.seats:
                wants |= await self._recover(seat.feed)
            now_ms = self._clock.now_ms()
            overdue_ms = min(seat.feed.next_overdue_ms() for seat in self._dispatcher.seats)
            await sleep_until(self._clock, now_ms + OVERDUE_MS if wants else max(overdue_ms, now_ms + 1))

    async def _recover(self, feed: StreamFeed) -> bool:
        """Whether bars are still wanted after asking."""
        slots = feed.wanted(self._clock.now_ms())
        if not slots:
            return False
        question = {"symbol": feed.symbol, "interval": feed.interval}
        span = {"startTime": slots[0], "endTime": slots[-1], "limit": ASKED_BARS}
        try:
            body = await self._rest.get("/fapi/v3/klines", **question, **span)
        except Unavailable:
            pass  # asked again, until they are given up
        else:
            self._answered(wal.answer("/fapi/v3/klines", question | span, self._dispatcher.since_ms, body))
        now_ms = self._clock.now_ms()
        for open_ms in feed.wanted(now_ms):
            if now_ms >= max(open_ms + feed.length_ms, self._began_ms) + GIVEN_UP_MS:
                self._note("gave_up", open_ms=open_ms, **question)
        return bool(feed.wanted(self._clock.now_ms()))

    async def for_open_interest(self, begins: asyncio.Event) -> None:
        """Ask for what maps are made of; without an answer they grow stale by themselves."""
        await begins.wait()
        while True:
            for question in open_interest_questions([*self._shadows.with_maps(self._dispatcher.maps)]):
                try:
                    body = await self._rest.ask(question)
                except (Unavailable, ValueError) as error:  # undocumented: it may be refused today and told tomorrow
                    self._note("unanswered", path=question.path, params=dict(question.params), reason=str(error))
                else:
                    self._answered(wal.answer(question.path, question.params, self._dispatcher.since_ms, body))
            now_ms = self._clock.now_ms()
            await sleep_until(self._clock, now_ms - now_ms % OPEN_INTEREST_EVERY_MS + OPEN_INTEREST_EVERY_MS)
