"""REST of the loopback exchange, under /fapi/v1 and /fapi/v3 alike: parameters, errors, weights; and its own controls.

Source: Aster futures API, "Public REST endpoints", "Rate limits and HTTP status semantics", "Error codes and actions".
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from data.loopback import contracts
from data.loopback.bars import INTERVALS
from data.loopback.market import Market
from data.loopback.tape import HOUR_MS, MINUTE_MS

_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
_NS_PER_MINUTE = 60_000_000_000


class Exchange(Protocol):
    """What REST needs of the exchange."""

    market: Market
    weight_limit: int

    @property
    def now_ms(self) -> int:
        """The market's time."""

    def status(self) -> dict[str, Any]:
        """What GET /loopback tells."""

    def refused(self, name: str) -> int | None:
        """HTTP status with which that endpoint is refused now; None when it works."""

    async def reading(self, work: Callable[[], str | None]) -> str | None:
        """The result of work on the tape, done where it does not disturb the streams."""

    async def cut(self, outage_s: float = 0.0) -> None: ...

    async def skip(self, seconds: float) -> None: ...

    def refuse_rest(self, path: str = "", seconds: float = 60.0, status: int = 503) -> None: ...

    def mute(self, stream: str, seconds: float) -> None: ...


class Refused(Exception):
    """A request at fault: the exchange's code and text, and the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Query:
    """The parameters of one request; remembers which were read, as the exchange refuses the others."""

    def __init__(self, sent: Mapping[str, str], symbols: tuple[str, ...]):
        self._sent = sent
        self._symbols = symbols
        self._read: set[str] = set()

    def text(self, name: str) -> str | None:
        self._read.add(name)
        if self._sent.get(name) == "":
            raise Refused(-1105, f"Parameter '{name}' was empty.")
        return self._sent.get(name)

    def required(self, name: str) -> str:
        if not self._sent.get(name):
            self._read.add(name)
            raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return self.text(name)

    def symbol(self, name: str = "symbol") -> str:
        symbol = self.required(name)
        if symbol not in self._symbols:
            raise Refused(-1121, "Invalid symbol.")
        return symbol

    def optional_symbol(self) -> str | None:
        return None if self.text("symbol") is None else self.symbol()

    def whole(self, name: str) -> int | None:
        text = self.text(name)
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) <= 18):
            legal = "^[0-9]{1,20}$"
            raise Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        return None if text is None else int(text)

    def limit(self, default: int, most: int) -> int:
        limit = self.whole("limit")
        if limit is not None and not 1 <= limit <= most:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return limit or default

    def interval(self) -> str:
        interval = self.required("interval")
        if interval not in INTERVALS:
            raise Refused(-1120, "Invalid interval.")
        return interval

    def span(self) -> tuple[int | None, int | None]:
        start_ms, end_ms = self.whole("startTime"), self.whole("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise Refused(-1023, "Start time is greater than end time.")
        return start_ms, end_ms

    def check_all_read(self) -> None:
        if set(self._sent) - self._read:
            read, sent = len(self._read & set(self._sent)), len(self._sent)
            message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            raise Refused(-1104, message)


Answer = Callable[[], str | None]


@dataclass(frozen=True)
class Call:
    """A request understood: its weight, and what answers it from the tape."""

    weight: int
    answer: Answer


def _ping(market: Market, now_ms: int, query: Query) -> Call:
    return Call(1, lambda: "{}")


def _time(market: Market, now_ms: int, query: Query) -> Call:
    return Call(1, lambda: f'{{"serverTime":{now_ms}}}')


def _depth(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit = query.symbol(), query.whole("limit")
    limit = 500 if limit is None else limit
    if limit not in _DEPTH_WEIGHTS:
        raise Refused(-4021, f"{limit} is not valid depth limit.")
    return Call(_DEPTH_WEIGHTS[limit], lambda: market.depth(now_ms, symbol, limit))


def _trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit = query.symbol(), query.limit(500, 1_000)
    return Call(1, lambda: market.trades(now_ms, symbol, limit))


def _historical_trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, from_id = query.symbol(), query.limit(500, 1_000), query.whole("fromId")
    return Call(20, lambda: market.trades(now_ms, symbol, limit, from_id))


def _agg_trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, from_id = query.symbol(), query.limit(500, 1_000), query.whole("fromId")
    start_ms, end_ms = query.span()
    if start_ms is not None and end_ms is not None and end_ms - start_ms >= HOUR_MS:
        raise Refused(-1127, "More than 1 hours between startTime and endTime.")
    return Call(20, lambda: market.agg_trades(now_ms, symbol, from_id, start_ms, end_ms, limit))


def _bars(table: str, symbol_name: str) -> Callable[[Market, int, Query], Call]:
    def bars(market: Market, now_ms: int, query: Query) -> Call:
        symbol, interval, limit = query.symbol(symbol_name), query.interval(), query.limit(500, 1_500)
        start_ms, end_ms = query.span()
        weight = next(weight for most, weight in ((99, 1), (499, 2), (1_000, 5), (1_500, 10)) if limit <= most)

        def answer() -> str:
            found = market.candles.klines(
                now_ms, table, symbol, interval, start_ms=start_ms, end_ms=end_ms, limit=limit
            )
            return f"[{','.join(found)}]"

        return Call(weight, answer)

    return bars


def _one_or_all(name: str, weight_of_all: int) -> Callable[[Market, int, Query], Call]:
    """An answer about one symbol, or without a symbol an array about all."""

    def one_or_all(market: Market, now_ms: int, query: Query) -> Call:
        symbol, answer = query.optional_symbol(), getattr(market, name)
        if symbol is None:
            return Call(weight_of_all, lambda: market.of_all(answer, now_ms))
        return Call(1, lambda: answer(now_ms, symbol))

    return one_or_all


def _open_interest(market: Market, now_ms: int, query: Query) -> Call:
    symbol = query.symbol()
    return Call(1, lambda: market.open_interest(now_ms, symbol))


def _funding_rate(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, (start_ms, end_ms) = query.optional_symbol(), query.limit(100, 1_000), query.span()
    return Call(1, lambda: market.funding_rate(now_ms, symbol, start_ms, end_ms, limit))


def _funding_info(market: Market, now_ms: int, query: Query) -> Call:
    symbol = query.optional_symbol()
    return Call(1, lambda: contracts.funding_info(market.instruments, now_ms, symbol))


ENDPOINTS: dict[str, Callable[[Market, int, Query], Call]] = {
    "ping": _ping,
    "time": _time,
    "depth": _depth,
    "trades": _trades,
    "historicalTrades": _historical_trades,
    "aggTrades": _agg_trades,
    "klines": _bars("klines", "symbol"),
    "markPriceKlines": _bars("mark_klines", "symbol"),
    "indexPriceKlines": _bars("index_klines", "pair"),
    "premiumIndex": _one_or_all("premium_index", 1),
    "fundingRate": _funding_rate,
    "fundingInfo": _funding_info,
    "ticker/24hr": _one_or_all("day_ticker", 40),
    "ticker/price": _one_or_all("price_ticker", 2),
    "ticker/bookTicker": _one_or_all("book_ticker", 2),
    "openInterest": _open_interest,
}


class Rest:
    """The web application."""

    def __init__(self, exchange: Exchange):
        self._exchange = exchange
        self._minute = (0, 0)
        self._used: dict[str, int] = {}
        self.app = web.Application()
        for prefix in ("/fapi/v1/", "/fapi/v3/"):
            self.app.router.add_get(prefix + "exchangeInfo", self._handler("exchangeInfo", self._exchange_info))
            for name, understand in ENDPOINTS.items():
                self.app.router.add_get(prefix + name, self._handler(name, understand))
        self.app.router.add_get("/loopback", self._status)
        self.app.router.add_post("/loopback/cut", self._cut)
        self.app.router.add_post("/loopback/skip", self._skip)
        self.app.router.add_post("/loopback/refuse", self._refuse)
        self.app.router.add_post("/loopback/mute", self._mute)

    def _exchange_info(self, market: Market, now_ms: int, query: Query) -> Call:
        limit = self._exchange.weight_limit
        return Call(1, lambda: contracts.exchange_info(market.instruments, now_ms, limit))

    def _handler(
        self, name: str, understand: Callable[[Market, int, Query], Call]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            who = request.remote or ""
            market, now_ms = self._exchange.market, self._exchange.now_ms
            try:
                refused = self._exchange.refused(name)
                if refused is not None:
                    self._charge(who, 1)
                    raise Refused(-1001, "Internal error; unable to process your request. Please try again.", refused)
                query = Query(request.query, market.source.symbols)
                try:
                    call = understand(market, now_ms, query)
                    query.check_all_read()
                except Refused:
                    self._charge(who, 1)
                    raise
                self._charge(who, call.weight)
                body = await self._exchange.reading(call.answer)
                if body is None:
                    raise Refused(-1112, "No such data for this symbol yet.")
                return self._response(who, body, 200)
            except Refused as refusal:
                body = json.dumps({"code": refusal.code, "msg": refusal.message}, separators=(",", ":"))
                return self._response(who, body, refusal.status)

        return handle

    def _charge(self, who: str, weight: int) -> None:
        """Count a request; refuse it over the limit.

        A minute is over when the market's or the machine's is: at a standstill a limit would otherwise never end.
        """
        minute = self._exchange.now_ms // MINUTE_MS, time.monotonic_ns() // _NS_PER_MINUTE
        if any(new != old for new, old in zip(minute, self._minute, strict=True)):
            self._minute, self._used = minute, {}
        self._used[who] = self._used.get(who, 0) + weight
        if self._used[who] > self._exchange.weight_limit:
            limit = self._exchange.weight_limit
            raise Refused(-1003, f"Too many requests; current limit of IP is {limit} requests per minute.", 429)

    def _response(self, who: str, body: str, status: int) -> web.Response:
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._used.get(who, 0))}
        if status == 429:
            headers["Retry-After"] = str(60 - self._exchange.now_ms // 1_000 % 60)
        return web.Response(text=body, status=status, content_type="application/json", headers=headers)

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._exchange.status())

    async def _cut(self, request: web.Request) -> web.Response:
        await self._exchange.cut(_number(request, "outage_s", 0.0))
        return web.json_response(self._exchange.status())

    async def _skip(self, request: web.Request) -> web.Response:
        await self._exchange.skip(_number(request, "seconds"))
        return web.json_response(self._exchange.status())

    async def _refuse(self, request: web.Request) -> web.Response:
        status = int(_number(request, "status", 503.0))
        self._exchange.refuse_rest(request.query.get("path", ""), _number(request, "seconds", 60.0), status)
        return web.json_response(self._exchange.status())

    async def _mute(self, request: web.Request) -> web.Response:
        self._exchange.mute(request.query.get("stream", ""), _number(request, "seconds", 60.0))
        return web.json_response(self._exchange.status())


def _number(request: web.Request, name: str, default: float | None = None) -> float:
    """A number of the query of a control request."""
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = None
    if value is None or not 0 <= value < float("inf"):
        raise web.HTTPBadRequest(text=f"{name}: expected a number, zero or more, got {text!r}")
    return value
