"""Alerts to a person, through apprise: what happened, and what to do about it.

Where they go is a secret of its own, for most addresses carry a token: a file that only its owner reads, or the
environment. It stands in no log and in no error. An alert that cannot be sent is said on standard error and holds up
nobody.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

from live.private_file import require_private

VARIABLE = "ASTER_ALERTS"  # addresses, separated by white space
CREDENTIAL = "alerts"  # name of the file that systemd hands over
_SILENT_S = 300.0  # the same words are not said again before


class Kind(NamedTuple):
    """One kind of alert: its title, and what the operator does about it."""

    title: str
    do: str


KINDS = {
    "test": Kind("this is a test", "Nothing: alerts arrive."),
    "started": Kind("the runner has begun", "Nothing, if it was you."),
    "stopped": Kind("the runner has ended", "Nothing, if it was you; stops stay on the exchange. Else read its log."),
    "died": Kind("the runner ended with an error", "Read the error; start it again with the same --journal."),
    "command": Kind("a command was obeyed", "Nothing, if it was you; else `aster-live ctl flatten`, and change keys."),
    "level": Kind(
        "the risk level changed",
        "Read the reason in the journal; `aster-live ctl ack` or `resume` once it is understood, never before.",
    ),
    "silent": Kind(
        "the runner gives no sign of life",
        "Look whether it runs; `systemctl restart aster-live`. The watchdog looks after entries and stops.",
    ),
    "rescued": Kind(
        "the watchdog acted in the runner's place",
        "Compare positions and stops on the exchange's own page, then start the runner with the same --journal.",
    ),
    "unread": Kind("the exchange cannot be read", "Look at its status page; stops on the exchange hold meanwhile."),
    "naked": Kind("a position has no stop", "Place one on the exchange's own page, or `aster-live ctl close SYMBOL`."),
    "order": Kind("an order met trouble", "Read the detail; compare the symbol on the exchange's own page."),
    "mismatch": Kind(
        "journal and exchange disagree", "Compare on the exchange's page; `aster-live ctl ack` when known."
    ),
    "refused": Kind("a symbol is not traded", "Mend what the reason names, then start the runner again."),
    "journal": Kind(
        "a journal was damaged and set aside",
        "Keep the file that is named. Compare positions and stops on the exchange's page, then `aster-live ctl ack`.",
    ),
    "disk": Kind(
        "the disk is full",
        "Make room; exits are still sent. `aster-live ctl ack`, and start the runner again for a new reserve.",
    ),
    "rules": Kind(
        "the exchange changed a contract's rules",
        "Nothing for what is held; entries stay off until the runner is started again, after a sweep on the new rules.",
    ),
    "fee": Kind("the account's fee is not the config's", "Sweep and promote with the true fee; entries stay off."),
    "agent": Kind("the agent's key will expire", "Make a new agent on the exchange's page and put its key in place."),
    "parity": Kind(
        "a replay decided otherwise than the run",
        "Read the nightly report; `aster-live ctl ack` once the difference is understood.",
    ),
    "nightly": Kind("the nightly work found something", "Read the nightly report."),
    "unit": Kind("a service failed", "`systemctl status` and `journalctl -u` of the unit that is named."),
}


def destinations(path: Path | None = None) -> tuple[str, ...]:
    """Addresses for apprise, one per line of a file: the one given, systemd's credential, or the environment's.

    None at all is no error: nobody is told anything then.

    Raises
    ------
    LookupError
        When the file that was given is not there.
    ValueError
        When others may read it.
    """
    handed = os.environ.get("CREDENTIALS_DIRECTORY")
    if path is None and handed is not None and (Path(handed) / CREDENTIAL).is_file():
        path = Path(handed) / CREDENTIAL
    if path is None:
        return tuple(os.environ.get(VARIABLE, "").split())
    require_private(path, "alert addresses")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


class Alerts:
    """Sends alerts, one after the other, in a thread of its own.

    Parameters
    ----------
    addresses : of ``destinations``.
    who : whose alerts they are, such as runner.
    """

    def __init__(self, addresses: Sequence[str], who: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._addresses, self._who, self._now_s = tuple(addresses), who, now_s
        self._said_s: dict[tuple[str, str], float] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._last: Future[bool] | None = None

    def __repr__(self) -> str:
        return f"Alerts({len(self._addresses)} addresses, redacted)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until everything was sent."""
        self._thread.shutdown()
        if self._last is not None:
            self._last.result()  # a bug of ours is told

    def post(self, kind: str, detail: str) -> None:
        """Send soon, and return at once; words that were said a moment ago are not said again.

        Raises
        ------
        KeyError
            For a kind that there is not.
        """
        told, now_s = KINDS[kind], self._now_s()
        if now_s - self._said_s.get((kind, detail), -_SILENT_S) < _SILENT_S:
            return
        self._said_s[kind, detail] = now_s
        if self._addresses:
            self._last = self._thread.submit(self._send, f"aster {self._who}: {told.title}", f"{detail}\n{told.do}")

    def send(self, kind: str, detail: str) -> bool:
        """Send now; whether everybody got it."""
        told = KINDS[kind]
        return self._send(f"aster {self._who}: {told.title}", f"{detail}\n{told.do}")

    def _send(self, title: str, body: str) -> bool:
        import apprise  # large, and only needed here

        post = apprise.Apprise()
        are_known = post.add(list(self._addresses))
        has_arrived = bool(self._addresses) and bool(post.notify(title=title, body=body))
        if not (are_known and has_arrived):
            print(f"alert not delivered to all of {len(self._addresses)} addresses: {title}", file=sys.stderr)
        return are_known and has_arrived
