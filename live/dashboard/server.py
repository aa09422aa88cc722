"""``aster-dashboard``: serves the dashboard on this machine.

What it serves is imported late: nothing in it is compiled, so it leaves the compiler out.
"""

import secrets
from pathlib import Path

import click

from live.ctl import JOURNALS, newest_journal
from live.identity import CHECKOUT
from live.plain import leave_compiler_out

_CANDIDATE = CHECKOUT / "live" / "configs" / "candidate.toml"
_LAKE = CHECKOUT / "data" / "lake"


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
    leave_compiler_out([])
    from live.dashboard.app import Place
    from live.dashboard.serving import DashboardServer, inbox_of

    journal = journal or _journal()
    place = Place(
        journal=journal, lake=lake or _LAKE, candidate=candidate, token=token, inbox=inbox_of(journal)
    )  # fmt: skip
    server = DashboardServer(place, host, port, lambda: click.echo(f"{server.url}/#token={token}"))
    server.run(sockets=[server.listening])
    server.require_followed()


if __name__ == "__main__":
    main()
