"""The dashboard's web application: prior-art 001's endpoints and 002's, the stream, and the page.

State comes from memory and is written as JSON once per change. Everything of the lake is read in a thread and kept for
a moment, so that any number of pages costs as much as one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from pydantic_core import to_json

from data.lake import Lake
from live.dashboard import views
from live.dashboard.candidate import Candidate
from live.dashboard.commands import Commands, Inbox
from live.dashboard.guard import Guard
from live.dashboard.kept import Kept
from live.dashboard.market import Recorders
from live.dashboard.routes_lake import lake_routes
from live.dashboard.routes_state import state_routes
from live.dashboard.watch import Watch

_HERE = Path(__file__).parent
_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (PermissionError, 403),  # before OSError, which it is
    (LookupError, 404),
    (ValueError, 422),
    (OSError, 503),
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a dashboard is about.

    Parameters
    ----------
    journal : of the runner; may not be there yet.
    lake : folder of a lake; None without one, and it too may come later.
    candidate : file that the configuration page writes.
    token : for everything that changes something.
    inbox : where commands go; None where the runner takes none.
    """

    journal: Path
    lake: Path | None
    candidate: Path
    token: str
    inbox: Inbox | None = None


class Desk:
    """All that the routes share."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.watch = Watch(place.journal)
        self.commands = Commands(place.inbox)
        self.candidate = Candidate(place.candidate)
        self.clients = 0
        self._state: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._brief, self._long = Kept(for_s=1.0), Kept(for_s=60.0)

    @cached_property
    def lake(self) -> Lake:
        """The lake.

        Raises
        ------
        LookupError
            While there is none.
        """
        if self.place.lake is None:
            raise LookupError("this dashboard was started without a lake; start it with --lake FOLDER")
        return Lake(self.place.lake)

    @property
    def has_lake(self) -> bool:
        """Whether there is a lake by now."""
        return self.place.lake is not None and (self.place.lake / "manifest.sqlite").exists()

    @cached_property
    def recorders(self) -> Recorders:
        """The lake's recorders; raises as ``lake``."""
        return Recorders(self.lake)

    def state(self, name: str, make: Callable[[], BaseModel | Sequence[BaseModel]]) -> Response:
        """An answer that changes only when the watch learns something, as JSON."""
        return Response(self.once(name, lambda: to_json(make())), media_type="application/json")

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What is made again only when the watch has learnt something."""
        version = self.watch.version
        found = self._state.get(name)
        if found is None or found[0] != version:
            found = version, make()
            self._state[name] = found
        return found[1]

    def overview_json(self) -> bytes:
        """The first screen."""
        return self.once("overview", lambda: to_json(views.overview(self.watch, self.commands.are_taken)))

    async def brief(self, question: tuple, make: Callable[[], Any]) -> Any:
        """Of the lake, at most a second or so old."""
        return await _asked(self._brief, question, make)

    async def long(self, question: tuple, make: Callable[[], Any]) -> Any:
        """Of the lake, at most a minute or so old: what takes long to make."""
        return await _asked(self._long, question, make)

    def close(self) -> None:
        """End what runs beside."""
        self.watch.close()
        self._brief.close()
        self._long.close()


async def _asked(kept: Kept, question: tuple, make: Callable[[], Any]) -> Any:
    """An answer that is there is given at once; another thread would only make it wait."""
    return kept.get(question, make) if kept.has(question) else await asyncio.to_thread(kept.get, question, make)


def make_app(place: Place) -> FastAPI:
    """The application; it follows the journal while it is served."""
    desk = Desk(place)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        while desk.watch.look():  # what a run held an hour ago must not be told as what it holds
            await asyncio.sleep(0)
        app.state.following = following = asyncio.create_task(desk.watch.follow())
        yield
        following.cancel()
        desk.close()

    app = FastAPI(
        title="Aster dashboard",
        version="1",
        summary="What the runner does, what the recorders bring, where liquidations would cluster.",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=living,
    )
    app.state.desk = desk
    app.include_router(state_routes(desk))
    app.include_router(lake_routes(desk))
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    app.mount("/vendor", StaticFiles(directory=_HERE / "vendor"))
    for path, name in (("/", "index.html"), ("/config", "config.html")):
        app.add_api_route(path, _page(name), include_in_schema=False, methods=["GET", "HEAD"])
    for kind, status in _ERRORS:
        app.add_exception_handler(kind, _told(status))
    app.add_middleware(Guard, token=place.token)
    return app


def _page(name: str) -> Callable[[], FileResponse]:
    def page() -> FileResponse:
        return FileResponse(_HERE / "static" / name, media_type="text/html; charset=utf-8")

    return page


def _told(status: int) -> Callable[[Request, Exception], JSONResponse]:
    """Answers an error of ours in its own words; our own bugs stay errors of the server."""

    def tell(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, (KeyError, IndexError, UnicodeError)):
            raise error
        return JSONResponse({"detail": str(error)}, status)

    return tell
