"""The exchange's own controls, under /loopback: what it is, what is wrong with it, what it did."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import polars as pl
from aiohttp import web

from data.config import load
from data.loopback.faults import Faults
from data.loopback.truth import Truth

_OF_MARKET = ("cut", "half_open", "skip", "refuse", "mute", "clock", "faults")
_OF_ACCOUNTS = ("deposit", "withdraw", "deleverage", "expire_listen_key")


class Controlled(Protocol):
    """What the controls need of the exchange."""

    truth: Truth

    def status(self) -> dict[str, Any]:
        """What GET /loopback tells."""

    async def cut(self, outage_s: float = 0.0, socket: int | None = None) -> None: ...

    async def half_open(self, socket: int | None = None) -> None: ...

    async def skip(self, seconds: float) -> None: ...

    async def trouble(self, faults: Faults) -> None: ...

    def refuse_rest(self, path: str = "", seconds: float = 60.0, status: int = 503) -> None: ...

    def mute(self, stream: str, seconds: float, socket: int | None = None) -> None: ...

    def set_clock(self, offset_ms: int) -> None: ...

    async def deleverage(self, account: int, symbol: str, side: str) -> None: ...

    async def deposit(self, account: int, amount_usdt: float) -> None: ...

    async def expire_listen_key(self, account: int) -> None: ...

    async def lost(self, *streams: str) -> pl.DataFrame: ...


class Controls:
    """POST changes something and answers with the status; GET tells."""

    def __init__(self, exchange: Controlled):
        self._exchange = exchange

    def serve(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/loopback", self._status)
        router.add_get("/loopback/truth", self._truth)
        router.add_get("/loopback/lost", self._lost)
        for name in (*_OF_MARKET, *_OF_ACCOUNTS):
            router.add_post(f"/loopback/{name}", self._control(getattr(self, f"_{name}")))

    def _control(
        self, change: Callable[[web.Request], Awaitable[None]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                await change(request)
            except ValueError as error:
                raise web.HTTPBadRequest(text=str(error)) from error
            return web.json_response(self._exchange.status())

        return handle

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._exchange.status())

    async def _truth(self, request: web.Request) -> web.Response:
        return web.json_response(_rows(self._exchange.truth.frame()))

    async def _lost(self, request: web.Request) -> web.Response:
        streams: Sequence[str] = request.query.getall("stream", [])
        return web.json_response(_rows(await self._exchange.lost(*streams)))

    async def _cut(self, request: web.Request) -> None:
        await self._exchange.cut(_number(request, "outage_s", 0.0), _socket(request))

    async def _half_open(self, request: web.Request) -> None:
        await self._exchange.half_open(_socket(request))

    async def _skip(self, request: web.Request) -> None:
        await self._exchange.skip(_number(request, "seconds"))

    async def _refuse(self, request: web.Request) -> None:
        status = int(_number(request, "status", 503.0))
        self._exchange.refuse_rest(request.query.get("path", ""), _number(request, "seconds", 60.0), status)

    async def _mute(self, request: web.Request) -> None:
        self._exchange.mute(request.query.get("stream", ""), _number(request, "seconds", 60.0), _socket(request))

    async def _clock(self, request: web.Request) -> None:
        text = request.query.get("offset_ms")
        try:
            self._exchange.set_clock(int(text))
        except (TypeError, ValueError):
            raise ValueError(f"offset_ms: expected a whole number of milliseconds, got {text!r}") from None

    async def _deposit(self, request: web.Request) -> None:
        await self._exchange.deposit(int(_number(request, "account", 0.0)), _number(request, "amount_usdt"))

    async def _withdraw(self, request: web.Request) -> None:
        await self._exchange.deposit(int(_number(request, "account", 0.0)), -_number(request, "amount_usdt"))

    async def _deleverage(self, request: web.Request) -> None:
        symbol, side = request.query.get("symbol", ""), request.query.get("side", "BOTH")
        await self._exchange.deleverage(int(_number(request, "account", 0.0)), symbol, side)

    async def _expire_listen_key(self, request: web.Request) -> None:
        await self._exchange.expire_listen_key(int(_number(request, "account", 0.0)))

    async def _faults(self, request: web.Request) -> None:
        try:
            asked = json.loads(await request.read())
        except ValueError as error:
            raise ValueError(f"faults: expected a JSON object: {error}") from error
        await self._exchange.trouble(load(Faults, asked if isinstance(asked, dict) else {"faults": asked}, "faults"))


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """As JSON objects; messages as text, as far as they are text."""
    rows = frame.to_dicts()
    return [
        {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows
    ]


def _socket(request: web.Request) -> int | None:
    """The socket of a pair that is meant; None for both."""
    text = request.query.get("socket")
    if text not in (None, "0", "1"):
        raise ValueError(f"socket: expected 0 or 1, got {text!r}")
    return None if text is None else int(text)


def _number(request: web.Request, name: str, default: float | None = None) -> float:
    """A number of the query of a control request."""
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = None
    if value is None or not 0 <= value < float("inf"):
        raise ValueError(f"{name}: expected a number, zero or more, got {text!r}")
    return value
