"""REST of the loopback exchange: shapes, parameters, times, limits, errors, weights."""

import asyncio
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from data.exchange_info import instruments
from data.loopback.rest import ENDPOINTS
from data.loopback.server import Loopback
from data.loopback.tape import to_ms
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec, generate
from data.tests.loopback_client import market

START = datetime(2026, 1, 5, 22, tzinfo=UTC)
NOW = START + timedelta(hours=3, minutes=10, seconds=30)
NOW_MS = to_ms(NOW)
MINUTE_MS = 60_000
MARKET = MarketSpec(symbols=(BTC_LIKE, ALT_LIKE), start=START, days=4 / 24, seed=5)
SYMBOLS = ["BTCUSDT", "ASTERUSDT"]
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def served(**settings) -> Iterator[str]:
    """The URL of an exchange that stands still at ``NOW``, served from another thread."""
    started, stop = threading.Event(), None
    urls = []

    async def serve() -> None:
        nonlocal stop
        stop = asyncio.Event()
        async with Loopback(market(MARKET), start=NOW, **settings) as exchange:
            urls.append(exchange.rest_url)
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    loops = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    yield urls[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield from served()


@pytest.fixture
def fresh_url() -> Iterator[str]:
    yield from served(weight_limit=100)


def ask(url: str, path: str, /, prefix: str = "/fapi/v3/", method: str = "GET", **params) -> tuple[int, dict, object]:
    """(status, headers, answer)."""
    query = f"?{urllib.parse.urlencode(params)}" if params else ""
    request = urllib.request.Request(f"{url}{prefix}{path}{query}", method=method)
    try:
        with _direct.open(request) as response:
            return response.status, dict(response.headers), json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def got(url: str, path: str, **params) -> object:
    status, _, answer = ask(url, path, **params)
    assert status == 200, answer
    return answer


def wanted(table: str, symbol: str) -> pl.DataFrame:
    """The market's rows up to ``NOW``."""
    rows = pl.concat([generate(MARKET, symbol, day)[table] for day in MARKET.dates])
    return rows.filter(pl.col("open_time" if table.endswith("klines") else "event_time") <= NOW)


def assert_like(answer: object, sample: object) -> None:
    """The same keys in the same order and the same JSON types as a sample of the documents."""
    assert type(answer) is type(sample), (answer, sample)
    if isinstance(sample, dict):
        assert list(answer) == list(sample)
        for key in sample:
            assert_like(answer[key], sample[key])
    elif isinstance(sample, list):
        assert answer
        for one, like in zip(answer, sample, strict=False):
            assert_like(one, like)


SAMPLES = {
    "ping": ({}, {}),
    "time": ({}, {"serverTime": 1}),
    "depth": (
        {"symbol": "BTCUSDT"},
        {"lastUpdateId": 1001, "E": 1, "T": 1, "bids": [["61000.0", "1.250"]], "asks": [["61000.1", "0.300"]]},
    ),
    "trades": (
        {"symbol": "BTCUSDT"},
        [{"id": 1, "price": "1", "qty": "1", "quoteQty": "1", "time": 1, "isBuyerMaker": True}],
    ),
    "historicalTrades": (
        {"symbol": "BTCUSDT", "fromId": 300},
        [{"id": 1, "price": "1", "qty": "1", "quoteQty": "1", "time": 1, "isBuyerMaker": True}],
    ),
    "aggTrades": ({"symbol": "BTCUSDT"}, [{"a": 1, "p": "1", "q": "1", "f": 1, "l": 1, "T": 1, "m": True}]),
    "klines": (
        {"symbol": "BTCUSDT", "interval": "1m"},
        [[1, "1", "1", "1", "1", "1", 1, "1", 1, "1", "1", "1"]],
    ),
    "markPriceKlines": (
        {"symbol": "BTCUSDT", "interval": "5m"},
        [[1, "1", "1", "1", "1", "1", 1, "1", 1, "1", "1", "1"]],
    ),
    "indexPriceKlines": (
        {"pair": "BTCUSDT", "interval": "1h"},
        [[1, "1", "1", "1", "1", "1", 1, "1", 1, "1", "1", "1"]],
    ),
    "premiumIndex": (
        {"symbol": "BTCUSDT"},
        {"symbol": "B", "markPrice": "1", "indexPrice": "1", "estimatedSettlePrice": "1", "lastFundingRate": "1",
         "nextFundingTime": 1, "interestRate": "1", "time": 1},
    ),
    "fundingRate": ({}, [{"symbol": "B", "fundingRate": "0.00010000", "fundingTime": 1}]),
    "fundingInfo": (
        {},
        [{"symbol": "B", "interestRate": "0.00010000", "time": 1, "fundingIntervalHours": 8, "fundingFeeCap": 0.03,
          "fundingFeeFloor": -0.03}],
    ),
    "ticker/24hr": (
        {"symbol": "BTCUSDT"},
        {"symbol": "B", "priceChange": "1", "priceChangePercent": "1", "weightedAvgPrice": "1", "lastPrice": "1",
         "lastQty": "1", "openPrice": "1", "highPrice": "1", "lowPrice": "1", "volume": "1", "quoteVolume": "1",
         "openTime": 1, "closeTime": 1, "firstId": 1, "lastId": 1, "count": 1},
    ),
    "ticker/price": ({"symbol": "BTCUSDT"}, {"symbol": "B", "price": "1", "time": 1}),
    "ticker/bookTicker": (
        {"symbol": "BTCUSDT"},
        {"symbol": "B", "bidPrice": "1", "bidQty": "1", "askPrice": "1", "askQty": "1", "time": 1, "lastUpdateId": 1},
    ),
    "openInterest": ({"symbol": "BTCUSDT"}, {"symbol": "B", "openInterest": "1", "time": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ENDPOINTS, "time"])
def test_an_answer_has_the_keys_and_types_of_the_documents_under_both_versions(url, name):
    params, sample = SAMPLES[name]
    answers = [ask(url, name, prefix=prefix, **params) for prefix in ("/fapi/v1/", "/fapi/v3/")]
    assert [status for status, _, _ in answers] == [200, 200]
    assert_like(answers[0][2], sample)
    assert answers[0][2] == answers[1][2]


@pytest.mark.parametrize("name", ["premiumIndex", "ticker/24hr", "ticker/price", "ticker/bookTicker"])
def test_without_a_symbol_an_array_tells_of_all(url, name):
    each = [got(url, name, symbol=symbol) for symbol in SYMBOLS]
    assert got(url, name) == each


def test_exchange_info_is_as_in_the_documents_and_reads_back_as_the_instruments(url):
    answer = got(url, "exchangeInfo")
    assert list(answer) == ["timezone", "serverTime", "exchangeFilters", "rateLimits", "assets", "symbols"]
    assert answer["serverTime"] == NOW_MS
    contract = next(entry for entry in answer["symbols"] if entry["symbol"] == "BTCUSDT")
    assert [each["filterType"] for each in contract["filters"]] == [
        "PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "MAX_NUM_ORDERS", "MAX_NUM_ALGO_ORDERS", "MIN_NOTIONAL",
        "PERCENT_PRICE",
    ]  # fmt: skip
    assert contract["filters"][1] == {
        "filterType": "LOT_SIZE",
        "minQty": "0.001",
        "maxQty": "1000",
        "stepSize": "0.001",
    }
    assert (contract["baseAsset"], contract["quoteAsset"], contract["status"]) == ("BTC", "USDT", "TRADING")
    assert (contract["triggerProtect"], contract["liquidationFee"]) == ("0.0500", "0.025000")
    rows, unreadable = instruments(answer, source="rest")
    assert unreadable == []
    told = rows.filter(symbol="BTCUSDT").row(0, named=True)
    own = generate(MARKET, "BTCUSDT", START.date())["instruments"].row(0, named=True)
    unsaid = {"event_time", "source", "brackets", "funding_interval_hours"}
    assert {name: told[name] for name in own if name not in unsaid} == {
        name: own[name] for name in own if name not in unsaid
    }


def test_bars_are_the_markets_and_the_running_one_comes_last(url):
    rows = wanted("klines", "BTCUSDT")
    bars = got(url, "klines", symbol="BTCUSDT", interval="1m", limit=3)
    assert [bar[0] for bar in bars] == [NOW_MS - 30_000 - 2 * MINUTE_MS, NOW_MS - 30_000 - MINUTE_MS, NOW_MS - 30_000]
    closed = rows.filter(pl.col("open_time").to_physical() == bars[0][0]).row(0, named=True)
    names = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume")
    assert [float(bars[0][place]) for place in (1, 2, 3, 4, 5, 7, 8, 9)] == [closed[name] for name in names]
    assert bars[0][6] == bars[0][0] + MINUTE_MS - 1
    trades = wanted("trades", "BTCUSDT").filter(pl.col("event_time").to_physical() >= bars[2][0])
    assert (bars[2][8], float(bars[2][4])) == (trades.height, trades["price"][-1])
    assert float(bars[2][5]) == pytest.approx(trades["quantity"].sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("params", "first", "count"),
    [
        ({"limit": 5}, NOW_MS - 30_000 - 4 * MINUTE_MS, 5),
        ({"startTime": to_ms(START)}, to_ms(START), 191),
        ({"startTime": 0, "limit": 5}, to_ms(START), 5),
        ({"startTime": to_ms(START) + 1, "limit": 5}, to_ms(START) + MINUTE_MS, 5),
        ({"startTime": to_ms(START), "endTime": to_ms(START) + 2 * MINUTE_MS}, to_ms(START), 3),
        ({"startTime": to_ms(START), "endTime": to_ms(START) + 2 * MINUTE_MS - 1}, to_ms(START), 2),
        ({"endTime": to_ms(START) + 9 * MINUTE_MS, "limit": 4}, to_ms(START) + 6 * MINUTE_MS, 4),
        ({"endTime": to_ms(START) - 1}, None, 0),
        ({"startTime": NOW_MS + 1}, None, 0),
    ],
)
def test_times_are_inclusive_and_without_a_start_the_newest_bars_come(url, params, first, count):
    for name, symbol in (("klines", "symbol"), ("markPriceKlines", "symbol"), ("indexPriceKlines", "pair")):
        bars = got(url, name, interval="1m", **{symbol: "BTCUSDT"}, **params)
        assert ([bar[0] for bar in bars[:1]], len(bars)) == ([] if first is None else [first], count)
        assert [bar[0] for bar in bars] == list(range(first or 0, (first or 0) + count * MINUTE_MS, MINUTE_MS))


@pytest.mark.parametrize(
    ("interval", "count"), [("3m", 64), ("15m", 13), ("1h", 4), ("4h", 2), ("1d", 2), ("1w", 1), ("1M", 1)]
)
def test_longer_bars_are_made_of_minutes(url, interval, count):
    minutes = got(url, "klines", symbol="ASTERUSDT", interval="1m", limit=1_500)
    bars = got(url, "klines", symbol="ASTERUSDT", interval=interval)
    assert len(bars) == count
    assert sum(bar[8] for bar in bars) == sum(minute[8] for minute in minutes)
    assert sum(float(bar[5]) for bar in bars) == pytest.approx(sum(float(minute[5]) for minute in minutes))
    assert (bars[0][1], bars[-1][4]) == (minutes[0][1], minutes[-1][4])
    within = [minute for minute in minutes if bars[0][0] <= minute[0] <= bars[0][6]]
    assert float(bars[0][2]) == max(float(minute[2]) for minute in within)
    assert bars == got(url, "klines", symbol="ASTERUSDT", interval=interval, startTime=0)


def test_aggregate_trades_can_be_paged_by_time_and_by_id(url):
    rows = wanted("trades", "BTCUSDT")
    ids, times_ms = rows["agg_trade_id"].to_list(), rows["event_time"].to_physical().to_list()
    newest = got(url, "aggTrades", symbol="BTCUSDT", limit=3)
    assert [trade["a"] for trade in newest] == ids[-3:]
    assert [float(trade["p"]) for trade in newest] == rows["price"].to_list()[-3:]
    since = got(url, "aggTrades", symbol="BTCUSDT", startTime=times_ms[40], limit=10)
    assert since[0]["T"] == times_ms[40]
    assert len(since) == 10
    until = got(url, "aggTrades", symbol="BTCUSDT", endTime=times_ms[40], limit=1)
    assert until[0]["T"] == times_ms[40]
    page = got(url, "aggTrades", symbol="BTCUSDT", fromId=ids[1_500], limit=1_000)
    assert [trade["a"] for trade in page] == ids[1_500:2_500]
    assert got(url, "aggTrades", symbol="BTCUSDT", fromId=ids[-1] + 1) == []


def test_books_and_marks_are_the_last_ones(url):
    book = got(url, "depth", symbol="BTCUSDT", limit=5)
    last = wanted("depth", "BTCUSDT").row(-1, named=True)
    assert [float(price) for price, _ in book["bids"]] == [last[f"bid_price_{level}"] for level in range(5)]
    assert book["T"] == to_ms(last["event_time"])
    mark = got(url, "premiumIndex", symbol="BTCUSDT")
    assert float(mark["markPrice"]) == wanted("mark_price", "BTCUSDT")["mark_price"][-1]


def test_settled_rates_come_oldest_first_and_are_cut_after_the_limit(url):
    rows = wanted("funding", "ASTERUSDT")
    rates = got(url, "fundingRate", symbol="ASTERUSDT")
    assert [(float(rate["fundingRate"]), rate["fundingTime"]) for rate in rates] == [
        (rate, to_ms(time)) for time, rate in rows.select("event_time", "funding_rate").iter_rows()
    ]
    assert got(url, "fundingRate", symbol="ASTERUSDT", startTime=NOW_MS) == []
    assert [info["fundingIntervalHours"] for info in got(url, "fundingInfo")] == [4, 8]


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("klines", {"interval": "1m"}, -1102),
        ("klines", {"symbol": "", "interval": "1m"}, -1102),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("klines", {"symbol": "btcusdt", "interval": "1m"}, -1121),
        ("klines", {"symbol": "BTCUSDT", "interval": "1s"}, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "many"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "1501"}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "0"}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": ""}, -1105),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": 2, "endTime": 1}, -1023),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "colour": "red"}, -1104),
        ("indexPriceKlines", {"symbol": "BTCUSDT", "interval": "1m"}, -1102),
        ("depth", {"symbol": "BTCUSDT", "limit": 7}, -4021),
        ("aggTrades", {"symbol": "BTCUSDT", "startTime": 0, "endTime": 3_600_000}, -1127),
        ("trades", {"symbol": "BTCUSDT", "limit": 1_001}, -1130),
        ("fundingRate", {"symbol": "NOPE"}, -1121),
        ("ticker/price", {"symbol": "NOPE"}, -1121),
    ],
)
def test_a_request_at_fault_is_answered_with_its_code(url, name, params, code):
    status, headers, answer = ask(url, name, **params)
    assert (status, answer["code"], list(answer)) == (400, code, ["code", "msg"])
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) > 0


@pytest.mark.parametrize(
    ("name", "params", "weight"),
    [
        ("ping", {}, 1),
        ("depth", {"symbol": "BTCUSDT", "limit": 50}, 2),
        ("depth", {"symbol": "BTCUSDT", "limit": 1_000}, 20),
        ("aggTrades", {"symbol": "BTCUSDT"}, 20),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 99}, 1),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 100}, 2),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1_000}, 5),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1_001}, 10),
        ("ticker/24hr", {}, 40),
        ("ticker/bookTicker", {}, 2),
        ("exchangeInfo", {}, 1),
    ],
)
def test_every_request_weighs_what_the_documents_say(fresh_url, name, params, weight):
    _, headers, _ = ask(fresh_url, name, **params)
    assert headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_too_many_requests_are_refused_and_told_when_to_come_back(fresh_url):
    for _ in range(6):  # the third, unless a minute of the machine ends between them
        status, headers, answer = ask(fresh_url, "ticker/24hr")
        if status != 200:
            break
    assert (status, answer["code"], headers["Retry-After"]) == (429, -1003, "30")


def test_the_exchange_tells_where_its_streams_are(url):
    status, _, told = ask(url, "loopback", prefix="/")
    assert status == 200
    assert told["stream_url"].startswith("ws://127.0.0.1:")
    assert (told["now_ms"], told["start_ms"], told["speed"], told["symbols"]) == (
        NOW_MS, to_ms(START), None, SYMBOLS,
    )  # fmt: skip


def test_an_endpoint_can_be_made_to_refuse_until_a_time_of_the_market(fresh_url):
    control = {"prefix": "/loopback/", "method": "POST"}
    ask(fresh_url, "refuse", path="klines", seconds=60, **control)
    params = {"symbol": "BTCUSDT", "interval": "1m"}
    assert ask(fresh_url, "klines", **params)[0] == 503
    assert ask(fresh_url, "time")[0] == 200
    _, _, told = ask(fresh_url, "skip", seconds=60, **control)
    assert told["now_ms"] == NOW_MS + 60_000
    assert ask(fresh_url, "klines", **params)[0] == 200
    ask(fresh_url, "refuse", seconds=1, status=418, **control)
    assert [ask(fresh_url, name)[0] for name in ("time", "ping")] == [418, 418]


def test_a_control_request_without_its_number_is_refused(url):
    request = urllib.request.Request(f"{url}/loopback/skip?seconds=soon", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        _direct.open(request)
    with refusal.value as answer:
        assert answer.read() == b"seconds: expected a number, zero or more, got 'soon'"
