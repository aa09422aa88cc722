import json
import math

import pytest

from data.messages import decode
from data.messages_rest import decode_answer
from data.wal import answer
from live.readings import bar_of, bars_of_answer, known_ms, mark_of, quote_of, trade_of

TRADE = {"e": "aggTrade", "E": 1780000000105, "s": "BTCUSDT", "a": 501, "p": "61000.1", "q": "0.020", "f": 900,
         "l": 902, "T": 1780000000101, "m": False}  # fmt: skip
QUOTE = {"e": "bookTicker", "u": 7, "s": "BTCUSDT", "b": "61000.0", "B": "1", "a": "61000.1", "A": "2",
         "T": 1780000000101, "E": 1780000000105}  # fmt: skip
MARK = {"e": "markPriceUpdate", "E": 1780000000000, "s": "BTCUSDT", "p": "61002.51", "i": "61010.20", "P": "61001.00",
        "r": "0.00008000", "T": 1780012800000}  # fmt: skip
OPEN_MS = 1780000020000
ROW = [OPEN_MS, "1", "3", "0.5", "2", "10", OPEN_MS + 59_999, "20", 5, "4", "8", "0"]


def said(message: dict):
    (found,) = decode(json.dumps(message).encode())
    return found


def test_a_receipt_counts_from_the_next_millisecond_on():
    assert [known_ms(ns) for ns in (1_000_000, 1_000_001, 2_000_000)] == [1, 2, 2]


def test_a_message_becomes_its_numbers():
    assert trade_of(5, said(TRADE)) == (5, 501, 1780000000101, 61000.1)
    assert quote_of(5, said(QUOTE)) == (5, 7, 1780000000101, 61000.0, 1.0, 61000.1, 2.0)
    assert mark_of(5, said(MARK)) == (5, 1780000000000, 61002.51, 61010.2, 0.00008, 1780012800000)


def test_what_was_not_sent_is_nan_and_the_time_is_that_of_sending():
    quote = quote_of(5, said({name: value for name, value in QUOTE.items() if name not in "BT"}))
    assert math.isnan(quote.bid_quantity) and quote.event_ms == QUOTE["E"]
    mark = mark_of(5, said(MARK | {"r": "", "T": 0}))
    assert math.isnan(mark.funding_rate) and mark.next_funding_ms is None


@pytest.mark.parametrize("price", ["0", "-1", "nan", "inf", "none"])
def test_a_price_that_is_none_is_no_message(price):
    assert trade_of(5, said(TRADE | {"p": price})) is None
    assert quote_of(5, said(QUOTE | {"a": price})) is None
    assert mark_of(5, said(MARK | {"p": price})) is None


def test_only_the_final_state_of_a_bar_is_a_bar():
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
    bar = dict(zip(names, ROW, strict=True)) | {"s": "BTCUSDT", "i": "1m"}
    running, final = (
        said({"e": "kline", "E": 1780000080000, "s": "BTCUSDT", "k": bar | {"x": x}}) for x in (False, True)
    )
    assert bar_of(5, running, 60_000) is None
    early_ns = (OPEN_MS + 59_000) * 1_000_000
    assert bar_of(early_ns, final, 60_000) == (OPEN_MS, OPEN_MS + 60_000, (1.0, 3.0, 0.5, 2.0, 10.0, 20.0, 5.0, 4.0))
    assert bar_of(early_ns + 2_000_000_001, final, 60_000).known_ms == OPEN_MS + 61_001


def test_bars_by_rest_are_known_when_they_came_and_history_after_its_end():
    body, received_ns = json.dumps([ROW]).encode(), (OPEN_MS + 70_000) * 1_000_000

    def known(since_ms: int, at_ns: int = received_ns) -> list[int]:
        asked = decode_answer(answer("/fapi/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}, since_ms, body))
        return [bar.known_ms for bar in bars_of_answer(at_ns, asked, 60_000, 3_000)]

    assert known(since_ms=OPEN_MS + 60_000) == [OPEN_MS + 70_000]
    assert known(since_ms=OPEN_MS + 60_001) == [OPEN_MS + 63_000]
    assert known(since_ms=OPEN_MS, at_ns=(OPEN_MS + 59_999) * 1_000_000) == []
