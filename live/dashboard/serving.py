"""The dashboard on a socket, for as long as it follows a journal."""

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from data.clock import RealClock
from live.commands import ask
from live.dashboard.app import Place, make_app
from live.dashboard.commands import Inbox

_GRACE_S = 2  # for open requests to end
_MOST_CONNECTIONS = 500
_PATIENCE_MS = 10_000  # for the runner to take a command up; later it is void


class DashboardServer(uvicorn.Server):
    """Serves one dashboard; open streams end with it.

    Parameters
    ----------
    ready : called once it answers.

    Attributes
    ----------
    listening : the bound socket, for ``run`` or ``serve``. url : under which it answers.

    Raises
    ------
    SystemExit
        When the port is taken.
    """

    def __init__(self, place: Place, host: str, port: int, ready: Callable[[], None] = lambda: None) -> None:
        self.app = make_app(place)
        self._ready = ready
        config = uvicorn.Config(
            self.app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=_GRACE_S, ws="none",
            server_header=False, limit_concurrency=_MOST_CONNECTIONS, access_log=False,
        )  # fmt: skip
        super().__init__(config)
        self.listening = config.bind_socket()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.listening.getsockname()[1]}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where it is once it answers."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """End as soon as the journal is not followed any more: an old picture must not look alive."""
        return self.app.state.following.done() or await super().on_tick(counter)

    def require_followed(self) -> None:
        """Raise what ended the following of the journal, if that is why it has ended."""
        following = self.app.state.following
        if following.done() and not following.cancelled():
            following.result()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams say goodbye first."""
        self.app.state.desk.watch.end()
        await super().shutdown(sockets)


def inbox_of(journal: Path) -> Inbox:
    """Leaves commands where the runner of that journal looks for them."""

    def leave(action: str, symbol: str | None) -> str:
        now_ms = RealClock().now_ms()
        return ask(journal, action, symbol, by="dashboard", now_ms=now_ms, patience_ms=_PATIENCE_MS).key

    return leave
