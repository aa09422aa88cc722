"""The runner: events in, decisions, orders and a journal out. A thin shell around ``live.trader.step``.

This version replays what was recorded. Nothing here can send an order: there is no code that speaks to an exchange.
"""

import heapq
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import polars as pl
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.config import parse_utc
from live import journal as journals
from live.brokers.paper import PaperBroker
from live.config import load_chosen
from live.feed import BarClosed, Event, FeedEnded, Gap, Recording, open_recording
from live.journal import Journal, Record
from live.orders import Report
from live.trader import flat, rules_of, step
from research.engine import TradingConfig

CHECKOUT = Path(__file__).resolve().parent.parent
JOURNALS = CHECKOUT / "live" / "journals"
REPLAY_INSTANCE = "rpl"  # a replayed order id can never be taken for a real one


class Desk:
    """One config on one symbol: its state, its broker, its lines in the journal."""

    def __init__(self, config: TradingConfig, recording: Recording) -> None:
        header = recording.header
        if header.config_hash != config.config_hash or header.symbol != config.symbol:
            raise ValueError(f"the rows of {header.symbol} are for another config; start the replay again")
        self.recording = recording
        self.rules = rules_of(config, header, REPLAY_INSTANCE)
        self.key = (self.rules.config_hash, config.symbol)
        self._state = flat(self.rules)
        self._broker = PaperBroker(self.rules.terms)
        self._is_started = False

    def handle(self, event: Event, journal: Journal) -> None:
        """The market acts on the orders first, then we hear of it."""
        if not self._is_started:
            self._is_started = True
            header = self.recording.header
            told = {"config": self.rules.config, "rows": header.rows, "instrument": header.instrument}
            journal.append([self._note("start", event.time_ms, **told, assumptions=header.assumptions)])
        for report in self._broker.on(event):
            self._apply(report, journal)
        self._apply(event, journal)
        if isinstance(event, FeedEnded):
            journal.append([self._note("end", event.time_ms)])

    def _apply(self, event: Event | Report, journal: Journal) -> None:
        self._state, effects = step(self.rules, self._state, event)
        journal.append(effect for effect in effects if isinstance(effect, Record))
        for effect in effects:
            if not isinstance(effect, Record):
                self._broker.place(effect)

    def _note(self, kind: str, ts_ms: int, **body: Any) -> Record:
        config_hash, symbol = self.key
        return Record(
            ts_ms=ts_ms,
            kind=kind,
            config_hash=config_hash,
            symbol=symbol,
            trade_id=None,
            client_order_id=None,
            body={"mode": "replay", **body},
        )


def run(desks: list[Desk], journal: Journal, on_row: Callable[[], None] = lambda: None) -> None:
    """Hand every desk its events, all in the order they became known, until the feeds end.

    Parameters
    ----------
    desks : one per (config_hash, symbol).
    on_row : called once per signal row, for progress.
    """
    keys = [desk.key for desk in desks]
    if len(set(keys)) < len(keys):
        raise ValueError("the same config was given twice: every config runs once per symbol")
    # Ties go by the order the configs were given in, so that two replays write one chain.
    for event, desk in heapq.merge(*map(_events, desks), key=lambda pair: pair[0].time_ms):
        desk.handle(event, journal)
        if isinstance(event, (BarClosed, Gap)):
            on_row()


def _events(desk: Desk) -> Iterator[tuple[Event, Desk]]:
    return ((event, desk) for event in desk.recording.events())


@contextmanager
def recording_from_lake(
    path: Path, lake: Path | None, start: datetime | None, end: datetime | None
) -> Iterator[Recording]:
    """A child process that reads the lake for one config, and the recording it streams."""
    bounds = [("--lake", lake and lake.resolve()), ("--start", start), ("--end", end)]
    arguments = [part for name, value in bounds if value is not None for part in (name, str(value))]
    with tempfile.TemporaryFile() as errors:
        # Started in the checkout: no data/ or live/ folder of the caller's can shadow ours.
        child = subprocess.Popen(
            [sys.executable, "-m", "live.replay", "--config", str(path.resolve()), *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            try:
                yield open_recording(child.stdout)
            except pa.ArrowInvalid as error:
                child.wait()
                errors.seek(0)
                told = errors.read().decode(errors="replace").strip().removeprefix("Error: ")
                raise ValueError(told or f"the reader of the lake ended with status {child.returncode}") from error
        finally:
            child.stdout.close()
            child.kill()
            child.wait()


def summary(desks: list[Desk], path: Path, head: str) -> dict[str, Any]:
    """What the replay did, from the journal alone: the object ``--json`` prints."""
    listed = [journals.trades(path, *desk.key) for desk in desks]
    configs = [
        {
            "config_hash": desk.key[0],
            "symbol": desk.key[1],
            "strategy": desk.rules.config.strategy,
            "rows": desk.recording.header.rows,
            **_totals(trades),
            "assumptions": list(desk.recording.header.assumptions),
        }
        for desk, trades in zip(desks, listed, strict=True)
    ]
    return {
        "mode": "replay",
        **_totals(pl.concat(listed)),
        "journal": str(path),
        "chain_head": head,
        "configs": configs,
    }


def _totals(trades: pl.DataFrame) -> dict[str, Any]:
    """Counts and sums of a trade list; an open position counts with its value at the end."""
    closed = trades.filter(pl.col("reason") != "open").height
    money = ("gross_pnl_usdt", "fees_usdt", "funding_usdt", "net_pnl_usdt")
    return {"trades": closed, "open_trades": trades.height - closed, **{name: trades[name].sum() for name in money}}


def _print(result: dict[str, Any]) -> None:
    for config in result["configs"]:
        click.echo(
            f"{config['symbol']} {config['strategy']} {config['config_hash'][:10]}: {config['rows']} rows, "
            f"{config['trades']} trades, {config['open_trades']} open, net {config['net_pnl_usdt']:.4f} USDT "
            f"(fees {config['fees_usdt']:.4f}, funding {config['funding_usdt']:.4f})"
        )
        for sentence in config["assumptions"]:
            click.echo(f"  {sentence}")
    click.echo(f"journal {result['journal']}")
    click.echo(f"chain head {result['chain_head']}")


def _utc(context: click.Context, option: click.Option, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_utc(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("replay", total=rows)
        yield lambda: progress.advance(task)


@click.command()
@click.option(
    "--config",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Promoted config to run; several may be given.",
)
@click.option("--mode", type=click.Choice(["replay", "paper", "real"]), default="replay", show_default=True)
@click.option("--send-orders", metavar="SYMBOLS", help="Symbols, typed again, that may really be traded (mode real).")
@click.option(
    "--lake",
    envvar="ASTER_LAKE",
    type=click.Path(path_type=Path),
    help="Lake folder; default ASTER_LAKE, else data/lake in the checkout.",
)
@click.option("--start", callback=_utc, help="First bar, UTC; default the first recorded.")
@click.option("--end", callback=_utc, help="End of the range, UTC, exclusive; default after the last recorded bar.")
@click.option(
    "--journal",
    "path",
    type=click.Path(path_type=Path),
    help="Journal file; default live/journals/<utc>-replay.sqlite. An unfinished one is continued.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def main(
    paths: Iterable[Path],
    mode: str,
    send_orders: str | None,
    lake: Path | None,
    start: datetime | None,
    end: datetime | None,
    path: Path | None,
    as_json: bool,
) -> None:
    """Run promoted configs: feed, decide, orders, journal."""
    if mode != "replay":
        raise click.UsageError(f"--mode {mode} is not available yet: this version only replays; use --mode replay")
    if send_orders is not None:
        raise click.UsageError("--send-orders has no place in --mode replay, which never sends an order; leave it out")
    path = path or JOURNALS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-replay.sqlite"
    try:
        result = replay([*paths], lake, start, end, path)
    except (KeyError, IndexError):
        raise  # our own bugs keep their traceback
    except (ValueError, LookupError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result))
    else:
        _print(result)


def replay(
    paths: list[Path], lake: Path | None, start: datetime | None, end: datetime | None, path: Path
) -> dict[str, Any]:
    """Replay promoted configs over what the lake holds, into a journal; returns ``summary``."""
    configs = [load_chosen(chosen).config for chosen in paths]
    with ExitStack() as stack:
        recordings = [stack.enter_context(recording_from_lake(chosen, lake, start, end)) for chosen in paths]
        desks = [Desk(config, recording) for config, recording in zip(configs, recordings, strict=True)]
        journal = stack.enter_context(Journal(path))
        advance = stack.enter_context(_progress(sum(recording.header.rows for recording in recordings)))
        run(desks, journal, advance)
        head = journal.head
    return summary(desks, path, head)


if __name__ == "__main__":
    main()
