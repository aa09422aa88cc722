"""``aster up``: runner, watchdog and dashboard as one command, which starts them together and ends them together."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from live.heartbeat import beat_path
from pipelines.children import Child, ChildFailed, alone_in

_LOOK_S = 0.2
_BEGIN_S = 120.0  # for the first sign of life: a warm start reads a day of bars


def run_together(
    journal: Path,
    runner: Sequence[str],
    watchdog: Sequence[str],
    port: int | None,
    say: Callable[[str], None],
) -> None:
    """Run until the runner has ended, or a signal comes. What each prints stands in ``<journal>.logs``.

    The watchdog begins when the runner gives its first sign of life, and ends after it.

    Parameters
    ----------
    runner, watchdog : their options, the journal aside.
    port : of the dashboard; None for none.

    Raises
    ------
    ChildFailed
        When runner or watchdog failed; the others are ended in good order. A dashboard that ends stops nothing.
    """
    logs, beat = journal.with_name(f"{journal.name}.logs"), beat_path(journal)
    beat.unlink(missing_ok=True)
    stopped: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: stopped.append(number))
                for number in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    try:
        with ExitStack() as running:
            lock = running.enter_context(alone_in(logs))
            place = {"logs": logs, "lock": lock}
            watched = running.enter_context(ExitStack())  # ends after the runner, which it watches to the last
            child = running.enter_context(
                Child("runner", "live.runner", "--journal", str(journal.resolve()), *runner, **place)
            )
            until = time.monotonic() + _BEGIN_S
            while child.is_running() and not beat.exists() and not stopped and time.monotonic() < until:
                time.sleep(_LOOK_S)
            guard, dashboard = None, None
            if child.is_running() and not stopped:
                guard, dashboard = _others(watched, journal, watchdog, port, place)
                beside = f"watchdog{', dashboard' if dashboard else ''}"
                say(f"started: runner, {beside}; journal {journal}; logs {logs}")
            while not stopped and child.is_running() and (guard is None or guard.is_running()):
                dashboard = _still_there(dashboard, say)
                time.sleep(_LOOK_S)
            child.stop()
        say(child.printed.strip() or "the runner has ended")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _others(
    running: ExitStack, journal: Path, watchdog: Sequence[str], port: int | None, place: dict
) -> tuple[Child, Child | None]:  # fmt: skip
    """What runs beside the runner: watchdog, and the dashboard where one is wanted."""
    told = "--journal", str(journal.resolve())
    guard = running.enter_context(Child("watchdog", "live.watchdog", *told, *watchdog, **place))
    if port is None or find_spec("live.dashboard") is None:
        return guard, None
    dashboard = Child("dashboard", "live.dashboard.server", *told, "--port", str(port), **place)
    return guard, running.enter_context(dashboard)


def _still_there(dashboard: Child | None, say: Callable[[str], None]) -> Child | None:
    """The dashboard; None once it has ended, which is said and stops nothing: it only looks."""
    try:
        if dashboard is None or dashboard.is_running():
            return dashboard
        say("the dashboard has ended; trading goes on")
    except ChildFailed as error:
        say(f"{error}; trading goes on")
    return None
