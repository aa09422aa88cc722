"""What goes wrong with requests on the loopback exchange, and the endpoints of other exchanges that it serves."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from data.loopback.faults import Faults, RequestFault
from data.tests.test_loopback_rest import MINUTE_MS, NOW_MS, SYMBOLS, ask, got, served, wanted

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def faulty(*faults: RequestFault, **settings: object) -> Iterator[str]:
    """The URL of an exchange with these faults."""
    serving = served(faults=Faults(requests=faults), **settings)
    yield next(serving)
    next(serving, None)


@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        (RequestFault(kind="status"), 503, -1001, None),
        (RequestFault(kind="status", code=-1007), 503, -1007, None),
        (RequestFault(kind="status", status=429), 429, -1003, None),
        (RequestFault(kind="status", status=429, retry_after_s=17.0), 429, -1003, "17"),
        (RequestFault(kind="status", status=418), 418, -1003, None),
        (RequestFault(kind="status", status=418, retry_after_s=150.0), 418, -1003, "150"),
        (RequestFault(kind="error_object"), 200, -1001, None),
    ],
)
def test_an_endpoint_answers_with_an_error(fault, status, code, retry_after):
    with faulty(fault) as url:
        told, headers, answer = ask(url, "time")
    assert (told, answer["code"], headers.get("Retry-After")) == (status, code, retry_after)
    if retry_after == "150":
        assert answer["msg"] == f"Way too many requests; IP banned until {NOW_MS + 150_000}."


def test_a_page_comes_where_json_was_due():
    with faulty(RequestFault(kind="html", status=403)) as url, pytest.raises(urllib.error.HTTPError) as refusal:
        _direct.open(f"{url}/fapi/v3/time")
    with refusal.value as answer:
        assert (answer.code, answer.headers.get_content_type()) == (403, "text/html")
        assert answer.read().startswith(b"<html>")


def heard_of(url: str, path: str) -> bytes:
    """What comes over the line before it ends."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line, suppress(ConnectionResetError):
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return line.recv(1)
    return b""


@pytest.mark.parametrize(("kind", "weight"), [("cut_before", 1), ("cut_after", 41)])
def test_the_line_breaks_before_the_answer_comes(kind, weight):
    with faulty(RequestFault(kind=kind, path="ticker/*", count=2)) as url:
        weights = []
        for _ in range(2):  # a minute of the machine may end between the two
            assert heard_of(url, "/fapi/v1/ticker/24hr") == b""
            weights.append(int(ask(url, "time")[1]["X-MBX-USED-WEIGHT-1M"]))
        assert weight in weights
        assert len(got(url, "ticker/24hr")) == 2


def test_a_slow_answer_is_right_in_the_end():
    with faulty(RequestFault(kind="slow", path="time", delay_s=0.2)) as url:
        begun = time.monotonic()
        assert got(url, "time") == {"serverTime": NOW_MS}
        assert time.monotonic() - begun >= 0.2


def test_faults_befall_so_many_requests_in_their_time_and_no_others():
    faults = (
        RequestFault(kind="status", path="*lines", count=2),
        RequestFault(kind="status", path="time", from_s=60.0, for_s=60.0),
    )
    with faulty(*faults) as url:
        bars = {"symbol": "BTCUSDT", "interval": "1m"}
        assert [ask(url, name, **bars)[0] for name in ("klines", "markPriceKlines", "klines")] == [503, 503, 200]
        heard = []
        for _ in range(3):
            heard.append(ask(url, "time")[0])
            ask(url, "skip", prefix="/loopback/", method="POST", seconds=60)
        assert heard == [200, 503, 200]


def test_bad_luck_comes_at_its_rate_and_again_with_the_same_seed():
    def heard() -> list[int]:
        with faulty(RequestFault(kind="status", rate=0.3)) as url:
            return [ask(url, "ping")[0] for _ in range(40)]

    first = heard()
    assert 4 <= first.count(503) <= 24
    assert heard() == first


def test_who_ignores_refusals_is_banned_for_a_while():
    serving = served(weight_limit=50, faults=Faults(ban_after=2, ban_s=120.0))
    url = next(serving)
    told = []
    for _ in range(20):
        status, headers, answer = ask(url, "ticker/24hr")
        told.append(status)
        if status == 418:
            break
    assert told[-3:] == [429, 429, 418]
    assert (answer["code"], headers["Retry-After"]) == (-1003, "120")
    assert answer["msg"] == f"Way too many requests; IP banned until {NOW_MS + 120_000}."
    control = {"prefix": "/loopback/", "method": "POST"}
    ask(url, "skip", seconds=119, **control)
    assert ask(url, "ping")[0] == 418
    ask(url, "skip", seconds=1, **control)
    assert ask(url, "ping")[0] == 200
    next(serving, None)


def test_the_exchanges_clock_may_be_wrong():
    serving = served(faults=Faults(clock_offset_ms=-2_500))
    url = next(serving)
    assert got(url, "time") == {"serverTime": NOW_MS - 2_500}
    assert got(url, "exchangeInfo")["serverTime"] == NOW_MS - 2_500
    next(serving, None)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield from served()


def test_index_references_say_what_an_index_is_made_of(url):
    told = got(url, "indexreferences", prefix="/fapi/v3/", symbol="ASTERUSDT")
    assert (told["symbol"], told["time"]) == ("ASTERUSDT", NOW_MS)
    assert told["references"][1] == {"exchange": "okx", "symbol": "ASTER-USDT", "weight": "0.3000"}
    assert sum(float(each["weight"]) for each in told["references"]) == 1.0
    assert ask(url, "indexreferences", prefix="/fapi/v3/", symbol="NOPE")[2]["code"] == -1000


RATIO = {"symbol": "", "longShortRatio": "", "longAccount": "", "shortAccount": "", "timestamp": 0}
STATISTICS = {
    "openInterestHist": {"symbol": "", "sumOpenInterest": "", "sumOpenInterestValue": "", "timestamp": 0},
    "globalLongShortAccountRatio": RATIO,
    "topLongShortPositionRatio": RATIO,
    "takerlongshortRatio": {"buySellRatio": "", "buyVol": "", "sellVol": "", "timestamp": 0},
}


@pytest.mark.parametrize("name", STATISTICS)
def test_binance_tells_of_whole_periods_newest_last(url, name):
    params = {"prefix": "/futures/data/", "symbol": "BTCUSDT", "period": "5m"}
    newest = got(url, name, **params)
    assert {key: type(value) for key, value in newest[0].items()} == {
        key: type(value) for key, value in STATISTICS[name].items()
    }
    last_ms = NOW_MS // (5 * MINUTE_MS) * (5 * MINUTE_MS)
    assert [row["timestamp"] for row in newest] == [last_ms - 5 * MINUTE_MS * back for back in range(29, -1, -1)]
    since = got(url, name, startTime=last_ms - 20 * MINUTE_MS, endTime=last_ms - MINUTE_MS, limit=3, **params)
    assert since == newest[-5:-2]
    assert ask(url, name, **{**params, "period": "7m"})[2]["code"] == -1130


def test_binance_numbers_are_those_of_the_market(url):
    params = {"prefix": "/futures/data/", "symbol": "BTCUSDT", "period": "1h", "limit": 1}
    (interest,) = got(url, "openInterestHist", **params)
    rows = wanted("open_interest", "BTCUSDT")
    hour = rows.filter(rows["event_time"].to_physical() == interest["timestamp"])
    assert float(interest["sumOpenInterest"]) == hour["open_interest"][0]
    (volume,) = got(url, "takerlongshortRatio", **params)
    trades = wanted("trades", "BTCUSDT")
    times_ms = trades["event_time"].to_physical()
    trades = trades.filter((times_ms >= volume["timestamp"] - 60 * MINUTE_MS) & (times_ms < volume["timestamp"]))
    bought = trades.filter(~trades["is_buyer_maker"])["quantity"].sum()
    assert float(volume["buyVol"]) == pytest.approx(bought, abs=1e-4)
    assert float(volume["buySellRatio"]) == pytest.approx(bought / float(volume["sellVol"]), abs=1e-4)
    (ratio,) = got(url, "globalLongShortAccountRatio", **params)
    assert float(ratio["longAccount"]) + float(ratio["shortAccount"]) == pytest.approx(1, abs=2e-4)


def info(url: str, body: bytes) -> tuple[int, object]:
    request = urllib.request.Request(f"{url}/info", body, {"Content-Type": "application/json"})
    try:
        with _direct.open(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_hyperliquid_tells_the_state_of_every_contract(url):
    status, (meta, states) = info(url, b'{"type":"metaAndAssetCtxs"}')
    assert status == 200
    assert [each["name"] for each in meta["universe"]] == ["ASTER", "BTC"]
    btc = states[1]
    assert btc["openInterest"] == got(url, "openInterest", symbol="BTCUSDT")["openInterest"]
    assert btc["markPx"] == got(url, "premiumIndex", symbol="BTCUSDT")["markPrice"]
    assert all(isinstance(btc[name], str) for name in ("funding", "oraclePx", "midPx", "dayNtlVlm", "prevDayPx"))
    assert [info(url, body)[0] for body in (b"{}", b"no", b'{"type":"meta"}')] == [422, 422, 422]


def test_many_may_ask_at_once(url):
    heard: list[object] = []
    names = ("premiumIndex", "ticker/price", "ticker/bookTicker")
    asking = [threading.Thread(target=lambda name=name: heard.append(len(got(url, name)))) for name in names * 3]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert heard == [len(SYMBOLS)] * 9
