"""``aster approve``, ``aster up`` and ``aster alert``: what stands around the runner."""

from pathlib import Path

import click

from pipelines.options import json_option
from pipelines.terminal import print_json


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--paper", "journal", required=True, type=click.Path(path_type=Path), help="Journal of its paper run.")
@click.option("--key-file", required=True, type=click.Path(path_type=Path), help="The operator's key, mode 0600.")
@click.option("--days", default=30.0, show_default=True, help="How long the approval holds.")
@click.option("--least-days", default=7.0, show_default=True, help="On paper.")
@click.option("--least-trades", default=30, show_default=True, help="On paper.")
@json_option
def approve(config, journal, key_file, days, least_days, least_trades, as_json) -> None:
    """Sign for a promoted CONFIG after its paper stage, so that it may trade for real.

    The paper run is replayed and must come out the same; its trades must earn what the sweep predicted. The key is the
    operator's own, never one that trades; the runner accepts the one whose address the account's file names.
    """
    from dataclasses import asdict

    from live.approval import Demands
    from live.secrets import operator_key
    from pipelines.approve import approve as sign

    demands = Demands(least_paper_days=least_days, least_paper_trades=least_trades)
    approval = sign(config, journal, operator_key(key_file), demands=demands, days=days)
    if as_json:
        print_json(asdict(approval))
        return
    paper = approval.paper
    print(f"paper: {paper.trades} trades in {paper.days:.1f} days, {paper.mean_net_bps:+.2f} bps each "
          f"(predicted {paper.low_bps:+.2f} to {paper.high_bps:+.2f}); its replay ends the same")  # fmt: skip
    print(f"approved by {approval.operator} until {approval.expires:%Y-%m-%d %H:%M} UTC: {config}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("runner", nargs=-1, type=click.UNPROCESSED)
@click.option("--journal", required=True, type=click.Path(path_type=Path), help="Of the run; continued where there.")
@click.option("--watch", "watchdog", default="", help="Further options of the watchdog, in one text.")
@click.option("--dashboard/--no-dashboard", default=True, help="Start the dashboard too.")
@click.option("--port", default=8050, show_default=True, type=click.IntRange(0, 65_535), help="Of the dashboard.")
def up(runner, journal, watchdog, dashboard, port) -> None:
    """Start runner, watchdog and dashboard together; they end together.

    Everything after `--` goes to the runner: aster up --journal run.sqlite -- --config FILE --mode paper
    """
    import shlex

    from pipelines.up import run_together

    run_together(journal, runner, shlex.split(watchdog), port if dashboard else None, print)


@click.command()
@click.argument("kind")
@click.argument("detail")
@json_option
def alert(kind, detail, as_json) -> None:
    """Send an alert of a KIND, such as `test` or `unit`, to the addresses in ASTER_ALERTS or systemd's credential."""
    from live.alerts import KINDS, Alerts, destinations

    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    addresses = destinations()
    if not addresses:
        raise LookupError("no address to alert: set ASTER_ALERTS, one address after the other; see `apprise --help`")
    with Alerts(addresses, "command") as alerts:
        has_arrived = alerts.send(kind, detail)
    if as_json:
        print_json({"kind": kind, "addresses": len(addresses), "has_arrived": has_arrived})
    if not has_arrived:
        raise click.ClickException("the alert did not reach every address")
    if not as_json:
        print(f"sent to {len(addresses)} addresses")
