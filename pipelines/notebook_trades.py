"""Notebook 05, what did it trade: a promoted config over a range, and the runner's journal beside it."""

from dataclasses import dataclass
from datetime import date

import polars as pl
from IPython.display import HTML, Markdown

from data.config import parse_utc
from data.lake import Lake, default_lake
from live.config import Chosen, load_chosen
from live.journal_trades import trades as journal_trades
from live.replay import bars_of
from pipelines import trade_table
from pipelines.identity import CHECKOUT
from pipelines.notebook_views import NOTHING, earned, named, progress, show, words
from pipelines.promote import CHOSEN
from pipelines.report import Table
from pipelines.sweep_report import equity_for_plot
from research import formats, plots
from research.bars import Bars
from research.engine import Result, backtest
from research.plots.style import Figure


@dataclass(frozen=True, kw_only=True)
class Traded:
    """A promoted config over a range.

    Attributes
    ----------
    result : its backtest.
    journal : what the runner wrote down of the same config, ``research.trades.TRADES``; None without a journal.
    """

    chosen: Chosen
    bars: Bars
    result: Result
    journal: pl.DataFrame | None

    @property
    def trades(self) -> pl.DataFrame:
        """The runner's trades where there is a journal, else the backtest's."""
        return self.result.trades if self.journal is None else self.journal

    @property
    def source(self) -> str:
        """Where ``trades`` come from."""
        return "backtest" if self.journal is None else "journal"


def follow(chosen: str, journal: str, lake: str, start: str, end: str) -> Traded:
    """Backtest a promoted config over a range of the lake, and read its journal where one is named."""
    tell = progress()
    promoted = load_chosen(named(chosen, CHOSEN))
    config = promoted.config
    opened = Lake(named(lake, default_lake()))
    tell("bars", 0, 3)
    bars = bars_of(config, opened, parse_utc(start) if start else None, parse_utc(end) if end else None)
    tell("backtest", 1, 3)
    result = backtest(config, bars, min_coverage=0.0)  # a runner trades through holes too
    tell("journal", 2, 3)
    written = journal_trades(CHECKOUT / journal, config.config_hash, config.symbol) if journal else None
    tell("steps done", 3, 3)
    return Traded(chosen=promoted, bars=bars, result=result, journal=written)


def about_config(traded: Traded) -> HTML | Markdown:
    """What was promoted, from where, and what was known against it."""
    config, origin = traded.chosen.config, traded.chosen.provenance
    rows = (
        ("config", config.config_hash[:12]),
        ("strategy", f"{config.strategy} on {config.symbol}, {config.interval} bars"),
        ("parameters", ", ".join(f"{words(name)} {value:g}" for name, value in config.params.items())),
        ("notional", f"{formats.usdt(config.orders.notional_usdt)} USDT a trade"),
        ("range", f"{formats.moment(traded.bars.frame['open_time'][0])} to "
                  f"{formats.moment(traded.bars.frame['close_time'][-1])}"),
        ("promoted from", f"{origin.get('run', formats.UNKNOWN)}, rank {origin.get('rank', formats.UNKNOWN)}"),
        *(("known against it", sentence) for sentence in origin.get("findings", [])),
        *(("assumed", sentence) for sentence in traded.result.assumptions),
    )  # fmt: skip
    return show(Table(title="The promoted config", columns=("what", "value"), align="ll", rows=rows))


def largest_trades(traded: Traded) -> HTML | Markdown:
    """The trades that made most of the result, in order of entry."""
    return show(trade_table.largest_trades(traded.trades, traded.bars.instrument, traded.source))


def trades_of_day(traded: Traded, day: str) -> Figure | Markdown:
    """The trades of one UTC day on its candles; of the day that had most of them when none is named."""
    if traded.trades.is_empty():
        return NOTHING
    wanted = date.fromisoformat(day) if day else traded.trades["entry_time"].dt.date().mode().sort()[0]
    frame = traded.bars.frame.filter(pl.col("open_time").dt.date() == wanted)
    tick = float(traded.bars.instrument["tick_size"])
    return plots.plot_trades(frame, traded.trades, symbol=traded.bars.symbol, tick_size=tick)


def whole_equity(traded: Traded) -> Figure:
    """Equity of the backtest; solid from where the data end on which the config was chosen."""
    chosen_until = traded.chosen.provenance.get("data_end")
    frame = equity_for_plot(traded.result.equity, is_oos=False)
    if chosen_until is not None:
        frame = frame.with_columns(is_oos=traded.bars.frame["open_time"] >= chosen_until)
    return plots.plot_equity(frame, title=f"{traded.bars.symbol}: equity of the promoted config, backtest")


def costs(traded: Traded) -> HTML | Markdown:
    """Where the money went, by side."""
    rows = []
    for name, side in (("▲ long", [1]), ("▼ short", [-1]), ("all", [1, -1])):
        own = traded.trades.filter(pl.col("side").is_in(side))
        notional = (own["quantity"] * own["entry_price"]).sum()
        rows.append(
            (
                name,
                formats.count(own.height),
                formats.usdt(own["gross_pnl_usdt"].sum(), signed=True),
                formats.usdt(own["fees_usdt"].sum()),
                formats.usdt(own["funding_usdt"].sum(), signed=True),
                formats.usdt(own["net_pnl_usdt"].sum(), signed=True),
                formats.bps(own["net_pnl_usdt"].sum() / notional * 1e4 if notional else None),
            )
        )
    return show(
        Table(
            title=f"Gross, fees and funding ({traded.source})",
            columns=(
                "side",
                "trades",
                "gross, USDT",
                "fees, USDT",
                "funding paid, USDT",
                "net, USDT",
                "net per trade, bps",
            ),
            align="lrrrrrr",
            rows=tuple(rows),
        )
    )


def agreement(traded: Traded) -> HTML | Markdown:
    """The journal's trades beside the backtest's, column by column."""
    if traded.journal is None:
        return Markdown("No journal was named: everything here is the backtest.")
    expected, written = traded.result.trades, traded.journal
    same = expected.join(written, on=expected.columns, how="semi", nulls_equal=True)
    parts = (
        ("equal in every column", same, same),
        (
            "the same trade, other numbers",
            expected.join(written, on="trade_id", how="semi").join(same, on="trade_id", how="anti"),
            written.join(expected, on="trade_id", how="semi").join(same, on="trade_id", how="anti"),
        ),
        ("only in the backtest", expected.join(written, on="trade_id", how="anti"), written.clear()),
        ("only in the journal", expected.clear(), written.join(expected, on="trade_id", how="anti")),
    )
    rows = tuple(
        (
            what,
            formats.count(max(ours.height, theirs.height)),
            formats.usdt(ours["net_pnl_usdt"].sum(), signed=True),
            formats.usdt(theirs["net_pnl_usdt"].sum(), signed=True),
        )
        for what, ours, theirs in parts
    )
    return show(
        Table(
            title="Does the journal say what the backtest says?",
            columns=("trades", "number", "net in backtest, USDT", "net in journal, USDT"),
            align="lrrr",
            rows=rows,
            note="Both must cover the same range: set start and end to those of the replay.",
        )
    )


def trades_sentence(traded: Traded) -> Markdown:
    """What was traded, what it earned and whether the runner agrees."""
    config, trades, frame = traded.chosen.config, traded.trades, traded.bars.frame
    chosen_until, unseen, agrees = traded.chosen.provenance.get("data_end"), "", ""
    if chosen_until is not None:
        after = trades.filter(pl.col("entry_time") >= chosen_until).height
        unseen = f", {formats.count(after) if after else 'none'} of them after the data it was chosen on,"
    if traded.journal is not None:
        is_equal = traded.journal.equals(traded.result.trades)
        agrees = ", and the journal " + (
            "equals the backtest trade by trade" if is_equal else "differs from the backtest"
        )
    return Markdown(
        f"**Config {config.config_hash[:12]} ({config.strategy} on {config.symbol}) made "
        f"{formats.count(trades.height)} trades from {frame['open_time'][0]:%d %b %Y} to "
        f"{frame['close_time'][-1]:%d %b %Y}{unseen} and {earned(trades['net_pnl_usdt'].sum())} after "
        f"{formats.usdt(trades['fees_usdt'].sum())} USDT of fees and "
        f"{formats.usdt(trades['funding_usdt'].sum(), signed=True)} USDT of funding{agrees}.**"
    )
