"""Public REST over real sockets: what is handed on, what is retried, what is waited out, what is an error."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from data.clock import Clock, FollowedClock, RealClock, ScaledClock
from data.venues.aster import ASTER, Answer, AsterRest, Unavailable, Venue, fate, told_wait_s, venue_of
from data.venues.questions import Question

START = datetime(2026, 1, 1, tzinfo=UTC)
START_MS = 1_767_225_600_000
FIREWALL = b"<html><head><title>403 Forbidden</title></head><body>Request blocked.</body></html>"
BAD_SYMBOL = b'{"code":-1121,"msg":"Invalid symbol."}'
KLINE = (
    b'[[1780000000000,"61000.1","61005.0","60999.9","61004.0","3.211",1780000059999,"195880.12",51,'
    b'"1.900","115900.4","0"]]'
)


class Reply:
    """What the server answers: status, body, headers; or it hangs up."""

    def __init__(self, body: bytes = b"{}", status: int = 200, *, hangs_up: bool = False, **headers: str):
        self.body, self.status, self.hangs_up = body, status, hangs_up
        self.headers = {name.replace("_", "-"): given for name, given in headers.items()}


class Exchange:
    """An HTTP server on 127.0.0.1 that gives one reply after the other, the last one for good."""

    def __init__(self, *replies: Reply):
        self.replies = list(replies)
        self.asked: list[str] = []
        self.bodies: list[bytes] = []

    async def _answer(self, request: web.Request) -> web.Response:
        reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
        self.asked.append(request.raw_path)
        self.bodies.append(await request.read())
        if reply.hangs_up:
            request.transport.abort()
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)

    async def __aenter__(self) -> "Exchange":
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(application, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()


KLINES = "/fapi/v3/klines"


@contextlib.asynccontextmanager
async def asking(*replies: Reply, clock: Clock | None = None) -> AsyncIterator[tuple[AsterRest, Exchange]]:
    async with Exchange(*replies) as exchange:
        venue = Venue(name="test", rest_url=exchange.url, stream_url="", is_loopback=isinstance(clock, FollowedClock))
        async with AsterRest(venue, clock or ScaledClock(START, 1_000)) as rest:
            yield rest, exchange


def test_the_body_comes_as_it_was_sent_and_the_used_weight_is_remembered():
    async def scene():
        async with asking(Reply(KLINE, X_MBX_USED_WEIGHT_1M="42")) as (rest, exchange):
            assert rest.used_weight is None
            body = await rest.get(KLINES, symbol="BTCUSDT", interval="1m", startTime=1, endTime=None, limit=99)
            return body, rest.used_weight, exchange.asked

    assert asyncio.run(scene()) == (KLINE, 42, ["/fapi/v3/klines?symbol=BTCUSDT&interval=1m&startTime=1&limit=99"])


def test_a_question_knows_how_it_is_asked():
    hyperliquid = Question(path="/info", params={"type": "metaAndAssetCtxs", "dex": None}, is_post=True)

    async def scene():
        async with asking(Reply(b"", 503), Reply(b"[]")) as (rest, exchange):
            answers = [await rest.ask(hyperliquid), await rest.ask(Question(path=KLINES, params={"limit": 9}))]
            return answers, exchange.asked, exchange.bodies

    answers, asked, bodies = asyncio.run(scene())
    assert (answers, asked) == ([b"[]", b"[]"], ["/info", "/info", KLINES + "?limit=9"])
    assert [json.loads(body or b"null") for body in bodies] == [{"type": "metaAndAssetCtxs"}] * 2 + [None]


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(b"<html>502</html>", 502),
        Reply(b"", 503),
        Reply(hangs_up=True),
        Reply(b"<html>back soon</html>"),
        Reply(b'{"code":-1001,"msg":"Internal error; unable to process your request."}', 400),
    ],
    ids=["502", "503", "hung up", "HTML", "-1001"],
)
def test_the_exchange_s_own_trouble_is_tried_again(trouble):
    async def scene():
        async with asking(trouble, trouble, Reply(KLINE)) as (rest, exchange):
            return await rest.get("/fapi/v3/klines"), len(exchange.asked)

    assert asyncio.run(scene()) == (KLINE, 3)


def test_a_loopback_exchange_that_does_not_answer_is_told_with_what_starts_one(monkeypatch):
    monkeypatch.setattr("data.venues.aster.RealClock", lambda: ScaledClock(START, 1_000))
    with pytest.raises(Unavailable, match=r"Cannot connect .*`aster loopback` starts an exchange"):
        asyncio.run(venue_of("http://127.0.0.1:9"))


def test_trouble_that_lasts_is_unavailable_after_three_tries():
    async def scene():
        async with asking(Reply(b"gateway", 504)) as (rest, exchange):
            with pytest.raises(Unavailable, match=r"/fapi/v3/time: HTTP 504: gateway \(3 tries\)") as raised:
                await rest.get("/fapi/v3/time")
            return raised.value.retry_after_s, len(exchange.asked)

    assert asyncio.run(scene()) == (4.0, 3)


def test_an_exchange_that_does_not_listen_is_unavailable():
    async def scene(port: int):
        venue = Venue(name="test", rest_url=f"http://127.0.0.1:{port}", stream_url="")
        async with AsterRest(venue, ScaledClock(START, 1_000)) as rest:
            with pytest.raises(Unavailable, match=r"/fapi/v3/time: Cannot connect"):
                await rest.get("/fapi/v3/time")

    with socket.socket() as nobody:  # nor can anybody else listen there meanwhile
        nobody.bind(("127.0.0.1", 0))
        asyncio.run(scene(nobody.getsockname()[1]))


def test_a_429_is_waited_out_as_told_and_nothing_is_asked_before():
    async def scene():
        clock = ScaledClock(START, 100)
        limited = Reply(b'{"code":-1003,"msg":"Too many requests."}', 429, Retry_After="30")
        async with asking(limited, Reply(KLINE), clock=clock) as (rest, exchange):
            with pytest.raises(Unavailable, match=r"HTTP 429, code -1003: Too many requests\.") as first:
                await rest.get("/fapi/v3/time")
            with pytest.raises(Unavailable, match="HTTP 429") as second:
                await rest.get(KLINES, symbol="BTCUSDT", interval="1m")
            assert len(exchange.asked) == 1
            await clock.sleep(second.value.retry_after_s + 1.0)
            return (
                first.value.retry_after_s,
                second.value.retry_after_s,
                await rest.get(KLINES, symbol="BTCUSDT", interval="1m"),
            )

    first_s, second_s, body = asyncio.run(scene())
    assert first_s == 30.0
    assert 0 < second_s <= 30.0
    assert body == KLINE


def test_the_firewall_s_page_means_minutes_of_silence():
    async def scene():
        async with asking(Reply(FIREWALL, 403)) as (rest, exchange):
            with pytest.raises(Unavailable, match="HTTP 403: <html><head><title>403 Forbidden") as raised:
                await rest.get("/fapi/v3/time")
            return raised.value.retry_after_s, len(exchange.asked)

    assert asyncio.run(scene()) == (300.0, 1)


@pytest.mark.parametrize("status", [200, 400])
def test_an_error_object_is_an_error_whatever_its_status(status):
    async def scene():
        async with asking(Reply(BAD_SYMBOL, status)) as (rest, exchange):
            with pytest.raises(ValueError, match=rf"/fapi/v3/klines: .* HTTP {status}, code -1121: Invalid symbol\."):
                await rest.get(KLINES, symbol="NOSUCH", interval="1m")
            return len(exchange.asked)

    assert asyncio.run(scene()) == 1


def test_an_answer_that_is_cut_short_is_the_caller_s_matter():
    async def scene():
        async with asking(Reply(KLINE[:50])) as (rest, _):
            with pytest.raises(ValueError, match=r"/fapi/v3/klines: expected JSON, got \[\[1780000000000"):
                await rest.get_json(KLINES)
            return await rest.get("/fapi/v3/klines")

    assert asyncio.run(scene()) == KLINE[:50]


def test_a_request_holds_the_followed_clock_and_a_wait_between_tries_does_not():
    async def scene():
        clock = FollowedClock()
        told = json.dumps({"stream_url": "ws://127.0.0.1:1", "now_ms": START_MS}).encode()
        async with asking(Reply(told), Reply(b"", 500), Reply(KLINE), clock=clock) as (rest, exchange):
            assert clock.now_ms() == START_MS
            clock.attach()
            waiting = asyncio.create_task(rest.get(KLINES, symbol="BTCUSDT", interval="1m"))
            await asyncio.sleep(0)
            await asyncio.wait_for(clock.quiet(), 20)
            assert len(exchange.asked) == 2  # the first try has its answer
            clock.tell((START_MS + 60_000) * 1_000_000)
            return await asyncio.wait_for(waiting, 20)

    assert asyncio.run(scene()) == KLINE


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [
        (429, None, 45.0),
        (429, "7", 7.0),
        (429, "soon", 45.0),
        (418, None, 120.0),
        (418, "Thu, 01 Jan 2026 00:10:15 GMT", 600.0),
        (403, None, 300.0),
        (500, None, 0.0),
        (503, "2", 2.0),
        (404, "2", None),
        (301, None, None),
    ],
)
def test_a_status_asks_for_so_much_patience(status, retry_after, wait_s):
    assert told_wait_s(status, retry_after, START_MS + 15_000) == wait_s


def test_of_the_header_and_the_text_of_a_ban_the_longer_wait_counts():
    text = f'{{"code":-1003,"msg":"Way too many requests; IP banned until {START_MS + 20_000}."}}'
    waits_s = [told_wait_s(418, retry_after, START_MS, text) for retry_after in (None, "7", "soon", "30")]
    assert waits_s == [20.0, 20.0, 20.0, 30.0]
    assert told_wait_s(418, None, START_MS + 30_000, text) == 0.0


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        ((418, {}, b'{"code":-1003,"msg":"Way too many requests; IP banned until 1767225900000."}'), 300.0),
        ((200, {}, b'{"code":-1003,"msg":"Too many requests."}'), 60.0),
        ((400, {}, b'{"code":-1016,"msg":"This service is no longer available."}'), 60.0),
        ((400, {}, b'{"code":-1000,"msg":"An unknown error occured."}'), 0.0),
    ],
)
def test_a_code_asks_for_patience_too(answer, wait_s):
    error = fate("/fapi/v3/time", Answer(*answer), START_MS)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s == wait_s


def test_an_acknowledgement_is_no_error_and_neither_is_an_empty_list():
    for body in (b'{"code":200,"msg":"success"}', b"[]", b'{"symbols":[{"code":-1}]}', b'{"code": bro'):
        assert fate("/fapi/v3/ping", Answer(200, {}, body), START_MS) is None


def test_a_time_out_is_retried_and_says_so():
    error = fate("/fapi/v3/time", TimeoutError(), START_MS)
    assert isinstance(error, Unavailable)
    assert str(error) == "/fapi/v3/time: no answer in time"
    assert isinstance(fate("/x", aiohttp.ServerDisconnectedError(), START_MS), Unavailable)


def test_venues_are_found_by_name_or_by_asking_the_loopback():
    async def scene():
        told = b'{"stream_url":"ws://127.0.0.1:9443/","now_ms":1767225600000}'
        async with Exchange(Reply(told)) as exchange:
            return await venue_of("aster"), await venue_of(exchange.url + "/"), exchange.url, exchange.asked

    aster, loopback, url, asked = asyncio.run(scene())
    assert aster is ASTER
    assert loopback == Venue(name="loopback", rest_url=url, stream_url="ws://127.0.0.1:9443", is_loopback=True)
    assert asked == ["/loopback"]


def test_a_venue_nobody_knows_is_refused_with_those_that_exist():
    with pytest.raises(
        ValueError, match=r"venue: expected aster, testnet, loopback or a URL such as .*, got 'binance'"
    ):
        asyncio.run(venue_of("binance"))

    async def scene():
        async with Exchange(Reply(b"{}")) as exchange:
            await venue_of(exchange.url)

    with pytest.raises(ValueError, match=r"expected the stream_url of a loopback exchange, got \{\}"):
        asyncio.run(scene())


def test_the_real_clock_needs_no_telling():
    async def scene():
        async with Exchange(Reply(KLINE)) as exchange:
            venue = Venue(name="loopback", rest_url=exchange.url, stream_url="", is_loopback=True)
            async with AsterRest(venue, RealClock()) as rest:
                return await rest.get(KLINES, symbol="BTCUSDT", interval="1m"), len(exchange.asked)

    assert asyncio.run(scene()) == (KLINE, 1)
