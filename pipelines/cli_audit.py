"""``aster audit``: does a user's strategy, feature, backtest or notebook look ahead?"""

import sys
import time
from pathlib import Path

import click

from pipelines.options import Utc, json_option, lake_option, open_lake
from pipelines.terminal import output, print_json, print_rows
from research.audit.convention import WHAT_IS_AUDITED


@click.command(epilog="\n\n".join(f"\b\n{part}" for part in WHAT_IS_AUDITED.split("\n\n")))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--symbol", default=None, help="Run it on recorded bars of this symbol [a made-up market of a day].")
@click.option("--start", type=Utc(), default=None, help="UTC, inclusive; with --symbol.")
@click.option("--end", type=Utc(), default=None, help="UTC, exclusive; with --symbol.")
@click.option("--interval", default="1m", show_default=True)
@click.option("--latency-ms", type=click.IntRange(min=0), default=250, show_default=True)
@lake_option
@json_option
def audit(file, symbol, start, end, interval, latency_ms, lake_path, as_json) -> None:
    """Find where FILE looks ahead: it is run without the future, with another one, and on a short buffer.

    Names the first row and column that the future changes and the line where it comes in, and fills that could not have
    been. The exit status is 1 when something is found. FILE's code runs with all your rights, dozens of times: audit
    only what you would run.
    """
    from research.audit.examine import examine

    bars = None
    if symbol is not None:
        if start is None or end is None:
            raise click.UsageError("--symbol needs --start and --end; a day of bars is enough")
        from research.bars import Substitutions, build_bars

        bars = build_bars(
            open_lake(lake_path),
            symbol.upper(),
            start,
            end,
            interval=interval,
            latency_ms=latency_ms,
            substitutions=Substitutions(),
        )
    began = time.perf_counter()
    found = examine(file, bars)
    seconds = time.perf_counter() - began
    if as_json:
        print_json(_as_json(found, seconds))
    else:
        _print(found, seconds)
    if found.findings:
        sys.exit(1)


def _as_json(found, seconds: float) -> dict:
    return {
        "file": str(found.path),
        "findings": [
            {
                "subject": finding.subject,
                "columns": finding.columns,
                "row": finding.row,
                "time": finding.time,
                "sentence": finding.sentence,
                "file": finding.line.file,
                "line": finding.line.line,
                "text": finding.text,
                "through": [{"file": line.file, "line": line.line} for line in finding.through],
            }
            for finding in found.findings
        ],
        "subjects": found.subjects,
        "notes": found.notes,
        "seconds": round(seconds, 3),
    }


def _print(found, seconds: float) -> None:
    console = output()
    print_rows(found.subjects, f"audit of {found.path}")
    for finding in found.findings:
        console.print(f"\n{finding.line.file}, line {finding.line.line}", style="bold", markup=False)
        console.print(f"    {finding.text}", markup=False)
        console.print(f"  {', '.join(finding.columns)}", markup=False)
        moment = f"{finding.time:%Y-%m-%d %H:%M} UTC"
        console.print(f"  row {finding.row}, {moment}: {finding.sentence}", markup=False)
        if len(finding.through) > 1:
            console.print(f"  through line {', '.join(str(line.line) for line in finding.through[1:])}", markup=False)
    for note in found.notes:
        console.print(f"not tried: {note}", markup=False)
    count = len(found.findings)
    verdict = "nothing looks ahead" if not count else "1 finding" if count == 1 else f"{count} findings"
    console.print(f"\n{verdict}: {sum(row['runs'] for row in found.subjects)} runs in {seconds:.1f} s")
