"""Requests about an account, within the budget: what may not leave now is told; only ways out wait for their turn."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from data.clock import Clock
from data.venues.aster import Answer, told_wait_s
from data.venues.aster_signed import ClockReading, NoAnswer, SignedRest, weight_of
from data.venues.signing import Parameters
from live.budget import RequestBudget, Urgency
from live.order_evidence import Unread

_WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
_CLOCK_CODES = (-1021, -4225)
_ORDERS = ("POST", "order")
_MOST_WAIT_S = 60.0


def waits_s() -> Iterator[float]:
    """Between tries of what has to succeed: longer each time, so that trouble leaves room for ways out."""
    return itertools.chain((1.0, 2.0, 4.0), itertools.repeat(8.0))


class Withheld(NoAnswer):
    """A request that was not sent: the budget has no room for it."""


class Requests:
    """Signed requests by urgency.

    Parameters
    ----------
    alarm : told of trouble that is more than one request's: ``banned``, ``firewall``, ``clock``.
    """

    def __init__(self, rest: SignedRest, clock: Clock, budget: RequestBudget, alarm: Callable[[str, str], None]):
        self.rest, self.budget = rest, budget
        self._clock, self._alarm = clock, alarm

    async def send(
        self,
        urgency: Urgency,
        method: str,
        name: str,
        parameters: Parameters = (),
        leaves: Callable[[], None] = lambda: None,
    ) -> Answer | NoAnswer:
        """The answer to one request.

        Parameters
        ----------
        leaves : called at the moment in which it is sent.
        """
        weight, orders = weight_of(method, name, parameters), int((method, name) == _ORDERS)
        is_patient = urgency is Urgency.EXIT or (urgency is Urgency.CERTAINTY and method == "DELETE")
        while wait_ms := self.budget.wait_ms(urgency, weight, orders, self._clock.now_ms()):
            if not is_patient:
                return Withheld(f"the budget has no room for another {wait_ms} ms")
            await self._clock.sleep(min(wait_ms / 1_000, _MOST_WAIT_S))
        self.budget.spend(urgency, weight, orders, self._clock.now_ms())
        leaves()
        answer = await self.rest.send(method, name, parameters)
        if isinstance(answer, Answer):
            self._heed(answer)
        return answer

    async def ask_openly(self, urgency: Urgency, name: str) -> Answer | NoAnswer:
        """The answer to one question that needs no signature."""
        weight = weight_of("GET", name)
        if wait_ms := self.budget.wait_ms(urgency, weight, 0, self._clock.now_ms()):
            return Withheld(f"the budget has no room for another {wait_ms} ms")
        self.budget.spend(urgency, weight, 0, self._clock.now_ms())
        answer = await self.rest.ask_openly(name)
        if isinstance(answer, Answer):
            self._heed(answer)
        return answer

    async def measure_clock(self) -> ClockReading | NoAnswer:
        """How far the clocks are apart. Ways out are signed by it, so it waits for a ban alone."""
        if wait_ms := self.budget.ban_ms(self._clock.now_ms()):
            return Withheld(f"nothing is asked for another {wait_ms} ms")
        return await self.rest.measure_clock()

    async def read(self, urgency: Urgency, name: str, *asked: tuple[str, str], kind: type = list) -> Any | Unread:
        """What a GET tells, as JSON of that kind; ``Unread`` for everything else, never something empty."""
        answer = await self.send(urgency, "GET", name, asked)
        if isinstance(answer, NoAnswer):
            return Unread(reason=f"{name}: {answer.reason}")
        try:
            told = json.loads(answer.body)
        except ValueError:
            told = None
        if answer.status >= 300 or not isinstance(told, kind):
            return Unread(reason=f"{name}: HTTP {answer.status}: {answer.body[:80].decode(errors='replace')}")
        return told

    def _heed(self, answer: Answer) -> None:
        """What an answer says about all that follow."""
        now_ms = self._clock.now_ms()
        weight = answer.headers.get(_WEIGHT_HEADER, "")
        if weight.isdecimal():
            self.budget.told(int(weight), now_ms)
        if answer.status < 400:
            return
        text = answer.body.decode(errors="replace")
        if answer.status in (403, 418, 429):
            wait_s = told_wait_s(answer.status, answer.headers.get("Retry-After"), now_ms, text)
            heeds = self.budget.banned if answer.status == 418 else self.budget.throttled
            heeds(now_ms, round(wait_s * 1_000))
        if answer.status == 418:
            self._alarm("banned", f"HTTP 418, silent for {wait_s:g} s")
        elif answer.status == 403:
            self._alarm("firewall", "HTTP 403")
        elif any(f'"code":{code}' in text for code in _CLOCK_CODES):
            self._alarm("clock", "the exchange refused our time")
