"""The command line ``aster``. Heavy modules load inside the command that needs them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.bench import BENCHMARKS
from pipelines.cli_audit import audit
from pipelines.cli_clusters import clusters, signals
from pipelines.cli_explain import explain, shadows
from pipelines.cli_history import backfill, repair
from pipelines.cli_job import job
from pipelines.cli_lake import compact, coverage, push, sizes, tail, verify
from pipelines.cli_live import alert, approve, up
from pipelines.cli_market import loopback, record
from pipelines.cli_nightly import nightly
from pipelines.cli_robust import robust
from pipelines.options import (
    Utc,
    end_option,
    json_option,
    lake_option,
    names_in,
    open_lake,
    start_option,
    symbol_list,
    symbols_option,
)
from pipelines.terminal import ERRORS, Progress, print_frame, print_json, print_rows, progress_bars


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="aster-workbench")
def cli() -> None:
    """Research, backtest and trade Aster perpetual futures."""


for command in (record, backfill, repair, coverage, verify, compact, push, sizes, tail, loopback, clusters, signals):
    cli.add_command(command)
for command in (audit, robust, nightly, job, explain, shadows, approve, up, alert):
    cli.add_command(command)


_SETTINGS = ("settings", "config", "grid")
_A_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@cli.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "format_",
    required=True,
    type=click.Choice(["collector", "midfreq", "klines", "exchange-info", "okx", "force-orders", *_SETTINGS]),
)
@click.option("--symbol", default=None, help="Symbol of a klines file that does not name it.")
@click.option("--effective", type=Utc(), default=None, help="From when exchange-info rows are in force [its own time].")
@click.option("--like", type=_A_FILE, default=None, help="Of settings: the sweep that says what they do not.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Of settings: folder for their sweeps.")
@lake_option
@json_option
def import_command(path, format_, symbol, effective, like, out, lake_path, as_json) -> None:
    """Bring recorded files into the lake; importing twice changes nothing.

    Formats settings, config and grid are no recordings but prior systems' settings: they become sweeps, in --out.
    """
    if format_ in _SETTINGS:
        _import_settings(path, format_, like, out, as_json)
        return
    from data.convert import import_path

    symbol = symbol and symbol.upper()  # as every command that reads the lake does
    with progress_bars() as tell:
        report = import_path(
            open_lake(lake_path, create=True), path, format=format_, symbol=symbol, effective=effective, progress=tell
        )
    if as_json:
        print_json(report.as_json())
    else:
        print_rows(report.table(), f"imported {path}")
        for note in report.notes():
            print(note)


def _import_settings(path, format_, like, out, as_json) -> None:
    from pipelines.settings_import import import_settings

    if like is None or out is None:
        raise ValueError(f"--format {format_}: expected --like SWEEP.toml, whose days and costs hold, and --out FOLDER")
    carried = import_settings(path, format=format_, like=like, out=out)
    if as_json:
        print_json({"files": [str(file) for file in carried.files], "notes": carried.notes})
    else:
        for line in (*carried.files, *carried.notes):
            print(line)


@cli.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "format_", required=True, type=click.Choice(["collector", "midfreq"]))
@click.option("--levels", type=click.Choice(["5", "10", "20"]), default="10", help="Book levels of collector files.")
@symbols_option
@start_option
@end_option
@lake_option
@json_option
def export_command(folder, format_, levels, symbols, start, end, lake_path, as_json) -> None:
    """Write the lake's rows as the prior collectors' CSV files."""
    from data.convert import export_path

    report = export_path(
        open_lake(lake_path),
        folder,
        format=format_,
        symbols=symbol_list(symbols),
        start=start,
        end=end,
        levels=int(levels),
    )
    if as_json:
        print_json(report.as_json())
    else:
        print_rows(report.table(), f"exported to {folder}")


@cli.command()
@click.argument("query")
@lake_option
@json_option
def sql(query, lake_path, as_json) -> None:
    """Run DuckDB SQL over the lake's views (a view per table, and depth5)."""
    frame = open_lake(lake_path).sql(query)
    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame(frame)


@cli.command()
@click.option("--symbol", required=True)
@click.option("--names", required=True, help="Comma-separated features, such as return_bps,volatility_bps_60.")
@click.option("--start", type=Utc(), required=True, help="UTC, inclusive.")
@click.option("--end", type=Utc(), required=True, help="UTC, exclusive.")
@click.option("--interval", default="1m", show_default=True)
@click.option("--latency-ms", type=click.IntRange(min=0), default=0, show_default=True)
@lake_option
@json_option
def features(symbol, names, start, end, interval, latency_ms, lake_path, as_json) -> None:
    """Build features of one symbol and print them."""
    from research.bars import Substitutions, build_bars
    from research.cluster_bars import with_clusters_asked_for
    from research.features import features_frame

    lake, chosen, symbol = open_lake(lake_path), names_in(names, "names", "return_bps"), symbol.upper()
    bars = build_bars(
        lake,
        symbol,
        start,
        end,
        interval=interval,
        latency_ms=latency_ms,
        substitutions=Substitutions(),
    )
    bars = with_clusters_asked_for(bars, lake, chosen)
    frame = features_frame(bars, chosen)
    if as_json:
        print_json(frame.to_dicts())
    else:
        print_frame(frame, f"{symbol} {interval}")


@cli.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), default=None, help="[pipelines/runs]")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--ray-address", default=None, help="Of a running Ray cluster, or auto [Ray on this machine alone].")
@click.option("--notebook/--no-notebook", default=True, help="Execute notebook 04 per symbol into the run folder.")
@lake_option
@json_option
def sweep(config, runs_path, executor, ray_address, notebook, lake_path, as_json) -> None:
    """Run a parameter grid with walk-forward; an interrupted sweep goes on where it stopped."""
    from pipelines.gate_job import gate_of
    from pipelines.portfolio_section import portfolio_rows
    from pipelines.runs import default_runs
    from pipelines.sweep_job import run_sweep
    from pipelines.sweep_report import write_sweep_report
    from research.portfolio_record import limits_in_words
    from research.sweep import NOT_RANKED, ranked

    lake = open_lake(lake_path)
    with progress_bars() as tell:
        where = {"executor_name": executor, "ray_address": ray_address}
        run = run_sweep(config, lake, runs_path or default_runs(), tell, **where)
        report = write_sweep_report(run, lake)
        if notebook:
            from pipelines.notebooks import execute

            name, symbols = "04_which_parameters_survive", run.config.symbols
            for done, symbol in enumerate(symbols):
                tell("notebook", done, len(symbols))
                page = run.path / (f"{name}.ipynb" if len(symbols) == 1 else f"{name}-{symbol}.ipynb")
                execute(name, page, {"run": str(run.path), "lake": str(lake.root), "symbol": symbol})
            tell("notebook", len(symbols), len(symbols))
    manifest = run.manifest
    results = run.frame("results")
    if as_json:
        print_json({"run": str(run.path), "configs": manifest["configs"], "report": str(report),
                    "evaluation": manifest["evaluation"], "best": results.head(1).to_dicts()[0],
                    "portfolio": portfolio_rows(run) if len(run.config.symbols) > 1 else [],
                    "gate": {symbol: gate_of(run, symbol) for symbol in run.config.symbols}})  # fmt: skip
        return
    best = ranked(results.filter(results["rank"] <= 5))
    print_rows(
        [
            {
                "symbol": row["symbol"],
                "rank": row["rank"],
                **{name.replace("_", " "): row[name] for name in run.config.swept},
                "Sharpe in sample": round(row["in_sample_sharpe"], 2),
                "Sharpe out": round(row["out_of_sample_sharpe"], 2),
                "net out, USDT": round(row["out_of_sample_net_pnl_usdt"], 2),
                "trades out": int(row["out_of_sample_trades"]),
                "liquidated out": int(row["out_of_sample_liquidations"]),
            }
            for row in best.iter_rows(named=True)
        ],
        "best five by train folds; test folds (out) never rank",
    )
    for symbol in run.config.symbols:
        if symbol not in best["symbol"]:
            print(f"{symbol}: {NOT_RANKED}")
    if len(run.config.symbols) > 1:
        shared = limits_in_words(run.config.portfolio)
        print_rows(portfolio_rows(run), f"out of sample; together within: {shared}; picked and judged each alone")
    done = manifest["evaluation"]
    if done["config_bars"] and done["seconds"]:
        rate = done["config_bars"] / done["seconds"] / 1e6
        print(f"{manifest['configs']} configs, {done['config_bars']:,} config-bars in {done['seconds']:.1f} s "
              f"({rate:.0f} M/s)")  # fmt: skip
    for symbol, sentences in manifest["substituted"].items():
        for sentence in sentences:
            print(f"{symbol}: {sentence}")
    for symbol in run.config.symbols:
        print(f"{symbol}: the selection procedure {gate_of(run, symbol)['verdict']}")
    print(f"run: {run.path}\nreport: {report}")


@cli.command()
@click.argument("run")
@click.option("--rank", type=int, required=True, help="Row of the sweep's ranked table.")
@click.option("--symbol", default=None, help="Where the sweep had several [its first].")
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), default=None, help="[pipelines/runs]")
@click.option("--risk", type=click.Path(path_type=Path), default=None, help="TOML file: what a run may lose and hold.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="[live/configs/chosen.toml]")
@lake_option
@json_option
def promote(run, rank, symbol, runs_path, risk, out, lake_path, as_json) -> None:
    """Write a sweep's row as the config the runner executes. RUN is a folder, its name, or `latest`."""
    import tomllib

    from pipelines.candidate import differences
    from pipelines.promote import CHOSEN, promoted_at
    from pipelines.promote import promote as write_chosen
    from pipelines.runs import default_runs, open_run

    folder, path = open_run(runs_path or default_runs(), run), out or CHOSEN
    before = promoted_at(path)
    write_chosen(folder, open_lake(lake_path), rank=rank, symbol=symbol, risk=risk, destination=path)
    document = tomllib.loads(path.read_text())
    passed = document["provenance"]["statistical_gate"]
    if as_json:
        print_json({"run": str(folder.path), "chosen": str(path), "config_hash": document["config_hash"],
                    "statistical_gate": passed, "findings": document["provenance"]["findings"]})  # fmt: skip
        return
    whereto = "" if passed else ", FOR REPLAY AND PAPER ONLY: the gate does not let it through"
    print(f"promoted rank {rank} of {folder.path.name}: config {document['config_hash'][:12]}{whereto}")
    for finding in document["provenance"]["findings"]:
        print(f"  - {finding}")
    if before is not None:
        changed = [f"{name} {was} → {now}" for name, was, now in differences(before["config"], document["config"])]
        print(f"instead of config {before['config_hash'][:12]}: {', '.join(changed) or 'the same settings'}")
    print(f"written: {path}\nnext: a paper stage, `aster-live --config {path} --mode paper`; `aster approve` weighs it")


@cli.command("runs")
@click.argument("two", nargs=-1, metavar="[RUN OTHER]")
@click.option("--runs", "runs_path", type=click.Path(path_type=Path), default=None, help="[pipelines/runs]")
@json_option
def runs_command(two, runs_path, as_json) -> None:
    """Past sweeps and what was promoted from them, newest last; two of them side by side when they are named."""
    from pipelines.run_history import SHOWN, comparison, history
    from pipelines.runs import default_runs

    if len(two) not in (0, 2):
        raise click.UsageError("name two runs to compare, or none for all of them")
    folder = runs_path or default_runs()
    frame = comparison(folder, *two) if two else history(folder)
    if as_json:
        print_json(frame.to_dicts())
    elif two:
        print_rows(frame.to_dicts(), " and ".join(two))
    else:
        print_rows(frame.select(SHOWN).to_dicts(), "runs")


@cli.command()
@click.argument("name", type=click.Choice(BENCHMARKS))
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None,
    help="For what is made on the way: the synthetic year of `lake`, the lake of `soak` [pipelines/runs/bench-NAME].",
)  # fmt: skip
@click.option("--minutes", type=float, default=30.0, show_default=True, help="How long a soak takes.")
@json_option
def bench(name, folder, minutes, as_json) -> None:
    """Measure against the named baseline, side by side; exit status 0 only when every target holds."""
    from pipelines.bench import run_bench
    from pipelines.runs import default_runs

    with progress_bars() as tell:
        result = run_bench(name, folder or default_runs() / f"bench-{name}", minutes, tell)
    if as_json:
        print_json(result)
    else:
        print_rows(result["figures"], f"bench {name}")
    if not all(figure["holds"] for figure in result["figures"]):
        sys.exit(1)


@cli.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="Where the demo lives [pipelines/runs/demo]."
)
@json_option
def demo(folder, as_json) -> None:
    """Loopback exchange, recorder, lake, sweep, promotion, paper trading and report; safe to interrupt and repeat."""
    from pipelines.demo import run_demo

    with progress_bars() as tell:
        result = run_demo(folder, tell)
    if as_json:
        print_json(result)
        return
    for line in result["summary"]:
        print(line)
    print(f"report: {result['report']}")


def main(arguments: Sequence[str] | None = None, tell: Progress | None = None) -> None:
    """Entry point: what a user can mend is one sentence and exit status 1; our own bugs keep their traceback.

    Parameters
    ----------
    arguments : None for those of the process.
    tell : who is told (what, done, total); None for bars on the terminal.
    """
    try:
        cli.main(arguments, prog_name="aster", standalone_mode=False, obj=tell)
    except click.exceptions.Abort:
        ERRORS.print("interrupted; run the same command again to go on")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyError, IndexError):
        raise
    except (ValueError, LookupError, OSError) as error:
        ERRORS.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
