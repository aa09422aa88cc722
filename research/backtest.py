"""VectorBT as a second opinion: the only module that imports it, and pandas.

``vectorbt_orders`` lets VectorBT place the orders itself, for the part of the rules it can express.
``confirm_accounting`` hands it the kernel's orders and compares trades, fees, equity and drawdown.
``from_signals_metrics`` is the sweep of prior-art 003, which the kernel is measured against; ``callback_portfolio`` is
the same at its leanest, with signals and stops computed in VectorBT's callbacks.

VectorBT takes seconds to import, so it is imported on first use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pandas as pd

from research.fills import OPEN, Market, Terms
from research.jit import njit
from research.kernel import Run
from research.order_plan import OrderPlan
from research.resting import rests

# Largest difference that still counts as agreement: of a price, or of the notional for money.
TOLERANCE = 1e-9


class JudgeDisagrees(RuntimeError):
    """VectorBT and the kernel came to different results; neither can be believed before it is known why."""


@cache
def _vectorbt() -> ModuleType:
    # VectorBT's compiled code does not change with ours: it stays out of the folder that every edit renames.
    ours = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(Path(ours).parent / "vectorbt")
    import vectorbt

    numba.config.CACHE_DIR = ours
    return vectorbt


@njit
def _enter_after_cooldown(context, side, cooldown_bars, is_holding, next_allowed):
    """Entry signals of one column. VectorBT calls this on every row except the one in which a stop or target fires."""
    column = context.col
    if is_holding[column] and context.position_now == 0.0:
        # The exit was one row ago, which is the execution bar of two rows ago.
        is_holding[column] = False
        next_allowed[column] = context.i - 1 + max(1, cooldown_bars[column])
    wanted = side[context.i, column]
    if is_holding[column] or context.i < next_allowed[column] or wanted == 0:
        return False, False, False, False
    is_holding[column] = True
    return wanted > 0, False, wanted < 0, False


@njit
def _open_before_range(context, open_, target_fraction):
    """Drop the stop in a bar that opens beyond the target: VectorBT would look at the stop's range first."""
    if context.position_now != 0.0 and context.init_i >= 0:
        side = 1.0 if context.position_now > 0.0 else -1.0
        target = context.init_price * (1.0 + side * target_fraction[context.init_i, context.col])
        if side * (open_[context.i, context.col] - target) >= 0.0:
            return np.nan, False
    return context.curr_stop, context.curr_trail


def vectorbt_orders(plans: Sequence[OrderPlan]) -> list[np.ndarray]:
    """Let VectorBT trade each plan in a column of its own; its order records per plan.

    Each record has ``idx`` (row of the plan: row *i* for an entry decided on row *i*, row *i + 1* for an exit in
    execution bar *i*), ``side`` (0 buy, 1 sell), ``size``, ``price`` and ``fees``.
    """
    vbt = _vectorbt()
    n_rows = max(plan.side.size for plan in plans)

    def stack(name: str, absent: float = np.nan) -> np.ndarray:
        matrix = np.full((n_rows, len(plans)), absent)
        for column, plan in enumerate(plans):
            values = getattr(plan, name)
            matrix[: values.size, column] = values
        return matrix

    open_, target_fraction = stack("open"), stack("target_fraction")
    portfolio = vbt.Portfolio.from_signals(
        stack("close"),
        open=open_,
        high=stack("high"),
        low=stack("low"),
        signal_func_nb=_enter_after_cooldown,
        signal_args=(
            stack("side", 0).astype(np.int64),
            np.array([plan.cooldown_bars for plan in plans]),
            np.zeros(len(plans), np.bool_),
            np.zeros(len(plans), np.int64),
        ),
        size=stack("quantity"),
        size_type="amount",
        price=stack("order_price"),
        val_price=-np.inf,  # the previous close
        slippage=stack("slippage", 0.0),
        fees=np.array([plan.taker_fee for plan in plans]),
        sl_stop=stack("stop_fraction"),
        tp_stop=target_fraction,
        stop_entry_price="fillprice",
        stop_exit_price="stopmarket",
        upon_opposite_entry="ignore",
        adjust_sl_func_nb=_open_before_range,
        adjust_sl_args=(open_, target_fraction),
        min_size=0.0,  # sizes are amounts, judged already: neither VectorBT's own minimum
        init_cash=1e12,  # nor cash is to cut them
    )
    records = portfolio.orders.records_arr
    return [records[records["col"] == column] for column in range(len(plans))]


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """VectorBT's own figures for a run it agrees with; stored beside the run."""

    judge: str
    trades: int  # an open one included
    fees_usdt: float
    pnl_before_funding_usdt: float  # open position marked to the last price
    max_drawdown_usdt: float  # after funding, <= 0
    worst_difference: float  # largest difference seen, of a price or of the notional


def confirm_accounting(run: Run, market: Market, terms: Terms, first: int = 0, last: int | None = None) -> Confirmation:
    """Send the kernel's orders through VectorBT and compare what comes out.

    Every row becomes two of VectorBT's, the entry at the open and the exit with the close, so that a position may live
    for less than a bar. An entry that rested stands in the row that filled it, at its limit, for the maker fee.
    VectorBT knows no funding: it is taken off its equity by execution bar before comparing.

    Raises
    ------
    JudgeDisagrees
        When a trade, a fee, the equity of a row or the drawdown differs by more than ``TOLERANCE``.
    """
    vbt = _vectorbt()
    last = market.close.size if last is None else last
    n_rows, trades = last - first, run.trades
    closed = trades[trades["reason"] != OPEN]
    entry_at = 2 * (trades["fill_row"] - first)
    exit_at = 2 * (closed["exit_row"] - first) + 1
    size, price, fee_bps = (np.full(2 * n_rows, value) for value in (np.nan, np.nan, terms.taker_fee_bps))
    fee_bps[entry_at] = terms.maker_fee_bps if rests(terms) else terms.taker_fee_bps
    size[entry_at], price[entry_at] = trades["side"] * trades["quantity"], trades["entry_price"]
    size[exit_at], price[exit_at] = -closed["side"] * closed["quantity"], closed["exit_price"]

    notional_usdt = float((trades["quantity"] * trades["entry_price"]).max(initial=0.0)) or 1.0
    gross_usdt = trades["side"] * trades["quantity"] * (trades["exit_price"] - trades["entry_price"])
    init_cash = 2.0 * notional_usdt + float(np.abs(gross_usdt).sum() + trades["fees_usdt"].sum())
    portfolio = vbt.Portfolio.from_orders(
        np.repeat(_carried(market.exec_close[first:last]), 2),
        size=size,
        size_type="amount",
        price=price,
        fees=fee_bps / 1e4,
        init_cash=init_cash,
        min_size=0.0,
        raise_reject=True,
        freq="30s",
    )
    records = portfolio.trades.records
    if len(records) != len(trades):
        raise JudgeDisagrees(f"the kernel has {len(trades)} trades, VectorBT {len(records)}")
    is_open = trades["reason"] == OPEN
    pairs = (
        ("row of the fill", trades["fill_row"], records["entry_idx"] // 2 + first, 1.0),
        ("exit row", trades["exit_row"], records["exit_idx"] // 2 + first, 1.0),
        ("side", trades["side"], 1 - 2 * records["direction"], 1.0),
        ("open or closed", ~is_open, records["status"], 1.0),
        ("quantity", trades["quantity"], records["size"], trades["quantity"]),
        ("entry price", trades["entry_price"], records["entry_price"], trades["entry_price"]),
        ("exit price", trades["exit_price"], records["exit_price"], trades["entry_price"]),
        ("fees", trades["fees_usdt"], records["entry_fees"] + records["exit_fees"], notional_usdt),
        ("PnL before funding", gross_usdt - trades["fees_usdt"], records["pnl"], notional_usdt),
    )
    worst = max(_agree(f"{name} of trade", ours, theirs, scale) for name, ours, theirs, scale in pairs)

    funding_usdt = np.cumsum(_funding_by_row(trades, market, first, n_rows, is_rested=rests(terms)))
    value = portfolio.value().to_numpy()[1::2] - init_cash
    after_funding = value - funding_usdt
    worst = max(worst, _agree("equity of row", np.cumsum(run.bar_pnl), after_funding, notional_usdt))
    drawdowns = vbt.Drawdowns.from_ts(np.append(init_cash, init_cash + after_funding), freq="1min").records
    drawdown_usdt = -float((drawdowns["peak_val"] - drawdowns["valley_val"]).max()) if len(drawdowns) else 0.0
    worst = max(
        worst, _agree("drawdown of run", np.array([run.stats["max_drawdown_usdt"]]), drawdown_usdt, notional_usdt)
    )
    return Confirmation(
        judge=f"vectorbt {vbt.__version__}",
        trades=len(records),
        fees_usdt=float((records["entry_fees"] + records["exit_fees"]).sum()),
        pnl_before_funding_usdt=float(value[-1]),
        max_drawdown_usdt=drawdown_usdt,
        worst_difference=worst,
    )


def _agree(what: str, ours: np.ndarray, theirs, scale) -> float:
    """Largest difference in units of ``scale``; raises at the first that is too large or not a number."""
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)) / scale
    wrong = np.flatnonzero(~(difference <= TOLERANCE))
    if wrong.size:
        k = wrong[0]
        theirs = np.broadcast_to(theirs, difference.shape)
        raise JudgeDisagrees(f"{what} {k}: the kernel says {ours[k]}, VectorBT {theirs[k]}")
    return float(difference.max(initial=0.0))


def _carried(price: np.ndarray) -> np.ndarray:
    """Prices with every gap filled by the last one before it, the first by the first after it."""
    known = np.flatnonzero(~np.isnan(price))
    if known.size == 0:
        return np.ones_like(price)
    place = np.searchsorted(known, np.arange(price.size), side="right") - 1
    return price[known[np.maximum(place, 0)]]


def _funding_by_row(trades: np.ndarray, market: Market, first: int, n_rows: int, *, is_rested: bool) -> np.ndarray:
    """Funding paid in every execution bar, USDT; the bar of an exit at its open no longer pays.

    The bar that filled an entry which rested pays and never receives: whether the fill came before is not known.
    """
    paid = np.zeros(n_rows)
    for trade in trades:
        filled, end = trade["fill_row"], trade["exit_row"] + (0 if trade["at_open"] else 1)
        paid[filled - first : end - first] = trade["side"] * trade["quantity"] * market.funding_per_unit[filled:end]
        if is_rested:
            paid[filled - first] = max(paid[filled - first], 0.0)
    return paid


@njit
def _trail_once_ahead(context, activation, callback):
    """Replace the stop by VectorBT's trailing one once the valuation price is the entry row's ``activation`` ahead."""
    if context.position_now != 0.0 and not context.curr_trail:
        side = 1.0 if context.position_now > 0.0 else -1.0
        if side * (context.val_price_now / context.init_price - 1.0) >= activation[context.init_i, context.col]:
            return callback[context.col], True
    return context.curr_stop, context.curr_trail


@dataclass(frozen=True, kw_only=True)
class SignalMatrices:
    """What prior-art 003 hands to VectorBT: rows x configs for everything that could differ by config.

    Parameters
    ----------
    entries, short_entries : bool, shape (n_rows, n_configs).
    target, activation : float64, shape (n_rows, n_configs)
        Fractions of the entry price, floors of the entry row applied.
    stop, callback : float64, shape (n_configs,)
        Fractions of price.
    slippage : float64, shape (n_rows,)
        Half the spread plus slippage, a fraction of price.
    """

    entries: np.ndarray
    short_entries: np.ndarray
    target: np.ndarray
    activation: np.ndarray
    stop: np.ndarray
    callback: np.ndarray
    slippage: np.ndarray


def from_signals_metrics(ohlc: np.ndarray, signals: SignalMatrices, taker_fee_bps: float) -> dict[str, np.ndarray]:
    """Metrics per config of a VectorBT sweep in the manner of prior-art 003: the baseline for speed and memory.

    Its trades are not the kernel's: fills at the signal's own close, opposite signals exit and reverse, the whole cash
    in every trade, stops not checked in the entry bar, the trailing order in place of the stop.

    Parameters
    ----------
    ohlc : float64, shape (4, n_rows), without NaN.
    """
    vbt = _vectorbt()
    n_configs = signals.entries.shape[1]

    def per_config(column: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(np.repeat(column[:, None], n_configs, axis=1))

    open_, high, low, close = (per_config(prices) for prices in ohlc)
    entries, short_entries = pd.DataFrame(signals.entries), pd.DataFrame(signals.short_entries)
    portfolio = vbt.Portfolio.from_signals(
        close,
        entries=entries,
        exits=short_entries,
        short_entries=short_entries,
        short_exits=entries,
        price=close,
        open=open_,
        high=high,
        low=low,
        fees=taker_fee_bps / 1e4,
        slippage=per_config(signals.slippage),
        sl_stop=signals.stop[None, :],
        tp_stop=signals.target,
        adjust_sl_func_nb=_trail_once_ahead,
        adjust_sl_args=(signals.activation, signals.callback),
        stop_entry_price="price",
        stop_exit_price="price",
        freq="1min",
    )
    return portfolio_metrics(portfolio)


def portfolio_metrics(portfolio: Any) -> dict[str, np.ndarray]:
    """The metrics by which prior-art 003 ranks, shape (n_configs,) each."""
    trades = portfolio.trades
    metrics = {
        "total_profit": portfolio.total_profit(),
        "total_return": portfolio.total_return(),
        "trades": trades.count(),
        "win_rate": trades.win_rate(),
        "sharpe_ratio": portfolio.sharpe_ratio(),
        "sortino_ratio": portfolio.sortino_ratio(),
        "max_drawdown": portfolio.max_drawdown(),
        "average_pnl": trades.pnl.mean(),
        "average_win": trades.winning.pnl.mean(),
        "average_loss": trades.losing.pnl.mean(),
        "average_hold_bars": trades.duration.mean(),
    }
    return {name: values.to_numpy() for name, values in metrics.items()}


def callback_portfolio(ohlc: np.ndarray, slippage: np.ndarray, stop: np.ndarray, taker_fee: float, **callbacks) -> Any:
    """What VectorBT trades when compiled functions tell signals and stops, without matrices of rows x configs.

    It has the rules of ``from_signals_metrics``: the same signals and stops give the same orders.

    Parameters
    ----------
    ohlc : float64, shape (4, n_rows), without NaN.
    slippage : float64, shape (n_rows,), fraction of price.
    stop : float64, shape (n_configs,), fraction of price.
    callbacks : signal_func_nb, signal_args, adjust_sl_func_nb and the like; see VectorBT.
    """
    vbt = _vectorbt()
    enums, shape = vbt.portfolio.enums, (ohlc.shape[1], stop.size)
    open_, high, low, close = (column[:, None] for column in np.ascontiguousarray(ohlc))
    init_cash = np.full(shape[1], 100.0)
    orders, logs = vbt.portfolio.nb.simulate_from_signal_func_nb(
        shape,
        np.ones(shape[1], np.int64),
        init_cash,
        np.lib.stride_tricks.as_strided(np.zeros(shape[1], np.int64), shape, (0, 8)),
        price=close,
        fees=np.asarray(taker_fee),
        slippage=slippage[:, None],
        open=open_,
        high=high,
        low=low,
        close=close,
        sl_stop=stop[None, :],
        stop_entry_price=np.asarray(enums.StopEntryPrice.Price),
        stop_exit_price=np.asarray(enums.StopExitPrice.Price),
        max_orders=shape[0] * shape[1] // 4,
        **callbacks,
    )
    wide = pd.DataFrame(np.lib.stride_tricks.as_strided(close, shape, (close.strides[0], 0)))
    return vbt.Portfolio(vbt.ArrayWrapper.from_obj(wide, freq="1min"), wide, orders, logs, init_cash, False)
