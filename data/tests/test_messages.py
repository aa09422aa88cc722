"""Frames as typed messages: every documented stream, real captures, and what is no message."""

import gzip
import json
from collections import Counter

import msgspec
import pytest

from data import messages
from data.messages import (
    AggTrade,
    Announcement,
    Bar,
    BookTicker,
    Depth,
    Drift,
    ForceOrder,
    Kline,
    Liquidation,
    MarkPrice,
    Notice,
    Other,
    Trade,
    Unknown,
    as_json,
    decode,
    decode_quickly,
    stream_levels,
)

# verbatim from the documentation of the market streams
AGG_TRADE = b"""{"e":"aggTrade","E":1780000000105,"s":"BTCUSDT","a":501,"p":"61000.1","q":"0.020","f":900,"l":902,"T":1780000000101,"m":false}"""  # noqa: E501
MARK_PRICE = b"""{"e":"markPriceUpdate","E":1780000000000,"s":"BTCUSDT","p":"61002.51","i":"61010.20","P":"61001.00","r":"0.00008000","T":1780012800000}"""  # noqa: E501
KLINE = b"""{"e":"kline","E":1780000059950,"s":"BTCUSDT","k":{"t":1780000000000,"T":1780000059999,"s":"BTCUSDT","i":"1m","f":900,"L":950,
 "o":"61000.1","c":"61004.0","h":"61005.0","l":"60999.9","v":"3.211","n":51,"x":false,"q":"195880.12","V":"1.900","Q":"115900.4","B":"0"}}"""  # noqa: E501
BOOK_TICKER = b"""{"e":"bookTicker","u":770001,"E":1780000000011,"T":1780000000009,"s":"BTCUSDT","b":"61000.0","B":"1.250","a":"61000.1","A":"0.300"}"""  # noqa: E501
DEPTH = b"""{"e":"depthUpdate","E":1780000000250,"T":1780000000248,"s":"BTCUSDT","U":5001,"u":5010,"pu":5000,"b":[["61000.0","0"]],"a":[["61000.1","0.280"]]}"""  # noqa: E501
FORCE_ORDER = b"""{"e":"forceOrder","E":1780000001000,"o":{"s":"ETHUSDT","S":"SELL","o":"LIMIT","f":"IOC","q":"4.200","p":"2990.11","ap":"3004.55","X":"FILLED","l":"1.000","z":"4.200","T":1780000000871}}"""  # noqa: E501
TRADE = b"""{"e":"trade","E":1787302843505,"T":1787302843450,"s":"DOGEUSDT","t":21955616,"p":"0.086245","q":"3894","X":"INSURANCE_FUND","m":true}"""  # noqa: E501
ANNOUNCEMENT = b"""{"e":"announcement","en":{"i":1001,"t":"Maintenance","s":"Short","c":"UPDATES","d":1780000000000,"S":false,"j":"https://x","C":"<p>"},"zh":{"i":1001,"t":"\xe7\xbb\xb4\xe6\x8a\xa4","d":1780000000000}}"""


def wrapped(stream: str, message: bytes) -> bytes:
    return b'{"stream":"%s","data":%s}' % (stream.encode(), message)


def test_an_aggregate_trade():
    assert decode(AGG_TRADE) == [
        AggTrade(
            symbol="BTCUSDT",
            agg_trade_id=501,
            price="61000.1",
            quantity="0.020",
            is_buyer_maker=False,
            event_time=1780000000101,
            sent_time=1780000000105,
            first_trade_id=900,
            last_trade_id=902,
        )
    ]


def test_a_mark_price():
    assert decode(MARK_PRICE) == [
        MarkPrice(
            symbol="BTCUSDT",
            event_time=1780000000000,
            mark_price="61002.51",
            index_price="61010.20",
            estimated_settle_price="61001.00",
            funding_rate="0.00008000",
            next_funding_time=1780012800000,
        )
    ]


def test_an_array_of_mark_prices_is_one_message_each():
    array = b"[" + MARK_PRICE + b"," + MARK_PRICE.replace(b"BTCUSDT", b"ETHUSDT") + b"]"
    for frame in (array, wrapped("!markPrice@arr@1s", array)):
        assert [message.symbol for message in decode(frame)] == ["BTCUSDT", "ETHUSDT"]
        assert decode(frame)[0] == decode(MARK_PRICE)[0]


def test_a_running_bar():
    bar = Bar(
        open_time=1780000000000,
        close_time=1780000059999,
        symbol="BTCUSDT",
        interval="1m",
        first_trade_id=900,
        last_trade_id=950,
        open="61000.1",
        close="61004.0",
        high="61005.0",
        low="60999.9",
        volume="3.211",
        trade_count=51,
        is_final=False,
        quote_volume="195880.12",
        taker_buy_volume="1.900",
        taker_buy_quote_volume="115900.4",
        ignored="0",
    )
    assert decode(KLINE) == [Kline(symbol="BTCUSDT", sent_time=1780000059950, bar=bar)]


def test_a_best_bid_and_ask():
    assert decode(BOOK_TICKER) == [
        BookTicker(
            symbol="BTCUSDT",
            update_id=770001,
            event_time=1780000000009,
            sent_time=1780000000011,
            bid_price="61000.0",
            bid_quantity="1.250",
            ask_price="61000.1",
            ask_quantity="0.300",
        )
    ]


def test_a_book_has_the_levels_that_its_stream_or_the_caller_names():
    changes = Depth(
        symbol="BTCUSDT",
        first_update_id=5001,
        update_id=5010,
        previous_update_id=5000,
        event_time=1780000000248,
        sent_time=1780000000250,
        bids=msgspec.Raw(b'[["61000.0","0"]]'),
        asks=msgspec.Raw(b'[["61000.1","0.280"]]'),
    )
    assert decode(DEPTH) == [changes]
    assert changes.levels is None
    assert [decode(DEPTH, levels=10)[0].levels, decode(DEPTH, levels=10)[0].bids] == [10, changes.bids]
    assert decode(wrapped("btcusdt@depth5@100ms", DEPTH))[0].levels == 5
    assert decode(wrapped("btcusdt@depth@100ms", DEPTH), levels=5) == [changes]


def test_levels_of_a_stream():
    streams = ["btcusdt@depth5", "btcusdt@depth10@500ms", "a@depth20@100ms", "a@depth", "a@depth@0ms", "a@trade", "x"]
    assert [stream_levels(stream) for stream in streams] == [5, 10, 20, None, None, None, None]


def test_a_liquidation():
    order = Liquidation(
        symbol="ETHUSDT",
        side="SELL",
        order_type="LIMIT",
        time_in_force="IOC",
        quantity="4.200",
        price="2990.11",
        average_price="3004.55",
        status="FILLED",
        last_filled_quantity="1.000",
        filled_quantity="4.200",
        event_time=1780000000871,
    )
    assert decode(FORCE_ORDER) == [ForceOrder(order=order, sent_time=1780000001000)]
    assert decode(FORCE_ORDER)[0].symbol == "ETHUSDT"


def test_a_single_fill_as_a_real_collector_saw_it():
    assert decode(TRADE) == [
        Trade(
            symbol="DOGEUSDT",
            trade_id=21955616,
            price="0.086245",
            quantity="3894",
            is_buyer_maker=True,
            event_time=1787302843450,
            sent_time=1787302843505,
            market_type="INSURANCE_FUND",
        )
    ]


@pytest.mark.parametrize("bare", [AGG_TRADE, MARK_PRICE, KLINE, BOOK_TICKER, FORCE_ORDER, TRADE])
def test_a_combined_frame_is_the_message_inside_whatever_the_order_of_its_keys(bare):
    assert decode(wrapped("anything@stream", bare)) == decode(bare)
    assert decode(b' {"data":' + bare + b',"stream":"anything@stream"} ') == decode(bare)


def test_known_events_without_a_table_are_told_by_their_kind():
    for kind in ("24hrTicker", "24hrMiniTicker", "tradepro"):
        assert decode(b'{"e":"%s","s":"BTCUSDT"}' % kind.encode()) == [Other(kind)]


@pytest.mark.parametrize(
    "reply",
    [
        b'{"result":null,"id":1}',
        b'{"result":["btcusdt@aggTrade"],"id":3}',
        b'{"result":true,"id":5}',
        b'{"code":2,"msg":"Invalid request: unknown variant"}',
        b'{"error":{"code":3,"msg":"Invalid JSON"},"id":4}',
    ],
)
def test_answers_to_control_messages_are_no_messages(reply):
    assert decode(reply) == []


def test_ids_and_times_may_be_absent_or_null_as_in_old_recordings():
    for frame, names in ((AGG_TRADE, "f l E"), (BOOK_TICKER, "u E B A"), (DEPTH, "U u pu E"), (KLINE, "E")):
        said = json.loads(frame)
        absent = {name: value for name, value in said.items() if name not in names.split()}
        null = said | dict.fromkeys(names.split())
        assert decode(json.dumps(absent).encode()) == decode(json.dumps(null).encode())
        assert isinstance(decode(json.dumps(null).encode())[0], type(decode(frame)[0]))


def test_a_field_that_nobody_knows_is_named_and_costs_nothing_else():
    newer = AGG_TRADE[:-1] + b',"nn":"0.016","zz":1}'
    assert decode(newer) == [*decode(AGG_TRADE), Drift("aggTrade", ("nn", "zz"))]
    assert decode(wrapped("btcusdt@aggTrade", newer)) == decode(newer)
    newer = FORCE_ORDER[:-2] + b',"xx":"ETHUSDT"},"v":2}'
    assert decode(newer) == [*decode(FORCE_ORDER), Drift("forceOrder", ("v", "o.xx"))]
    book = wrapped("btcusdt@depth5", DEPTH[:-1] + b',"w":1}')
    assert [decode(book)[0].levels, decode(book)[1]] == [5, Drift("depthUpdate", ("w",))]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "not JSON: Input data was truncated"),
        (AGG_TRADE[:-5], "not JSON: Input data was truncated"),
        (b"\xff\x00", "not JSON: JSON is malformed"),
        (b"[" * 100_000, "not JSON: maximum recursion depth"),
        (b'"text"', "expected a message, got JSON of type str"),
        (b"{}", "no event: the field e is missing"),
        (b'{"e":7}', "the field e: expected the name of an event, got 7"),
        (b'{"e":"contractInfo","s":"BTCUSDT"}', "unknown event 'contractInfo'"),
        (AGG_TRADE.replace(b'"a":501,', b""), "aggTrade: Object missing required field `a`"),
        (AGG_TRADE.replace(b'"a":501', b'"a":null'), "aggTrade: Expected `int`, got `null`"),
        (AGG_TRADE.replace(b'"61000.1"', b"61000.1"), "aggTrade: Expected `str`, got `float`"),
        (AGG_TRADE.replace(b'"BTCUSDT"', b'""'), "aggTrade: Expected `str` of length >= 1"),
        (AGG_TRADE.replace(b'"a":501', b'"a":1' + b"0" * 30), "aggTrade: Expected `int"),
        (AGG_TRADE.replace(b"1780000000101", b"1780000000"), "aggTrade: Expected `int` >= 1262304000000"),
        (KLINE.replace(b'"x":false', b'"x":"no"'), "kline: Expected `bool`, got `str` - at `$.k.x`"),
        (KLINE[: KLINE.index(b'"k"')] + b'"k":3}', "kline: Expected `object`, got `int` - at `$.k`"),
        (FORCE_ORDER.replace(b"SELL", b"SOLD"), "forceOrder: Expected `str` matching regex"),
    ],
)
def test_what_is_no_message_says_why(frame, reason):
    (found,) = decode(frame)
    assert isinstance(found, Unknown)
    assert found.reason.startswith(reason)


def test_a_bad_element_of_an_array_does_not_cost_the_others():
    found = decode(b"[" + MARK_PRICE + b',{"e":"markPriceUpdate"},' + MARK_PRICE + b"]")
    assert [type(each) for each in found] == [MarkPrice, Unknown, MarkPrice]


def test_single_captured_frames_of_several_venues(real_data):
    lines = (real_data / "frames" / "live_frames.jsonl").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in map(json.loads, lines):
        decoded = decode(json.dumps(line["raw"]).encode())
        found.setdefault(line["venue"], []).append([type(each).__name__ for each in decoded])
    assert found == {
        "aster": [["ForceOrder"], ["Trade"]],
        "binance-testnet": [["ForceOrder"]],
        "bybit": [["Unknown"], ["Unknown"]],
        "okx": [["Unknown"]],
        "binance": [["AggTrade"], ["ForceOrder"], ["ForceOrder"], ["ForceOrder"]],
    }


def test_every_frame_of_a_real_burst(real_data):
    found = Counter()
    with gzip.open(real_data / "frames" / "binance_ethusdt_20240808.gz") as lines:
        for line in lines:
            for message in decode(line.split(b" ", 1)[1]):
                found[type(message).__name__] += 1
                assert not isinstance(message, Depth) or message.levels is None
    assert found == {"BookTicker": 53_992, "Trade": 14_076, "Depth": 6_586, "Unknown": 1}


def test_a_message_is_written_as_the_exchange_would():
    for frame in (AGG_TRADE, MARK_PRICE, BOOK_TICKER, FORCE_ORDER, TRADE):
        assert decode(as_json(decode(frame)[0]).encode()) == decode(frame)
        assert json.loads(as_json(decode(frame)[0])) == json.loads(frame)


def test_every_kind_of_message_can_be_decoded():
    plain = {AggTrade, Trade, BookTicker, MarkPrice, Kline, Depth, ForceOrder}
    assert set(messages.KINDS.values()) == plain | {Announcement}


def test_an_announcement_between_the_messages_is_told_in_english_where_there_is_english():
    (found,) = decode(ANNOUNCEMENT)
    assert found.notice == Notice(
        announcement_id="1001",
        title="Maintenance",
        subtitle="Short",
        category="UPDATES",
        event_time=1780000000000,
        is_read=False,
        link="https://x",
        html="<p>",
    )
    said = json.loads(ANNOUNCEMENT)
    (chinese,) = decode(json.dumps({"e": "announcement", "zh": said["zh"]}).encode())
    assert chinese.notice.title == "维护"
    (neither,) = decode(b'{"e":"announcement"}')
    assert neither.reason.startswith("announcement: expected the announcement in en or zh")
    newer = json.dumps(said | {"en": said["en"] | {"x": 1}}).encode()
    assert decode(newer) == [found, Drift("announcement", ("en.x",))]


def test_a_plain_frame_is_decoded_to_the_message_itself_and_anything_else_to_a_list():
    assert decode_quickly(wrapped("btcusdt@aggTrade", AGG_TRADE)) == decode(AGG_TRADE)[0]
    assert decode_quickly(b'{"result":null,"id":1}') == []
    assert decode_quickly(b"[" + MARK_PRICE + b"]") == decode(MARK_PRICE)
