"""What notebook 07 shows: finished sweeps beside each other, whatever data, strategy or symbol each of them had."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from IPython.display import HTML, Markdown

from data.schema import interval_ms
from pipelines.gate_job import findings_of, gate_of
from pipelines.notebook_views import NOTHING, named, show
from pipelines.report import Table
from pipelines.runs import FINISHED, RunFolder, default_runs, runs
from research import formats, metrics, plots
from research.evidence import period_of, record_pnl
from research.gate import passes
from research.plots.style import Figure
from research.sweep import bars_per_year

SHOWN_RUNS = 60  # as many as a figure draws, the newest
_BLOCK_PERIODS = 2  # of the bootstrap
_SIGNS = {True: "✓", False: "✕", None: "not measured"}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One symbol of a finished sweep. ``findings`` are those that decide, by name."""

    run: RunFolder
    symbol: str
    configs: int
    figures: dict[str, float]
    days: float
    sharpe_low: float
    sharpe_high: float
    passes: bool
    findings: dict[str, bool | None]

    @property
    def label(self) -> str:
        """Strategy, market and when it was swept."""
        config = self.run.config
        at = "" if config.prices == "aster" else f" at {config.prices}"
        return f"{config.strategy} {self.symbol}{at} {config.interval}, {self.run.path.name.split('-')[0]}"

    @property
    def verdict(self) -> str:
        """As ``plots.plot_intervals`` words it."""
        if None in self.findings.values():
            return "too little data"
        return "evidence" if self.passes else "no evidence"


def open_runs(folder: str, strategy: str, symbol: str) -> list[Compared]:
    """Every symbol of every finished run below a folder, newest first; of one strategy or symbol where named."""
    found = [
        _compared(run, own)
        for run in runs(named(folder, default_runs()))
        if run.manifest["state"] == FINISHED and strategy in ("", run.config.strategy)
        for own in run.config.symbols
        if symbol in ("", own)
    ]
    return found[::-1][:SHOWN_RUNS]


def _compared(run: RunFolder, symbol: str) -> Compared:
    config = run.config
    trades, equity = (run.frame(f"walk_forward_{name}").filter(symbol=symbol) for name in ("trades", "equity"))
    period = period_of(config.interval, equity.height)
    low, high = metrics.bootstrap_sharpe(record_pnl(equity, period), period.per_year, block=_BLOCK_PERIODS, draws=2_000)
    findings = [each for each in findings_of(run, symbol) if each.decides]
    return Compared(
        run=run,
        symbol=symbol,
        configs=run.manifest["configs"],
        figures=metrics.summary(
            trades, equity, capital_usdt=config.capital_usdt, bars_per_year=bars_per_year(config.interval)
        ),
        days=equity.height * interval_ms(config.interval) / 86_400_000,
        sharpe_low=low,
        sharpe_high=high,
        passes=passes(findings),
        findings={each.name: each.passes for each in findings},
    )


def side_by_side(compared: list[Compared]) -> HTML | Markdown:
    """What following each sweep's procedure earned on its test folds, after costs."""
    rows = tuple(
        (
            one.label,
            formats.count(one.configs),
            f"{one.days:.1f}",
            formats.count(one.figures["trades"]),
            formats.usdt(one.figures["net_pnl_usdt"], signed=True),
            formats.bps(one.figures["net_bps_per_trade"]),
            formats.ratio(one.figures["sharpe"]),
            formats.percent(one.figures["max_drawdown"]),
            one.verdict,
        )
        for one in compared
    )
    return show(
        Table(
            title="Sweeps, newest first, as they fared out of sample",
            columns=("sweep", "configs", "days", "trades", "net, USDT", "net, bps", "Sharpe", "drawdown", "gate"),
            align="lrrrrrrrl",
            rows=rows,
            note="After costs. Sweeps of the same days are tries on the same luck: the best of many looks better "
            "than it is.",
        )
    )


def sharpe_intervals(compared: list[Compared]) -> Figure | Markdown:
    """Each sweep's Sharpe out of sample with its 90 % bootstrap interval."""
    if not compared:
        return NOTHING
    results = pl.DataFrame(
        {
            "label": [one.label for one in compared],
            "value": [one.figures["sharpe"] for one in compared],
            "low": [one.sharpe_low for one in compared],
            "high": [one.sharpe_high for one in compared],
            "n": [int(one.figures["trades"]) for one in compared],
            "n_days": [int(np.ceil(one.days)) for one in compared],
            "verdict": [one.verdict for one in compared],
        }
    )
    return plots.plot_intervals(
        results,
        title="Sharpe of following each sweep's procedure",
        axis="Sharpe out of sample, annualised, after costs",
        limit=0.0,
        caption="Bars are 90 % intervals by bootstrap.",
    )


def what_decided(compared: list[Compared]) -> HTML | Markdown:
    """Which conditions of the statistical gate each sweep holds."""
    names = list(dict.fromkeys(name for one in compared for name in one.findings))
    rows = tuple((one.label, *(_SIGNS[one.findings.get(name)] for name in names)) for one in compared)
    return show(
        Table(
            title="What decides, per sweep",
            columns=("sweep", *names),
            align="l" * (1 + len(names)),
            rows=rows,
        )
    )


def runs_sentence(compared: list[Compared]) -> Markdown:
    """How many sweeps the gate lets through, and the verdict on the best of the others."""
    if not compared:
        return Markdown("**No sweep is finished here: run `aster sweep`.**")
    through = [one.label for one in compared if one.passes]
    if through:
        return Markdown(
            f"**{len(through)} of {len(compared)} sweeps pass the statistical gate: {'; '.join(through)}.**"
        )
    best = max(compared, key=lambda one: np.nan_to_num(one.figures["sharpe"], nan=-np.inf))
    verdict = gate_of(best.run, best.symbol)["verdict"]
    if len(compared) == 1:
        return Markdown(f"**The one sweep there is, {best.label}, {verdict}.**")
    return Markdown(
        f"**None of {len(compared)} sweeps passes the statistical gate. The best of them, {best.label}, {verdict}.**"
    )
