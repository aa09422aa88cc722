"""``aster job``: commands that go on when the shell or notebook they were started from is closed."""

import shlex
import sys
from pathlib import Path

import click

from pipelines.options import json_option
from pipelines.terminal import ERRORS, print_json, print_rows, progress_bars


@click.group(invoke_without_command=True, subcommand_metavar="[start|attach|stop]")
@json_option
@click.pass_context
def job(context, as_json) -> None:
    """Run a long command so that it outlives this shell; alone, list the jobs there are.

    A job is running, finished, failed, stopped, or lost: killed before it could say how it ended. They lie in
    pipelines/runs/jobs, one per command line and content of the TOML files it names.
    """
    if context.invoked_subcommand is not None:
        return
    from pipelines.jobs import jobs

    if as_json:
        print_json([one.as_json() for one in jobs()])
        return
    print_rows(
        [
            {
                "job": one.name,
                "state": one.state,
                "started": one.about["started"],
                "progress": "".join(f"{what} {done:,} of {total:,}" for what, (done, total) in
                                    list(one.progress.items())[-1:]),
                "command": shlex.join(one.about["command"]),
            }
            for one in jobs()
        ],
        "jobs",
    )  # fmt: skip


@job.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True)
@json_option
@click.pass_context
def start(context, command, as_json) -> None:
    """Start an aster COMMAND, such as `sweep CONFIG.toml`, with all its options behind it.

    Where the same one runs already, it is that one. A command that resumes, as most do, goes on where it was.
    """
    from pipelines.jobs import start as start_job

    there = [name for name in context.find_root().command.commands if name != "job"]
    if command[0] not in there:
        raise ValueError(f"no command {command[0]!r} to run as a job; there are {', '.join(sorted(there))}")
    one, was_running = start_job(command, Path.cwd())
    if as_json:
        print_json(one.as_json())
    else:
        print(f"{'runs already' if was_running else 'started'}: {one.name}; watch it: aster job attach {one.name}")


@job.command()
@click.argument("name")
@json_option
def attach(name, as_json) -> None:
    """Show a job's progress until it ends, then what it printed, with its exit status. Ctrl-C leaves it running."""
    from pipelines.jobs import INTERRUPTED, LOST, open_job

    one = open_job(name)
    try:
        with progress_bars() as tell:
            state = one.follow(tell)
    except KeyboardInterrupt:
        ERRORS.print(f"{one.name} goes on; to end it: aster job stop {one.name}", markup=False, soft_wrap=True)
        sys.exit(INTERRUPTED)
    if as_json:
        print_json(one.as_json())
    else:
        print(one.printed, end="")
        print(one.complained, end="", file=sys.stderr)
        if state == LOST:
            again = shlex.join(one.about["command"])
            lost = f"{one.name} is lost: it was killed, or the machine stopped; again: aster job start {again}"
            ERRORS.print(lost, markup=False, soft_wrap=True)
    sys.exit(1 if state == LOST else one.status)


@job.command()
@click.argument("name")
@json_option
def stop(name, as_json) -> None:
    """Interrupt a job as Ctrl-C would; what it finished is kept."""
    from pipelines.jobs import open_job

    one = open_job(name)
    state = one.stop()
    if as_json:
        print_json(one.as_json())
    else:
        print(f"{one.name}: {state}")
