"""``aster-live``: events in, decisions, orders and a journal out. A thin shell around ``live.trader.step``.

It replays what was recorded, or trades on paper what it hears; for real only once the symbols have been typed again.
``live.runs`` is imported late: by then it is known whether this process needs a compiler.
"""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from data.config import parse_utc
from data.venues.aster import Unavailable
from live.command_errors import errors_told
from live.ctl import JOURNALS, ctl
from live.plain import leave_compiler_out

_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


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
        if mode != "replay":
            leave_compiler_out([*paths, *shadows])
        from live import runs
        from live.summary import for_people

        if mode == "paper":
            result = runs.paper([*paths], venue, resolution, lake, run_length_s, path, shadows)
        elif mode == "real":
            result = runs.real([*paths], send_orders, rules_path, keys, venue, lake, run_length_s, path)
        elif feed is not None:
            result = runs.replay_feed([*paths], feed, path, shadows)
        else:
            result = runs.replay([*paths], lake, start, end, path)
    click.echo(json.dumps(result) if as_json else "\n".join(for_people(result)))
    if result.get("ended_early") is not None:
        raise click.ClickException(result["ended_early"])


main.add_command(ctl)

if __name__ == "__main__":
    main()
