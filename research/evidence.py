"""What speaks for and against a finished search: every number that the statistical gate looks at, from its record."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from data.schema import interval_ms
from research.bars import Bars
from research.capacity import at_cost_multiples
from research.completeness import starved
from research.engine import backtest, feature_names
from research.gate import MIN_PERIODS, Evidence
from research.overfitting import BLOCKS, moments, overfitting, superior_ability
from research.placebos import Placebo, placebos
from research.stage import Picks, period_sums, with_pick
from research.strategies.registry import strategy
from research.sweep import Block, Evaluator, Fold, SweepConfig, neighbourhood, search_rows
from research.tick_record import TickRecord, callback_ranges
from research.walk_forward import Record

MAX_JUDGED_CONFIGS = 65_536  # of which the PnL per period is kept: a matrix of 90 days is 47 MB then
BLOCK_PERIODS = 3  # of the bootstrap: a pick's trades of neighbouring days share its luck

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Period:
    """What PnL is summed over before anything is tested: a UTC day, a quarter of one where the record is short."""

    name: str
    bars: int
    per_year: float


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What the ledger knows of these days.

    Parameters
    ----------
    earlier : configs that other searches evaluated on them before this one.
    total : all of them, this search's included.
    variance : of their annualised Sharpes in sample.
    """

    earlier: int
    total: int
    variance: float


def period_of(interval: str, n_rows: int) -> Period:
    """The period for a record of that many rows."""
    day = 86_400_000 // interval_ms(interval)
    if n_rows >= MIN_PERIODS * day or day < 4:
        return Period(name="day", bars=day, per_year=365.0)
    return Period(name="quarter day", bars=day // 4, per_year=4 * 365.0)


def picks_of(config: SweepConfig, folds: list[Fold], record: Record) -> Picks:
    """The folds of a record with the parameters that were picked on each."""
    numbers = record.folds["config"].to_list()
    return [
        (fold, None if number is None else config.params(number)) for fold, number in zip(folds, numbers, strict=True)
    ]


def record_pnl(equity: pl.DataFrame, period: Period) -> np.ndarray:
    """PnL per period of a record, USDT, fold after fold.

    Parameters
    ----------
    equity : the record's, of one symbol.
    """
    bar_pnl = np.diff(equity["equity_usdt"].to_numpy(), prepend=0.0)
    folds = equity["fold"].to_numpy()
    parts = np.split(bar_pnl, np.flatnonzero(np.diff(folds)) + 1) if len(bar_pnl) else []
    return np.concatenate([period_sums(part, period.bars) for part in parts]) if parts else np.empty(0)


def searched_pnl(config: SweepConfig, evaluator: Evaluator, symbol: str, n_rows: int, period: Period) -> np.ndarray:
    """PnL of every config per period of the searched rows, each period begun without a position.

    Returns
    -------
    float64, shape (n_periods, n_configs).
    """
    given = None if config.is_grid else config.table()
    rows = []
    for first in range(0, n_rows - period.bars + 1, period.bars):
        last = first + period.bars
        block = Block(symbol, Fold(0, first, last, first, last), "train", 0, config.n_configs, given)
        rows.append(evaluator(block)["net_pnl_usdt"].to_numpy())
    return np.stack(rows)


def gather(
    config: SweepConfig,
    bars: Bars,
    folds: list[Fold],
    evaluator: Evaluator,
    results: pl.DataFrame,
    record: Record,
    trials: Trials,
    *,
    at_ticks: TickRecord | None = None,
    is_whole: bool = True,
    progress: Progress = lambda done, total: None,
) -> Evidence:
    """The evidence on one symbol.

    Parameters
    ----------
    results : the symbol's ranked table; its first row is the best config.
    at_ticks : the record trade by trade; None where trades were not recorded.
    is_whole : False leaves out what decides nothing.
    progress : told (done, total) of the placebos, which take longest.
    """
    picks, n_rows = picks_of(config, folds, record), search_rows(config, bars.frame.height)
    period, is_picked = period_of(config.interval, record.equity.height), bool(with_pick(picks))
    best = results.row(0, named=True)
    is_ranked = math.isfinite(best["score"])
    chosen = config.trading_config(bars.symbol, config.params_of(best))
    whole = backtest(chosen, bars, 0, n_rows, min_coverage=0.0) if is_ranked else None
    among: tuple[Placebo, ...] = ()
    at_costs: tuple[dict[str, float], ...] = ()
    if is_picked:
        among = placebos(config, bars, picks, period_bars=period.bars, n_placebos=config.placebos, progress=progress)
    if is_picked and is_whole:
        at_costs = tuple(at_cost_multiples(config, bars, picks, period_bars=period.bars))
    split = superior = None
    is_blind = config.search.method != "optuna"  # else every config was found on days of both halves
    if is_whole and is_blind and n_rows >= BLOCKS * period.bars and 2 <= config.n_configs <= MAX_JUDGED_CONFIGS:
        pnl = searched_pnl(config, evaluator, bars.symbol, n_rows, period)
        split = overfitting(pnl, score=_scoring(config))
        superior = superior_ability(pnl, block=BLOCK_PERIODS)
    return Evidence(
        period=period.name,
        periods_per_year=period.per_year,
        record=moments(record_pnl(record.equity, period)),
        net_pnl_usdt=float(record.folds["net_pnl_usdt"].sum() or 0.0),
        trades=int(record.folds["trades"].sum() or 0),
        placebos=among,
        earlier_trials=trials.earlier,
        searched=moments(np.empty(0) if whole is None else period_sums(whole.run.bar_pnl, period.bars)),
        trials=trials.total,
        trial_variance=trials.variance / period.per_year,
        overfitting=split,
        superior_p=superior,
        stands_alone=_stands_alone(config, results, int(best["config"])) if is_ranked else None,
        at_costs=at_costs,
        callback_ranges=callback_ranges(record, bars, folds),
        starved=() if is_picked else starved(config.strategy, _names(config), bars),
        tick_net_pnl_usdt=None if at_ticks is None else at_ticks.net_pnl_usdt,
        rests=config.orders.resting is not None,
    )


def _names(config: SweepConfig) -> list[str]:
    """Every feature that the configs read."""
    return feature_names(strategy(config.strategy), config.window_settings, config.orders)


def _scoring(config: SweepConfig) -> Callable[[np.ndarray], np.ndarray]:
    """What the selection goes by, from Sharpes."""
    if config.selection == "plateau":
        return neighbourhood(config)
    return lambda sharpes: sharpes


def _stands_alone(config: SweepConfig, results: pl.DataFrame, best: int) -> bool:
    """True when the lower quartile of the best config's neighbourhood earned nothing in training."""
    sharpes = results.sort("config")["in_sample_sharpe"].to_numpy()
    return bool(neighbourhood(config)(sharpes)[best] <= 0.0)
