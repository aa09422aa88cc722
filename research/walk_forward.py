"""The record of the selection procedure: per fold, what the config picked on train rows traded on test rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from data.schema import interval_ms
from research import formats, metrics
from research.bars import Bars
from research.engine import backtest, window_end_ms
from research.sweep import Fold, SweepConfig, bars_per_year, picks
from research.trades import TRADES

BOOTSTRAP_BLOCK_HOURS = 6
# What is asked of train rows; ``is_found`` where an optimiser chose the configs.
_OF_TRAINING = ("symbol", "fold", "part", "config", "sharpe", "trades", "longest_hold_bars", "is_found")


@dataclass(frozen=True)
class Record:
    """Walk-forward of one symbol.

    Attributes
    ----------
    folds : a row per fold: fold, train_start, train_end, test_start, test_end, config, params, changed,
        in_sample_sharpe, oos_sharpe, oos_low, oos_high (90 % block bootstrap), trades, net_pnl_usdt, net_bps,
        is_hold_beyond_embargo (a train trade of the pick plus the longest window outlasts the embargo).
    trades, equity : the test folds in sequence; equity runs on from fold to fold, and through a fold without a pick
        it stays as it was. Both are empty where no fold had one.
    """

    symbol: str
    folds: pl.DataFrame
    trades: pl.DataFrame
    equity: pl.DataFrame


def describe(params: tuple, swept: Sequence[str]) -> str:
    """The parameters that the sweep varies, as text."""
    return ", ".join(f"{name} {formats.setting(value)}" for name, value in params._asdict().items() if name in swept)


def walk_forward(config: SweepConfig, bars: Bars, folds: list[Fold], evaluated: pl.DataFrame | pl.LazyFrame) -> Record:
    """Follow the procedure through the folds of one symbol.

    A fold on which no config had enough trades on train rows stays out of the market: following the procedure is
    being flat for its test rows, and they count.
    """
    times = bars.frame["open_time"]
    is_own = (pl.col("symbol") == bars.symbol) & (pl.col("part") == "train")
    evaluated = evaluated.lazy()
    there = evaluated.collect_schema()
    trained = evaluated.filter(is_own).select(name for name in _OF_TRAINING if name in there).collect()
    chosen = {pick["fold"]: pick["config"] for pick in picks(config, trained)}
    rows, trades, equity = [], [], []
    carried, before = 0.0, None
    longest_window = max(
        (v for each in config.examples() for n, v in each._asdict().items() if n.endswith("_window_bars")), default=0
    )
    for fold in folds:
        number = chosen[fold.number]
        params = None if number is None else config.params(number)
        row = {
            "fold": fold.number,
            "train_start": times[fold.train_first],
            "train_end": times[fold.train_last],
            "test_start": times[fold.test_first],
            "test_end": times[fold.test_last - 1],
            "config": number,
            "params": "no pick, too few trades" if params is None else describe(params, config.swept),
            "changed": before is not None and number != before,
        }
        if params is None:
            rows.append({**row, **dict.fromkeys(("in_sample_sharpe", "oos_sharpe", "oos_low", "oos_high"))})
            equity.append(_in_sequence(_flat(bars, fold), fold, carried))
            continue
        before = number
        followed = config.trading_config(bars.symbol, params)
        # one hole may be much of a short fold: the sweep has looked at the whole range
        result = backtest(followed, bars, fold.test_first, fold.test_last, min_coverage=0.0)
        train = trained.filter((pl.col("fold") == fold.number) & (pl.col("config") == number))
        pnl = np.diff(result.equity["equity_usdt"].to_numpy(), prepend=0.0)
        hourly, per_year = _hourly(pnl, config.interval)
        low, high = metrics.bootstrap_sharpe(hourly, per_year, block=BOOTSTRAP_BLOCK_HOURS, seed=fold.number)
        figures = metrics.summary(
            result.trades, result.equity, capital_usdt=config.capital_usdt, bars_per_year=bars_per_year(config.interval)
        )
        rows.append(
            {
                **row,
                "in_sample_sharpe": train["sharpe"][0],
                "oos_sharpe": figures["sharpe"],
                "oos_low": low,
                "oos_high": high,
                "trades": int(figures["trades"]),
                "net_pnl_usdt": figures["net_pnl_usdt"],
                "net_bps": figures["net_bps_per_trade"],
                "is_hold_beyond_embargo": train["longest_hold_bars"][0] + longest_window > config.folds.embargo_bars,
            }
        )
        trades.append(result.trades)
        equity.append(_in_sequence(result.equity, fold, carried))
        carried = equity[-1]["equity_usdt"][-1]
    return Record(
        symbol=bars.symbol,
        folds=pl.DataFrame(rows, schema=FOLDS),
        trades=pl.concat(trades) if trades else pl.DataFrame(schema=TRADES),
        equity=pl.concat(equity) if trades else pl.DataFrame(schema=EQUITY),
    )


FOLDS = pl.Schema(
    {
        "fold": pl.Int64,
        "train_start": pl.Datetime("ms", "UTC"),
        "train_end": pl.Datetime("ms", "UTC"),
        "test_start": pl.Datetime("ms", "UTC"),
        "test_end": pl.Datetime("ms", "UTC"),
        "config": pl.Int64,
        "params": pl.String,
        "changed": pl.Boolean,
        "in_sample_sharpe": pl.Float64,
        "oos_sharpe": pl.Float64,
        "oos_low": pl.Float64,
        "oos_high": pl.Float64,
        "trades": pl.Int64,
        "net_pnl_usdt": pl.Float64,
        "net_bps": pl.Float64,
        "is_hold_beyond_embargo": pl.Boolean,
    }
)
EQUITY = pl.Schema(
    {
        "time": pl.Datetime("ms", "UTC"),
        "equity_usdt": pl.Float64,
        "position": pl.Int64,
        "exposure_usdt": pl.Float64,
        "fold": pl.Int32,
    }
)


def _flat(bars: Bars, fold: Fold) -> pl.DataFrame:
    """Equity of staying out of the market over the fold's test rows."""
    end_ms = window_end_ms(bars)[fold.test_first : fold.test_last]
    return pl.DataFrame({"time": pl.Series(end_ms).cast(EQUITY["time"])}).with_columns(
        equity_usdt=pl.lit(0.0), position=pl.lit(0, pl.Int64), exposure_usdt=pl.lit(0.0)
    )


def _in_sequence(equity: pl.DataFrame, fold: Fold, carried: float) -> pl.DataFrame:
    """A fold's equity, run on from what the folds before it came to."""
    return equity.with_columns(pl.col("equity_usdt") + carried, pl.lit(fold.number).alias("fold"))


def _hourly(pnl: np.ndarray, interval: str) -> tuple[np.ndarray, float]:
    """PnL per hour, or per bar where that is longer (a shorter last hour is dropped), and how many make a year."""
    per_hour = max(1, 3_600_000 // interval_ms(interval))
    n = len(pnl) // per_hour * per_hour
    return pnl[:n].reshape(-1, per_hour).sum(axis=1), bars_per_year(interval) / per_hour
