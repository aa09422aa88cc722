"""Notebook 04, which parameters survive: one symbol of a finished sweep."""

import re
from dataclasses import asdict, dataclass

import polars as pl
from IPython.display import HTML, Markdown

from data.lake import Lake, default_lake
from live.config import load_chosen
from pipelines.candidate import differences, row_of
from pipelines.identity import CHECKOUT
from pipelines.notebook_views import NOTHING, earned, finished_job, named, show, words
from pipelines.promote import CHOSEN, findings
from pipelines.report import Table
from pipelines.run_history import same_data
from pipelines.runs import RunFolder, default_runs, open_run
from pipelines.sweep_report import equity_for_plot
from research import formats, metrics, plots
from research.plots.style import Figure
from research.sweep import NOT_RANKED, RANKED_BY, bars_per_year
from research.sweep import ranked as ranked_rows

SHOWN_CONFIGS = 10


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One symbol of a finished run. ``folds``, ``trades`` and ``equity`` are those of the walk-forward."""

    run: RunFolder
    lake: Lake
    symbol: str
    results: pl.DataFrame
    folds: pl.DataFrame
    trades: pl.DataFrame
    equity: pl.DataFrame

    @property
    def swept(self) -> tuple[str, ...]:
        """Parameters of which more than one value was tried."""
        return self.run.config.swept


def open_sweep(run: str, lake: str, symbol: str) -> Sweep:
    """One symbol of a run: of its folder, its name, or ``latest``; the first symbol when none is named.

    A sweep's TOML file is its run, too: of the job that has swept it, or sweeps it from now on.
    """
    folder = open_run(default_runs(), _swept(run, lake) if run.endswith(".toml") else run)
    symbols = folder.config.symbols
    symbol = symbol or symbols[0]
    if symbol not in symbols:
        raise LookupError(f"{folder.path.name} swept {', '.join(symbols)}, not {symbol}")
    own = {
        name: folder.frame(f"{prefix}{name}").filter(pl.col("symbol") == symbol)
        for prefix, name in (("", "results"), *(("walk_forward_", one) for one in ("folds", "trades", "equity")))
    }
    return Sweep(run=folder, lake=Lake(named(lake, default_lake())), symbol=symbol, **own)


def _swept(config: str, lake: str) -> str:
    """The run folder that ``aster sweep`` of a file says it made."""
    place = ("--lake", str(CHECKOUT / lake)) if lake else ()
    job = finished_job("sweep", str(CHECKOUT / config), *place)
    return re.search(r"^run: (.+)$", job.printed, flags=re.MULTILINE)[1]


def about_sweep(sweep: Sweep) -> HTML | Markdown:
    """What was swept, over what, at which costs."""
    config, manifest = sweep.run.config, sweep.run.manifest
    folds, costs = config.folds, config.costs
    rows = (
        ("run", sweep.run.path.name),
        ("strategy", f"{config.strategy} on {sweep.symbol}, {config.interval} bars"),
        ("range", f"{formats.moment(config.start)} to {formats.moment(config.end)}"),
        ("configs", f"{formats.count(manifest['configs'])}, over {', '.join(words(name) for name in sweep.swept)}"),
        (
            "folds",
            f"{sweep.folds.height}: train {folds.train_days:g} d, pause {folds.embargo_bars} bars, "
            f"test {folds.test_days:g} d",
        ),
        (
            "costs",
            f"taker fee {costs.taker_fee_bps:g} bps, slippage {costs.slippage_bps:g} bps, "
            f"latency {costs.latency_ms} ms",
        ),
        *(("assumed", sentence) for sentence in manifest["substituted"][sweep.symbol]),
    )
    return show(Table(title="The sweep", columns=("what", "value"), align="ll", rows=rows))


def ranked(sweep: Sweep) -> HTML | Markdown:
    """The best configs of the train folds, and how they fared on the test folds."""
    best = ranked_rows(sweep.results.head(SHOWN_CONFIGS))
    was_liquidated = best["out_of_sample_liquidations"].fill_null(0).sum() > 0  # seldom: no column for nothing
    rows = tuple(
        (
            formats.count(row["rank"]),
            *(formats.setting(row[name]) for name in sweep.swept),
            formats.ratio(row["in_sample_sharpe"]),
            formats.ratio(row["out_of_sample_sharpe"]),
            formats.usdt(row["out_of_sample_net_pnl_usdt"], signed=True),
            formats.usdt(row["out_of_sample_max_drawdown_usdt"]),
            formats.count(row["out_of_sample_trades"]),
            *((formats.count(row["out_of_sample_liquidations"]),) if was_liquidated else ()),
        )
        for row in best.iter_rows(named=True)
    )
    if not rows:
        return Markdown(NOT_RANKED)
    measured = ("Sharpe in sample", "Sharpe out", "net out, USDT", "drawdown out, USDT", "trades out")
    measured += ("liquidated out",) if was_liquidated else ()
    return show(
        Table(
            title=f"Best {len(rows)} of {formats.count(sweep.results.height)} configs by their train folds",
            columns=("rank", *(words(name) for name in sweep.swept), *measured),
            align="r" * (1 + len(sweep.swept) + len(measured)),
            rows=rows,
            note=f"Ranked by {RANKED_BY[sweep.run.config.selection]} on the train folds; test folds (out) never rank. "
            "Of the folds, Sharpe is the median, drawdown the deepest, the rest the sum."
            + ("" if was_liquidated else " None of these was liquidated."),
        )
    )


def out_of_sample_equity(sweep: Sweep) -> Figure | Markdown:
    """What following the procedure earned on the test folds, one after the other."""
    if sweep.equity.is_empty():
        return NOTHING
    return plots.plot_equity(
        equity_for_plot(sweep.equity, is_oos=True),
        title=f"{sweep.symbol}: what following the procedure earned on the test folds",
    )


def beside_others(sweep: Sweep) -> HTML | Markdown:
    """All sweeps of the same data, newest first, by what following their procedure earned on the test folds."""
    rows = tuple(
        (
            f"{row['run']} (this one)" if row["run"] == sweep.run.path.name else row["run"],
            row["strategy"],
            row["symbols"],
            row["search"],
            formats.count(row["configs"]),
            f"{row['positive_folds']} of {row['folds']}",
            formats.count(row["oos_trades"]),
            formats.usdt(row["oos_net_pnl_usdt"], signed=True),
            formats.ratio(row["oos_sharpe"]),
            formats.usdt(row["oos_max_drawdown_usdt"]),
        )
        for row in same_data(sweep.run).reverse().iter_rows(named=True)
    )
    measured = ("folds positive", "trades out", "net out, USDT", "Sharpe out", "drawdown out, USDT")
    return show(
        Table(
            title=f"Sweeps of the same data ({len(rows)})",
            columns=("run", "strategy", "symbols", "search", "configs", *measured),
            align="llllrlrrrr",
            rows=rows,
            note="Each is one more try on the same days: the best of many looks better than it is.",
        )
    )


def beside_promoted(sweep: Sweep, chosen: str) -> HTML | Markdown:
    """What would change if rank 1 were promoted, and how both fared on these test folds.

    Parameters
    ----------
    chosen : the promoted file; "" is ``live/configs/chosen.toml``.
    """
    path = named(chosen, CHOSEN)
    if not path.exists():
        return Markdown("Nothing is promoted yet: there is no config to compare rank 1 with.")
    promoted, config = load_chosen(path).config, sweep.run.config
    best, tried = sweep.results.row(0, named=True), row_of(sweep.run, promoted)
    candidate = config.trading_config(sweep.symbol, config.params_of(best))
    settings = differences(asdict(promoted), asdict(candidate))
    if not settings:
        return Markdown("Rank 1 is the config that is promoted already.")
    measured = (
        ("Sharpe out", "out_of_sample_sharpe", formats.ratio),
        ("net out, USDT", "out_of_sample_net_pnl_usdt", lambda usdt: formats.usdt(usdt, signed=True)),
        ("trades out", "out_of_sample_trades", formats.count),
    )
    fared = [(what, formats.UNKNOWN if tried is None else text(tried[name]), text(best[name]))
             for what, name, text in measured]  # fmt: skip
    return show(
        Table(
            title="Rank 1 beside the promoted config",
            columns=("what", "promoted", "rank 1"),
            align="lrr",
            rows=(*((words(name), was, would_be) for name, was, would_be in settings), *fared),
            note=""
            if tried
            else "This sweep did not try the promoted config: how it fared on these folds is not known.",
        )
    )


def reservations(sweep: Sweep) -> Markdown:
    """What speaks against running the config of rank 1."""
    found = findings(sweep.run, sweep.lake, sweep.results.row(0, named=True))
    return Markdown("Before anyone runs rank 1:\n\n" + "\n".join(f"- {sentence}" for sentence in found))


def sweep_sentence(sweep: Sweep) -> Markdown:
    """Which parameters survived, and what following the procedure earned."""
    config, folds = sweep.run.config, sweep.folds
    picked = sweep.results.filter(pl.col("config").is_in(folds["config"].drop_nulls().to_list()))
    if picked.is_empty():
        return Markdown(f"**None: no config of {sweep.symbol} had {config.min_trades} trades on a train fold.**")
    chosen = {name: picked[name].unique().sort().to_list() for name in sweep.swept}
    kept = [f"{words(name)} {formats.setting(values[0])}" for name, values in chosen.items() if len(values) == 1]
    changed = [words(name) for name, values in chosen.items() if len(values) > 1]
    figures = metrics.summary(
        sweep.trades, sweep.equity, capital_usdt=config.capital_usdt, bars_per_year=bars_per_year(config.interval)
    )
    survivors = f"{_listed(kept)} survived every fold" if kept else "no parameter kept its value over the folds"
    others = f", while {_listed(changed)} changed" if kept and changed else ""
    positive = int((folds["net_pnl_usdt"] > 0.0).sum())
    return Markdown(
        f"**On {sweep.symbol} {survivors}{others}; following the procedure "
        f"{earned(figures['net_pnl_usdt'])} after costs in {formats.count(figures['trades'])} trades out of sample, "
        f"with {positive} of {folds.height} folds positive and a Sharpe of {formats.ratio(figures['sharpe'])}.**"
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
