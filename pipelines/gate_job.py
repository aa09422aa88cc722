"""The statistical gate of a sweep: judged when the sweep is done, kept in its folder, read by report and promotion."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import polars as pl

from data.lake import Lake
from pipelines.runs import RunFolder
from pipelines.trials import opened, searches_before
from research.bars import Bars
from research.capacity import capacity
from research.engine import TradingConfig, backtest
from research.evidence import Trials, gather, period_of, picks_of, record_pnl
from research.gate import Finding, holdout_finding, judge, passes, verdict
from research.stage import period_sums
from research.sweep import Evaluator, Fold, SweepConfig, search_rows
from research.tick_record import record_at_ticks
from research.walk_forward import Record

GATE, HOLDOUT, ROBUST = "gate.json", "holdout.json", "robust.json"


def judge_run(
    run: RunFolder,
    config: SweepConfig,
    lake: Lake,
    bars: Mapping[str, Bars],
    folds: Mapping[str, list[Fold]],
    evaluators: Mapping[str, Evaluator],
    results: pl.DataFrame,
    records: Mapping[str, Record],
    trials: Mapping[str, Trials],
    progress: Callable[[str, int, int], None],
) -> None:
    """Judge every symbol's record, and write ``gate.json``.

    ``config`` is the run's, over what was found where an optimiser looked for it; ``trials`` what the lake's ledger
    says of each symbol's days.

    Per symbol: passes, verdict (a sentence), findings, and beside them the record at ticks, costs and capacity.
    """
    judged = {}
    for symbol, record in records.items():
        own = results.filter(pl.col("symbol") == symbol)
        picks = picks_of(config, folds[symbol], record)
        at_ticks = record_at_ticks(config, lake, bars[symbol], picks, record.trades)
        evidence = gather(
            config, bars[symbol], folds[symbol], evaluators[symbol], own, record, trials[symbol], at_ticks=at_ticks,
            progress=lambda done, total: progress("placebos", done, total),
        )  # fmt: skip
        findings = judge(evidence)
        judged[symbol] = {
            "passes": passes(findings),
            "verdict": verdict(findings),
            "findings": [asdict(finding) for finding in findings],
            "trials": asdict(trials[symbol]),
            "ticks": None if at_ticks is None else asdict(at_ticks),
            "costs": evidence.at_costs,
            "capacity": capacity(record.trades, bars[symbol]),
        }
    run.write_json(GATE, judged)


def gate_of(run: RunFolder, symbol: str) -> dict[str, Any]:
    """What ``judge_run`` wrote of a symbol.

    Raises
    ------
    LookupError
        When the run was made by code that did not judge it yet.
    """
    path = run.path / GATE
    if not path.exists():
        raise LookupError(f"{run.path.name} was not judged: it has no {GATE}; run `aster sweep` with its config again")
    return json.loads(path.read_text())[symbol]


def findings_of(run: RunFolder, symbol: str) -> list[Finding]:
    """The findings on a symbol; what its holdout and ``aster robust`` said where they have been asked."""
    found = [Finding(**each) for each in gate_of(run, symbol)["findings"]]
    if told := _written(run, HOLDOUT).get(symbol):
        found.append(Finding(**told))
    if told := _written(run, ROBUST).get("symbols", {}).get(symbol):
        found.append(Finding(**told["finding"]))
    return found


def _written(run: RunFolder, name: str) -> dict[str, Any]:
    """A JSON file of the run; empty where nobody wrote it yet."""
    path = run.path / name
    return json.loads(path.read_text()) if path.exists() else {}


def open_holdout(run: RunFolder, lake: Lake, chosen: TradingConfig, bars: Bars) -> Finding | None:
    """Run a config on the days that its search has not seen, and write down that it was done; None where none were
    kept."""
    config: SweepConfig = run.config
    first, n_rows = search_rows(config, bars.frame.height), bars.frame.height
    if first == n_rows:
        return None
    equity = run.frame("walk_forward_equity").filter(pl.col("symbol") == chosen.symbol)
    period = period_of(config.interval, equity.height)
    result = backtest(chosen, bars, first, n_rows, min_coverage=config.min_coverage)
    net = float(result.run.bar_pnl.sum())
    days = {
        "symbol": chosen.symbol,
        "start": bars.frame["open_time"][first],
        "end": bars.frame["close_time"][-1],
    }
    opening, since = opened(
        lake,
        **days,
        config=chosen.config_hash,
        run=run.path.name,
        net_pnl_usdt=net,
        trades=int(result.stats["trades"]),
    )
    n_periods = len(period_sums(result.run.bar_pnl, period.bars))
    searches = searches_before(lake, since, **days)
    finding = holdout_finding(record_pnl(equity, period).tolist(), net, n_periods, opening, searches)
    run.write_json(HOLDOUT, {**_written(run, HOLDOUT), chosen.symbol: asdict(finding)})
    return finding
