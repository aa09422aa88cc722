"""Markets whose edge is known, to judge the gate itself: price paths without any, and with one that was planted.

Bars of a walk with calm and wild hours. The planted edge is what momentum looks for: after a bar that is large for its
volatility the price drifts on in its direction for a while, by ``edge`` standard deviations of a bar in all. With an
edge of 0 nothing predicts the next price, and every strategy loses what it pays. Everything follows from the seed.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from data import schema
from research.bars import Bars, signal_bars
from research.execution_bars import execution_bars
from research.jit import njit
from research.order_settings import Costs, Orders
from research.recorded import Recorded, Substitutions
from research.sweep_config import Folds, SweepConfig

START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = "15m"
BARS_PER_DAY = 96
STEPS_PER_BAR = 8  # of the walk inside a bar
DAILY_VOLATILITY = 0.04
DRIFT_BARS = 4  # how long the planted drift lasts
LARGE = 1.0  # standard deviations from which a bar is followed by drift
TICK_SIZE = 0.01

INSTRUMENT = {
    "tick_size": TICK_SIZE,
    "step_size": 0.001,
    "min_notional_usdt": 5.0,
    "min_quantity": 0.001,
    "max_quantity": 10_000.0,
    "market_max_quantity": 10_000.0,
}
_ASSUMED = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=0.0, funding_interval_hours=8.0)


def world_config(days: int, cost_multiple: float = 1.0) -> SweepConfig:
    """The sweep that is run on a world: 24 momentum configs, two weeks of training for each fortnight of test."""
    return SweepConfig(
        name="world",
        strategy="momentum",
        symbols=("WORLDUSDT",),
        start=START,
        end=START + timedelta(days=days),
        interval=INTERVAL,
        grid={
            "momentum_multiple": (1.2, 1.5, 1.8),
            "volatility_window_bars": (12.0, 24.0),
            "volume_multiple": (1.0,),
            "volume_window_bars": (24.0,),
            "target_bps": (120.0, 160.0),
            "stop_bps": (80.0, 120.0),
            "activation_bps": (80.0,),
            "activation_buffer_bps": (0.5,),
            "callback_bps": (100.0,),
            "target_gap_bps": (4.0,),
            "max_spread_ticks": (10.0,),
            "max_funding_bps": (5.0,),
        },
        costs=Costs(
            taker_fee_bps=4.0 * cost_multiple, maker_fee_bps=2.0, slippage_bps=0.5 * cost_multiple, latency_ms=150
        ),
        orders=Orders(notional_usdt=1_000.0, max_notional_usdt=1_100.0, entry_limit_ticks=2, cooldown_bars=1),
        folds=Folds(train_days=14.0, test_days=15.0, embargo_bars=96),
        substitutions=_ASSUMED,
        capital_usdt=1_000.0,
        min_trades=10,
    )


def world_bars(seed: int, *, days: int, edge: float) -> Bars:
    """Bars of one world.

    Parameters
    ----------
    edge : drift after a large bar, in standard deviations of a bar, spread over ``DRIFT_BARS``.
    """
    random = np.random.default_rng([seed, days])
    n_bars = days * BARS_PER_DAY
    usual = DAILY_VOLATILITY / np.sqrt(BARS_PER_DAY)
    calm_or_wild = np.repeat(np.exp(random.normal(0.0, 0.4, n_bars // 8 + 1)), 8)[:n_bars]  # two hours each
    volatility = usual * calm_or_wild / np.sqrt(np.mean(calm_or_wild**2))
    shape = (n_bars, STEPS_PER_BAR)
    open_, high, low, close = (
        np.rint(100.0 * np.exp(path) / TICK_SIZE)
        for path in _path(random.standard_normal(shape), random.random((2, *shape)), volatility, edge)
    )
    size = np.abs(close - open_) * TICK_SIZE / 100.0 / usual
    volume = random.lognormal(3.0, 0.5, n_bars) * (0.5 + size)
    klines = pl.DataFrame(
        {
            "open_time": pl.Series(np.arange(n_bars) * schema.interval_ms(INTERVAL)).cast(pl.Duration("ms")) + START,
            "open": open_ * TICK_SIZE,
            "high": high * TICK_SIZE,
            "low": low * TICK_SIZE,
            "close": close * TICK_SIZE,
            "volume": volume,
            "quote_volume": volume * close * TICK_SIZE,
        }
    ).with_columns(pl.col("open_time").cast(schema.TIME_MS), source=pl.lit("synthetic"))
    recorded = Recorded(klines=pl.concat([schema.KLINES.empty(), klines], how="diagonal_relaxed"))
    open_ms = klines["open_time"].dt.epoch("ms").to_numpy()
    signal = signal_bars(recorded, open_ms, interval=INTERVAL, tick_size=TICK_SIZE, substitutions=_ASSUMED)
    signal = signal.with_columns(can_enter=~pl.col("is_gap"))  # a market that is always open
    execution = execution_bars(signal, recorded, latency_ms=150, substitutions=_ASSUMED)
    return Bars(symbol="WORLDUSDT", interval=INTERVAL, frame=signal.hstack(execution), instrument=INSTRUMENT)


@njit
def _path(steps, uniform, volatility, edge):
    """Log price at open, high, low and close of every bar.

    Between two steps the extremes are those of a Brownian bridge, so that a price between low and high was traded: on a
    path of steps alone an order would fill at a level that the path jumped over, which looks like an edge.
    """
    n_bars, n_steps = steps.shape
    open_, high, low, close = np.empty(n_bars), np.empty(n_bars), np.empty(n_bars), np.empty(n_bars)
    price = per_bar = 0.0
    left = 0
    for i in range(n_bars):
        open_[i] = high[i] = low[i] = price
        drift = per_bar if left > 0 else 0.0
        variance = volatility[i] * volatility[i] / n_steps
        for k in range(n_steps):
            before = price
            price += drift / n_steps + np.sqrt(variance) * steps[i, k]
            middle, squared = 0.5 * (before + price), (price - before) ** 2
            high[i] = max(high[i], middle + 0.5 * np.sqrt(squared - 2.0 * variance * np.log(1.0 - uniform[0, i, k])))
            low[i] = min(low[i], middle - 0.5 * np.sqrt(squared - 2.0 * variance * np.log(1.0 - uniform[1, i, k])))
        close[i] = price
        left -= 1
        move = price - open_[i]
        if edge > 0.0 and left <= 0 and abs(move) > LARGE * volatility[i]:
            per_bar = np.sign(move) * edge * volatility[i] / DRIFT_BARS
            left = DRIFT_BARS
    return open_, high, low, close
