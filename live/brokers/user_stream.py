"""An account's own stream: its key made, kept alive and replaced; every message handed on.

Source: Aster futures API, "User data stream".
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol

from data.clock import Clock
from data.sockets import Asked
from data.stream import Stream
from data.venues.aster import Answer, Venue
from live.brokers.requests import Requests, waits_s
from live.budget import Urgency
from live.waiting import sleep_until

KEEP_ALIVE_MS = 20 * 60_000  # a key lives for an hour
LIFE_S = 82_800.0  # then its connection is replaced, the new one first; the exchange ends those of a day
SILENCE_S = 20.0  # nothing, not even an answer to a ping


class Hearer(Protocol):
    """Who hears the account's stream. Must not wait."""

    def listens(self) -> None:
        """It is open: what happened before has to be asked for."""

    def is_deaf(self, reason: str) -> None:
        """It is not open any more."""

    def message(self, told: Mapping[str, Any]) -> None:
        """One message."""


class UserStream:
    """Keeps the stream open until cancelled.

    Parameters
    ----------
    asked : of the market's streams, on a loopback exchange.
    """

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        requests: Requests,
        hearer: Hearer,
        *,
        seed: int = 0,
        asked: Asked | None = None,
    ):
        self._venue, self._clock, self._requests, self._hearer = venue, clock, requests, hearer
        self._jitter, self._asked = Random(seed), asked
        self._is_stale = asyncio.Event()
        self._lives: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether a connection is up."""
        return bool(self._lives)

    def renew(self) -> None:
        """The key or the connection is of no use any more: begin anew."""
        self._is_stale.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            key = await self._key()
            self._is_stale.clear()
            stream = Stream(
                self._venue, (key,), clock=self._clock, sink=self, sockets=1, silence_s=SILENCE_S, life_s=LIFE_S,
                seed=self._jitter.randrange(1 << 30), is_wrapped=False, is_prompt=True, asked=self._asked,
            )  # fmt: skip
            tasks = [asyncio.create_task(job) for job in (stream.run(), self._keep_alive(), self._is_stale.wait())]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def _key(self) -> str:
        """A key that lives; asked for until there is one."""
        waits = waits_s()
        while True:
            answer = await self._requests.send(Urgency.CERTAINTY, "POST", "listenKey")
            if isinstance(answer, Answer) and answer.status < 300:
                try:
                    return str(json.loads(answer.body)["listenKey"])
                except (ValueError, KeyError, TypeError):
                    pass  # no key: asked again
            await self._clock.sleep(next(waits))

    async def _keep_alive(self) -> None:
        """Lengthen the key's life; replace one that is gone."""
        while True:
            await sleep_until(self._clock, self._clock.now_ms() + KEEP_ALIVE_MS)
            answer = await self._requests.send(Urgency.CERTAINTY, "PUT", "listenKey")
            if isinstance(answer, Answer) and 400 <= answer.status < 500 and answer.status not in (418, 429):
                self.renew()

    def opened(self, recv_ns: int, connection: int, streams: Sequence[str], life: int) -> None:
        self._lives.add(life)
        if len(self._lives) == 1:
            self._hearer.listens()

    def burst(self, connection: int, frames: Sequence[tuple[int, bytes]]) -> None:
        for _, payload in frames:
            try:
                told = json.loads(payload)
            except ValueError:
                told = None
            if not isinstance(told, dict):
                self.renew()  # something was lost; what, only the account can tell
            elif told.get("e") == "listenKeyExpired":
                self.renew()
            else:
                self._hearer.message(told)

    def closed(self, recv_ns: int, connection: int, reason: str, life: int, heard_ns: int) -> None:
        was_open = bool(self._lives)
        self._lives.discard(life)
        if was_open and not self._lives:
            self._hearer.is_deaf(reason)
