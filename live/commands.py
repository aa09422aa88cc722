"""The operator's commands: an inbox beside the journal that anyone may write to and the runner alone obeys.

The journal has one writer, the runner. So a command is a row of another SQLite file, which may have many; the runner
writes each into its input log before it acts, and command and answer into the journal. A replay of the log obeys again.
"""

import json
import sqlite3
import sys
import uuid
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

COMMANDS = {
    "pause": "enter nothing new; what is held goes on to its exits",
    "reduce": "as pause, and entry orders that still stand are taken back",
    "resume": "raise the level to ACTIVE again",
    "flatten": "close everything at the market and halt",
    "close": "close one symbol at the market; its config may enter again",
    "ack": "take back the alarms that left only exits",
    "adopt": "take over a position of a symbol that the journal does not know",
}
ALARMS = {"parity": "a night's proofs failed: nothing new is entered until the operator has looked"}  # no person's
WITH_SYMBOL = ("close", "adopt")
ALARM_HOLDS_MS = 30 * 86_400_000  # it waits so long for a runner that takes the journal up again

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL             -- JSON
);
"""
_BUSY_S = 5.0  # another writer may hold the file so long


@dataclass(frozen=True, kw_only=True)
class Command:
    """One wish of the operator, or an alarm of a process beside the runner.

    Attributes
    ----------
    key : names it for good: it is obeyed once.
    command : one of ``COMMANDS`` or ``ALARMS``.
    symbol : of those in ``WITH_SYMBOL``, else None.
    asked_ms, until_ms : of the machine's clock: when it was asked, and until when it may be obeyed.
    by : who asked: ctl, dashboard or nightly.
    why : what an alarm found.

    Raises
    ------
    ValueError
        For a command that there is not, or a symbol missing or too many.
    """

    key: str
    command: str
    symbol: str | None
    asked_ms: int
    until_ms: int
    by: str
    why: str = ""

    def __post_init__(self) -> None:
        if self.command not in COMMANDS | ALARMS:
            raise ValueError(f"command: expected one of {', '.join(COMMANDS)}, got {self.command!r}")
        if (self.symbol is not None) != (self.command in WITH_SYMBOL):
            wanted = "a symbol" if self.command in WITH_SYMBOL else "no symbol"
            raise ValueError(f"{self.command}: expected {wanted}, got {self.symbol!r}")


def inbox_path(journal: Path) -> Path:
    """The inbox of a journal."""
    return journal.with_name(f"{journal.name}.inbox")


def ask(
    journal: Path, command: str, symbol: str | None, *, by: str, now_ms: int, patience_ms: int, why: str = ""
) -> Command:
    """Put a command into the inbox of a journal.

    Raises
    ------
    LookupError
        When there is no such journal.
    ValueError
        As ``Command`` does.
    OSError
        When the inbox cannot be written.
    """
    asked = Command(
        key=uuid.uuid4().hex, command=command, symbol=symbol, asked_ms=now_ms, until_ms=now_ms + patience_ms, by=by,
        why=why,
    )  # fmt: skip
    if not journal.exists():
        raise LookupError(f"no journal at {journal}; is the runner started with --journal {journal}?")
    path = inbox_path(journal)
    try:
        with closing(_opened(path)) as connection:
            body = json.dumps(asdict(asked))
            connection.execute("INSERT INTO commands (key, body) VALUES (?, ?)", (asked.key, body))
    except sqlite3.OperationalError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    return asked


def answer_to(journal: Path, key: str) -> dict[str, Any] | None:
    """What the runner answered to a command; None while it has not, or has only just begun its journal.

    Raises
    ------
    ValueError
        When the file is no journal.
    """
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as connection:
            rows = connection.execute("SELECT body FROM events WHERE kind = 'answer' ORDER BY seq DESC")
            return next((told for (body,) in rows if (told := json.loads(body))["key"] == key), None)
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{journal} is no journal: {error}") from error


class Inbox:
    """The runner's side of the inbox; made where missing."""

    def __init__(self, journal: Path) -> None:
        self._connection = _opened(inbox_path(journal))
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def unread(self) -> list[Command]:
        """What came since the last look, in order; at first everything there is.

        What this runner does not know, such as a newer one's command, is left: whoever asked gets no answer.
        """
        rows = self._connection.execute("SELECT seq, body FROM commands WHERE seq > ? ORDER BY seq", (self._seen,))
        found = rows.fetchall()
        if found:
            self._seen = found[-1][0]
        return [command for _, body in found if (command := _known(body)) is not None]


def _known(body: str) -> Command | None:
    try:
        return Command(**json.loads(body))
    except (TypeError, ValueError) as error:
        print(f"a command that this runner does not know is left: {error}", file=sys.stderr)
        return None


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_SCHEMA)
    return connection
