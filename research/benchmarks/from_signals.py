"""The baselines of the sweep benchmark: momentum swept with VectorBT as prior-art 003 did, and with signals on demand.

Signal matrices of rows x configs are built with NumPy, a chunk of configs at a time, and handed to VectorBT;
in ``callback_sweep`` it asks for each signal and stop as it goes, and trades the same.
"""

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np

from research import kernel
from research.backtest import SignalMatrices, callback_portfolio, from_signals_metrics, portfolio_metrics
from research.fills import Market, Terms
from research.jit import njit
from research.strategies import momentum
from research.strategies.compiled import decide, params_at, row_at
from research.strategies.gates import MAX_MARK_AGE_MS, MAX_QUOTE_AGE_MS


def from_signals_sweep(
    market: Market,
    features: dict[str, np.ndarray],
    configs: Sequence[momentum.Params],
    terms: Terms,
    *,
    chunk_configs: int,
) -> dict[str, np.ndarray]:
    """Metrics of every config, shape (n_configs,) each. Time and memory are the point, not the trades."""
    ohlc = _without_gaps(market)
    chunks = []
    for start in range(0, len(configs), chunk_configs):
        signals = _matrices(market, features, configs[start : start + chunk_configs], terms)
        chunks.append(from_signals_metrics(ohlc, signals, terms.taker_fee_bps))
        del signals
        gc.collect()  # a chunk's matrices go before the next one's come, or memory runs out
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def callback_sweep(
    market: Market,
    features: dict[str, np.ndarray],
    configs: Sequence[momentum.Params],
    terms: Terms,
    *,
    chunk_configs: int,
) -> dict[str, np.ndarray]:
    """The same metrics without matrices: VectorBT asks momentum's ``decide`` for every signal, row by row.

    Orders are those of ``from_signals_sweep``.
    """
    chunks = []
    for start in range(0, len(configs), chunk_configs):
        portfolio = callback_trades(market, features, configs[start : start + chunk_configs], terms)
        chunks.append(portfolio_metrics(portfolio))
        del portfolio
        gc.collect()
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def callback_trades(
    market: Market, features: dict[str, np.ndarray], configs: Sequence[momentum.Params], terms: Terms
) -> Any:
    """The portfolio of such a sweep: orders alone are simulated by then, metrics are made when asked for."""
    table, matrix, columns = kernel.sweep_inputs(momentum, features, configs)
    stop, target, activation, buffer, callback, gap = _distances(configs)
    floor_bps = _floor_bps(features, configs, terms)
    return callback_portfolio(
        _without_gaps(market),
        _slippage(market, terms),
        stop / 1e4,
        terms.taker_fee_bps / 1e4,
        signal_func_nb=_signals_of_row,
        signal_args=(momentum.Params(*table[0].tolist()), table, matrix, columns, market.can_enter),
        adjust_sl_func_nb=_trail_once_ahead,
        adjust_sl_args=(floor_bps, activation, buffer, callback / 1e4),
        adjust_tp_func_nb=_target_of_entry,
        adjust_tp_args=(floor_bps, activation, buffer, target, gap),
    )


@njit
def _signals_of_row(context, template, table, features, columns, can_enter):
    """Long entry, its exit, short entry, its exit: an opposite signal ends a position, as in ``from_signals``."""
    if not can_enter[context.i]:
        return False, False, False, False
    params = params_at(template, table, context.col)
    side = decide(row_at(params, features, columns[context.col], context.i), 0, params).side
    return side > 0, side < 0, side < 0, side > 0


@njit
def _trail_once_ahead(context, floor_bps, activation_bps, buffer_bps, callback):
    """Replace the stop by VectorBT's trailing one once the valuation price is ``activation`` ahead."""
    if context.position_now != 0.0 and not context.curr_trail:
        column = context.col
        ahead_bps = max(activation_bps[column], floor_bps[context.init_i] + buffer_bps[column])
        side = 1.0 if context.position_now > 0.0 else -1.0
        if side * (context.val_price_now / context.init_price - 1.0) >= ahead_bps / 1e4:
            return callback[column], True
    return context.curr_stop, context.curr_trail


@njit
def _target_of_entry(context, floor_bps, activation_bps, buffer_bps, target_bps, gap_bps):
    if context.position_now == 0.0:
        return context.curr_stop
    column = context.col
    ahead_bps = max(activation_bps[column], floor_bps[context.init_i] + buffer_bps[column])
    return max(target_bps[column], ahead_bps + gap_bps[column]) / 1e4


def _without_gaps(market: Market) -> np.ndarray:
    """Open, high, low and close, shape (4, n_rows). A NaN ends VectorBT's position: the last close stands in."""
    ohlc = np.array([market.exec_open, market.exec_high, market.exec_low, market.exec_close])
    known = np.maximum.accumulate(np.where(np.isnan(ohlc[3]), -1, np.arange(ohlc.shape[1])))
    return np.where(np.isnan(ohlc), ohlc[3][np.maximum(known, np.flatnonzero(known >= 0)[0])], ohlc)


def _matrices(
    market: Market, features: dict[str, np.ndarray], configs: Sequence[momentum.Params], terms: Terms
) -> SignalMatrices:
    """Signals and exit distances of every row and config; the floors as prior-art 003 computes them per row."""
    entries, short_entries = _signals(features, configs)
    floor_bps = _floor_bps(features, configs, terms)
    stop, target, activation, buffer, callback, gap = _distances(configs)
    activation_bps = np.maximum(activation[None, :], floor_bps[:, None] + buffer[None, :])
    target_bps = np.maximum(target[None, :], activation_bps + gap[None, :])
    return SignalMatrices(
        entries=entries,
        short_entries=short_entries,
        target=target_bps / 1e4,
        activation=activation_bps / 1e4,
        stop=stop / 1e4,
        callback=callback / 1e4,
        slippage=_slippage(market, terms),
    )


def _slippage(market: Market, terms: Terms) -> np.ndarray:
    """Half the spread plus slippage per row, a fraction of price."""
    return (np.nan_to_num(market.half_spread_bps) + terms.slippage_bps) / 1e4


def _floor_bps(features: dict[str, np.ndarray], configs: Sequence[momentum.Params], terms: Terms) -> np.ndarray:
    """Break-even floor per row, by the side its bar goes to."""
    row = momentum.columns(configs[0])
    opening_loss_bps = np.where(
        features[row.return_bps] > 0.0, features[row.opening_loss_long_bps], features[row.opening_loss_short_bps]
    )
    funding_bps = np.abs(features[row.funding_bps]) / features[row.funding_interval_hours]
    return 2.0 * terms.taker_fee_bps + opening_loss_bps + funding_bps


def _distances(configs: Sequence[momentum.Params]) -> np.ndarray:
    """Stop, target, activation, buffer, callback and gap in bps, shape (6, n_configs)."""
    fields = [momentum.Params._fields.index(name) for name in _DISTANCES]
    return np.ascontiguousarray(np.array(configs)[:, fields].T)


_DISTANCES = ("stop_bps", "target_bps", "activation_bps", "activation_buffer_bps", "callback_bps", "target_gap_bps")


def _signals(features: dict[str, np.ndarray], configs: Sequence[momentum.Params]) -> tuple[np.ndarray, np.ndarray]:
    """Long and short entries, bool of shape (n_rows, n_configs): momentum's rule and gates over whole matrices."""
    rows = [momentum.columns(params) for params in configs]
    one = rows[0]  # what no config changes

    def by_config(field: str) -> np.ndarray:
        return np.column_stack([features[getattr(row, field)] for row in rows])

    def wanted(field: str) -> np.ndarray:
        return np.array([getattr(params, field) for params in configs])[None, :]

    def shared(field: str) -> np.ndarray:
        return features[getattr(one, field)][:, None]

    threshold_bps = wanted("momentum_multiple") * by_config("volatility_bps")
    is_long, is_short = shared("return_bps") > threshold_bps, shared("return_bps") < -threshold_bps
    is_heavy = shared("volume") > wanted("volume_multiple") * by_config("mean_volume")
    limit_bps = np.minimum(10.0, np.maximum(5.0, 2.0 * shared("spread_bps")))
    opening_loss_bps = np.where(
        shared("return_bps") > 0.0, shared("opening_loss_long_bps"), shared("opening_loss_short_bps")
    )
    is_open = (
        (shared("spread_ticks") <= wanted("max_spread_ticks"))
        & (np.abs(shared("funding_bps")) <= wanted("max_funding_bps"))
        & (opening_loss_bps <= limit_bps)
        & (shared("quote_age_ms") <= MAX_QUOTE_AGE_MS)
        & (shared("mark_age_ms") <= MAX_MARK_AGE_MS)
    )
    return is_long & is_heavy & is_open, is_short & is_heavy & is_open
