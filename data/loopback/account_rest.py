"""Signed requests over HTTP: what came in is kept byte for byte until its signature is checked.

Source: Aster futures API, "REST conventions", "Authentication".
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import parse_qsl

from aiohttp import web

from data.loopback.account_asked import Asked
from data.loopback.account_doors import only_once
from data.loopback.account_endpoints import Endpoint, endpoints
from data.loopback.account_office import Office
from data.loopback.query import Call, Query, Refused, Work

_KEY_HEADER = "X-MBX-APIKEY"
Answered = Callable[[web.Request, str, Work], Awaitable[web.Response]]


class SignedRest:
    """The signed endpoints; ``answered`` sees to weights and faults."""

    def __init__(self, office: Office, answered: Answered):
        self._office, self._answered = office, answered

    def serve(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        for is_v3, endpoint in endpoints():
            router.add_route(endpoint.method, endpoint.path, self._handler(endpoint, is_v3))

    def _handler(self, endpoint: Endpoint, is_v3: bool) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            text = request.raw_path.partition("?")[2].encode()
            body = await request.read()
            key = request.headers.get(_KEY_HEADER)

            def understood() -> Call:
                return self._understood(endpoint, is_v3, key, text, body)

            def do_unheard() -> None:
                with suppress(Refused):
                    understood().answer()

            work = Work(
                understood, self._do, self._office.catch_up, lambda seconds: self._office.later(seconds, do_unheard)
            )
            return await self._answered(request, endpoint.name, work)

        return handle

    def _understood(self, endpoint: Endpoint, is_v3: bool, key: str | None, text: bytes, body: bytes) -> Call:
        """The request, known to come from who says so."""
        both = b"&".join(part for part in (text, body) if part)
        pairs = parse_qsl(both.decode("utf-8", "replace"), keep_blank_values=True)
        query = Query(only_once(pairs), self._office.symbols)
        if is_v3 and text and body:
            raise Refused(-1000, "Signature check failed")  # one text is signed: which of the two?
        if is_v3:
            number = self._office.enter_v3(text + body, query)
        else:
            number = self._office.enter_v1(key, text + body, query, needs_signature=endpoint.needs_signature)
        call = endpoint.handler(Asked(self._office, number, query, self._office.now_ms))
        query.check_all_read()
        return call

    async def _do(self, answer: Callable[[], str | None]) -> str | None:
        """The answer; what happened is told before it."""
        try:
            return answer()
        finally:
            self._office.collect()
            self._office.tell()
