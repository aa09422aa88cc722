"""The map of one symbol from its messages: when it is made, what it is made of, and when there is none."""

import json
import math

import numpy as np
import pytest

from data.messages import decode
from data.messages_rest import decode_answer
from data.wal import answer
from live.map_feed import MAP_EVERY_MS, MAP_HISTORY, MapFeed, history_of, no_bars, told_history
from research.clusters.live_map import UNKNOWN, LiveMap
from research.clusters.tables import STALE
from research.tests.test_clusters_live_map import walking

MINUTE_MS = 60_000
LEARNT = walking(3, 600, MINUTE_MS)
BEGIN_MS, PRICE = int(LEARNT.time_ms[-1]), float(LEARNT.mark_close[-1])


class Exchange:
    """Tells a feed what happens, and what becomes due in between."""

    def __init__(self, feed: MapFeed) -> None:
        self.feed = feed
        self.trades = 0

    def wait_until(self, now_ms: int) -> None:
        while self.feed.due_ms is not None and self.feed.due_ms <= now_ms:
            self.feed.due(self.feed.due_ms)

    def say(self, now_ms: int, **message) -> None:
        self.wait_until(now_ms - 1)
        (said,) = decode(json.dumps({"E": now_ms, "s": "SOLUSDT"} | message).encode())
        self.feed.hear(now_ms * 1_000_000, said)

    def mark(self, now_ms: int, price: float) -> None:
        told = {"e": "markPriceUpdate", "p": repr(price), "i": "1", "P": "1", "r": "", "T": 0}
        self.say(now_ms, **told)

    def trade(self, now_ms: int, quantity: str, trade_id: int) -> None:
        told = {"e": "aggTrade", "a": trade_id, "p": "100", "q": quantity, "f": 1, "l": 1, "T": now_ms, "m": False}
        self.say(now_ms, **told)

    def open_interest(self, now_ms: int, quantity: str, event_ms: int | None = None) -> None:
        self.wait_until(now_ms - 1)
        told = {"symbol": "SOLUSDT", "openInterest": quantity, "time": now_ms if event_ms is None else event_ms}
        body = json.dumps(told).encode()
        asked = decode_answer(answer("/fapi/v1/openInterest", {"symbol": "SOLUSDT"}, 0, body))
        self.feed.answered(now_ms * 1_000_000, asked)


@pytest.fixture
def steps(monkeypatch):
    """The bars that maps were stepped with."""
    taken, step = [], LiveMap.step
    monkeypatch.setattr(LiveMap, "step", lambda live, bar, **length: (taken.append(bar), step(live, bar, **length))[1])
    return taken


@pytest.fixture
def exchange():
    """An exchange and a feed that has learnt ten hours."""
    return Exchange(MapFeed(LEARNT))


def times_ms(steps) -> list[int]:
    return [int(bar.time_ms[0]) - BEGIN_MS for bar in steps]


def test_a_map_is_made_every_five_seconds_of_all_that_was_told_in_them(exchange, steps):
    for at_ms, price in ((1_000, PRICE), (2_000, PRICE * 1.0001), (3_000, PRICE * 0.9999), (6_000, PRICE)):
        exchange.mark(BEGIN_MS + at_ms, price)
    exchange.trade(BEGIN_MS + 7_000, "2", trade_id=5)
    exchange.trade(BEGIN_MS + 7_100, "2", trade_id=5)  # the same once more
    exchange.open_interest(BEGIN_MS + 8_000, "123000")
    exchange.mark(BEGIN_MS + 10_001, PRICE)
    assert times_ms(steps) == [5_000, 10_000]
    first, second = steps
    assert (first.mark_high[0], first.mark_low[0]) == (PRICE * 1.0001, PRICE * 0.9999)
    assert (first.volume_usdt[0], second.volume_usdt[0]) == (0.0, 200.0)
    assert (first.is_new[0], second.is_new[0], second.open_interest[0]) == (False, True, 123_000.0)


def test_a_mark_that_reaches_a_cluster_is_acted_on_at_once(exchange, steps):
    exchange.mark(BEGIN_MS + 1_000, PRICE)
    exchange.wait_until(BEGIN_MS + 5_000)
    near_edge = exchange.feed.columns(BEGIN_MS + 5_000, MINUTE_MS)["near_long_hi"]
    exchange.mark(BEGIN_MS + 6_000, (PRICE + near_edge) / 2)
    exchange.mark(BEGIN_MS + 7_300, near_edge * 0.9999)
    assert times_ms(steps)[0] == 5_000 and times_ms(steps)[-1] == 7_300
    assert exchange.feed.columns(BEGIN_MS + 7_300, MINUTE_MS)["map_age_ms"] == 0.0
    exchange.wait_until(BEGIN_MS + 10_000)
    assert times_ms(steps)[-1] == 7_300 and exchange.feed.reason is None  # nothing new since


def test_without_marks_the_map_is_blind_and_nothing_is_due_until_one_comes(exchange, steps):
    exchange.mark(BEGIN_MS + 1_000, PRICE)
    exchange.wait_until(BEGIN_MS + MINUTE_MS)
    assert times_ms(steps) == [5_000, 10_000]
    assert exchange.feed.reason == STALE and exchange.feed.due_ms is None
    exchange.mark(BEGIN_MS + 61_000, PRICE)
    assert exchange.feed.due_ms == BEGIN_MS + 65_000
    exchange.wait_until(BEGIN_MS + 65_000)
    assert exchange.feed.reason is None


def test_open_interest_that_stays_away_or_stands_still_ends_the_map(exchange):
    reasons = []
    for minute in range(40):
        now_ms = BEGIN_MS + minute * MINUTE_MS
        if minute < 10:
            exchange.open_interest(now_ms + 500, "100000")
        elif minute < 30:
            exchange.open_interest(now_ms + 500, "100000", event_ms=BEGIN_MS + 9 * MINUTE_MS + 500)  # told again
        else:
            exchange.open_interest(now_ms + 500, "100000")
        exchange.mark(now_ms + 1_000, PRICE)
        exchange.wait_until(now_ms + MAP_EVERY_MS)
        reasons.append(exchange.feed.reason)
        is_out = all(map(math.isnan, exchange.feed.columns(now_ms + MAP_EVERY_MS, MINUTE_MS).values()))
        assert is_out == (reasons[-1] is not None)
    assert [reason is None for reason in reasons] == [True] * 25 + [False] * 5 + [True] * 10
    assert set(reasons[25:30]) == {STALE}


@pytest.mark.parametrize("body", ["{}", "[]", '{"symbol":"SOLUSDT","openInterest":"-1","time":1}', '{"code":-1}'])
def test_an_answer_that_is_none_changes_nothing(steps, body):
    exchange = Exchange(MapFeed(no_bars("SOLUSDT")))
    asked = decode_answer(answer("/fapi/v1/openInterest", {"symbol": "SOLUSDT"}, 0, body.encode()))
    exchange.feed.answered(BEGIN_MS * 1_000_000, asked)
    exchange.mark(BEGIN_MS + 1_000, PRICE)
    exchange.wait_until(BEGIN_MS + 5_000)
    assert exchange.feed.reason == UNKNOWN and math.isnan(steps[0].open_interest[0])


def test_a_map_that_begins_with_nothing_is_told_of_after_six_hours_of_open_interest():
    exchange = Exchange(MapFeed(no_bars("SOLUSDT")))
    exchange.open_interest(BEGIN_MS, "100000")
    exchange.mark(BEGIN_MS + 1, PRICE)
    exchange.wait_until(BEGIN_MS + 5_000)
    assert exchange.feed.reason == "open interest is known for less than 6 hours"
    later_ms = BEGIN_MS + 6 * 60 * MINUTE_MS + 6_000
    exchange.open_interest(later_ms, "100000")
    exchange.mark(later_ms, PRICE)
    exchange.wait_until(later_ms + MAP_EVERY_MS)
    assert exchange.feed.reason is None


def test_a_history_goes_through_the_log_unchanged():
    bars = LEARNT.rows(slice(0, 50))
    bars.mark_high[3] = bars.open_interest[0] = math.nan
    body = json.dumps(told_history(bars), allow_nan=False).encode()
    read = history_of(decode_answer(answer(f"/lake/{MAP_HISTORY}", {"symbol": "SOLUSDT"}, 0, body)))
    for name in ("time_ms", "avail_ms", "mark_high", "mark_close", "volume_usdt", "open_interest", "is_new"):
        np.testing.assert_array_equal(getattr(read, name), getattr(bars, name))
    assert (read.symbol, read.source, read.is_new.dtype) == ("SOLUSDT", "aster", np.bool_)
