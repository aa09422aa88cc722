"""REST of the loopback exchange: Aster's under /fapi, others' where they have it, and its own controls.

Source: Aster futures API, "Public REST endpoints", "Rate limits and HTTP status semantics".
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from aiohttp import web

from data.loopback import contracts
from data.loopback.account_office import Office
from data.loopback.account_rest import SignedRest
from data.loopback.controls import Controlled, Controls
from data.loopback.endpoints import ENDPOINTS, V3_ENDPOINTS
from data.loopback.faults import RequestFault
from data.loopback.market import Market
from data.loopback.meter import Meter, banned
from data.loopback.others import BINANCE, hyperliquid
from data.loopback.query import Call, Query, Refused, Understand, Work

_PAGE = "<html><head><title>Forbidden</title></head><body>Blocked by the web application firewall.</body></html>"


class Exchange(Controlled, Protocol):
    """What REST needs of the exchange."""

    market: Market
    meter: Meter
    office: Office
    weight_limit: int

    @property
    def now_ms(self) -> int:
        """The market's time."""

    @property
    def clock_ms(self) -> int:
        """The exchange's own clock, which may be wrong."""

    def request_fault(self, method: str, name: str) -> RequestFault | None:
        """What is wrong with a request for that endpoint; None when all is well."""

    async def reading(self, work: Callable[[], str | None]) -> str | None:
        """The result of work on the tape, done where it does not disturb the streams."""


class Rest:
    """The web application."""

    def __init__(self, exchange: Exchange):
        self._exchange = exchange
        self.app = web.Application()
        for prefix in ("/fapi/v1/", "/fapi/v3/"):
            self._serve(prefix, "exchangeInfo", self._exchange_info)
            self._serve(prefix, "time", self._time)
            for name, understand in ENDPOINTS.items():
                self._serve(prefix, name, understand)
        for name, understand in V3_ENDPOINTS.items():
            self._serve("/fapi/v3/", name, understand)
        for name, understand in BINANCE.items():
            self._serve("/futures/data/", name, understand)
        self.app.router.add_post("/info", self._info)
        SignedRest(exchange.office, self._answered).serve(self.app.router)
        Controls(exchange).serve(self.app.router)

    def _serve(self, prefix: str, name: str, understand: Understand) -> None:
        async def handle(request: web.Request) -> web.Response:
            market, now_ms = self._exchange.market, self._exchange.now_ms

            def understood() -> Call:
                query = Query(request.query, market.symbols(now_ms))
                call = understand(market, now_ms, query)
                query.check_all_read()
                return call

            return await self._answered(request, name, Work(understood, self._exchange.reading))

        self.app.router.add_get(prefix + name, handle)

    def _exchange_info(self, market: Market, now_ms: int, query: Query) -> Call:
        limit, clock_ms = self._exchange.weight_limit, self._exchange.clock_ms
        return Call(1, lambda: contracts.exchange_info(market.instruments, now_ms, limit, clock_ms))

    def _time(self, market: Market, now_ms: int, query: Query) -> Call:
        clock_ms = self._exchange.clock_ms
        return Call(1, lambda: f'{{"serverTime":{clock_ms}}}')

    async def _info(self, request: web.Request) -> web.Response:
        market, now_ms = self._exchange.market, self._exchange.now_ms
        body = await request.read()
        work = Work(lambda: hyperliquid(market, now_ms, body), self._exchange.reading)
        return await self._answered(request, "info", work)

    async def _answered(self, request: web.Request, name: str, work: Work) -> web.Response:
        """The answer to a request, or what a fault makes of it."""
        who, now_ms = request.remote or "", self._exchange.now_ms
        meter, fault = self._exchange.meter, self._exchange.request_fault(request.method, name)
        kind = None if fault is None else fault.kind
        try:
            if kind == "slow":
                await asyncio.sleep(fault.delay_s)
            elif kind == "cut_before":
                return _hung_up(request)
            elif kind in ("status", "error_object", "html"):
                meter.charge(who, 1, now_ms)
                return self._failed(who, fault, now_ms)
            elif kind == "empty_list":
                meter.charge(who, 1, now_ms)
                return self._response(who, "[]", 200)
            elif kind == "status_later":
                work.defer(fault.delay_s)
                return self._failed(who, fault, now_ms)
            await work.prepare()
            try:
                call = work.understood()
            except Refused:
                meter.charge(who, 1, now_ms)
                raise
            meter.charge(who, call.weight, now_ms)
            body = await work.do(call.answer)
            if kind == "cut_after":
                return _hung_up(request)
            if kind == "status_after":
                return self._failed(who, fault, now_ms)
            if kind == "slow_after":
                await asyncio.sleep(fault.delay_s)
            if body is None:
                raise Refused(-1112, "No such data for this symbol yet.")
            told = body[: len(body) // 2] if kind == "half_body" else body
            return self._response(who, told, 200, headers=call.headers())
        except Refused as refusal:
            return self._refused(who, refusal)

    def _failed(self, who: str, fault: RequestFault, now_ms: int) -> web.Response:
        """What comes instead of an answer."""
        status = 200 if fault.kind == "error_object" else fault.status
        refusal = Refused(fault.error_code, "Internal error; unable to process your request. Please try again.", status)
        if fault.status == 418:
            refusal = banned(now_ms + round((fault.retry_after_s or 0.0) * 1_000), now_ms)
        elif fault.status == 429:
            refusal = Refused(fault.error_code, "Too many requests.", status)
        refusal.retry_after_s = fault.retry_after_s
        if fault.kind == "html":
            return self._response(who, _PAGE, status, fault.retry_after_s, content_type="text/html")
        return self._refused(who, refusal)

    def _refused(self, who: str, refusal: Refused) -> web.Response:
        body = json.dumps({"code": refusal.code, "msg": refusal.message}, separators=(",", ":"))
        return self._response(who, body, refusal.status, refusal.retry_after_s)

    def _response(
        self,
        who: str,
        body: str,
        status: int,
        retry_after_s: float | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> web.Response:
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._exchange.meter.used(who)), **headers}
        if retry_after_s is not None:
            headers["Retry-After"] = f"{retry_after_s:.0f}"
        return web.Response(text=body, status=status, content_type=content_type, headers=headers)


def _hung_up(request: web.Request) -> web.Response:
    """The connection ends without an answer; what is returned reaches nobody."""
    request.transport.abort()
    return web.Response(status=500)
