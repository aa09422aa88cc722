"""What is asked by REST, when, and what becomes of questions that are not answered."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from data.clock import FollowedClock, RealClock
from data.recorder_asking import Answered, Asking, Entry, ask_forever, sleep_until
from data.recorder_clock import ClockWatch, Reading
from data.recorder_config import RecorderConfig
from data.recorder_polls import MarketPolls, entries_of_other_venues
from data.recorder_rest import CONTRACTS, INTERVALS, bars, check_symbols, next_due_ns, snapshot
from data.venues.aster import Unavailable
from data.venues.questions import Question
from data.venues.weights import Budget

NOON_MS = 1_767_614_400_000  # 2026-01-05 12:00
MINUTE_MS = 60_000
TRADES, FUNDING, PRICES = (Question(path=f"/fapi/v3/{name}") for name in ("aggTrades", "fundingRate", "klines"))
BTC = {"symbol": "BTCUSDT", "status": "TRADING"}


class Exchange:
    """Answers with what it was given by path, ``b"[]"`` otherwise; an exception is raised."""

    used_weight = None

    def __init__(self, **answers: bytes | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, question: Question) -> bytes:
        self.asked.append(question.path.rpartition("/")[2])
        answer = self.answers.get(self.asked[-1], b"[]")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, path: str) -> bytes:
        return await self.ask(Question(path=path))


class Log(list):
    """The names of what was answered, round by round."""

    def __call__(self, answers: list[Answered]) -> None:
        self.append([answered.question.path.rpartition("/")[2] for answered in answers])


def asking(exchange: Exchange, log: Log, clock: FollowedClock | None = None, **settings) -> Asking:
    clock = clock or FollowedClock(NOON_MS * 10**6)
    return Asking(exchange, clock, Budget(clock), log=log, **settings)


def test_the_answers_of_a_round_are_logged_together_and_a_question_is_asked_once():
    exchange, log = Exchange(), Log()
    asked = asking(exchange, log)
    asked.add([INTERVALS, FUNDING])
    asked.add([FUNDING, TRADES])
    asyncio.run(asked.round())
    assert log == [["fundingInfo", "fundingRate", "aggTrades"]]
    assert asked.is_done


def test_a_question_without_an_answer_comes_last_in_the_next_round_and_the_others_wait_no_longer():
    exchange, log = Exchange(aggTrades=Unavailable("aggTrades: HTTP 503", 0.0)), Log()
    asked = asking(exchange, log)
    asked.add([TRADES, FUNDING, PRICES])

    async def play() -> None:
        await asked.round()
        assert "REST: aggTrades: HTTP 503" in asked.trouble
        await asked.round()
        exchange.answers.clear()
        await asked.round()

    asyncio.run(play())
    assert exchange.asked == ["aggTrades", "fundingRate", "klines", "aggTrades", "aggTrades"]
    assert log == [["fundingRate", "klines"], ["aggTrades"]]
    assert (asked.trouble, asked.is_done) == (None, True)


def test_a_question_with_few_tries_is_given_up():
    asked = asking(Exchange(aggTrades=Unavailable("HTTP 503", 0.0)), Log())
    asked.add([TRADES], tries=2)
    asyncio.run(asked.round())
    assert not asked.is_done
    asyncio.run(asked.round())
    assert asked.is_done


def test_what_is_refused_for_good_is_told_and_left_alone_for_a_day():
    clock, notes = FollowedClock(NOON_MS * 10**6), []
    exchange = Exchange(aggTrades=ValueError("aggTrades: HTTP 400, code -1121: Invalid symbol."))
    asked = asking(exchange, Log(), clock, note=lambda **told: notes.append(told))

    async def play() -> None:
        for hours in (0, 1, 25):
            clock.tell((NOON_MS + hours * 60 * MINUTE_MS) * 10**6)
            asked.add([TRADES, FUNDING])
            await asked.round()

    asyncio.run(play())
    assert exchange.asked == ["aggTrades", "fundingRate", "fundingRate", "aggTrades", "fundingRate"]
    assert notes[0]["path"] == "/fapi/v3/aggTrades"
    assert "Invalid symbol" in notes[0]["reason"]
    assert list(asked.refused.values()) == ["aggTrades: HTTP 400, code -1121: Invalid symbol."]


def test_the_contracts_are_logged_when_they_changed_and_once_a_day():
    clock, exchange, log = FollowedClock(NOON_MS * 10**6), Exchange(), Log()
    asked = asking(exchange, log, clock)

    async def hour(number: int, symbols: list[dict]) -> None:
        clock.tell((NOON_MS + number * 60 * MINUTE_MS) * 10**6)
        exchange.answers["exchangeInfo"] = json.dumps({"serverTime": number, "symbols": symbols}).encode()
        asked.add([CONTRACTS])
        await asked.round()

    async def play() -> list[int]:
        logged = []
        for number, status in enumerate(["TRADING"] * 3 + ["CLOSE"] * 11):
            before = len(log)
            await hour(number, [{**BTC, "status": status}])
            logged += [number] * (len(log) - before)
        return logged

    assert asyncio.run(play()) == [0, 3, 12]  # at first, when it was closed, after midnight


def test_an_entry_is_due_so_long_after_each_multiple_and_earlier_when_hastened():
    asked = asking(Exchange(), Log())
    entry = Entry(lambda now_ms: [FUNDING], every_s=3_600, delay_s=60)
    entry.begin(NOON_MS * 10**6)
    assert entry.due_ns == (NOON_MS + MINUTE_MS) * 10**6
    entry.hasten((NOON_MS + 2 * MINUTE_MS) * 10**6)
    entry.ask(asked, NOON_MS * 10**6)
    assert asked.is_done
    entry.ask(asked, (NOON_MS + MINUTE_MS) * 10**6)
    assert not asked.is_done
    assert entry.due_ns == (NOON_MS + 61 * MINUTE_MS) * 10**6
    assert next_due_ns(60 * 10**9, 3_600, 60) == 3_660 * 10**9


def test_history_is_asked_with_the_fewest_requests_and_ends_where_bars_have_settled():
    asked = snapshot(["BTCUSDT"], "1m", NOON_MS)
    assert [question.path.rpartition("/")[2] for question in asked] == [
        "fundingInfo", "fundingRate", "klines", "markPriceKlines", "indexPriceKlines", "aggTrades",
    ]  # fmt: skip
    assert asked[2].params["endTime"] == NOON_MS - 6 * MINUTE_MS
    assert bars(["BTCUSDT"], "1m", NOON_MS + 1, NOON_MS + MINUTE_MS - 1) == []
    hour = bars(["BTCUSDT"], "1m", NOON_MS - 59 * MINUTE_MS, NOON_MS)
    assert [question.params["limit"] for question in hour] == [60, 60, 60]
    day = bars(["BTCUSDT"], "1m", NOON_MS, NOON_MS + 1_440 * MINUTE_MS - 1)[::3]
    assert [question.params["limit"] for question in day] == [499, 499, 442]
    spans = [(question.params["startTime"], question.params["endTime"]) for question in day]
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(spans))
    assert spans[0][0] == NOON_MS


def play_polls(exchange: Exchange, until: Callable[[int], bool], *, reconnected_at: int | None = None, **settings):
    """Minutes at which the polls asked, and what; the clock is told minute by minute."""
    clock, log, notes, reconnects = FollowedClock(NOON_MS * 10**6), Log(), [], [0]
    clock.attach()
    config = RecorderConfig(symbols=("BTCUSDT",), **settings)
    polls = MarketPolls(config, clock, lambda what, **told: notes.append((what, told)), lambda: reconnects[0])
    asked = Asking(exchange, clock, Budget(clock), log=log, check=polls.check)
    told: dict[int, list[str]] = {}

    async def play() -> None:
        is_listening = asyncio.Event()
        is_listening.set()
        running = asyncio.create_task(polls.run(asked, is_listening, lambda: None))
        minute = 0
        while not until(minute):
            before = len(exchange.asked)
            if minute == reconnected_at:
                reconnects[0] += 1
            clock.tell((NOON_MS + minute * MINUTE_MS) * 10**6)
            for _ in range(200):
                await asyncio.sleep(0)
            if exchange.asked[before:]:
                told[minute] = exchange.asked[before:]
            minute += 1
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()

    asyncio.run(play())
    return told, notes, polls


def trading() -> Exchange:
    return Exchange(exchangeInfo=json.dumps({"serverTime": 1, "symbols": [BTC]}).encode())


BARS = ["klines", "markPriceKlines", "indexPriceKlines"]


def test_polls_follow_the_hour_and_bars_are_asked_for_when_they_have_settled():
    told, notes, _ = play_polls(trading(), lambda minute: minute > 70)
    assert told[0] == ["exchangeInfo", "fundingInfo", "fundingRate", *BARS, "aggTrades", "indexreferences"]
    assert told[1] == told[61] == ["exchangeInfo", "fundingInfo", "fundingRate", "indexreferences"]
    assert told[5] == told[6] == told[66] == BARS
    assert sorted(told) == [0, 1, 5, 6, 61, 66]
    assert notes == []


def test_after_a_reconnect_the_bars_of_that_time_are_asked_for_once_they_have_settled():
    told, _, _ = play_polls(trading(), lambda minute: minute > 30, reconnected_at=20)
    assert BARS in (told.get(26), told.get(27))


def test_a_symbol_that_stops_trading_is_noted_when_that_is_told():
    exchange = trading()

    def until(minute: int) -> bool:
        if minute == 30:
            closed = {"serverTime": 2, "symbols": [{**BTC, "status": "CLOSE"}]}
            exchange.answers["exchangeInfo"] = json.dumps(closed).encode()
        return minute > 62

    _, notes, polls = play_polls(exchange, until)
    assert notes == [("symbol_status", {"symbol": "BTCUSDT", "status": "CLOSE"})]
    assert polls.notices == ["BTCUSDT does not trade now: CLOSE"]


def test_a_symbol_that_the_exchange_does_not_have_ends_the_run_at_once():
    exchange = Exchange(exchangeInfo=b'{"serverTime":1,"symbols":[{"symbol":"BTCUSDC","status":"TRADING"}]}')
    with pytest.raises(ValueError, match="the exchange has no BTCUSDT; did you mean BTCUSDC"):
        play_polls(exchange, lambda minute: minute > 0)
    assert check_symbols(["BTCUSDT"], {}) == []


def test_an_answer_that_is_no_list_of_contracts_is_told_and_the_run_goes_on():
    exchange = trading()

    def until(minute: int) -> bool:
        exchange.answers["exchangeInfo"] = b"[]" if minute else exchange.answers["exchangeInfo"]
        return minute > 62

    told, notes, polls = play_polls(exchange, until)
    assert told[61] == ["exchangeInfo", "fundingInfo", "fundingRate", "indexreferences"]
    assert polls.notices == ["exchangeInfo: expected an object with symbols, got b'[]'"]
    assert notes == []


def test_open_interest_is_asked_as_often_as_wanted_and_an_endpoint_that_is_not_there_is_let_alone():
    exchange = trading()
    told, _, _ = play_polls(exchange, lambda minute: minute > 10, open_interest_s=300.0)
    assert [minute for minute in told if "openInterest" in told[minute]] == [0, 5, 10]
    exchange = trading()
    exchange.answers["openInterest"] = ValueError("openInterest: HTTP 404")
    told, _, _ = play_polls(exchange, lambda minute: minute > 10, open_interest_s=300.0)
    assert [minute for minute in told if "openInterest" in told[minute]] == [0]


def test_other_venues_are_asked_only_when_wanted():
    assert entries_of_other_venues(RecorderConfig(symbols=("BTCUSDT",), open_interest_s=60.0)) == {}
    wanted = RecorderConfig(symbols=("BTCUSDT",), other_venues=True)
    assert {venue: len(entries) for venue, entries in entries_of_other_venues(wanted).items()} == {"binance": 1}
    wanted = RecorderConfig(symbols=("BTCUSDT",), other_venues=True, open_interest_s=60.0)
    assert {venue: len(entries) for venue, entries in entries_of_other_venues(wanted).items()} == {
        "binance": 2, "hyperliquid": 1,
    }  # fmt: skip


def test_a_venue_that_does_not_answer_is_asked_again_after_half_a_minute():
    clock, exchange = FollowedClock(NOON_MS * 10**6), Exchange(fundingRate=Unavailable("HTTP 503", 0.0))
    clock.attach()
    asked = asking(exchange, Log(), clock)

    async def play() -> None:
        entry = Entry(lambda now_ms: [FUNDING], every_s=3_600, at_once=True)
        running = asyncio.create_task(ask_forever(asked, [entry], clock))
        for seconds in range(0, 100, 10):
            clock.tell((NOON_MS + 1_000 * seconds) * 10**6)
            for _ in range(20):
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(play())
    assert len(exchange.asked) == 4  # after 0, 30, 60 and 90 seconds


class Stepping(RealClock):
    """The machine's clock, set by somebody."""

    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


def test_a_step_of_our_clock_is_told_at_once_with_its_size(monkeypatch):
    monkeypatch.setattr("data.recorder_clock._LOOK_S", 0.01)
    clock, told = Stepping(), []
    exchange = Exchange()

    def server_time() -> bytes:
        return b'{"serverTime":%d}' % (RealClock().now_ms() + 250)

    async def play() -> None:
        exchange.answers["time"] = server_time()
        running = asyncio.create_task(ClockWatch(exchange, clock, told.append).run())
        while len(told) < 2:
            await asyncio.sleep(0.01)
            exchange.answers["time"] = server_time()
            if told:
                clock.ahead_ns = -2 * 10**9
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(asyncio.wait_for(play(), 20))
    first, second = told
    assert first.step_ms == pytest.approx(0, abs=100)
    assert first.offset_ms == pytest.approx(250, abs=200)
    assert second.step_ms == pytest.approx(-2_000, abs=100)
    assert second.offset_ms == pytest.approx(2_250, abs=200)


@pytest.mark.parametrize(
    "answer",
    [Unavailable("HTTP 503", 0.0), b"[]", b'{"serverTime":null}', b'{"serverTime":"soon"}', b'{"serverTime":1e400}'],
)
def test_a_clock_that_cannot_be_compared_is_told_without_an_offset(answer):
    told: list[Reading] = []

    async def play() -> None:
        clock = FollowedClock(NOON_MS * 10**6)
        watch = ClockWatch(Exchange(time=answer), clock, told.append)
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(play())
    assert told == [Reading(at_ns=NOON_MS * 10**6, offset_ms=None, round_trip_ms=None, step_ms=None)]


def test_a_wait_takes_no_longer_when_our_clock_is_set_back_meanwhile():
    clock = Stepping()

    async def play() -> None:
        waiting = asyncio.create_task(sleep_until(clock, clock.now_ns() + 100_000_000))
        await asyncio.sleep(0.02)
        clock.ahead_ns = -3_600 * 10**9
        await waiting

    asyncio.run(asyncio.wait_for(play(), 10))
