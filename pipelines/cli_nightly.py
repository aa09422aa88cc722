"""``aster nightly``: what is done every night."""

import sys
from pathlib import Path

import click

from pipelines.options import Utc, json_option, lake_folder, lake_option
from pipelines.terminal import print_json, print_rows, progress_bars


@click.command()
@click.option(
    "--config", "config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
    help="TOML: symbols, venue, sweeps, ... [nightly.toml in this folder, then pipelines/nightly.toml].",
)  # fmt: skip
@click.option("--day", type=Utc(), default=None, help="UTC day to close [yesterday].")
@click.option("--again", is_flag=True, help="Forget what was done of this night.")
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), default=None, help="[pipelines/runs]")
@lake_option
@json_option
def nightly(config, day, again, runs_path, lake_path, as_json) -> None:
    """Close a day: repair, compact, prove, rebuild maps, judge them, walk forward again, write the pages.

    What is done is not done twice; what failed or was interrupted is tried again by the same command. A step that
    fails does not stop the others: the exit status is 1 then. Pages and an index over all nights lie in
    pipelines/runs/nightly.
    """
    from pipelines.nightly import FAILED, changes, human_of, previous, run_night
    from pipelines.nightly_report import PAGE, headline
    from pipelines.runs import default_runs

    runs = runs_path or default_runs()
    with progress_bars() as tell:
        night = run_night(
            day and day.date(), config or _settings_path(), lake_folder(lake_path), runs, tell, again=again
        )
    steps, before = night.steps().values(), previous(night)
    changed = changes(night, before) if before is not None else []
    if as_json:
        print_json(
            {
                "day": str(night.day),
                "headline": headline(night),
                "report": str(night.folder / PAGE),
                "index": str(night.folder.parent / "index.html"),
                "human": [{"step": name, "what": what} for name, what in human_of(night)],
                "changed": [{"figure": name, "was": was, "is": now} for name, was, now in changed],
                "steps": [
                    {"step": step.name, "state": step.state, "seconds": step.seconds, "note": step.outcome.note}
                    for step in steps
                ],
            }
        )
    else:
        print_rows(
            [{"step": step.name, "state": step.state, "took": f"{step.seconds:.0f} s", "what": step.outcome.note}
             for step in steps],
            f"night of {night.day}", right=("took",),
        )  # fmt: skip
        for name, what in human_of(night):
            print(f"! {name}: {what}")
        print(f"{headline(night)}\nreport: {night.folder / PAGE}")
    if any(step.state == FAILED for step in steps):
        sys.exit(1)


def _settings_path() -> Path:
    """Settings of this folder, else those that came with the checkout."""
    own = Path("nightly.toml")
    return own if own.exists() else Path(__file__).parent / "nightly.toml"
