"""Who may ask: this machine by its own name, and for commands this page with the token that the operator was given.

A page of somebody else that is open in the same browser reaches every port of this machine. It cannot forge Host and
Origin, so those are what is checked; nothing here allows another origin to read an answer.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

NAMES = ("127.0.0.1", "localhost", "[::1]")  # under which this machine may be asked
_SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_App = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


class Guard:
    """ASGI middleware: refuses what must not be asked, and adds the headers of a page that trusts nobody.

    Parameters
    ----------
    token : for everything that changes something, as ``Authorization: Bearer``.
    """

    def __init__(self, app: _App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() != b"server"]
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                if not any(name.lower() == b"cache-control" for name, _ in kept):
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": kept + added}
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            status, detail = refusal
            await JSONResponse({"detail": detail}, status)(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and words for a request that is not answered."""
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name not in NAMES:
            return 421, f"this dashboard is {', '.join(NAMES)}, not {name or 'nameless'}; ask it by one of these"
        if method in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "commands are taken from the dashboard's own page only"
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return 401, "a command needs the token; open the link that aster-dashboard printed when it started"
        return None
