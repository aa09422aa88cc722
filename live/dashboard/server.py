"""``aster-dashboard``: serves the dashboard on this machine."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import click
import uvicorn

from data.clock import RealClock
from live.commands import ask
from live.ctl import JOURNALS, newest_journal
from live.dashboard.app import Place, make_app
from live.dashboard.commands import Inbox
from live.identity import CHECKOUT

_CANDIDATE = CHECKOUT / "live" / "configs" / "candidate.toml"
_LAKE = CHECKOUT / "data" / "lake"
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


def _journal() -> Path:
    """The journal that was written to last, or one that is still to come."""
    try:
        return newest_journal()
    except LookupError:
        return JOURNALS / "paper.sqlite"


@click.command()
@click.option("--journal", type=click.Path(path_type=Path), help="Of the runner; default the newest in live/journals.")
@click.option(
    "--lake", envvar="ASTER_LAKE", type=click.Path(path_type=Path),
    help="Default ASTER_LAKE, else data/lake in the checkout.",
)  # fmt: skip
@click.option(
    "--host", default="127.0.0.1", show_default=True, type=click.Choice(["127.0.0.1", "localhost", "::1"]),
    help="This machine only: from elsewhere, come through `ssh -L 8050:127.0.0.1:8050 HOST`.",
)  # fmt: skip
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65_535), help="0 for a free one.")
@click.option(
    "--candidate", type=click.Path(path_type=Path), default=_CANDIDATE, help="File that the configuration page writes."
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Holds the token for commands; default a new one, in the link that is printed.",
)  # fmt: skip
def main(
    journal: Path | None, lake: Path | None, host: str, port: int, candidate: Path, token_file: Path | None
) -> None:
    """Serve the dashboard; open the link that is printed."""
    token = token_file.read_text(encoding="utf-8").strip() if token_file else secrets.token_urlsafe(24)
    if len(token) < 16:
        raise click.ClickException(f"{token_file}: expected a token of 16 characters or more, got {len(token)}")
    journal = journal or _journal()
    place = Place(
        journal=journal, lake=lake or _LAKE, candidate=candidate, token=token, inbox=inbox_of(journal)
    )  # fmt: skip
    server = DashboardServer(place, host, port, lambda: click.echo(f"{server.url}/#token={token}"))
    server.run(sockets=[server.listening])
    server.require_followed()


if __name__ == "__main__":
    main()
