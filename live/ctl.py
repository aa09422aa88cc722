"""``aster-live ctl``: the operator's hand, without the dashboard."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from data.clock import RealClock
from live.commands import COMMANDS, Command, answer_to, ask
from live.heartbeat import beat_path
from live.identity import CHECKOUT

JOURNALS = CHECKOUT / "live" / "journals"
_LOOK_S = 0.05
_GRACE_S = 1.0  # for the answer to what was taken up at the last moment


def newest_journal(folder: Path = JOURNALS) -> Path:
    """The journal that was written to last.

    Raises
    ------
    LookupError
        When there is none.
    """
    found = sorted(folder.glob("*.sqlite"), key=_written_s)
    if not found:
        raise LookupError(f"no journal in {folder}; name the runner's with --journal")
    return found[-1]


def _written_s(journal: Path) -> float:
    """When it was written to last: SQLite may keep that in a file beside it for hours, and a runner says it lives."""
    beside = (journal, journal.with_name(f"{journal.name}-wal"), beat_path(journal))
    return max((path.stat().st_mtime for path in beside if path.exists()), default=0.0)


def await_answer(journal: Path, asked: Command) -> dict[str, Any] | None:
    """What the runner answers; None when it did not in time, and will not any more."""
    until = time.monotonic() + (asked.until_ms - asked.asked_ms) / 1_000 + _GRACE_S
    while (answer := answer_to(journal, asked.key)) is None and time.monotonic() < until:
        time.sleep(_LOOK_S)
    return answer


@click.command(epilog="  \n".join(f"{name}: {does}." for name, does in COMMANDS.items()))
@click.argument("command", type=click.Choice([*COMMANDS]))
@click.argument("symbol", required=False)
@click.option("--journal", type=click.Path(path_type=Path), help="Of the runner; default the newest in live/journals.")
@click.option("--timeout", "patience_s", type=float, default=10.0, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON object.")
def ctl(command: str, symbol: str | None, journal: Path | None, patience_s: float, as_json: bool) -> None:
    """Tell the runner of a journal what to do, and print its answer; exit status 1 when it was not done."""
    try:
        journal = journal or newest_journal()
        asked = ask(
            journal, command, symbol, by="ctl", now_ms=RealClock().now_ms(), patience_ms=round(patience_s * 1_000)
        )  # fmt: skip
        answer = await_answer(journal, asked)
    except (ValueError, LookupError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if answer is None:
        raise click.ClickException(
            f"no answer within {patience_s:g} s: no runner writes {journal}, or it is stuck; {command} is void now, "
            "what is held stays under its exits"
        )
    click.echo(json.dumps(answer) if as_json else f"{command}: {answer['answer']} (level {answer['level']})")
    if not answer["is_done"]:
        sys.exit(1)
