"""What bars hide of a record: its trades once more, tick by tick, where trades were recorded.

A bar does not tell in which order its prices came. Inside it the extreme is taken to come before the close, so a
trailing order whose callback is small against the bar is given the whole way to the extreme, where ticks would have
ended it earlier (``research.benchmarks.bench_fills`` measures by how much).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from research.bars import Bars
from research.engine import backtest_ticks, window_end_ms
from research.stage import Picks, with_pick
from research.sweep import Fold, SweepConfig
from research.ticks import NS_PER_MS, Ticks, read_ticks, resolution_difference
from research.trades import TRADES
from research.walk_forward import Record

if TYPE_CHECKING:
    from data.lake import Lake


@dataclass(frozen=True, kw_only=True)
class TickRecord:
    """A record at tick resolution beside the one at bar resolution.

    Attributes
    ----------
    net_pnl_usdt, trades : at ticks.
    difference : ``research.ticks.resolution_difference``.
    """

    net_pnl_usdt: float
    trades: int
    difference: dict[str, float]


def callback_ranges(record: Record, bars: Bars, folds: Sequence[Fold]) -> float | None:
    """Smallest callback of a record's trades over the median range of the bars they were held in; None without any."""
    callback_bps = record.trades["callback_bps"].drop_nans().drop_nulls().min()
    if callback_bps is None:
        return None
    traded = record.equity["fold"].unique().to_list()
    rows = pl.concat([bars.frame[fold.test_first : fold.test_last] for fold in folds if fold.number in traded])
    held = rows.filter(record.equity["position"] != 0)
    range_bps = (1e4 * (held["exec_high"] - held["exec_low"]) / held["exec_close"]).drop_nans().median()
    return callback_bps / range_bps if range_bps else math.inf


def record_at_ticks(
    config: SweepConfig, lake: "Lake", bars: Bars, picks: Picks, trades: pl.DataFrame
) -> TickRecord | None:
    """Trade the picks on their test rows tick by tick; None where too few of Aster's trades were recorded.

    Parameters
    ----------
    trades : the record's own, at bar resolution.
    """
    at_ticks = []
    if config.prices != "aster":
        return None
    for fold, params in with_pick(picks):
        rows = bars.frame[fold.test_first : fold.test_last]
        ticks = read_ticks(
            lake, bars.symbol, rows["open_time"][0], rows["close_time"][-1], interval=config.interval,
            substitutions=config.substitutions,
        )  # fmt: skip
        if _share_seen(rows, ticks) < config.min_coverage:
            return None
        is_test = pl.int_range(pl.len()).is_between(fold.test_first, fold.test_last, closed="left")
        only_test = replace(bars, frame=bars.frame.with_columns(pl.col("can_enter") & is_test))
        followed, end_ms = config.trading_config(bars.symbol, params), window_end_ms(bars)[fold.test_last - 1]
        at_ticks.append(backtest_ticks(followed, only_test, ticks, end_ms=int(end_ms)))
    if not at_ticks:
        return None
    done = pl.concat([pl.DataFrame(schema=TRADES), *at_ticks])
    return TickRecord(
        net_pnl_usdt=float(done["net_pnl_usdt"].sum()),
        trades=done.height,
        difference=resolution_difference(trades, done),
    )


def _share_seen(rows: pl.DataFrame, ticks: Ticks) -> float:
    """Of the bars with volume those in which there is a tick."""
    traded = rows.filter(pl.col("volume") > 0.0)
    edges = [traded[name].dt.epoch("ms").to_numpy() * NS_PER_MS for name in ("open_time", "close_time")]
    first, last = (np.searchsorted(ticks.trade_ns, edge) for edge in edges)
    return float(np.mean(last > first)) if traded.height else 0.0
