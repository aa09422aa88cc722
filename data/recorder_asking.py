"""Asks one venue by REST, within a budget, and logs what it answers; what it cannot answer now is asked again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from data.clock import Clock
from data.instruments import fingerprint
from data.recorder_logs import LOG
from data.recorder_rest import next_due_ns
from data.venues.aster import AsterRest, Unavailable
from data.venues.questions import Question
from data.venues.weights import Budget, weight_of

RETRY_S = 30.0
_LEFT_ALONE_S = 86_400.0  # a question that the venue refused for good
_DAY_NS = 86_400 * 10**9
_RULES = ("exchangeInfo", "indexreferences")  # answers that seldom say something new


async def ask_within(rest: AsterRest, budget: Budget, question: Question) -> bytes:
    """The body of an answer, asked for once the budget has room; raises what ``AsterRest.ask`` raises."""
    await budget.take(weight_of(question.path, question.params))
    body = await rest.ask(question)
    budget.told(rest.used_weight)
    return body


class Answered(NamedTuple):
    """An answer as it goes into the log: when, to what, since when this process listens (milliseconds), the body."""

    recv_ns: int
    question: Question
    since_ms: int
    body: bytes


@dataclass
class _Pending:
    """A question, and how often it may still go unanswered; None: as often as it takes."""

    question: Question
    tries: int | None


class Asking:
    """What one venue is asked, and what is still to be asked.

    Parameters
    ----------
    log : takes the answers of one round, together: some explain others.
    check : looks at every answer before it is logged; a ValueError of it ends the run.
    note : told of each question that the venue refuses for good: path, parameters, reason.

    Attributes
    ----------
    since_ms : when this process began to listen, milliseconds since 1970; goes into the log with every answer.
    trouble : why something could not be asked; None when all is well.
    refused : a sentence for each question that the venue refused for good, by path.
    """

    def __init__(
        self,
        rest: AsterRest,
        clock: Clock,
        budget: Budget,
        *,
        log: Callable[[Sequence[Answered]], None],
        check: Callable[[Question, bytes], None] = lambda question, body: None,
        note: Callable[..., None] = lambda **told: None,
    ) -> None:
        self.since_ms = clock.now_ms()
        self.trouble: str | None = None
        self.refused: dict[str, str] = {}
        self._rest = rest
        self._clock = clock
        self._budget = budget
        self._log = log
        self._check = check
        self._note = note
        self._pending: list[_Pending] = []
        self._left_alone: dict[tuple, int] = {}  # until when, by question
        self._rules: dict[tuple, tuple[int, str]] = {}  # by question, of the answer logged last: day and fingerprint

    @property
    def is_done(self) -> bool:
        """Whether everything was answered or refused."""
        return not self._pending

    @property
    def used_weight(self) -> int:
        """Request weight taken in the last minute, that of repairs included."""
        return self._budget.used

    def add(self, questions: Iterable[Question], *, tries: int | None = None) -> None:
        """Ask these too, in this order; what is to be asked already is not asked twice.

        Parameters
        ----------
        tries : how often each may go unanswered before it is given up; None: never.
        """
        now_ns = self._clock.now_ns()
        asked = [pending.question for pending in self._pending]
        for question in questions:
            if question not in asked and now_ns >= self._left_alone.get(_key(question), now_ns):
                self._pending.append(_Pending(question, tries))

    async def round(self) -> None:
        """Ask what is pending, until the venue does not answer; that question comes last in the next round.

        Raises
        ------
        ValueError
            Of ``check``.
        """
        answers: list[Answered] = []
        waiting, self._pending = self._pending, []
        self.trouble = None
        try:
            while waiting:
                pending = waiting[0]
                try:
                    body = await ask_within(self._rest, self._budget, pending.question)
                except Unavailable as error:
                    self._put_off(waiting.pop(0), waiting, error)
                    break
                except ValueError as error:
                    waiting.pop(0)
                    self._refuse(pending.question, error)
                    continue
                waiting.pop(0)
                self._check(pending.question, body)
                if self._is_news(pending.question, body):
                    answers.append(Answered(self._clock.now_ns(), pending.question, self.since_ms, body))
        finally:
            self._pending = waiting + self._pending
            if answers:
                self._log(answers)

    def _put_off(self, pending: _Pending, waiting: list[_Pending], error: Unavailable) -> None:
        """Let a question wait behind the others, or give it up."""
        self.trouble = f"REST: {error}; asked again, the streams go on"
        LOG.warning("REST does not answer", extra={"told": {"path": pending.question.path, "reason": str(error)}})
        if pending.tries is not None:
            pending.tries -= 1
        if pending.tries != 0:
            waiting.append(pending)

    def _refuse(self, question: Question, error: ValueError) -> None:
        """Leave a question alone that the venue refuses for good."""
        self.refused[question.path] = str(error)
        self._left_alone[_key(question)] = self._clock.now_ns() + round(_LEFT_ALONE_S * 1e9)
        told = {"path": question.path, "params": dict(question.params), "reason": str(error)}
        LOG.warning("REST refuses", extra={"told": told})
        self._note(**told)

    def _is_news(self, question: Question, body: bytes) -> bool:
        """Whether an answer is worth logging: the contracts' rules are, when they changed, and once a day."""
        name = question.path.rpartition("/")[2]
        if name not in _RULES:
            return True
        try:
            told = self._clock.now_ns() // _DAY_NS, fingerprint(name, body)
        except (ValueError, LookupError, TypeError, AttributeError):  # not what it should be: logged, for the sealer
            return True
        is_news = told != self._rules.get(_key(question))
        self._rules[_key(question)] = told
        return is_news


def _key(question: Question) -> tuple:
    return question.path, *sorted(question.params.items())


class Entry:
    """One thing that is asked again and again.

    Parameters
    ----------
    questions : those to ask at a moment, given in milliseconds since 1970.
    every_s, delay_s : the moments: so long after each whole multiple of ``every_s``, seconds of the clock.
    tries : see ``Asking.add``.
    at_once : due from the start, not only from the next such moment on.
    """

    def __init__(
        self,
        questions: Callable[[int], Iterable[Question]],
        *,
        every_s: float,
        delay_s: float = 0.0,
        tries: int | None = None,
        at_once: bool = False,
    ) -> None:
        self._questions = questions
        self._every_s = every_s
        self._delay_s = delay_s
        self._tries = tries
        self.due_ns = 0 if at_once else None

    def begin(self, now_ns: int) -> None:
        """Time starts."""
        if self.due_ns is None:
            self.due_ns = next_due_ns(now_ns, self._every_s, self._delay_s)

    def hasten(self, due_ns: int) -> None:
        """Ask then already, unless it is due earlier."""
        self.due_ns = min(self.due_ns, due_ns)

    def ask(self, asking: Asking, now_ns: int) -> None:
        """Add the questions when they are due."""
        if now_ns >= self.due_ns:
            asking.add(self._questions(now_ns // 10**6), tries=self._tries)
            self.due_ns = next_due_ns(now_ns, self._every_s, self._delay_s)


async def ask_forever(asking: Asking, entries: Sequence[Entry], clock: Clock) -> None:
    """Ask what each entry tells, when it is due, and again what was not answered."""
    for entry in entries:
        entry.begin(clock.now_ns())
    while True:
        for entry in entries:
            entry.ask(asking, clock.now_ns())
        if not asking.is_done:
            await asking.round()
        due_ns = min(entry.due_ns for entry in entries)
        if not asking.is_done:
            due_ns = min(due_ns, clock.now_ns() + round(RETRY_S * 1e9))
        await sleep_until(clock, due_ns)


async def sleep_until(clock: Clock, moment_ns: int) -> None:
    """Return at that moment of the clock, however often a clock that stands still lets a sleep end early.

    Where the clock is set back meanwhile, by more than was slept, return all the same: so long has passed.
    """
    while (left_ns := moment_ns - (before_ns := clock.now_ns())) > 0:
        await clock.sleep(left_ns / 1e9)
        if clock.now_ns() < before_ns:
            return
