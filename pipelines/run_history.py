"""Past sweeps side by side: what was asked, of which data and code, what it earned, what was promoted from it."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data.config import config_hash
from data.schema import TIME_MS
from pipelines.identity import CHECKOUT
from pipelines.runs import FINISHED, RunFolder, open_run, runs
from research import metrics
from research.sweep import bars_per_year

CONFIGS = CHECKOUT / "live" / "configs"
SHOWN_HASH = 12  # characters

HISTORY = pl.Schema(
    {
        "run": pl.String,
        "created": TIME_MS,  # null where the folder was named by hand
        "state": pl.String,
        "name": pl.String,
        "strategy": pl.String,
        "symbols": pl.String,  # comma-separated
        "interval": pl.String,
        "start": TIME_MS,
        "end": TIME_MS,
        "search": pl.String,  # how the configs were chosen: grid, random, sobol, optuna
        "configs": pl.Int64,  # null until an optimiser is done
        "folds": pl.Int64,  # of all symbols; this and what follows: null until the run is finished
        "positive_folds": pl.Int64,
        "oos_trades": pl.Int64,  # out of sample: what following the selection procedure traded on test folds
        "oos_net_pnl_usdt": pl.Float64,
        "oos_sharpe": pl.Float64,  # annualised, of all symbols together
        "oos_max_drawdown_usdt": pl.Float64,  # <= 0
        "promoted": pl.String,  # files of live/configs that came from it, with symbol and rank
        "findings": pl.Int64,  # written into them
        "code_hash": pl.String,
        "commit": pl.String,
        "is_dirty": pl.Boolean,
        "data_hash": pl.String,  # of the hashes of all files it read
    }
)

# What fits on a terminal; the rest is in the JSON and in the comparison of two.
SHOWN = (
    "run", "strategy", "symbols", "start", "end", "configs", "oos_trades", "oos_net_pnl_usdt", "oos_sharpe", "promoted",
    "code_hash",
)  # fmt: skip


def history(folder: Path, configs: Path = CONFIGS) -> pl.DataFrame:
    """A row per run, oldest first; columns of ``HISTORY``.

    Parameters
    ----------
    folder : of run folders.
    configs : where promoted files lie.
    """
    promoted = list(_promotions(configs))
    return pl.DataFrame([_row(run, promoted) for run in runs(folder)], schema=HISTORY, orient="row")


def same_data(run: RunFolder, configs: Path = CONFIGS) -> pl.DataFrame:
    """As ``history``, of the finished runs beside one that looked at the same days of the same files, it included."""
    seen = (run.manifest["range"], run.manifest["identity"]["data"])
    alike = [
        other
        for other in runs(run.path.parent)
        if other.manifest["state"] == FINISHED and (other.manifest["range"], other.manifest["identity"]["data"]) == seen
    ]
    promoted = list(_promotions(configs))
    return pl.DataFrame([_row(other, promoted) for other in alike], schema=HISTORY, orient="row")


def comparison(folder: Path, one: str, other: str, configs: Path = CONFIGS) -> pl.DataFrame:
    """Two runs side by side: everything of their history, and what their configs have different.

    Parameters
    ----------
    one, other : path, folder name or ``latest``.

    Returns
    -------
    Frame of text: what, one, other and whether they are the same; first the history, then the config by its keys.
    """
    promoted = list(_promotions(configs))
    told = [_row(run, promoted) for run in (open_run(folder, one), open_run(folder, other))]
    settings = [dict(flat(asdict(open_run(folder, name).config))) for name in (one, other)]
    keys = [key for key in {**settings[0], **settings[1]} if settings[0].get(key) != settings[1].get(key)]
    pairs = [(name, told[0][name], told[1][name]) for name in HISTORY]
    pairs += [(f"config: {key}", settings[0].get(key), settings[1].get(key)) for key in keys]
    return pl.DataFrame(
        [(what, _text(left), _text(right), left == right) for what, left, right in pairs],
        schema={"what": pl.String, "one": pl.String, "other": pl.String, "is_same": pl.Boolean},
        orient="row",
    )


def _row(run: RunFolder, promoted: list[dict[str, Any]]) -> dict[str, Any]:
    manifest, config = run.manifest, run.config
    came = [document for document in promoted if document["run"] == run.path.name]
    row = dict.fromkeys(HISTORY) | {
        "run": run.path.name,
        "created": _created(run),
        "state": manifest["state"],
        "name": config.name,
        "strategy": config.strategy,
        "symbols": ", ".join(config.symbols),
        "interval": config.interval,
        "start": config.start,
        "end": config.end,
        "search": config.search.method,
        "configs": manifest["configs"],
        "promoted": ", ".join(f"{each['file']} ({each['symbol']}, rank {each['rank']})" for each in came) or None,
        "findings": sum(len(each["findings"]) for each in came) if came else None,
        "code_hash": manifest["identity"]["code_hash"][:SHOWN_HASH],
        "commit": (manifest["code"]["commit"] or "")[:SHOWN_HASH] or None,
        "is_dirty": manifest["code"]["is_dirty"],
        "data_hash": config_hash(manifest["identity"]["data"])[:SHOWN_HASH],
    }
    return row | _record(run) if manifest["state"] == FINISHED else row


def _record(run: RunFolder) -> dict[str, Any]:
    """What following the procedure did out of sample, all symbols together on one account."""
    folds = run.frame("walk_forward_folds")
    account = "portfolio" if len(run.config.symbols) > 1 else "walk_forward"
    told = run.frame(f"{account}_folds")
    pnl = np.diff(run.frame(f"{account}_equity")["equity_usdt"].to_numpy(), prepend=0.0)
    return {
        "folds": folds.height,
        "positive_folds": int((folds["net_pnl_usdt"] > 0.0).sum()),
        "oos_trades": int(told["trades"].sum()),
        "oos_net_pnl_usdt": told["net_pnl_usdt"].sum(),
        "oos_sharpe": metrics.sharpe(pnl, bars_per_year(run.config.interval)),
        "oos_max_drawdown_usdt": float(metrics.drawdown(pnl.cumsum()).min(initial=0.0)),
    }


def _promotions(configs: Path) -> Iterator[dict[str, Any]]:
    """Where each promoted file came from."""
    for path in sorted(configs.glob("*.toml")):
        document = tomllib.loads(path.read_text())
        if "provenance" in document:
            came = document["provenance"]
            yield {"file": path.name, "symbol": document["config"]["symbol"], **came}


def _created(run: RunFolder) -> datetime | None:
    """When the run began, from the name its folder got."""
    stamp = run.path.name.split("-")[0]
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting under the path of its keys."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.6g}" if isinstance(value, float) else None if value is None else str(value)
