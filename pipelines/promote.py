"""``aster promote``: one row of a sweep becomes ``live/configs/chosen.toml``, with where it came from."""

import json
import math
import tomllib
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from data.config import load
from data.lake import Lake
from live.config import Chosen
from live.identity import code_identity
from live.oversight import RiskConfig
from live.promotion import document_of, prediction_of
from pipelines.gate_job import findings_of, gate_of, open_holdout
from pipelines.identity import CHECKOUT
from pipelines.runs import RunFolder, write_whole
from pipelines.sweep_job import bars_for, data_of
from research import formats
from research.engine import refusals
from research.portfolio_record import limits_in_words

CHOSEN = CHECKOUT / "live" / "configs" / "chosen.toml"


def promote(
    run: RunFolder,
    lake: Lake,
    *,
    rank: int,
    symbol: str | None = None,
    risk: Path | None = None,
    destination: Path = CHOSEN,
) -> Path:
    """Write the config of one ranked row, with what the gate says of it.

    Refused: a rank that is not in the table, a config the exchange could not execute, one whose orders VectorBT did
    not confirm. Written down: the statistical verdict, losses out of sample, code or data that changed since the sweep.
    The holdout, where one was kept, is opened here, and the opening written into the lake.

    A config that the gate stops is written too, for replays and paper, where it may prove itself: its
    ``statistical_gate`` is false, and ``live.promotion`` takes no such file.

    Parameters
    ----------
    risk : file of ``live.oversight.RiskConfig``, what a run may lose and hold; without one it can be run on paper only.

    Returns
    -------
    The file written; it holds the config, its hash, provenance and findings.
    """
    config, manifest = run.config, run.manifest
    symbol = symbol or config.symbols[0]
    if symbol not in config.symbols:
        raise LookupError(f"the run swept {', '.join(config.symbols)}, not {symbol}")
    if config.prices != "aster":
        raise ValueError(
            f"{run.path.name} was swept on prices of {config.prices}: nobody knows what it would earn on Aster's; "
            "sweep it on what was recorded there"
        )
    results = run.frame("results").filter(pl.col("symbol") == symbol)
    rows = results.filter(pl.col("rank") == rank)
    if rows.is_empty():
        raise LookupError(f"no rank {rank}: {run.path.name} has ranks 1 to {results.height}")
    row = rows.row(0, named=True)
    chosen = config.trading_config(symbol, config.params_of(row))
    if reasons := refusals(chosen, lake.instrument(symbol, config.end)):
        raise ValueError(f"rank {rank} is not executable: " + "; ".join(reasons))
    confirmed = {(entry["symbol"], entry["rank"]) for entry in json.loads((run.path / "confirmation.json").read_text())}
    if (symbol, rank) not in confirmed:
        raise ValueError(
            f"rank {rank} of {symbol} was not confirmed by VectorBT: the sweep confirms its best {config.top}; "
            "raise `top` in the sweep's config and run it again"
        )
    limits = None if risk is None else load(RiskConfig, risk, str(risk))
    found = findings(run, lake, row)
    judged = gate_of(run, symbol)
    is_promotable = judged["passes"]
    holdout = None
    if config.folds.holdout_days > 0.0:
        holdout = open_holdout(run, lake, chosen, bars_for(config, lake, symbol))
    if holdout is not None:
        found.append(holdout.sentence)
        is_promotable = is_promotable and holdout.passes is True
    else:
        found.append("no holdout was kept: nothing unseen speaks for it; set holdout_days in [folds]")
    provenance = {**_provenance(run, manifest, row), "statistical_gate": is_promotable, "findings": found}
    document = document_of(Chosen(config_hash=chosen.config_hash, config=chosen, provenance=provenance, risk=limits))
    write_whole(destination, (_HEADER + tomli_w.dumps(document)).encode())
    return destination


_HEADER = "# Written by `aster promote`; read by people, run by `aster-live`. Editing [config] breaks config_hash.\n\n"


def promoted_at(path: Path) -> dict[str, Any] | None:
    """What was promoted into a file before; None where there is none.

    Raises
    ------
    ValueError
        When it is somebody's other file, which promoting would replace.
    """
    if not path.exists():
        return None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        document = {}
    if not {"config", "config_hash"} <= document.keys():
        raise ValueError(f"{path} is there, and no promoted config: move it away, or give another --out")
    return document


def findings(run: RunFolder, lake: Lake, row: dict[str, Any]) -> list[str]:
    """What a person should know before running this config, worst first."""
    config, manifest, code = run.config, run.manifest, code_identity()
    found = []
    folds = run.frame("walk_forward_folds").filter(pl.col("symbol") == row["symbol"])
    net = folds["net_pnl_usdt"].sum() or 0.0
    if net <= 0.0:
        found.append(f"the selection procedure lost {formats.usdt(-net)} USDT out of sample over {folds.height} folds")
    if not math.isfinite(row["score"]):
        found.append("this config is not ranked: it, or too many of its neighbours, had too few trades in training")
    if row["out_of_sample_sharpe"] <= 0.0:
        found.append(f"this config's median out-of-sample Sharpe is {formats.ratio(row['out_of_sample_sharpe'])}")
    if row["out_of_sample_trades"] < 100:
        found.append(f"only {row['out_of_sample_trades']:.0f} out-of-sample trades")
    if folds["is_hold_beyond_embargo"].any():
        found.append("a pick held a position longer than the embargo allows for: raise embargo_bars")
    if manifest["identity"]["code_hash"] != code.code_hash:
        found.append("the code changed since the sweep")
    if manifest["identity"]["data"] != data_of(config, lake):
        found.append("the recorded data changed since the sweep")
    if code.is_dirty:
        found.append("the checkout has uncommitted changes")
    found.extend(manifest["substituted"][row["symbol"]])
    if config.portfolio is not None:
        found.append(
            f"the account's record was made within [portfolio]: {limits_in_words(config.portfolio)}; the runner knows "
            "nothing of it: give it a file of --risk whose [entries] has the same max_total_notional_usdt, and fewer "
            "symbols where positions at a time or a day's loss were limited"
        )
    judged = gate_of(run, row["symbol"])
    return [
        f"the selection procedure {judged['verdict']}",
        *found,
        *(
            f"{each.name}: {each.value}, where {each.limit} is asked for; {each.sentence}"
            for each in findings_of(run, row["symbol"])
            if each.passes is False and not each.decides
        ),
    ]


def _provenance(run: RunFolder, manifest: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    measured = [name for name in row if name.startswith(("in_sample_", "out_of_sample_"))]
    return {
        "run": run.path.name,
        "rank": row["rank"],
        "created": datetime.now(UTC).replace(microsecond=0),
        "code": manifest["code"],
        "data_start": run.config.start,
        "data_end": run.config.end,
        "data_files": len(manifest["identity"]["data"]),
        "configs_tried": manifest["configs"],
        # What is signed for has a canonical form, and NaN has none.
        "metrics": {name: row[name] for name in measured if row[name] is not None and math.isfinite(row[name])},
        "prediction": asdict(prediction_of(run.frame("walk_forward_trades").filter(pl.col("symbol") == row["symbol"]))),
    }
