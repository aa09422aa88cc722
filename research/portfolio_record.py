"""The record of several symbols on one account: what their picks traded together on test rows, within its limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from data.schema import TIME_MS
from research.bars import Bars
from research.daily_loss import days_of
from research.engine import TradingConfig, exit_ms_of, simulation_inputs, trades_frame, window_end_ms
from research.exposure import SharedLimits, SharedTerms
from research.fills import Market
from research.portfolio import Book, JointRun, simulate
from research.sizing import size_multiples
from research.sweep import Fold, SweepConfig
from research.trade_records import TRADE
from research.trades import TRADES
from research.walk_forward import Record

FOLDS = pl.Schema(
    {
        "fold": pl.Int64,
        "symbols": pl.Int64,  # of which something was picked
        "trades": pl.Int64,  # closed ones
        "refused_entries": pl.Int64,  # that the shared limits kept out
        "net_pnl_usdt": pl.Float64,
        "most_positions": pl.Int64,  # at a time
        "most_notional_usdt": pl.Float64,
    }
)
EQUITY = pl.Schema(
    {
        "time": TIME_MS,  # when the last symbol's execution bar ended
        "equity_usdt": pl.Float64,  # of all symbols; runs on from fold to fold
        "position": pl.Int64,  # how many are held
        "exposure_usdt": pl.Float64,  # notional at entry of them all, long and short added up
        "fold": pl.Int64,
    }
)


@dataclass(frozen=True)
class JointRecord:
    """Walk-forward of all symbols on one account: frames of ``FOLDS``, ``research.trades.TRADES`` and ``EQUITY``."""

    folds: pl.DataFrame
    trades: pl.DataFrame
    equity: pl.DataFrame


def joint_record(
    config: SweepConfig, bars: Mapping[str, Bars], folds: Sequence[Fold], records: Mapping[str, Record]
) -> JointRecord:
    """Trade every symbol's picks again, all symbols at once and within ``config.portfolio``.

    The picks are the symbols' own: the search knows of no shared limit. A symbol without a pick stays out of the fold,
    and where none has one the account stays flat through it.

    Parameters
    ----------
    bars, records : by symbol, in the order in which entries of one moment are sent; of the same slots.
    folds : the rows of every symbol's folds.
    """
    limits = SharedTerms() if config.portfolio is None else config.portfolio.terms()
    rows, trades, equity, carried = [], [], [], 0.0
    for place, fold in enumerate(folds):
        numbers = {symbol: record.folds["config"][place] for symbol, record in records.items()}
        chosen = {
            symbol: config.trading_config(symbol, config.params(number))
            for symbol, number in numbers.items()
            if number is not None
        }
        if not chosen:
            rows.append({"fold": fold.number, "symbols": 0, "trades": 0, "refused_entries": 0})
            flat = _equity(_idle(fold), [*bars.values()], fold)
            equity.append(flat.with_columns(pl.col("equity_usdt") + carried))
            continue
        picked = {symbol: bars[symbol] for symbol in chosen}
        run = _run(chosen, picked, fold, limits)
        own = [
            _trades(run.trades[k], fold.test_first, picked[symbol], each)
            for k, (symbol, each) in enumerate(chosen.items())
        ]
        curve = _equity(run, [*picked.values()], fold)
        rows.append(
            {
                "fold": fold.number,
                "symbols": len(chosen),
                "trades": sum(frame.filter(pl.col("reason") != "open").height for frame in own),
                "refused_entries": int(run.refused.sum()),
                "net_pnl_usdt": curve["equity_usdt"][-1],
                "most_positions": curve["position"].max(),
                "most_notional_usdt": curve["exposure_usdt"].max(),
            }
        )
        trades += own
        equity.append(curve.with_columns(pl.col("equity_usdt") + carried))
        carried = equity[-1]["equity_usdt"][-1]
    return JointRecord(
        folds=pl.DataFrame(rows, schema=FOLDS),
        trades=pl.concat(trades).sort("entry_time", maintain_order=True) if trades else pl.DataFrame(schema=TRADES),
        equity=pl.concat(equity) if trades else pl.DataFrame(schema=EQUITY),
    )


def limits_in_words(limits: SharedLimits | None) -> str:
    """What all symbols together may hold."""
    if limits is None:
        return "no shared limits"
    said = (
        (limits.max_open_positions, "{:g} positions at a time"),
        (limits.max_total_notional_usdt, "{:g} USDT of notional in all"),
        (limits.max_daily_loss_usdt, "no entry for the rest of a day that lost {:g} USDT"),
    )
    return ", ".join(words.format(value) for value, words in said if value is not None)


def _run(chosen: Mapping[str, TradingConfig], bars: Mapping[str, Bars], fold: Fold, limits: SharedTerms) -> JointRun:
    test = slice(fold.test_first, fold.test_last)
    books = []
    for symbol, config in chosen.items():
        own = bars[symbol]
        module, market, arrays, params, terms = simulation_inputs(config, own)
        multiples = size_multiples(config.orders.open_interest_size, arrays, own.frame.height)
        books.append(
            Book(
                market=Market(*(column[test] for column in market)),
                features={name: values[test] for name, values in arrays.items()},
                params=params,
                terms=terms,
                multiples=multiples[:, test],
                avail_ms=own.frame["avail_time"].dt.epoch("ms").to_numpy()[test],
            )
        )
    return simulate(module, books, days_of(own.frame)[test], limits)


def _idle(fold: Fold) -> JointRun:
    """Staying out of the market over the fold's test rows."""
    n_rows = fold.test_last - fold.test_first
    return JointRun(trades=[np.empty(0, TRADE)], bar_pnl=np.zeros((1, n_rows)), refused=np.zeros(1, np.int64))


def _trades(trades: np.ndarray, first: int, bars: Bars, config: TradingConfig) -> pl.DataFrame:
    placed = trades.copy()
    for name in ("entry_row", "fill_row", "exit_row"):
        placed[name] += first
    return trades_frame(placed, exit_ms_of(placed, bars), bars, config)


def _equity(run: JointRun, bars: Sequence[Bars], fold: Fold) -> pl.DataFrame:
    """Frame of ``EQUITY``, from zero."""
    n_rows = run.bar_pnl.shape[1]
    positions, exposure_usdt = np.zeros(n_rows, np.int64), np.zeros(n_rows)
    for trade in np.concatenate(run.trades):
        held = slice(trade["entry_row"], trade["exit_row"] + 1)
        positions[held] += 1
        exposure_usdt[held] += trade["quantity"] * trade["entry_price"]
    end_ms = np.max([window_end_ms(own)[fold.test_first : fold.test_last] for own in bars], axis=0)
    return pl.DataFrame(
        {
            "time": end_ms,
            "equity_usdt": np.cumsum(run.bar_pnl.sum(axis=0)),
            "position": positions,
            "exposure_usdt": exposure_usdt,
            "fold": np.full(n_rows, fold.number),
        }
    ).cast(EQUITY)
