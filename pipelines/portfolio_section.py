"""Report section on several symbols on one account: each alone, and all of them within the shared limits."""

import polars as pl

from pipelines.report import Section, Table
from pipelines.runs import RunFolder
from research import formats, metrics, plots
from research.portfolio_record import limits_in_words
from research.sweep import bars_per_year

ALONE, TOGETHER = "walk_forward", "portfolio"


def portfolio_rows(run: RunFolder) -> list[dict[str, object]]:
    """A row per symbol and one for all on one account: symbol, trades, refused_entries (None for a symbol alone),
    net_pnl_usdt, sharpe, max_drawdown_usdt and most_notional_usdt."""
    trades, equity = (run.frame(f"{ALONE}_{name}") for name in ("trades", "equity"))
    rows = [
        _row(run, symbol, trades.filter(symbol=symbol), equity.filter(symbol=symbol)) for symbol in run.config.symbols
    ]
    together = _row(run, TOGETHER, *(run.frame(f"{TOGETHER}_{name}") for name in ("trades", "equity")))
    folds = run.frame(f"{TOGETHER}_folds")
    return [*rows, together | {"refused_entries": int(folds["refused_entries"].sum())}]


def _row(run: RunFolder, name: str, trades: pl.DataFrame, equity: pl.DataFrame) -> dict[str, object]:
    capital_usdt = run.config.capital_usdt
    figures = metrics.summary(
        trades, equity, capital_usdt=capital_usdt, bars_per_year=bars_per_year(run.config.interval)
    )
    return {
        "symbol": name,
        "trades": int(figures["trades"]),
        "refused_entries": None,
        "net_pnl_usdt": figures["net_pnl_usdt"],
        "sharpe": figures["sharpe"],
        "max_drawdown_usdt": figures["max_drawdown"] * capital_usdt,
        "most_notional_usdt": equity["exposure_usdt"].abs().max(),
    }


def portfolio_section(run: RunFolder) -> Section:
    """All symbols of a run that swept several."""
    rows = tuple(
        (
            "all on one account" if row["symbol"] == TOGETHER else row["symbol"],
            formats.count(row["trades"]),
            formats.count(row["refused_entries"]),
            formats.usdt(row["net_pnl_usdt"], signed=True),
            formats.ratio(row["sharpe"]),
            formats.usdt(row["max_drawdown_usdt"]),
            formats.usdt(row["most_notional_usdt"]),
        )
        for row in portfolio_rows(run)
    )
    equity = run.frame(f"{TOGETHER}_equity").with_columns(is_oos=True)
    equity = equity.with_columns(pl.Series("drawdown_usdt", metrics.drawdown(equity["equity_usdt"].to_numpy())))
    title = "All symbols on one account: what following the procedure earned on the test folds, USDT after costs"
    return Section(
        title="What do the symbols come to together?",
        intro=f"Out of sample, each symbol by its own picks; together within: {limits_in_words(run.config.portfolio)}.",
        figures=() if equity.is_empty() else (plots.plot_equity(equity, title=title),),
        tables=(
            Table(
                title="Each symbol alone, and all of them on one account",
                columns=(
                    "symbol",
                    "trades",
                    "entries refused",
                    "net, USDT",
                    "Sharpe",
                    "drawdown, USDT",
                    "most notional, USDT",
                ),
                align="lrrrrrr",
                rows=rows,
                note="An entry is refused where it would break a shared limit. A notional counts as it was ordered; "
                "entries of one moment are sent in the order of the config's symbols. The search knows of no shared "
                "limit, and the gate judges every symbol by itself.",
            ),
        ),
    )
