"""Gaps are asked for within the budget, and not asked for again before their answers can have been sealed."""

import asyncio

import pytest

from data import recorder_repair
from data.beginning_questions import Beginning
from data.clock import FollowedClock
from data.recorder_asking import Answered
from data.recorder_repair import Repair
from data.tests.test_recorder_asking import NOON_MS, Exchange
from data.venues.aster import Unavailable
from data.venues.questions import Question
from data.venues.weights import Budget


@pytest.fixture(autouse=True)
def two_pages_per_gap(monkeypatch):
    """A gap is asked for in two pages, one that begins with "young" not yet."""

    def questions(gap: dict, now_ms: int) -> list[Question]:
        if gap["gap_id"].startswith("young"):
            return []
        return [
            Question(path=f"/fapi/v3/{gap['table']}", params={"fromId": page}, gap_id=gap["gap_id"]) for page in (0, 1)
        ]

    monkeypatch.setattr(recorder_repair, "questions", questions)


def gap(gap_id: str, table: str = "aggTrades") -> dict:
    return {"gap_id": gap_id, "table": table, "venue": "aster"}


class Bench:
    """A repair with its exchange, its clock, and what it logged and noted."""

    def __init__(self, **answers: bytes | Exception) -> None:
        self.exchange = Exchange(**answers)
        self.clock = FollowedClock(NOON_MS * 10**6)
        self.logged: list[Answered] = []
        self.notes: list[dict] = []
        self.budget = Budget(self.clock, 100)
        self.repair = Repair(
            self.exchange, self.clock, self.budget, log=self.logged.extend,
            note=lambda what, **told: self.notes.append({"note": what} | told), since_ms=lambda: NOON_MS,
        )  # fmt: skip

    def round_at(self, seconds: float) -> int:
        """Answers logged so long after noon."""
        self.clock.tell(NOON_MS * 10**6 + round(seconds * 1e9))
        return asyncio.run(self.repair.round())


def test_answers_are_logged_page_by_page_with_the_gap_that_they_fill():
    bench = Bench()
    bench.repair.offer([gap("a"), gap("b")])
    assert bench.round_at(0) == 4
    assert [answered.question.gap_id for answered in bench.logged] == ["a", "a", "b", "b"]
    assert bench.budget.used == 80
    assert (bench.repair.answers, bench.repair.gaps_open) == (4, 2)


def test_a_gap_that_stays_open_is_asked_for_again_later_and_later():
    bench = Bench()
    bench.repair.offer([gap("a", "klines")])
    asked_at = [minute for minute in range(120) if bench.round_at(60 * minute)]
    assert asked_at == [0, 10, 30, 70]


def test_a_gap_that_was_settled_and_opens_again_is_asked_for_at_once():
    bench = Bench()
    bench.repair.offer([gap("a")])
    assert bench.round_at(0) == 2
    bench.repair.offer([])
    assert bench.repair.gaps_open == 0
    bench.repair.offer([gap("a")])
    assert bench.round_at(1) == 2


def test_a_gap_that_cannot_be_asked_for_yet_is_looked_at_every_time():
    bench = Bench()
    bench.repair.offer([gap("young")])
    assert bench.round_at(0) == 0
    bench.repair.offer([gap("settled")])
    assert bench.round_at(1) == 2


def test_an_exchange_that_asks_for_patience_pauses_repair_and_the_gap_is_asked_for_again():
    bench = Bench(aggTrades=Unavailable("aggTrades: HTTP 429", 40.0))
    bench.repair.offer([gap("a")])
    assert bench.round_at(0) == 0
    assert bench.repair.trouble == "repair waits: aggTrades: HTTP 429"
    bench.exchange.answers.clear()
    assert bench.round_at(40) == 2
    assert bench.repair.trouble is None


def test_a_question_that_is_refused_for_good_is_noted_with_its_gap():
    bench = Bench(aggTrades=ValueError("aggTrades: HTTP 400"))
    bench.repair.offer([gap("a")])
    assert bench.round_at(0) == 0
    assert [(note["gap_id"], note["reason"]) for note in bench.notes] == [("a", "aggTrades: HTTP 400")] * 2
    assert bench.round_at(60) == 0
    assert len(bench.exchange.asked) == 2


BEGUN = Beginning("aster", "btcusdt@aggTrade", "trades", "BTCUSDT", None, NOON_MS, 9, NOON_MS + 5)


def test_what_came_before_a_first_row_is_asked_once_and_noted_and_is_no_gap_yet():
    bench = Bench(aggTrades=b'[{"a": 8, "T": %d}]' % NOON_MS)
    bench.repair.offer([], [BEGUN])
    assert bench.round_at(0) == 1
    assert bench.notes == [{"note": "first", "venue": "aster", "stream": "btcusdt@aggTrade", "first": 8}]
    assert (bench.logged, bench.repair.gaps_open, bench.repair.answers) == ([], 0, 0)
    bench.repair.offer([], [BEGUN])  # its note is not sealed yet
    assert [minute for minute in range(1, 60) if bench.round_at(60 * minute)] == [10, 30]
    bench.repair.offer([])
    assert bench.round_at(86_400) == 0


def test_what_came_before_a_first_row_is_asked_again_when_the_exchange_answers_and_later_when_it_refuses():
    bench = Bench(aggTrades=Unavailable("aggTrades: HTTP 503", 0.0))
    bench.repair.offer([], [BEGUN])
    assert bench.round_at(0) == 0
    assert bench.repair.trouble == "repair waits: aggTrades: HTTP 503"
    bench.exchange.answers["aggTrades"] = ValueError("aggTrades: HTTP 400")
    assert [bench.round_at(30), bench.repair.trouble, bench.notes] == [0, None, []]
    bench.exchange.answers.clear()
    assert [minute for minute in range(1, 30) if bench.round_at(60 * minute)] == [11]
    assert bench.notes[0]["first"] is None


def test_a_first_row_that_has_its_predecessor_meanwhile_is_asked_about_no_more():
    bench = Bench()
    others = [BEGUN._replace(stream=f"{name}@aggTrade") for name in "abcdef"]
    bench.repair.offer([], [BEGUN, *others])

    async def play() -> None:
        asking = asyncio.create_task(bench.repair.round())
        while len(bench.exchange.asked) < 5:  # of a budget of 100 a minute
            await asyncio.sleep(0.001)
        bench.repair.offer([], others[:4])
        bench.clock.tell((NOON_MS + 61_000) * 10**6)
        await asking

    asyncio.run(play())
    assert [note["stream"] for note in bench.notes] == ["btcusdt@aggTrade", *(each.stream for each in others[:5])]


def test_repair_goes_on_by_itself_as_gaps_are_offered_and_as_time_passes():
    bench = Bench(aggTrades=Unavailable("HTTP 418", 120.0))
    bench.clock.attach()

    async def settle() -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    async def play() -> list[int]:
        running = asyncio.create_task(bench.repair.run())
        asked = []
        for seconds in (0, 1, 60, 119, 121):
            bench.clock.tell((NOON_MS + 1_000 * seconds) * 10**6)
            if seconds == 1:
                bench.repair.offer([gap("a")])
            if seconds == 119:
                bench.exchange.answers.clear()
            await settle()
            asked.append(len(bench.exchange.asked))
        running.cancel()
        await asyncio.wait([running])
        return asked

    assert asyncio.run(play()) == [0, 1, 1, 1, 3]
