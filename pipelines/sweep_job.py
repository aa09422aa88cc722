"""``aster sweep``: grid, walk-forward and VectorBT's confirmation over recorded data, in a run folder that resumes."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data.config import config_hash, load
from data.lake import Lake
from live.identity import code_identity
from pipelines.executors import LOCAL, KeptBlocks, executor
from pipelines.gate_job import judge_run
from pipelines.identity import data_identity
from pipelines.runs import FINISHED, RUNNING, RunFolder, start_run
from pipelines.search_job import find_configs, with_is_found
from pipelines.trials import count_trials
from research.bars import Bars, build_bars
from research.cluster_bars import with_clusters_asked_for
from research.completeness import require_inputs
from research.engine import backtest, feature_names
from research.features import cluster_columns_of
from research.portfolio_record import joint_record
from research.strategies.registry import strategy
from research.sweep import Evaluator, Fold, SweepConfig, blocks_of, folds_of, results_table, search_rows
from research.sweep_config import FoundSweep
from research.walk_forward import Record, walk_forward

Progress = Callable[[str, int, int], None]

# What the analysis of a sweep reads of a block, in as few bytes as hold it: a million configs on six folds take under
# 2 GB. The blocks themselves hold it all.
_COUNTS = ("trades", "longest_hold_bars", "liquidations", "ambiguous_bars", "missed_entries")
EVALUATED = {
    "symbol": None,
    "fold": pl.UInt16,
    "part": None,
    "config": pl.UInt32,
    **dict.fromkeys(("sharpe", "net_pnl_usdt", "max_drawdown_usdt"), pl.Float64),
    **dict.fromkeys(_COUNTS, pl.UInt32),
}


def bars_for(config: SweepConfig, lake: Lake, symbol: str) -> Bars:
    """Bars of one symbol over the sweep's range, with the liquidation map's columns where they are needed."""
    bars = build_bars(
        lake,
        symbol,
        config.start,
        config.end,
        interval=config.interval,
        latency_ms=config.costs.latency_ms,
        substitutions=config.substitutions,
        prices=config.prices,
    )
    return with_clusters_asked_for(bars, lake, _feature_names(config), venue=config.prices)


def data_of(config: SweepConfig, lake: Lake) -> dict[str, str]:
    """What ``bars_for`` reads, for all symbols: sha256 per file of the lake."""
    with_map = bool(cluster_columns_of(_feature_names(config)))
    return data_identity(lake, config.start, config.end, with_map=with_map)


def _feature_names(config: SweepConfig) -> Sequence[str]:
    return feature_names(strategy(config.strategy), config.window_settings, config.orders)


def run_sweep(
    config_path: Path,
    lake: Lake,
    runs_folder: Path,
    progress: Progress,
    *,
    executor_name: str = LOCAL,
    ray_address: str | None = None,
) -> RunFolder:
    """Run or resume the sweep of a TOML file.

    Finished blocks of an interrupted run with the same config, code and data are kept, wherever they were evaluated.
    ``progress`` is told (what, done, total). Where: see ``pipelines.executors.executor``.

    Raises
    ------
    ValueError
        On a config that cannot be run, saying what to change.
    JudgeDisagrees
        When VectorBT's accounting of a top config differs from the kernel's.
    """
    config = load(SweepConfig, config_path, config_path.name)
    bars = {}
    for done, symbol in enumerate(config.symbols):
        progress("bars", done, len(config.symbols))
        bars[symbol] = bars_for(config, lake, symbol)
        require_inputs(config.strategy, _feature_names(config), bars[symbol])
    progress("bars", len(bars), len(bars))

    code = code_identity()
    identity: dict[str, Any] = {
        "config_hash": config_hash(config),
        "code_hash": code.code_hash,
        "lock_hash": code.lock_hash,
        "data": data_of(config, lake),
    }
    evaluators = {symbol: Evaluator(config, bars[symbol]) for symbol in config.symbols}
    folds = {symbol: folds_of(config, bars[symbol].frame.height) for symbol in config.symbols}

    run, is_resumed = start_run(runs_folder, config.name, identity)
    if not is_resumed:
        shutil.copyfile(config_path, run.path / "config.toml")
    manifest = {
        "state": RUNNING,
        "name": config.name,
        "identity": identity,
        "code": asdict(code),
        "configs": None if config.search.method == "optuna" else config.n_configs,
        "rows": {symbol: frame.frame.height for symbol, frame in bars.items()},
        "substituted": {symbol: list(frame.substituted) for symbol, frame in bars.items()},
        "range": [config.start, config.end],
    }
    run.write_json("manifest.json", manifest)

    with executor(executor_name, ray_address) as evaluate:
        began = time.perf_counter()
        kept = KeptBlocks(run, partial(evaluate, config, evaluators, bars))
        if config.search.method == "optuna":
            config, came_to = find_configs(config, folds, kept.frames, partial(progress, "search"))
        blocks = [block for symbol in config.symbols for block in blocks_of(config, symbol, folds[symbol])]
        table = pl.concat(kept.frames(blocks, EVALUATED, partial(progress, "configs")))
        seconds = time.perf_counter() - began
    manifest["configs"] = config.n_configs
    if isinstance(config, FoundSweep):
        table = with_is_found(table, came_to)
    run.write_frame("evaluated", table)
    del table  # a column at a time is read from its file: a million configs take hundreds of MB
    evaluated = run.scan("evaluated")
    results = results_table(config, evaluated)
    # Before anybody can read the results: a sweep that ends here was looked at all the same.
    trials = {
        symbol: count_trials(lake, config, bars[symbol], results.filter(pl.col("symbol") == symbol), run.path.name)
        for symbol in config.symbols
    }
    run.write_frame("results", results)
    records = _write_walk_forward(run, config, bars, folds, evaluated, progress)
    if len(config.symbols) > 1:
        _write_portfolio(run, config, bars, folds, records)
    _confirm_top(run, config, bars, results, progress)
    judge_run(run, config, lake, bars, folds, evaluators, results, records, trials, progress)
    run.write_json(
        "manifest.json",
        {**manifest, "state": FINISHED, "evaluation": {"seconds": round(seconds, 3), "config_bars": kept.config_bars}},
    )
    return run


def _write_walk_forward(
    run: RunFolder,
    config: SweepConfig,
    bars: dict[str, Bars],
    folds: dict[str, list[Fold]],
    evaluated: pl.LazyFrame,
    progress: Progress,
) -> dict[str, Record]:
    """The record of the procedure per symbol; its frames are written stacked."""
    records = {}
    parts: dict[str, list[pl.DataFrame]] = {"folds": [], "trades": [], "equity": []}
    for done, symbol in enumerate(config.symbols):
        progress("walk-forward", done, len(config.symbols))
        records[symbol] = walk_forward(config, bars[symbol], folds[symbol], evaluated)
        for name, frames in parts.items():
            symbol_column = pl.lit(symbol).alias("symbol")
            frames.append(getattr(records[symbol], name).with_columns(symbol_column))
    for name, frames in parts.items():
        run.write_frame(f"walk_forward_{name}", pl.concat(frames))
    progress("walk-forward", len(config.symbols), len(config.symbols))
    return records


def _write_portfolio(
    run: RunFolder,
    config: SweepConfig,
    bars: dict[str, Bars],
    folds: dict[str, list[Fold]],
    records: dict[str, Record],
) -> None:
    """What the symbols' records come to on one account."""
    joint = joint_record(config, bars, folds[config.symbols[0]], records)
    for name in ("folds", "trades", "equity"):
        run.write_frame(f"portfolio_{name}", getattr(joint, name))


def _confirm_top(run: RunFolder, config: SweepConfig, bars, results: pl.DataFrame, progress: Progress) -> None:
    """Run the best configs up to the holdout, have VectorBT account for their orders, keep trades and equity."""
    from research.backtest import confirm_accounting  # VectorBT takes seconds to import: only when it is needed

    confirmations = []
    best = results.filter(pl.col("rank") <= config.top)
    for done, row in enumerate(best.iter_rows(named=True)):
        progress("VectorBT", done, best.height)
        chosen = config.trading_config(row["symbol"], config.params_of(row))
        own = bars[row["symbol"]]
        last = search_rows(config, own.frame.height)
        result = backtest(chosen, own, 0, last, min_coverage=config.min_coverage)
        confirmation = confirm_accounting(result.run, result.market, result.terms, 0, last)
        stem = f"top/{row['symbol']}-rank{row['rank']:02d}"
        run.write_frame(f"{stem}-trades", result.trades)
        run.write_frame(f"{stem}-equity", result.equity)
        confirmations.append({"symbol": row["symbol"], "rank": row["rank"], **asdict(confirmation)})
    run.write_json("confirmation.json", confirmations)
    progress("VectorBT", best.height, best.height)
