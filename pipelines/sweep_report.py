"""The report of a sweep: what the procedure earned out of sample, whether neighbours agree, what was promoted."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from data.lake import Lake
from data.schema import interval_ms
from pipelines.gate_job import ROBUST, findings_of, gate_of
from pipelines.gate_section import gate_section
from pipelines.market_report import covered_days, gaps_section, liquidations_section, market_section
from pipelines.paper_report import PaperRun, paper_gate, paper_section
from pipelines.portfolio_section import portfolio_section
from pipelines.report import Gate, Section, Table, Verdict, gate_headline, write_report
from pipelines.runs import RunFolder
from pipelines.sweep_job import bars_for
from research import formats, metrics, plots
from research.bars import Bars
from research.engine import TradingConfig, assumptions
from research.evidence import Period, record_pnl
from research.sweep import NOT_RANKED, RANKED_BY, SweepConfig, bars_per_year, ranked
from research.walk_forward import BOOTSTRAP_BLOCK_HOURS

SYNTHETIC = "synthetic, with a planted edge: what it earns says nothing about Aster"
MIN_TRADES = 100
MIN_COMPLETE = 0.999

OWN_LIQUIDATION = "liquidation of the own position, whose brackets are not known"
NOT_MODELLED = (
    "queue position",
    "partial fills",
    "depth beyond the touch",
    "own market impact",
    "one liquidation per symbol and second in the feed",
)


def write_sweep_report(
    run: RunFolder, lake: Lake, paper: PaperRun | None = None, path: Path | None = None, *, market: str | None = None
) -> Path:
    """Write ``report.html`` of a run and return its path.

    Parameters
    ----------
    paper : the promoted config's paper run, where there was one.
    market : what a reader must know of the market, such as ``SYNTHETIC``; found out when rows say so themselves.
    """
    config, symbol = run.config, run.config.symbols[0]
    bars = bars_for(config, lake, symbol)
    folds = run.frame("walk_forward_folds").filter(pl.col("symbol") == symbol).drop("symbol")
    span = {"start": config.start, "end": config.end, "venue": config.prices}
    covered = covered_days(lake, config.symbols, **span)
    forced = lake.scan("force_orders", symbols=list(config.symbols), **span)
    record = metrics.summary(
        run.frame("walk_forward_trades").filter(pl.col("symbol") == symbol),
        run.frame("walk_forward_equity").filter(pl.col("symbol") == symbol),
        capital_usdt=config.capital_usdt,
        bars_per_year=bars_per_year(config.interval),
    )
    sections = [
        market_section(bars, covered),
        liquidations_section(bars, forced),
        gaps_section(lake, covered, config.symbols, **span),
        _parameters(run, config, symbol),
        _walk_forward(run, bars, config, symbol, folds),
        gate_section(findings_of(run, symbol), gate_of(run, symbol)),
    ]
    if len(config.symbols) > 1:
        sections.append(portfolio_section(run))
    if paper is not None:
        sections.append(paper_section(paper))
    gates = _gates(run, folds, record, paper, bars)
    stand_in = "" if config.prices == "aster" else f" at prices of {config.prices}"
    verdict = Verdict(
        headline=gate_headline(gates),
        sentence=(
            f"{config.strategy} on {symbol} {config.interval}{stand_in}: following the procedure {_earned(record)}"
        ),
        key_numbers=(
            ("Sharpe, out of sample, 90 % interval", _sharpe_in_words(run, config, symbol, record["sharpe"])),
            (f"worst drawdown, of {formats.usdt(config.capital_usdt)} USDT", formats.percent(record["max_drawdown"])),
            ("trades", formats.count(record["trades"])),
            ("folds positive", f"{int((folds['net_pnl_usdt'] > 0).sum())} of {folds.height}"),
        ),
        gates=gates,
        figure=plots.plot_walk_forward(folds),
    )
    manifest = run.manifest
    klines = lake.scan("klines", symbols=[symbol], columns=["source"], **span)
    if (klines["source"] == "synthetic").any():
        market = SYNTHETIC
    commit = manifest["code"]["commit"]
    facts = [
        *([("market", market)] if market else []),
        ("range", f"{formats.moment(config.start)} to {formats.moment(config.end)}"),
        ("configs tried", _tried(run, symbol)),
        ("holdout", f"the last {config.folds.holdout_days:g} days" if config.folds.holdout_days else "none was kept"),
        ("commit", f"{commit[:12]}{' with uncommitted changes' if manifest['code']['is_dirty'] else ' clean'}"
         if commit else "not under version control"),
        ("lock", manifest["code"]["lock_hash"][:12]),
        ("robustness", "robust.html in the run's folder" if (run.path / ROBUST).exists()
         else "not looked at yet: aster robust"),
        *(("assumed", sentence) for sentence in assumptions(_any_config(run, symbol), bars)
          if not sentence.startswith("not modelled")),
    ]  # fmt: skip
    return write_report(
        path or run.path / "report.html",
        title=f"{config.name}: {config.strategy} on {symbol}",
        verdict=verdict,
        sections=sections,
        facts=facts,
        not_modelled=NOT_MODELLED + (() if bars.instrument.get("brackets") else (OWN_LIQUIDATION,)),
    )


def _earned(record: Mapping[str, float]) -> str:
    if not record["trades"]:
        return "traded nothing out of sample."
    return (
        f"earned {formats.bps(record['net_bps_per_trade'], signed=True)} bps per trade out of sample after costs, "
        f"{formats.usdt(record['net_pnl_usdt'], signed=True)} USDT in all."
    )


def _sharpe_in_words(run: RunFolder, config: SweepConfig, symbol: str, sharpe: float) -> str:
    """A record's Sharpe and between what it lies, by the bootstrap that its folds have, too."""
    equity = run.frame("walk_forward_equity").filter(pl.col("symbol") == symbol)
    bars_per_hour = max(1, 3_600_000 // interval_ms(config.interval))
    hours = Period(name="hour", bars=bars_per_hour, per_year=bars_per_year(config.interval) / bars_per_hour)
    pnl = record_pnl(equity, hours)
    low, high = metrics.bootstrap_sharpe(pnl, hours.per_year, block=BOOTSTRAP_BLOCK_HOURS)
    interval = "" if math.isnan(low) else f" [{formats.number(low, 1)}, {formats.number(high, 1)}]"
    return formats.ratio(sharpe) + interval


def _tried(run: RunFolder, symbol: str) -> str:
    ever = gate_of(run, symbol)["trials"]["total"]
    return f"{formats.count(run.manifest['configs'])}, {formats.count(ever)} ever on these days"


def _any_config(run: RunFolder, symbol: str) -> TradingConfig:
    return run.config.trading_config(symbol, run.config.examples()[0])


def _gates(
    run: RunFolder, folds: pl.DataFrame, record: Mapping[str, float], paper: PaperRun | None, bars: Bars
) -> tuple[Gate, ...]:
    confirmed = json.loads((run.path / "confirmation.json").read_text())
    positive = int((folds["net_pnl_usdt"] > 0).sum())
    complete = 1.0 - float(bars.frame["is_gap"].mean())
    gates = [
        Gate(
            name="net PnL out of sample, USDT",
            value=formats.usdt(record["net_pnl_usdt"], signed=True),
            limit="> 0",
            passes=record["net_pnl_usdt"] > 0.0,
        ),
        Gate(
            name="folds positive",
            value=f"{positive} of {folds.height}",
            limit="> half",
            passes=positive * 2 > folds.height,
        ),
        Gate(
            name="trades out of sample",
            value=formats.count(record["trades"]),
            limit=f"≥ {MIN_TRADES}",
            passes=record["trades"] >= MIN_TRADES,
        ),
        Gate(
            name="bars seen",
            value=formats.percent(complete, decimals=2),
            limit=f"≥ {formats.percent(MIN_COMPLETE)}",
            passes=complete >= MIN_COMPLETE,
        ),
        Gate(
            name="VectorBT accounts alike",
            value=f"{len(confirmed)} of {len(confirmed)} configs",
            limit="all",
            passes=True,  # a disagreement stops the sweep before there is a report
        ),
    ]
    if paper is not None:
        gates.append(paper_gate(paper))
    gates += [
        Gate(name=finding.name, value=finding.value, limit=finding.limit, passes=finding.passes)
        for finding in findings_of(run, bars.symbol)
        if finding.decides
    ]
    return tuple(gates)


LABELS = {
    "momentum_multiple": "entry threshold (multiples of realised volatility)",
    "volatility_window_bars": "volatility window (bars)",
    "volume_multiple": "volume threshold (multiples of mean volume)",
    "volume_window_bars": "volume window (bars)",
}


def heatmap_axes(config: SweepConfig, favoured: tuple[str, str] = ("momentum_multiple", "volatility_window_bars")):
    """The two swept parameters to draw against each other: the favoured pair, else those with most values.

    None where there are no two, or no grid.
    """
    if not config.is_grid:  # points, of which no two share a column
        return None
    swept = sorted(config.swept, key=lambda n: -len(config.grid[n]))
    if set(favoured) <= set(swept):
        swept = list(favoured)
    if len(swept) < 2:
        return None
    return tuple(plots.Axis(column=name, label=LABELS.get(name, name.replace("_", " "))) for name in swept[:2])


def parameter_figure(run: RunFolder, symbol: str):
    """The grid around the best config of the train folds; None when no two parameters were swept as a grid."""
    config = run.config
    axes = heatmap_axes(config)
    if axes is None:
        return None
    results = run.frame("results").filter(pl.col("symbol") == symbol)
    best = results.row(0, named=True)
    x, y = axes
    held = [name for name in config.swept if name not in (x.column, y.column)]
    plane = results.filter(*(pl.col(name) == best[name] for name in held)).select(
        x.column,
        y.column,
        oos_sharpe="out_of_sample_sharpe",
        is_sharpe="in_sample_sharpe",
        trades="out_of_sample_trades",
    )
    folds = run.frame("walk_forward_folds").filter(pl.col("symbol") == symbol).height
    return plots.plot_parameters(
        plane,
        x=x,
        y=y,
        title=f"{config.strategy} · {symbol}: Sharpe by {x.column.replace('_', ' ')} and {y.column.replace('_', ' ')}",
        chosen=(best[x.column], best[y.column]) if np.isfinite(best["score"]) else None,
        folds=folds,
        min_trades=config.min_trades,
        configs_tried=gate_of(run, symbol)["trials"]["total"],
        limit=colour_limit(run.frame("results")["out_of_sample_sharpe"]),
    )


def colour_limit(sharpe: pl.Series) -> float:
    """Sharpe at which the colours of a run's grids end: the 90th percentile of its size, rounded up to 1, 2 or 5."""
    size = sharpe.drop_nulls().drop_nans().abs().quantile(0.9) or 1.5
    power = 10.0 ** np.floor(np.log10(max(size, 0.1)))
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= size))


def _parameters(run: RunFolder, config: SweepConfig, symbol: str) -> Section:
    swept = config.swept
    best = ranked(run.frame("results").filter((pl.col("symbol") == symbol) & (pl.col("rank") <= 10)))
    rows = tuple(
        (
            formats.count(row["rank"]),
            *(formats.setting(row[name]) for name in swept),
            formats.ratio(row["out_of_sample_sharpe"]),
            formats.usdt(row["out_of_sample_net_pnl_usdt"], signed=True),
            formats.count(row["out_of_sample_trades"]),
            formats.count(row["out_of_sample_liquidations"]),
        )
        for row in best.iter_rows(named=True)
    )
    figure = parameter_figure(run, symbol)
    measured = ("Sharpe, median fold", "net, USDT", "trades", "liquidated")
    return Section(
        title="Do neighbouring parameters agree?",
        intro=f"Ranked by {RANKED_BY[config.selection]} on the train folds; test folds never rank.",
        figures=() if figure is None else (figure,),
        tables=(
            Table(
                title="Best ten by train folds, as they fared out of sample",
                columns=("rank", *(name.replace("_", " ") for name in swept), *measured),
                align="r" * (1 + len(swept) + len(measured)),
                rows=rows,
                note="" if rows else NOT_RANKED,
            ),
        ),
    )


def equity_for_plot(equity: pl.DataFrame, *, is_oos: bool) -> pl.DataFrame:
    """An equity frame with the columns that ``plots.plot_equity`` draws."""
    return equity.with_columns(
        pl.Series("drawdown_usdt", metrics.drawdown(equity["equity_usdt"].to_numpy())),
        pl.lit(is_oos).alias("is_oos"),
    )


_NET = "net, bps per trade"


def _walk_forward(run: RunFolder, bars: Bars, config: SweepConfig, symbol: str, folds: pl.DataFrame) -> Section:
    equity = run.frame("walk_forward_equity").filter(pl.col("symbol") == symbol)
    trades = run.frame("walk_forward_trades").filter(pl.col("symbol") == symbol)
    figures = []
    if not equity.is_empty():
        title = f"{symbol}: what following the procedure earned on the test folds, USDT after costs"
        figures.append(plots.plot_equity(equity_for_plot(equity, is_oos=True), title=title))
    if not trades.is_empty():
        figures.append(_busiest_day(bars, trades, symbol))
    rows = tuple(
        (
            formats.count(row["fold"]),
            f"{row['test_start']:%d %b %H:%M} – {row['test_end']:%d %b %H:%M}",
            row["params"],
            formats.ratio(row["in_sample_sharpe"]),
            formats.ratio(row["oos_sharpe"]),
            formats.count(row["trades"]),
            formats.bps(row["net_bps"]),
        )
        for row in folds.iter_rows(named=True)
    )
    return Section(
        title="What following the procedure would have traded",
        intro="Each fold's config was picked on its train rows alone; only the test rows are shown"
        + ("." if trades.is_empty() else ", trade by trade the UTC day with most trades."),
        figures=tuple(figures),
        tables=(
            Table(
                title="Folds",
                columns=("fold", "test rows, UTC", "picked", "Sharpe in sample", "Sharpe out", "trades", _NET),
                align="rllrrrr",
                rows=rows,
            ),
        ),
    )


def _busiest_day(bars: Bars, trades: pl.DataFrame, symbol: str):
    """Trades on the UTC day that had most of them, so that each can be read."""
    day = trades["entry_time"].dt.date().mode().sort()[0]
    frame = bars.frame.filter(pl.col("open_time").dt.date() == day)
    return plots.plot_trades(
        frame,
        trades.drop("symbol").with_columns(pl.lit(symbol).alias("symbol")),
        symbol=symbol,
        tick_size=float(bars.instrument["tick_size"]),
    )
