"""``aster explain`` and ``aster shadows``: why did live differ, and would another config have done better?"""

from pathlib import Path

import click

from pipelines.options import json_option, lake_option, open_lake
from pipelines.terminal import print_json, print_rows


@click.command()
@click.argument("run")
@lake_option
@click.option("--config", "config_hash", default="", help="Hash of one config of the run, or how it begins [all].")
@click.option("--symbol", default="", help="One symbol of the run [all].")
@click.option("--freeze", type=click.Path(path_type=Path), default=None, help="Write all it rests on into one file.")
@click.option("--html", type=click.Path(path_type=Path), default=None, help="Page to write [beside RUN].")
@click.option("--parity", "is_parity", is_flag=True, help="Prove the run instead: replay, engine, feed, paper.")
@json_option
def explain(run, lake_path, config_hash, symbol, freeze, html, is_parity, as_json) -> None:
    """Live or paper trades against the backtest of the same config, every difference put down to its cause.

    RUN is a journal, its name in live/journals, `latest`, or a file that --freeze wrote, which needs no lake and no
    journal. With --lake the backtest is made of what was recorded there, beside the run; without it of the run's own
    recording. The causes add up to the whole difference, exactly.
    """
    from live.journal import feed_folder
    from pipelines.explain_case import SUFFIX, find_run, gather, thaw
    from pipelines.explain_case import freeze as write_case
    from pipelines.explain_report import cause_rows, sentence, to_json, trade_rows, write_explanation
    from research.explanation import explain as find_causes

    path = find_run(run)
    lake = None if lake_path is None else open_lake(lake_path)
    if is_parity:
        _prove(path, lake, as_json)
        return
    if path.suffix == SUFFIX:
        cases = [thaw(path)]
    else:
        cases = gather(path, feed_folder(path), lake, config_hash=config_hash, symbol=symbol)
    if len(cases) > 1 and (freeze or html):
        raise click.UsageError(f"{path} has {len(cases)} configs: name one with --config and --symbol")
    told = []
    for evidence in cases:
        found, config = find_causes(evidence.case), evidence.past.config
        name = f"{path.name}.html" if len(cases) == 1 else f"{path.name}.{config.symbol}-{config.config_hash[:10]}.html"
        page = write_explanation(evidence, found, html or path.with_name(name))
        described = {"config_hash": config.config_hash, "symbol": config.symbol, "report": str(page)}
        if freeze is not None:
            described["case"] = str(write_case(evidence, freeze.with_suffix(SUFFIX)))
        told.append({**described, "reference": evidence.reference_name, **to_json(found)})
        if not as_json:
            print(f"{config.symbol} {config.strategy} {config.config_hash[:10]}: {sentence(found)}")
            print_rows(cause_rows(found), f"against the backtest on {evidence.reference_name}", right=("USDT",))
            print_rows(trade_rows(found), "trades that differ", right=("backtest, USDT", "live, USDT", "difference"))
            print("\n".join(f"{what}: {described[what]}" for what in ("case", "report") if what in described))
    if as_json:
        print_json({"run": str(path), "cases": told})


def _prove(path: Path, lake, as_json: bool) -> None:
    import sys

    from live.journal import feed_folder
    from pipelines.parity import parity_id, proofs_of

    proofs = proofs_of(path, feed_folder(path), lake)
    if as_json:
        print_json({"run": str(path), "id": parity_id(proofs), "proofs": [proof._asdict() for proof in proofs]})
    else:
        print_rows([proof._asdict() for proof in proofs], f"parity of {path.name}")
        print(f"id: {parity_id(proofs)}")
    if not all(proof.holds is not False for proof in proofs):
        sys.exit(1)


@click.command()
@click.argument("run")
@json_option
def shadows(run, as_json) -> None:
    """Champion and challengers of a run, day by day: trades, fees and net of each, and how far it was ahead.

    RUN is a journal, its name in live/journals, or `latest`; `aster-live --shadow FILE` starts challengers.
    """
    from pipelines.explain_case import find_run
    from pipelines.shadow_table import daily_table

    path = find_run(run)
    table = daily_table(path)
    if as_json:
        print_json({"run": str(path), "days": table.to_dicts()})
        return
    rows = [row | {"config_hash": row["config_hash"][:10]} for row in table.to_dicts()]
    print_rows(rows, f"champion and challengers of {path.name}")
