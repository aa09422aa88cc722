"""The baselines of the sweep benchmark: momentum swept with VectorBT as prior-art 003 did, and with signals on demand.

Signal matrices of rows x configs are built with NumPy, a chunk of configs at a time, and handed to VectorBT;
in ``callback_sweep`` it asks for each signal as it goes.
"""

import gc
from collections.abc import Sequence

import numpy as np

from research import kernel
from research.backtest import SignalMatrices, callback_orders, from_signals_metrics
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
    market: Market, features: dict[str, np.ndarray], configs: Sequence[momentum.Params], terms: Terms
) -> int:
    """Number of orders of a sweep in which VectorBT calls momentum's ``decide``, row by row; floors left out."""
    table, matrix, columns = kernel.sweep_inputs(momentum, features, configs)
    by_config = {name: table[:, momentum.Params._fields.index(f"{name}_bps")] / 1e4 for name in _EXITS}
    slippage = (np.nan_to_num(market.half_spread_bps) + terms.slippage_bps) / 1e4
    signal_args = (momentum.Params(*table[0].tolist()), table, matrix, columns, market.can_enter)
    return callback_orders(
        _without_gaps(market), slippage, by_config, terms.taker_fee_bps / 1e4, _signals_of_row, signal_args
    )


_EXITS = ("stop", "target", "activation", "callback")


@njit
def _signals_of_row(context, template, table, features, columns, can_enter):
    if context.position_now != 0.0 or not can_enter[context.i]:
        return False, False, False, False
    params = params_at(template, table, context.col)
    side = decide(row_at(params, features, columns[context.col], context.i), 0, params).side
    return side > 0, False, side < 0, False


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
    row = momentum.columns(configs[0])
    opening_loss_bps = np.where(
        features[row.return_bps] > 0.0, features[row.opening_loss_long_bps], features[row.opening_loss_short_bps]
    )
    funding_bps = np.abs(features[row.funding_bps]) / features[row.funding_interval_hours]
    floor_bps = 2.0 * terms.taker_fee_bps + opening_loss_bps + funding_bps
    distances = np.array(configs)[:, [momentum.Params._fields.index(name) for name in _DISTANCES]].T
    stop, target, activation, buffer, callback, gap = distances
    activation_bps = np.maximum(activation[None, :], floor_bps[:, None] + buffer[None, :])
    target_bps = np.maximum(target[None, :], activation_bps + gap[None, :])
    half_spread_bps = np.nan_to_num(market.half_spread_bps)
    return SignalMatrices(
        entries=entries,
        short_entries=short_entries,
        target=target_bps / 1e4,
        activation=activation_bps / 1e4,
        stop=stop / 1e4,
        callback=callback / 1e4,
        slippage=(half_spread_bps + terms.slippage_bps) / 1e4,
    )


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
