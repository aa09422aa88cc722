"""Answers that take long to make: made once, kept for a while, made again behind the back of whoever asks."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class _Entry:
    answer: Future
    made_s: float
    is_renewed: bool = False


class Kept:
    """The last answers to some questions.

    Whoever asks first waits; later ones get the last answer at once, while an old one is made again in a thread.

    Parameters
    ----------
    for_s : how long an answer is young.
    most : answers to keep; the one that was asked for longest ago is forgotten first.
    """

    def __init__(self, for_s: float, most: int = 32) -> None:
        self._for_s, self._most = for_s, most
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._guard = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kept")

    def has(self, question: Hashable) -> bool:
        """Whether ``get`` answers at once."""
        entry = self._entries.get(question)
        return entry is not None and entry.answer.done() and entry.answer.exception() is None

    def get(self, question: Hashable, make: Callable[[], Any]) -> Any:
        """The answer; raises what ``make`` raises."""
        with self._guard:
            entry = self._entries.get(question)
            if entry is None or (entry.answer.done() and entry.answer.exception() is not None):
                entry = _Entry(answer=self._pool.submit(make), made_s=time.monotonic())
                self._entries[question] = entry
                while len(self._entries) > self._most:
                    self._entries.popitem(last=False)
            elif entry.answer.done() and not entry.is_renewed and time.monotonic() - entry.made_s > self._for_s:
                entry.is_renewed = True
                self._pool.submit(self._renew, question, make)
            self._entries.move_to_end(question)
        return entry.answer.result()

    def _renew(self, question: Hashable, make: Callable[[], Any]) -> None:
        answer: Future = Future()
        try:
            answer.set_result(make())
        except (ValueError, LookupError, OSError) as error:
            answer.set_exception(error)
        with self._guard:
            self._entries[question] = _Entry(answer=answer, made_s=time.monotonic())

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
