"""The baseline of the sweep benchmark: momentum swept with VectorBT's ``from_signals``, as prior-art 003 did.

Signal matrices of rows x configs are built with NumPy, a chunk of configs at a time, and handed to VectorBT.
"""

import gc
from collections.abc import Sequence

import numpy as np

from research.backtest import SignalMatrices, from_signals_metrics
from research.fills import Market, Terms
from research.strategies import momentum
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
    ohlc = np.array([market.exec_open, market.exec_high, market.exec_low, market.exec_close])
    # VectorBT carries no position over a NaN price; the last close stands in for a gap.
    known = np.maximum.accumulate(np.where(np.isnan(ohlc[3]), -1, np.arange(ohlc.shape[1])))
    ohlc = np.where(np.isnan(ohlc), ohlc[3][np.maximum(known, np.flatnonzero(known >= 0)[0])], ohlc)
    chunks = []
    for start in range(0, len(configs), chunk_configs):
        signals = _matrices(market, features, configs[start : start + chunk_configs], terms)
        chunks.append(from_signals_metrics(ohlc, signals, terms.taker_fee_bps))
        del signals
        gc.collect()  # a chunk's matrices go before the next one's come, or memory runs out
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


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
