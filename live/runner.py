"""The runner: events in, decisions, orders and a journal out. A thin shell around ``live.trader.step``.

It replays what was recorded, or trades on paper what it hears. Nothing here can send an order: code that speaks to an
exchange's account is imported in real mode alone, once the symbols have been typed again.
"""

import asyncio
import json
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from data.clock import FollowedClock, RealClock
from data.config import parse_utc
from data.venues.aster import ASTER, Unavailable, venue_of
from data.wal import Log, segments
from live.alerts import Alerts, destinations
from live.command_errors import errors_told
from live.config import load_chosen, risk_of
from live.ctl import JOURNALS, ctl
from live.identity import CHECKOUT
from live.journal import Journal, feed_folder
from live.session import Progress, Session, walk
from live.shadows import Shadows, require_same_feed, walk_shadows
from live.summary import feed_summary, for_people, shadows_summary, summary

LAKE = CHECKOUT / "data" / "lake"
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


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
        return result | shadows_summary(followers)


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
    return feed_summary("real", session.dispatcher, feed_folder(path), path, head)


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


def _utc(context: click.Context, option: click.Option, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_utc(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _seconds(context: click.Context, option: click.Option, text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not found or not float(found[1]):
        raise click.BadParameter(f"expected seconds, or a number and one of s m h d such as 15m, got {text!r}")
    return float(found[1]) * _UNIT_S[found[2]]


@click.group(invoke_without_command=True)
@click.pass_context
@click.option(
    "--config",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Promoted config to run; several may be given.",
)
@click.option(
    "--shadow",
    "shadows",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Promoted config that trades on paper beside, on the same feed; any number. With --mode paper or --feed.",
)
@click.option("--mode", type=click.Choice(["replay", "paper", "real"]), default="replay", show_default=True)
@click.option("--send-orders", metavar="SYMBOLS", help="Symbols, typed again, that may really be traded (mode real).")
@click.option(
    "--lake",
    envvar="ASTER_LAKE",
    type=click.Path(path_type=Path),
    help="Lake to replay, or for the warm start of paper; default ASTER_LAKE, else data/lake in the checkout.",
)
@click.option("--start", callback=_utc, help="Replay: first bar, UTC; default the first recorded.")
@click.option("--end", callback=_utc, help="Replay: end of the range, UTC, exclusive; default after the last bar.")
@click.option("--feed", type=click.Path(path_type=Path), help="Replay: input log of a paper run, in place of a lake.")
@click.option(
    "--account",
    "rules_path",
    type=click.Path(path_type=Path),
    help="Real: TOML file of the account's limits and modes.",
)
@click.option(
    "--keys", type=click.Path(path_type=Path), help="Real: file of keys with mode 0600; default the environment."
)
@click.option("--venue", default="aster", show_default=True, help="Live: aster, loopback, or a loopback's URL.")
@click.option(
    "--resolution",
    type=click.Choice(["tick", "bar"]),
    default="tick",
    show_default=True,
    help="Paper: what fills are decided on.",
)
@click.option("--run-length", "run_length_s", callback=_seconds, help="Live: stop after so long, such as 90s or 8h.")
@click.option(
    "--journal",
    "path",
    type=click.Path(path_type=Path),
    help="Journal file; default live/journals/<utc>-<mode>.sqlite. An unfinished one is continued.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def main(
    context: click.Context,
    paths: Iterable[Path],
    shadows: Sequence[Path],
    mode: str,
    send_orders: str | None,
    lake: Path | None,
    start: datetime | None,
    end: datetime | None,
    feed: Path | None,
    rules_path: Path | None,
    keys: Path | None,
    venue: str,
    resolution: str,
    run_length_s: float | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Run promoted configs: feed, decide, orders, journal."""
    if context.invoked_subcommand is not None:
        return
    if not paths:
        raise click.UsageError("missing option '--config': a file that `aster promote` wrote")
    if mode != "real" and (send_orders, rules_path, keys) != (None, None, None):
        raise click.UsageError(
            f"--send-orders, --account and --keys have no place in --mode {mode}, which never sends an order; leave "
            "them out"
        )
    if mode == "real" and (send_orders is None or rules_path is None):
        raise click.UsageError(
            "--mode real sends orders: it needs --send-orders with the symbols typed again, and --account"
        )
    if mode != "replay" and (start, end, feed) != (None, None, None):
        raise click.UsageError(f"--start, --end and --feed are for --mode replay; {mode} trades from now on")
    if feed is not None and (start, end) != (None, None):
        raise click.UsageError("--feed replays a whole input log; leave --start and --end out")
    if shadows and mode == "real":
        raise click.UsageError("--shadow has no place in --mode real: run the challengers on paper beside it")
    if shadows and mode == "replay" and feed is None:
        raise click.UsageError("--shadow follows a feed or its log; to replay a lake give every config as --config")
    path = path or JOURNALS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{mode}.sqlite"
    with errors_told(Unavailable):
        if mode == "paper":
            result = paper([*paths], venue, resolution, lake, run_length_s, path, shadows)
        elif mode == "real":
            result = real([*paths], send_orders, rules_path, keys, venue, lake, run_length_s, path)
        elif feed is not None:
            result = replay_feed([*paths], feed, path, shadows)
        else:
            result = replay([*paths], lake, start, end, path)
    click.echo(json.dumps(result) if as_json else "\n".join(for_people(result)))


main.add_command(ctl)

if __name__ == "__main__":
    main()
