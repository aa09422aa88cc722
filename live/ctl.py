"""``aster-live ctl``: the operator's hand, without the dashboard."""

import json
import sqlite3
import sys
import time
from contextlib import closing
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
    """The journal that a run wrote to last. A start that failed leaves one without a run, which is never the newest.

    Raises
    ------
    LookupError
        When there is none.
    """
    newest_first = sorted(folder.glob("*.sqlite"), key=_written_s, reverse=True)
    if (found := next(filter(_holds_run, newest_first), None)) is None:
        raise LookupError(f"no journal of a run in {folder}; name the runner's with --journal")
    return found


def _written_s(journal: Path) -> float:
    """When a run wrote to it last: SQLite may keep that in a file beside it, and a runner says it lives."""
    beside = [journal, beat_path(journal)]
    if _is_in_wal(journal):
        beside.append(_wal_path(journal))
    return max((path.stat().st_mtime for path in beside if path.exists()), default=0.0)


def _holds_run(journal: Path) -> bool:
    """Whether a run began in it. A damaged one counts: whoever reads it says what is wrong with it."""
    # Immutable where nobody writes: else SQLite would leave files beside it, newer than the journal.
    how = "mode=ro" if _is_in_wal(journal) else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?{how}", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone() is None:
                return False
            # It stands at the beginning: of a long journal the first pages are read.
            return connection.execute("SELECT 1 FROM events WHERE kind = 'start' LIMIT 1").fetchone() is not None
    except sqlite3.DatabaseError:
        return True


def _is_in_wal(journal: Path) -> bool:
    """Events wait beside the file; an empty file there was left by somebody who only read."""
    path = _wal_path(journal)
    return path.exists() and path.stat().st_size > 0


def _wal_path(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-wal")


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
