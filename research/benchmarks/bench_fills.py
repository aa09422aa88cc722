"""``aster bench fills``: how much bars flatter tight trailing orders, on markets in which nothing can be earned.

A seeded walk of 600 trades per bar, random sides, no costs: whatever a trade earns on average is the fill model's gift.
The same entries are followed at bar and at tick resolution. What a wide callback shows is the jump beyond a level, for
which slippage is charged; what a tight one shows on top of it comes from not knowing the order of prices in a bar.
"""

import math

import numpy as np

from data.benchmarks.figures import figure
from research import kernel
from research.fills import OPEN, Market, Terms
from research.gate import MIN_CALLBACK_RANGES
from research.strategies import momentum
from research.ticks import NS_PER_MS, Ticks, simulate_ticks

BARS, TICKS_PER_BAR, SEEDS = 10_000, 600, 4
BAR_MS = 60_000
RANGE_BPS = 20.0  # median of the bars, about
CALLBACK_RANGES = (0.25, 0.5, 0.75, 1.0, 1.5)
WIDE_RANGES = 3.0  # where the order of prices in a bar no longer matters
MOST_BPS = 0.025 * RANGE_BPS

_TERMS = Terms(
    taker_fee_bps=0.0, slippage_bps=0.0, notional_usdt=1_000.0, max_notional_usdt=2_000.0, min_notional_usdt=0.0,
    tick_size=1e-4, step_size=1e-6, min_quantity=1e-6, max_quantity=1e6, entry_limit_ticks=0.0, cooldown_bars=1,
)  # fmt: skip


def bench_fills(bars: int = BARS) -> list[dict]:
    """Figures: bar less tick resolution, bps per trade, by the callback in median bar ranges."""
    worlds = [_world(seed, bars) for seed in range(SEEDS)]
    wide, _ = _flattery(worlds, WIDE_RANGES)
    figures = []
    for ranges in CALLBACK_RANGES:
        flattery, interval = _flattery(worlds, ranges)
        figures.append(
            figure(
                f"bars flatter a callback of {ranges:g} bar ranges, 95 % interval ± {interval:.2f}",
                flattery - wide,
                f"bps per trade at {RANGE_BPS:g} bps per bar",
                baseline=f"bar less tick with a callback of {WIDE_RANGES:g} bar ranges: the jump beyond a level",
                baseline_value=wide,
                at_most=MOST_BPS if ranges >= MIN_CALLBACK_RANGES else None,
            )
        )
    return figures


def _world(seed: int, bars: int) -> tuple[Market, dict[str, np.ndarray], np.ndarray, Ticks]:
    """Market, features of a coin that is tossed on every bar, ``t_i`` and ticks."""
    random = np.random.default_rng(seed)
    per_bar = RANGE_BPS / 1.5 / 1e4  # a walk's median range is 1.5 of its deviations
    steps = random.standard_normal(bars * TICKS_PER_BAR) * per_bar / math.sqrt(TICKS_PER_BAR)
    price = np.round(10_000.0 * np.exp(np.cumsum(steps)), 4)
    in_bar = price.reshape(bars, TICKS_PER_BAR)
    close = in_bar[:, -1].copy()
    open_ = np.append(in_bar[0, 0], close[:-1])  # the last price at t_i
    high, low = np.maximum(in_bar.max(axis=1), open_), np.minimum(in_bar.min(axis=1), open_)
    unknown, zeros = np.full(bars, math.nan), np.zeros(bars)
    market = Market(
        can_enter=np.ones(bars, bool), close=open_, bid=unknown, ask=unknown, exec_open=open_, exec_high=high,
        exec_low=low, exec_close=close, mark_open=open_, mark_high=high, mark_low=low, exec_bid=unknown,
        exec_ask=unknown, half_spread_bps=zeros, last_mark_ratio=np.ones(bars), funding_per_unit=zeros,
    )  # fmt: skip
    features = dict.fromkeys(momentum.columns(_params(1.0)), zeros)
    features |= {"return_bps": random.choice([-1.0, 1.0], bars), "volume": np.ones(bars)}
    features["funding_interval_hours"] = np.ones(bars)
    exec_ms = BAR_MS * np.arange(1, bars + 1)
    tick_ns = NS_PER_MS * BAR_MS // TICKS_PER_BAR * np.arange(1, len(price) + 1) + NS_PER_MS * BAR_MS
    none_ns, none = np.empty(0, np.int64), np.empty(0)
    ticks = Ticks(
        trade_ns=tick_ns, trade_price=price, quote_ns=none_ns, bid=none, ask=none, mark_ns=tick_ns, mark_price=price,
        funding_ms=none_ns, funding_per_unit=none,
    )  # fmt: skip
    return market, features, exec_ms, ticks


def _params(ranges: float) -> momentum.Params:
    """Enter on the side of the coin; stop, activation and target some bars away."""
    return momentum.Params(
        momentum_multiple=1.0, volatility_window_bars=10.0, volume_multiple=1.0, volume_window_bars=10.0,
        target_bps=10.0 * RANGE_BPS, stop_bps=2.5 * RANGE_BPS, activation_bps=1.25 * RANGE_BPS,
        activation_buffer_bps=0.0, callback_bps=ranges * RANGE_BPS, target_gap_bps=0.0, max_spread_ticks=1.0,
        max_funding_bps=1.0,
    )  # fmt: skip


def _flattery(worlds: list, ranges: float) -> tuple[float, float]:
    """Mean of bar less tick resolution over trades that both have, bps, and half its 95 % interval."""
    differences = []
    for market, features, exec_ms, ticks in worlds:
        inputs = momentum, market, features, _params(ranges), _TERMS
        end_ms = int(exec_ms[-1]) + BAR_MS
        earned = []
        for trades in (kernel.simulate(*inputs).trades, simulate_ticks(*inputs, exec_ms, ticks, end_ms)):
            closed = trades[trades["reason"] != OPEN]
            bps = 1e4 * closed["side"] * (closed["exit_price"] / closed["entry_price"] - 1.0)
            earned.append(dict(zip(closed["entry_row"].tolist(), bps.tolist(), strict=True)))
        at_bars, at_ticks = earned
        differences += [at_bars[row] - at_ticks[row] for row in at_bars.keys() & at_ticks.keys()]
    return float(np.mean(differences)), 1.96 * float(np.std(differences)) / math.sqrt(len(differences))
