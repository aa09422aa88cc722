"""Funding as the mark stream announces it: at the announced time, with the last word on its rate before it.

The same events that ``research.execution_bars.funding_events`` finds in a recording, one by one as they come.
"""

import math
from bisect import insort
from typing import NamedTuple

from live.readings import Mark, known_ms


class _Word(NamedTuple):
    known_ms: int
    due_ms: int
    rate: float


class Announcements:
    """What was announced; ``next_ms`` is when the next settlement may be due, None when none is announced."""

    def __init__(self) -> None:
        self._words: list[_Word] = []  # the last one before this moment, and those after it
        self._due_ms: list[int] = []
        self._settled_ms = 0

    @property
    def next_ms(self) -> int | None:
        return self._due_ms[0] if self._due_ms else None

    def hear(self, mark: Mark) -> None:
        """Take in what a mark announces."""
        if math.isnan(mark.funding_rate) or mark.next_funding_ms is None:
            return
        word = _Word(known_ms(mark.recv_ns), mark.next_funding_ms, mark.funding_rate)
        while len(self._words) > 1 and self._words[1].known_ms < word.known_ms:
            self._words.pop(0)
        self._words.append(word)
        if word.due_ms > max(word.known_ms, self._settled_ms) and word.due_ms not in self._due_ms:
            insort(self._due_ms, word.due_ms)

    def settle(self) -> float | None:
        """Pass the moment ``next_ms``: the rate that is settled then; None when the last word before it was another."""
        self._settled_ms = self._due_ms.pop(0)
        before = [word for word in self._words if word.known_ms < self._settled_ms]
        return before[-1].rate if before and before[-1].due_ms == self._settled_ms else None
