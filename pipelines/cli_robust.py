"""``aster robust``: how fragile is what a sweep found?"""

import json
from pathlib import Path

import click

from pipelines.options import json_option, lake_option, open_lake
from pipelines.terminal import print_json, print_rows, progress_bars


@click.command()
@click.argument("run")
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), default=None, help="[pipelines/runs]")
@lake_option
@json_option
def robust(run, runs_path, lake_path, as_json) -> None:
    """Trade a sweep's record again on worse terms. RUN is a folder, its name, or `latest`.

    Later orders, dearer fees, more slippage and later starts; the fees at which nothing is left; how deep it could have
    fallen; what is left without its best day, symbol and trade. Writes robust.json and robust.html into the run's
    folder, tells the gate, and writes the run's report again.
    """
    from pipelines.gate_job import ROBUST
    from pipelines.robust_job import run_robust
    from pipelines.robust_report import write_robust_report
    from pipelines.runs import default_runs, open_run
    from pipelines.sweep_report import write_sweep_report
    from research import formats

    folder, lake = open_run(runs_path or default_runs(), run), open_lake(lake_path)
    with progress_bars() as tell:
        found = run_robust(folder, lake, tell)
    page = write_robust_report(folder, found)
    write_sweep_report(folder, lake)
    if as_json:
        print_json({"run": str(folder.path), "report": str(page), **json.loads((folder.path / ROBUST).read_text())})
        return
    print_rows(
        [
            {
                "symbol": one.symbol,
                "net, USDT": round(one.net_pnl_usdt, 2),
                one.finding.name: one.finding.value,
                "worst, USDT": round(one.surface["net_pnl_usdt"].min(), 2),
                "charged, bps per fill": formats.bps(one.cost.charged_bps, signed=False),
                "break-even": formats.bps(one.cost.break_even_bps, signed=False),
            }
            for one in found
        ],
        "the record on worse terms",
    )
    for one in found:
        if not one.is_repeated:
            print(
                f"{one.symbol}: code or data changed since the sweep: this is not its record; run `aster sweep` again"
            )
    print(f"report: {page}")
