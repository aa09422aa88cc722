"""Stream names and the control messages of a connection."""

import json

import pytest

from data.loopback.streams import MAX_STREAMS, Stream, Subscriptions, stream_of

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def answer(subscriptions: Subscriptions, **message) -> dict:
    return json.loads(subscriptions.answer(json.dumps(message).encode()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("btcusdt@aggTrade", {"kind": "aggTrade"}),
        ("btcusdt@trade", {"kind": "trade"}),
        ("btcusdt@bookTicker", {"kind": "bookTicker"}),
        ("btcusdt@forceOrder", {"kind": "forceOrder"}),
        ("btcusdt@markPrice", {"kind": "markPrice", "cadence_ms": 3_000}),
        ("btcusdt@markPrice@1s", {"kind": "markPrice", "cadence_ms": 1_000}),
        ("btcusdt@kline_1m", {"kind": "kline", "interval": "1m"}),
        ("btcusdt@kline_1M", {"kind": "kline", "interval": "1M"}),
        ("btcusdt@depth5", {"kind": "depth", "levels": 5, "cadence_ms": 250}),
        ("btcusdt@depth20@100ms", {"kind": "depth", "levels": 20, "cadence_ms": 100}),
    ],
)
def test_a_name_says_what_is_asked_for(name, expected):
    assert stream_of(name, SYMBOLS) == Stream(name=name, symbols=("BTCUSDT",), **expected)


@pytest.mark.parametrize("name", ["!forceOrder@arr", "!bookTicker", "!markPrice@arr", "!markPrice@arr@1s"])
def test_a_name_with_an_exclamation_mark_is_about_all_contracts(name):
    stream = stream_of(name, SYMBOLS)
    assert (stream.symbols, stream.is_of_all) == (SYMBOLS, True)


@pytest.mark.parametrize(
    "name", ["BTCUSDT@aggTrade", "solusdt@aggTrade", "btcusdt@kline_1s", "btcusdt@depth7", "btcusdt", "", "a@b@c"]
)
def test_there_is_no_such_stream(name):
    assert stream_of(name, SYMBOLS) is None


def test_subscriptions_come_and_go():
    connection = Subscriptions(["btcusdt@trade"], is_combined=False)
    subscribed = answer(connection, method="SUBSCRIBE", params=["btcusdt@aggTrade", "nobody@aggTrade"], id=1)
    assert subscribed == {"result": None, "id": 1}
    assert answer(connection, method="UNSUBSCRIBE", params=["btcusdt@trade"], id=2) == {"result": None, "id": 2}
    listed = answer(connection, method="LIST_SUBSCRIPTIONS", id=3)
    assert listed == {"result": ["btcusdt@aggTrade", "nobody@aggTrade"], "id": 3}


def test_messages_can_be_asked_for_with_the_name_of_their_stream():
    connection = Subscriptions([], is_combined=False)
    assert answer(connection, method="GET_PROPERTY", params=["combined"], id=4) == {"result": False, "id": 4}
    assert answer(connection, method="SET_PROPERTY", params=["combined", True], id=5) == {"result": None, "id": 5}
    assert answer(connection, method="GET_PROPERTY", params=["combined"], id=6) == {"result": True, "id": 6}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b'{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0),
        (b'{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
        (b'{"method":"SET_PROPERTY","params":["combined"],"id":1}', 1),
        (b'{"method":"LIST_SUBSCRIPTIONS","id":-1}', 2),
        (b'{"method":"LIST_SUBSCRIPTIONS","id":"one"}', 2),
        (b'{"method":"LIST_SUBSCRIPTIONS","id":true}', 2),
        (b'{"method":"LIST_SUBSCRIPTIONS"}', 2),
        (b'{"method":"SHOUT","id":1}', 2),
        (b'{"params":[],"id":1}', 2),
        (b"[]", 2),
        (b'{"method":"SUBSCRIBE","params":"btcusdt@trade","id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        (b'{"method":"GET_PROPERTY","params":["combined","too","many"],"id":1}', 2),
        (b'{"method":"GET_PROPERTY","params":[1],"id":1}', 2),
        (b'{"method":"GET_PROPERTY","params":[],"id":1}', 2),
        (b"{not json", 3),
        (b"\xff", 3),
    ],
)
def test_a_wrong_message_is_answered_with_its_code_and_changes_nothing(message, code):
    connection = Subscriptions(["btcusdt@trade"], is_combined=True)
    reply = json.loads(connection.answer(message))
    assert (reply["code"], list(reply)) == (code, ["code", "msg"])
    assert (list(connection.names), connection.is_combined) == (["btcusdt@trade"], True)


def test_two_hundred_streams_are_the_most_a_connection_may_have():
    connection = Subscriptions([f"s{number}@trade" for number in range(MAX_STREAMS - 1)], is_combined=True)
    assert answer(connection, method="SUBSCRIBE", params=["a@trade", "b@trade"], id=1)["code"] == 2
    assert answer(connection, method="SUBSCRIBE", params=["a@trade", "a@trade"], id=2) == {"result": None, "id": 2}
    assert len(connection.names) == MAX_STREAMS
