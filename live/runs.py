"""What the runner does in each mode, from promoted files to what is told at the end.

Nothing here can send an order: code that speaks to an exchange's account is imported in real mode alone, once the
symbols have been typed again.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from data.clock import FollowedClock, RealClock
from data.venues.aster import ASTER, venue_of
from data.wal import Log, segments
from live.alerts import Alerts, destinations
from live.config import load_chosen, risk_of
from live.dispatch import walk
from live.identity import CHECKOUT
from live.journal import Journal, feed_folder
from live.session import Progress, Session
from live.shadows import Shadows, require_same_feed, walk_shadows
from live.summary import feed_summary, shadows_summary, summary

LAKE = CHECKOUT / "data" / "lake"


def replay(
    paths: list[Path], lake: Path | None, start: datetime | None, end: datetime | None, path: Path
) -> dict[str, Any]:
    """Replay promoted configs over what the lake holds, into a journal; returns ``summary``."""
    from live.recordings import recording_from_lake, replayed, run  # Arrow: a runner that listens does without

    configs = [load_chosen(chosen).config for chosen in paths]
    with ExitStack() as stack:
        recordings = [stack.enter_context(recording_from_lake(chosen, lake, start, end)) for chosen in paths]
        seats = [replayed(config, recording) for config, recording in zip(configs, recordings, strict=True)]
        journal = stack.enter_context(Journal(path))
        advance = stack.enter_context(_progress(sum(recording.header.rows for recording in recordings)))
        run(seats, journal, advance)
        head = journal.head
    return summary("replay", [seat.desk for seat in seats], path, head)


def replay_feed(paths: list[Path], folder: Path, path: Path, shadows: Sequence[Path] = ()) -> dict[str, Any]:
    """Replay the input log of a paper run, into a journal that ends as the run's own does, and its shadows into theirs.

    Raises
    ------
    LookupError
        When there is no log, or trading had not begun when it ended.
    """
    configs = [load_chosen(chosen).config for chosen in paths]
    if not segments(folder):
        raise LookupError(f"no input log in {folder}; a paper run writes one beside its journal")
    with Journal(path) as journal:
        dispatcher = walk(configs, folder, journal)
        if not dispatcher.seats:
            raise LookupError(f"{folder}: trading had not begun when this log ended")
        result = feed_summary("replay", dispatcher, folder, path, journal.head)
    with Shadows([load_chosen(chosen).config for chosen in shadows], path) as followers:
        require_same_feed(configs, followers.configs)
        walk_shadows(followers, folder)
        return result | shadows_summary(followers)


def paper(
    paths: list[Path], place: str, resolution: str, lake: Path | None, run_length_s: float | None, path: Path,
    shadows: Sequence[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    """Trade promoted configs on paper until the run length is over or a signal comes; goes on with an old journal."""
    promoted = [load_chosen(chosen) for chosen in paths]
    configs, limits = [each.config for each in promoted], risk_of(promoted)
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        log = stack.enter_context(Log(feed_folder(path)))
        journal = stack.enter_context(Journal(path, log.sync))
        followers = stack.enter_context(Shadows([load_chosen(chosen).config for chosen in shadows], path))
        alerts = stack.enter_context(Alerts(destinations(), "runner"))
        stack.enter_context(_told(alerts, f"paper on {place}, journal {path}"))
        tell = stack.enter_context(_live_line())

        async def trade() -> Session:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            venue = await venue_of(place)
            clock = FollowedClock() if venue.is_loopback else RealClock()
            # A loopback exchange plays days that the lake of real ones knows otherwise.
            known = LAKE if lake is None and LAKE.is_dir() and not venue.is_loopback else lake
            session = Session(
                configs, venue, clock, log, journal,
                resolution=resolution, limits=limits, alerts=alerts, lake=known, run_length_s=run_length_s,
                shadows=followers,
            )  # fmt: skip
            await session.run(stop, tell)
            return session

        session = asyncio.run(trade())
        result = feed_summary("paper", session.dispatcher, log.folder, path, journal.head)
        return result | shadows_summary(followers) | {"ended_early": session.ended_early}


def real(
    paths: list[Path],
    send_orders: str | None,
    rules_path: Path,
    keys: Path | None,
    place: str,
    lake: Path | None,
    run_length_s: float | None,
    path: Path,
) -> dict[str, Any]:
    """Trade promoted configs on an account until the run length is over or a signal comes; stops stay in place."""
    from live import real as real_mode
    from live.account_rules import load_account_rules
    from live.secrets import signing_key

    promoted = [load_chosen(chosen) for chosen in paths]
    configs = [each.config for each in promoted]
    symbols = real_mode.permitted(send_orders, configs)
    rules = load_account_rules(rules_path)
    key, now = signing_key(keys), datetime.now(UTC)
    real_mode.require_approved(promoted, rules, key, place, now)
    known = LAKE if lake is None and LAKE.is_dir() and place == ASTER.name else lake
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        alerts = stack.enter_context(Alerts(destinations(), "runner"))
        stack.enter_context(_told(alerts, f"real on {place}, journal {path}"))
        if (warning := rules.expiry_warning(now)) is not None:
            alerts.post("agent", warning)
            click.echo(f"warning: {warning}", err=True)
        tell = stack.enter_context(_live_line("real"))

        async def trade(log: Log, journal: Journal, damage: str | None) -> tuple[Session, str]:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            session = await real_mode.session(
                configs, symbols, rules, key, place, log, journal, stop, tell,
                lake=known, run_length_s=run_length_s, alerts=alerts, damage=damage,
            )  # fmt: skip
            return session, journal.head

        session, head = asyncio.run(real_mode.on_sound_journal(path, trade))
    result = feed_summary("real", session.dispatcher, feed_folder(path), path, head)
    return result | {"ended_early": session.ended_early}


@contextmanager
def _told(alerts: Alerts, what: str) -> Iterator[None]:
    """Tell people that a run begins, and how it ends."""
    alerts.post("started", what)
    try:
        yield
    except BaseException as error:
        alerts.post("died", f"{type(error).__name__}: {error}; {what}")
        raise
    alerts.post("stopped", what)


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with ProgressBar(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("replay", total=rows)
        yield lambda: progress.advance(task)


@contextmanager
def _live_line(mode: str = "paper") -> Iterator[Callable[[Progress], None]]:
    """One line on a terminal that says where trading stands; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    with console.status(f"{mode}: starting") as line:

        def tell(told: Progress) -> None:
            position = {0: "flat", 1: "long", -1: "short"}.get(told.side, f"{told.side:+d} positions")
            line.update(
                f"{mode} {told.now:%Y-%m-%d %H:%M:%S} UTC  {position}  {told.trades} trades  "
                f"net {told.net_pnl_usdt:+.4f} USDT  {told.bars} bars, {told.gaps} gaps  {told.connection}"
                f" ({told.reconnects} reconnects)"
            )

        yield tell
