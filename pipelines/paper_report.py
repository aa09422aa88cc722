"""Report section on a paper run: what it traded, and whether its replay and the backtest of its recording agree."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipelines.report import Gate, Section, Table
from pipelines.trade_table import largest_trades
from research import formats, plots
from research.bars import Bars
from research.engine import TradingConfig
from research.fills import REASONS


@dataclass(frozen=True, kw_only=True)
class PaperRun:
    """What the runner traded on paper, beside everything that should say the same. Frames of ``research.trades``.

    Parameters
    ----------
    trades : from the runner's journal, at tick resolution.
    ticks, at_bars : backtests on the lake sealed from that log, at tick and at bar resolution.
    difference : ``research.ticks.resolution_difference`` of the two backtests.
    bars : built from that lake.
    chain_head : hash of the last event in the runner's journal.
    is_same_chain : whether a replay of that log wrote the runner's journal again, hash for hash.
    """

    config: TradingConfig
    trades: pl.DataFrame
    ticks: pl.DataFrame
    at_bars: pl.DataFrame
    difference: Mapping[str, float]
    bars: Bars
    is_same_chain: bool
    chain_head: str

    @property
    def agrees(self) -> bool:
        """Paper, its replay and the backtest gave the same trades, every column of them."""
        return self.is_same_chain and self.trades.equals(self.ticks)


def paper_gate(paper: PaperRun) -> Gate:
    """Trade for trade, or not; a run without trades proves nothing."""
    same = paper.trades.join(paper.ticks, on=paper.trades.columns, how="semi", nulls_equal=True).height
    return Gate(
        name="paper = replay = backtest, by ticks",
        value=f"{formats.count(same)} of {formats.count(max(paper.trades.height, paper.ticks.height))} trades",
        limit="all equal",
        passes=paper.agrees if paper.trades.height + paper.ticks.height else None,
    )


def paper_sentence(paper: PaperRun) -> str:
    """The verdict on the paper run in words."""
    net = formats.usdt(paper.trades["net_pnl_usdt"].sum(), signed=True)
    traded = f"{formats.count(paper.trades.height)} trades, net {net} USDT after fees and funding"
    if paper.agrees:
        return (
            f"{traded}; the replay of the runner's log and the backtest at tick resolution give the same trades, to "
            "the last digit."
        )
    if not paper.is_same_chain:
        return f"{traded}, but the replay of the runner's log wrote another journal."
    return f"{traded}, but the backtest of its recording differs: {_first_difference(paper.trades, paper.ticks)}."


def resolution_sentence(paper: PaperRun) -> str:
    """What bar resolution made of the same market."""
    other, net = (formats.count(paper.at_bars.height), formats.usdt(paper.at_bars["net_pnl_usdt"].sum(), signed=True))
    each = formats.bps(paper.difference["Mean net difference per trade [bps]"])
    return f"At bar resolution {other} trades, net {net} USDT; ticks differ by {each} bps per trade."


def paper_section(paper: PaperRun) -> Section:
    """Trades on candles, the accounts of them side by side, and what bar resolution hides."""
    figures = ()
    if not paper.trades.is_empty():
        tick = float(paper.bars.instrument["tick_size"])
        figures = (plots.plot_trades(paper.bars.frame, paper.trades, symbol=paper.bars.symbol, tick_size=tick),)
    return Section(
        title="Paper trading, against its replay and the backtest",
        intro=f"{paper_sentence(paper)} {resolution_sentence(paper)}",
        figures=figures,
        tables=(
            _accounts(paper),
            resolution_table(paper.difference),
            largest_trades(paper.trades, paper.bars.instrument, "paper"),
        ),
    )


def _accounts(paper: PaperRun) -> Table:
    accounts = (paper.trades, paper.ticks, paper.at_bars)
    closed = [trades.filter(pl.col("reason") != "open") for trades in accounts]
    rows = [
        ("trades", *(formats.count(trades.height) for trades in accounts)),
        ("still open at the end", *(formats.count((trades["reason"] == "open").sum()) for trades in accounts)),
        *(
            (f"left by {reason}", *(formats.count((trades["reason"] == reason).sum()) for trades in closed))
            for reason in REASONS[1:]
        ),
        *(
            (label, *(formats.usdt(trades[column].sum(), signed=is_signed) for trades in accounts))
            for label, column, is_signed in (
                ("gross, USDT", "gross_pnl_usdt", True),
                ("fees, USDT", "fees_usdt", False),
                ("funding paid, USDT", "funding_usdt", True),
                ("net, USDT", "net_pnl_usdt", True),
            )
        ),
    ]
    return Table(
        title="The same market, three accounts of it",
        columns=("", "paper", "backtest, ticks", "backtest, bars"),
        align="lrrr",
        rows=tuple(rows),
    )


def resolution_table(difference: Mapping[str, float | None]) -> Table:
    """``research.ticks.resolution_difference`` in words."""
    written = {"n": formats.count, "bps": formats.bps, "USDT": lambda value: formats.usdt(value, signed=True)}
    rows = tuple((label, written[label.split("[")[1].rstrip("]")](value)) for label, value in difference.items())
    return Table(
        title="What bar resolution hides",
        columns=("figure", "value"),
        align="lr",
        rows=rows,
        note="Differences are tick less bar. Inside a bar nobody knows which of two orders was touched first.",
    )


def _first_difference(ours: pl.DataFrame, other: pl.DataFrame) -> str:
    """Where two trade lists part, in words."""
    for place, (a, b) in enumerate(zip(ours.iter_rows(named=True), other.iter_rows(named=True), strict=False), start=1):
        for name in ours.columns:
            if a[name] != b[name] and not (a[name] != a[name] and b[name] != b[name]):
                return f"trade {place} ({a['trade_id']}) has {name} {a[name]}, the backtest {b[name]}"
    return f"{formats.count(ours.height)} trades here, {formats.count(other.height)} there"
