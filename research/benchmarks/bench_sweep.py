"""``aster bench sweep``: the two paths of the sweep beside VectorBT's, same bars, same machine, one run.

Each side runs in a process of its own, one after the other, so that its peak memory is its own. Compiling is not timed;
the cold start, with caches on disk, is a figure of its own.

``python -m research.benchmarks.bench_sweep SIDE FOLDER`` is such a process: it measures one side on the arrays in
FOLDER and prints what it measured as JSON. The shortest of repeated sweeps counts, on all sides: other work on the
machine only ever adds time.
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from data import schema
from data.benchmarks.figures import figure
from research import factorised, kernel
from research import features as feature_kernels
from research.bars import Bars, signal_bars
from research.execution_bars import execution_bars
from research.fills import Market, Terms
from research.recorded import Recorded, Substitutions
from research.strategies import momentum

TARGET_PRODUCT_RATIO = 2_000.0  # of the factorised path to from_signals
TARGET_RATIO = 300.0  # of the fused kernel to from_signals
TARGET_CALLBACK_RATIO = 150.0  # of the fused kernel to VectorBT's callback path
TARGET_MILLION_SECONDS = 15.0
TARGET_MIB = 2_048.0
TARGET_COLD_START_SECONDS = 5.0

KLINES_FILE = "klines/aster_BNBUSDT_1m.parquet"
BASELINE_CHUNK = 250  # prior-art 003's chunk: what fits into memory at a time
BASELINE_CONFIGS = 4 * BASELINE_CHUNK
_REPEATS = {"from_signals": 4, "callback": 4, "kernel": 20, "factorised": 40, "million": 2}
_SYNTHETIC_MINUTES = 28 * 1_440
_TICK_SIZE = 0.01

TERMS = Terms(
    taker_fee_bps=4.0,
    slippage_bps=0.5,
    notional_usdt=20.0,
    max_notional_usdt=40.0,
    min_notional_usdt=5.0,
    tick_size=_TICK_SIZE,
    step_size=0.01,
    min_quantity=0.01,
    max_quantity=2_000.0,
    entry_limit_ticks=1.0,
    cooldown_bars=1,
)


@dataclass(frozen=True, kw_only=True)
class Minutes:
    """What both sides sweep over.

    Parameters
    ----------
    what : where the bars come from, in words.
    features : every feature momentum's grid reads.
    """

    what: str
    market: Market
    features: dict[str, np.ndarray]


def momentum_grid() -> list[momentum.Params]:
    """All configurations of momentum's grid."""
    return [momentum.Params(*map(float, values)) for values in product(*momentum.GRID.values())]


# A million configs as one would ask for them: nine hundred entry settings times 1,120 exit settings.
MILLION_GRID = momentum.GRID | {
    "momentum_multiple": tuple(np.linspace(1.0, 2.8, 10)),
    "volume_multiple": tuple(np.linspace(1.0, 2.8, 10)),
    "target_bps": (100, 125, 150, 175, 200, 225, 250, 300),
    "stop_bps": (20, 30, 40, 50, 60, 75, 90),
    "activation_bps": (40, 50, 60, 80, 100),
    "callback_bps": (10, 15, 20, 30),
}

# Where the configs of an arbitrary list lie: no two of them share an exit plan, only windows come from a list.
RANGES = {
    "momentum_multiple": (1.0, 2.8),
    "volume_multiple": (1.0, 2.8),
    "target_bps": (100.0, 300.0),
    "stop_bps": (20.0, 90.0),
    "activation_bps": (40.0, 100.0),
    "callback_bps": (10.0, 30.0),
}


def random_configs(n_configs: int) -> np.ndarray:
    """Momentum configs drawn at random, seeded: float64 of shape (n_configs, n_params)."""
    random = np.random.default_rng(1)
    drawn = {
        name: random.uniform(*RANGES[name], n_configs) if name in RANGES else random.choice(values, n_configs)
        for name, values in momentum.GRID.items()
    }
    return np.column_stack(list(drawn.values())).astype(np.float64)


def bench_minutes(real_data: Path | None = None) -> Minutes:
    """BNBUSDT minutes of the real recordings where they are, else a seeded random walk of 28 days."""
    if real_data is not None and (real_data / KLINES_FILE).is_file():
        klines = pl.read_parquet(real_data / KLINES_FILE)
        return _minutes(f"{len(klines):,} recorded BNBUSDT minutes", klines)
    random = np.random.default_rng(0)
    ticks = 90_000 + np.cumsum(np.rint(random.normal(0.0, 25.0, (_SYNTHETIC_MINUTES, 4))).ravel()).reshape(-1, 4)
    prices = ticks * _TICK_SIZE
    klines = pl.DataFrame(
        {
            "open_time": 60_000 * np.arange(_SYNTHETIC_MINUTES),
            "open": prices[:, 0],
            "high": prices.max(axis=1),
            "low": prices.min(axis=1),
            "close": prices[:, 3],
            "volume": random.lognormal(3.0, 1.0, _SYNTHETIC_MINUTES),
        }
    )
    return _minutes(f"{len(klines):,} synthetic minutes", klines)


def _minutes(what: str, klines: pl.DataFrame) -> Minutes:
    """Bars and features from klines alone: a spread of one tick, the last price for the mark, no funding."""
    open_ms = klines["open_time"].to_numpy()
    rows = klines.select("open", "high", "low", "close", "volume", open_time=pl.col("open_time").cast(schema.TIME_MS))
    recorded = Recorded(
        klines=pl.concat([schema.KLINES.empty(), rows.with_columns(source=pl.lit("rest"))], how="diagonal_relaxed")
    )
    assumed = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=0.0, funding_interval_hours=8.0)
    signal = signal_bars(recorded, open_ms, interval="1m", tick_size=_TICK_SIZE, substitutions=assumed)
    execution = execution_bars(signal, recorded, latency_ms=0, substitutions=assumed)
    bars = Bars(symbol="BNBUSDT", interval="1m", frame=signal.hstack(execution), instrument={"tick_size": _TICK_SIZE})
    names = kernel.feature_names(momentum, momentum_grid())
    constants = {"tick_size": _TICK_SIZE, "taker_fee_bps": TERMS.taker_fee_bps}
    arrays = feature_kernels.compute(feature_kernels.arrays_of(bars), names, constants=constants)
    market = bars.market()._replace(can_enter=~np.isnan(bars.market().close))
    return Minutes(what=what, market=market, features=arrays)


def bench_sweep(minutes: Minutes, *, baseline_configs: int = BASELINE_CONFIGS) -> list[dict]:
    """Figures of both sides: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Parameters
    ----------
    baseline_configs : how many of the grid's configurations VectorBT sweeps, in chunks of ``BASELINE_CHUNK``.
    """
    with TemporaryDirectory() as folder:
        _store(minutes, folder)
        baseline = _measure("from_signals", folder, baseline_configs)
        callback = _measure("callback", folder, baseline_configs)
        for side in ("kernel", "factorised"):
            _measure(side, folder, 2)  # fills the caches on disk, so that the cold start below is one with caches
        fused = _measure("kernel", folder, len(momentum_grid()))
        product_grid = _measure("factorised", folder, len(momentum_grid()))
        _store(bench_minutes(), folder)
        million = _measure("million", folder, _size(MILLION_GRID))
    name = f"VectorBT from_signals, {BASELINE_CHUNK} configs at a time"

    def speed(what: str, ours: dict, beside: str, other: dict, least: float) -> dict:
        return figure(
            f"{what} of {ours['configs']:,} configs over {minutes.what}",
            ours["config_bars"] / ours["seconds"],
            "config-bars/s",
            baseline=beside,
            baseline_value=other["config_bars"] / other["seconds"],
            ratio_at_least=least,
        )

    def memory(what: str, ours: dict) -> dict:
        return figure(
            f"peak memory of the {what}",
            ours["peak_mib"],
            "MiB",
            baseline=name,
            baseline_value=baseline["peak_mib"],
            at_most=TARGET_MIB,
        )

    return [
        speed("factorised sweep", product_grid, name, baseline, TARGET_PRODUCT_RATIO),
        speed("fused sweep", fused, name, baseline, TARGET_RATIO),
        speed("fused sweep", fused, "VectorBT, signals in its callback", callback, TARGET_CALLBACK_RATIO),
        figure("time of the factorised sweep", product_grid["seconds"], "s"),
        figure("time of the fused sweep", fused["seconds"], "s"),
        figure(
            f"factorised sweep of {million['configs']:,} configs over 28 synthetic days",
            million["seconds"],
            "s",
            at_most=TARGET_MILLION_SECONDS,
        ),
        memory("factorised sweep", product_grid),
        memory("fused sweep", fused),
        memory("million configs", million),
        figure(
            "cold start to the first result, caches on disk",
            fused["cold_start_seconds"],
            "s",
            baseline=name,
            baseline_value=baseline["cold_start_seconds"],
            at_most=TARGET_COLD_START_SECONDS,
        ),
    ]


def _store(minutes: Minutes, folder: str) -> None:
    np.savez(
        Path(folder) / "minutes.npz",
        **{f"market.{name}": column for name, column in minutes.market._asdict().items()},
        **{f"features.{name}": column for name, column in minutes.features.items()},
    )


def _size(grid: dict[str, tuple[float, ...]]) -> int:
    return math.prod(len(values) for values in grid.values())


def _measure(side: str, folder: str, n_configs: int) -> dict:
    """Run one side in a fresh process."""
    started = time.time()
    command = [sys.executable, "-m", "research.benchmarks.bench_sweep", side, folder, str(n_configs), str(started)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _side(name: str) -> Callable[[Minutes, int], object]:
    """A sweep of so many of the grid's configs over some minutes."""
    if name in ("factorised", "million"):
        grid = MILLION_GRID if name == "million" else momentum.GRID
        return lambda minutes, n_configs: factorised.sweep(
            momentum, minutes.market, minutes.features, grid, TERMS, last_config=n_configs
        )
    if name == "kernel":
        return lambda minutes, n_configs: kernel.sweep(
            momentum, minutes.market, minutes.features, _spread(n_configs), TERMS
        )
    from research.benchmarks.from_signals import callback_sweep, from_signals_sweep

    if name == "callback":
        return lambda minutes, n_configs: callback_sweep(minutes.market, minutes.features, _spread(n_configs), TERMS)
    return lambda minutes, n_configs: from_signals_sweep(
        minutes.market, minutes.features, _spread(n_configs), TERMS, chunk_configs=BASELINE_CHUNK
    )


def _spread(n_configs: int) -> list[momentum.Params]:
    """So many configs spread over the grid, not its first corner."""
    grid = momentum_grid()
    return grid[:: len(grid) // n_configs][:n_configs]


def _main(side: str, folder: str, n_configs: str, started: str) -> None:
    stored = np.load(Path(folder) / "minutes.npz")
    minutes = Minutes(
        what="",
        market=Market(**{name: stored[f"market.{name}"] for name in Market._fields}),
        features={name.removeprefix("features."): stored[name] for name in stored if name.startswith("features.")},
    )
    sweep = _side(side)
    sweep(minutes, 2)
    cold_start_seconds = time.time() - float(started)
    seconds = []
    for _ in range(_REPEATS[side]):
        start = time.perf_counter()
        sweep(minutes, int(n_configs))
        seconds.append(time.perf_counter() - start)
    measured = {
        "configs": int(n_configs),
        "config_bars": int(n_configs) * minutes.market.close.size,
        "seconds": min(seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,  # Linux counts in KiB
        "cold_start_seconds": cold_start_seconds,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    _main(*sys.argv[1:])
