"""Where the venues are, and what they are asked."""

from dataclasses import replace

from data.venues import aster, binance, hyperliquid
from data.venues.questions import Question, Venue
from data.wal import VENUES


def test_every_venue_speaks_as_one_whose_rows_can_be_stored():
    loopback = Venue(name="loopback", rest_url="http://127.0.0.1:1", stream_url="ws://127.0.0.1:2", is_loopback=True)
    assert [venue.speaks for venue in (aster.ASTER, binance.BINANCE, hyperliquid.HYPERLIQUID)] == list(VENUES)
    assert loopback.speaks == "aster"
    assert loopback.speaking("binance") == replace(loopback, speaks="binance")


def test_binance_sends_what_the_engine_pushes_and_what_is_gathered_on_two_paths():
    host = "wss://fstream.binance.com"
    streams = ["btcusdt@bookTicker", "btcusdt@depth5@100ms", "!bookTicker", "btcusdt@trade"]
    assert {binance.BINANCE.stream_url_of(stream) for stream in streams} == {f"{host}/public"}
    streams = ["btcusdt@aggTrade", "btcusdt@markPrice@1s", "btcusdt@kline_1m", "!forceOrder@arr"]
    assert {binance.BINANCE.stream_url_of(stream) for stream in streams} == {f"{host}/market"}
    assert aster.ASTER.stream_url_of("btcusdt@aggTrade") == "wss://fstream.asterdex.com"


def test_open_interest_is_asked_per_symbol_but_of_hyperliquid_all_at_once():
    assert aster.open_interest_questions(["X", "Y"])[1] == Question(
        path="/fapi/v1/openInterest", params={"symbol": "Y"}, venue="aster"
    )
    assert binance.open_interest_questions(["X"]) == [
        Question(path="/fapi/v1/openInterest", params={"symbol": "X"}, venue="binance")
    ]
    assert hyperliquid.open_interest_questions() == [
        Question(path="/info", params={"type": "metaAndAssetCtxs"}, venue="hyperliquid", is_post=True)
    ]


def test_ratios_are_three_questions_per_symbol():
    asked = binance.ratio_questions(["X", "Y"], period="1h", limit=2)
    assert len(asked) == 6
    assert {question.venue for question in asked} == {"binance"}
    assert asked[3].params == {"symbol": "Y", "period": "1h", "limit": 2}
    assert [question.path.rsplit("/", 1)[1] for question in asked[:3]] == [
        "globalLongShortAccountRatio",
        "topLongShortPositionRatio",
        "takerlongshortRatio",
    ]
    assert binance.open_interest_history_questions(["X"])[0].params["limit"] == 500


def test_a_coin_of_hyperliquid_is_stored_beside_the_contract_of_the_same_size():
    names = ["BTC", "kPEPE", "KAS", "k", "PURR"]
    assert [hyperliquid.symbol_of(name) for name in names] == [
        "BTCUSDT",
        "1000PEPEUSDT",
        "KASUSDT",
        "kUSDT",
        "PURRUSDT",
    ]
