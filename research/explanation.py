"""Why a runner earned something else than the backtest: worlds that differ in one input each, from one to the other.

The first world is the backtest on the reference recording. Each next one takes one more thing as it was live: what was
heard, when it was known, and then the parts of ``research.counterfactual`` in their order. The last world is what
happened. Every world's account of every trade is rounded once, to a millionth of a USDT, and a cause is the difference
of two worlds: so the causes of a trade add up to its difference, exactly, and nothing can be left over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from data.schema import TIME_MS, interval_ms
from research.bars import BARS, Bars, signal_bars, substitutions_in_effect
from research.counterfactual import Account, Life, Part, Rerun
from research.engine import TradingConfig
from research.execution_bars import EXECUTION
from research.recorded import Recorded
from research.ticks import ticks_of

PER_USDT = 1_000_000  # accounts are whole millionths


class Cause(StrEnum):
    """What a difference is put down to, in the order in which the worlds change."""

    DATA = "data"  # bars, trades, quotes or marks that were not heard, heard otherwise, or had to be asked for
    LATENCY = "latency"  # what was heard became known later, orders arrived later
    SIGNAL = "signal"  # another decision on the same inputs, or one that the runner's gates kept back
    MISSED_FILL = "missed fill"  # an entry filled here and not there, only in part, or, of one that rested, later
    PRICE = "price"  # fills at another price at the same moment
    ROUNDING = "rounding"  # another quantity or other levels of the exit orders
    OPERATOR = "operator"  # entries paused, positions closed by hand or by the runner's guards
    EXIT_PATH = "exit path"  # an exit by another order or at another moment
    FEE = "fee"
    FUNDING = "funding"


CAUSE_OF = {
    Part.DECISION: Cause.SIGNAL,
    Part.PAUSE: Cause.OPERATOR,
    Part.FILL: Cause.MISSED_FILL,
    Part.ENTRY_PRICE: Cause.PRICE,
    Part.SIZE: Cause.ROUNDING,
    Part.HAND: Cause.OPERATOR,
    Part.EXIT: Cause.EXIT_PATH,
    Part.EXIT_PRICE: Cause.PRICE,
    Part.FEES: Cause.FEE,
    Part.FUNDING: Cause.FUNDING,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One config on one symbol, what it did, and what it could know.

    Attributes
    ----------
    instrument : the filters it traded by, by name of ``data.schema.INSTRUMENTS``.
    first_ms, end_ms : open_time of its first row, history included; when it ended.
    heard : recorded by the runner itself.
    reference : recorded beside it; None where the runner's own recording is all there is.
    life : what it did, by row.
    arrivals : by row, when an entry order that takes was filled, ms.
    """

    config: TradingConfig
    instrument: Mapping[str, Any]
    first_ms: int
    end_ms: int
    heard: Recorded
    reference: Recorded | None
    life: Life
    arrivals: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One trade of either side.

    Attributes
    ----------
    backtest, live : None where that side did not make the trade.
    causes : millionths of a USDT that each cause made the runner earn more; those that are zero left out.
    """

    trade_id: str
    backtest: Account | None
    live: Account | None
    causes: Mapping[Cause, int]

    @property
    def difference(self) -> int:
        """Live less backtest, millionths of a USDT: the sum of the causes."""
        return sum(self.causes.values())


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Every trade of the run and of the backtest, in order of entry."""

    trades: tuple[Explained, ...]

    @property
    def causes(self) -> dict[Cause, int]:
        """Millionths of a USDT per cause, over all trades."""
        return {cause: sum(trade.causes.get(cause, 0) for trade in self.trades) for cause in Cause}

    @property
    def backtest(self) -> int:
        """What the backtest earned after fees and funding, millionths of a USDT."""
        return sum(millionths(trade.backtest) for trade in self.trades)

    @property
    def live(self) -> int:
        """What the runner earned, millionths of a USDT."""
        return sum(millionths(trade.live) for trade in self.trades)


def open_times(config: TradingConfig, first_ms: int, end_ms: int) -> np.ndarray:
    """Open_time of every row of a run, int64, ms."""
    return np.arange(first_ms, end_ms, interval_ms(config.interval))


def explain(case: Case) -> Explanation:
    """Put every difference between what a run earned and what its backtest earns down to a cause.

    Raises
    ------
    ValueError
        When nothing was recorded, or the life is not one of these rows.
    """
    worlds = [rerun(case, case.reference or case.heard, {}).trades()]
    causes = []
    if case.reference is not None:
        worlds.append(rerun(case, known_when_expected(case.heard, case.reference), {}).trades())
        causes.append(Cause.DATA)
    own = rerun(case, case.heard, case.arrivals)
    worlds += [own.trades(), *(own.trades(part) for part in Part)]
    return _explanation(worlds, [*causes, Cause.LATENCY, *CAUSE_OF.values()])


def known_when_expected(heard: Recorded, reference: Recorded) -> Recorded:
    """What was heard, each row known when the reference knew it.

    A bar that had to be asked for keeps its time: that it did not come by itself is no matter of latency.
    """
    return replace(
        heard,
        klines=_timed(heard.klines, reference.klines, ["open_time"], keeps=pl.col("source") != "ws"),
        trades=_timed(heard.trades, reference.trades, ["agg_trade_id"]),
        quotes=_timed(heard.quotes, reference.quotes, ["event_time", "bid_price", "bid_quantity", "ask_price",
                                                       "ask_quantity"]),
        marks=_timed(heard.marks, reference.marks, ["event_time"]),
    )  # fmt: skip


def millionths(account: Account | None) -> int:
    """The net of an account in whole millionths of a USDT; 0 for a trade that was not made.

    Raises
    ------
    ValueError
        When it is not a number: an unknown amount cannot be explained.
    """
    if account is None:
        return 0
    if not np.isfinite(account.net_usdt):
        raise ValueError(
            f"trade {account.trade_id} has gross {account.gross_usdt}, fees {account.fees_usdt}, funding "
            f"{account.funding_usdt} USDT: expected numbers; a price or rate was not recorded"
        )
    return round(account.net_usdt * PER_USDT)


def _timed(rows: pl.DataFrame, by: pl.DataFrame, key: list[str], keeps: pl.Expr | None = None) -> pl.DataFrame:
    """Rows with the ``recv_time`` that the same row has in ``by``; those that it lacks keep their own."""
    nth = pl.int_range(pl.len()).over(key).alias("nth")  # the same row may come twice
    other = by.with_columns(nth).select(*key, "nth", expected="recv_time", is_known=pl.lit(value=True))
    is_timed = pl.col("is_known").fill_null(value=False)
    if keeps is not None:
        is_timed = is_timed & ~keeps
    joined = rows.with_columns(nth).join(other, on=[*key, "nth"], how="left", nulls_equal=True, maintain_order="left")
    return joined.with_columns(
        recv_time=pl.when(is_timed).then("expected").otherwise("recv_time")
    ).select(rows.columns)  # fmt: skip


def rerun(case: Case, recorded: Recorded, arrivals: Mapping[int, int]) -> Rerun:
    """The case on what was recorded, its entries arriving when the model says or, by row, at ``arrivals``."""
    config, open_ms = case.config, open_times(case.config, case.first_ms, case.end_ms)
    acting = substitutions_in_effect(config.substitutions, recorded, config.symbol, case.instrument)
    ticks = ticks_of(recorded, interval=config.interval, substitutions=acting)
    if not len(ticks.trade_ns):
        raise ValueError(f"no trades of {config.symbol} were recorded over this run: nothing to trade on at tick level")
    signal = signal_bars(
        recorded,
        open_ms,
        interval=config.interval,
        tick_size=float(case.instrument["tick_size"]),
        substitutions=acting,
    )
    exec_ms = signal["avail_time"].dt.epoch("ms").to_numpy() + config.costs.latency_ms
    for row, filled_ms in arrivals.items():
        exec_ms[row] = filled_ms
    execution = pl.DataFrame({"exec_time": np.maximum.accumulate(exec_ms)}).with_columns(
        pl.col("exec_time").cast(TIME_MS),
        *(pl.lit(np.nan).alias(name) for name in EXECUTION if name != "exec_time"),
    )
    frame = signal.hstack(execution).select(list(BARS))
    bars = Bars(symbol=config.symbol, interval=config.interval, frame=frame, instrument=case.instrument)
    return Rerun(config, bars, ticks, case.end_ms, case.life)


def _explanation(worlds: Sequence[Sequence[Account]], causes: Sequence[Cause]) -> Explanation:
    """Differences of neighbouring worlds, trade by trade; a cause for each step."""
    tables = [{account.trade_id: account for account in accounts} for accounts in worlds]
    rows = {account.trade_id: account.row for accounts in worlds for account in accounts}
    explained = []
    for trade_id in sorted(rows, key=lambda trade_id: (rows[trade_id], trade_id)):
        amounts = [millionths(table.get(trade_id)) for table in tables]
        put_down = dict.fromkeys(causes, 0)
        for cause, (before, after) in zip(causes, pairwise(amounts), strict=True):
            put_down[cause] += after - before
        explained.append(
            Explained(
                trade_id=trade_id,
                backtest=tables[0].get(trade_id),
                live=tables[-1].get(trade_id),
                causes={cause: amount for cause, amount in put_down.items() if amount},
            )
        )
    return Explanation(trades=tuple(one for one in explained if one.backtest or one.live or one.causes))
